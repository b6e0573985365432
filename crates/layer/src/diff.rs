//! What changed in a tree since the layers below it, and the layer that says so.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use hoy_oci::IdMaps;
use hoy_sys::rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, StatxFlags, getxattr, lgetxattr, major, minor, openat, readlinkat, statat,
    statx,
};
use hoy_sys::rustix::io::Errno;

use crate::entry::{join, to_path};
use crate::metadata::{Refused, Target, Unrepresented, set_all, through_proc};
use crate::unpack::{names, xattr_names};
use crate::whiteout::{OverlayXattrs, PREFIX, belongs_to_image};
use crate::{Device, Entry, Error, Kind, OVERRIDE_STAT, OverrideStat, Result, TarWriter, Time};

/// PATH_MAX, without the byte that ends a path: open(2).
const MAX_PATH_BYTES: usize = 4095;
/// Enough for a directory in each two bytes of the longest path.
const STACK_BYTES: usize = 64 << 20;

/// The layers below, highest first, as overlayfs merges them.
#[derive(Debug, Default)]
pub struct Lower {
    directories: Vec<OwnedFd>,
}

/// How changes are found and written.
#[derive(Debug, Clone)]
pub struct DiffOptions {
    /// The attributes in which overlayfs keeps its own notes in this tree.
    pub xattrs: OverlayXattrs,
    /// The tree is complete: what is not in it was deleted. Otherwise it is an upper directory of overlayfs.
    pub is_complete: bool,
    /// Times after this many seconds are set to it.
    pub clamp: Option<i64>,
    /// Paths without leading `/` that were made for mounts: not reported while they are empty.
    pub stubs: BTreeSet<Vec<u8>>,
    /// Whose the files are in the image.
    pub owners: Owners,
    /// What the layers below say of files and the file system could not take.
    pub unrepresented: BTreeMap<Vec<u8>, Unrepresented>,
    /// User and group of links, pipes and the like in this tree that have them on paper only.
    pub on_paper: BTreeMap<Birth, (u32, u32)>,
}

/// What stays the same of a file while it is there, and of no other: its inode's number, and seconds and nanoseconds of
/// the time it was made at, where the file system knows that.
pub type Birth = (u64, i64, u32);

impl DiffOptions {
    fn now(&self) -> Look<'_> {
        Look { owners: &self.owners, unrepresented: Some(&self.unrepresented), on_paper: Some(&self.on_paper) }
    }

    fn below(&self) -> Look<'_> {
        Look { owners: self.owners.below(), unrepresented: Some(&self.unrepresented), on_paper: None }
    }
}

/// What is needed to see a file of a tree as the image has it.
#[derive(Clone, Copy)]
struct Look<'a> {
    owners: &'a Owners,
    unrepresented: Option<&'a BTreeMap<Vec<u8>, Unrepresented>>,
    on_paper: Option<&'a BTreeMap<Birth, (u32, u32)>>,
}

/// How owners of a tree are those of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Owners {
    /// They are the same.
    #[default]
    Same,
    /// Files of this user and this group are root's: those of an ordinary user without a user namespace.
    RootIs(u32, u32),
    /// The image has the ids inside, the tree those outside of these maps.
    Mapped {
        /// The maps.
        maps: IdMaps,
        /// Whether that holds for the layers below too.
        below: bool,
    },
}

impl Owners {
    /// The same for the layers below.
    fn below(&self) -> &Self {
        match self {
            Self::Mapped { below: false, .. } => &Self::Same,
            other => other,
        }
    }

    fn in_image(&self, uid: u32, gid: u32) -> (u32, u32) {
        match self {
            Self::Same => (uid, gid),
            Self::RootIs(user, group) => (if uid == *user { 0 } else { uid }, if gid == *group { 0 } else { gid }),
            // What was not given to the container keeps its owner.
            Self::Mapped { maps, .. } => {
                (maps.container_uid(uid).unwrap_or(uid), maps.container_gid(gid).unwrap_or(gid))
            }
        }
    }
}

