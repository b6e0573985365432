//! A proc file system that is known to be one: labels, sysctls and scores are written through it alone.
//!
//! What an image or a hostile neighbour has put on /proc or a part of it cannot catch such a write.

use std::io::{Error as IoError, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use hoy_sys::rustix::fs::{self, Mode, OFlags, ResolveFlags};
use hoy_sys::rustix::mount::{self, FsMountFlags, FsOpenFlags, MountAttrFlags};

use crate::error::Doing;
use crate::mount::tree;
use crate::{Error, Result};

/// PROC_SUPER_MAGIC
const MAGIC: fs::FsWord = 0x9fa0;

/// A proc file system that shows the processes of the caller's PID namespace.
///
/// A new one, attached nowhere, where the caller may make it; otherwise a copy of the mount on /proc without what is
/// mounted on it; otherwise /proc itself, on which [`write`] then refuses whatever is mounted.
///
/// # Errors
/// Those of opening /proc, and what is there being something else.
pub(crate) fn open() -> Result<OwnedFd> {
    if let Ok(new) = new_instance() {
        return Ok(new);
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let there = tree::copy_of_path(Path::new("/proc"), false)
        .or_else(|_| fs::openat(fs::CWD, "/proc", flags, Mode::empty()).map_err(IoError::from));
    let proc = there.doing(|| "open \"/proc\"")?;
    let is_proc = fs::fstatfs(&proc).doing(|| "look at \"/proc\"")?.f_type == MAGIC;
    if !is_proc || !is_root(proc.as_fd()) {
        return Err(Error::Invalid("\"/proc\" is not a proc file system".to_owned()));
    }
    Ok(proc)
}

/// Whether this is the top of a proc file system, PROC_ROOT_INO, and no directory of it bound to another place.
fn is_root(proc: BorrowedFd<'_>) -> bool {
    fs::fstat(proc).is_ok_and(|stat| stat.st_ino == 1)
}

fn new_instance() -> std::io::Result<OwnedFd> {
    let context = mount::fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    mount::fsconfig_create(context.as_fd())?;
    let attributes =
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Ok(mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Writes `value` to `path` below `proc`, refusing whatever is mounted over a part of it.
pub(crate) fn write(proc: BorrowedFd<'_>, path: &str, value: &str) -> std::io::Result<()> {
    let file = open_file(proc, path, OFlags::WRONLY)?;
    hoy_sys::rustix::io::write(file, value.as_bytes())?;
    Ok(())
}

/// Reads `path` below `proc`, likewise.
pub(crate) fn read(proc: BorrowedFd<'_>, path: &str) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::from(open_file(proc, path, OFlags::RDONLY)?).read_to_string(&mut text)?;
    Ok(text)
}

fn open_file(proc: BorrowedFd<'_>, path: &str, flags: OFlags) -> std::io::Result<OwnedFd> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
    Ok(fs::openat2(proc, path, flags | OFlags::CLOEXEC, Mode::empty(), how)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_only_where_it_is_itself() {
        let proc = open().unwrap();
        assert!(write(proc.as_fd(), "self/oom_score_adj", "1000").is_ok());
        assert_eq!(read(proc.as_fd(), "self/oom_score_adj").unwrap(), "1000\n");
        for outside in ["../etc/x", "/etc/x", "self/root/etc/x", "self/cwd/x"] {
            assert!(write(proc.as_fd(), outside, "0").is_err(), "{outside}");
        }
    }

    #[test]
    fn a_part_of_it_is_not_it() {
        let part = std::fs::File::open("/proc/sys").unwrap();
        assert!(!is_root(part.as_fd()));
        assert!(is_root(std::fs::File::open("/proc").unwrap().as_fd()));
    }
}
