//! Where copied files come from.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use hoy_containerfile::Glob;
use hoy_sys::path::open_in_root;
use hoy_sys::rustix::fs::{CWD, Dir, FileType, Mode, OFlags, fstat, openat};
use hoy_sys::rustix::io::Errno;

use crate::{Error, Result};

/// What names of sources are looked up in.
pub(crate) enum SourceRoot {
    /// The caller's own file system.
    Host,
    /// A directory that nothing leads out of: a context directory, or the root of a container or image.
    Root(OwnedFd),
}

/// One thing to copy, with links in its name followed; where links are kept, its last name may be one.
pub(crate) struct Source {
    /// Open for reading.
    pub(crate) fd: OwnedFd,
    /// As typed, with patterns filled in.
    pub(crate) path: PathBuf,
    /// Whether it is a directory, of which the contents are copied.
    pub(crate) is_directory: bool,
}

/// How names of sources are read.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Naming {
    /// A pattern is an error.
    pub(crate) is_literal: bool,
    /// A pattern that nothing matches is none.
    pub(crate) may_be_nothing: bool,
    /// A link is copied itself, and not what it leads to.
    pub(crate) keeps_links: bool,
}

impl Naming {
    /// How to see whether something is there.
    fn looking(self) -> OFlags {
        if self.keeps_links { OFlags::PATH | OFlags::NOFOLLOW } else { OFlags::PATH }
    }
}

impl SourceRoot {
    fn open(&self, path: &Path, flags: OFlags) -> std::result::Result<OwnedFd, Errno> {
        // A pipe must not make the opening wait; openat2(2) takes no more than these with O_PATH.
        let reading = if flags.contains(OFlags::PATH) { OFlags::empty() } else { OFlags::NONBLOCK };
        let flags = flags | reading | OFlags::CLOEXEC;
        match self {
            Self::Host => openat(CWD, path, flags, Mode::empty()),
            Self::Root(root) => open_in_root(root, path, flags, Mode::empty()).map_err(|error| error.errno),
        }
    }

    /// Everything that `pattern` means, in the order of the names.
    pub(crate) fn find(&self, pattern: &Path) -> Result<Vec<Source>> {
        self.named(pattern, Naming::default())
    }

    /// The same, as `naming` has it.
    pub(crate) fn named(&self, pattern: &Path, naming: Naming) -> Result<Vec<Source>> {
        let missing = || {
            let leads_up =
                matches!(self, Self::Root(_)) && pattern.components().any(|part| part == Component::ParentDir);
            let note = " (possible escaping context directory error: \"..\" leads no higher than its root)";
            let note = if leads_up { note } else { "" };
            Error::NoSource(pattern.display().to_string(), note.to_owned())
        };
        let is_pattern = Glob::is_one(&pattern.to_string_lossy());
        if is_pattern && naming.is_literal {
            return Err(Error::Refused(format!("\"{}\" is a pattern, and none is allowed", pattern.display())));
        }
        let paths = match self.open(pattern, naming.looking()) {
            Err(Errno::NOENT) if is_pattern => self.expand(pattern, naming)?,
            Err(Errno::NOENT) => return Err(missing()),
            _ => vec![pattern.to_owned()],
        };
        let found: Result<Vec<Source>> = paths.into_iter().map(|path| self.source(path, naming)).collect();
        let found = found?;
        if found.is_empty() && !naming.may_be_nothing { Err(missing()) } else { Ok(found) }
    }

    /// What is called `path`, whatever characters are in it.
    pub(crate) fn only(&self, path: &Path) -> Result<Source> {
        self.source(path.to_owned(), Naming::default())
    }

