//! Processes: clone3(2), execveat(2), close_range(2), setns(2), unshare(2), signal state.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::Pid;

use crate::{Error, Result, check};

/// Namespace and clone flags, as in clone(2).
pub mod flags {
    /// A root and a working directory of one's own.
    pub const FS: u64 = 0x0000_0200;
    /// A new mount namespace.
    pub const NEWNS: u64 = 0x0002_0000;
    /// A new cgroup namespace.
    pub const NEWCGROUP: u64 = 0x0200_0000;
    /// A new UTS namespace.
    pub const NEWUTS: u64 = 0x0400_0000;
    /// A new IPC namespace.
    pub const NEWIPC: u64 = 0x0800_0000;
    /// A new user namespace.
    pub const NEWUSER: u64 = 0x1000_0000;
    /// A new PID namespace.
    pub const NEWPID: u64 = 0x2000_0000;
    /// A new network namespace.
    pub const NEWNET: u64 = 0x4000_0000;
    /// A new time namespace, Linux 5.6.
    pub const NEWTIME: u64 = 0x0000_0080;
    /// The child is a sibling: its parent is the caller's parent.
    pub const PARENT: u64 = 0x0000_8000;
}

const CLONE_PIDFD: u64 = 0x0000_1000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// The other process that [`clone3`] made.
#[derive(Debug)]
pub struct Child {
    /// Its id in the caller's PID namespace.
    pub pid: Pid,
    /// A descriptor of it, close-on-exec.
    pub pidfd: OwnedFd,
}

/// Makes a process, a copy of this one: clone3(2), Linux 5.5. `None` in the copy.
///
/// `cgroup` is a directory of cgroup v2 that the child starts in (Linux 5.7). The parent gets SIGCHLD when the child ends.
///
/// # Errors
/// `EDEADLK` when this process has more than one thread: only then could the copy find a lock held by a thread that
/// it does not have. Otherwise those of clone3(2).
pub fn clone3(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Option<Child>> {
    // A directory of N entries has N + 2 links; /proc/self/task has one entry for each thread.
    let task = rustix::fs::stat("/proc/self/task").map_err(|errno| Error::new("stat", errno))?;
    if task.st_nlink != 3 {
        return Err(Error::new("clone3", Errno::DEADLK));
    }
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is a struct of integers, for which zero is a valid value.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags | CLONE_PIDFD | if cgroup.is_some() { CLONE_INTO_CGROUP } else { 0 };
    args.pidfd = ptr::from_mut(&mut pidfd) as u64;
    // A sibling inherits the signal that the caller itself ends with; the kernel refuses another.
    args.exit_signal = if flags & flags::PARENT != 0 { 0 } else { libc::SIGCHLD as u64 };
    args.cgroup = cgroup.map_or(0, |fd| fd.as_raw_fd() as u64);
    // SAFETY: no CLONE_VM and no stack, so the child runs on a copy of this memory, as after fork(2). The check above
    // showed that there is one thread, so no lock of the allocator or of stdio is held by anybody else and ordinary
    // code may run in the child.
    let ret = unsafe { libc::syscall(libc::SYS_clone3, ptr::from_mut(&mut args), size_of::<libc::clone_args>()) };
    let Some(pid) = Pid::from_raw(check("clone3", ret)? as i32) else { return Ok(None) };
    // SAFETY: with CLONE_PIDFD the kernel stored a new descriptor that nothing else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Some(Child { pid, pidfd }))
}

/// Replaces this process's program by the file that `file` is open on: execveat(2) with AT_EMPTY_PATH.
///
/// Returns only on failure.
pub fn fexecve(file: BorrowedFd<'_>, argv: &[CString], envp: &[CString]) -> Error {
    let argv = pointers(argv);
    let envp = pointers(envp);
    // SAFETY: both arrays end in a null pointer, and their strings outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    Error::last("execveat")
}

/// Replaces this process's program by the file at `path`: execve(2). Returns only on failure.
pub fn execve(path: &CStr, argv: &[CString], envp: &[CString]) -> Error {
    let argv = pointers(argv);
    let envp = pointers(envp);
    // SAFETY: both arrays end in a null pointer, and their strings outlive the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    Error::last("execve")
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
}

/// Ends this process at once, without running exit handlers: _exit(2).
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no precondition and does not return.
    unsafe { libc::_exit(code) }
}

