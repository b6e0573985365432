//! Paths inside a root that somebody hostile may be changing: openat2(2), Linux 5.6.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::{Error, Result};

/// Opens `path` as if `root` were `/`: symlinks and `..` stay inside, magic links are refused.
///
/// `path` may be absolute. The descriptor is close-on-exec.
///
/// # Errors
/// `EXDEV` or `ELOOP` when the path would leave the root, and those of openat2(2).
pub fn open_in_root(root: impl AsFd, path: impl AsRef<Path>, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    resolve(root, path.as_ref(), flags, mode, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
}

/// Opens `path` below `dir` without following any symlink, `..` or mount-point trick on the way.
///
/// # Errors
/// `ELOOP` for a symlink anywhere in the path, `EXDEV` for `..` or an absolute path.
pub fn open_beneath(dir: impl AsFd, path: impl AsRef<Path>, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    resolve(dir, path.as_ref(), flags, mode, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
}

/// openat2 answers `EAGAIN` when a rename raced with the walk; the walk is then made again, a bounded number of times.
fn resolve(dir: impl AsFd, path: &Path, flags: OFlags, mode: Mode, resolve: ResolveFlags) -> Result<OwnedFd> {
    let dir = dir.as_fd();
    for _ in 0..128 {
        match rustix::fs::openat2(dir, path, flags | OFlags::CLOEXEC, mode, resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(Error::new("openat2", errno)),
            Ok(fd) => return Ok(fd),
        }
    }
    Err(Error::new("openat2", Errno::AGAIN))
}
