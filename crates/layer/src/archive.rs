//! Reading tar archives: POSIX ustar and pax, GNU, and what came before them.

use std::io::{self, BufRead, Read};

use crate::entry::to_path;
use crate::header::{BLOCK, Header};
use crate::pax::{self, Records};
use crate::{Device, Entry, Error, Kind, Result, Time, sparse};

/// The longest PAX header or GNU long name that is read, in bytes.
const MAX_EXTENSION_BYTES: u64 = 1 << 20;

const MIXED: &str = "its header is half of one format and half of another";

/// The largest number of eleven octal digits.
const MAX_OCTAL_SIZE: u64 = (1 << 33) - 1;

/// An archive read from front to back: an entry, then its bytes through [`Archive::data`], then the next entry.
///
/// Where readers are known to disagree about a header, the archive is refused and not guessed at.
pub struct Archive<R> {
    input: R,
    global: Records,
    /// Bytes of the present entry that were not read yet, and the padding after them.
    remaining: u64,
    padding: u64,
    offset: u64,
    header_offset: u64,
}

/// What extension headers said about the entry that follows them.
#[derive(Default)]
struct Extensions {
    pax: Option<Records>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    has_global: bool,
}

impl<R: BufRead> Archive<R> {
    /// Reads an uncompressed archive.
    pub fn new(input: R) -> Self {
        Self { input, global: Records::default(), remaining: 0, padding: 0, offset: 0, header_offset: 0 }
    }

