//! Locks that the kernel drops when their holder dies: flock(2).

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use hoy_sys::rustix::fs::{FlockOperation, flock};
use hoy_sys::rustix::io::Errno;

use crate::{Error, Result};

/// A lock on a file, held until dropped. The file stays: removing it would let two holders in.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// Waits until nobody else has the lock at `path`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn exclusive(path: &Path) -> Result<Self> {
        Self::take(path, FlockOperation::LockExclusive).map(|(lock, _)| lock)
    }

    /// Waits until nobody has the lock at `path` exclusively.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn shared(path: &Path) -> Result<Self> {
        Self::take(path, FlockOperation::LockShared).map(|(lock, _)| lock)
    }

    /// The lock at `path` if nobody else has it now.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn try_exclusive(path: &Path) -> Result<Option<Self>> {
        Self::take(path, FlockOperation::NonBlockingLockExclusive).map(|(lock, got)| got.then_some(lock))
    }

    fn take(path: &Path, operation: FlockOperation) -> Result<(Self, bool)> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(Error::io("open", path))?;
        loop {
            match flock(file.as_fd(), operation) {
                Ok(()) => return Ok((Self(file), true)),
                Err(Errno::WOULDBLOCK) => return Ok((Self(file), false)),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::io("lock", path)(errno)),
            }
        }
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
