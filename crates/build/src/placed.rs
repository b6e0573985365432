//! Mounts where nothing can be mounted: what is to be seen somewhere is moved or copied there for the time, and back.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use hoy_layout::{ContainerId, TEMPORARY_PREFIX};
use hoy_paper::DEVICES;
use hoy_spec::Mount;
use hoy_sys::path::open_in_root;
use hoy_sys::rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fchmod, mkdirat, openat, renameat, statat, unlinkat};
use hoy_sys::rustix::io::Errno;

use crate::{Error, Result};

/// More is not read to see whether it is what was lent.
const MAX_LENT_BYTES: u64 = 1 << 20;

/// What was put into a root file system; dropped, everything is as it was, but for what a command did to it.
#[derive(Debug)]
pub(crate) struct Placed {
    items: Vec<Item>,
    /// Directories that were made on the way.
    made: Vec<(OwnedFd, OsString)>,
}

#[derive(Debug)]
struct Item {
    parent: OwnedFd,
    name: OsString,
    /// Where it goes back to; it is removed where there is no such place.
    home: Option<PathBuf>,
    /// A file of this machine that is lent: what a command makes of it stays.
    lent: Option<Vec<u8>>,
    /// What stood there before is beside it, under this name.
    before: Option<OsString>,
}

impl Placed {
    /// Puts what `mounts` say, and names of devices, below `root`, which is in the file system of their directories.
    pub(crate) fn put(root: BorrowedFd<'_>, mounts: &[Mount]) -> Result<Self> {
        let mut placed = Self { items: Vec::new(), made: Vec::new() };
        for mount in mounts {
            placed.one(root, mount)?;
        }
        for name in DEVICES {
            placed.stub(root, &format!("/dev/{name}"))?;
        }
        Ok(placed)
    }

    fn one(&mut self, root: BorrowedFd<'_>, mount: &Mount) -> Result<()> {
        let refused = |why: &str| {
            Err(Error::Refused(format!("\"{}\" cannot be mounted with --isolation chroot: {why}", mount.destination)))
        };
        let (parent, name) = self.parent(root, &mount.destination)?;
        let before = make_room(&parent, &name)?;
        let failed = || Error::io::<Errno>("put something at", &mount.destination);
        let mut item = Item { parent, name, home: None, lent: None, before };
        let source = Path::new(&mount.source);
        match mount.kind.as_str() {
            "tmpfs" if mount.options.iter().any(|option| option.starts_with("size=")) => {
                self.items.push(item);
                return refused("its size cannot be limited");
            }
            "tmpfs" => mkdirat(&item.parent, &*item.name, Mode::from_raw_mode(0o755)).map_err(failed())?,
            _ if source.is_dir() => match renameat(CWD, source, &item.parent, &*item.name) {
                Ok(()) => item.home = Some(source.to_owned()),
                Err(errno) => {
                    self.items.push(item);
                    return Err(failed()(errno));
                }
            },
            _ if source.is_file() => {
                let bytes = copy(source, &item).map_err(Error::io("copy", source))?;
                item.lent = (mount.source == mount.destination).then_some(bytes);
            }
            _ => {
                self.items.push(item);
                return refused("it is neither a file nor a directory");
            }
        }
        self.items.push(item);
        Ok(())
    }

    /// An empty file, so that a name can be seen.
    fn stub(&mut self, root: BorrowedFd<'_>, path: &str) -> Result<()> {
        let (parent, name) = self.parent(root, path)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        match openat(&parent, &*name, flags, Mode::from_raw_mode(0o666)) {
            Ok(file) => fchmod(&file, Mode::from_raw_mode(0o666)).map_err(Error::io("make", path))?,
            Err(Errno::EXIST) => return Ok(()),
            Err(errno) => return Err(Error::io("make", path)(errno)),
        }
        self.items.push(Item { parent, name, home: None, lent: None, before: None });
        Ok(())
    }

