//! Writing archives in one dialect: ustar, with PAX records exactly where ustar cannot say it.

use std::io::{Read, Write};

use crate::entry::split;
use crate::header::BLOCK;
use crate::{Device, Entry, Error, Kind, Result, pax};

/// Writes an archive whose bytes depend on its entries alone.
pub struct TarWriter<W: Write> {
    output: W,
}

impl<W: Write> TarWriter<W> {
    /// An archive that is written to `output`.
    pub fn new(output: W) -> Self {
        Self { output }
    }

    /// Adds an entry; of a regular file also exactly `entry.size` bytes of `data`.
    ///
    /// # Errors
    /// [`Error::Write`]; [`Error::Io`] when `data` fails or is shorter.
    pub fn append(&mut self, entry: &Entry, data: &mut impl Read) -> Result<()> {
        let (header, records) = encode(entry);
        if !records.is_empty() {
            let (_, base) = split(entry.path.strip_suffix(b"/").unwrap_or(&entry.path));
            let mut name = b"PaxHeaders/".to_vec();
            name.extend_from_slice(base.get(..base.len().min(80)).unwrap_or_default());
            let mut extended = Block::new(&name, b'x');
            extended.octal(100, 8, 0o644);
            extended.octal(124, 12, records.len() as u64);
            self.write(&extended.finish())?;
            self.write(&records)?;
            self.pad(records.len() as u64)?;
        }
        self.write(&header)?;
        if entry.kind == Kind::File {
            self.copy(entry, data)?;
            self.pad(entry.size)?;
        }
        Ok(())
    }

    /// Ends the archive with two empty blocks and gives the output back.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn finish(mut self) -> Result<W> {
        self.write(&[0; 2 * BLOCK])?;
        self.output.flush().map_err(Error::Write)?;
        Ok(self.output)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.output.write_all(bytes).map_err(Error::Write)
    }

    fn pad(&mut self, size: u64) -> Result<()> {
        let count = usize::try_from(size.wrapping_neg() % BLOCK as u64).unwrap_or_default();
        self.write([0; BLOCK].get(..count).unwrap_or_default())
    }

    fn copy(&mut self, entry: &Entry, data: &mut impl Read) -> Result<()> {
        let mut buffer = vec![0; usize::try_from(entry.size).unwrap_or(usize::MAX).clamp(1, 256 << 10)];
        let mut left = entry.size;
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let count =
                data.read(buffer.get_mut(..want).unwrap_or_default()).map_err(Error::io("read", &entry.path))?;
            if count == 0 {
                let short =
                    std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "it became shorter while it was read");
                return Err(Error::io("read", &entry.path)(short));
            }
            self.write(buffer.get(..count).unwrap_or_default())?;
            left -= count as u64;
        }
        Ok(())
    }
}

/// A header block being filled in.
struct Block([u8; BLOCK]);

impl Block {
    fn new(name: &[u8], kind: u8) -> Self {
        let mut block = Self([0; BLOCK]);
        block.text(0, name);
        block.text(156, &[kind]);
        block.text(257, b"ustar\x0000");
        for at in [100, 108, 116, 329, 337] {
            block.octal(at, 8, 0);
        }
        for at in [124, 136] {
            block.octal(at, 12, 0);
        }
        block
    }

    fn text(&mut self, at: usize, text: &[u8]) {
        self.0.iter_mut().skip(at).zip(text).for_each(|(to, from)| *to = *from);
    }

    /// Digits and a NUL; the caller made sure that they fit.
    fn octal(&mut self, at: usize, width: usize, mut value: u64) {
        for digit in self.0.get_mut(at..at + width - 1).into_iter().flatten().rev() {
            *digit = b'0' + u8::try_from(value % 8).unwrap_or_default();
            value /= 8;
        }
    }

    fn finish(mut self) -> [u8; BLOCK] {
        self.text(148, b"        ");
        let sum: u64 = self.0.iter().map(|&byte| u64::from(byte)).sum();
        self.octal(148, 7, sum);
        self.text(154, b"\0 ");
        self.0
    }
}

fn kind(kind: Kind) -> (u8, Device) {
    let none = Device { major: 0, minor: 0 };
    match kind {
        Kind::File => (b'0', none),
        Kind::HardLink => (b'1', none),
        Kind::Symlink => (b'2', none),
        Kind::Character(device) => (b'3', device),
        Kind::Block(device) => (b'4', device),
        Kind::Directory => (b'5', none),
        Kind::Fifo => (b'6', none),
    }
}