    /// The next entry; none at the archive's end.
    ///
    /// # Errors
    /// [`Error::Malformed`] at the first thing that is not as the formats have it, [`Error::Read`].
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        let mut extensions = Extensions::default();
        loop {
            self.skip_data()?;
            self.header_offset = self.offset;
            let Some(header) = self.block_or_end()? else { return self.nothing_after(&extensions) };
            if header.is_zero() {
                self.end()?;
                return self.nothing_after(&extensions);
            }
            if !header.checksum_is_right() {
                return Err(self.malformed(&header.path(), "the checksum of its header is wrong"));
            }
            if !header.has_numbers() {
                return Err(self.malformed(&header.path(), "a number in its header is none"));
            }
            match header.kind() {
                b'x' | b'X' => {
                    let records = self.records(&header)?;
                    self.only_one(&header, extensions.pax.replace(records))?;
                }
                b'g' => {
                    self.add_global(&header)?;
                    extensions.has_global = true;
                }
                b'L' => {
                    let name = self.long_text(&header)?;
                    self.only_one(&header, extensions.long_name.replace(name))?;
                }
                b'K' => {
                    let link = self.long_text(&header)?;
                    self.only_one(&header, extensions.long_link.replace(link))?;
                }
                _ => return self.entry(&header, extensions).map(Some),
            }
        }
    }

    /// Of two headers of one kind for one entry some readers believe the first, and some the last.
    fn only_one<T>(&self, header: &Header, before: Option<T>) -> Result<()> {
        match before {
            None => Ok(()),
            Some(_) => Err(self.malformed(&header.path(), "a second extended header of its kind precedes one entry")),
        }
    }

    /// After one empty block comes another, or the end of the stream; about anything else readers disagree.
    fn end(&mut self) -> Result<()> {
        match self.input.fill_buf().map_err(Error::Read)?.is_empty() || self.block()?.is_zero() {
            true => Ok(()),
            false => Err(self.malformed(b"", "a single empty block stands between entries")),
        }
    }

    fn nothing_after(&self, extensions: &Extensions) -> Result<Option<Entry>> {
        match extensions.is_empty() {
            true => Ok(None),
            false => Err(self.malformed(b"", "the archive ends after an extended header")),
        }
    }

    /// The bytes of the entry returned last, in the order of the archive: of a sparse file, its pieces.
    pub fn data(&mut self) -> Data<'_, R> {
        Data(self)
    }

    /// The rest of the underlying stream, after the archive's end.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn drain(&mut self) -> Result<()> {
        loop {
            match self.input.fill_buf().map(<[u8]>::len) {
                Ok(0) => return Ok(()),
                Ok(count) => self.input.consume(count),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::Read(e)),
            }
        }
    }

    pub(crate) fn malformed(&self, entry: &[u8], reason: &'static str) -> Error {
        Error::Malformed { entry: to_path(entry).display().to_string(), offset: self.header_offset, reason }
    }

    fn set_data(&mut self, size: u64) {
        self.remaining = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    fn skip_data(&mut self) -> Result<()> {
        let (data, padding) = (self.remaining, self.padding);
        (self.remaining, self.padding) = (0, 0);
        if self.skip(data)? > 0 {
            return Err(self.malformed(b"", "the archive ends within its data"));
        }
        // umoci does not pad the last file of an archive, and everybody reads that.
        self.skip(padding).map(drop)
    }

    /// Skips `left` bytes; returns how many were missing at the end of the stream.
    fn skip(&mut self, mut left: u64) -> Result<u64> {
        while left > 0 {
            let available = self.input.fill_buf().map_err(Error::Read)?.len();
            if available == 0 {
                break;
            }
            let count = usize::try_from(left).map_or(available, |left| left.min(available));
            self.input.consume(count);
            self.offset += count as u64;
            left -= count as u64;
        }
        Ok(left)
    }

    /// A whole block, or none at the end of the stream, where an archive without end marks may stop.
    fn block_or_end(&mut self) -> Result<Option<Header>> {
        let mut block = [0; BLOCK];
        if self.input.fill_buf().map_err(Error::Read)?.is_empty() {
            return Ok(None);
        }
        match self.input.read_exact(&mut block) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                Err(self.malformed(b"", "the archive ends within a header"))
            }
            Err(e) => Err(Error::Read(e)),
            Ok(()) => {
                self.offset += BLOCK as u64;
                Ok(Some(Header(block)))
            }
        }
    }

    fn block(&mut self) -> Result<Header> {
        self.block_or_end()?.ok_or_else(|| self.malformed(b"", "the archive ends within a header"))
    }

    fn stored_size(&self, header: &Header) -> Result<u64> {
        let size = header.number(124, 12).and_then(|size| u64::try_from(size).ok());
        size.ok_or_else(|| self.malformed(&header.path(), "its size is no number"))
    }

    fn extension(&mut self, header: &Header) -> Result<Vec<u8>> {
        let size = self.stored_size(header)?;
        if size > MAX_EXTENSION_BYTES {
            return Err(self.malformed(&header.path(), "its extended header is over 1 MiB"));
        }
        self.set_data(size);
        let mut bytes = Vec::new();
        self.data().read_to_end(&mut bytes).map_err(Error::Read)?;
        if bytes.len() as u64 != size {
            return Err(self.malformed(&header.path(), "the archive ends within an extended header"));
        }
        Ok(bytes)
    }

    fn records(&mut self, header: &Header) -> Result<Records> {
        let bytes = self.extension(header)?;
        Records::parse(&bytes).map_err(|reason| self.malformed(&header.path(), reason))
    }

    /// Global records that would name or size every entry that follows are read differently by everybody: refused.
    fn add_global(&mut self, header: &Header) -> Result<()> {
        let records = self.records(header)?;
        let is_personal =
            |key: &Vec<u8>| matches!(key.as_slice(), b"path" | b"linkpath" | b"size") || key.starts_with(b"GNU.sparse");
        if !records.sparse_pairs.is_empty() || records.values.keys().any(is_personal) {
            return Err(self.malformed(&header.path(), "a global header gives every entry one name or size"));
        }
        self.global.values.extend(records.values);
        Ok(())
    }

    fn long_text(&mut self, header: &Header) -> Result<Vec<u8>> {
        let mut text = self.extension(header)?;
        // GNU tar counts the final NUL; who does not see one reads on.
        let mut padding = vec![0; usize::try_from(std::mem::take(&mut self.padding)).unwrap_or_default()];
        self.input.read_exact(&mut padding).map_err(Error::Read)?;
        self.offset += padding.len() as u64;
        if !text.contains(&0) && padding.iter().any(|&byte| byte != 0) {
            return Err(self.malformed(&header.path(), "a long name reaches past its size"));
        }
        let end = text.iter().position(|&c| c == 0).unwrap_or(text.len());
        if text.split_off(end).iter().any(|&c| c != 0) {
            return Err(self.malformed(&header.path(), "a long name contains a NUL byte"));
        }
        Ok(text)
    }

    fn entry(&mut self, header: &Header, extensions: Extensions) -> Result<Entry> {
        let pax = extensions.pax.unwrap_or_default().over(&self.global);
        let says = |text: &Option<Vec<u8>>, key| text.is_some() && pax.get(key).is_some();
        if says(&extensions.long_name, "path") || says(&extensions.long_link, "linkpath") {
            return Err(self.malformed(&header.path(), "both GNU and PAX headers name it"));
        }
        let mut entry = Entry::new(extensions.long_name.unwrap_or_else(|| header.path()), Kind::File, 0);
        entry.link = extensions.long_link.unwrap_or_else(|| header.text(157, 100).to_vec());
        let stored = self.stored_size(header)?;
        let sized = fill(&mut entry, header, &pax).and_then(|()| size(stored, &entry, &pax));
        let size = sized.map_err(|reason| self.malformed(&entry.path, reason))?;
        entry.size = size;
        self.set_data(size);
        if header.kind() == b'S' || pax.is_sparse() {
            self.find_holes(&mut entry, header, &pax)?;
        }
        Ok(entry)
    }

    fn find_holes(&mut self, entry: &mut Entry, header: &Header, pax: &Records) -> Result<()> {
        if entry.kind != Kind::File {
            return Err(self.malformed(&entry.path, "it is no regular file but sparse"));
        }
        let (map, size) = if header.kind() == b'S' {
            let found = sparse::old_gnu(header, || self.block())?;
            let (map, size) = found.map_err(|reason| self.malformed(&entry.path, reason))?;
            (map, Some(size))
        } else {
            let number = |key| pax.number(key).map_err(|reason| self.malformed(&entry.path, reason));
            let size = number("GNU.sparse.realsize")?.or(number("GNU.sparse.size")?);
            match pax.get("GNU.sparse.major") {
                Some(b"1") => {
                    let found = sparse::in_data(|| self.block_of_data())?;
                    (found.map_err(|reason| self.malformed(&entry.path, reason))?, size)
                }
                Some(b"0") | None => {
                    let found = sparse::in_records(pax).map_err(|reason| self.malformed(&entry.path, reason))?;
                    let no_map = || self.malformed(&entry.path, "it is sparse and has no map");
                    (found.ok_or_else(no_map)?, size)
                }
                Some(_) => return Err(self.malformed(&entry.path, "its sparse format is unknown")),
            }
        };
        let size = size.ok_or_else(|| self.malformed(&entry.path, "it is sparse and has no real size"))?;
        sparse::check(&map, size, self.remaining).map_err(|reason| self.malformed(&entry.path, reason))?;
        entry.size = size;
        entry.sparse = Some(map);
        Ok(())
    }

    fn block_of_data(&mut self) -> Result<Header> {
        let left = self.remaining.checked_sub(BLOCK as u64);
        let left = left.ok_or_else(|| self.malformed(b"", "its sparse map reaches past its data"))?;
        let block = self.block()?;
        self.remaining = left;
        Ok(block)
    }
}