/// Closes, before a program takes over, the descriptors above 2 that are not for it: those from `first` on, and lower
/// ones that are marked close-on-exec. Those in `keep`, themselves marked so, stay until then: close_range(2), Linux 5.9.
///
/// Their owners do not learn of it: what follows may only use `keep`, and ends in [`execve`] or [`exit_now`].
///
/// # Errors
/// Those of close_range(2).
pub fn close_before_exec(first: u32, keep: &[BorrowedFd<'_>]) -> Result<()> {
    // A process has no more open than this, and who asks for more to be kept means all of them.
    const MOST: u32 = 1 << 16;
    let mut kept: Vec<u32> = keep.iter().filter_map(|fd| u32::try_from(fd.as_raw_fd()).ok()).collect();
    kept.sort_unstable();
    for fd in (3..first.min(MOST)).filter(|fd| !kept.contains(fd)) {
        let number = libc::c_int::try_from(fd).unwrap_or(-1);
        // SAFETY: fcntl with F_GETFD touches no memory; a number that is not open is an error.
        let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
        if flags & libc::FD_CLOEXEC != 0 && flags >= 0 {
            close_range(fd, fd)?;
        }
    }
    close_except(first, keep)
}

/// Closes every descriptor from `first` on but those of `keep`, for a process that will never use the others again, nor
/// end by dropping what owns them: one that waits to be another program.
///
/// # Errors
/// Those of close_range(2).
pub fn close_except(first: u32, keep: &[BorrowedFd<'_>]) -> Result<()> {
    let mut kept: Vec<u32> = keep.iter().filter_map(|fd| fd.as_raw_fd().try_into().ok()).collect();
    kept.sort_unstable();
    let mut from = first;
    for fd in kept.into_iter().filter(|fd| *fd >= first) {
        if fd > from {
            close_range(from, fd - 1)?;
        }
        from = fd + 1;
    }
    close_range(from, u32::MAX)
}

fn close_range(first: u32, last: u32) -> Result<()> {
    // SAFETY: no memory is touched; owners of what is closed use it no more, which `close_except` asks of its caller.
    let ret = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    check("close_range", ret).map(drop)
}

/// Moves this process into the namespaces of `kinds` that `fd` names, a namespace file or a pidfd: setns(2).
///
/// # Errors
/// Those of setns(2).
pub fn setns(fd: BorrowedFd<'_>, kinds: u64) -> Result<()> {
    let kinds = libc::c_int::try_from(kinds).map_err(|_| Error::new("setns", Errno::INVAL))?;
    // SAFETY: setns takes integers and touches no memory of this process.
    let ret = unsafe { libc::setns(fd.as_raw_fd(), kinds) };
    check("setns", ret.into()).map(drop)
}

/// The flag of the kind of namespace that `fd` is open on: ioctl_nsfs(2) NS_GET_NSTYPE, Linux 4.11.
///
/// # Errors
/// `ENOTTY` for what is no namespace.
pub fn namespace_kind(fd: BorrowedFd<'_>) -> Result<u64> {
    const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
    // SAFETY: the request has no argument; where it is not known the kernel answers ENOTTY.
    let ret = unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE) };
    check("ioctl NS_GET_NSTYPE", ret.into()).map(|kind| kind as u64)
}

/// Gives this process namespaces of its own, or this thread a root and a working directory: unshare(2).
///
/// # Errors
/// `EINVAL` for flags that are nothing of that; otherwise those of unshare(2).
pub fn unshare(kinds: u64) -> Result<()> {
    use flags::{FS, NEWCGROUP, NEWIPC, NEWNET, NEWNS, NEWPID, NEWTIME, NEWUSER, NEWUTS};
    if kinds & !(FS | NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET | NEWTIME) != 0 {
        return Err(Error::new("unshare", Errno::INVAL));
    }
    let kinds = libc::c_int::try_from(kinds).map_err(|_| Error::new("unshare", Errno::INVAL))?;
    // SAFETY: the flags are namespaces and directories only, checked above: the descriptor table and memory stay shared as they were.
    let ret = unsafe { libc::unshare(kinds) };
    check("unshare", ret.into()).map(drop)
}

