//! `--blob-cache`: blobs that are in a directory are not fetched.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use hoy_oci::{Descriptor, Digest};
use hoy_transport::{Result, Source};

use crate::blobs::{By, Way};

/// `source`, its blobs out of `directory` as far as they are there, if there is one.
pub(crate) fn beside<'a>(source: Box<dyn Source + 'a>, directory: Option<&Path>) -> Box<dyn Source + 'a> {
    match directory {
        Some(directory) => {
            let way = Beside { directory: directory.to_owned(), wrong: Mutex::default() };
            Box::new(By { source, way })
        }
        None => source,
    }
}

struct Beside {
    directory: PathBuf,
    /// Blobs whose files have other bytes.
    wrong: Mutex<BTreeSet<Digest>>,
}

impl Beside {
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

impl Way for Beside {
    fn blob<'a>(&'a self, source: &'a dyn Source, blob: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send + 'a>> {
        if let Some(mut file) = self.file(blob)
            && file.seek(SeekFrom::Start(offset)).is_ok()
        {
            return Ok(Box::new(file));
        }
        source.blob(blob, offset)
    }

    fn distrust(&self, source: &dyn Source, blob: &Descriptor) -> Option<String> {
        if self.file(blob).is_some() {
            self.wrong.lock().unwrap_or_else(PoisonError::into_inner).insert(blob.digest);
            return Some(format!("the blob cache \"{}\"", self.directory.display()));
        }
        source.distrust(blob)
    }
}
