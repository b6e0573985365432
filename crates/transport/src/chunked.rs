//! zstd:chunked: a layer in which each file can be found and fetched alone, and plain zstd to everybody else.
//!
//! Every piece of the tar is a frame of its own. Frames that decoders skip follow: a table of contents, the rest of the
//! tar without its files (tar-split), and a footer that says where these are; annotations say it too.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::io::{self, BufRead, BufReader, Cursor, Read, Write};
use std::rc::Rc;

use hoy_layer::{Archive, Entry};
use hoy_oci::{Digest, Hasher};
use zstd::bulk::Compressor;

use crate::chunked_toc::{Chunk, Place, Table, TarSplit};

/// Annotations of a layer.
pub(crate) type Annotations = BTreeMap<String, String>;
/// The annotation that a layer of this kind is known by.
pub(crate) const TABLE_DIGEST: &str = "io.github.containers.zstd-chunked.manifest-checksum";
const TABLE_POSITION: &str = "io.github.containers.zstd-chunked.manifest-position";
const SPLIT_POSITION: &str = "io.github.containers.zstd-chunked.tarsplit-position";

const DEFAULT_LEVEL: i32 = 3;
const BUFFER_BYTES: usize = 128 << 10;
/// The longest piece of a file, in bytes.
const MAX_CHUNK_BYTES: usize = 4 << 20;
/// The most bytes of a tar that stand between two files, or behind the last one.
const MAX_BETWEEN_BYTES: usize = 64 << 20;
/// What begins a frame that decoders skip (RFC 8878 3.1.2).
const SKIPPABLE: [u8; 4] = [0x50, 0x2a, 0x4d, 0x18];
const FOOTER_MAGIC: &[u8; 8] = b"GNUlInUx";

/// A layer's tar in this form.
pub(crate) struct Chunked<R: Read> {
    archive: Archive<Logged<R>>,
    log: Rc<RefCell<Vec<u8>>>,
    zstd: Compressor<'static>,
    table: Table,
    split: TarSplit,
    names: HashSet<Vec<u8>>,
    /// The file that is being read.
    file: Option<Open>,
    /// Of it, what is read and not written.
    pending: Vec<u8>,
    /// The padding before the next header.
    padding: usize,
    ready: Cursor<Vec<u8>>,
    written: u64,
    annotations: Option<Rc<RefCell<Annotations>>>,
}

struct Open {
    entry: Entry,
    header: Vec<u8>,
    left: u64,
    hasher: Hasher,
    chunks: Vec<Chunk>,
    start: u64,
    sum: RollingSum,
}

impl<R: Read> Chunked<R> {
    /// The tar `input`, compressed as hard as `level` says; at the end its annotations are put into `annotations`.
    pub(crate) fn new(input: R, level: Option<i32>, annotations: Rc<RefCell<Annotations>>) -> io::Result<Self> {
        let level = level.map_or(DEFAULT_LEVEL, |level| level.clamp(1, 20));
        let log = Rc::new(RefCell::new(Vec::new()));
        let logged = Logged { input: BufReader::with_capacity(BUFFER_BYTES, input), log: log.clone() };
        let mut zstd = Compressor::new(level)?;
        zstd.include_checksum(true)?;
        Ok(Self {
            archive: Archive::new(logged),
            log,
            zstd,
            table: Table::new(level)?,
            split: TarSplit::new(level)?,
            names: HashSet::new(),
            file: None,
            pending: Vec::new(),
            padding: 0,
            ready: Cursor::default(),
            written: 0,
            annotations: Some(annotations),
        })
    }

    /// Has the next bytes ready; false at the end.
    fn step(&mut self) -> io::Result<bool> {
        if let Some(file) = self.file.take() {
            self.chunk(file)?;
            return Ok(true);
        }
        let Some(annotations) = &self.annotations else { return Ok(false) };
        let annotations = annotations.clone();
        let entry = self.archive.next_entry().map_err(io::Error::other)?;
        if entry.is_none() {
            self.archive.drain().map_err(io::Error::other)?;
        }
        let between = std::mem::take(&mut *self.log.borrow_mut());
        if between.len() > MAX_BETWEEN_BYTES {
            return Err(refused(b"", "too much stands before or after a file"));
        }
        let mut output = Vec::new();
        if !between.is_empty() {
            output = self.zstd.compress(&between)?;
            self.split.segment(&between)?;
        }
        self.written += output.len() as u64;
        match entry {
            Some(entry) => self.begin(entry, between)?,
            None => {
                self.finish(&mut output, &mut annotations.borrow_mut())?;
                self.annotations = None;
            }
        }
        self.ready = Cursor::new(output);
        Ok(true)
    }

    fn begin(&mut self, entry: Entry, between: Vec<u8>) -> io::Result<()> {
        if !self.names.insert(clean(&entry.path)) {
            return Err(refused(&entry.path, "the layer has it twice"));
        }
        let header = between.get(self.padding..).unwrap_or_default().to_vec();
        let left = if entry.kind == hoy_layer::Kind::File { entry.size } else { 0 };
        self.padding = usize::try_from(left.wrapping_neg() % 512).unwrap_or_default();
        let file = Open {
            entry,
            header,
            left,
            hasher: Hasher::new(),
            chunks: Vec::new(),
            start: self.written,
            sum: RollingSum::new(),
        };
        if left == 0 {
            return self.end(file, None);
        }
        self.split.begin_file();
        self.file = Some(file);
        Ok(())
    }

