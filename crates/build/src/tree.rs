//! Reading files and directories as entries.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hoy_containerfile::Ignore;
use hoy_layer::{Archive, Decompressor, Device, Entry, Kind, OVERRIDE_STAT, OverrideStat, Time};
use hoy_sys::rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, fgetxattr, flistxattr, fstat, major, minor, openat, readlinkat, statat,
};
use hoy_sys::rustix::io::Errno;

use crate::destination::Receiver;
use crate::source::{Source, entries};
use crate::{Error, Result};

/// The longest value of an extended attribute: xattr(7).
const MAX_XATTR_BYTES: usize = 64 << 10;
/// Names of attributes that most files have no more of, in bytes.
const FEW_XATTR_BYTES: usize = 256;
/// Deeper trees than any path can name.
const MAX_DEPTH: usize = 2048;

/// Copies sources to where they go.
pub(crate) struct TreeReader<'a> {
    /// What is left out, by paths relative to the context directory.
    pub(crate) ignore: &'a Ignore,
    /// What else is left out, by paths relative to a directory that is copied.
    pub(crate) excludes: Option<&'a Ignore>,
    /// The first name of each file with several.
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl<'a> TreeReader<'a> {
    pub(crate) fn new(ignore: &'a Ignore) -> Self {
        Self { ignore, excludes: None, links: HashMap::new() }
    }

    /// Adds what is in the directory `source`, known to the ignore rules as `shown`, below `target`.
    pub(crate) fn directory(
        &mut self,
        source: BorrowedFd<'_>,
        shown: &[u8],
        target: &[u8],
        to: &mut impl Receiver,
    ) -> Result<()> {
        self.below(source, shown, b"", target, to)
    }

    /// The same for a directory that is `inner` in the one that is copied.
    fn below(
        &mut self,
        source: BorrowedFd<'_>,
        shown: &[u8],
        inner: &[u8],
        target: &[u8],
        to: &mut impl Receiver,
    ) -> Result<()> {
        if shown.iter().filter(|c| **c == b'/').count() > MAX_DEPTH {
            return Err(Error::Refused(format!("\"{}\" is too deep", lossy(shown))));
        }
        for (name, told) in entries(source).map_err(Error::io("read", lossy(shown)))? {
            let (shown, target, inner) = (join(shown, &name), join(target, &name), join(inner, &name));
            let is_hidden = |rules: &Ignore, path: &[u8]| rules.excludes(&lossy(path));
            let by_caller = self.excludes.filter(|rules| is_hidden(rules, &inner));
            let excluded = by_caller.is_some() || is_hidden(self.ignore, &shown);
            if excluded && !by_caller.unwrap_or(self.ignore).has_exceptions() {
                continue;
            }
            let look = || {
                let stat = statat(source, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW);
                stat.map_err(Error::io("look at", lossy(&shown)))
            };
            // What is opened is looked at then, and nothing else is opened.
            let kind = match told {
                FileType::Unknown => FileType::from_raw_mode(look()?.st_mode),
                told => told,
            };
            match kind {
                FileType::Directory => {
                    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let opened = openat(source, name.as_slice(), flags, Mode::empty());
                    let opened = opened.map_err(Error::io("open", lossy(&shown)))?;
                    if !excluded {
                        let stat = fstat(&opened).map_err(Error::io("look at", lossy(&shown)))?;
                        to.add(entry_of(&opened, &stat, &target, Kind::Directory, &shown)?, &mut std::io::empty())?;
                    }
                    self.below(opened.as_fd(), &shown, &inner, &target, to)?;
                }
                _ if excluded => {}
                FileType::RegularFile => {
                    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                    let opened = openat(source, name.as_slice(), flags, Mode::empty());
                    self.file(opened.map_err(Error::io("open", lossy(&shown)))?, &shown, &target, to)?;
                }
                _ => special((source, &name), &look()?, &shown, &target, to)?,
            }
        }
        Ok(())
    }

    /// Adds one regular file as `target`.
    pub(crate) fn file(&mut self, source: OwnedFd, shown: &[u8], target: &[u8], to: &mut impl Receiver) -> Result<()> {
        let stat = fstat(&source).map_err(Error::io("look at", lossy(shown)))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Error::Refused(format!("\"{}\" changed while it was copied", lossy(shown))));
        }
        let mut entry = entry_of(&source, &stat, target, Kind::File, shown)?;
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                entry.kind = Kind::HardLink;
                entry.link.clone_from(first);
                entry.xattrs.clear();
                return to.add(entry, &mut std::io::empty());
            }
            self.links.insert((stat.st_dev, stat.st_ino), target.to_vec());
        }
        if entry.kind != Kind::File {
            return to.add(entry, &mut std::io::empty());
        }
        entry.size = u64::try_from(stat.st_size).unwrap_or_default();
        to.add(entry, &mut File::from(source))
    }
}

