//! Where copied files go: below the root of a working container, which may hold anything.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;

use hoy_layer::{Entry, Kind, TarWriter, Time};
use hoy_oci::{Digest, Hasher, IdMaps};
use hoy_sys::path::open_in_root;
use hoy_sys::rustix::fs::{FileType, Mode, OFlags, fstat};
use hoy_sys::rustix::io::Errno;

use crate::chmod::Chmod;
use crate::{Error, Result};

/// Whose files are that belong to an id which a user namespace has not: user_namespaces(7) "overflowuid".
const NOBODY: u32 = 65_534;

/// What copied files get instead of their own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Owner {
    /// Owner and group; none keeps them.
    pub(crate) ids: Option<(u32, u32)>,
    /// Entries that have owners of their own keep them: nobody asked for these.
    pub(crate) is_weak: bool,
    /// Permissions; none keeps them.
    pub(crate) mode: Option<Chmod>,
}

impl Owner {
    /// Makes an entry this owner's.
    pub(crate) fn give(&self, entry: &mut Entry, has_owner: bool) {
        if let Some((uid, gid)) = self.ids.filter(|_| !(has_owner && self.is_weak)) {
            (entry.uid, entry.gid) = (uid, gid);
        }
        if let (Some(mode), true) = (&self.mode, entry.kind != Kind::Symlink) {
            entry.mode = mode.apply(entry.mode, entry.kind == Kind::Directory);
        }
    }
}

/// What takes entries: paths, and targets of hard links, are clean and have no leading `/`.
pub(crate) trait Receiver {
    /// Takes one entry, and of a regular file its bytes.
    fn add(&mut self, entry: Entry, data: &mut dyn Read) -> Result<()>;

    /// Hears that a file comes next which was named by itself, and how it is called.
    fn begin(&mut self, _: &[u8]) {}

    /// Whether the entries that follow have owners of their own, as those of an archive have.
    fn have_owners(&mut self, _: bool) {}
}

/// What stands at a path of the destination, links followed inside the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Present {
    Nothing,
    Directory,
    Other,
}

/// What stands at `path`, a clean path without a leading `/`.
pub(crate) fn present(root: BorrowedFd<'_>, path: &[u8], follow: bool) -> Result<Present> {
    let flags = if follow { OFlags::PATH } else { OFlags::PATH | OFlags::NOFOLLOW };
    let name = if path.is_empty() { OsStr::new(".") } else { OsStr::from_bytes(path) };
    match open_in_root(root, name, flags, Mode::empty()) {
        Ok(fd) => {
            let stat = fstat(fd).map_err(Error::io("look at", name))?;
            let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            Ok(if is_directory { Present::Directory } else { Present::Other })
        }
        Err(error) if matches!(error.errno, Errno::NOENT | Errno::NOTDIR) => Ok(Present::Nothing),
        Err(error) => Err(Error::io("look at", name)(error)),
    }
}

/// The entries of a copy, as an archive for whoever unpacks it into the root.
pub(crate) struct Destination<'a, W: Write> {
    root: BorrowedFd<'a>,
    archive: TarWriter<W>,
    owner: Owner,
    has_owners: bool,
    /// For directories that have to be made on the way.
    made_at: Time,
    known: BTreeSet<Vec<u8>>,
    /// The ids on disk of those in the root, where that belongs to another user namespace; and of those in the source.
    pub(crate) ids: Option<IdMaps>,
    pub(crate) source_ids: Option<IdMaps>,
    /// The time of all that is copied, instead of its own.
    pub(crate) time: Option<Time>,
    /// Of all that was asked for, whatever of it is there already.
    content: Hasher,
}

impl<'a, W: Write> Destination<'a, W> {
    pub(crate) fn new(root: BorrowedFd<'a>, output: W, owner: Owner, made_at: Time) -> Self {
        Self {
            root,
            archive: TarWriter::new(output),
            owner,
            has_owners: false,
            made_at,
            known: BTreeSet::new(),
            ids: None,
            source_ids: None,
            time: None,
            content: Hasher::new(),
        }
    }

    /// Makes the directory `path` and those above it where they are missing: mode 755, the copy's owner or root.
    pub(crate) fn directories(&mut self, path: &[u8]) -> Result<()> {
        let ends = path.iter().enumerate().filter(|(_, c)| **c == b'/').map(|(at, _)| at).chain([path.len()]);
        for end in ends.collect::<Vec<_>>() {
            let above = path.get(..end).unwrap_or_default();
            if above.is_empty() || self.known.contains(above) {
                continue;
            }
            self.known.insert(above.to_vec());
            match present(self.root, above, true)? {
                Present::Directory => {}
                Present::Nothing if present(self.root, above, false)? == Present::Nothing => {
                    let (uid, gid) = self.owner.ids.unwrap_or_default();
                    let mut entry = Entry::new(above, Kind::Directory, 0o755);
                    (entry.uid, entry.gid, entry.mtime) = (uid, gid, self.made_at);
                    self.on_disk(&mut entry)?;
                    self.archive.append(&entry, &mut std::io::empty())?;
                }
                Present::Nothing | Present::Other => {
                    let path = String::from_utf8_lossy(above).into_owned();
                    return Err(Error::Refused(format!("\"/{path}\" is in the way: it is no directory")));
                }
            }
        }
        Ok(())
    }

