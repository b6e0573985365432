//! Where entries go: parent directories below the root, opened once and kept.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use hoy_sys::path::open_in_root;
use hoy_sys::rustix::fs::{Mode, OFlags, fstat, mkdirat, readlinkat};
use hoy_sys::rustix::io::Errno;

use crate::entry::{join, split, to_path};
use crate::{Error, Result, Time};

/// Descriptors kept open; a layer visits its directories mostly in order.
const MAX_OPEN: usize = 64;
/// Links followed where directories have yet to be made, as many as the kernel follows.
const MAX_LINKS: usize = 40;

/// The directories below a root, by their normalized names.
pub(crate) struct Places<'a> {
    root: BorrowedFd<'a>,
    open: HashMap<Vec<u8>, Rc<OwnedFd>>,
    /// Directories that were made because an entry needed them and no entry had named them.
    pub(crate) implicit: BTreeSet<Vec<u8>>,
    /// Whether a link that leads nowhere may be followed by making its target.
    pub(crate) may_follow_dangling: bool,
    /// Directories that were there before, with inode and time: what the archive does not name keeps its time.
    pub(crate) found: Option<HashMap<Vec<u8>, Found>>,
}

/// A directory that was there before.
pub(crate) struct Found {
    pub(crate) inode: (u64, u64),
    pub(crate) mtime: Time,
}

impl<'a> Places<'a> {
    /// `is_layered`: other layers are in the tree already.
    pub(crate) fn new(root: BorrowedFd<'a>, is_layered: bool) -> Self {
        let found = is_layered.then(HashMap::new);
        Self { root, open: HashMap::new(), implicit: BTreeSet::new(), may_follow_dangling: is_layered, found }
    }

    pub(crate) fn root(&self) -> BorrowedFd<'a> {
        self.root
    }

    /// The directory `path`, made with all its parents where it is missing. Links in it lead to where they do inside the root.
    pub(crate) fn directory(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>> {
        if let Some(fd) = self.open.get(path) {
            return Ok(Rc::clone(fd));
        }
        let fd = Rc::new(self.open_or_make(path, 0)?);
        if self.open.len() >= MAX_OPEN {
            self.open.clear();
        }
        self.open.insert(path.to_vec(), Rc::clone(&fd));
        Ok(fd)
    }

    /// The existing directory `path`.
    pub(crate) fn existing(&self, path: &[u8]) -> std::result::Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b"." } else { path };
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        open_in_root(self.root, to_path(path), flags, Mode::empty()).map_err(|error| error.errno)
    }

    /// Something that was not a regular file went away: what lay below or behind it is no longer there.
    pub(crate) fn forget(&mut self) {
        self.open.clear();
    }

    fn open_or_make(&mut self, path: &[u8], links: usize) -> Result<OwnedFd> {
        match self.existing(path) {
            Ok(fd) => {
                self.remember(path, &fd)?;
                return Ok(fd);
            }
            Err(Errno::NOENT) => {}
            Err(Errno::NOTDIR) if self.may_follow_dangling => {
                return Err(Error::refused(path, "a part of its name is no directory"));
            }
            Err(Errno::NOTDIR) => return Err(Error::parents(path, "a part of its name is no directory")),
            Err(errno) => return Err(Error::io("open", path)(errno)),
        }
        let (parent_path, name) = split(path);
        let parent = self.open_or_make(parent_path, links)?;
        match mkdirat(&parent, name, Mode::RWXU) {
            Ok(()) => drop(self.implicit.insert(path.to_vec())),
            Err(Errno::EXIST) => return self.make_target(path, parent.as_fd(), links),
            Err(errno) => return Err(Error::io("create", path)(errno)),
        }
        self.existing(path).map_err(Error::io("open", path))
    }

    fn remember(&mut self, path: &[u8], fd: &OwnedFd) -> Result<()> {
        if let Some(found) = &mut self.found
            && !found.contains_key(path)
        {
            let stat = fstat(fd).map_err(Error::io("look at", path))?;
            let mtime =
                Time { seconds: stat.st_mtime, nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or_default() };
            found.insert(path.to_vec(), Found { inode: (stat.st_dev, stat.st_ino), mtime });
        }
        Ok(())
    }

    /// `path` is a link to nothing yet. In a layer on its own its target may be in a parent, or may not be there at all.
    fn make_target(&mut self, path: &[u8], parent: BorrowedFd<'_>, links: usize) -> Result<OwnedFd> {
        if !self.may_follow_dangling {
            return Err(Error::parents(path, "a part of its name is a link to nothing in this layer"));
        }
        let (parent_path, name) = split(path);
        let target = readlinkat(parent, name, Vec::new()).map_err(Error::io("read link", path))?.into_bytes();
        if links == MAX_LINKS || target.split(|&c| c == b'/').any(|part| part == b"..") {
            return Err(Error::refused(path, "a part of its name is a link that leads nowhere"));
        }
        let base = if target.starts_with(b"/") { &b""[..] } else { parent_path };
        let target = crate::entry::normalize(&join(base, &target))?;
        self.open_or_make(&target, links + 1)
    }
}