    fn source(&self, path: PathBuf, naming: Naming) -> Result<Source> {
        if naming.keeps_links {
            let fd = self.open(&path, naming.looking()).map_err(Error::io("open", &path))?;
            let stat = fstat(&fd).map_err(Error::io("look at", &path))?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
                return Ok(Source { fd, path, is_directory: false });
            }
        }
        let fd = self.open(&path, OFlags::empty()).map_err(Error::io("open", &path))?;
        let stat = fstat(&fd).map_err(Error::io("look at", &path))?;
        let is_directory = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => true,
            FileType::RegularFile => false,
            _ => return Err(Error::Refused(format!("\"{}\" is neither a file nor a directory", path.display()))),
        };
        Ok(Source { fd, path, is_directory })
    }

    fn expand(&self, pattern: &Path, naming: Naming) -> Result<Vec<PathBuf>> {
        let mut found = vec![PathBuf::from(if pattern.is_absolute() { "/" } else { "" })];
        for part in pattern.components() {
            let (part, text) = (part.as_os_str(), part.as_os_str().to_string_lossy());
            if !Glob::is_one(&text) {
                found.iter_mut().for_each(|path| path.push(part));
                continue;
            }
            let glob = Glob::new(&text).ok_or_else(|| Error::Refused(format!("\"{text}\" is no pattern")))?;
            let mut next = Vec::new();
            for directory in &found {
                let mut names = self.names(directory)?;
                names.retain(|name| glob.matches(&String::from_utf8_lossy(name)));
                names.sort();
                next.extend(names.iter().map(|name| directory.join(OsStr::from_bytes(name))));
            }
            found = next;
        }
        found.retain(|path| self.open(path, naming.looking()).is_ok());
        Ok(found)
    }

    /// Opens a directory that leads to a source.
    pub(crate) fn directory(&self, path: &Path) -> Result<OwnedFd> {
        self.open(path, OFlags::DIRECTORY).map_err(Error::io("open", path))
    }

    /// The names in a directory; none where there is no such directory.
    fn names(&self, directory: &Path) -> Result<Vec<Vec<u8>>> {
        let path = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        match self.open(path, OFlags::DIRECTORY) {
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(Vec::new()),
            Err(errno) => Err(Error::io("open", path)(errno)),
            Ok(fd) => names(&fd).map_err(Error::io("read", path)),
        }
    }
}

/// The names in an open directory, sorted.
pub(crate) fn names(directory: impl AsFd) -> std::result::Result<Vec<Vec<u8>>, Errno> {
    Ok(entries(directory)?.into_iter().map(|(name, _)| name).collect())
}

/// The names in an open directory, sorted, and what they are as far as the directory itself tells.
pub(crate) fn entries(directory: impl AsFd) -> std::result::Result<Vec<(Vec<u8>, FileType)>, Errno> {
    let mut entries = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            entries.push((name.to_vec(), entry.file_type()));
        }
    }
    entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, create_dir_all, write};
    use std::os::unix::fs::symlink;

    #[test]
    fn patterns_and_links() {
        let dir = tempfile::tempdir().unwrap();
        create_dir_all(dir.path().join("d/e")).unwrap();
        for name in ["d/a.txt", "d/b.txt", "d/c.bin", "d/e/f.txt"] {
            write(dir.path().join(name), name).unwrap();
        }
        symlink("/d/a.txt", dir.path().join("inside")).unwrap();
        symlink("/etc/passwd", dir.path().join("outside")).unwrap();
        let root = SourceRoot::Root(OwnedFd::from(File::open(dir.path()).unwrap()));
        let find = |pattern: &str| {
            let found = root.find(Path::new(pattern))?;
            Ok::<_, Error>(found.iter().map(|s| s.path.display().to_string()).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(find("d/*.txt").unwrap(), "d/a.txt d/b.txt");
        assert_eq!(find("/*/?/*").unwrap(), "/d/e/f.txt");
        assert_eq!(find("inside").unwrap(), "inside");
        for none in ["outside", "d/*.o", "nope"] {
            assert!(find(none).unwrap_err().is_not_found(), "{none}");
        }
        let host = SourceRoot::Host.find(&dir.path().join("d/*.bin")).unwrap();
        assert!(host[0].path.ends_with("d/c.bin") && !host[0].is_directory);
    }
}
