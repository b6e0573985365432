//! The option `tmpcopyup`: what a directory holds is copied into the tmpfs that covers it.

use std::os::fd::{AsFd, BorrowedFd};

use hoy_sys::rustix::fs::{Mode, OFlags, openat};
use hoy_sys::rustix::process;

/// Copies the directory `from` into the new file system `to`.
pub(crate) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> std::io::Result<()> {
    use hoy_sys::rustix::fs::{AtFlags, Dir, FileType, statat};
    let open = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let source = openat(from, ".", open, Mode::empty())?;
    let target = openat(to, ".", open, Mode::empty())?;
    for entry in Dir::read_from(&source)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = statat(&source, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                hoy_sys::rustix::fs::mkdirat(&target, name, mode)?;
                let below = openat(&source, name, open, Mode::empty())?;
                let made = openat(&target, name, open, Mode::empty())?;
                copy(below.as_fd(), made.as_fd())?;
            }
            FileType::Symlink => {
                let link = hoy_sys::rustix::fs::readlinkat(&source, name, Vec::new())?;
                hoy_sys::rustix::fs::symlinkat(link, &target, name)?;
            }
            FileType::RegularFile => {
                let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
                let write = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let mut reader = std::fs::File::from(openat(&source, name, read, Mode::empty())?);
                let mut writer = std::fs::File::from(openat(&target, name, write, mode)?);
                std::io::copy(&mut reader, &mut writer)?;
            }
            other => hoy_sys::rustix::fs::mknodat(&target, name, other, mode, stat.st_rdev)?,
        }
        let (uid, gid) = (process::Uid::from_raw(stat.st_uid), process::Gid::from_raw(stat.st_gid));
        hoy_sys::rustix::fs::chownat(&target, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        if !FileType::from_raw_mode(stat.st_mode).is_symlink() {
            // A change of owner takes set-id bits away.
            hoy_sys::rustix::fs::chmodat(&target, name, mode, AtFlags::empty())?;
        }
    }
    Ok(())
}
