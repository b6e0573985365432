//! Unpacking a layer below a root descriptor, in one pass over its bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;

use hoy_oci::Digest;
use hoy_sys::rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, XattrFlags, fstat, linkat, llistxattr, makedev, mkdirat, mknodat, openat,
    removexattr, setxattr, statat, symlinkat, unlinkat,
};
use hoy_sys::rustix::io::Errno;
use hoy_sys::rustix::path::Arg;

use crate::entry::{join, normalize, split, to_path};
use crate::metadata::{
    Refused, Target, Unrepresented, set_all, set_mode_and_time, set_mtime, set_owner_and_xattrs, through_proc,
};
use crate::place::Places;
use crate::stream::{CHUNKS, Chunks, pump};
use crate::whiteout::{self, OverlayXattrs, Whiteout};
use crate::{Archive, Device, Entry, Error, Kind, Result, Time};

/// What the tree is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// A lower directory of overlayfs: whiteouts become overlayfs's, and what the layers below have is not known.
    Overlay(OverlayXattrs),
    /// A root file system with the layers below already in it: whiteouts delete.
    Plain,
}

/// The most that a layer may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all files together as the archive stores them.
    pub bytes: u64,
    /// Entries.
    pub entries: u64,
}

impl Default for Limits {
    /// As much as the file system takes.
    fn default() -> Self {
        Self { bytes: u64::MAX, entries: u64::MAX }
    }
}

/// What was unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The digest of the uncompressed archive.
    pub diff_id: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// How many entries it has.
    pub entries: u64,
    /// Directories that had to be made although no entry names them; the layers below may know better.
    pub implicit: Vec<PathBuf>,
    /// The archive says what the root directory itself is like.
    pub has_root_entry: bool,
    /// Everything in the layers below is hidden.
    pub hides_all_below: bool,
    /// What of which files could be represented in no way, by their names.
    pub unrepresented: BTreeMap<Vec<u8>, Unrepresented>,
    /// How many extended attributes could not be set.
    pub refused_xattrs: u64,
}

/// Unpacks the uncompressed archive `input` below `root`, and reads it to its end.
///
/// Nothing outside `root` is read or changed, whatever the archive holds. A failure leaves a part of the tree there.
///
/// # Errors
/// [`Error::NeedsParents`] in the overlay flavour when the layer can only be unpacked on top of those below it;
/// [`Error::Malformed`], [`Error::Refused`], [`Error::Limit`], [`Error::Read`], [`Error::Io`].
pub fn unpack(input: impl Read + Send, root: BorrowedFd<'_>, flavour: Flavour, limits: Limits) -> Result<Report> {
    let (sender, receiver) = std::sync::mpsc::sync_channel(CHUNKS);
    std::thread::scope(|scope| {
        let pump = scope.spawn(move || pump(input, &sender));
        let mut unpacker = Unpacker::new(root, flavour, limits);
        let mut archive = Archive::new(Chunks::new(receiver));
        let unpacked = unpacker.run(&mut archive);
        // Without a receiver the pump stops.
        drop(archive);
        let lost = || Error::Read(std::io::Error::other("the reading thread ended"));
        let (diff_id, size) = pump.join().map_err(|_| lost())?;
        unpacked.map(|()| unpacker.report(diff_id, size))
    })
}

/// A directory whose mode and time are set when nothing is written into it any more.
struct Pending {
    mode: u32,
    mtime: Time,
    inode: (u64, u64),
}

struct Unpacker<'a> {
    places: Places<'a>,
    flavour: Flavour,
    limits: Limits,
    pending: BTreeMap<Vec<u8>, Pending>,
    /// In the plain flavour, what this layer brought: whiteouts of this layer do not apply to it.
    brought: BTreeSet<Vec<u8>>,
    /// Directories in which nothing is any more but what this layer brought.
    cleared: BTreeSet<Vec<u8>>,
    refused: Refused,
    bytes: u64,
    entries: u64,
    has_root_entry: bool,
    hides_all_below: bool,
}

impl<'a> Unpacker<'a> {
    fn new(root: BorrowedFd<'a>, flavour: Flavour, limits: Limits) -> Self {
        Self {
            places: Places::new(root, flavour == Flavour::Plain),
            flavour,
            limits,
            pending: BTreeMap::new(),
            brought: BTreeSet::new(),
            cleared: BTreeSet::new(),
            refused: Refused::default(),
            bytes: 0,
            entries: 0,
            has_root_entry: false,
            hides_all_below: false,
        }
    }

