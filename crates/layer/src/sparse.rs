//! Files with holes: the four ways in which GNU tar writes their maps ("Storing Sparse Files" of its manual).

use crate::header::{BLOCK, Header};
use crate::pax::{Records, decimal};

/// More pieces than any real file has; the map of them takes 2 MiB.
pub(crate) const MAX_PIECES: usize = 1 << 17;

/// Offset and length of each piece of data.
pub(crate) type Map = Vec<(u64, u64)>;

type Outcome<T> = Result<T, &'static str>;

const NOT_PAIRS: &str = "its sparse map is not a list of pairs";
const TOO_LONG: &str = "its sparse map is too long";

/// Reads `count` offset and length pairs of the old GNU format that begin at `at`; an unused pair ends them.
fn old_pairs(block: &Header, at: usize, count: usize, map: &mut Map) -> Outcome<()> {
    for pair in 0..count {
        let at = at + pair * 24;
        if block.bytes(at, 24).iter().all(|&byte| byte == 0) {
            break;
        }
        let number = |at| block.number(at, 12).and_then(|n| u64::try_from(n).ok()).ok_or(NOT_PAIRS);
        map.push((number(at)?, number(at + 12)?));
        if map.len() > MAX_PIECES {
            return Err(TOO_LONG);
        }
    }
    Ok(())
}

/// The map of an old GNU header of type `S`, whose further blocks `next` reads.
pub(crate) fn old_gnu<E>(
    header: &Header,
    mut next: impl FnMut() -> Result<Header, E>,
) -> Result<Outcome<(Map, u64)>, E> {
    let mut map = Map::new();
    if let Err(reason) = old_pairs(header, 386, 4, &mut map) {
        return Ok(Err(reason));
    }
    let mut is_extended = header.bytes(482, 1) != [0];
    while is_extended {
        let block = next()?;
        if let Err(reason) = old_pairs(&block, 0, 21, &mut map) {
            return Ok(Err(reason));
        }
        is_extended = block.bytes(504, 1) != [0];
    }
    let size = header.number(483, 12).and_then(|n| u64::try_from(n).ok());
    Ok(size.map(|size| (map, size)).ok_or("its real size is no number"))
}

/// The map in PAX records: version 0.0 repeats two keys, 0.1 has them all in one. None when there is no map in them.
pub(crate) fn in_records(records: &Records) -> Outcome<Option<Map>> {
    let numbers: Vec<u64> = if let Some(list) = records.get("GNU.sparse.map") {
        list.split(|&c| c == b',').map(decimal).collect::<Option<_>>().ok_or(NOT_PAIRS)?
    } else if records.sparse_pairs.is_empty() {
        return Ok(None);
    } else {
        records.sparse_pairs.iter().map(|n| decimal(n)).collect::<Option<_>>().ok_or(NOT_PAIRS)?
    };
    let pairs = numbers.chunks(2).map(|pair| match *pair {
        [offset, length] => Ok((offset, length)),
        _ => Err(NOT_PAIRS),
    });
    let map: Map = pairs.collect::<Outcome<_>>()?;
    let count = records.number("GNU.sparse.numblocks")?;
    if count.is_some_and(|count| count != map.len() as u64) {
        return Err("its sparse map has another length than its header says");
    }
    if map.len() > MAX_PIECES { Err(TOO_LONG) } else { Ok(Some(map)) }
}

/// The map of version 1.0: decimal lines at the beginning of the data, padded to whole blocks that `next` reads.
pub(crate) fn in_data<E>(mut next: impl FnMut() -> Result<Header, E>) -> Result<Outcome<Map>, E> {
    let mut text: Vec<u8> = Vec::new();
    let mut numbers: Vec<u64> = Vec::new();
    loop {
        let block = next()?;
        text.extend_from_slice(block.bytes(0, BLOCK));
        while let Some(end) = text.iter().position(|&c| c == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            let Some(number) = decimal(line.get(..end).unwrap_or_default()) else { return Ok(Err(NOT_PAIRS)) };
            numbers.push(number);
            let Some(count) = numbers.first().and_then(|n| usize::try_from(*n).ok()) else { return Ok(Err(TOO_LONG)) };
            if count > MAX_PIECES {
                return Ok(Err(TOO_LONG));
            }
            if numbers.len() == 2 * count + 1 {
                let pairs = numbers.get(1..).unwrap_or_default().chunks_exact(2);
                return Ok(Ok(pairs.filter_map(|p| Some((*p.first()?, *p.get(1)?))).collect()));
            }
        }
        if text.len() > 32 {
            return Ok(Err(NOT_PAIRS));
        }
    }
}

/// Checks that the pieces are in order, within the file, and as long together as the bytes that follow.
pub(crate) fn check(map: &Map, size: u64, stored: u64) -> Outcome<()> {
    let (mut end, mut sum) = (0_u64, 0_u64);
    for &(offset, length) in map {
        if offset < end {
            return Err("its sparse map is out of order");
        }
        end = offset.checked_add(length).filter(|end| *end <= size).ok_or("its sparse map reaches past its end")?;
        sum += length;
    }
    if sum == stored { Ok(()) } else { Err("its sparse map does not fit its data") }
}
