//! What nothing leads to, and taking it away.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hoy_layout::{ContainerDir, Store, TEMPORARY_PREFIX};
use hoy_oci::Digest;
use hoy_sys::rustix::fs::{FlockOperation, flock};

use crate::directory::{remove_tree, remove_whole};
use crate::{Error, Result};

/// A temporary that is so old, and that nobody holds a lock on, is of no use to anybody.
const LONG_AGO: Duration = Duration::from_secs(3600);

/// How the names of records begin that one program makes for another, which nobody holds a lock on.
const HANDED_OVER: &str = ".tmp-run-";

/// The names in a directory of the store, sorted.
pub(crate) fn names(directory: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(directory).map_err(Error::io("read", directory))?;
    let names = entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<std::io::Result<Vec<_>>>().map_err(Error::io("read", directory))?;
    names.sort();
    Ok(names)
}

/// Removes a layer's record, and after it the directory.
pub(crate) fn remove_layer(store: &Store, id: &str) -> Result<()> {
    forget_layer(store, id)?;
    remove_whole(&store.layers().join(id))
}

/// Removes a layer's record, without which it is not used.
pub(crate) fn forget_layer(store: &Store, id: &str) -> Result<()> {
    let record = store.layers().join(format!("{id}.json"));
    match std::fs::remove_file(&record) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", &record)(e)),
        _ => Ok(()),
    }
}

/// Removes the signatures of a manifest, which goes after them.
pub(crate) fn forget_signatures(store: &Store, manifest: &Digest) -> Result<()> {
    let directory = store.signatures(manifest);
    match std::fs::remove_dir_all(&directory) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", &directory)(e)),
        _ => Ok(()),
    }
}

/// Every temporary of the store that nobody holds a lock on, and signatures whose manifest is gone.
pub(crate) fn temporaries(store: &Store) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    let blobs = store.root().join("blobs/sha256");
    for directory in
        [store.layers(), store.containers(), blobs.clone(), store.runroot().to_owned(), store.root().to_owned()]
    {
        all.extend(temporaries_in(&directory, Duration::ZERO)?);
    }
    for container in store.all_containers()? {
        all.extend(temporaries_in(container.path(), Duration::ZERO)?);
    }
    let signatures = store.root().join("signatures");
    let of_none = names_if_any(&signatures)?.into_iter().filter(|name| !blobs.join(name).exists());
    all.extend(of_none.map(|name| signatures.join(name)));
    Ok(all)
}

/// Removes what killed commands left in the layer cache long ago; for whoever is about to need the space.
pub(crate) fn old_temporaries(layers: &Path) -> Result<()> {
    for path in temporaries_in(layers, LONG_AGO)? {
        remove_temporary(&path)?;
    }
    Ok(())
}

/// The same of a directory that may be missing, as that of a container that has been removed meanwhile.
fn names_if_any(directory: &Path) -> Result<Vec<String>> {
    match names(directory) {
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other,
    }
}

fn temporaries_in(directory: &Path, older_than: Duration) -> Result<Vec<PathBuf>> {
    let mut found = names_if_any(directory)?;
    found.retain(|name| name.starts_with(TEMPORARY_PREFIX));
    let is_left = |path: &PathBuf| {
        let Some(metadata) = File::open(path).ok().filter(is_unlocked).and_then(|file| file.metadata().ok()) else {
            return false;
        };
        let age = metadata.modified().ok().and_then(|time| time.elapsed().ok()).unwrap_or_default();
        let is_handed_over = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(HANDED_OVER));
        age >= if is_handed_over { LONG_AGO } else { older_than }
    };
    Ok(found.iter().map(|name| directory.join(name)).filter(is_left).collect())
}

fn is_unlocked(file: &File) -> bool {
    flock(file, FlockOperation::NonBlockingLockExclusive).is_ok()
}

/// Removes a temporary unless somebody holds a lock on it by now.
pub(crate) fn remove_temporary(path: &Path) -> Result<()> {
    let Ok(file) = File::open(path) else { return Ok(()) };
    // Two that tidy up may meet.
    let (true, Ok(metadata)) = (is_unlocked(&file), std::fs::symlink_metadata(path)) else { return Ok(()) };
    if metadata.is_dir() {
        // A layer that was being unpacked over others may still be mounted.
        let merged = path.join("merged");
        if crate::overlay::is_mount_point(&merged)? {
            crate::overlay::unmount_at(&merged, true).map_err(Error::io("unmount", &merged))?;
        }
        return remove_tree(path);
    }
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path)(e)),
        _ => Ok(()),
    }
}

/// Directories of containers that were never finished and that nobody is making.
pub(crate) fn unfinished(store: &Store) -> Result<Vec<ContainerDir>> {
    let mut found = Vec::new();
    for name in names(&store.containers())? {
        let Ok(id) = name.parse() else { continue };
        let dir = store.container_dir(id);
        if dir.is_whole()? {
            continue;
        }
        match dir.try_lock() {
            Ok(Some(_)) => found.push(dir),
            // Somebody is making it, or has removed it meanwhile.
            Ok(None) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}
