//! Who this process is.

use std::fs;
use std::io;

/// Whether this is user 0 of the initial user namespace, as opposed to one who is only called so in another.
pub fn is_initial_root() -> bool {
    rustix::process::geteuid().is_root() && in_initial_user_namespace().unwrap_or(true)
}

/// Whether this process is in the initial user namespace, whose map covers every id: user_namespaces(7).
///
/// # Errors
/// Those of reading `/proc/self/uid_map`.
pub fn in_initial_user_namespace() -> io::Result<bool> {
    let map = fs::read_to_string("/proc/self/uid_map")?;
    Ok(map.split_whitespace().eq(["0", "0", "4294967295"]))
}

/// Whether this process is user 0 of its user namespace and may not mount: as in a container that was given no privilege.
pub fn is_confined_root() -> bool {
    let sets = rustix::thread::capabilities(None);
    let may_mount = sets.is_ok_and(|sets| sets.effective.contains(rustix::thread::CapabilitySet::SYS_ADMIN));
    rustix::process::geteuid().is_root() && !may_mount
}

/// Makes files that this thread makes from now on belong to `uid` and `gid`: setfsuid(2), setfsgid(2).
///
/// Without the secure bit NO_SETUID_FIXUP the thread loses capabilities over files with it (capabilities(7)).
pub fn set_file_ids(uid: u32, gid: u32) {
    // SAFETY: the call takes an integer; it changes the calling thread's credentials alone.
    unsafe { libc::syscall(libc::SYS_setfsgid, gid) };
    // SAFETY: as above.
    unsafe { libc::syscall(libc::SYS_setfsuid, uid) };
}
