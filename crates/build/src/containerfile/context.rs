//! Where a build's own files come from: the context directory and named contexts.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use hoy_containerfile::Ignore;
use hoy_layer::{Compression, Decompressor, Flavour, Limits, unpack};
use hoy_sys::path::open_beneath;
use hoy_sys::rustix::fs::{Mode, OFlags};
use hoy_sys::rustix::io::Errno;

use crate::{Error, Result};

/// Ignore files of a context directory, the first that is there.
const IGNORE_FILES: [&str; 2] = [".containerignore", ".dockerignore"];
/// Where the magic of a tar archive is, and what it is.
const TAR: (usize, &[u8]) = (257, b"ustar");
/// Longer ones are no ignore files.
const MAX_IGNORE_BYTES: u64 = 4 << 20;

/// A directory that nothing leads out of, and what of it does not count.
#[derive(Debug)]
pub struct Context {
    pub(crate) root: OwnedFd,
    pub(crate) path: PathBuf,
    pub(crate) ignore: Ignore,
    /// Where that stands.
    pub(crate) ignore_file: Option<PathBuf>,
}

impl Context {
    /// The directory `path`, with the ignore file in it unless another is given: that of the first of `files` which is
    /// there, `Containerfile.containerignore`, or that of the directory.
    ///
    /// # Errors
    /// Those of opening it; [`Error::Refused`] for an ignore file with a line that is no pattern.
    pub fn open(path: &Path, ignore_file: Option<&Path>, files: &[&str]) -> Result<Self> {
        let root = OwnedFd::from(File::open(path).map_err(Error::io("open", path))?);
        Self::of(root, path, ignore_file, files)
    }

    /// The directory `inner` below `path`, which no link leads out of.
    ///
    /// # Errors
    /// As [`Context::open`].
    pub fn open_inner(path: &Path, inner: &str, ignore_file: Option<&Path>, files: &[&str]) -> Result<Self> {
        let outer = File::open(path).map_err(Error::io("open", path))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let relative = inner.trim_start_matches('/');
        let relative = if relative.is_empty() { "." } else { relative };
        let root = open_beneath(&outer, relative, flags, Mode::empty());
        let root = root.map_err(|error| Error::io::<Errno>("open", inner)(error.errno))?;
        Self::of(root, &path.join(relative), ignore_file, files)
    }

    fn of(root: OwnedFd, path: &Path, ignore_file: Option<&Path>, files: &[&str]) -> Result<Self> {
        let is_there = |name: &&&str| open_beneath(&root, **name, OFlags::PATH, Mode::empty()).is_ok();
        let read_own = || {
            let beside = files.iter().find(is_there).into_iter().copied().chain([""]);
            for name in beside.flat_map(|file| IGNORE_FILES.map(|ignore| format!("{file}{ignore}"))) {
                match read_beneath(&root, &name) {
                    Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
                    other => return other.map(|text| Some((path.join(name), text))),
                }
            }
            Ok(None)
        };
        let text = match ignore_file {
            Some(file) => Some((file.to_owned(), std::fs::read_to_string(file).map_err(Error::io("read", file))?)),
            None => read_own()?,
        };
        let (ignore_file, text) = text.unzip();
        let wrong = |line| {
            let file = ignore_file.as_deref().unwrap_or(path).display();
            Error::Refused(format!("\"{file}\": line {line} is no pattern"))
        };
        let ignore = Ignore::parse(&text.unwrap_or_default()).map_err(wrong)?;
        let ignore_file = ignore_file.map(|file| std::path::absolute(&file).unwrap_or(file));
        Ok(Self { root, path: path.to_owned(), ignore, ignore_file })
    }

    /// What of it does not count.
    #[must_use]
    pub fn ignore(&self) -> &Ignore {
        &self.ignore
    }

    /// Whether bytes begin an archive that [`Context::unpack`] reads, compressed or not.
    #[must_use]
    pub fn is_archive(start: &[u8]) -> bool {
        let is_tar = start.get(TAR.0..).is_some_and(|rest| rest.starts_with(TAR.1));
        is_tar || Compression::of(start) != Compression::None
    }

    /// Unpacks a context that comes as an archive into the empty directory `directory`.
    ///
    /// # Errors
    /// Those of reading it; nothing outside the directory is written, whatever it holds.
    pub fn unpack(archive: impl Read + Send, directory: &Path) -> Result<()> {
        let root = File::open(directory).map_err(Error::io("open", directory))?;
        let tar = Decompressor::detect(archive).map_err(Error::io("read", "the context"))?;
        unpack(tar, root.as_fd(), Flavour::Plain, Limits::default())?;
        Ok(())
    }

    /// The text of a file of the context; a link that leads out of it is not followed.
    ///
    /// # Errors
    /// Those of reading it.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        read_beneath(&self.root, name).map(String::into_bytes)
    }
}

fn read_beneath(root: &OwnedFd, name: &str) -> Result<String> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = open_beneath(root, name, flags, Mode::empty());
    let file = File::from(file.map_err(|error| Error::io::<Errno>("open", name)(error.errno))?);
    if !file.metadata().map_err(Error::io("look at", name))?.is_file() {
        return Err(Error::Refused(format!("\"{name}\" is not a file")));
    }
    let mut bytes = Vec::new();
    file.take(MAX_IGNORE_BYTES).read_to_end(&mut bytes).map_err(Error::io("read", name))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