/// What happened to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// It was not there before.
    Added,
    /// It, or something in it, is different.
    Changed,
    /// It is gone.
    Deleted,
}

/// One changed name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// The name, without a leading `/`; empty for the root itself.
    pub path: PathBuf,
}

/// The difference between a tree and what it was made from. Finding it costs what changed, not what there is.
#[derive(Debug)]
pub struct Diff<'a> {
    root: BorrowedFd<'a>,
    options: DiffOptions,
    steps: Vec<Step>,
    /// The first name of each file with several.
    links: HashMap<(u64, u64), Vec<u8>>,
}

#[derive(Debug)]
struct Step {
    kind: ChangeKind,
    path: Vec<u8>,
    /// What goes into the layer; an entry named as a whiteout for a deletion.
    entry: Entry,
}

/// One name as it is somewhere, with everything that counts.
struct Found {
    entry: Entry,
    inode: (u64, u64),
    has_other_names: bool,
}

impl Lower {
    /// The merge of these directories, highest first.
    pub fn new(directories: Vec<OwnedFd>) -> Self {
        Self { directories }
    }

    fn opens_to(&self, name: &[u8], xattrs: OverlayXattrs) -> std::result::Result<LowerName, Errno> {
        let mut merged = Vec::new();
        let mut found = None;
        for directory in &self.directories {
            let stat = match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                other => other?,
            };
            if is_whiteout(&stat) {
                break;
            }
            let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            if !is_directory {
                found = found.or_else(|| merged.is_empty().then(|| directory.try_clone().ok()).flatten());
                break;
            }
            found = found.or_else(|| directory.try_clone().ok());
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let child = openat(directory, name, flags, Mode::empty())?;
            let ends_here = is_opaque(child.as_fd(), xattrs);
            merged.push(child);
            if ends_here {
                break;
            }
        }
        Ok(LowerName { found_in: found, merged: Lower { directories: merged } })
    }

    /// All names in the merged directory.
    fn names(&self) -> std::result::Result<BTreeSet<Vec<u8>>, Errno> {
        let mut all = BTreeSet::new();
        for directory in &self.directories {
            all.extend(names(directory.as_fd())?);
        }
        Ok(all)
    }
}

/// A name in the layers below.
struct LowerName {
    /// The directory that holds the highest file of this name.
    found_in: Option<OwnedFd>,
    /// When it is a directory, what is in it.
    merged: Lower,
}

