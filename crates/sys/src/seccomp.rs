//! Loading a seccomp filter, and answering for the calls that it asks about: seccomp(2), seccomp_unotify(2).

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

use crate::{Error, Result, check};

/// Filter flags, SECCOMP_FILTER_FLAG_* of seccomp(2).
pub mod filter_flags {
    /// All threads get the filter.
    pub const TSYNC: u64 = 1;
    /// Actions other than allow are logged.
    pub const LOG: u64 = 2;
    /// No speculative store bypass mitigation.
    pub const SPEC_ALLOW: u64 = 4;
    /// A descriptor for notifications is wanted.
    pub const NEW_LISTENER: u64 = 8;
    /// A waiting notifier is only interrupted by fatal signals, Linux 5.19.
    pub const WAIT_KILLABLE_RECV: u64 = 32;
}

/// One instruction of classic BPF, as `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Jump when true.
    pub jt: u8,
    /// Jump when false.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// Filters the system calls of this process from now on; with NEW_LISTENER gives the notification descriptor.
///
/// # Errors
/// `EACCES` without CAP_SYS_ADMIN and without no_new_privs, `EINVAL` for a program that the kernel does not accept.
pub fn set_filter(program: &[Instruction], flags: u64) -> Result<Option<OwnedFd>> {
    const SET_MODE_FILTER: libc::c_uint = 1;
    let mut filter: Vec<libc::sock_filter> =
        program.iter().map(|i| libc::sock_filter { code: i.code, jt: i.jt, jf: i.jf, k: i.k }).collect();
    let len = u16::try_from(filter.len()).map_err(|_| Error::new("seccomp", Errno::TOOBIG))?;
    let program = libc::sock_fprog { len, filter: filter.as_mut_ptr() };
    // SAFETY: `program` points to `len` instructions that outlive the call; the kernel copies them.
    let ret = unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags, &raw const program) };
    let ret = check("seccomp", ret)?;
    if flags & filter_flags::NEW_LISTENER == 0 {
        return Ok(None);
    }
    // SAFETY: with NEW_LISTENER the call returned a new descriptor that nothing else owns.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(ret as RawFd) }))
}

/// A system call that waits for what somebody says of it: seccomp_unotify(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notification {
    /// What an answer refers to.
    pub id: u64,
    /// The thread, as this process's PID namespace numbers it.
    pub pid: u32,
    processor: u32,
    number: libc::c_long,
    args: [u64; 6],
}

/// A call of the chown(2) family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chown {
    /// Whose owner changes.
    pub what: Chowned,
    /// The new owner; none leaves it.
    pub uid: Option<u32>,
    /// The new group; none leaves it.
    pub gid: Option<u32>,
}

/// What a chown(2) names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chowned {
    /// An open file.
    Open(RawFd),
    /// A path.
    Named {
        /// The descriptor of the directory that it begins at; none for the working directory.
        dir: Option<RawFd>,
        /// Where it is in the caller's memory.
        address: u64,
        /// A link at its end is followed.
        follows: bool,
        /// An empty one means the directory's descriptor itself.
        may_be_empty: bool,
    },
}

/// An open(2) or openat(2) of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    /// Where the path is in the caller's memory.
    pub address: u64,
    /// O_RDONLY and so on.
    pub flags: i32,
}

/// A mknod(2) or mknodat(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Making {
    /// The descriptor of the directory that the path begins at; none for the working directory.
    pub dir: Option<RawFd>,
    /// Where the path is in the caller's memory.
    pub address: u64,
    /// Kind and permissions, as stat(2) has them.
    pub mode: u32,
    /// Numbers of the device.
    pub device: u64,
}

/// The processor, as seccomp filters name it; 0 where programs of this one cannot be told apart.
#[cfg(target_arch = "x86_64")]
pub const NATIVE: u32 = 0xc000_003e;
/// The processor, as seccomp filters name it; 0 where programs of this one cannot be told apart.
#[cfg(target_arch = "aarch64")]
pub const NATIVE: u32 = 0xc000_00b7;
/// The processor, as seccomp filters name it; 0 where programs of this one cannot be told apart.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub const NATIVE: u32 = 0;

