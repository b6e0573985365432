//! A build's own directory, gone afterwards: what lies in it and is locked belongs to a build that still runs.

use std::fs::File;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use hoy_layout::{ContainerId, Store, TEMPORARY_PREFIX, make_directory, write_volatile_file};
use hoy_sys::rustix::fs::{FlockOperation, flock, statfs};
use hoy_sys::rustix::mount::{UnmountFlags, unmount};
use serde_json::json;

use crate::{Error, Result};

/// The directory that memory is mounted on.
pub(crate) const MEMORY: &str = "memory";
/// Memory that containers have, and what statfs(2) calls it.
const SHARED_MEMORY: &str = "/dev/shm";
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// A new directory below `parent` that no prune removes as long as the lock, which is its descriptor, is held.
///
/// # Errors
/// Those of making it.
pub fn temporary_directory(parent: &Path) -> Result<(PathBuf, File)> {
    make_directory(parent, 0o700)?;
    loop {
        let path = parent.join(format!("{TEMPORARY_PREFIX}{}", ContainerId::random()?.short()));
        make_directory(&path, 0o700)?;
        let Ok(lock) = File::open(&path) else { continue };
        flock(&lock, FlockOperation::LockExclusive).map_err(Error::io("lock", &path))?;
        // A prune may have been faster.
        if path.exists() {
            return Ok((path, lock));
        }
    }
}

/// The directory, locked.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
    count: AtomicU32,
    /// In shared memory.
    shared: Mutex<Option<PathBuf>>,
    _lock: File,
}

impl Scratch {
    pub(crate) fn new(store: &Store) -> Result<Self> {
        let (path, lock) = temporary_directory(&store.root().join("build"))?;
        Ok(Self { path, count: AtomicU32::new(0), shared: Mutex::default(), _lock: lock })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A new directory in it.
    pub(crate) fn directory(&self) -> Result<PathBuf> {
        let path = self.path.join(self.count.fetch_add(1, Ordering::Relaxed).to_string());
        make_directory(&path, 0o755)?;
        Ok(path)
    }

    /// Where memory for secrets is mounted.
    pub(crate) fn memory(&self) -> Result<PathBuf> {
        let path = self.path.join(MEMORY);
        make_directory(&path, 0o700)?;
        Ok(path)
    }

    /// A directory of one's own in memory that is mounted already, where nothing can be mounted.
    pub(crate) fn shared_memory(&self) -> Result<PathBuf> {
        let is_memory = statfs(SHARED_MEMORY).is_ok_and(|found| found.f_type == TMPFS_MAGIC);
        if !is_memory {
            let text = format!("a secret has to be in memory, and {SHARED_MEMORY} is none: mount a tmpfs there");
            return Err(Error::Refused(text));
        }
        let path = Path::new(SHARED_MEMORY).join(format!("hoy-build-{}", ContainerId::random()?.short()));
        std::fs::DirBuilder::new().mode(0o700).create(&path).map_err(Error::io("create", &path))?;
        *self.shared.lock().unwrap_or_else(PoisonError::into_inner) = Some(path.clone());
        Ok(path)
    }

    /// A directory with nothing in it.
    pub(crate) fn empty(&self) -> Result<PathBuf> {
        let path = self.path.join("empty");
        make_directory(&path, 0o755)?;
        Ok(path)
    }

    /// The record that each of the build's containers has: it names this directory.
    pub(crate) fn record(&self) -> Result<PathBuf> {
        let path = self.path.join("step.json");
        let bytes = serde_json::to_vec(&json!({"build": self.path})).map_err(|source| Error::Json("record", source))?;
        write_volatile_file(&path, &bytes)?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.lock().unwrap_or_else(PoisonError::into_inner).take() {
            std::fs::remove_dir_all(shared).unwrap_or_default();
        }
        // Without secrets nothing is mounted there.
        unmount(self.path.join(MEMORY), UnmountFlags::DETACH).unwrap_or_default();
        // Whatever stays is found by prune: its lock is gone with this process.
        std::fs::remove_dir_all(&self.path).unwrap_or_default();
    }
}
