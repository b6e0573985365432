//! `--blob-cache`: blobs that are in a directory are not fetched.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use hoy_oci::{Descriptor, Digest};
use hoy_transport::{Document, Repository, Result, Source};

/// `source`, its blobs out of `directory` as far as they are there, if there is one.
pub(crate) fn beside<'a>(source: Box<dyn Source + 'a>, directory: Option<&Path>) -> Box<dyn Source + 'a> {
    match directory {
        Some(directory) => Box::new(Beside { inner: source, directory: directory.to_owned(), wrong: Mutex::default() }),
        None => source,
    }
}

struct Beside<'a> {
    inner: Box<dyn Source + 'a>,
    directory: PathBuf,
    /// Blobs whose files have other bytes.
    wrong: Mutex<BTreeSet<Digest>>,
}

impl Beside<'_> {
    /// The blob's file, where there is one of its length that nobody found to be wrong.
    fn file(&self, blob: &Descriptor) -> Option<File> {
        if self.wrong.lock().unwrap_or_else(PoisonError::into_inner).contains(&blob.digest) {
            return None;
        }
        // As buildah names them: a configuration's file says what it is.
        let files = [format!("{}.config", blob.digest), blob.digest.to_string()];
        let is_whole = |path: &PathBuf| path.metadata().is_ok_and(|about| about.is_file() && about.len() == blob.size);
        let path = files.iter().map(|name| self.directory.join(name)).find(is_whole)?;
        File::open(path).ok()
    }
}

impl Source for Beside<'_> {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn root(&self) -> Result<Document> {
        self.inner.root()
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        self.inner.manifest(descriptor)
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send + '_>> {
        if let Some(mut file) = self.file(descriptor)
            && file.seek(SeekFrom::Start(offset)).is_ok()
        {
            return Ok(Box::new(file));
        }
        self.inner.blob(descriptor, offset)
    }

    fn distrust(&self, descriptor: &Descriptor) -> Option<String> {
        if self.file(descriptor).is_some() {
            self.wrong.lock().unwrap_or_else(PoisonError::into_inner).insert(descriptor.digest);
            return Some(format!("the blob cache \"{}\"", self.directory.display()));
        }
        self.inner.distrust(descriptor)
    }

    fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>> {
        self.inner.referrers(subject)
    }

    fn is_signed(&self, digest: &Digest) -> Result<bool> {
        self.inner.is_signed(digest)
    }

    fn repository(&self) -> Option<Repository> {
        self.inner.repository()
    }

    fn is_synthetic(&self) -> bool {
        self.inner.is_synthetic()
    }
}
