//! Compressing layers: one input gives one output, however many processors there are.

use std::io::{self, Write};

use flate2::{Compress, Compression, FlushCompress, Status};
use hoy_oci::LayerCompression;
use zstd::stream::write::Encoder as ZstdEncoder;

/// Bytes of input in each separately compressed block of a gzip stream.
const BLOCK_BYTES: usize = 1 << 20;
const GZIP_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 3;

/// Writes a layer's tar compressed to `W`. [`Compressor::finish`] must be called: dropping leaves the stream incomplete.
pub struct Compressor<W: Write>(Inner<W>);

enum Inner<W: Write> {
    Plain(W),
    Gzip(Gzip<W>),
    Zstd(Box<ZstdEncoder<'static, W>>),
}

impl<W: Write> Compressor<W> {
    /// Compresses with the fixed settings of this program: gzip -6 without name and time, zstd -3 with a checksum.
    ///
    /// # Errors
    /// Those of setting up zstd.
    pub fn new(compression: LayerCompression, output: W) -> io::Result<Self> {
        Self::with_level(compression, None, output)
    }

    /// As [`Compressor::new`], as hard as `level` says: 1 to 9 of gzip, 1 to 20 of zstd; others count as the nearest.
    ///
    /// # Errors
    /// Those of setting up zstd.
    pub fn with_level(compression: LayerCompression, level: Option<i32>, output: W) -> io::Result<Self> {
        Ok(Self(match compression {
            LayerCompression::None => Inner::Plain(output),
            LayerCompression::Gzip => {
                let level = level.map_or(GZIP_LEVEL, |level| level.clamp(1, 9).unsigned_abs());
                Inner::Gzip(Gzip::new(output, level))
            }
            LayerCompression::Zstd => {
                let mut encoder = ZstdEncoder::new(output, level.map_or(ZSTD_LEVEL, |level| level.clamp(1, 20)))?;
                encoder.include_checksum(true)?;
                // Any number of workers gives the same bytes; none at all gives others.
                encoder.multithread(u32::try_from(processors()).unwrap_or(1))?;
                Inner::Zstd(Box::new(encoder))
            }
        }))
    }

