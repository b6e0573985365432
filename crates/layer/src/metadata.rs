//! Owner, mode, times and extended attributes of files that were just made.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use hoy_sys::rustix::fs::{
    AtFlags, Gid, Mode, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chmod, chownat, fchmod, fchown,
    fsetxattr, fstat, lsetxattr, setxattr, utimensat,
};
use hoy_sys::rustix::io::Errno;

use crate::entry::{Device, Entry, Kind, Time};
use crate::whiteout::{belongs_to_image, is_private};
use crate::{Error, OVERRIDE_STAT, OverrideStat, Result};

/// What one system call says.
type Call = std::result::Result<(), Errno>;

/// What an image says of a file, and the file system could take in no form.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Unrepresented {
    /// The time it was given, which tells whether a file is still the one that was unpacked.
    pub mtime: Time,
    /// Owner and mode, where they could neither be given nor kept in an attribute: of links and pipes.
    pub owner: Option<OverrideStat>,
    /// Extended attributes.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Unrepresented {
    /// Gives back to `entry` what it lost, unless it is another file by now.
    pub(crate) fn restore(&self, entry: &mut Entry) {
        if entry.mtime != self.mtime {
            return;
        }
        if let Some(owner) = self.owner.filter(|_| (entry.uid, entry.gid) == (0, 0)) {
            (entry.uid, entry.gid) = (owner.uid, owner.gid);
            if entry.kind != Kind::Symlink && entry.mode & 0o777 == owner.mode & 0o777 {
                entry.mode = owner.mode;
            }
        }
        for (name, value) in &self.xattrs {
            entry.xattrs.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
}

/// What could not be represented, and how many attributes besides are of no use anywhere.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) files: BTreeMap<Vec<u8>, Unrepresented>,
    pub(crate) xattrs: u64,
}

impl Refused {
    fn of(&mut self, entry: &Entry) -> &mut Unrepresented {
        let file = self.files.entry(entry.path.clone()).or_default();
        file.mtime = entry.mtime;
        file
    }
}

/// A file to which metadata is given, and how it can be reached.
#[derive(Clone, Copy)]
pub(crate) enum Target<'a> {
    /// A regular file or directory, open for real.
    Open(BorrowedFd<'a>),
    /// A device, a pipe or a directory, open with `O_PATH`: its descriptor is named through `/proc/self/fd`.
    Handle(BorrowedFd<'a>),
    /// A symbolic link in a directory.
    Link(BorrowedFd<'a>, &'a [u8]),
}

impl Target<'_> {
    /// Whether it is so already: to look costs a fraction of a change, which a journal takes part in.
    fn is(self, check: impl Fn(&Stat) -> bool) -> bool {
        matches!(self, Self::Open(fd) if fstat(fd).is_ok_and(|stat| check(&stat)))
    }

    fn chown(self, uid: u32, gid: u32) -> Call {
        if self.is(|stat| (stat.st_uid, stat.st_gid) == (uid, gid)) {
            return Ok(());
        }
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        match self {
            Self::Open(fd) => fchown(fd, uid, gid),
            Self::Handle(fd) => chownat(fd, "", uid, gid, AtFlags::EMPTY_PATH),
            Self::Link(parent, name) => chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW),
        }
    }

    fn set_xattr(self, name: &[u8], value: &[u8]) -> Call {
        match self {
            Self::Open(fd) => fsetxattr(fd, name, value, XattrFlags::empty()),
            Self::Handle(fd) => setxattr(through_proc(fd), name, value, XattrFlags::empty()),
            Self::Link(parent, link) => {
                let path = [through_proc(parent).as_bytes(), b"/", link].concat();
                lsetxattr(path, name, value, XattrFlags::empty())
            }
        }
    }

    fn chmod(self, mode: u32) -> Call {
        if self.is(|stat| stat.st_mode & 0o7777 == mode) {
            return Ok(());
        }
        match self {
            Self::Open(fd) => fchmod(fd, Mode::from_raw_mode(mode)),
            Self::Handle(fd) => chmod(through_proc(fd), Mode::from_raw_mode(mode)),
            // Links have no mode of their own.
            Self::Link(..) => Ok(()),
        }
    }

    fn set_mtime(self, time: Time) -> Call {
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() },
        };
        match self {
            Self::Open(fd) => hoy_sys::rustix::fs::futimens(fd, &times),
            Self::Handle(fd) => utimensat(fd, "", &times, AtFlags::EMPTY_PATH),
            Self::Link(parent, name) => utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW),
        }
    }
}

