//! Files of web servers, fetched by `hoy-copy`.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use hoy_layer::Time;
use hoy_oci::Digest;
use hoy_sys::rustix::fs::{Mode, Timespec, Timestamps, fchmod, futimens};
use serde::Deserialize;

use crate::containerfile::Context;
use crate::remote::git::Checkout;
use crate::remote::url::{GitSource, Remote, without_credentials};
use crate::{Error, Materials, Result, Tools};

/// What a fetched file's permissions are (reference "ADD").
pub(crate) const FILE_MODE: u32 = 0o600;

/// Fetches for one build.
#[derive(Debug, Clone, Default)]
pub struct Fetcher {
    /// Options for `hoy-copy fetch`.
    pub options: Vec<String>,
    /// What is fetched, and what it must be.
    pub materials: Arc<Materials>,
}

/// A file that is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) path: PathBuf,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    /// When the server says it was changed; the beginning of time where it does not.
    pub(crate) modified: Time,
}

/// What `hoy-copy fetch` answers.
#[derive(Deserialize)]
struct Answer {
    digest: Digest,
    size: u64,
    modified: Option<i64>,
}

impl Fetcher {
    /// Fetches the file at `address` as `path`.
    ///
    /// # Errors
    /// Those of `hoy-copy`, which has the address from standard input: nobody else sees a password in it.
    pub(crate) fn file(&self, tools: &Tools, address: &str, checksum: Option<&Digest>, path: &Path) -> Result<Got> {
        // What the lock does not have is not fetched.
        self.materials.file(address)?;
        let mut args = vec!["fetch".to_owned()];
        args.extend(self.options.iter().cloned());
        args.extend(checksum.map(|digest| format!("--checksum={digest}")));
        args.extend(["--".to_owned(), "-".to_owned()]);
        let mut args: Vec<_> = args.into_iter().map(std::ffi::OsString::from).collect();
        args.push(path.into());
        let answer = tools.copy_told(args, address)?;
        let answer: Answer = serde_json::from_str(&answer).map_err(|source| Error::Json("what was fetched", source))?;
        self.materials.take_file(address, &answer.digest)?;
        let modified = Time { seconds: answer.modified.unwrap_or_default(), nanoseconds: 0 };
        Ok(Got { path: path.to_owned(), digest: answer.digest, size: answer.size, modified })
    }

    /// The commit that a repository's address means: the one of the lock, where there is a lock.
    ///
    /// # Errors
    /// Those of git, and of the lock.
    pub(crate) fn checkout(&self, source: &GitSource) -> Result<Checkout> {
        let address = format!("{}#{}", source.remote, source.reference.as_deref().unwrap_or("HEAD"));
        let found = match self.materials.commit(&address)? {
            Some(commit) => Checkout::find(&GitSource { reference: Some(commit), ..source.clone() })?,
            None => Checkout::find(source)?,
        };
        self.materials.take_commit(&address, &found.commit).map(|()| found)
    }

    /// Fetches a source of `add` into the empty directory `directory`: a file by its own name, or a repository's files.
    ///
    /// # Errors
    /// Those of fetching; [`Error::Refused`] for an address that names no file.
    pub fn source(&self, tools: &Tools, remote: &Remote, checksum: Option<&str>, directory: &Path) -> Result<PathBuf> {
        match remote {
            Remote::File(address) => {
                let checksum = checksum.map(str::parse).transpose()?;
                let got = self.file(tools, address, checksum.as_ref(), &directory.join(file_name(address)?))?;
                let file = File::open(&got.path).map_err(Error::io("open", &got.path))?;
                let time = Timespec { tv_sec: got.modified.seconds, tv_nsec: 0 };
                fchmod(&file, Mode::from_raw_mode(FILE_MODE)).map_err(Error::io("change", &got.path))?;
                let times = Timestamps { last_access: time, last_modification: time };
                futimens(&file, &times).map_err(Error::io("change", &got.path))?;
                Ok(got.path)
            }
            Remote::Git(source) => {
                let mut source = source.clone();
                checksum.map_or(Ok(()), |checksum| source.expect(checksum))?;
                let checkout = self.checkout(&source)?;
                checkout.write(&source, source.keeps_git == Some(true), directory)?;
                inside(directory, source.subdirectory.as_deref().unwrap_or_default())
            }
        }
    }