/// Puts every signal back to its default action and unblocks all: what a program expects at its start.
pub fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL installs no handler; a signal that cannot be changed gives EINVAL and stays as it is.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: an all-zero sigset_t is the empty set on Linux.
    let empty: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is valid for the call and the old one is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const empty, ptr::null_mut()) };
}

/// Blocks all signals and gives a descriptor to read them from: signalfd(2), close-on-exec.
///
/// # Errors
/// Those of signalfd(2).
pub fn block_signals() -> Result<OwnedFd> {
    // SAFETY: sigset_t is a struct of integers, for which zero is a valid value.
    let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `all` is valid and writable.
    unsafe { libc::sigfillset(&raw mut all) };
    // SAFETY: the set is valid for the call and the old one is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const all, ptr::null_mut()) };
    // SAFETY: -1 asks for a new descriptor; the set is valid for the call.
    let ret = unsafe { libc::signalfd(-1, &raw const all, libc::SFD_CLOEXEC) };
    let fd = check("signalfd", ret.into())? as RawFd;
    // SAFETY: signalfd returned a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends `signal`, any number from 0 to 64, to the process `pidfd`: pidfd_send_signal(2), Linux 5.1.
///
/// # Errors
/// `ESRCH` when the process has ended, `EINVAL` for no signal.
pub fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    // SAFETY: the null pointer asks for the same information as kill(2) sends.
    let ret = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, ptr::null::<libc::siginfo_t>(), 0)
    };
    check("pidfd_send_signal", ret).map(drop)
}

/// Makes a session keyring for this process: keyctl(2) KEYCTL_JOIN_SESSION_KEYRING.
///
/// # Errors
/// `ENOSYS` without keyrings, `EDQUOT` when the user has too many keys.
pub fn join_session_keyring(name: &CStr) -> Result<()> {
    const JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: the name is NUL-terminated and outlives the call.
    let ret = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, name.as_ptr()) };
    check("keyctl", ret).map(drop)
}

/// What a process used: getrusage(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Time in the kernel.
    pub system: Duration,
    /// Time in programs.
    pub user: Duration,
    /// Blocks read.
    pub blocks_in: u64,
    /// Blocks written.
    pub blocks_out: u64,
}

/// What this process and all that it has waited for, with those that they had waited for, have used so far.
///
/// # Errors
/// None that getrusage(2) knows of.
pub fn usage() -> Result<Usage> {
    let mut sum = Usage::default();
    for who in [libc::RUSAGE_SELF, libc::RUSAGE_CHILDREN] {
        // SAFETY: all zeroes is a valid value of this structure of numbers.
        let mut one: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: the structure is valid for the call, which writes to it alone.
        let ret = unsafe { libc::getrusage(who, &raw mut one) };
        check("getrusage", ret.into())?;
        let time = |time: libc::timeval| {
            Duration::from_secs(time.tv_sec.unsigned_abs()) + Duration::from_micros(time.tv_usec.unsigned_abs())
        };
        sum.system += time(one.ru_stime);
        sum.user += time(one.ru_utime);
        sum.blocks_in += one.ru_inblock.unsigned_abs();
        sum.blocks_out += one.ru_oublock.unsigned_abs();
    }
    Ok(sum)
}

/// Takes the descriptor `fd` that this process was given at its start.
///
/// # Errors
/// `EBADF` when it is not open, `EINVAL` for the standard ones.
pub fn inherited_fd(fd: RawFd) -> Result<OwnedFd> {
    if fd < 3 {
        return Err(Error::new("fcntl", Errno::INVAL));
    }
    // SAFETY: F_DUPFD_CLOEXEC only reads the descriptor table; an unused number gives EBADF.
    let ret = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    let copy = check("fcntl", ret.into())? as RawFd;
    // SAFETY: fcntl returned a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}