impl Extensions {
    fn is_empty(&self) -> bool {
        self.pax.is_none() && self.long_name.is_none() && self.long_link.is_none() && !self.has_global
    }
}

/// How many bytes follow the header, where its own size field says `stored`.
fn size(stored: u64, entry: &Entry, pax: &Records) -> std::result::Result<u64, &'static str> {
    let real = pax.number("size")?;
    // A writer leaves the field empty or full when the number does not fit.
    if real.is_some_and(|real| real != stored && stored != 0 && stored != MAX_OCTAL_SIZE) {
        return Err("its PAX header and its own header differ about its size");
    }
    match (entry.kind, real.unwrap_or(stored)) {
        (Kind::File, size) => Ok(size),
        // GNU tar, Python and Go agree that a hard link has no bytes, whatever its size field says; not so about PAX.
        (Kind::HardLink, _) if real.unwrap_or_default() == 0 => Ok(0),
        (_, 0) => Ok(0),
        _ => Err("it is no regular file but has a size"),
    }
}

/// Everything about an entry but its size.
fn fill(entry: &mut Entry, header: &Header, pax: &Records) -> std::result::Result<(), &'static str> {
    let (sparse_name, path) = (pax.get("GNU.sparse.name"), pax.get("path"));
    if sparse_name.is_some() && path.is_some() && sparse_name != path {
        return Err("its PAX header gives it two names");
    }
    if let Some(path) = sparse_name.or(path) {
        entry.path = path.to_vec();
    } else if header.has_foreign_prefix() {
        return Err(MIXED);
    }
    if header.is_mixed() {
        return Err(MIXED);
    }
    if entry.path.is_empty() {
        return Err("it has no name");
    }
    if let Some(link) = pax.get("linkpath") {
        entry.link = link.to_vec();
    }
    let id = |key, at| {
        let id = match pax.number(key)? {
            Some(id) => Some(id),
            None => header.number(at, 8).and_then(|id| u64::try_from(id).ok()),
        };
        // The last id means "none" to chown(2).
        id.and_then(|id| u32::try_from(id).ok()).filter(|id| *id != u32::MAX).ok_or("its owner is no number")
    };
    (entry.uid, entry.gid) = (id("uid", 108)?, id("gid", 116)?);
    let mode = header.number(100, 8).ok_or("its mode is no number")?;
    entry.mode = u32::try_from(mode & 0o7777).unwrap_or_default();
    entry.mtime = match pax.get("mtime") {
        Some(text) => pax::time(text).ok_or("its time is no number")?,
        None => Time { seconds: header.number(136, 12).ok_or("its time is no number")?, nanoseconds: 0 },
    };
    entry.kind = kind(header, &entry.path)?;
    if matches!(entry.kind, Kind::HardLink | Kind::Symlink) && entry.link.is_empty() {
        return Err("it is a link to nothing");
    }
    for (key, value) in &pax.values {
        let name = key.strip_prefix(b"SCHILY.xattr.");
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            entry.xattrs.insert(name.to_vec(), value.clone());
        }
    }
    Ok(())
}

