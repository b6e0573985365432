//! Directories that appear whole, and trees that vanish at once.

use std::fs::{DirBuilder, File};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use hoy_layout::TEMPORARY_PREFIX;
use hoy_oci::Digest;
use hoy_sys::rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, openat};
use hoy_sys::rustix::io::Errno;

use crate::{Error, Result};

/// How often a tree is removed again into which something was put meanwhile.
const RETRIES: usize = 20;

/// A directory with a temporary name, locked while it is filled, removed unless renamed.
#[derive(Debug)]
pub(crate) struct TemporaryDirectory {
    path: PathBuf,
    file: File,
    is_kept: bool,
}

/// A name in `parent` that no other process of any time has: process ids come again, but not within one nanosecond.
pub(crate) fn temporary_name(parent: &Path) -> PathBuf {
    unique_name(parent, TEMPORARY_PREFIX)
}

fn unique_name(parent: &Path, prefix: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    parent.join(format!("{prefix}{}-{count}-{time}", std::process::id()))
}

impl TemporaryDirectory {
    pub(crate) fn create_in(parent: &Path) -> Result<Self> {
        Self::create(temporary_name(parent))
    }

    /// A directory that is to be renamed to `target`, beside it, in place of those that killed processes left for that.
    pub(crate) fn create_beside(target: &Path) -> Result<Self> {
        let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = Digest::of(target.file_name().unwrap_or_default().as_bytes()).hex();
        let prefix = format!("{TEMPORARY_PREFIX}{}-", name.get(..16).unwrap_or_default());
        hoy_layout::make_directory(parent, 0o755)?;
        for entry in std::fs::read_dir(parent).map_err(Error::io("read", parent))? {
            let entry = entry.map_err(Error::io("read", parent))?;
            if entry.file_name().as_bytes().starts_with(prefix.as_bytes()) {
                crate::garbage::remove_temporary(&entry.path())?;
            }
        }
        Self::create(unique_name(parent, &prefix))
    }

    fn create(path: PathBuf) -> Result<Self> {
        DirBuilder::new().mode(0o755).create(&path).map_err(Error::io("create", &path))?;
        let file = File::open(&path).map_err(Error::io("open", &path))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(Error::io("lock", &path))?;
        // The umask does not show in an image's root directory.
        file.set_permissions(std::fs::Permissions::from_mode(0o755)).map_err(Error::io("change the mode of", &path))?;
        Ok(Self { path, file, is_kept: false })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Removes it, and says when that fails.
    pub(crate) fn remove(mut self) -> Result<()> {
        self.is_kept = true;
        remove_tree(&self.path)
    }

    /// Gives the directory its name, unless somebody else's has it by now; whether it has it.
    pub(crate) fn rename_to(mut self, target: &Path) -> Result<bool> {
        match hoy_sys::rustix::fs::rename(&self.path, target) {
            Ok(()) => self.is_kept = true,
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(errno) => return Err(Error::io("rename to", target)(errno)),
        }
        Ok(self.is_kept)
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        if !self.is_kept {
            // What cannot be removed now is a temporary that prune removes.
            remove_tree(&self.path).unwrap_or_default();
        }
    }
}

/// Takes the tree out of sight by renaming it, then removes it. Nothing there is success.
pub(crate) fn remove_whole(path: &Path) -> Result<()> {
    let hidden = temporary_name(path.parent().unwrap_or(Path::new("/")));
    // Whoever looks for what killed commands left sees that somebody is at it.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let _held = match openat(CWD, path, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        other => other.inspect(|file| flock(file, FlockOperation::NonBlockingLockExclusive).unwrap_or_default()),
    };
    match std::fs::rename(path, &hidden) {
        Ok(()) => remove_tree(&hidden),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        // A full disk may have no room for another name.
        Err(e) if e.kind() == std::io::ErrorKind::StorageFull => remove_tree(path),
        Err(e) => Err(Error::io("rename", path)(e)),
    }
}

/// Removes a tree, also one with directories that its owner may not write to.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    let mut removed = std::fs::remove_dir_all(path);
    // Whoever had found it before it got this name may still put something into it.
    for _ in 0..RETRIES {
        if !matches!(&removed, Err(e) if e.kind() == std::io::ErrorKind::DirectoryNotEmpty) {
            break;
        }
        removed = std::fs::remove_dir_all(path);
    }
    match removed {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            open_all(path);
            std::fs::remove_dir_all(path).map_err(Error::io("remove", path))
        }
        Err(e) if is_too_deep(&e) => remove_deep(path).map_err(Error::io("remove", path)),
        Err(e) => Err(Error::io("remove", path)(e)),
    }
}

/// There are more directories within one another than descriptors, or than names in a path.
fn is_too_deep(error: &std::io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE, Errno::NAMETOOLONG]
        .iter()
        .any(|errno| Some(errno.raw_os_error()) == error.raw_os_error())
}

/// Removes a tree of any depth: directories two levels down are moved up before the one they are in is removed, so that
/// no path has more than three names and no descriptor stays open.
fn remove_deep(path: &Path) -> std::io::Result<()> {
    loop {
        let mut is_empty = true;
        for entry in std::fs::read_dir(path)? {
            is_empty = false;
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                std::fs::remove_file(entry.path())?;
                continue;
            }
            for child in std::fs::read_dir(entry.path())? {
                let child = child?;
                match child.file_type()?.is_dir() {
                    true => std::fs::rename(child.path(), temporary_name(path))?,
                    false => std::fs::remove_file(child.path())?,
                }
            }
            std::fs::remove_dir(entry.path())?;
        }
        if is_empty {
            return std::fs::remove_dir(path);
        }
    }
}

/// Makes every directory below `path` writable for its owner, as far as that is allowed.
fn open_all(path: &Path) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap_or_default();
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_all(&entry.path());
        }
    }
}

/// Disk space of a tree in bytes, files with several names counted once, without what is mounted in it.
pub(crate) fn space(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let device = std::fs::symlink_metadata(path).map(|metadata| metadata.dev()).ok();
    let mut seen = std::collections::HashSet::new();
    let mut waiting = vec![path.to_owned()];
    let mut bytes = 0;
    while let Some(path) = waiting.pop() {
        let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
        let has_names = metadata.nlink() > 1 && !metadata.is_dir();
        if Some(metadata.dev()) != device || has_names && !seen.insert(metadata.ino()) {
            continue;
        }
        bytes += metadata.blocks() * 512;
        if metadata.is_dir() {
            waiting.extend(std::fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
    bytes
}
