//! Files that appear whole or not at all.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use hoy_sys::rustix::fs::{AtFlags, CWD, FlockOperation, OFlags, flock, fsync, linkat};
use hoy_sys::rustix::rand::{GetRandomFlags, getrandom};

use crate::{Error, Result};

/// How the names of temporaries begin, in whatever directory they are. One that nobody holds a lock on is garbage.
pub const TEMPORARY_PREFIX: &str = ".tmp-";

/// A file with a temporary name in its final directory, locked while it is written, removed unless renamed or kept.
pub(crate) struct Temporary {
    file: File,
    path: PathBuf,
    done: bool,
    /// It stays under its name when it is dropped with at least so many bytes in it.
    keep_from: Option<u64>,
}

impl Temporary {
    pub(crate) fn create_in(directory: &Path, mode: u32) -> Result<Self> {
        loop {
            if let Some(temporary) = Self::create(directory, &random_hex(8)?, mode)? {
                return Ok(temporary);
            }
        }
    }

    /// A temporary of this name, which nobody else has chosen.
    pub(crate) fn create_named(directory: &Path, name: &str) -> Result<Self> {
        loop {
            if let Some(temporary) = Self::create(directory, name, 0o644)? {
                return Ok(temporary);
            }
        }
    }

    /// None when whoever tidies up has found it before it was locked.
    fn create(directory: &Path, name: &str, mode: u32) -> Result<Option<Self>> {
        let path = directory.join(format!("{TEMPORARY_PREFIX}{name}"));
        let mut options = OpenOptions::new();
        let options = options.write(true).read(true).create_new(true).mode(mode);
        let file = options.open(&path).map_err(Error::io("create", &path))?;
        let temporary = Self { file, path, done: false, keep_from: None };
        temporary.lock()?;
        let links = temporary.file.metadata().map_err(Error::io("look at", &temporary.path))?.nlink();
        Ok((links > 0).then_some(temporary))
    }

    fn lock(&self) -> Result<()> {
        while let Err(errno) = flock(self.file.as_fd(), FlockOperation::LockExclusive) {
            if errno != hoy_sys::rustix::io::Errno::INTR {
                return Err(Error::io("lock", &self.path)(errno));
            }
        }
        Ok(())
    }

    /// The temporary of this name, with what an earlier process left in it; waits while another one writes it.
    ///
    /// None when it became something else meanwhile: whoever held the lock has renamed or removed it.
    pub(crate) fn reopen(directory: &Path, name: &str) -> Result<Option<Self>> {
        let path = directory.join(format!("{TEMPORARY_PREFIX}{name}"));
        let file = OpenOptions::new()
            .write(true)
            .read(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(&path)
            .map_err(Error::io("create", &path))?;
        // Nothing is lost by leaving it where it is when something goes wrong before it is ours.
        let mut temporary = Self { file, path, done: false, keep_from: Some(0) };
        temporary.lock()?;
        let opened = temporary.file.metadata().map_err(Error::io("look at", &temporary.path))?;
        let is_same = |named: std::fs::Metadata| (named.dev(), named.ino()) == (opened.dev(), opened.ino());
        if !std::fs::symlink_metadata(&temporary.path).is_ok_and(is_same) {
            return Ok(None);
        }
        temporary.keep_from(None);
        Ok(Some(temporary))
    }

    /// Leaves the file where it is for a later [`Temporary::reopen`] when it is dropped with this many bytes or more.
    pub(crate) fn keep_from(&mut self, size_bytes: Option<u64>) {
        self.keep_from = size_bytes;
    }

    pub(crate) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the bytes durable, then gives them their name; the directory's own entry is made durable too.
    pub(crate) fn rename_to(self, target: &Path) -> Result<()> {
        self.rename_whole(target)?;
        sync_directory_of(target)
    }

    /// Makes the bytes durable, then gives them their name: a power cut may take the name away, and never the bytes alone.
    pub(crate) fn rename_whole(self, target: &Path) -> Result<()> {
        self.file.sync_all().map_err(Error::io("write", &self.path))?;
        self.rename_unsynced(target)
    }

    fn rename_unsynced(mut self, target: &Path) -> Result<()> {
        std::fs::rename(&self.path, target).map_err(Error::io("rename to", target))?;
        self.done = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let length = || self.file.metadata().map_or(0, |metadata| metadata.len());
        let is_kept = self.done || self.keep_from.is_some_and(|least| length() >= least);
        if !is_kept {
            // What cannot be removed now is a temporary that prune removes.
            std::fs::remove_file(&self.path).unwrap_or_default();
        }
    }
}

/// Replaces the file at `path` by `bytes`, whole or not at all, durably.
///
/// # Errors
/// [`Error::Io`]; the old file is then as it was.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut temporary = Temporary::create_in(parent(path), 0o644)?;
    temporary.file().write_all(bytes).map_err(Error::io("write", path))?;
    temporary.rename_to(path)
}

/// Replaces the file at `path` by `bytes`, whole or not at all for whoever reads it, but a power cut may tear it.
///
/// For what can be made again, or is of no use after a reboot: it costs no wait for the disk.
///
/// # Errors
/// [`Error::Io`]; the old file is then as it was.
pub fn write_volatile_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut temporary = Temporary::create_in(parent(path), 0o644)?;
    temporary.file().write_all(bytes).map_err(Error::io("write", path))?;
    temporary.rename_unsynced(path)
}

/// Keeps the present file at `path` under the name `backup` (a hard link), replacing an older one.
pub(crate) fn keep_old(path: &Path, backup: &Path) -> Result<()> {
    let temporary = parent(path).join(format!("{TEMPORARY_PREFIX}{}", random_hex(8)?));
    match linkat(CWD, path, CWD, &temporary, AtFlags::empty()) {
        Err(hoy_sys::rustix::io::Errno::NOENT) => Ok(()),
        Err(errno) => Err(Error::io("link", path)(errno)),
        Ok(()) => {
            std::fs::rename(&temporary, backup).map_err(Error::io("rename to", backup))?;
            // rename(2) leaves both names when they are links to one file already.
            match std::fs::remove_file(&temporary) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", &temporary)(e)),
                _ => Ok(()),
            }
        }
    }
}

fn sync_directory_of(path: &Path) -> Result<()> {
    sync(parent(path))
}

/// Makes what a file holds, or which names a directory has, durable.
///
/// # Errors
/// [`Error::Io`].
pub fn sync(path: &Path) -> Result<()> {
    let opened = File::open(path).map_err(Error::io("open", path))?;
    fsync(&opened).map_err(Error::io("sync", path))
}

/// Makes the directory at `path`, and those above it, where they are missing.
///
/// # Errors
/// [`Error::Io`].
pub fn make_directory(path: &Path, mode: u32) -> Result<()> {
    // mkdir(2) says of everything that stands there already that it exists, and of a disk that fails too.
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => Ok(()),
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("look at", path)(e)),
        _ => DirBuilder::new().recursive(true).mode(mode).create(path).map_err(Error::io("create", path)),
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// `count` random bytes as hexadecimal digits.
pub(crate) fn random_hex(count: usize) -> Result<String> {
    let mut bytes = vec![0; count];
    // Up to 256 bytes come whole or not at all: getrandom(2).
    getrandom(&mut bytes, GetRandomFlags::empty()).map_err(Error::io("read", Path::new("/dev/urandom")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
