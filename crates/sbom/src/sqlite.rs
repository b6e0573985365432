//! Reading a table of an SQLite database (sqlite.org, "Database File Format").

use std::fs::File;
use std::os::unix::fs::FileExt;

/// What the database is found to be when it is not what it should be.
const DAMAGED: &str = "the database is damaged";

/// The longest row that is read, in bytes.
const MAX_ROW_BYTES: usize = 64 << 20;

/// A value of a row, as far as it is of use here.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Column {
    /// NULL, or a number with a fraction.
    Other,
    Integer(i64),
    /// Text or a blob.
    Bytes(Vec<u8>),
}

type Result<T> = std::result::Result<T, String>;

pub(crate) struct Database<'a> {
    file: &'a File,
    page_bytes: usize,
    /// Without what each page keeps for others at its end.
    usable_bytes: usize,
    pages: u64,
}

impl<'a> Database<'a> {
    pub(crate) fn open(file: &'a File) -> Result<Self> {
        let mut header = [0; 100];
        file.read_exact_at(&mut header, 0).map_err(|_| DAMAGED)?;
        if !header.starts_with(b"SQLite format 3\0") {
            return Err("it is no SQLite database".to_owned());
        }
        let page_bytes = match number(&header, 16, 2)? {
            1 => 1 << 16,
            bytes => bytes,
        };
        let usable_bytes = page_bytes.saturating_sub(number(&header, 20, 1)?);
        if !page_bytes.is_power_of_two() || usable_bytes < 480 {
            return Err(DAMAGED.to_owned());
        }
        let length = file.metadata().map_err(|e| e.to_string())?.len();
        Ok(Self { file, page_bytes, usable_bytes, pages: length / page_bytes as u64 })
    }

    /// Shows every row of the table `name`, in the order of its keys.
    pub(crate) fn rows(&self, name: &str, mut each: impl FnMut(&[Column])) -> Result<()> {
        let mut root = None;
        self.walk(1, &mut |row| {
            if let [Column::Bytes(kind), Column::Bytes(found), _, Column::Integer(page), ..] = row
                && (kind.as_slice(), found.as_slice()) == (b"table", name.as_bytes())
            {
                root = usize::try_from(*page).ok();
            }
        })?;
        self.walk(root.ok_or_else(|| format!("the database has no table \"{name}\""))?, &mut each)
    }

    fn page(&self, number: usize) -> Result<Vec<u8>> {
        let mut page = vec![0; self.page_bytes];
        let offset = number.checked_sub(1).and_then(|before| before.checked_mul(self.page_bytes)).ok_or(DAMAGED)?;
        self.file.read_exact_at(&mut page, offset as u64).map_err(|_| DAMAGED)?;
        Ok(page)
    }

    /// A table's tree, from this page on.
    fn walk(&self, root: usize, each: &mut dyn FnMut(&[Column])) -> Result<()> {
        let (mut due, mut seen, mut left) = (vec![root], 0, self.pages.saturating_mul(self.page_bytes as u64));
        while let Some(page_number) = due.pop() {
            seen += 1;
            // A tree that comes back to itself has no end.
            if seen + due.len() as u64 > self.pages {
                return Err(DAMAGED.to_owned());
            }
            let page = self.page(page_number)?;
            let start = if page_number == 1 { 100 } else { 0 };
            let (kind, count) = (number(&page, start, 1)?, number(&page, start + 3, 2)?);
            let header_bytes = match kind {
                0x05 => 12,
                0x0d => 8,
                _ => return Err(DAMAGED.to_owned()),
            };
            let cells = (0..count).map(|cell| number(&page, start + header_bytes + 2 * cell, 2));
            let cells = cells.collect::<Result<Vec<_>>>()?;
            if kind == 0x05 {
                due.push(number(&page, start + 8, 4)?);
                let children = cells.iter().rev().map(|&cell| number(&page, cell, 4));
                due.extend(children.collect::<Result<Vec<_>>>()?);
                continue;
            }
            for cell in cells {
                let payload = self.payload(&page, cell)?;
                // No byte of a database belongs to two rows.
                left = left.checked_sub(payload.len() as u64).ok_or(DAMAGED)?;
                each(&columns(&payload)?);
            }
        }
        Ok(())
    }

    /// A row's bytes: what of them is in the page, and the rest in a chain of others.
    fn payload(&self, page: &[u8], cell: usize) -> Result<Vec<u8>> {
        let mut rest = page.get(cell..).ok_or(DAMAGED)?;
        let length = usize::try_from(varint(&mut rest)?).ok().filter(|length| *length <= MAX_ROW_BYTES);
        let length = length.ok_or("a row of the database is too long")?;
        let _key = varint(&mut rest)?;
        let most = self.usable_bytes - 35;
        let least = (self.usable_bytes - 12) * 32 / 255 - 23;
        let here = match length {
            length if length <= most => length,
            length => Some(least + (length - least) % (self.usable_bytes - 4)).filter(|k| *k <= most).unwrap_or(least),
        };
        let mut payload = rest.get(..here).ok_or(DAMAGED)?.to_vec();
        let mut next = if here < length { number(rest, here, 4)? } else { 0 };
        while payload.len() < length {
            let page = self.page(next)?;
            next = number(&page, 0, 4)?;
            let more = (length - payload.len()).min(self.usable_bytes - 4);
            payload.extend(page.get(4..4 + more).ok_or(DAMAGED)?);
        }
        Ok(payload)
    }
}

/// A number of so many bytes, the highest first.
fn number(bytes: &[u8], at: usize, count: usize) -> Result<usize> {
    let bytes = at.checked_add(count).and_then(|end| bytes.get(at..end)).ok_or(DAMAGED)?;
    Ok(bytes.iter().fold(0, |value, &byte| value << 8 | usize::from(byte)))
}

fn varint(bytes: &mut &[u8]) -> Result<u64> {
    let mut value = 0;
    for position in 0..9 {
        let (&byte, rest) = bytes.split_first().ok_or(DAMAGED)?;
        *bytes = rest;
        if position == 8 {
            return Ok(value << 8 | u64::from(byte));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte < 0x80 {
            break;
        }
    }
    Ok(value)
}

fn columns(record: &[u8]) -> Result<Vec<Column>> {
    let mut rest = record;
    let header_bytes = usize::try_from(varint(&mut rest)?).map_err(|_| DAMAGED)?;
    let of_header = header_bytes.checked_sub(record.len() - rest.len()).ok_or(DAMAGED)?;
    let (mut kinds, mut body) = rest.split_at_checked(of_header).ok_or(DAMAGED)?;
    let mut found = Vec::new();
    while !kinds.is_empty() {
        let kind = varint(&mut kinds)?;
        let length = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return Err(DAMAGED.to_owned()),
            _ => (kind - 12) / 2,
        };
        let length = usize::try_from(length).map_err(|_| DAMAGED)?;
        let (value, after) = body.split_at_checked(length).ok_or(DAMAGED)?;
        body = after;
        found.push(match kind {
            1..=6 => {
                let negative = value.first().is_some_and(|byte| *byte >= 0x80);
                let start = if negative { -1 } else { 0 };
                Column::Integer(value.iter().fold(start, |sum: i64, &byte| sum << 8 | i64::from(byte)))
            }
            8 | 9 => Column::Integer(i64::from(kind == 9)),
            0 | 7 => Column::Other,
            _ => Column::Bytes(value.to_vec()),
        });
    }
    Ok(found)
}
