//! Writing content by its digest.

use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use hoy_oci::{Descriptor, Digest, Hasher};

use crate::atomic::{Temporary, make_directory, random_hex};
use crate::{Error, Result, TEMPORARY_PREFIX};

/// How much of a download that broke off is worth keeping for the next process, in bytes.
const MIN_KEPT_BYTES: u64 = 1 << 20;

/// What has been written of a blob, and hashed.
#[derive(Clone, Default)]
pub struct Written {
    size: u64,
    hasher: Hasher,
}

fn upload_name(id: &str) -> String {
    format!("upload-{id}")
}

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

    /// The blob that `expected` describes, in `directory`, begun anew or where an earlier process left it; waits while
    /// another process writes it. None when the blob is there by then.
    ///
    /// What an earlier process left is read to be hashed: bytes are believed only as far as their digest is in the end.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn resume_in(directory: PathBuf, expected: &Descriptor) -> Result<Option<Self>> {
        let name = format!("partial-{}", expected.digest.hex());
        let target = directory.join(expected.digest.hex());
        loop {
            // What somebody else left there and does not share is no reason not to write the blob.
            let Ok(temporary) = Temporary::reopen(&directory, &name) else {
                let created = Self::create_in(directory)?;
                return Ok(Some(Self { hasher: Hasher::like(&expected.digest), ..created }));
            };
            if std::fs::symlink_metadata(&target).is_ok_and(|m| m.is_file() && m.len() == expected.size) {
                return Ok(None);
            }
            let Some(mut temporary) = temporary else { continue };
            temporary.keep_from(Some(MIN_KEPT_BYTES));
            let mut writer = Self { temporary, directory, hasher: Hasher::like(&expected.digest), size: 0 };
            writer.take_up(expected.size)?;
            return Ok(Some(writer));
        }
    }

    /// Begins a blob that is written in several goes, perhaps by several processes; returns what it is called until then.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn begin_upload_in(directory: &Path) -> Result<String> {
        let id = random_hex(16)?;
        let mut temporary = Temporary::create_named(directory, &upload_name(&id))?;
        temporary.keep_from(Some(0));
        Ok(id)
    }

    /// How many bytes of such a blob there are; none when there is no such blob.
    pub fn upload_size_in(directory: &Path, id: &str) -> Option<u64> {
        // An id is what was given out: nothing that leads elsewhere.
        let is_id = id.len() == 32 && id.bytes().all(|c| c.is_ascii_hexdigit());
        let path = directory.join(format!("{TEMPORARY_PREFIX}{}", upload_name(id)));
        let metadata = is_id.then(|| std::fs::symlink_metadata(path).ok()).flatten()?;
        metadata.is_file().then_some(metadata.len())
    }

    /// Takes up a blob that [`BlobWriter::begin_upload_in`] has begun; waits while another process writes it. None when
    /// there is no such blob. Dropped, it is called off; [`BlobWriter::pause`] keeps it.
    ///
    /// What `known` has hashed is not read again if the file is as it was then.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn resume_upload_in(directory: PathBuf, id: &str, known: Option<Written>) -> Result<Option<Self>> {
        if Self::upload_size_in(&directory, id).is_none() {
            return Ok(None);
        }
        let Some(mut temporary) = Temporary::reopen(&directory, &upload_name(id))? else { return Ok(None) };
        let path = temporary.path().to_owned();
        let size = temporary.file().metadata().map_err(Error::io("look at", &path))?.len();
        let known = known.filter(|known| known.size == size);
        let Written { size, hasher } = known.unwrap_or_default();
        temporary.file().seek(io::SeekFrom::Start(size)).map_err(Error::io("read", &path))?;
        let mut writer = Self { temporary, directory, hasher, size };
        writer.take_up(u64::MAX)?;
        Ok(Some(writer))
    }

    /// Leaves an upload for later; returns what has been hashed of it.
    pub fn pause(mut self) -> Written {
        self.temporary.keep_from(Some(0));
        Written { size: self.size, hasher: self.hasher.clone() }
    }

    /// Makes the blob visible, and its name durable, if it has this digest; false, and it is gone, when not.
    ///
    /// For a digest of another algorithm it is read again, and goes into that one's directory beside its own.
    ///
    /// # Errors
    /// [`Error::Io`]; nothing is visible then.
    pub fn finish_with(mut self, expected: &Digest) -> Result<bool> {
        if self.hasher.clone().finish().algorithm() != expected.algorithm() {
            let path = self.temporary.path().to_owned();
            self.directory.set_file_name(expected.algorithm());
            make_directory(&self.directory, 0o755)?;
            self.temporary.file().rewind().map_err(Error::io("read", &path))?;
            (self.hasher, self.size) = (Hasher::like(expected), 0);
            self.take_up(u64::MAX)?;
        }
        let is_right = self.hasher.clone().finish() == *expected;
        if is_right {
            let directory = self.directory.clone();
            self.finish()?;
            crate::sync(&directory)?;
        }
        Ok(is_right)
    }

    /// Hashes what is in the file; more than `limit` bytes cannot be the beginning of the blob.
    fn take_up(&mut self, limit: u64) -> Result<()> {
        let path = self.temporary.path().to_owned();
        let mut buffer = vec![0; 128 << 10];
        loop {
            let count = self.temporary.file().read(&mut buffer).map_err(Error::io("read", &path))?;
            if count == 0 {
                return Ok(());
            }
            self.hasher.update(buffer.get(..count).unwrap_or_default());
            self.size += count as u64;
            if self.size > limit {
                return self.begin_anew();
            }
        }
    }

    /// Forgets what has been written.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn begin_anew(&mut self) -> Result<()> {
        let path = self.temporary.path().to_owned();
        let file = self.temporary.file();
        file.set_len(0).and_then(|()| file.rewind()).map_err(Error::io("empty", &path))?;
        self.hasher.begin_anew();
        self.size = 0;
        Ok(())
    }

    /// How many bytes there are by now.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether the bytes so far are all of `expected`, and right.
    pub fn is(&self, expected: &Descriptor) -> bool {
        self.size == expected.size && self.hasher.clone().finish() == expected.digest
    }

    /// Makes the blob visible under its digest and returns that and its length in bytes.
    ///
    /// A blob that an index leads to is there after a power cut; until then its name may be lost, but is never that of
    /// other bytes.
    ///
    /// # Errors
    /// [`Error::Io`]; nothing is visible then.
    pub fn finish(self) -> Result<(Digest, u64)> {
        let digest = self.hasher.finish();
        self.temporary.rename_whole(&self.directory.join(digest.hex()))?;
        Ok((digest, self.size))
    }

    /// Makes the blob visible if it is what `expected` describes.
    ///
    /// # Errors
    /// [`Error::Content`] for other bytes, [`Error::Io`]; nothing is visible then.
    pub fn finish_as(mut self, expected: &Descriptor) -> Result<()> {
        let wrong = |source| Error::Content { doing: format!("write blob {}", expected.digest), source };
        let (actual, size) = (self.hasher.clone().finish(), self.size);
        // Bytes that are wrong once are so again.
        if size >= expected.size {
            self.temporary.keep_from(None);
        }
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
        let count = match self.temporary.file().write(bytes) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                // The disk is full or ill: what lies there does no good.
                self.temporary.keep_from(None);
                return Err(error);
            }
            other => other?,
        };
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