    /// Writes the next piece of a file.
    fn chunk(&mut self, mut file: Open) -> io::Result<()> {
        let mut looked_at = 0;
        let end = loop {
            let fresh = self.pending.get(looked_at..).unwrap_or_default();
            if let Some(at) = fresh.iter().position(|byte| file.sum.roll(*byte)) {
                break looked_at + at + 1;
            }
            looked_at = self.pending.len();
            if looked_at >= MAX_CHUNK_BYTES || file.left == 0 {
                break looked_at;
            }
            let mut buffer = [0; 16 << 10];
            let count = self.archive.data().read(&mut buffer)?;
            self.log.borrow_mut().clear();
            if count == 0 {
                return Err(refused(&file.entry.path, "the layer ends within it"));
            }
            file.left = file.left.saturating_sub(count as u64);
            self.pending.extend_from_slice(buffer.get(..count).unwrap_or_default());
        };
        let bytes: Vec<u8> = self.pending.drain(..end).collect();
        file.hasher.update(&bytes);
        self.split.file_bytes(&bytes);
        file.chunks.push(Chunk { offset: self.written, size: bytes.len() as u64, digest: Digest::of(&bytes) });
        let output = self.zstd.compress(&bytes)?;
        self.written += output.len() as u64;
        self.ready = Cursor::new(output);
        if file.left == 0 && self.pending.is_empty() {
            let digest = file.hasher.clone().finish();
            return self.end(file, Some(digest));
        }
        self.file = Some(file);
        Ok(())
    }

    /// Has the table list a file.
    fn end(&mut self, file: Open, digest: Option<Digest>) -> io::Result<()> {
        let place = digest.map(|digest| Place { digest, start: file.start, end: self.written, chunks: &file.chunks });
        self.table.add(&file.entry, &file.header, place).map_err(|reason| refused(&file.entry.path, reason))?;
        let size = if digest.is_some() { file.entry.size } else { 0 };
        self.split.end_file(&file.entry.path, size)
    }

    /// Writes what follows the tar.
    fn finish(&mut self, output: &mut Vec<u8>, annotations: &mut Annotations) -> io::Result<()> {
        let (split, split_plain) = self.split.finish()?;
        let (table, table_plain) = self.table.finish(&Digest::of(&split))?;
        let table_at = self.written + 8;
        let split_at = table_at + table.len() as u64 + 8;
        let (table_size, split_size) = (table.len() as u64, split.len() as u64);
        // 1: the type of this table.
        let numbers = [table_at, table_size, table_plain, 1, split_at, split_size, split_plain];
        let footer: Vec<u8> = numbers.into_iter().flat_map(u64::to_le_bytes).chain(*FOOTER_MAGIC).collect();
        for frame in [&table, &split, &footer] {
            let size = u32::try_from(frame.len()).map_err(|_| io::Error::other("its table of contents is too long"))?;
            output.write_all(&SKIPPABLE)?;
            output.write_all(&size.to_le_bytes())?;
            output.write_all(frame)?;
        }
        annotations.insert(TABLE_DIGEST.to_owned(), Digest::of(&table).to_string());
        annotations.insert(TABLE_POSITION.to_owned(), format!("{table_at}:{table_size}:{table_plain}:1"));
        annotations.insert(SPLIT_POSITION.to_owned(), format!("{split_at}:{split_size}:{split_plain}"));
        Ok(())
    }
}

impl<R: Read> Read for Chunked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.ready.read(buffer)?;
            if count > 0 || buffer.is_empty() || !self.step()? {
                return Ok(count);
            }
        }
    }
}

fn refused(name: &[u8], reason: &str) -> io::Error {
    let name = String::from_utf8_lossy(name);
    io::Error::other(format!("zstd:chunked cannot hold entry {name:?} of the layer: {reason}"))
}

/// A name as far as it tells files apart.
fn clean(name: &[u8]) -> Vec<u8> {
    let parts = name.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    parts.collect::<Vec<_>>().join(&b'/')
}

/// A reader that keeps what was read of it.
struct Logged<R> {
    input: BufReader<R>,
    log: Rc<RefCell<Vec<u8>>>,
}

impl<R: Read> Read for Logged<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl<R: Read> BufRead for Logged<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.input.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        let mut log = self.log.borrow_mut();
        // One byte too many tells that there were more.
        let room = (MAX_BETWEEN_BYTES + 1).saturating_sub(log.len());
        log.extend_from_slice(self.input.buffer().get(..count.min(room)).unwrap_or_default());
        drop(log);
        self.input.consume(count);
    }
}

/// The sum over the last 64 bytes by which bup splits files, so that equal parts of files become equal pieces.
struct RollingSum {
    first: u32,
    second: u32,
    window: [u8; 64],
    at: usize,
}

impl RollingSum {
    const OFFSET: u32 = 31;
    const WINDOW: u32 = 64;
    /// A piece ends where these bits are all set: after 64 KiB on average.
    const SPLIT: u32 = (1 << 16) - 1;

    fn new() -> Self {
        let first = Self::WINDOW * Self::OFFSET;
        Self { first, second: first * (Self::WINDOW - 1), window: [0; 64], at: 0 }
    }

    /// Goes on by a byte; whether a piece ends after it.
    fn roll(&mut self, byte: u8) -> bool {
        let Some(slot) = self.window.get_mut(self.at) else { return false };
        let dropped = u32::from(std::mem::replace(slot, byte));
        self.at = (self.at + 1) % self.window.len();
        self.first = self.first.wrapping_add(u32::from(byte)).wrapping_sub(dropped);
        let leaves = Self::WINDOW.wrapping_mul(dropped + Self::OFFSET);
        self.second = self.second.wrapping_add(self.first).wrapping_sub(leaves);
        self.second & Self::SPLIT == Self::SPLIT
    }
}
