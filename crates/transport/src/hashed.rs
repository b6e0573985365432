//! Readers that know where they are and what has passed.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use hoy_oci::{Digest, Hasher};

/// A file read by position, so that threads do not disturb each other.
pub(crate) struct At<'a> {
    pub(crate) file: &'a File,
    pub(crate) offset: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

/// What is read, and its digest.
pub(crate) struct Hashed<R> {
    input: R,
    hasher: Hasher,
    size: u64,
}

impl<R> Hashed<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, hasher: Hasher::new(), size: 0 }
    }

    /// The digest and the length in bytes of what was read.
    pub(crate) fn finish(self) -> (Digest, u64) {
        (self.hasher.finish(), self.size)
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        self.size += count as u64;
        Ok(count)
    }
}
