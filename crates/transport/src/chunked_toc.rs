//! What zstd:chunked says about a tar: its table of contents, and all of it but the files (tar-split), both in JSON.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hoy_layer::{Entry, Kind, Time};
use hoy_oci::{Digest, Timestamp};
use serde::Serialize;
use zstd::stream::write::Encoder;

type Reason = &'static str;

/// The years that times are written for: 1 to 9999, in seconds since 1970.
const SECONDS: std::ops::Range<i64> = -62_135_596_800..253_402_300_800;

/// A piece of a file: where its frame is, and its bytes.
pub(crate) struct Chunk {
    pub(crate) offset: u64,
    pub(crate) size: u64,
    pub(crate) digest: Digest,
}

/// Where a file's bytes are.
pub(crate) struct Place<'a> {
    pub(crate) digest: Digest,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) chunks: &'a [Chunk],
}

/// An entry of the table.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row<'a> {
    r#type: &'static str,
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    link_name: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    mode: u64,
    #[serde(skip_serializing_if = "is_zero")]
    size: u64,
    #[serde(skip_serializing_if = "is_zero")]
    uid: u64,
    #[serde(skip_serializing_if = "is_zero")]
    gid: u64,
    #[serde(rename = "modtime", skip_serializing_if = "Option::is_none")]
    modified: Option<Timestamp>,
    #[serde(rename = "accesstime", skip_serializing_if = "Option::is_none")]
    accessed: Option<Timestamp>,
    #[serde(rename = "changetime", skip_serializing_if = "Option::is_none")]
    changed: Option<Timestamp>,
    #[serde(skip_serializing_if = "is_zero")]
    dev_major: u64,
    #[serde(skip_serializing_if = "is_zero")]
    dev_minor: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    xattrs: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    #[serde(skip_serializing_if = "is_zero")]
    offset: u64,
    #[serde(skip_serializing_if = "is_zero")]
    end_offset: u64,
    #[serde(skip_serializing_if = "is_zero")]
    chunk_size: u64,
    #[serde(skip_serializing_if = "is_zero")]
    chunk_offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    chunk_digest: Option<Digest>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Text that is compressed as it is written, and its length before.
struct Text {
    output: Encoder<'static, Vec<u8>>,
    size: u64,
}

impl Text {
    fn new(level: i32) -> io::Result<Self> {
        Ok(Self { output: Encoder::new(Vec::new(), level)?, size: 0 })
    }

    fn add(&mut self, text: &[u8]) -> io::Result<()> {
        self.size += text.len() as u64;
        self.output.write_all(text)
    }

    fn add_json(&mut self, value: &impl Serialize) -> io::Result<()> {
        self.add(&serde_json::to_vec(value)?)
    }

    /// What was written, compressed.
    fn finish(&mut self) -> io::Result<(Vec<u8>, u64)> {
        self.output.do_finish()?;
        Ok((std::mem::take(self.output.get_mut()), self.size))
    }
}

/// The table of contents.
pub(crate) struct Table {
    text: Text,
    has_rows: bool,
}

