//! How a process is given time and memory: sched_setattr(2), ioprio_set(2), set_mempolicy(2), personality(2).

use std::ptr;

use rustix::io::Errno;

use crate::{Error, Result, check};

/// `struct sched_attr` in its first published form, 48 bytes: sched_setattr(2), Linux 3.14.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct SchedAttr {
    /// Filled in by the call.
    pub size: u32,
    /// SCHED_* of sched(7).
    pub policy: u32,
    /// SCHED_FLAG_*.
    pub flags: u64,
    /// Nice value of the policies OTHER and BATCH.
    pub nice: i32,
    /// Priority of the policies FIFO and RR.
    pub priority: u32,
    /// Nanoseconds of each period: DEADLINE.
    pub runtime: u64,
    /// Nanoseconds after the period's begin: DEADLINE.
    pub deadline: u64,
    /// Nanoseconds: DEADLINE.
    pub period: u64,
}

/// Sets the scheduling policy of this process.
///
/// # Errors
/// `EPERM` without CAP_SYS_NICE, `EINVAL` for what the policy does not take, `EBUSY` when a deadline cannot be kept.
pub fn sched_setattr(attr: SchedAttr) -> Result<()> {
    let attr = SchedAttr { size: size_of::<SchedAttr>() as u32, ..attr };
    // SAFETY: 0 is this process; the struct has the size it names and outlives the call, which may only write its size.
    let ret = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
    check("sched_setattr", ret).map(drop)
}

/// Sets the I/O scheduling class (1 realtime, 2 best effort, 3 idle) and level (0 to 7) of this process.
///
/// # Errors
/// `EPERM` without CAP_SYS_ADMIN or CAP_SYS_NICE for the realtime class.
pub fn ioprio_set(class: u32, level: u32) -> Result<()> {
    const WHO_PROCESS: libc::c_int = 1;
    // SAFETY: the call takes integers only; 0 is this process.
    let ret = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, class << 13 | level) };
    check("ioprio_set", ret).map(drop)
}

/// Sets on which memory nodes this process's pages are made; bit N of `nodes` is node N.
///
/// # Errors
/// `EINVAL` for a mode that does not go with the nodes, or for nodes that are not there.
pub fn set_mempolicy(mode: u32, nodes: &[u64]) -> Result<()> {
    let (mask, bits) = match nodes {
        [] => (ptr::null(), 0),
        // The kernel takes one bit less than it is told.
        nodes => (nodes.as_ptr(), nodes.len() * 64 + 1),
    };
    // SAFETY: the mask has the number of bits given, rounded up to words, and outlives the call; the kernel reads it.
    let ret = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) };
    check("set_mempolicy", ret).map(drop)
}

/// Sets the execution domain of this process.
///
/// # Errors
/// `EINVAL` for a domain that the kernel does not have.
pub fn personality(domain: u32) -> Result<()> {
    // SAFETY: the call takes an integer and changes only how programs begun from here on are run.
    let ret = unsafe { libc::personality(domain.into()) };
    if ret == -1 { Err(Error::new("personality", Errno::INVAL)) } else { Ok(()) }
}