/// Adds the link that is open as `source` (with `O_PATH`), as `target`.
pub(crate) fn link(source: &OwnedFd, shown: &[u8], target: &[u8], to: &mut impl Receiver) -> Result<()> {
    let stat = fstat(source).map_err(Error::io("look at", lossy(shown)))?;
    special((source.as_fd(), b""), &stat, shown, target, to)
}

/// Whether this is a link itself.
pub(crate) fn is_link(source: &OwnedFd) -> bool {
    fstat(source).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
}

fn special(
    (directory, name): (BorrowedFd<'_>, &[u8]),
    stat: &Stat,
    shown: &[u8],
    target: &[u8],
    to: &mut impl Receiver,
) -> Result<()> {
    let device = Device { major: major(stat.st_rdev), minor: minor(stat.st_rdev) };
    let mut entry = stated(stat, target, Kind::Fifo);
    entry.kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => {
            let link = readlinkat(directory, name, Vec::new()).map_err(Error::io("read link", lossy(shown)))?;
            entry.link = link.into_bytes();
            Kind::Symlink
        }
        FileType::CharacterDevice => Kind::Character(device),
        FileType::BlockDevice => Kind::Block(device),
        FileType::Fifo => Kind::Fifo,
        FileType::RegularFile | FileType::Directory => {
            return Err(Error::Refused(format!("\"{}\" changed while it was copied", lossy(shown))));
        }
        // A socket is nothing without the process that listens.
        _ => return Ok(()),
    };
    to.add(entry, &mut std::io::empty())
}

fn stated(stat: &Stat, target: &[u8], kind: Kind) -> Entry {
    let mut entry = Entry::new(target, kind, stat.st_mode & 0o7777);
    (entry.uid, entry.gid) = (stat.st_uid, stat.st_gid);
    entry.mtime = mtime(stat);
    entry
}

/// When a file was changed.
pub(crate) fn mtime(stat: &Stat) -> Time {
    Time { seconds: stat.st_mtime, nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or_default() }
}

