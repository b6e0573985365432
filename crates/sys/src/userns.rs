//! Entering user and mount namespaces: unshare(2), setns(2).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, WaitOptions, pidfd_send_signal, waitpid};
use rustix::thread::{ThreadNameSpaceType, UnshareFlags, move_into_thread_name_spaces, unshare_unsafe};

use crate::process::{clone3, exit_now, flags};
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

/// A new user namespace that nobody is in, for mounts with mapped ids; `write_maps` is told a process in it, which is
/// ended afterwards.
///
/// # Errors
/// Those of clone3(2), among them `EDEADLK` when this process has more than one thread; those of `write_maps`.
pub fn namespace_of_nobody(write_maps: impl FnOnce(i32) -> io::Result<()>) -> io::Result<OwnedFd> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    let Some(child) = clone3(flags::NEWUSER, None)? else {
        // It holds the namespace only until the descriptor does, and ends with its maker.
        drop(writer);
        exit_now(i32::from(rustix::io::read(&reader, &mut [0]).is_err()))
    };
    let pid = child.pid.as_raw_nonzero().get();
    let path = format!("/proc/{pid}/ns/user");
    let made = write_maps(pid).and_then(|()| Ok(open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?));
    pidfd_send_signal(&child.pidfd, Signal::KILL)?;
    waitpid(Some(child.pid), WaitOptions::empty())?;
    made
}

/// The user namespace that the one of `namespace` was made in: ioctl_nsfs(2) NS_GET_PARENT, Linux 4.9.
///
/// # Errors
/// `EPERM` when that is out of this process's sight.
pub fn parent(namespace: BorrowedFd<'_>) -> Result<OwnedFd> {
    const NS_GET_PARENT: libc::Ioctl = 0xb702;
    // SAFETY: the request has no argument.
    let ret = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_PARENT) };
    let fd = check("ioctl NS_GET_PARENT", ret.into())? as RawFd;
    // SAFETY: the ioctl returned a new descriptor, close-on-exec, that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
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