impl Table {
    pub(crate) fn new(level: i32) -> io::Result<Self> {
        let mut text = Text::new(level)?;
        text.add(br#"{"version":1,"entries":["#)?;
        Ok(Self { text, has_rows: false })
    }

    /// Lists an entry of the tar, by what its header blocks say.
    pub(crate) fn add(&mut self, entry: &Entry, header: &[u8], place: Option<Place<'_>>) -> Result<(), Reason> {
        let facts = Facts::read(header)?;
        let text = |bytes| std::str::from_utf8(bytes).map_err(|_| "its name is not UTF-8");
        let (kind, device) = match entry.kind {
            Kind::File => ("reg", None),
            Kind::HardLink => ("hardlink", None),
            Kind::Symlink => ("symlink", None),
            Kind::Character(device) => ("char", Some(device)),
            Kind::Block(device) => ("block", Some(device)),
            Kind::Directory => ("dir", None),
            Kind::Fifo => ("fifo", None),
        };
        if entry.sparse.is_some() {
            return Err("it has holes");
        }
        if entry.kind != Kind::File && facts.size != 0 {
            return Err("it is no regular file but has a size");
        }
        let name = text(&entry.path)?;
        let mut row = Row {
            r#type: kind,
            name,
            link_name: text(&entry.link)?,
            mode: facts.mode,
            size: entry.size,
            uid: entry.uid.into(),
            gid: entry.gid.into(),
            modified: Some(time(entry.mtime)?),
            accessed: facts.accessed.map(time).transpose()?,
            changed: facts.changed.map(time).transpose()?,
            dev_major: device.map_or(0, |device| device.major.into()),
            dev_minor: device.map_or(0, |device| device.minor.into()),
            xattrs: facts.xattrs,
            ..Row::default()
        };
        let mut more = Vec::new();
        if let Some(place) = place {
            (row.digest, row.offset, row.end_offset) = (Some(place.digest), place.start, place.end);
            if let [first, rest @ ..] = place.chunks
                && !rest.is_empty()
            {
                (row.chunk_size, row.chunk_digest) = (first.size, Some(first.digest));
                let mut at = first.size;
                for chunk in rest {
                    let (chunk_size, chunk_digest) = (chunk.size, Some(chunk.digest));
                    let chunk_offset = at;
                    at += chunk.size;
                    let offset = chunk.offset;
                    more.push(Row {
                        r#type: "chunk",
                        name,
                        offset,
                        chunk_size,
                        chunk_offset,
                        chunk_digest,
                        ..Row::default()
                    });
                }
            }
        }
        for row in [row].iter().chain(&more) {
            let comma: &[u8] = if std::mem::replace(&mut self.has_rows, true) { b"," } else { b"" };
            self.text.add(comma).and_then(|()| self.text.add_json(row)).map_err(|_| "there is no memory for it")?;
        }
        Ok(())
    }

    /// The table, compressed, and its length before.
    pub(crate) fn finish(&mut self, split: &Digest) -> io::Result<(Vec<u8>, u64)> {
        self.text.add(format!(r#"],"tarSplitDigest":"{split}"}}"#).as_bytes())?;
        self.text.finish()
    }
}

fn time(time: Time) -> Result<Timestamp, Reason> {
    if !SECONDS.contains(&time.seconds) {
        return Err("its time is in no year from 1 to 9999");
    }
    let whole = Duration::from_secs(time.seconds.unsigned_abs());
    let base = if time.seconds < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    let moment = base.and_then(|base| base.checked_add(Duration::from_nanos(time.nanoseconds.into())));
    moment.map(Timestamp::from).ok_or("its time is out of range")
}

/// What header blocks say that an [`Entry`] does not have, or not as it is written.
#[derive(Default)]
struct Facts {
    mode: u64,
    size: u64,
    accessed: Option<Time>,
    changed: Option<Time>,
    xattrs: BTreeMap<String, String>,
}

impl Facts {
    /// Reads header blocks that were found right: extended headers, and the entry's own.
    fn read(mut blocks: &[u8]) -> Result<Self, Reason> {
        const DAMAGED: Reason = "its header is damaged";
        let mut facts = Self::default();
        loop {
            let (header, rest) = blocks.split_at_checked(512).ok_or(DAMAGED)?;
            let field = |at: usize, length: usize| header.get(at..at + length).unwrap_or_default();
            let size = octal(field(124, 12))?;
            match field(156, 1) {
                b"g" => return Err("a global header stands before it"),
                b"x" | b"X" => {
                    facts.add_records(rest.get(..usize::try_from(size).map_err(|_| DAMAGED)?).ok_or(DAMAGED)?)?
                }
                b"L" | b"K" => {}
                b"7" => return Err("it is a contiguous file"),
                _ => {
                    (facts.mode, facts.size) = (octal(field(100, 8))?, size);
                    // GNU's own format has the times where ustar has a part of the name.
                    let is_gnu = field(257, 8) == b"ustar  \0";
                    let own = |at| match field(at, 12) {
                        [0, ..] => Ok(None),
                        digits if is_gnu => octal(digits).map(|seconds| Some(seconds_only(seconds))),
                        _ => Ok(None),
                    };
                    facts.accessed = facts.accessed.or(own(345)?);
                    facts.changed = facts.changed.or(own(357)?);
                    return Ok(facts);
                }
            }
            let padded = usize::try_from(size.next_multiple_of(512)).map_err(|_| DAMAGED)?;
            blocks = rest.get(padded..).ok_or(DAMAGED)?;
        }
    }

    fn add_records(&mut self, mut records: &[u8]) -> Result<(), Reason> {
        const DAMAGED: Reason = "its PAX header is damaged";
        while !records.is_empty() {
            let blank = records.iter().position(|byte| *byte == b' ').ok_or(DAMAGED)?;
            let length = std::str::from_utf8(records.get(..blank).unwrap_or_default()).ok();
            let length: usize = length.and_then(|text| text.parse().ok()).ok_or(DAMAGED)?;
            let record = records.get(blank + 1..length.saturating_sub(1)).ok_or(DAMAGED)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or(DAMAGED)?;
            let (key, value) = (record.get(..equals).unwrap_or_default(), record.get(equals + 1..).unwrap_or_default());
            match key {
                b"atime" => self.accessed = pax_time(value),
                b"ctime" => self.changed = pax_time(value),
                key => {
                    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                        let name = String::from_utf8(name.to_vec()).map_err(|_| "an attribute's name is not UTF-8")?;
                        self.xattrs.insert(name, STANDARD.encode(value));
                    }
                }
            }
            records = records.get(length..).unwrap_or_default();
        }
        Ok(())
    }
}

fn seconds_only(seconds: u64) -> Time {
    Time { seconds: i64::try_from(seconds).unwrap_or(i64::MAX), nanoseconds: 0 }
}

fn octal(field: &[u8]) -> Result<u64, Reason> {
    let text = std::str::from_utf8(field).map_err(|_| "a number of its header is in binary")?;
    let text = text.trim_matches([' ', '\0']);
    if text.is_empty() { Ok(0) } else { u64::from_str_radix(text, 8).map_err(|_| "a number of its header is none") }
}

/// Seconds with a fraction; none where it is no time.
fn pax_time(text: &[u8]) -> Option<Time> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanoseconds: u32 = digits.parse().ok()?;
    Some(match nanoseconds {
        nanoseconds @ 1.. if whole.starts_with('-') => {
            Time { seconds: seconds.checked_sub(1)?, nanoseconds: 1_000_000_000 - nanoseconds }
        }
        nanoseconds => Time { seconds, nanoseconds },
    })
}

/// One line of tar-split: bytes of the tar, or a file that stands there.
#[derive(Default, Serialize)]
struct Line<'a> {
    r#type: u8,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    size: u64,
    payload: Option<String>,
    position: u64,
}