    fn run<R: BufRead>(&mut self, archive: &mut Archive<R>) -> Result<()> {
        while let Some(mut entry) = archive.next_entry()? {
            self.entries += 1;
            self.bytes = self.bytes.saturating_add(entry.size);
            if self.entries > self.limits.entries {
                return Err(Error::Limit { what: "entries", limit: self.limits.entries });
            }
            if self.bytes > self.limits.bytes {
                return Err(Error::Limit { what: "bytes", limit: self.limits.bytes });
            }
            entry.path = normalize(&entry.path)?;
            self.place(&entry, archive)?;
        }
        archive.drain()?;
        self.finish_directories()
    }

    fn report(self, diff_id: Digest, size: u64) -> Report {
        Report {
            diff_id,
            size,
            entries: self.entries,
            implicit: self.places.implicit.iter().map(|path| to_path(path)).collect(),
            has_root_entry: self.has_root_entry,
            hides_all_below: self.hides_all_below,
            unrepresented: self.refused.files,
            refused_xattrs: self.refused.xattrs,
        }
    }

    fn place<R: BufRead>(&mut self, entry: &Entry, archive: &mut Archive<R>) -> Result<()> {
        if entry.path.is_empty() {
            return self.root(entry);
        }
        let (parent_path, name) = split(&entry.path);
        if parent_path.split(|&c| c == b'/').any(|part| part.starts_with(whiteout::PREFIX)) {
            return Err(Error::refused(&entry.path, "it is inside a whiteout"));
        }
        let parent = self.places.directory(parent_path)?;
        match whiteout::parse(name) {
            Whiteout::None => {}
            Whiteout::Name(name) => return self.whiteout(&entry.path, parent.as_fd(), parent_path, name),
            Whiteout::Opaque => return self.opaque(parent_path, parent.as_fd()),
            Whiteout::Bookkeeping => return Ok(()),
            Whiteout::Invalid => return Err(Error::refused(&entry.path, "it is a whiteout of no name")),
        }
        if self.flavour == Flavour::Plain {
            self.brought.insert(entry.path.clone());
        }
        match entry.kind {
            Kind::Directory => self.directory(entry, &parent, name),
            Kind::File => self.file(entry, parent.as_fd(), name, archive),
            Kind::HardLink => self.hard_link(entry, parent.as_fd(), name),
            Kind::Symlink => {
                self.make(entry, parent.as_fd(), name, |parent| symlinkat(entry.link.as_slice(), parent, name))?;
                set_all(Target::Link(parent.as_fd(), name), entry, None, &mut self.refused)
            }
            Kind::Character(_) | Kind::Block(_) | Kind::Fifo => self.node(entry, parent.as_fd(), name),
        }
    }

    fn root(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != Kind::Directory {
            return Err(Error::refused(b"/", "the root of a layer is no directory"));
        }
        self.has_root_entry = true;
        let entry = Entry { path: b".".to_vec(), ..entry.clone() };
        self.directory_metadata(&entry, self.places.root(), Vec::new())
    }