    /// The directory of a path in the root, made where it is missing, and the last name; no link leads out.
    fn parent(&mut self, root: BorrowedFd<'_>, path: &str) -> Result<(OwnedFd, OsString)> {
        let path = Path::new(path);
        let Some(name) = path.file_name() else {
            return Err(Error::Refused(format!("nothing can be mounted at \"{}\"", path.display())));
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let failed = || Error::io::<Errno>("open", path);
        let mut known = PathBuf::from("/");
        let mut directory = open_in_root(root, &known, flags, Mode::empty()).map_err(|e| failed()(e.errno))?;
        for part in path.parent().into_iter().flat_map(Path::components).skip(1) {
            known.push(part);
            directory = match open_in_root(root, &known, flags, Mode::empty()) {
                Err(error) if error.errno == Errno::NOENT => {
                    let part = part.as_os_str();
                    mkdirat(&directory, part, Mode::from_raw_mode(0o755)).map_err(failed())?;
                    let made = openat(&directory, part, flags | OFlags::NOFOLLOW, Mode::empty()).map_err(failed())?;
                    self.made.push((directory, part.to_owned()));
                    made
                }
                other => other.map_err(|error| failed()(error.errno))?,
            };
        }
        Ok((directory, name.to_owned()))
    }
}

/// Gives what stands there another name.
fn make_room(parent: &OwnedFd, name: &OsStr) -> Result<Option<OsString>> {
    let other = OsString::from(format!("{TEMPORARY_PREFIX}{}", ContainerId::random()?.short()));
    match renameat(parent, name, parent, &*other) {
        Ok(()) => Ok(Some(other)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(Error::io("move aside", Path::new(name))(errno)),
    }
}

fn copy(source: &Path, item: &Item) -> std::io::Result<Vec<u8>> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let bytes = std::fs::read(source)?;
    let mode = std::os::unix::fs::PermissionsExt::mode(&source.metadata()?.permissions());
    let file = openat(&item.parent, &*item.name, flags, Mode::from_raw_mode(0o600))?;
    fchmod(&file, Mode::from_raw_mode(mode & 0o7777))?;
    File::from(file).write_all(&bytes)?;
    Ok(bytes)
}

impl Item {
    /// Whether a command has written into a file that was lent to it.
    fn is_changed(&self) -> bool {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let read = || {
            let mut bytes = Vec::new();
            let file = File::from(openat(&self.parent, &*self.name, flags, Mode::empty()).ok()?);
            file.take(MAX_LENT_BYTES).read_to_end(&mut bytes).ok()?;
            Some(bytes)
        };
        self.lent.as_ref().is_some_and(|lent| read().is_some_and(|bytes| bytes != *lent))
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        // A command may have moved or removed what it was given: then there is nothing to take back.
        for item in self.items.drain(..).rev() {
            let is_changed = item.is_changed();
            let Item { parent, name, home, before, .. } = item;
            if is_changed {
                before.iter().for_each(|before| remove(&parent, before));
                continue;
            }
            let returned = home.is_some_and(|home| renameat(&parent, &*name, CWD, &home).is_ok());
            if !returned {
                remove(&parent, &name);
            }
            if let Some(before) = before {
                renameat(&parent, &*before, &parent, &*name).unwrap_or_default();
            }
        }
        for (parent, name) in self.made.drain(..).rev() {
            // One in which a command has left something stays.
            unlinkat(&parent, &*name, AtFlags::REMOVEDIR).unwrap_or_default();
        }
    }
}

/// Removes a name and everything below it; no link is followed.
fn remove(parent: &OwnedFd, name: &OsStr) {
    let is_directory = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
    if !is_directory {
        return unlinkat(parent, name, AtFlags::empty()).unwrap_or_default();
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if let Ok(directory) = openat(parent, name, flags, Mode::empty()) {
        for name in crate::source::names(directory.as_fd()).unwrap_or_default() {
            remove(&directory, OsStr::from_bytes(&name));
        }
    }
    unlinkat(parent, name, AtFlags::REMOVEDIR).unwrap_or_default();
}
