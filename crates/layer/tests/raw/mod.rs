//! Archives made block by block, so that anything can be wrong with them.

#![allow(dead_code, reason = "each test uses a part")]

use hoy_layer::{Entry, Kind, TarWriter};

pub(crate) fn me() -> (u32, u32) {
    (hoy_sys::rustix::process::getuid().as_raw(), hoy_sys::rustix::process::getgid().as_raw())
}

/// The header block of a file, to be spoilt.
pub(crate) fn block(path: &str, kind: u8, size: u64) -> [u8; 512] {
    let mut entry = Entry::new(path, Kind::File, 0o644);
    (entry.uid, entry.gid) = me();
    entry.size = size;
    let mut writer = TarWriter::new(Vec::new());
    writer.append(&entry, &mut std::io::repeat(b'x')).unwrap();
    let mut block: [u8; 512] = writer.finish().unwrap()[..512].try_into().unwrap();
    block[156] = kind;
    sign(&mut block);
    block
}

pub(crate) fn sign(block: &mut [u8; 512]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
}

pub(crate) fn padded(text: &[u8]) -> Vec<u8> {
    let mut text = text.to_vec();
    text.resize(text.len().next_multiple_of(512), 0);
    text
}

pub(crate) fn pax(kind: u8, records: &[u8]) -> Vec<u8> {
    [block("PaxHeaders/x", kind, records.len() as u64).to_vec(), padded(records)].concat()
}
