//! Reading members of a tar without unpacking it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use hoy_layer::{Compression, Decompressor};
use hoy_oci::MAX_DOCUMENT_BYTES;

use crate::{Error, Result};

/// More members than any image archive has; each costs memory.
const MAX_MEMBERS: usize = 1 << 20;
/// How many links a name is followed through.
const MAX_LINKS: usize = 8;

/// An archive of an image: an index of its members, and the file they are in.
#[derive(Debug)]
pub(crate) struct Archive {
    file: File,
    path: PathBuf,
    members: HashMap<String, Member>,
}

#[derive(Debug, Clone)]
enum Member {
    Content { offset: u64, size: u64 },
    Link(String),
}

/// A stretch of a file, read by position so that threads do not disturb each other.
pub(crate) struct Section<'a> {
    file: &'a File,
    offset: u64,
    left: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(buffer.get_mut(..most).unwrap_or_default(), self.offset)?;
        self.offset += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

impl Archive {
    /// The archive at `path`, or on standard input for `-`. What cannot be read twice, a pipe or a compressed archive, is
    /// kept in a nameless file in `spool` meanwhile.
    pub(crate) fn open(path: &Path, spool: &Path) -> Result<Self> {
        Self::scanned(open_plain(path, spool)?, path)
    }

    /// The archive that `input` gives, which is kept in `spool`; errors call it `path`.
    pub(crate) fn receive(input: impl Read, path: &Path, spool: &Path) -> Result<Self> {
        Self::scanned(spooled(input, path, spool)?, path)
    }

    fn scanned(file: File, path: &Path) -> Result<Self> {
        let members =
            scan(&file).map_err(|reason| Error::Archive { path: path.to_owned(), reason: reason.to_owned() })?;
        Ok(Self { file, path: path.to_owned(), members })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The reason why this archive cannot be used, as an error.
    pub(crate) fn wrong(&self, reason: impl Into<String>) -> Error {
        Error::Archive { path: self.path.clone(), reason: reason.into() }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// Where a member's bytes are; links are followed.
    fn find(&self, name: &str) -> Option<(u64, u64)> {
        let mut name = normal("", name);
        for _ in 0..MAX_LINKS {
            match self.members.get(&name)? {
                Member::Content { offset, size } => return Some((*offset, *size)),
                Member::Link(target) => name.clone_from(target),
            }
        }
        None
    }

    /// A member's bytes and how many they are.
    pub(crate) fn section(&self, name: &str) -> Result<(Section<'_>, u64)> {
        let (offset, size) = self.find(name).ok_or_else(|| self.wrong(format!("it has no member \"{name}\"")))?;
        Ok((Section { file: &self.file, offset, left: size }, size))
    }

    /// A member's bytes from `offset` on.
    pub(crate) fn section_from(&self, name: &str, offset: u64) -> Result<Section<'_>> {
        let (mut section, size) = self.section(name)?;
        let skipped = offset.min(size);
        section.offset += skipped;
        section.left -= skipped;
        Ok(section)
    }

    /// All of a small member.
    pub(crate) fn document(&self, name: &str) -> Result<Vec<u8>> {
        let (mut section, size) = self.section(name)?;
        if size > MAX_DOCUMENT_BYTES {
            return Err(self.wrong(format!("its member \"{name}\" of {size} bytes is over the limit of 4 MiB")));
        }
        let mut bytes = Vec::new();
        section.read_to_end(&mut bytes).map_err(Error::io("read", &self.path))?;
        if bytes.len() as u64 != size {
            return Err(self.wrong(format!("it ends within its member \"{name}\"")));
        }
        Ok(bytes)
    }
}

/// The file at `path`, uncompressed and ready to be read by position; `-` is standard input. What cannot be read twice, a
/// pipe or a compressed file, is kept in a nameless file in `spool`.
pub(crate) fn open_plain(path: &Path, spool: &Path) -> Result<File> {
    let mut file = open_input(path)?;
    let is_file = file.metadata().map_err(Error::io("look at", path))?.is_file();
    let mut magic = [0; 10];
    let is_plain = is_file && file.stream_position().is_ok_and(|at| at == 0) && {
        let count = file.read_at(&mut magic, 0).map_err(Error::io("read", path))?;
        Compression::of(magic.get(..count).unwrap_or_default()) == Compression::None
    };
    if is_plain { Ok(file) } else { spooled(file, path, spool) }
}

/// The file at `path`; `-` is standard input.
pub(crate) fn open_input(path: &Path) -> Result<File> {
    if path == Path::new("-") {
        return Ok(File::from(io::stdin().as_fd().try_clone_to_owned().map_err(Error::io("open", path))?));
    }
    File::open(path).map_err(Error::io("open", path))
}

/// `input`, uncompressed, in a nameless file in `spool`.
pub(crate) fn spooled(input: impl Read, path: &Path, spool: &Path) -> Result<File> {
    let mut output = tempfile::tempfile_in(spool).map_err(Error::io("make a temporary file in", spool))?;
    let mut plain = Decompressor::detect(input).map_err(Error::io("read", path))?;
    let mut buffer = vec![0; 128 << 10];
    loop {
        let count = plain.read(&mut buffer).map_err(Error::io("read", path))?;
        if count == 0 {
            output.rewind().map_err(Error::io("read a temporary file in", spool))?;
            return Ok(output);
        }
        io::Write::write_all(&mut output, buffer.get(..count).unwrap_or_default())
            .map_err(Error::io("write a temporary file in", spool))?;
    }
}

/// Reads all headers. The tar reader's own words would quote the file, whatever that is.
fn scan(file: &File) -> std::result::Result<HashMap<String, Member>, &'static str> {
    const DAMAGED: &str = "it is no tar, or a damaged one";
    let mut members = HashMap::new();
    let mut archive = tar::Archive::new(file);
    for entry in archive.entries_with_seek().map_err(|_| DAMAGED)? {
        let entry = entry.map_err(|_| DAMAGED)?;
        let Ok(name) = std::str::from_utf8(&entry.path_bytes()).map(|name| normal("", name)) else { continue };
        let kind = entry.header().entry_type();
        let link = || {
            let target = entry.link_name_bytes()?;
            std::str::from_utf8(&target).ok().map(str::to_owned)
        };
        let member = if kind.is_file() || kind.is_contiguous() {
            Some(Member::Content { offset: entry.raw_file_position(), size: entry.size() })
        } else if kind.is_symlink() {
            let directory = name.rsplit_once('/').map_or("", |(directory, _)| directory);
            link().map(|target| Member::Link(normal(directory, &target)))
        } else if kind.is_hard_link() {
            link().map(|target| Member::Link(normal("", &target)))
        } else {
            None
        };
        members.extend(member.map(|member| (name, member)));
        if members.len() > MAX_MEMBERS {
            return Err("it has too many members");
        }
    }
    if members.is_empty() {
        return Err("it is empty, or no tar");
    }
    Ok(members)
}

