//! One entry of an archive, whatever dialect it was written in.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::{Error, Result};

/// A moment as files have it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Seconds since the epoch.
    pub seconds: i64,
    /// Nanoseconds after that, below 1,000,000,000.
    pub nanoseconds: u32,
}

/// A device's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// The driver.
    pub major: u32,
    /// The driver's own number.
    pub minor: u32,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file; its bytes follow the header.
    File,
    /// Another name for an earlier entry.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    Character(Device),
    /// A block device.
    Block(Device),
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

/// One entry: a header with everything that PAX and GNU records say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name as written, any bytes but NUL.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permissions with setuid, setgid and sticky, at most 0o7777.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The file's length in bytes, holes included.
    pub size: u64,
    /// When it was changed.
    pub mtime: Time,
    /// The target of a symbolic or hard link.
    pub link: Vec<u8>,
    /// Extended attributes by their full names.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Where the bytes that follow belong, as offset and length; none for a file without holes.
    pub sparse: Option<Vec<(u64, u64)>>,
}

impl Entry {
    /// An entry with a name and nothing else of its own.
    pub fn new(path: impl Into<Vec<u8>>, kind: Kind, mode: u32) -> Self {
        Self {
            path: path.into(),
            kind,
            mode,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: Time::default(),
            link: Vec::new(),
            xattrs: BTreeMap::new(),
            sparse: None,
        }
    }
}

pub(crate) fn to_path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes.to_vec()))
}

/// The name without leading `/`, empty and `.` components; empty for the root itself.
///
/// # Errors
/// [`Error::Refused`] for `..` anywhere: no honest layer has it, and what it means differs from reader to reader.
pub(crate) fn normalize(name: &[u8]) -> Result<Vec<u8>> {
    let mut clean = Vec::with_capacity(name.len());
    for component in name.split(|&c| c == b'/') {
        match component {
            b"" | b"." => {}
            b".." => return Err(Error::refused(name, "its name contains \"..\"")),
            _ => {
                if !clean.is_empty() {
                    clean.push(b'/');
                }
                clean.extend_from_slice(component);
            }
        }
    }
    Ok(clean)
}

/// A normalized path's parent (empty: the root) and last component.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&c| c == b'/') {
        Some(at) => (path.get(..at).unwrap_or_default(), path.get(at + 1..).unwrap_or_default()),
        None => (b"", path),
    }
}

/// `parent/name`, where an empty parent is the root.
pub(crate) fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    match parent {
        b"" => name.to_vec(),
        _ => [parent, b"/", name].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let clean = |name: &str| normalize(name.as_bytes()).ok().map(|n| String::from_utf8(n).unwrap());
        for (name, want) in [
            ("a/b", Some("a/b")),
            ("./a//b/.", Some("a/b")),
            ("/a", Some("a")),
            (".", Some("")),
            ("/.", Some("")),
            ("../a", None),
            ("a/../../b", None),
            ("..a/b..", Some("..a/b..")),
        ] {
            assert_eq!(clean(name).as_deref(), want, "{name}");
        }
        assert_eq!(split(b"a/b/c"), (&b"a/b"[..], &b"c"[..]));
        assert_eq!(join(split(b"c").0, b"d"), b"d");
    }
}
