//! Trees whose records are not what they should be: named as unread, or of no packages, in bounded time.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::io::Cursor;

use hoy_layer::{Entry, Kind, TarWriter};
use hoy_sbom::Inventory;
use proptest::prelude::*;

const PATHS: [&str; 10] = [
    "etc/os-release",
    "var/lib/dpkg/status",
    "var/lib/dpkg/status.d/x",
    "lib/apk/db/installed",
    "var/lib/rpm/rpmdb.sqlite",
    "usr/lib/sysimage/rpm/Packages.db",
    "usr/lib/python3/dist-packages/x.dist-info/METADATA",
    "app/node_modules/x/package.json",
    "usr/bin/program",
    "./var/lib/dpkg/status",
];

fn read(files: &[(&str, Vec<u8>)]) -> Inventory {
    let mut writer = TarWriter::new(Vec::new());
    for (path, bytes) in files {
        let mut entry = Entry::new(*path, Kind::File, 0o755);
        entry.size = bytes.len() as u64;
        writer.append(&entry, &mut bytes.as_slice()).unwrap();
    }
    Inventory::read(Cursor::new(writer.finish().unwrap()), tempfile::tempfile().unwrap()).unwrap()
}

/// A database of one page of 512 bytes, which goes on as `rest` has it.
fn database(rest: &[u8]) -> Vec<u8> {
    let header = [b"SQLite format 3\0".as_slice(), &[2, 0, 1, 1, 0, 64, 32, 32], &[0; 76]].concat();
    [&header, rest].concat()
}

/// A program with these bytes after its identification.
fn program(rest: &[u8]) -> Vec<u8> {
    [b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0".as_slice(), rest].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        read(&PATHS.map(|path| (path, bytes.clone())));
    }

    #[test]
    fn nearly_databases_and_programs(rest in prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(5), Just(13), any::<u8>()], 412..3000)) {
        read(&[("var/lib/rpm/rpmdb.sqlite", database(&rest)), ("usr/bin/x", program(&rest))]);
    }
}

#[test]
fn a_tree_that_comes_back_to_itself_ends() {
    // An inner page whose children are itself.
    let mut page = vec![0; 412];
    page[..14].copy_from_slice(&[5, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 120]);
    page[20..25].copy_from_slice(&[0, 0, 0, 1, 1]);
    let found = read(&[("var/lib/rpm/rpmdb.sqlite", database(&page))]);
    assert_eq!(found.unread.len(), 1);
    assert_eq!(found.unread[0].reason, "the database is damaged");
}

/// A database with a table `Packages`, whose page has so many cells, all at one place: rows of 60 bytes.
fn packages(count: u8) -> Vec<u8> {
    let mut pages = vec![0; 412 + 512];
    let row = b"\x06\x17\x1d\x1d\x01\x00tablePackagesPackages\x02";
    pages[..10].copy_from_slice(&[13, 0, 0, 0, 1, 1, 0, 0, 1, 0]);
    pages[156..158].copy_from_slice(&[u8::try_from(row.len()).unwrap(), 1]);
    pages[158..158 + row.len()].copy_from_slice(row);
    let leaf = &mut pages[412..];
    leaf[..5].copy_from_slice(&[13, 0, 0, 0, count]);
    for cell in 0..usize::from(count) {
        leaf[8 + 2 * cell..10 + 2 * cell].copy_from_slice(&[1, 0xb0]);
    }
    leaf[0x1b0..0x1b5].copy_from_slice(&[60, 1, 3, 0, 0x7e]);
    database(&pages)
}

/// Rows that all claim the same bytes would be more than there is.
#[test]
fn bytes_belong_to_one_row() {
    let reason = |count| read(&[("var/lib/rpm/rpmdb.sqlite", packages(count))]).unread[0].reason.clone();
    assert_eq!(reason(2), "headers of 2 packages are damaged");
    assert_eq!(reason(200), "the database is damaged");
}

#[test]
fn what_is_not_read_is_named() {
    let found = read(&[
        ("var/lib/rpm/Packages", b"x".to_vec()),
        ("var/lib/rpm/rpmdb.sqlite-wal", Vec::new()),
        ("var/lib/rpm/rpmdb.sqlite", b"x".to_vec()),
        ("a/node_modules/x/package.json", b"{".to_vec()),
    ]);
    let named: Vec<_> = found.unread.iter().map(|unread| unread.path.as_str()).collect();
    assert_eq!(named, ["var/lib/rpm/Packages", "var/lib/rpm/rpmdb.sqlite", "a/node_modules/x/package.json"]);
}