/// The header block, and the PAX records that go before it.
fn encode(entry: &Entry) -> ([u8; BLOCK], Vec<u8>) {
    let mut path = entry.path.clone();
    if entry.kind == Kind::Directory && !path.ends_with(b"/") {
        path.push(b'/');
    }
    let (kind, device) = kind(entry.kind);
    let mut block = Block::new(path.get(..100).unwrap_or(&path), kind);
    let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut record = |key: &str, value: &[u8]| records.push((key.as_bytes().to_vec(), value.to_vec()));
    if path.len() > 100 {
        record("path", &path);
    }
    block.text(157, entry.link.get(..100).unwrap_or(&entry.link));
    if entry.link.len() > 100 {
        record("linkpath", &entry.link);
    }
    block.octal(100, 8, entry.mode.into());
    for (key, at, id) in [("uid", 108, entry.uid), ("gid", 116, entry.gid)] {
        if u64::from(id) < 1 << 21 {
            block.octal(at, 8, id.into());
        } else {
            record(key, id.to_string().as_bytes());
        }
    }
    let size = if entry.kind == Kind::File { entry.size } else { 0 };
    if size < 1 << 33 {
        block.octal(124, 12, size);
    } else {
        record("size", size.to_string().as_bytes());
    }
    match u64::try_from(entry.mtime.seconds).ok().filter(|seconds| *seconds < 1 << 33) {
        Some(seconds) => block.octal(136, 12, seconds),
        None => record("mtime", decimal_time(entry).as_bytes()),
    }
    if entry.mtime.nanoseconds != 0 && (0..1 << 33).contains(&entry.mtime.seconds) {
        record("mtime", decimal_time(entry).as_bytes());
    }
    block.octal(329, 8, u64::from(device.major).min(0o7_777_777));
    block.octal(337, 8, u64::from(device.minor).min(0o7_777_777));
    for (name, value) in &entry.xattrs {
        records.push(([b"SCHILY.xattr.", name.as_slice()].concat(), value.clone()));
    }
    records.sort();
    (block.finish(), records.iter().flat_map(|(key, value)| pax::record(key, value)).collect())
}

fn decimal_time(entry: &Entry) -> String {
    let (seconds, nanoseconds) = (entry.mtime.seconds, entry.mtime.nanoseconds);
    let (sign, seconds, nanoseconds) = match (seconds < 0, nanoseconds) {
        (false, _) => ("", seconds.unsigned_abs(), nanoseconds),
        (true, 0) => ("-", seconds.unsigned_abs(), 0),
        (true, _) => ("-", seconds.unsigned_abs() - 1, 1_000_000_000 - nanoseconds),
    };
    let text = format!("{sign}{seconds}.{nanoseconds:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Archive, Time};

    #[test]
    fn what_is_written_is_read() {
        let mut plain = Entry::new("dir", Kind::Directory, 0o1777);
        plain.mtime = Time { seconds: 1, nanoseconds: 0 };
        let mut odd = Entry::new(vec![0xff; 300], Kind::File, 0o4755);
        (odd.uid, odd.gid, odd.size) = (3_000_000, u32::MAX - 1, 5);
        odd.mtime = Time { seconds: -2, nanoseconds: 750_000_000 };
        odd.xattrs.insert(b"user.x".to_vec(), b"a\nb=\0c".to_vec());
        let mut link = Entry::new("l", Kind::Symlink, 0o777);
        link.link = vec![b'x'; 101];
        let device = Entry::new("d", Kind::Block(Device { major: 259, minor: 1 << 19 }), 0o600);
        let mut early = Entry::new("e", Kind::Fifo, 0o600);
        early.mtime = Time { seconds: 1 << 40, nanoseconds: 1 };
        let mut writer = TarWriter::new(Vec::new());
        let all = [plain, odd, link, device, early];
        all.iter().for_each(|entry| writer.append(entry, &mut &b"cargo"[..]).unwrap());
        let bytes = writer.finish().unwrap();
        let mut archive = Archive::new(bytes.as_slice());
        for want in all {
            let mut got = archive.next_entry().unwrap().unwrap();
            if got.kind == Kind::Directory {
                got.path.pop();
            }
            assert_eq!(got, want);
        }
        assert_eq!(archive.next_entry().unwrap(), None);
    }

    #[test]
    fn nothing_is_two_empty_blocks() {
        assert_eq!(TarWriter::new(Vec::new()).finish().unwrap(), [0; 1024]);
    }
}