    /// Calls `create`; what stands in its way is removed first.
    fn make<T>(
        &mut self,
        entry: &Entry,
        parent: BorrowedFd<'_>,
        name: &[u8],
        create: impl Fn(BorrowedFd<'_>) -> std::result::Result<T, Errno>,
    ) -> Result<T> {
        match create(parent) {
            Err(Errno::EXIST) => {
                self.remove(&entry.path, parent, name)?;
                create(parent).map_err(Error::io("create", &entry.path))
            }
            other => other.map_err(Error::io("create", &entry.path)),
        }
    }

    /// Removes whatever has this name, with everything in it.
    fn remove(&mut self, path: &[u8], parent: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
        let stat = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            other => other.map_err(Error::io("look at", path))?,
        };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            // A tree removed by descriptors, never through a link: std::fs::remove_dir_all, "Platform-specific behavior".
            let path_name = [through_proc(parent).as_bytes(), b"/", name].concat();
            std::fs::remove_dir_all(to_path(&path_name)).map_err(Error::io("remove", path))?;
            self.pending.remove(path);
            self.pending.extract_if(below(path), |_, _| true).for_each(drop);
            self.brought.extract_if(below(path), |_| true).for_each(drop);
        } else {
            unlinkat(parent, name, AtFlags::empty()).map_err(Error::io("remove", path))?;
        }
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            self.places.forget();
            // What a link led to is not what its successor leads to.
            self.cleared.remove(path);
            self.cleared.extract_if(below(path), |_| true).for_each(drop);
        }
        Ok(())
    }

    fn directory(&mut self, entry: &Entry, parent: &Rc<OwnedFd>, name: &[u8]) -> Result<()> {
        let made = mkdirat(parent, name, Mode::RWXU);
        if made == Err(Errno::EXIST) {
            let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(Error::io("look at", &entry.path))?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                self.remove(&entry.path, parent.as_fd(), name)?;
                mkdirat(parent, name, Mode::RWXU).map_err(Error::io("create", &entry.path))?;
                // The whiteout that stood here hid what lower layers have below.
                if let Flavour::Overlay(xattrs) = self.flavour
                    && is_whiteout(&stat)
                {
                    let fd = self.open_directory(parent.as_fd(), name, &entry.path)?;
                    set_opaque(fd.as_fd(), xattrs).map_err(Error::io("set an attribute of", &entry.path))?;
                }
            } else {
                let fd = self.open_directory(parent.as_fd(), name, &entry.path)?;
                clear_xattrs(fd.as_fd()).map_err(Error::io("remove an attribute of", &entry.path))?;
            }
        } else {
            made.map_err(Error::io("create", &entry.path))?;
        }
        let fd = self.open_directory(parent.as_fd(), name, &entry.path)?;
        self.directory_metadata(entry, fd.as_fd(), entry.path.clone())
    }

    fn open_directory(&self, parent: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(parent, name, flags, Mode::empty()).map_err(Error::io("open", path))
    }

    fn directory_metadata(&mut self, entry: &Entry, fd: BorrowedFd<'_>, key: Vec<u8>) -> Result<()> {
        // The root is somebody else's descriptor, and possibly not one with O_PATH; both kinds go through /proc.
        let mode = set_owner_and_xattrs(Target::Handle(fd), entry, None, &mut self.refused)?;
        let stat = fstat(fd).map_err(Error::io("look at", &entry.path))?;
        let pending = Pending { mode, mtime: entry.mtime, inode: (stat.st_dev, stat.st_ino) };
        self.places.implicit.remove(&key);
        self.pending.insert(key, pending);
        Ok(())
    }

    fn file<R: BufRead>(
        &mut self,
        entry: &Entry,
        parent: BorrowedFd<'_>,
        name: &[u8],
        archive: &mut Archive<R>,
    ) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Mostly what it is to have in the end: but for a umask, and the bits that wait for the owner.
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        let create = |parent: BorrowedFd<'_>| openat(parent, name, flags, mode);
        let file = File::from(self.make(entry, parent, name, create)?);
        write_data(entry, &file, archive)?;
        set_all(Target::Open(file.as_fd()), entry, None, &mut self.refused)
    }

    fn hard_link(&mut self, entry: &Entry, parent: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
        let target =
            normalize(&entry.link).map_err(|_| Error::refused(&entry.path, "it is a hard link out of the root"))?;
        if target == entry.path {
            return Ok(());
        }
        let flavour = self.flavour;
        let missing = || match flavour {
            Flavour::Overlay(_) => {
                Error::parents(&entry.path, "its hard link leads to a file that is not in this layer")
            }
            Flavour::Plain => Error::refused(&entry.path, "its hard link leads to a file that does not exist"),
        };
        // A disk that fails says nothing about what is there.
        let unseen = |errno| match errno {
            Errno::IO => Error::io("look at", &target)(errno),
            _ => missing(),
        };
        let (target_parent, target_name) = split(&target);
        if target_name.is_empty() {
            return Err(Error::refused(&entry.path, "it is a hard link to a directory"));
        }
        let target_parent = self.places.existing(target_parent).map_err(unseen)?;
        let stat = statat(&target_parent, target_name, AtFlags::SYMLINK_NOFOLLOW).map_err(unseen)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => return Err(Error::refused(&entry.path, "it is a hard link to a directory")),
            FileType::CharacterDevice if is_whiteout(&stat) => return Err(missing()),
            _ => {}
        }
        // Linking to itself under another spelling must not remove the only name.
        let own = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map(|own| (own.st_dev, own.st_ino));
        if own == Ok((stat.st_dev, stat.st_ino)) {
            return Ok(());
        }
        self.make(entry, parent, name, |parent| linkat(&target_parent, target_name, parent, name, AtFlags::empty()))?;
        if let Some(lost) = self.refused.files.get(&target) {
            let lost = lost.clone();
            self.refused.files.insert(entry.path.clone(), lost);
        }
        Ok(())
    }

    fn node(&mut self, entry: &Entry, parent: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
        let (kind, device) = match entry.kind {
            Kind::Character(device) => (FileType::CharacterDevice, device),
            Kind::Block(device) => (FileType::BlockDevice, device),
            _ => (FileType::Fifo, Device { major: 0, minor: 0 }),
        };
        if kind == FileType::CharacterDevice && device == (Device { major: 0, minor: 0 }) {
            return Err(Error::refused(&entry.path, "character device 0:0 is overlayfs's mark of a deletion"));
        }
        let number = makedev(device.major, device.minor);
        let made =
            self.make(entry, parent, name, |parent| mknodat(parent, name, kind, Mode::RUSR | Mode::WUSR, number));
        let stand_in = match made {
            Ok(()) => None,
            // Devices are not for ordinary users: an empty file stands for one.
            Err(Error::Io { ref source, .. })
                if source.kind() == std::io::ErrorKind::PermissionDenied && kind != FileType::Fifo =>
            {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                self.make(entry, parent, name, |parent| openat(parent, name, flags, Mode::RUSR | Mode::WUSR))?;
                Some((kind == FileType::BlockDevice, device))
            }
            Err(error) => return Err(error),
        };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(parent, name, flags, Mode::empty()).map_err(Error::io("open", &entry.path))?;
        set_all(Target::Handle(fd.as_fd()), entry, stand_in, &mut self.refused)
    }

    fn whiteout(&mut self, path: &[u8], parent: BorrowedFd<'_>, parent_path: &[u8], name: &[u8]) -> Result<()> {
        let hidden = join(parent_path, name);
        let Flavour::Overlay(xattrs) = self.flavour else {
            return self.delete_below(&hidden, parent, name);
        };
        match mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) => set_origin(parent, xattrs).map_err(Error::io("set an attribute of", parent_path)),
            // This layer brought the name already: the whiteout is about the layers below (layer.md "Whiteouts").
            Err(Errno::EXIST) => match self.open_directory(parent, name, path) {
                Ok(fd) => set_opaque(fd.as_fd(), xattrs).map_err(Error::io("set an attribute of", path)),
                Err(_) => Ok(()),
            },
            Err(errno) => Err(Error::io("create", path)(errno)),
        }
    }

    fn opaque(&mut self, path: &[u8], directory: BorrowedFd<'_>) -> Result<()> {
        match self.flavour {
            Flavour::Plain => self.delete_children(path, directory),
            Flavour::Overlay(_) if path.is_empty() => {
                self.hides_all_below = true;
                Ok(())
            }
            Flavour::Overlay(xattrs) => set_opaque(directory, xattrs).map_err(Error::io("set an attribute of", path)),
        }
    }

    /// Deletes `path` unless this layer brought it; of a directory that it brought, what it did not bring.
    fn delete_below(&mut self, path: &[u8], parent: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
        if !self.brought.contains(path) && !self.has_brought_below(path) {
            return self.remove(path, parent, name);
        }
        match self.open_directory(parent, name, path) {
            Ok(directory) => self.delete_children(path, directory.as_fd()),
            Err(_) => Ok(()),
        }
    }

    fn has_brought_below(&self, path: &[u8]) -> bool {
        self.brought.range(below(path)).next().is_some()
    }

    fn delete_children(&mut self, path: &[u8], directory: BorrowedFd<'_>) -> Result<()> {
        if !self.cleared.insert(path.to_vec()) {
            return Ok(());
        }
        for name in names(directory).map_err(Error::io("read", path))? {
            self.delete_below(&join(path, &name), directory, &name)?;
        }
        Ok(())
    }

    /// Children come before their parents, whose times they would change.
    fn finish_directories(&mut self) -> Result<()> {
        for (path, found) in self.places.found.take().into_iter().flatten() {
            if let Ok(fd) = self.places.existing(&path) {
                let stat = fstat(&fd).map_err(Error::io("look at", &path))?;
                if (stat.st_dev, stat.st_ino) == found.inode && !self.pending.contains_key(&path) {
                    set_mtime(Target::Handle(fd.as_fd()), &path, found.mtime)?;
                }
            }
        }
        let implicit = std::mem::take(&mut self.places.implicit);
        for path in &implicit {
            if let Ok(fd) = self.places.existing(path) {
                set_mode_and_time(Target::Handle(fd.as_fd()), path, 0o755, Time::default())?;
            }
        }
        self.places.implicit = implicit;
        for (path, pending) in std::mem::take(&mut self.pending).into_iter().rev() {
            let Ok(fd) = self.places.existing(&path) else { continue };
            // A link that came later may lead elsewhere now.
            let stat = fstat(&fd).map_err(Error::io("look at", &path))?;
            if (stat.st_dev, stat.st_ino) == pending.inode {
                set_mode_and_time(Target::Handle(fd.as_fd()), &path, pending.mode, pending.mtime)?;
            }
        }
        Ok(())
    }
}

