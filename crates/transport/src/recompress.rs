//! Layers compressed in another way, as they stream.

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

use hoy_layer::{Compressor, Decompressor};
use hoy_oci::LayerCompression;

/// How much is read before it is compressed, in bytes.
const BUFFER_BYTES: usize = 128 << 10;

/// A layer's tar in a given compression, read from the layer in whatever compression it has.
pub(crate) enum Recompressed<R: Read> {
    Plain(Decompressor<R>),
    Compressed(Box<Compressing<Decompressor<R>>>),
}

impl<R: Read> Recompressed<R> {
    /// The layer `input` in compression `to`, compressed as hard as `level` says.
    pub(crate) fn new(input: R, to: LayerCompression, level: Option<i32>) -> io::Result<Self> {
        let plain = Decompressor::detect(input)?;
        Ok(match to {
            LayerCompression::None => Self::Plain(plain),
            to => Self::Compressed(Box::new(Compressing::new(plain, to, level)?)),
        })
    }
}

impl<R: Read> Read for Recompressed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(plain) => plain.read(buffer),
            Self::Compressed(compressing) => compressing.read(buffer),
        }
    }
}

/// Turns a writer that compresses into a reader of what it writes.
pub(crate) struct Compressing<R> {
    input: R,
    compressor: Option<Compressor<Shared>>,
    written: Shared,
    ready: io::Cursor<Vec<u8>>,
    buffer: Vec<u8>,
}

/// What the compressor has written and nobody has read.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Shared {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<R: Read> Compressing<R> {
    fn new(input: R, to: LayerCompression, level: Option<i32>) -> io::Result<Self> {
        let written = Shared::default();
        let compressor = Some(Compressor::with_level(to, level, written.clone())?);
        Ok(Self { input, compressor, written, ready: io::Cursor::default(), buffer: vec![0; BUFFER_BYTES] })
    }
}

impl<R: Read> Read for Compressing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.ready.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            let Some(compressor) = &mut self.compressor else { return Ok(0) };
            match self.input.read(&mut self.buffer) {
                Ok(0) => {
                    if let Some(compressor) = self.compressor.take() {
                        compressor.finish()?;
                    }
                }
                Ok(count) => compressor.write_all(self.buffer.get(..count).unwrap_or_default())?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
            self.ready = io::Cursor::new(self.written.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_to_any() {
        let tar: Vec<u8> = (0..3_000_000u32).map(|i| (i / 7 % 251) as u8).collect();
        let to = |input: &[u8], to| {
            let mut output = Vec::new();
            Recompressed::new(input, to, None).unwrap().read_to_end(&mut output).unwrap();
            output
        };
        for first in [LayerCompression::None, LayerCompression::Gzip, LayerCompression::Zstd] {
            let compressed = to(&tar, first);
            for second in [LayerCompression::None, LayerCompression::Gzip, LayerCompression::Zstd] {
                assert!(to(&to(&compressed, second), LayerCompression::None) == tar, "{first:?} {second:?}");
            }
        }
        assert!(
            Recompressed::new(&[0x1f, 0x8b, 8, 9][..], LayerCompression::None, None)
                .unwrap()
                .read_to_end(&mut vec![])
                .is_err()
        );
    }
}