/// The entry of an open file or directory, of which `stat` tells, with the attributes that belong to an image.
pub(crate) fn entry_of(fd: &OwnedFd, stat: &Stat, target: &[u8], kind: Kind, shown: &[u8]) -> Result<Entry> {
    let mut entry = stated(stat, target, kind);
    let io = || Error::io::<Errno>("read attributes of", lossy(shown));
    // Most have none, or few.
    let mut few = [0; FEW_XATTR_BYTES];
    let list = match flistxattr(fd, few.as_mut_slice()) {
        Ok(length) => few.get(..length).unwrap_or_default().to_vec(),
        Err(Errno::OPNOTSUPP) => Vec::new(),
        Err(Errno::RANGE) => {
            let mut list = vec![0; MAX_XATTR_BYTES];
            let length = flistxattr(fd, list.as_mut_slice()).map_err(io())?;
            list.truncate(length);
            list
        }
        Err(errno) => return Err(io()(errno)),
    };
    for name in list.split(|&c| c == 0) {
        let is_ours = name.starts_with(b"user.") || name == b"security.capability";
        if !is_ours || name.starts_with(b"user.overlay.") {
            continue;
        }
        let mut value = vec![0; MAX_XATTR_BYTES];
        match fgetxattr(fd, name, value.as_mut_slice()) {
            Ok(length) => value.truncate(length),
            Err(Errno::NODATA) => continue,
            Err(errno) => return Err(io()(errno)),
        }
        if name == OVERRIDE_STAT.as_bytes() {
            // What the file should have, where its file system could not say it.
            if let Some(stat) = OverrideStat::parse(&value) {
                (entry.uid, entry.gid, entry.mode) = (stat.uid, stat.gid, stat.mode);
                if let Some((is_block, device)) = stat.device {
                    entry.kind = if is_block { Kind::Block(device) } else { Kind::Character(device) };
                }
            }
            continue;
        }
        entry.xattrs.insert(name.to_vec(), value);
    }
    Ok(entry)
}

/// Adds what is in a local archive below `target`, if `source` is one; whether it was.
pub(crate) fn archive(source: &Source, target: &[u8], to: &mut impl Receiver) -> Result<bool> {
    let shown = source.path.as_path();
    let file = File::from(source.fd.try_clone().map_err(Error::io("open", shown))?);
    let mut start = Vec::new();
    let mut input = BufReader::new(Decompressor::detect(file).map_err(Error::io("read", shown))?);
    let got = input.by_ref().take(512).read_to_end(&mut start);
    if got.is_err() || start.get(257..262) != Some(b"ustar") {
        return Ok(false);
    }
    let mut archive = Archive::new(BufReader::new(start.as_slice().chain(input)));
    to.have_owners(true);
    while let Some(mut entry) = archive.next_entry()? {
        let inner = entry.path.split(|&c| c == b'/').filter(|part| !matches!(*part, b"" | b"."));
        entry.path = inner.fold(target.to_vec(), |path, part| join(&path, part));
        if entry.path == target {
            continue;
        }
        if entry.kind == Kind::HardLink {
            let inner = entry.link.split(|&c| c == b'/').filter(|part| !matches!(*part, b"" | b"."));
            entry.link = inner.fold(target.to_vec(), |path, part| join(&path, part));
        }
        let sparse = entry.sparse.take();
        match sparse {
            None => to.add(entry, &mut archive.data())?,
            Some(pieces) => {
                let mut whole =
                    Expanded { data: archive.data(), pieces: pieces.into_iter(), at: 0, size: entry.size, piece: None };
                to.add(entry, &mut whole)?;
            }
        }
    }
    to.have_owners(false);
    Ok(true)
}

/// A sparse file's bytes with its holes filled in.
struct Expanded<R> {
    data: R,
    pieces: std::vec::IntoIter<(u64, u64)>,
    at: u64,
    size: u64,
    piece: Option<(u64, u64)>,
}

impl<R: Read> Read for Expanded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.piece.is_none_or(|(offset, length)| self.at >= offset + length) {
            match self.pieces.next() {
                Some(piece) => self.piece = Some(piece),
                None => break,
            }
        }
        let (start, end) = self.piece.map_or((self.size, self.size), |(offset, length)| (offset, offset + length));
        let is_hole = self.at < start || self.at >= end;
        let until = if self.at < start {
            start
        } else if self.at < end {
            end
        } else {
            self.size
        };
        let left = usize::try_from(until.saturating_sub(self.at)).unwrap_or(usize::MAX).min(buffer.len());
        let part = buffer.get_mut(..left).unwrap_or_default();
        let count = if is_hole {
            part.fill(0);
            left
        } else {
            self.data.read(part)?
        };
        self.at += count as u64;
        Ok(count)
    }
}

fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}

pub(crate) fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
