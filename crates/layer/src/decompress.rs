//! Uncompressing layers as they stream.

use std::io::{self, BufReader, Chain, Cursor, Read};

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;
use zstd::stream::read::Decoder as ZstdDecoder;

const BUFFER_BYTES: usize = 128 << 10;
/// As many bytes as tell compressions apart.
const MAGIC_BYTES: u64 = 10;
/// zstd's own limit, and so that of every reader with default settings: a window of 128 MiB (zstd(1) "--long").
const ZSTD_WINDOW_LOG: u32 = 27;
/// The dictionary of `xz -9`, 64 MiB, and the decoder's own tables.
const XZ_MEMORY_KIB: u32 = (64 << 10) + 1024;

/// How bytes are compressed, as their beginning says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, RFC 1952.
    Gzip,
    /// bzip2.
    Bzip2,
    /// xz, of xz-utils.
    Xz,
    /// zstd, RFC 8878.
    Zstd,
}

impl Compression {
    /// What a stream that begins so is; ten bytes are enough.
    pub fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, 8, ..] => Self::Gzip,
            // A digit for the block size, then the first block's magic number, or the one of a stream without blocks.
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..]
            | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, 0x45, 0x38, 0x50, 0x90, ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            // A frame, or a skippable one before it, as zstd:chunked has them.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
}

/// The uncompressed bytes of a layer: plain, or compressed in any number of members, streams or frames.
///
/// What it is, the first bytes say: media types of layers are often wrong, and the diff ID decides. The memory it takes
/// is bounded whatever the bytes demand: zstd windows of up to 128 MiB, xz dictionaries of up to 64 MiB.
///
/// Reading to the end reads the underlying stream to its end too, so that a reader which verifies there has done so.
pub struct Decompressor<R: Read>(Inner<R>);

/// The stream, with its first bytes put back before it.
type Input<R> = BufReader<Chain<Cursor<Vec<u8>>, R>>;

enum Inner<R: Read> {
    Plain(Input<R>),
    Gzip(Box<MultiGzDecoder<Input<R>>>),
    Bzip2(Box<MultiBzDecoder<Input<R>>>),
    Xz(Box<XzReader<Input<R>>>),
    Zstd(Box<ZstdDecoder<'static, Input<R>>>),
}

impl<R: Read> Decompressor<R> {
    /// Uncompresses `input` as its first bytes say.
    ///
    /// # Errors
    /// Those of reading the first bytes and of setting up zstd.
    pub fn detect(mut input: R) -> io::Result<Self> {
        let mut start = Vec::new();
        input.by_ref().take(MAGIC_BYTES).read_to_end(&mut start)?;
        let compression = Compression::of(&start);
        let input = BufReader::with_capacity(BUFFER_BYTES, Cursor::new(start).chain(input));
        Ok(Self(match compression {
            Compression::None => Inner::Plain(input),
            Compression::Gzip => Inner::Gzip(Box::new(MultiGzDecoder::new(input))),
            Compression::Bzip2 => Inner::Bzip2(Box::new(MultiBzDecoder::new(input))),
            Compression::Xz => Inner::Xz(Box::new(XzReader::new_mem_limit(input, true, XZ_MEMORY_KIB))),
            Compression::Zstd => {
                let mut decoder = ZstdDecoder::with_buffer(input)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Inner::Zstd(Box::new(decoder))
            }
        }))
    }
}

impl<R: Read> Read for Decompressor<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Inner::Plain(inner) => inner.read(buffer),
            Inner::Gzip(inner) => inner.read(buffer),
            Inner::Bzip2(inner) => inner.read(buffer),
            Inner::Xz(inner) => inner.read(buffer).map_err(|error| match error.kind() {
                io::ErrorKind::OutOfMemory => io::Error::other("its xz dictionary is larger than 64 MiB"),
                _ => error,
            }),
            Inner::Zstd(inner) => inner.read(buffer),
        }
    }
}
