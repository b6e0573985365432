//! What a container changed since its image.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use hoy_layer::{Birth, Change, Diff, DiffOptions, OverlayXattrs, Owners};
use hoy_layout::{Container, ContainerDir, Lock, Store};
use hoy_sys::rustix::process::geteuid;

use crate::namespace::Standing;
use crate::{Cache, Error, Result};

/// The file in which whoever runs a container lists the mount points that had to be made for it.
const STUBS: &str = "stubs.json";

/// The difference between a container and its image.
#[derive(Debug)]
pub struct Changes {
    upper: File,
    cache_lower: hoy_layer::Lower,
    base: hoy_layer::Entry,
    options: DiffOptions,
    id: String,
    _lock: Lock,
}

impl Changes {
    /// Prepares to compare the container; times after `clamp` seconds are set to it in the layer.
    ///
    /// # Errors
    /// [`Error::Layout`], [`Error::Io`], and those of [`Cache::unpack`] when layers must be unpacked again.
    pub fn new(store: &Store, xattrs: OverlayXattrs, dir: &ContainerDir, clamp: Option<i64>) -> Result<Self> {
        let _lease = store.lease()?;
        let lock = dir.share()?;
        let container = dir.container()?;
        crate::container::check_survived(&container)?;
        let cache = Cache::new(store, xattrs)?;
        let is_complete = crate::why_copied(&container).is_some();
        crate::container::restore_layers(store, &cache, &container)?;
        let path = if is_complete { container.bundle.join("rootfs") } else { dir.upper() };
        let upper = File::open(&path).map_err(Error::io("open", &path))?;
        // On disk an upper directory has the image's ids, whatever the container's are, where mounts can map them.
        let shifted = crate::shift::on_disk(&container)?;
        let owners = match shifted {
            Some(maps) => Owners::Mapped { maps: maps.clone(), below: true },
            None if is_complete => owners(&container)?,
            None => ordinary_owner(),
        };
        let mut base = cache.root_entry(&container.layers)?;
        if let Some(maps) = shifted {
            let root = (maps.container_uid(base.uid), maps.container_gid(base.gid));
            (base.uid, base.gid) = (root.0.unwrap_or(base.uid), root.1.unwrap_or(base.gid));
        }
        let options = DiffOptions {
            owners,
            xattrs,
            is_complete,
            clamp,
            stubs: stubs(dir)?,
            unrepresented: cache.unrepresented(&container.layers),
            on_paper: on_paper(dir)?,
        };
        let cache_lower = cache.lower(&container.layers)?;
        Ok(Self { upper, cache_lower, base, options, id: container.id.to_string(), _lock: lock })
    }

    fn diff(&self) -> Result<Diff<'_>> {
        let found = Diff::new(self.upper.as_fd(), &self.cache_lower, &self.base, self.options.clone());
        found.map_err(|source| Error::Diff { id: self.id.clone(), source })
    }

    /// Every changed name.
    ///
    /// # Errors
    /// [`Error::Diff`].
    pub fn list(&self) -> Result<Vec<Change>> {
        Ok(self.diff()?.changes())
    }

    /// Writes the layer that makes these changes, the same bytes for the same changes.
    ///
    /// # Errors
    /// [`Error::Diff`].
    pub fn write(&self, output: impl Write) -> Result<()> {
        let written = self.diff()?.write(output);
        written.map(drop).map_err(|source| Error::Diff { id: self.id.clone(), source })
    }
}

/// Writes a container's whole root file system as one archive; it is mounted for the time, if it is not mounted.
///
/// File times after `clamp`, in seconds since 1970, become it.
///
/// # Errors
/// Those of [`crate::mount`]; [`Error::Diff`].
pub fn export(
    store: &Store,
    xattrs: OverlayXattrs,
    dir: &ContainerDir,
    clamp: Option<i64>,
    output: impl Write,
) -> Result<()> {
    let container = dir.container()?;
    let was_mounted = crate::is_mounted(&container)?;
    let (path, lock) = loop {
        let path = crate::mount(store, xattrs, dir)?;
        let lock = dir.share()?;
        // Somebody may have unmounted it before it was locked.
        if crate::is_mounted(&container)? {
            break (path, lock);
        }
    };
    let unrepresented = Cache::new(store, xattrs)?.unrepresented(&container.layers);
    let options = DiffOptions {
        owners: owners(&container)?,
        xattrs,
        is_complete: true,
        clamp,
        stubs: stubs(dir)?,
        unrepresented,
        on_paper: on_paper(dir)?,
    };
    let written = whole(&path, options, lock).and_then(|changes| changes.write(output));
    if was_mounted {
        return written;
    }
    match crate::umount(dir, false) {
        // Who waited for the end of it has removed the container.
        Err(error) if error.is_not_found() => written,
        // What was written is told first.
        other => written.and(other),
    }
}

/// A tree as what changed since nothing.
fn whole(path: &Path, options: DiffOptions, lock: Lock) -> Result<Changes> {
    Ok(Changes {
        upper: File::open(path).map_err(Error::io("open", path))?,
        cache_lower: hoy_layer::Lower::new(Vec::new()),
        // Unlike any root directory, so that the root is written too.
        base: hoy_layer::Entry::new("", hoy_layer::Kind::Directory, 0),
        options,
        id: path.display().to_string(),
        _lock: lock,
    })
}

/// Whom the files of a root file system belong to.
fn owners(container: &Container) -> Result<Owners> {
    Ok(crate::shift::maps_of(container)?
        .map_or_else(ordinary_owner, |maps| Owners::Mapped { maps: maps.clone(), below: false }))
}

/// Whom root's files belong to on disk, for a user who can make no other owner.
fn ordinary_owner() -> Owners {
    match Standing::of_this_process() {
        Standing::Ordinary => Owners::RootIs(geteuid().as_raw(), hoy_sys::rustix::process::getegid().as_raw()),
        _ => Owners::Same,
    }
}

/// Whose links and pipes are, where that could only be written down.
fn on_paper(dir: &ContainerDir) -> Result<BTreeMap<Birth, (u32, u32)>> {
    let all = dir.owned_inodes()?.into_iter();
    Ok(all.map(|one| ((one.inode, one.born.0, one.born.1), (one.uid, one.gid))).collect())
}

fn stubs(dir: &ContainerDir) -> Result<BTreeSet<Vec<u8>>> {
    let paths: Vec<PathBuf> = match dir.read_json(STUBS) {
        Err(error) if error.is_not_found() => Vec::new(),
        other => other?,
    };
    let relative = |path: PathBuf| {
        let bytes = path.into_os_string().into_vec();
        let parts = bytes.split(|&c| c == b'/').filter(|part| !matches!(*part, b"" | b"."));
        parts.collect::<Vec<_>>().join(&b'/')
    };
    Ok(paths.into_iter().map(relative).collect())
}
