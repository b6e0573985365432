//! Entering user and mount namespaces: unshare(2), setns(2).

use std::os::fd::BorrowedFd;

use rustix::thread::{ThreadNameSpaceType, UnshareFlags, move_into_thread_name_spaces, unshare_unsafe};

use crate::{Error, Result, check};

/// Moves this process into a new user namespace and a new mount namespace that it owns.
///
/// Until somebody writes its id maps, all ids read as the overflow id.
///
/// # Errors
/// `EINVAL` when the process has more than one thread; `EPERM`, `ENOSPC` or `ENOSYS` where user namespaces are not
/// allowed: unshare(2).
pub fn unshare_user_and_mounts() -> Result<()> {
    // SAFETY: neither flag unshares file descriptors or memory; CLONE_FS, which comes with both, only separates the
    // working directory, root and umask of threads, of which there must be no second one.
    unsafe { unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNS) }.map_err(|errno| Error::new("unshare", errno))
}

/// Moves this process into the user and mount namespaces of the process that `pidfd` refers to (setns(2), Linux 5.8).
///
/// Root and working directory become the root of that mount namespace.
///
/// # Errors
/// `ESRCH` when the process has ended, `EPERM` when its user namespace is not one of this user's.
pub fn join_user_and_mounts(pidfd: BorrowedFd<'_>) -> Result<()> {
    let types = ThreadNameSpaceType::USER | ThreadNameSpaceType::MOUNT;
    move_into_thread_name_spaces(pidfd, types).map_err(|errno| Error::new("setns", errno))
}

/// Marks every descriptor from `first` up close-on-exec (close_range(2), Linux 5.11).
///
/// # Errors
/// `ENOSYS` or `EINVAL` on an older kernel.
pub fn close_on_exec_from(first: u32) -> Result<()> {
    // SAFETY: with CLOSE_RANGE_CLOEXEC no descriptor is closed, only a flag of each is set.
    let ret = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    check("close_range", ret).map(drop)
}
