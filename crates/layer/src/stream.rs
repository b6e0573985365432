//! Uncompressing and hashing on one thread, while another writes files.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, SyncSender};

use hoy_oci::{Digest, Hasher};

const CHUNK_BYTES: usize = 256 << 10;
/// Chunks in flight: enough that neither side waits for the other's every step.
pub(crate) const CHUNKS: usize = 4;

type Chunk = io::Result<Vec<u8>>;

/// Reads `input` to its end, sending it on in chunks; returns the digest and length of everything sent.
///
/// It stops early when nobody receives any more. The failure of reading is sent as the last chunk.
pub(crate) fn pump(mut input: impl Read, chunks: &SyncSender<Chunk>) -> (Digest, u64) {
    let (mut hasher, mut size) = (Hasher::new(), 0);
    loop {
        let mut chunk = vec![0; CHUNK_BYTES];
        let filled = fill(&mut input, &mut chunk);
        let is_last = filled.as_ref().map_or(true, |count| *count < CHUNK_BYTES);
        let chunk = filled.map(|count| {
            chunk.truncate(count);
            hasher.update(&chunk);
            size += count as u64;
            chunk
        });
        let has_receiver = chunks.send(chunk).is_ok();
        if is_last || !has_receiver {
            return (hasher.finish(), size);
        }
    }
}

/// Fills the buffer unless the end comes before.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while let Some(rest) = buffer.get_mut(count..).filter(|rest| !rest.is_empty()) {
        match input.read(rest) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(count)
}

/// The receiving end as a reader without another copy.
pub(crate) struct Chunks {
    source: Receiver<Chunk>,
    chunk: Vec<u8>,
    at: usize,
}

impl Chunks {
    pub(crate) fn new(source: Receiver<Chunk>) -> Self {
        Self { source, chunk: Vec::new(), at: 0 }
    }
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at >= self.chunk.len() {
            match self.source.recv() {
                Err(_) => return Ok(&[]),
                Ok(chunk) => (self.chunk, self.at) = (chunk?, 0),
            }
        }
        Ok(self.chunk.get(self.at..).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}