/// Numbers of system calls, by what they do.
pub mod calls {
    /// Opening a path.
    #[cfg(target_arch = "x86_64")]
    pub const OPEN: &[libc::c_long] = &[libc::SYS_open, libc::SYS_openat];
    /// Opening a path.
    #[cfg(not(target_arch = "x86_64"))]
    pub const OPEN: &[libc::c_long] = &[libc::SYS_openat];
    /// Changing an owner.
    #[cfg(target_arch = "x86_64")]
    pub const CHOWN: &[libc::c_long] = &[libc::SYS_chown, libc::SYS_lchown, libc::SYS_fchown, libc::SYS_fchownat];
    /// Changing an owner.
    #[cfg(not(target_arch = "x86_64"))]
    pub const CHOWN: &[libc::c_long] = &[libc::SYS_fchown, libc::SYS_fchownat];
    /// Making a device, or another file.
    #[cfg(target_arch = "x86_64")]
    pub const MKNOD: &[libc::c_long] = &[libc::SYS_mknod, libc::SYS_mknodat];
    /// Making a device, or another file.
    #[cfg(not(target_arch = "x86_64"))]
    pub const MKNOD: &[libc::c_long] = &[libc::SYS_mknodat];
    /// The same of programs of a processor that this one is too: as seccomp filters name it, and the number.
    #[cfg(target_arch = "x86_64")]
    pub(crate) const FOREIGN_MKNOD: &[(u32, libc::c_long)] = &[
        (0x4000_0003, 14),
        (0x4000_0003, 297),
        (super::NATIVE, 0x4000_0000 | libc::SYS_mknod),
        (super::NATIVE, 0x4000_0000 | libc::SYS_mknodat),
    ];
    /// The same of programs of a processor that this one is too: as seccomp filters name it, and the number.
    #[cfg(target_arch = "aarch64")]
    pub(crate) const FOREIGN_MKNOD: &[(u32, libc::c_long)] = &[(0x4000_0028, 14), (0x4000_0028, 324)];
    /// The same of programs of a processor that this one is too: as seccomp filters name it, and the number.
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    pub(crate) const FOREIGN_MKNOD: &[(u32, libc::c_long)] = &[];
    /// Becoming somebody else.
    pub const IDENTITY: &[libc::c_long] = &[
        libc::SYS_setuid,
        libc::SYS_setgid,
        libc::SYS_setreuid,
        libc::SYS_setregid,
        libc::SYS_setresuid,
        libc::SYS_setresgid,
        libc::SYS_setgroups,
        libc::SYS_setfsuid,
        libc::SYS_setfsgid,
    ];
}

impl Notification {
    fn is_native(&self) -> bool {
        self.processor == NATIVE
    }

    /// The call as one of mknod(2) or mknodat(2); none for any other, and for one of another processor's programs.
    pub fn making(&self) -> Option<Making> {
        let [first, second, third, fourth, ..] = self.args;
        let (dir, address, mode, device) = match self.number {
            libc::SYS_mknodat => (first as RawFd, second, third, fourth),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_mknod => (libc::AT_FDCWD, first, second, third),
            _ => return None,
        };
        let dir = (dir != libc::AT_FDCWD).then_some(dir);
        // Registers are wider than the arguments.
        self.is_native().then_some(Making { dir, address, mode: mode as u16 as u32, device: device as u32 as u64 })
    }

    /// Whether it is one of these, of a program of another processor.
    pub fn is_foreign_making(&self) -> bool {
        calls::FOREIGN_MKNOD.contains(&(self.processor, self.number))
    }

    /// The call as one that opens a path; none for any other, and for one of another processor's programs.
    pub fn opening(&self) -> Option<Opening> {
        let [first, second, third, ..] = self.args;
        let (address, flags) = match self.number {
            libc::SYS_openat => (second, third),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_open => (first, second),
            _ => return None,
        };
        // Registers are wider than the arguments.
        self.is_native().then_some(Opening { address, flags: flags as i32 })
    }

