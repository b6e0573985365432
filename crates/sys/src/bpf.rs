//! Device programs of control groups: bpf(2), BPF_PROG_TYPE_CGROUP_DEVICE (Linux 4.15).

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

use crate::{Error, Result, check};

/// Loads a device program, eBPF instructions of eight bytes each.
///
/// # Errors
/// `EPERM` without CAP_BPF, `EINVAL` or `EACCES` for a program that the kernel does not accept.
pub fn load_device_program(instructions: &[u64]) -> Result<OwnedFd> {
    const PROG_LOAD: libc::c_int = 5;
    const CGROUP_DEVICE: u64 = 15;
    let count = u32::try_from(instructions.len()).map_err(|_| Error::new("bpf", Errno::TOOBIG))?;
    let license = c"Apache-2.0";
    // union bpf_attr for BPF_PROG_LOAD: type and count (32 bits each), instructions, licence; the rest is zero.
    let attr: [u64; 16] = {
        let mut attr = [0; 16];
        let [kind, code, words, ..] = &mut attr;
        *kind = first_and_second(CGROUP_DEVICE, count.into());
        *code = instructions.as_ptr() as u64;
        *words = license.as_ptr() as u64;
        attr
    };
    // SAFETY: the attributes have the size given and point to `count` instructions and a NUL-terminated licence, which
    // all outlive the call; the kernel copies them.
    let ret = unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, attr.as_ptr(), size_of_val(&attr)) };
    let fd = check("bpf", ret)? as RawFd;
    // SAFETY: bpf returned a new descriptor, close-on-exec, that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches a device program to the group of version 2 that `cgroup` is open on, for as long as the group is there.
///
/// # Errors
/// `EPERM` without CAP_NET_ADMIN or CAP_BPF, `EBADF` for what is no control group.
pub fn attach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<()> {
    const PROG_ATTACH: libc::c_int = 8;
    const CGROUP_DEVICE: u64 = 6;
    /// BPF_F_ALLOW_MULTI: those of the groups above hold as well.
    const ALLOW_MULTI: u64 = 2;
    let fd = |fd: BorrowedFd<'_>| u64::from(fd.as_raw_fd().unsigned_abs());
    // union bpf_attr for BPF_PROG_ATTACH: target, program, attach type, flags (32 bits each).
    let attr: [u64; 2] = [first_and_second(fd(cgroup), fd(program)), first_and_second(CGROUP_DEVICE, ALLOW_MULTI)];
    // SAFETY: the attributes have the size given and outlive the call; the kernel only reads them.
    let ret = unsafe { libc::syscall(libc::SYS_bpf, PROG_ATTACH, attr.as_ptr(), size_of_val(&attr)) };
    check("bpf", ret).map(drop)
}

/// Two 32-bit fields, one after the other in memory.
fn first_and_second(first: u64, second: u64) -> u64 {
    if cfg!(target_endian = "little") { first | second << 32 } else { first << 32 | second }
}
