//! Without pivot_root(2) the caller's mounts stay in the container's namespace, below its root.
//!
//! A /proc or /sys among them with nothing mounted over its parts would let a user namespace in the container mount a
//! bare one of its own: mount_namespaces(7), "Restrictions".

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use hoy_sys::rustix::io::Errno;
use hoy_sys::rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::Result;
use crate::error::Doing;

/// Takes away what the caller's /proc and /sys are, or covers them where they may not be taken.
pub(crate) fn hide_host() -> Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").doing(|| "read \"/proc/self/mountinfo\"")?;
    // The last mounted first: some lie on others.
    for path in places(&mounts).into_iter().rev() {
        let doing = || format!("hide \"{}\" of the host", path.display());
        match unmount(&path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(Errno::INVAL | Errno::PERM) => {}
            Err(errno) => return Err(errno).doing(doing),
        }
        let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        match mount("tmpfs", &path, "tmpfs", flags, Some(c"size=0,nr_inodes=1")) {
            // The list is of this namespace, the container's own mounts included, which this process does not see here.
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            other => other.doing(doing)?,
        }
    }
    Ok(())
}

/// Where a proc or sysfs is mounted, by the text of /proc/self/mountinfo: proc_pid_mountinfo(5).
fn places(mounts: &str) -> Vec<PathBuf> {
    let of = |line: &str| {
        let (place, kind) = line.split_once(" - ")?;
        let is_kernels = matches!(kind.split(' ').next()?, "proc" | "sysfs");
        is_kernels.then(|| unescape(place.split(' ').nth(4).unwrap_or_default()))
    };
    mounts.lines().filter_map(of).collect()
}

/// Spaces and the like are written as three octal digits.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| *first == b'\\') {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_proc_and_sysfs() {
        let text = "21 26 0:20 / /proc rw shared:1 - proc proc rw\n22 26 8:1 / /home rw - ext4 /dev/sda rw\n\
                    23 26 0:21 / /a\\040b/sys ro master:2 propagate_from:1 - sysfs sysfs rw\n";
        assert_eq!(places(text), [PathBuf::from("/proc"), PathBuf::from("/a b/sys")]);
    }
}