    /// Fetches a build's context into the empty directory `directory`.
    ///
    /// # Errors
    /// Those of fetching it and of unpacking it.
    pub fn context(&self, tools: &Tools, remote: &Remote, directory: &Path) -> Result<Fetched> {
        let address = match remote {
            Remote::Git(source) => {
                let checkout = self.checkout(source)?;
                checkout.write(source, source.keeps_git == Some(true), directory)?;
                return Ok(Fetched::Directory(directory.to_owned(), source.subdirectory.clone()));
            }
            Remote::File(address) => address,
        };
        let files = directory.join("files");
        std::fs::create_dir(&files).map_err(Error::io("create", &files))?;
        let name = Remote::file_name(address).unwrap_or_else(|| "context".to_owned());
        let got = self.file(tools, address, None, &directory.join("fetched"))?;
        let mut file = File::open(&got.path).map_err(Error::io("open", &got.path))?;
        let mut start = Vec::new();
        file.by_ref().take(512).read_to_end(&mut start).map_err(Error::io("read", &got.path))?;
        file.seek(SeekFrom::Start(0)).map_err(Error::io("read", &got.path))?;
        if Context::is_archive(&start) {
            Context::unpack(file, &files)?;
            std::fs::remove_file(&got.path).map_err(Error::io("remove", &got.path))?;
            return Ok(Fetched::Directory(files, None));
        }
        let path = files.join(name);
        std::fs::rename(&got.path, &path).map_err(Error::io("rename", &got.path))?;
        Ok(Fetched::File(path))
    }
}

/// The directory `inner` of a checkout, which nobody changes meanwhile: no link leads out of it (CVE-2026-33748).
pub(crate) fn inside(directory: &Path, inner: &str) -> Result<PathBuf> {
    let real = |path: &Path| path.canonicalize().map_err(Error::io("open", inner));
    let (root, found) = (real(directory)?, real(&directory.join(inner.trim_start_matches('/')))?);
    if !found.starts_with(&root) {
        return Err(Error::Refused(format!("\"{inner}\" leads out of the repository")));
    }
    if !found.is_dir() {
        return Err(Error::Refused(format!("\"{inner}\" of the repository is no directory")));
    }
    Ok(found)
}

/// A context that was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// A directory, and that of the files in it which is meant, if not all of them.
    Directory(PathBuf, Option<String>),
    /// One file, which is no archive.
    File(PathBuf),
}

/// The name that a file has.
pub(crate) fn file_name(address: &str) -> Result<String> {
    Remote::file_name(address).ok_or_else(|| {
        let shown = without_credentials(address);
        Error::Refused(format!("\"{shown}\" has no name for a file: end the destination with one, and not in /"))
    })
}

/// A file that ADD names; it is fetched when its content is needed, which is known before where its digest is.
#[derive(Debug)]
pub(crate) struct RemoteFile {
    pub(crate) address: String,
    pub(crate) checksum: Option<Digest>,
    got: OnceLock<Got>,
}

impl RemoteFile {
    pub(crate) fn new(address: String, checksum: Option<Digest>) -> Self {
        Self { address, checksum, got: OnceLock::new() }
    }

    /// The file, fetched into a new directory where it was not yet.
    pub(crate) fn get(
        &self,
        fetcher: &Fetcher,
        tools: &Tools,
        directory: impl FnOnce() -> Result<PathBuf>,
    ) -> Result<&Got> {
        if self.got.get().is_none() {
            let path = directory()?.join("file");
            let got = fetcher.file(tools, &self.address, self.checksum.as_ref(), &path)?;
            return Ok(self.got.get_or_init(|| got));
        }
        self.got.get().ok_or_else(|| Error::Refused("nothing was fetched".to_owned()))
    }

    /// Its digest: what it must be, or else what it is.
    pub(crate) fn digest(
        &self,
        fetcher: &Fetcher,
        tools: &Tools,
        directory: impl FnOnce() -> Result<PathBuf>,
    ) -> Result<Digest> {
        let known = match self.checksum {
            Some(checksum) => Some(checksum),
            None => fetcher.materials.file(&self.address)?,
        };
        match known {
            Some(known) => fetcher.materials.take_file(&self.address, &known).map(|()| known),
            None => Ok(self.get(fetcher, tools, directory)?.digest),
        }
    }
}
