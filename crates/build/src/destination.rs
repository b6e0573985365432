//! Where copied files go: below the root of a working container, which may hold anything.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;

use hoy_layer::{Entry, Kind, TarWriter, Time};
use hoy_sys::path::open_in_root;
use hoy_sys::rustix::fs::{FileType, Mode, OFlags, fstat};
use hoy_sys::rustix::io::Errno;

use crate::{Error, Result};

/// What copied files get instead of their own.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Owner {
    /// Owner and group; none keeps them.
    pub(crate) ids: Option<(u32, u32)>,
    /// Permissions; none keeps them.
    pub(crate) mode: Option<u32>,
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
    /// For directories that have to be made on the way.
    made_at: Time,
    known: BTreeSet<Vec<u8>>,
}

impl<'a, W: Write> Destination<'a, W> {
    pub(crate) fn new(root: BorrowedFd<'a>, output: W, owner: Owner, made_at: Time) -> Self {
        Self { root, archive: TarWriter::new(output), owner, made_at, known: BTreeSet::new() }
    }

    /// Adds an entry whose path, and whose hard link's target, are clean and relative to the root.
    ///
    /// A directory that is there already stays as it is, also one behind a link.
    pub(crate) fn add(&mut self, mut entry: Entry, data: &mut impl Read) -> Result<()> {
        let parent =
            entry.path.iter().rposition(|&c| c == b'/').and_then(|at| entry.path.get(..at)).map(<[u8]>::to_vec);
        if let Some(parent) = parent {
            self.directories(&parent)?;
        }
        if entry.kind == Kind::Directory {
            if self.known.contains(&entry.path) || present(self.root, &entry.path, true)? == Present::Directory {
                return Ok(());
            }
            self.known.insert(entry.path.clone());
        } else if present(self.root, &entry.path, false)? == Present::Directory {
            let path = String::from_utf8_lossy(&entry.path).into_owned();
            return Err(Error::Refused(format!("\"/{path}\" is a directory: a file cannot replace it")));
        }
        if let Some((uid, gid)) = self.owner.ids {
            (entry.uid, entry.gid) = (uid, gid);
        }
        if let Some(mode) = self.owner.mode.filter(|_| entry.kind != Kind::Symlink) {
            entry.mode = mode;
        }
        Ok(self.archive.append(&entry, data)?)
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

    /// Ends the archive.
    pub(crate) fn finish(self) -> Result<W> {
        Ok(self.archive.finish()?)
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
