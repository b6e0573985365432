//! Giving back the space of everything that nothing needs.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use hoy_layout::{Store, TEMPORARY_PREFIX};
use hoy_sys::rustix::fs::{FlockOperation, flock};

use crate::directory::{remove_tree, remove_whole, space};
use crate::reach::Reachable;
use crate::{Error, Result};

/// A temporary that is so old, and that nobody holds a lock on, is of no use to anybody.
const LONG_AGO: Duration = Duration::from_secs(3600);

/// How the names of records begin that one program makes for another, which nobody holds a lock on.
const HANDED_OVER: &str = ".tmp-run-";

/// What is pruned beside garbage.
#[derive(Debug, Clone, Copy, Default)]
pub struct PruneOptions {
    /// Images that no container was made from, named or not.
    pub unused_images: bool,
    /// Unpacked layers that no container has, although an image does.
    pub unused_layers: bool,
}

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Bytes of disk space.
    pub bytes: u64,
    /// Files and trees.
    pub count: u64,
}

impl Pruned {
    fn add(&mut self, path: &Path) {
        self.bytes += space(path);
        self.count += 1;
    }
}

/// Removes temporaries of processes that are gone, unfinished containers, and blobs and layers that nothing leads to.
///
/// Waits until nobody adds to the store.
///
/// # Errors
/// [`Error::Layout`] when it is not certain what is needed, such as for a damaged index; nothing is removed then.
pub fn prune(store: &Store, options: PruneOptions) -> Result<Pruned> {
    let lock = store.exclude_leases()?;
    let mut pruned = Pruned::default();
    let mut needed = Reachable::default();
    needed.add_containers(store)?;
    if options.unused_images {
        let used = &needed.blobs;
        store.layout().edit_index::<_, Error>(|index| {
            index.manifests.retain(|entry| used.contains(&entry.digest));
            Ok(())
        })?;
    }
    let in_use = needed.layers.clone();
    needed.follow(store, &store.layout().index()?.manifests)?;
    let layers = if options.unused_layers { &in_use } else { &needed.layers };
    temporaries(store, &mut pruned)?;
    containers(store, &mut pruned)?;
    for name in names(&store.layers())? {
        let id = name.strip_suffix(".json").unwrap_or(&name);
        if !layers.contains(id) && !name.starts_with('.') && store.layers().join(&name).exists() {
            pruned.add(&store.layers().join(&name));
            remove_layer(store, id)?;
        }
    }
    let blobs = store.root().join("blobs/sha256");
    for name in names(&blobs)? {
        let Ok(digest) = hoy_oci::Digest::from_hex(&name) else { continue };
        if !needed.blobs.contains(&digest) {
            let path = blobs.join(&name);
            pruned.add(&path);
            std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
    }
    drop(lock);
    Ok(pruned)
}

fn names(directory: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(directory).map_err(Error::io("read", directory))?;
    let names = entries.map(|entry| entry.map(|entry| entry.file_name().into_string().unwrap_or_default()));
    let mut names = names.collect::<std::io::Result<Vec<_>>>().map_err(Error::io("read", directory))?;
    names.sort();
    Ok(names)
}

/// Removes a layer's directory and, after it, the record: without the record it is not used.
pub(crate) fn remove_layer(store: &Store, id: &str) -> Result<()> {
    let record = store.layers().join(format!("{id}.json"));
    match std::fs::remove_file(&record) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io("remove", &record)(e)),
        _ => {}
    }
    remove_whole(&store.layers().join(id))
}

/// A temporary that nobody holds a lock on is garbage.
fn temporaries(store: &Store, pruned: &mut Pruned) -> Result<()> {
    let runroot = store.runroot().to_owned();
    for directory in [store.layers(), store.containers(), store.root().join("blobs/sha256"), runroot] {
        temporaries_in(&directory, Duration::ZERO, pruned)?;
    }
    for container in store.all_containers()? {
        let _lock = container.lock()?;
        temporaries_in(container.path(), Duration::ZERO, pruned)?;
    }
    store.layout().edit_index::<_, Error>(|_| temporaries_in(store.root(), Duration::ZERO, pruned))
}

/// Removes what killed commands left in the layer cache long ago; for whoever is about to need the space.
pub(crate) fn old_temporaries(layers: &Path) -> Result<()> {
    temporaries_in(layers, LONG_AGO, &mut Pruned::default())
}

fn temporaries_in(directory: &Path, older_than: Duration, pruned: &mut Pruned) -> Result<()> {
    for name in names(directory)?.iter().filter(|name| name.starts_with(TEMPORARY_PREFIX)) {
        let path = directory.join(name);
        let Ok(file) = File::open(&path) else { continue };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        // Two that tidy up may meet.
        let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
        let age = metadata.modified().ok().and_then(|time| time.elapsed().ok()).unwrap_or_default();
        let is_handed_over = name.starts_with(HANDED_OVER);
        if age < if is_handed_over { LONG_AGO } else { older_than } {
            continue;
        }
        pruned.add(&path);
        if metadata.is_dir() {
            // A layer that was being unpacked over others may still be mounted.
            let merged = path.join("merged");
            if crate::overlay::is_mount_point(&merged)? {
                crate::overlay::unmount_at(&merged, true).map_err(Error::io("unmount", &merged))?;
            }
            remove_tree(&path)?;
        } else {
            std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
    }
    Ok(())
}

/// Directories of containers that were never finished, or whose record is lost.
fn containers(store: &Store, pruned: &mut Pruned) -> Result<()> {
    for name in names(&store.containers())? {
        let Ok(id) = name.parse() else { continue };
        let dir = store.container_dir(id);
        if dir.is_whole()? {
            continue;
        }
        match dir.try_lock()? {
            None => {}
            Some(lock) => {
                drop(lock);
                pruned.add(&dir.upper());
                crate::rm(&dir, true)?;
            }
        }
    }
    Ok(())
}

/// How many things of a kind there are, and the bytes of disk space they take together.
pub type CountAndBytes = (usize, u64);

/// What takes the store's disk space.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Images; the bytes are those of all blobs.
    pub images: CountAndBytes,
    /// Unpacked layers.
    pub layers: CountAndBytes,
    /// Containers; the bytes are what was written in them.
    pub containers: CountAndBytes,
}

/// Looks at every file of the store.
///
/// # Errors
/// [`Error::Layout`], [`Error::Io`].
pub fn disk_usage(store: &Store) -> Result<DiskUsage> {
    let digests: std::collections::BTreeSet<String> =
        store.layout().images()?.iter().map(|image| image.descriptor.digest.hex()).collect();
    let layers = names(&store.layers())?;
    let is_layer = |name: &&String| !name.starts_with('.') && !name.ends_with(".json");
    let containers = store.all_containers()?;
    Ok(DiskUsage {
        images: (digests.len(), space(&store.root().join("blobs"))),
        layers: (layers.iter().filter(is_layer).count(), space(&store.layers())),
        containers: (containers.len(), containers.iter().map(|dir| space(&dir.upper())).sum()),
    })
}