#[cfg(test)]
mod tests {
    use super::*;
    use hoy_oci::MediaType;

    fn names(dir: &tempfile::TempDir) -> Vec<String> {
        let entries = std::fs::read_dir(dir.path()).unwrap();
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_download_goes_on_where_it_broke() {
        let dir = tempfile::tempdir().unwrap();
        let resume = |d: &Descriptor| BlobWriter::resume_in(dir.path().to_owned(), d).unwrap();
        let bytes: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
        let wanted = Descriptor::of(MediaType::from("x/y"), &bytes);
        let mut writer = resume(&wanted).unwrap();
        writer.write_all(&bytes[..2_000_000]).unwrap();
        drop(writer);
        let mut writer = resume(&wanted).unwrap();
        assert_eq!(writer.size(), 2_000_000);
        writer.write_all(&bytes[2_000_000..]).unwrap();
        assert!(writer.is(&wanted));
        writer.finish_as(&wanted).unwrap();
        assert!(resume(&wanted).is_none());
        // The second one's lock file was the blob's own temporary.
        assert_eq!(names(&dir).iter().filter(|n| !n.starts_with('.')).count(), 1);
    }

    #[test]
    fn what_is_small_or_wrong_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = Descriptor::new(MediaType::from("x/y"), Digest::of(b"other"), 3 << 20);
        for (count, fails) in [(10, false), (3 << 20, true), (4 << 20, true)] {
            let mut writer = BlobWriter::resume_in(dir.path().to_owned(), &wanted).unwrap().unwrap();
            assert_eq!(writer.size(), 0, "nothing stayed");
            writer.write_all(&vec![7; count]).unwrap();
            if fails {
                assert!(writer.finish_as(&wanted).is_err());
            }
        }
        assert_eq!(names(&dir).len(), 0);
        std::fs::write(dir.path().join(format!(".tmp-partial-{}", wanted.digest.hex())), vec![0; 4 << 20]).unwrap();
        assert_eq!(BlobWriter::resume_in(dir.path().to_owned(), &wanted).unwrap().unwrap().size(), 0, "too long");
    }
}