impl<'a> Diff<'a> {
    /// Compares the tree `root` with `lower`; `base` is what the root directory itself was like.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn new(root: BorrowedFd<'a>, lower: &Lower, base: &Entry, options: DiffOptions) -> Result<Self> {
        let mut diff = Self { root, options, steps: Vec::new(), links: HashMap::new() };
        let own = look(root, b".", b"", diff.options.now())?;
        let is_changed = !same_but_time(&own.entry, &Entry { path: Vec::new(), ..base.clone() });
        if is_changed {
            let entry = Entry { path: b"./".to_vec(), ..own.entry };
            diff.push(ChangeKind::Changed, b"", entry);
        }
        // The walk goes as deep as the tree; a thread's stack can be made deep enough for the longest path.
        let is_complete = diff.options.is_complete;
        let walked = std::thread::scope(|scope| {
            let walk = || diff.directory(root, b"", lower, is_complete);
            let walker = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, walk);
            walker.map(|walker| {
                walker
                    .join()
                    .unwrap_or_else(|_| Err(Error::io("compare", b"")(std::io::Error::other("the walk ended early"))))
            })
        });
        walked.map_err(Error::io("compare", b""))??;
        Ok(diff)
    }

    /// Nothing changed.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Every changed name, parents before what is in them.
    pub fn changes(&self) -> Vec<Change> {
        self.steps.iter().map(|step| Change { kind: step.kind, path: to_path(&step.path) }).collect()
    }

    /// Writes the layer.
    ///
    /// # Errors
    /// [`Error::Write`], [`Error::Io`].
    pub fn write<W: Write>(&self, output: W) -> Result<W> {
        let mut writer = TarWriter::new(output);
        for entry in self.steps.iter().map(|step| &step.entry) {
            let mut entry = entry.clone();
            if let Some(clamp) =
                self.options.clamp.filter(|clamp| entry.mtime > Time { seconds: *clamp, nanoseconds: 0 })
            {
                entry.mtime = Time { seconds: clamp, nanoseconds: 0 };
            }
            if entry.kind == Kind::File && entry.size > 0 {
                writer.append(&entry, &mut open_file(self.root, &entry.path)?)?;
            } else {
                writer.append(&entry, &mut std::io::empty())?;
            }
        }
        writer.finish()
    }

    fn push(&mut self, kind: ChangeKind, path: &[u8], entry: Entry) {
        self.steps.push(Step { kind, path: path.to_vec(), entry });
    }

    /// With `is_complete` a name that is missing was deleted.
    fn directory(&mut self, directory: BorrowedFd<'_>, path: &[u8], lower: &Lower, is_complete: bool) -> Result<()> {
        let present = names(directory).map_err(Error::io("read", path))?;
        let mut all: BTreeSet<&[u8]> = present.iter().map(Vec::as_slice).collect();
        let below = match is_complete {
            true => lower.names().map_err(Error::io("read", path))?,
            false => BTreeSet::new(),
        };
        all.extend(below.iter().map(Vec::as_slice));
        for name in all {
            let was = lower.opens_to(name, self.options.xattrs).map_err(Error::io("look at", path))?;
            let path = join(path, name);
            if path.len() > MAX_PATH_BYTES {
                return Err(Error::refused(&path, "its path is longer than 4,095 bytes, which no program can open"));
            }
            if !below.is_empty() && present.binary_search_by(|other| other.as_slice().cmp(name)).is_err() {
                self.deleted(&path, name, &was);
                continue;
            }
            let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(Error::io("look at", &path))?;
            match FileType::from_raw_mode(stat.st_mode) {
                // A socket means nothing without the process that listens.
                FileType::Socket => {}
                FileType::CharacterDevice if is_whiteout(&stat) => self.deleted(&path, name, &was),
                FileType::Directory => self.subdirectory(directory, name, &path, &was, is_complete)?,
                _ => self.file(directory, name, &path, &was, is_complete)?,
            }
        }
        Ok(())
    }

    /// A whiteout of a name that no layer below has says nothing.
    fn deleted(&mut self, path: &[u8], name: &[u8], was: &LowerName) {
        if was.found_in.is_some() {
            let parent = path.get(..path.len() - name.len()).unwrap_or_default();
            let mut entry = Entry::new([parent, PREFIX, name].concat(), Kind::File, 0);
            entry.mtime = Time::default();
            self.push(ChangeKind::Deleted, path, entry);
        }
    }

    fn file(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        was: &LowerName,
        is_complete: bool,
    ) -> Result<()> {
        let mut now = look(directory, name, path, self.options.now())?;
        if was.found_in.is_none()
            && self.options.stubs.contains(path)
            && now.entry.kind == Kind::File
            && now.entry.size == 0
        {
            return Ok(());
        }
        let kind = if was.found_in.is_some() { ChangeKind::Changed } else { ChangeKind::Added };
        if let Some(parent) = &was.found_in
            && (!now.has_other_names || is_complete)
            && is_same(
                &now,
                directory,
                &look(parent.as_fd(), name, path, self.options.below())?,
                parent.as_fd(),
                name,
                path,
            )?
        {
            return Ok(());
        }
        if now.has_other_names {
            if let Some(first) = self.links.get(&now.inode) {
                now.entry.link.clone_from(first);
                now.entry.kind = Kind::HardLink;
                now.entry.xattrs = BTreeMap::new();
                now.entry.size = 0;
            } else {
                self.links.insert(now.inode, path.to_vec());
            }
        }
        self.push(kind, path, now.entry);
        Ok(())
    }

    fn subdirectory(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        was: &LowerName,
        is_complete: bool,
    ) -> Result<()> {
        let mut now = look(parent, name, path, self.options.now())?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(parent, name, flags, Mode::empty()).map_err(Error::io("open", path))?;
        let below = match &was.found_in {
            Some(parent) => Some(look(parent.as_fd(), name, path, self.options.below())?.entry),
            None => None,
        };
        let was_directory = below.as_ref().is_some_and(|entry| entry.kind == Kind::Directory);
        // What an opaque directory hides is named one by one: so do builders that compare trees and know of no overlay.
        let is_complete = is_complete || was_directory && is_opaque(fd.as_fd(), self.options.xattrs);
        let is_same = below.as_ref().is_some_and(|below| same_but_time(&now.entry, below));
        if is_same && let Some(below) = &below {
            now.entry.mtime = below.mtime;
        }
        // Its own step comes first and is taken back when nothing in it changed.
        let at = self.steps.len();
        let kind = if below.is_some() { ChangeKind::Changed } else { ChangeKind::Added };
        self.push(kind, path, now.entry);
        let nothing = Lower::default();
        self.directory(fd.as_fd(), path, if was_directory { &was.merged } else { &nothing }, is_complete)?;
        let has_changed_children = self.steps.len() > at + 1;
        if !has_changed_children && (is_same || below.is_none() && self.is_stub(fd.as_fd(), path)?) {
            self.steps.truncate(at);
        }
        Ok(())
    }

    /// A directory that was made for a mount, or as the parent of something that was, and holds nothing else.
    fn is_stub(&self, directory: BorrowedFd<'_>, path: &[u8]) -> Result<bool> {
        let below = join(path, b"");
        let leads_to_stub = self.options.stubs.iter().any(|stub| stub == path || stub.starts_with(&below));
        if !leads_to_stub {
            return Ok(false);
        }
        for name in names(directory).map_err(Error::io("read", path))? {
            let path = join(path, &name);
            let is_stub = self.options.stubs.iter().any(|stub| *stub == path || stub.starts_with(&join(&path, b"")));
            if !is_stub {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn is_opaque(directory: BorrowedFd<'_>, xattrs: OverlayXattrs) -> bool {
    let mut value = [0; 1];
    getxattr(through_proc(directory), xattrs.opaque(), &mut value) == Ok(1) && value == *b"y"
}

fn same_but_time(a: &Entry, b: &Entry) -> bool {
    let key = |e: &Entry| (e.kind, e.mode, e.uid, e.gid, e.size, e.link.clone(), e.xattrs.clone());
    key(a) == key(b)
}

/// Whether two files are one file copied: everything equal, bytes included, which are read only when all else is.
fn is_same(
    now: &Found,
    now_parent: BorrowedFd<'_>,
    was: &Found,
    was_parent: BorrowedFd<'_>,
    name: &[u8],
    path: &[u8],
) -> Result<bool> {
    if !same_but_time(&now.entry, &was.entry) || now.entry.mtime != was.entry.mtime {
        return Ok(false);
    }
    if now.entry.kind != Kind::File || now.inode == was.inode {
        return Ok(true);
    }
    let io = |e| Error::io::<std::io::Error>("read", path)(e);
    let (mut a, mut b) = (open_in(now_parent, name, path)?, open_in(was_parent, name, path)?);
    let (mut left, mut right) = (vec![0; 128 << 10], vec![0; 128 << 10]);
    loop {
        let count = a.read(&mut left).map_err(io)?;
        if count == 0 {
            return Ok(true);
        }
        let Some(other) = right.get_mut(..count) else { return Ok(false) };
        if b.read_exact(other).is_err() || left.get(..count) != Some(&*other) {
            return Ok(false);
        }
    }
}

fn open_in(parent: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty()).map(File::from).map_err(Error::io("open", path))
}

fn open_file(root: BorrowedFd<'_>, path: &[u8]) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let opened = hoy_sys::path::open_beneath(root, to_path(path), flags, Mode::empty());
    opened.map(File::from).map_err(Error::io("open", path))
}

/// Everything about the file `name` of `parent`; what was recorded because it could not be given counts as given.
fn look(parent: BorrowedFd<'_>, name: &[u8], path: &[u8], as_image: Look<'_>) -> Result<Found> {
    let io = |errno: Errno| Error::io("look at", path)(errno);
    let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(io)?;
    let device = Device { major: major(stat.st_rdev), minor: minor(stat.st_rdev) };
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::CharacterDevice => Kind::Character(device),
        FileType::BlockDevice => Kind::Block(device),
        FileType::Fifo => Kind::Fifo,
        _ => Kind::File,
    };
    let mut entry = Entry::new(path, kind, stat.st_mode & 0o7777);
    (entry.uid, entry.gid) = as_image.owners.in_image(stat.st_uid, stat.st_gid);
    let nanoseconds = u32::try_from(stat.st_mtime_nsec).unwrap_or_default();
    entry.mtime = Time { seconds: stat.st_mtime, nanoseconds };
    match kind {
        Kind::File => entry.size = u64::try_from(stat.st_size).unwrap_or_default(),
        Kind::Symlink => {
            entry.mode = 0o777;
            entry.link = readlinkat(parent, name, Vec::new()).map_err(io)?.into_bytes();
        }
        _ => {}
    }
    if matches!(kind, Kind::File | Kind::Directory) {
        read_xattrs(parent, name, &mut entry).map_err(io)?;
    }
    if let Some(lost) = as_image.unrepresented.and_then(|all| all.get(path)) {
        lost.restore(&mut entry);
    }
    if let Some(all) = as_image.on_paper.filter(|all| !all.is_empty() && !matches!(kind, Kind::File | Kind::Directory))
    {
        let born = statx(parent, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BTIME).map_err(io)?.stx_btime;
        if let Some(ids) = all.get(&(stat.st_ino, born.tv_sec, born.tv_nsec)) {
            (entry.uid, entry.gid) = *ids;
        }
    }
    Ok(Found { entry, inode: (stat.st_dev, stat.st_ino), has_other_names: stat.st_nlink > 1 })
}

fn read_xattrs(parent: BorrowedFd<'_>, name: &[u8], entry: &mut Entry) -> std::result::Result<(), Errno> {
    let path = [through_proc(parent).as_bytes(), b"/", name].concat();
    for attribute in xattr_names(&path)? {
        let is_override = attribute == OVERRIDE_STAT.as_bytes();
        if !is_override && !belongs_to_image(&attribute) {
            continue;
        }
        let mut value = Vec::with_capacity(64 << 10);
        lgetxattr(&path, &attribute, hoy_sys::rustix::buffer::spare_capacity(&mut value))?;
        if !is_override {
            entry.xattrs.insert(attribute, value);
        } else if let Some(stat) = OverrideStat::parse(&value) {
            // What was changed for real since then is newer than the record.
            if (entry.uid, entry.gid) == (0, 0) {
                (entry.uid, entry.gid) = (stat.uid, stat.gid);
            }
            // Setuid bits that were given for real were given later.
            if entry.mode & 0o777 == stat.mode & 0o777 {
                entry.mode |= stat.mode;
            }
            if let Some((is_block, device)) = stat.device {
                entry.kind = if is_block { Kind::Block(device) } else { Kind::Character(device) };
            }
        }
    }
    Ok(())
}

/// What a directory itself is like, as an entry without a name.
///
/// # Errors
/// [`Error::Io`].
pub fn directory_entry(directory: BorrowedFd<'_>) -> Result<Entry> {
    look(directory, b".", b"", Look { owners: &Owners::Same, unrepresented: None, on_paper: None })
        .map(|found| found.entry)
}

/// Makes a directory like `entry`: owner, attributes, mode, time.
///
/// # Errors
/// [`Error::Io`].
pub fn set_directory(directory: BorrowedFd<'_>, entry: &Entry) -> Result<()> {
    set_all(Target::Handle(directory), entry, None, &mut Refused::default())
}
