//! System calls as a tracer sees them: what they are about, what they can fail with, whether they change anything.

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::libc;
use nix::unistd::Pid;

/// A system call that a traced process is about to make.
#[derive(Debug, Clone)]
pub struct Call {
    /// The thread that makes it.
    pub pid: i32,
    /// Its number on this architecture.
    pub number: i64,
    /// Its arguments.
    pub args: [u64; 6],
}

/// Where a call says which file it is about.
#[derive(Debug, Clone, Copy)]
enum Subject {
    /// A descriptor, in this argument.
    Fd(usize),
    /// A path, in this argument.
    Path(usize),
    /// A path in the second of these arguments, relative to the directory in the first.
    At(usize, usize),
}

use Subject::{At, Fd, Path as Named};

/// Calls on files that change something and need space for it.
const GROWING: &[(i64, &str, Subject)] = &[
    (libc::SYS_write, "write", Fd(0)),
    (libc::SYS_pwrite64, "pwrite64", Fd(0)),
    (libc::SYS_writev, "writev", Fd(0)),
    (libc::SYS_sendfile, "sendfile", Fd(0)),
    (libc::SYS_splice, "splice", Fd(2)),
    (libc::SYS_copy_file_range, "copy_file_range", Fd(2)),
    (libc::SYS_fsync, "fsync", Fd(0)),
    (libc::SYS_fdatasync, "fdatasync", Fd(0)),
    (libc::SYS_syncfs, "syncfs", Fd(0)),
    (libc::SYS_ftruncate, "ftruncate", Fd(0)),
    (libc::SYS_fallocate, "fallocate", Fd(0)),
    (libc::SYS_mkdir, "mkdir", Named(0)),
    (libc::SYS_mkdirat, "mkdirat", At(0, 1)),
    (libc::SYS_rename, "rename", Named(1)),
    (libc::SYS_renameat, "renameat", At(2, 3)),
    (libc::SYS_renameat2, "renameat2", At(2, 3)),
    (libc::SYS_link, "link", Named(1)),
    (libc::SYS_linkat, "linkat", At(2, 3)),
    (libc::SYS_symlink, "symlink", Named(1)),
    (libc::SYS_symlinkat, "symlinkat", At(1, 2)),
    (libc::SYS_mknod, "mknod", Named(0)),
    (libc::SYS_mknodat, "mknodat", At(0, 1)),
    (libc::SYS_setxattr, "setxattr", Named(0)),
    (libc::SYS_lsetxattr, "lsetxattr", Named(0)),
    (libc::SYS_fsetxattr, "fsetxattr", Fd(0)),
];

/// Calls that open a file, which need space when they make one.
const OPENING: &[(i64, &str, Subject)] = &[
    (libc::SYS_open, "open", Named(0)),
    (libc::SYS_openat, "openat", At(0, 1)),
    (libc::SYS_openat2, "openat2", At(0, 1)),
];

/// Calls on files that change something and need no space.
const CHANGING: &[(i64, &str, Subject)] = &[
    (libc::SYS_unlink, "unlink", Named(0)),
    (libc::SYS_unlinkat, "unlinkat", At(0, 1)),
    (libc::SYS_rmdir, "rmdir", Named(0)),
    (libc::SYS_chmod, "chmod", Named(0)),
    (libc::SYS_fchmod, "fchmod", Fd(0)),
    (libc::SYS_fchmodat, "fchmodat", At(0, 1)),
    (libc::SYS_chown, "chown", Named(0)),
    (libc::SYS_lchown, "lchown", Named(0)),
    (libc::SYS_fchown, "fchown", Fd(0)),
    (libc::SYS_fchownat, "fchownat", At(0, 1)),
    (libc::SYS_utimensat, "utimensat", At(0, 1)),
    (libc::SYS_removexattr, "removexattr", Named(0)),
    (libc::SYS_lremovexattr, "lremovexattr", Named(0)),
    (libc::SYS_fremovexattr, "fremovexattr", Fd(0)),
];

/// Calls on files that change nothing.
const READING: &[(i64, &str, Subject)] = &[
    (libc::SYS_read, "read", Fd(0)),
    (libc::SYS_pread64, "pread64", Fd(0)),
    (libc::SYS_readv, "readv", Fd(0)),
    (libc::SYS_getdents64, "getdents64", Fd(0)),
    (libc::SYS_stat, "stat", Named(0)),
    (libc::SYS_lstat, "lstat", Named(0)),
    (libc::SYS_newfstatat, "newfstatat", At(0, 1)),
    (libc::SYS_statx, "statx", At(0, 1)),
    (libc::SYS_access, "access", Named(0)),
    (libc::SYS_faccessat, "faccessat", At(0, 1)),
    (libc::SYS_readlink, "readlink", Named(0)),
    (libc::SYS_readlinkat, "readlinkat", At(0, 1)),
    (libc::SYS_getxattr, "getxattr", Named(0)),
    (libc::SYS_lgetxattr, "lgetxattr", Named(0)),
    (libc::SYS_fgetxattr, "fgetxattr", Fd(0)),
    (libc::SYS_listxattr, "listxattr", Named(0)),
    (libc::SYS_llistxattr, "llistxattr", Named(0)),
    (libc::SYS_flistxattr, "flistxattr", Fd(0)),
];

