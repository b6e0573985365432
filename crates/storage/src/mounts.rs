//! What is mounted in the mount namespaces of processes: proc_pid_mountinfo(5).

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use hoy_sys::rustix::io::Errno;

use crate::overlay::{is_mount_point, unmount_at};
use crate::{Error, Result};

/// Every process of this machine that can be seen.
pub(crate) fn processes() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok()))
}

/// The mount namespace of a process, as its link in /proc names it; none of one that may not be looked at.
pub(crate) fn namespace_of(pid: i32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok()
}

/// Where something is mounted in the mount namespace of a process.
pub(crate) fn points_of(pid: i32) -> Vec<PathBuf> {
    let text = std::fs::read(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    let points = text.split(|&c| c == b'\n').filter_map(|line| line.split(|&c| c == b' ').nth(4));
    points.map(|point| PathBuf::from(OsString::from_vec(unescape(point)))).collect()
}

/// A process whose root file system is the overlay with this upper directory. Mere copies of a mount, as every private
/// mount namespace has of all mounts there were, do no harm.
pub(crate) fn rooted_in(upper: &Path) -> Option<i32> {
    let own = std::fs::read_link("/proc/self/ns/mnt").ok()?;
    let mut seen = HashSet::from([own]);
    let wanted = [b"upperdir=", upper.as_os_str().as_bytes()].concat();
    let is_it = |line: &[u8]| {
        let mut options = line.split(|&c| matches!(c, b' ' | b','));
        line.split(|&c| c == b' ').nth(4) == Some(b"/") && options.any(|option| unescape(option) == wanted)
    };
    let has_it = |pid: &i32| {
        let text = std::fs::read(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
        text.split(|&c| c == b'\n').any(is_it)
    };
    processes().filter(|pid| namespace_of(*pid).is_some_and(|namespace| seen.insert(namespace))).find(has_it)
}

/// Unmounts what is at `path`, all of it where mounts lie over one another; `force` takes it from processes that use it.
///
/// # Errors
/// [`Error::Busy`] of `owner`, [`Error::Io`].
pub(crate) fn unmount_all(path: &Path, owner: &str, force: bool) -> Result<()> {
    while is_mount_point(path)? {
        match unmount_at(path, force) {
            Ok(()) => {}
            Err(Errno::BUSY) => return Err(Error::Busy { id: owner.to_owned(), path: path.to_owned() }),
            Err(errno) => return Err(Error::io("unmount", path)(errno)),
        }
    }
    Ok(())
}

/// Blanks, tabs, newlines and backslashes are written as three octal digits.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let code = digits.filter(|_| first == b'\\').and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push(code.unwrap_or(first));
        rest = if code.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_unescaped() {
        assert_eq!(unescape(br"/a\040b\134c\9"), br"/a b\c\9");
    }
}