    /// Completes the stream and gives the output back.
    ///
    /// # Errors
    /// Those of writing to it.
    pub fn finish(self) -> io::Result<W> {
        match self.0 {
            Inner::Plain(output) => Ok(output),
            Inner::Gzip(gzip) => gzip.finish(),
            Inner::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Inner::Plain(output) => output.write(bytes),
            Inner::Gzip(gzip) => gzip.write(bytes),
            Inner::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Inner::Plain(output) => output.flush(),
            // Half a block is not written early: where blocks end must depend on the input alone.
            Inner::Gzip(_) => Ok(()),
            Inner::Zstd(_) => Ok(()),
        }
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(16)
}

/// One gzip member of independently deflated blocks, each ended by a sync flush (RFC 1951 3.2.4), as pigz makes them.
struct Gzip<W: Write> {
    output: W,
    level: u32,
    pending: Vec<Vec<u8>>,
    workers: usize,
    crc: crc32fast::Hasher,
    size: u64,
    has_header: bool,
}

impl<W: Write> Gzip<W> {
    fn new(output: W, level: u32) -> Self {
        let crc = crc32fast::Hasher::new();
        Self { output, level, pending: Vec::new(), workers: processors(), crc, size: 0, has_header: false }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.pending.last().is_none_or(|block| block.len() == BLOCK_BYTES) {
            if self.pending.len() == self.workers {
                self.compress_pending(false)?;
            }
            self.pending.push(Vec::with_capacity(BLOCK_BYTES));
        }
        let Some(block) = self.pending.last_mut() else { return Ok(0) };
        let count = bytes.len().min(BLOCK_BYTES - block.len());
        block.extend_from_slice(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn compress_pending(&mut self, is_last: bool) -> io::Result<()> {
        if !self.has_header {
            // Method 8, no flags, no time, no extra flags, unknown operating system (RFC 1952 2.3).
            self.output.write_all(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff])?;
            self.has_header = true;
        }
        let pending = std::mem::take(&mut self.pending);
        let deflated: Vec<io::Result<Deflated>> = match pending.as_slice() {
            [only] => vec![deflate(only, self.level)],
            blocks => std::thread::scope(|scope| {
                let level = self.level;
                let workers: Vec<_> = blocks.iter().map(|block| scope.spawn(move || deflate(block, level))).collect();
                let lost = || Err(io::Error::other("a compressing thread ended"));
                workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| lost())).collect()
            }),
        };
        for block in deflated {
            let block = block?;
            self.output.write_all(&block.bytes)?;
            self.crc.combine(&block.crc);
            self.size = self.size.wrapping_add(block.size);
        }
        if is_last {
            // An empty last block with fixed codes.
            self.output.write_all(&[3, 0])?;
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<W> {
        self.compress_pending(true)?;
        self.output.write_all(&self.crc.finalize().to_le_bytes())?;
        let size = u32::try_from(self.size & u64::from(u32::MAX)).unwrap_or_default();
        self.output.write_all(&size.to_le_bytes())?;
        Ok(self.output)
    }
}

struct Deflated {
    bytes: Vec<u8>,
    crc: crc32fast::Hasher,
    size: u64,
}

fn deflate(block: &[u8], level: u32) -> io::Result<Deflated> {
    let mut crc = crc32fast::Hasher::new();
    crc.update(block);
    let mut state = Compress::new(Compression::new(level), false);
    let mut bytes = Vec::with_capacity(block.len() / 2 + 1024);
    loop {
        let done = usize::try_from(state.total_in()).unwrap_or(usize::MAX);
        let rest = block.get(done..).unwrap_or_default();
        bytes.reserve(16 << 10);
        let status = state.compress_vec(rest, &mut bytes, FlushCompress::Sync).map_err(io::Error::other)?;
        let took_all = state.total_in() == block.len() as u64;
        // A sync flush is complete when there was room left for more.
        if took_all && bytes.len() < bytes.capacity() || status == Status::BufError {
            return Ok(Deflated { bytes, crc, size: block.len() as u64 });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::Decompressor;

    fn noise(count: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8 & if state & 64 == 0 { 0xff } else { 3 }
        };
        (0..count).map(|_| next()).collect()
    }

    fn compress(kind: LayerCompression, input: &[u8], piece: usize) -> Vec<u8> {
        let mut compressor = Compressor::new(kind, Vec::new()).unwrap();
        input.chunks(piece).for_each(|chunk| compressor.write_all(chunk).unwrap());
        compressor.finish().unwrap()
    }

    #[test]
    fn what_goes_in_comes_out() {
        for kind in [LayerCompression::None, LayerCompression::Gzip, LayerCompression::Zstd] {
            for size in [0, 1, 1024, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 5 * BLOCK_BYTES + 77] {
                let input = noise(size);
                let once = compress(kind, &input, 1000);
                assert_eq!(once, compress(kind, &input, 70_001), "{kind:?} {size}: pieces of input show");
                let mut output = Vec::new();
                Decompressor::detect(once.as_slice()).unwrap().read_to_end(&mut output).unwrap();
                assert!(output == input, "{kind:?} {size}");
                let mut output = Vec::new();
                let twice = [once.as_slice(), once.as_slice()].concat();
                Decompressor::detect(twice.as_slice()).unwrap().read_to_end(&mut output).unwrap();
                assert!(output == [input.as_slice(), &input].concat(), "{kind:?} {size}: members");
            }
        }
    }

    #[test]
    fn the_number_of_workers_does_not_show() {
        let input = noise(4 * BLOCK_BYTES + 5);
        let with = |workers| {
            let mut gzip = Gzip::new(Vec::new(), GZIP_LEVEL);
            gzip.workers = workers;
            let mut rest = input.as_slice();
            while !rest.is_empty() {
                rest = &rest[gzip.write(rest).unwrap()..];
            }
            gzip.finish().unwrap()
        };
        assert!(with(1) == with(2) && with(1) == with(7));
    }
}