/// Calls that nobody outside the process can see: memory, time, signals' masks, waiting, and asking about oneself.
const PRIVATE: &[i64] = &[
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_fstat,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_lseek,
    libc::SYS_fcntl,
    libc::SYS_fadvise64,
    libc::SYS_dup,
    libc::SYS_dup2,
    libc::SYS_dup3,
    libc::SYS_pipe2,
    libc::SYS_umask,
    libc::SYS_chdir,
    libc::SYS_fchdir,
    libc::SYS_getcwd,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_arch_prctl,
    libc::SYS_prctl,
    libc::SYS_prlimit64,
    libc::SYS_uname,
    libc::SYS_ioctl,
    libc::SYS_set_tid_address,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_membarrier,
    libc::SYS_socket,
    libc::SYS_setsockopt,
    libc::SYS_getsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_pidfd_open,
];

impl Call {
    /// Its name, where it is one on files.
    #[must_use]
    pub fn name(&self) -> Option<&'static str> {
        self.on_file().map(|(_, name, _)| *name)
    }

    fn on_file(&self) -> Option<&'static (i64, &'static str, Subject)> {
        [GROWING, OPENING, CHANGING, READING].into_iter().flatten().find(|(number, ..)| *number == self.number)
    }

    fn is_in(&self, table: &[(i64, &str, Subject)]) -> bool {
        table.iter().any(|(number, ..)| *number == self.number)
    }

    /// Whether anybody else could see that it was made. Being killed before or after one that nobody can see is the same.
    #[must_use]
    pub fn changes(&self) -> bool {
        let opens_only = || self.is_in(OPENING) && !self.makes_file();
        // What is read from a pipe or a socket is not there any more; from a file it is.
        let reads_only = || self.is_in(READING) && !(self.number == libc::SYS_read && self.file().is_none());
        let closes_only = || self.number == libc::SYS_close && self.descriptor(self.args[0]).is_some();
        !(PRIVATE.contains(&self.number) || opens_only() || reads_only() || closes_only())
    }

    /// Whether it is one of those that must be heeded when they fail: what was written may not be on disk.
    #[must_use]
    pub fn is_write(&self) -> bool {
        self.is_in(GROWING)
    }

    /// Whether it needs disk space.
    #[must_use]
    pub fn needs_space(&self) -> bool {
        self.is_in(GROWING) || self.is_in(OPENING) && self.makes_file()
    }

    fn makes_file(&self) -> bool {
        let flags = match self.number {
            libc::SYS_open => self.args[1],
            libc::SYS_openat => self.args[2],
            _ => self.memory(self.args[2], 8).try_into().map_or(0, u64::from_ne_bytes),
        };
        flags & u64::from(libc::O_CREAT.unsigned_abs()) != 0
    }

    /// The file on a file system that it is about.
    #[must_use]
    pub fn file(&self) -> Option<PathBuf> {
        match self.on_file()?.2 {
            Fd(at) => self.descriptor(self.args[at]),
            Named(at) => Some(self.process_file("cwd").join(self.path(self.args[at]))),
            At(directory, at) if self.args[at] == 0 => self.descriptor(self.args[directory]),
            At(directory, at) => {
                let path = self.path(self.args[at]);
                let is_here = path.is_absolute() || self.args[directory] as i32 == libc::AT_FDCWD;
                let base = if is_here { Some(self.process_file("cwd")) } else { self.descriptor(self.args[directory]) };
                Some(base?.join(path))
            }
        }
    }

    fn process_file(&self, name: &str) -> PathBuf {
        fs::read_link(format!("/proc/{}/{name}", self.pid)).unwrap_or_default()
    }

    /// What a descriptor is open on, if that has a name.
    fn descriptor(&self, number: u64) -> Option<PathBuf> {
        let path = self.process_file(&format!("fd/{}", number as i32));
        path.is_absolute().then_some(path)
    }

    fn path(&self, address: u64) -> PathBuf {
        let bytes = self.memory(address, libc::PATH_MAX as usize);
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        PathBuf::from(std::ffi::OsString::from_vec(bytes[..end].to_vec()))
    }

    /// Up to `count` bytes of the process's memory.
    fn memory(&self, address: u64, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        let read = fs::File::open(format!("/proc/{}/mem", self.pid)).and_then(|file| file.read_at(&mut bytes, address));
        bytes.truncate(read.unwrap_or(0));
        bytes
    }

    /// Whether the file that it is about is below one of these directories.
    #[must_use]
    pub fn is_below(&self, directories: &[&Path]) -> bool {
        self.file().is_some_and(|file| directories.iter().any(|directory| file.starts_with(directory)))
    }
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.name(), self.file()) {
            (Some(name), Some(file)) => write!(f, "{name} {}", file.display()),
            (Some(name), None) => write!(f, "{name}"),
            (None, _) => write!(f, "system call {}", self.number),
        }
    }
}

/// Reads the call that a process has stopped at the entry of.
#[cfg(target_arch = "x86_64")]
pub(crate) fn entered(pid: Pid) -> nix::Result<Call> {
    let regs = nix::sys::ptrace::getregs(pid)?;
    let args = [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9];
    Ok(Call { pid: pid.as_raw(), number: regs.orig_rax.cast_signed(), args })
}

/// Keeps the call that a process has stopped at the entry of from being made.
#[cfg(target_arch = "x86_64")]
pub(crate) fn prevent(pid: Pid) -> nix::Result<()> {
    let mut regs = nix::sys::ptrace::getregs(pid)?;
    regs.orig_rax = u64::MAX;
    nix::sys::ptrace::setregs(pid, regs)
}

/// Has the call that a process has stopped at the exit of return an error.
#[cfg(target_arch = "x86_64")]
pub(crate) fn return_error(pid: Pid, errno: nix::errno::Errno) -> nix::Result<()> {
    let mut regs = nix::sys::ptrace::getregs(pid)?;
    regs.rax = i64::from(-(errno as i32)).cast_unsigned();
    nix::sys::ptrace::setregs(pid, regs)
}