/// All of a tar but its files' bytes, and their checksums.
pub(crate) struct TarSplit {
    text: Text,
    position: u64,
    sum: u64,
}

impl TarSplit {
    pub(crate) fn new(level: i32) -> io::Result<Self> {
        Ok(Self { text: Text::new(level)?, position: 0, sum: 0 })
    }

    pub(crate) fn segment(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.line(Line { r#type: 2, payload: Some(STANDARD.encode(bytes)), ..Line::default() })
    }

    pub(crate) fn begin_file(&mut self) {
        self.sum = 0;
    }

    /// CRC-64 of ISO 3309, as Go has it.
    pub(crate) fn file_bytes(&mut self, bytes: &[u8]) {
        let sum = bytes.iter().fold(!self.sum, |sum, byte| {
            let low = u8::try_from(sum & 0xff).unwrap_or_default() ^ byte;
            let of_byte = CRC.get(usize::from(low)).copied().unwrap_or_default();
            of_byte ^ (sum >> 8)
        });
        self.sum = !sum;
    }

    pub(crate) fn end_file(&mut self, name: &[u8], size: u64) -> io::Result<()> {
        let name = std::str::from_utf8(name).unwrap_or_default();
        let payload = (size > 0).then(|| STANDARD.encode(self.sum.to_be_bytes()));
        self.line(Line { r#type: 1, name, size, payload, position: 0 })
    }

    fn line(&mut self, line: Line<'_>) -> io::Result<()> {
        let position = self.position;
        self.position += 1;
        self.text.add_json(&Line { position, ..line })?;
        self.text.add(b"\n")
    }

    /// The lines, compressed, and their length before.
    pub(crate) fn finish(&mut self) -> io::Result<(Vec<u8>, u64)> {
        self.text.finish()
    }
}

const CRC: [u64; 256] = crc_table();

#[expect(clippy::indexing_slicing, reason = "the index is below the table's length")]
const fn crc_table() -> [u64; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut sum = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ 0xd800_0000_0000_0000 } else { sum >> 1 };
            bit += 1;
        }
        table[byte] = sum;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_gos() {
        let mut split = TarSplit::new(3).unwrap();
        split.file_bytes(b"1234");
        split.file_bytes(b"56789");
        assert_eq!(split.sum, 0xb909_56c7_75a4_1001);
    }

    #[test]
    fn times() {
        let shown = |text: &str| time(pax_time(text.as_bytes()).unwrap()).unwrap().to_string();
        assert_eq!(shown("0"), "1970-01-01T00:00:00Z");
        assert_eq!(shown("1.5"), "1970-01-01T00:00:01.5Z");
        assert_eq!(shown("-1.25"), "1969-12-31T23:59:58.75Z");
        assert!(time(Time { seconds: i64::MAX, nanoseconds: 0 }).is_err());
        assert!(pax_time(b"x").is_none());
    }
}
