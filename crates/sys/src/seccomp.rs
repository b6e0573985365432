//! Loading a seccomp filter: seccomp(2).

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

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