/// All names below `path`, which is not the root: '0' is the byte that follows '/'.
fn below(path: &[u8]) -> std::ops::Range<Vec<u8>> {
    join(path, b"")..[path, b"0"].concat()
}

fn is_whiteout(stat: &hoy_sys::rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Takes away what an earlier description of the directory gave it.
fn clear_xattrs(directory: BorrowedFd<'_>) -> std::result::Result<(), Errno> {
    // The directory, and not the link that leads to it.
    let path = format!("{}/.", through_proc(directory));
    for name in xattr_names(&path)? {
        if whiteout::belongs_to_image(&name) || name == crate::OVERRIDE_STAT.as_bytes() {
            removexattr(&path, &name)?;
        }
    }
    Ok(())
}

/// The names of the extended attributes of `path`; none where the file system has none.
pub(crate) fn xattr_names(path: impl Arg) -> std::result::Result<Vec<Vec<u8>>, Errno> {
    let mut list = Vec::with_capacity(64 << 10);
    match llistxattr(path, hoy_sys::rustix::buffer::spare_capacity(&mut list)) {
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        other => other?,
    };
    Ok(list.split(|&c| c == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
}

fn set_opaque(directory: BorrowedFd<'_>, xattrs: OverlayXattrs) -> std::result::Result<(), Errno> {
    setxattr(through_proc(directory), xattrs.opaque(), b"y", XattrFlags::empty())
}

/// Has overlayfs hide the whiteouts in a directory also where nothing below it has that directory; it would list them
/// as names of nothing (fs/overlayfs: a directory "that may have whiteouts" is a merged one or one with an origin).
fn set_origin(directory: BorrowedFd<'_>, xattrs: OverlayXattrs) -> std::result::Result<(), Errno> {
    setxattr(through_proc(directory), xattrs.origin(), b"", XattrFlags::empty())
}

/// The names in a directory, which may be open with `O_PATH`, sorted by their bytes.
pub(crate) fn names(directory: BorrowedFd<'_>) -> std::result::Result<Vec<Vec<u8>>, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut names = Vec::new();
    for entry in Dir::new(openat(directory, ".", flags, Mode::empty())?)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if !matches!(name.as_slice(), b"." | b"..") {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn write_data<R: BufRead>(entry: &Entry, mut file: &File, archive: &mut Archive<R>) -> Result<()> {
    let mut data = archive.data();
    let Some(map) = &entry.sparse else {
        return copy(&mut data, entry.size, file, &entry.path);
    };
    for &(offset, length) in map {
        file.seek(SeekFrom::Start(offset)).map_err(Error::io("write", &entry.path))?;
        copy(&mut data, length, file, &entry.path)?;
    }
    file.set_len(entry.size).map_err(Error::io("write", &entry.path))
}

fn copy(data: &mut impl BufRead, length: u64, mut file: &File, path: &[u8]) -> Result<()> {
    let mut left = length;
    while left > 0 {
        let buffer = data.fill_buf().map_err(Error::Read)?;
        let count = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let piece = buffer.get(..count).unwrap_or_default();
        if piece.is_empty() {
            return Err(Error::Read(std::io::ErrorKind::UnexpectedEof.into()));
        }
        file.write_all(piece).map_err(Error::io("write", path))?;
        data.consume(count);
        left -= count as u64;
    }
    Ok(())
}