    /// Gives an entry the owner that it has on disk.
    fn on_disk(&self, entry: &mut Entry) -> Result<()> {
        let Some(ids) = &self.ids else { return Ok(()) };
        let none = || Error::no_such_id(entry.uid, entry.gid);
        (entry.uid, entry.gid) = ids.host_uid(entry.uid).zip(ids.host_gid(entry.gid)).ok_or_else(none)?;
        Ok(())
    }

    /// Ends the archive; returns the digest of its content.
    pub(crate) fn finish(self) -> Result<(W, Digest)> {
        Ok((self.archive.finish()?, self.content.finish()))
    }
}

impl<W: Write> Receiver for Destination<'_, W> {
    fn have_owners(&mut self, has_owners: bool) {
        self.has_owners = has_owners;
    }

    /// A directory that is there already stays as it is, also one behind a link.
    fn add(&mut self, mut entry: Entry, data: &mut dyn Read) -> Result<()> {
        let shown = || format!("/{}", String::from_utf8_lossy(&entry.path));
        refuse_whiteout(&entry.path)?;
        let is_directory = entry.kind == Kind::Directory;
        if !is_directory && present(self.root, &entry.path, false)? == Present::Directory {
            return Err(Error::Refused(format!("\"{}\" is a directory: a file cannot replace it", shown())));
        }
        if let Some(ids) = &self.source_ids {
            // What is nobody's there is nobody's here.
            let inside = ids.container_uid(entry.uid).zip(ids.container_gid(entry.gid));
            (entry.uid, entry.gid) = inside.unwrap_or((NOBODY, NOBODY));
        }
        entry.mtime = self.time.unwrap_or(entry.mtime);
        self.owner.give(&mut entry, self.has_owners);
        self.content.update(&described(&entry));
        if let Some(parent) = entry.path.iter().rposition(|&c| c == b'/').and_then(|at| entry.path.get(..at)) {
            self.directories(parent)?;
        }
        if is_directory {
            let is_new = self.known.insert(entry.path.clone());
            if !is_new || present(self.root, &entry.path, true)? == Present::Directory {
                return Ok(());
            }
        }
        self.on_disk(&mut entry)?;
        Ok(self.archive.append(&entry, &mut Heard { data, by: &mut self.content })?)
    }
}

/// How names begin that mean a deletion in a layer (image-spec layer.md "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";

/// No layer can say what such a file is.
pub(crate) fn refuse_whiteout(path: &[u8]) -> Result<()> {
    if path.split(|&c| c == b'/').any(|part| part.starts_with(WHITEOUT)) {
        let path = String::from_utf8_lossy(path);
        return Err(Error::Refused(format!("\"/{path}\": no layer can hold a name that begins with .wh.")));
    }
    Ok(())
}

/// An entry's facts as bytes of which no two entries have the same.
pub(crate) fn described(entry: &Entry) -> Vec<u8> {
    let kind = match entry.kind {
        Kind::File => [0, 0, 0],
        Kind::HardLink => [1, 0, 0],
        Kind::Symlink => [2, 0, 0],
        Kind::Character(device) => [3, device.major, device.minor],
        Kind::Block(device) => [4, device.major, device.minor],
        Kind::Directory => [5, 0, 0],
        Kind::Fifo => [6, 0, 0],
    };
    let mut bytes = Vec::new();
    for number in kind.into_iter().chain([entry.mode, entry.uid, entry.gid, entry.mtime.nanoseconds]) {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(entry.size.to_le_bytes());
    bytes.extend(entry.mtime.seconds.to_le_bytes());
    let texts = [&entry.path, &entry.link].into_iter().chain(entry.xattrs.iter().flat_map(|(n, v)| [n, v]));
    for text in texts {
        bytes.extend((text.len() as u64).to_le_bytes());
        bytes.extend(text);
    }
    bytes
}

/// A reader whose bytes are hashed as they pass.
pub(crate) struct Heard<'a, W> {
    pub(crate) data: &'a mut dyn Read,
    pub(crate) by: &'a mut W,
}

impl<W: Write> Read for Heard<'_, W> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.data.read(buffer)?;
        self.by.write_all(buffer.get(..count).unwrap_or_default())?;
        Ok(count)
    }
}

/// `path` below the directory `base`, both as typed, without `.`, `..`, doubled or leading `/`.
pub(crate) fn clean(base: &str, path: &str) -> Vec<u8> {
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("{base}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_the_root() {
        for (base, path, want) in [
            ("", "a", "a"),
            ("/w", "a/b/", "w/a/b"),
            ("/w", "/x//y", "x/y"),
            ("/w", "../../../etc", "etc"),
            ("/", ".", ""),
            ("w", "./a/../b", "w/b"),
        ] {
            assert_eq!(clean(base, path), want.as_bytes(), "{base} {path}");
        }
    }
}