fn kind(header: &Header, path: &[u8]) -> std::result::Result<Kind, &'static str> {
    let device = || {
        let number = |at| header.number(at, 8).and_then(|n| u32::try_from(n).ok());
        let (major, minor) = number(329).zip(number(337)).ok_or("its device number is no number")?;
        Ok::<_, &'static str>(Device { major, minor })
    };
    Ok(match header.kind() {
        // The seventh edition had no type for directories; to some readers the header's own name says it, to others the
        // one of an extended header.
        0 if path.ends_with(b"/") != header.path().ends_with(b"/") => {
            return Err("its names differ about its being a directory");
        }
        0 if path.ends_with(b"/") => Kind::Directory,
        b'0' | b'7' | b'S' if path.ends_with(b"/") => return Err("it is a file with the name of a directory"),
        b'0' | 0 | b'7' | b'S' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::Character(device()?),
        b'4' => Kind::Block(device()?),
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        _ => return Err("its type is unknown"),
    })
}

/// The bytes of one entry.
pub struct Data<'a, R>(&'a mut Archive<R>);

impl<R: BufRead> BufRead for Data<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.0.remaining == 0 {
            return Ok(&[]);
        }
        let limit = usize::try_from(self.0.remaining).unwrap_or(usize::MAX);
        let buffer = self.0.input.fill_buf()?;
        if buffer.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends within a file"));
        }
        Ok(buffer.get(..limit.min(buffer.len())).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.0.input.consume(count);
        self.0.remaining = self.0.remaining.saturating_sub(count as u64);
        self.0.offset += count as u64;
    }
}

impl<R: BufRead> Read for Data<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}