/// `name` seen from `directory`, without `.` and with `..` resolved within the archive.
fn normal(directory: &str, name: &str) -> String {
    let from = if name.starts_with('/') { "" } else { directory };
    let mut parts: Vec<&str> = Vec::new();
    for part in from.split('/').chain(name.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The header of a directory.
pub(crate) fn directory_header(name: &str) -> Result<tar::Header> {
    let mut header = header(name, 0)?;
    header.set_mode(0o755);
    header.set_entry_type(tar::EntryType::Directory);
    header.set_cksum();
    Ok(header)
}

/// What stands before a member's bytes: its header, and its name as a member of its own where no header has room for it,
/// as GNU tar does it.
pub(crate) fn headers(name: &str, size: u64) -> Result<Vec<u8>> {
    const ROOM: usize = 100;
    let Some(short) = name.get(..ROOM).filter(|_| tar::Header::new_ustar().set_path(name).is_err()) else {
        return Ok(header(name, size)?.as_bytes().to_vec());
    };
    let mut long = header("././@LongLink", name.len() as u64 + 1)?;
    long.set_entry_type(tar::EntryType::GNULongName);
    long.set_cksum();
    let mut blocks = [long.as_bytes(), name.as_bytes(), &[0]].concat();
    blocks.resize(blocks.len().next_multiple_of(512), 0);
    blocks.extend(header(short, size)?.as_bytes());
    Ok(blocks)
}

/// What archives made here have in common: sorted by the caller, no times, no owners.
pub(crate) fn header(name: &str, size: u64) -> Result<tar::Header> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name).map_err(Error::io("name a member", Path::new(name)))?;
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stay_within() {
        for (directory, name, want) in [
            ("", "./a/b", "a/b"),
            ("a", "../b/layer.tar", "b/layer.tar"),
            ("a", "../../../etc/passwd", "etc/passwd"),
            ("a/b", "/x", "x"),
        ] {
            assert_eq!(normal(directory, name), want);
        }
    }

    #[test]
    fn members_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tar");
        let mut builder = tar::Builder::new(File::create(&path).unwrap());
        for (name, bytes) in [("x/layer.tar", &b"cargo"[..]), ("y", b"")] {
            builder.append(&header(name, bytes.len() as u64).unwrap(), bytes).unwrap();
        }
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        builder.append_link(&mut link, "z/layer.tar", "../x/layer.tar").unwrap();
        builder.append_link(&mut link, "loop", "loop").unwrap();
        builder.finish().unwrap();
        let archive = Archive::open(&path, dir.path()).unwrap();
        assert_eq!(archive.document("z/layer.tar").unwrap(), b"cargo");
        assert!(!archive.has("loop") && !archive.has("nothing"));
        std::fs::write(&path, b"no tar").unwrap();
        assert!(matches!(Archive::open(&path, dir.path()), Err(Error::Archive { .. })));
    }
}