/// The name by which calls that know no `O_PATH` descriptors reach one.
pub(crate) fn through_proc(fd: impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

/// Gives owner and attributes; returns the mode that may now be given.
///
/// Setuid and setgid on a file of the wrong owner would mean something else than the image says.
pub(crate) fn set_owner_and_xattrs(
    target: Target<'_>,
    entry: &Entry,
    stand_in_for: Option<(bool, Device)>,
    refused: &mut Refused,
) -> Result<u32> {
    let io = |doing| Error::io::<Errno>(doing, &entry.path);
    let is_owned = match target.chown(entry.uid, entry.gid) {
        Ok(()) => true,
        // EINVAL: the id is not mapped in this user namespace.
        Err(Errno::PERM | Errno::INVAL | Errno::OPNOTSUPP) => false,
        Err(errno) => return Err(io("change the owner of")(errno)),
    };
    set_xattrs(target, entry, refused)?;
    if is_owned && stand_in_for.is_none() {
        return Ok(entry.mode);
    }
    let stat = OverrideStat { uid: entry.uid, gid: entry.gid, mode: entry.mode, device: stand_in_for };
    match target.set_xattr(OVERRIDE_STAT.as_bytes(), stat.to_value().as_bytes()) {
        Ok(()) => {}
        Err(Errno::PERM | Errno::OPNOTSUPP | Errno::ACCESS) => refused.of(entry).owner = Some(stat),
        Err(errno) => return Err(io("set an attribute of")(errno)),
    }
    Ok(entry.mode & 0o777)
}

fn set_xattrs(target: Target<'_>, entry: &Entry, refused: &mut Refused) -> Result<()> {
    for (name, value) in &entry.xattrs {
        if is_private(name) || name.contains(&0) {
            refused.xattrs += 1;
            continue;
        }
        match target.set_xattr(name, value) {
            Ok(()) => {}
            // Of a namespace that is not ours to write, or that this file system or kind of file does not have.
            Err(Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP | Errno::INVAL | Errno::RANGE) => {
                refused.xattrs += 1;
                if belongs_to_image(name) {
                    refused.of(entry).xattrs.insert(name.clone(), value.clone());
                }
            }
            Err(errno) => return Err(Error::io("set an attribute of", &entry.path)(errno)),
        }
    }
    Ok(())
}

/// Gives mode, then time: nothing after that changes the file.
pub(crate) fn set_mode_and_time(target: Target<'_>, path: &[u8], mode: u32, mtime: Time) -> Result<()> {
    target.chmod(mode).map_err(Error::io("change the mode of", path))?;
    set_mtime(target, path, mtime)
}

/// Gives a time and leaves everything else.
pub(crate) fn set_mtime(target: Target<'_>, path: &[u8], mtime: Time) -> Result<()> {
    target.set_mtime(mtime).map_err(Error::io("set the time of", path))
}

/// Gives everything to a file that nothing else is written to.
pub(crate) fn set_all(
    target: Target<'_>,
    entry: &Entry,
    stand_in_for: Option<(bool, Device)>,
    refused: &mut Refused,
) -> Result<()> {
    let mode = set_owner_and_xattrs(target, entry, stand_in_for, refused)?;
    set_mode_and_time(target, &entry.path, mode, entry.mtime)
}