    /// The call as one of the chown(2) family; none for any other, and for one of another processor's programs.
    pub fn chown(&self) -> Option<Chown> {
        if !self.is_native() {
            return None;
        }
        // Registers are wider than the arguments.
        let [first, second, third, fourth, fifth, _] = self.args;
        let id = |register: u64| Some(register as u32).filter(|id| *id != u32::MAX);
        let named = |dir, address, follows, may_be_empty| Chowned::Named { dir, address, follows, may_be_empty };
        let (what, uid, gid) = match self.number {
            libc::SYS_fchown => (Chowned::Open(first as RawFd), second, third),
            libc::SYS_fchownat => {
                let (dir, flags) = (first as RawFd, fifth as libc::c_int);
                let dir = (dir != libc::AT_FDCWD).then_some(dir);
                let has = |flag| flags & flag != 0;
                (named(dir, second, !has(libc::AT_SYMLINK_NOFOLLOW), has(libc::AT_EMPTY_PATH)), third, fourth)
            }
            #[cfg(target_arch = "x86_64")]
            libc::SYS_chown => (named(None, first, true, false), second, third),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_lchown => (named(None, first, false, false), second, third),
            _ => return None,
        };
        Some(Chown { what, uid: id(uid), gid: id(gid) })
    }
}

/// The next call that waits for an answer.
///
/// # Errors
/// `ENOENT` when its caller is gone by now.
pub fn receive(listener: BorrowedFd<'_>) -> Result<Notification> {
    // SAFETY: seccomp_notif is integers, for all of which zero is valid; the kernel wants zeros.
    let mut got: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the call writes a seccomp_notif, which outlives it.
    let ret = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut got) };
    check("ioctl SECCOMP_IOCTL_NOTIF_RECV", ret.into())?;
    let libc::seccomp_data { nr, arch, args, .. } = got.data;
    Ok(Notification { id: got.id, pid: got.pid, processor: arch, number: nr.into(), args })
}

/// Lets the call return: 0, or this errno.
///
/// # Errors
/// `ENOENT` when its caller is gone by now.
pub fn answer(listener: BorrowedFd<'_>, id: u64, result: std::result::Result<(), Errno>) -> Result<()> {
    let error = result.err().map_or(0, |errno| -errno.raw_os_error());
    let mut response = libc::seccomp_notif_resp { id, val: 0, error, flags: 0 };
    // SAFETY: the call reads a seccomp_notif_resp, which outlives it.
    let ret = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut response) };
    check("ioctl SECCOMP_IOCTL_NOTIF_SEND", ret.into()).map(drop)
}

/// Lets the kernel carry the call out.
///
/// # Errors
/// `ENOENT` when its caller is gone by now.
pub fn proceed(listener: BorrowedFd<'_>, id: u64) -> Result<()> {
    let flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32;
    let mut response = libc::seccomp_notif_resp { id, val: 0, error: 0, flags };
    // SAFETY: the call reads a seccomp_notif_resp, which outlives it.
    let ret = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut response) };
    check("ioctl SECCOMP_IOCTL_NOTIF_SEND", ret.into()).map(drop)
}

/// Lets the call return a copy of `file`, which its caller has from then on: Linux 5.14.
///
/// # Errors
/// `ENOENT` when its caller is gone by now, `EMFILE` when it has too many.
pub fn give(listener: BorrowedFd<'_>, id: u64, file: BorrowedFd<'_>, is_close_on_exec: bool) -> Result<()> {
    const SEND: u32 = 2;
    let request = libc::seccomp_notif_addfd {
        id,
        flags: SEND,
        srcfd: file.as_raw_fd() as u32,
        newfd: 0,
        newfd_flags: if is_close_on_exec { libc::O_CLOEXEC as u32 } else { 0 },
    };
    // SAFETY: the call reads a seccomp_notif_addfd, which outlives it.
    let ret = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ADDFD, &raw const request) };
    check("ioctl SECCOMP_IOCTL_NOTIF_ADDFD", ret.into()).map(drop)
}

/// Whether the call still waits: what was read of its process under its number was that process's.
pub fn is_waiting(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the call reads an integer, which outlives it.
    unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id) == 0 }
}
