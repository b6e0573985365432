//! Uncompressing layers as they stream.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use hoy_oci::LayerCompression;
use zstd::stream::read::Decoder as ZstdDecoder;

const BUFFER_BYTES: usize = 128 << 10;

/// The uncompressed bytes of a layer: plain, gzip of any number of members, or zstd of any number of frames.
///
/// Reading to the end reads the underlying stream to its end too, so that a reader which verifies there has done so.
pub struct Decompressor<R: Read>(Inner<R>);

enum Inner<R: Read> {
    Plain(BufReader<R>),
    Gzip(Box<MultiGzDecoder<BufReader<R>>>),
    Zstd(Box<ZstdDecoder<'static, BufReader<R>>>),
}

impl<R: Read> Decompressor<R> {
    /// Uncompresses `input`, which is compressed as `compression` says.
    ///
    /// # Errors
    /// Those of setting up zstd.
    pub fn new(compression: LayerCompression, input: R) -> io::Result<Self> {
        Self::with(compression, BufReader::with_capacity(BUFFER_BYTES, input))
    }

    /// Uncompresses `input` as its first bytes say: media types of layers are often wrong, and the diff ID decides.
    ///
    /// # Errors
    /// Those of reading the first bytes and of setting up zstd.
    pub fn detect(input: R) -> io::Result<Self> {
        let mut input = BufReader::with_capacity(BUFFER_BYTES, input);
        let compression = match input.fill_buf()? {
            [0x1f, 0x8b, 8, ..] => LayerCompression::Gzip,
            // A zstd frame, or a skippable one before it.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => LayerCompression::Zstd,
            _ => LayerCompression::None,
        };
        Self::with(compression, input)
    }

    fn with(compression: LayerCompression, input: BufReader<R>) -> io::Result<Self> {
        Ok(Self(match compression {
            LayerCompression::None => Inner::Plain(input),
            LayerCompression::Gzip => Inner::Gzip(Box::new(MultiGzDecoder::new(input))),
            LayerCompression::Zstd => Inner::Zstd(Box::new(ZstdDecoder::with_buffer(input)?)),
        }))
    }
}

impl<R: Read> Read for Decompressor<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Inner::Plain(inner) => inner.read(buffer),
            Inner::Gzip(inner) => inner.read(buffer),
            Inner::Zstd(inner) => inner.read(buffer),
        }
    }
}
