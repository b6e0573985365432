//! Writing content by its digest.

use std::io::{self, Write};
use std::path::PathBuf;

use hoy_oci::{Descriptor, Digest, Hasher};

use crate::atomic::Temporary;
use crate::{Error, Result};

/// A blob on its way into a layout: hashed as it is written, visible only once finished.
pub struct BlobWriter {
    temporary: Temporary,
    directory: PathBuf,
    hasher: Hasher,
    size: u64,
}

impl BlobWriter {
    /// A blob that will be the file in `directory` which has its digest, without the algorithm, for a name.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create_in(directory: PathBuf) -> Result<Self> {
        Ok(Self { temporary: Temporary::create_in(&directory, 0o644)?, directory, hasher: Hasher::new(), size: 0 })
    }

    /// Makes the blob visible under its digest and returns that and its length in bytes.
    ///
    /// # Errors
    /// [`Error::Io`]; nothing is visible then.
    pub fn finish(self) -> Result<(Digest, u64)> {
        let digest = self.hasher.finish();
        self.temporary.rename_to(&self.directory.join(digest.hex()))?;
        Ok((digest, self.size))
    }

    /// Makes the blob visible if it is what `expected` describes.
    ///
    /// # Errors
    /// [`Error::Content`] for other bytes, [`Error::Io`]; nothing is visible then.
    pub fn finish_as(self, expected: &Descriptor) -> Result<()> {
        let wrong = |source| Error::Content { doing: format!("write blob {}", expected.digest), source };
        let (actual, size) = (self.hasher.clone().finish(), self.size);
        if size != expected.size {
            let source = hoy_oci::Error::SizeMismatch { expected: expected.digest, size: expected.size, actual: size };
            return Err(wrong(source));
        }
        if actual != expected.digest {
            return Err(wrong(hoy_oci::Error::DigestMismatch { expected: expected.digest, actual }));
        }
        self.finish().map(drop)
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.temporary.file().write(bytes)?;
        self.hasher.update(bytes.get(..count).unwrap_or_default());
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.temporary.file().flush()
    }
}

impl std::fmt::Debug for BlobWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobWriter").field("path", &self.temporary.path()).field("size", &self.size).finish()
    }
}
