//! What Hoy takes an archive for is what GNU tar and Python's tarfile take it for, or the archive is refused
//! (CVE-2025-62518, CVE-2026-33055: an archive that is one thing to who checks it and another to who unpacks it).

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod raw;

use std::fs;
use std::path::Path;
use std::process::Command;

use hoy_layer::{Archive, Kind};

use raw::{block, padded, pax, sign};

/// An entry as a reader sees it: kind as `ls -l` shows it, mode, owner, group, size of a regular file, name, link target.
type Seen = (char, u32, u64, u64, u64, Vec<u8>, Vec<u8>);

/// What a reader makes of an archive; none when it complains.
type Reading = Option<Vec<Seen>>;

const TARFILE: &str = r#"
import os, sys, tarfile
kinds = {b'0': '-', b'\0': '-', b'7': '-', b'S': '-', b'1': 'h', b'2': 'l', b'3': 'c', b'4': 'b', b'5': 'd', b'6': 'p'}
code = lambda text: text.encode('utf-8', 'surrogateescape').hex() or '-'
for number in range(int(sys.argv[1])):
    try:
        lines = []
        for m in tarfile.open(str(number), 'r:', encoding='utf-8', errors='surrogateescape'):
            kind = kinds.get(m.type, '?')
            link = m.linkname if kind in 'hl' else ''
            if len(lines) > 1000: raise ValueError('it never ends')
            lines.append(f"{kind} {m.mode & 0o7777:o} {m.uid} {m.gid} {m.size if kind == '-' else 0} {code(m.name)} {code(link)}")
        print('archive', *lines, sep='\n')
    except Exception as error:
        print('wrong', error.__class__.__name__)
"#;

fn plain_name(name: &[u8]) -> Vec<u8> {
    let end = name.iter().rposition(|&c| c != b'/').map_or(0, |at| at + 1);
    name[..end].to_vec()
}

fn by_hoy(bytes: &[u8]) -> Result<Vec<Seen>, String> {
    let mut archive = Archive::new(bytes);
    let mut all = Vec::new();
    while let Some(entry) = archive.next_entry().map_err(|e| e.to_string())? {
        std::io::copy(&mut archive.data(), &mut std::io::sink()).map_err(|e| e.to_string())?;
        let (kind, size) = match entry.kind {
            Kind::File => ('-', entry.size),
            Kind::HardLink => ('h', 0),
            Kind::Symlink => ('l', 0),
            Kind::Character(_) => ('c', 0),
            Kind::Block(_) => ('b', 0),
            Kind::Directory => ('d', 0),
            Kind::Fifo => ('p', 0),
        };
        let link = if matches!(kind, 'h' | 'l') { entry.link } else { Vec::new() };
        all.push((kind, entry.mode, entry.uid.into(), entry.gid.into(), size, plain_name(&entry.path), link));
    }
    archive.drain().map_err(|e| e.to_string())?;
    Ok(all)
}

/// `directory` has the archives, named by their numbers.
fn by_python(directory: &Path, count: usize) -> Vec<Reading> {
    let output =
        Command::new("python3").args(["-c", TARFILE, &count.to_string()]).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let bytes = |text: &str| -> Vec<u8> {
        let digits = text.trim_matches('-').as_bytes().chunks(2);
        digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    };
    let mut all: Vec<Reading> = Vec::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["archive"] => all.push(Some(Vec::new())),
            ["wrong", _] => all.push(None),
            [kind, mode, uid, gid, size, name, link] => {
                let number = |text: &str| text.parse().unwrap_or(u64::MAX);
                let seen = (
                    kind.chars().next().unwrap(),
                    u32::from_str_radix(mode, 8).unwrap(),
                    number(uid),
                    number(gid),
                    number(size),
                    plain_name(&bytes(name)),
                    bytes(link),
                );
                all.last_mut().unwrap().as_mut().unwrap().push(seen);
            }
            _ => panic!("{line:?}"),
        }
    }
    assert_eq!(all.len(), count);
    all
}

fn by_gnu_tar(file: &Path) -> Reading {
    let mut tar = Command::new("tar");
    tar.args(["--numeric-owner", "--quoting-style=c", "-P", "-tvf"]).arg(file).env("LC_ALL", "C").env("TZ", "UTC");
    let output = tar.output().unwrap();
    if !output.status.success() {
        return None;
    }
    let lines = output.stdout.split(|&c| c == b'\n').filter(|line| !line.is_empty());
    Some(lines.map(|line| gnu_line(std::str::from_utf8(line).unwrap())).collect())
}

/// A line like `-rwxr-xr-x 0/0   5 1970-01-01 00:00 "name" -> "target"`.
fn gnu_line(line: &str) -> Seen {
    let (front, names) = line.split_once('"').unwrap();
    let fields: Vec<&str> = front.split_whitespace().collect();
    let (owner, group) = fields[1].split_once('/').unwrap();
    let kind = match line.chars().next().unwrap() {
        'C' => '-',
        kind => kind,
    };
    let (name, rest) = unquoted(names);
    let link = rest.split_once('"').map(|(_, quoted)| unquoted(quoted).0).unwrap_or_default();
    let size = if kind == '-' { fields[2].parse().unwrap() } else { 0 };
    let number = |text: &str| text.parse().unwrap_or(u64::MAX);
    (kind, mode(&fields[0][1..]), number(owner), number(group), size, plain_name(&name), link)
}

fn mode(letters: &str) -> u32 {
    let letters: Vec<char> = letters.chars().collect();
    let mut mode = 0;
    for (at, letter) in letters.iter().take(9).enumerate() {
        mode |= match letter {
            '-' | 'S' | 'T' => 0,
            _ => 0o400 >> at,
        };
        if matches!(letter, 's' | 'S' | 't' | 'T') {
            mode |= 0o4000 >> (at / 3);
        }
    }
    mode
}

/// The name up to the closing quote, and what follows.
fn unquoted(text: &str) -> (Vec<u8>, &str) {
    let bytes = text.as_bytes();
    let (mut name, mut at) = (Vec::new(), 0);
    while bytes[at] != b'"' {
        let escapes = [(b'a', 7), (b'b', 8), (b't', 9), (b'n', 10), (b'v', 11), (b'f', 12), (b'r', 13)];
        match (bytes[at], bytes[at + 1]) {
            (b'\\', b'0'..=b'3') => {
                name.push(u8::from_str_radix(&text[at + 1..at + 4], 8).unwrap());
                at += 4;
            }
            (b'\\', letter) => {
                name.push(escapes.iter().find(|(l, _)| *l == letter).map_or(letter, |(_, byte)| *byte));
                at += 2;
            }
            (byte, _) => {
                name.push(byte);
                at += 1;
            }
        }
    }
    (name, &text[at + 1..])
}

/// Reads with all three every archive that Hoy takes; says how many, and where somebody else sees another thing in one.
fn disagreements(archives: &[(String, Vec<u8>)]) -> (usize, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    let taken: Vec<_> = archives.iter().filter_map(|(what, bytes)| Some((what, bytes, by_hoy(bytes).ok()?))).collect();
    for (number, (_, bytes, _)) in taken.iter().enumerate() {
        fs::write(directory.path().join(number.to_string()), bytes).unwrap();
    }
    let python = by_python(directory.path(), taken.len());
    let mut different = Vec::new();
    for ((number, (what, bytes, ours)), python) in taken.iter().enumerate().zip(&python) {
        let gnu = by_gnu_tar(&directory.path().join(number.to_string()));
        if gnu.as_ref() != Some(ours) || python.as_ref() != Some(ours) {
            let shown = |reading: Option<&Vec<Seen>>| {
                let name = |e: &Seen| {
                    format!(
                        "{} {:o} {}/{} {} {:?} {:?}",
                        e.0,
                        e.1,
                        e.2,
                        e.3,
                        e.4,
                        e.5.escape_ascii().to_string(),
                        e.6.escape_ascii().to_string()
                    )
                };
                reading.map(|all| all.iter().map(name).collect::<Vec<_>>())
            };
            let [ours, gnu, python] = [Some(ours), gnu.as_ref(), python.as_ref()].map(shown);
            let headers = bytes.chunks(512).map(|block| block.escape_ascii().to_string().replace("\\x00\\x00", ""));
            let all = headers.collect::<Vec<_>>().join("\n    ");
            different.push(format!("{what}:\n  hoy {ours:?}\n  tar {gnu:?}\n  tarfile {python:?}\n    {all}"));
        }
    }
    (taken.len(), different)
}

fn has_readers() -> bool {
    let has = |name: &str| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success());
    let has_both = has("python3") && has("tar");
    if !has_both {
        eprintln!("skipped: needs python3 and tar");
    }
    has_both
}

/// A header with these bytes at these places.
fn with(mut header: [u8; 512], changes: &[(usize, &[u8])]) -> Vec<u8> {
    for (at, bytes) in changes {
        header[*at..at + bytes.len()].copy_from_slice(bytes);
    }
    sign(&mut header);
    header.to_vec()
}

fn record(key: &str, value: &str) -> Vec<u8> {
    let payload = key.len() + value.len() + 3;
    let length = (payload + 1..).find(|length| payload + length.to_string().len() == *length).unwrap();
    format!("{length} {key}={value}\n").into_bytes()
}

fn extended(records: &[(&str, &str)]) -> Vec<u8> {
    pax(b'x', &records.iter().flat_map(|(key, value)| record(key, value)).collect::<Vec<_>>())
}

fn long(kind: u8, text: &[u8]) -> Vec<u8> {
    [with(block("././@LongLink", kind, text.len() as u64), &[(257, b"ustar  \0")]), padded(text)].concat()
}

/// A file whose bytes look like an archive with a file `smuggled`.
fn nested() -> Vec<u8> {
    [block("smuggled", b'0', 0).to_vec(), vec![0; 1024]].concat()
}

/// Where readers are known to go apart, and whether Hoy takes it all the same.
fn doubtful() -> Vec<(&'static str, bool, Vec<u8>)> {
    let file = || block("a", b'0', 0);
    let inner = nested();
    let size = inner.len() as u64;
    let in_octal = format!("{size:011o}\0").into_bytes();
    let one = |parts: &[&[u8]]| parts.concat();
    vec![
        ("a file", true, one(&[&file()])),
        (
            "PAX says larger than the header's 0",
            true,
            one(&[&extended(&[("size", &size.to_string())]), &file(), &inner]),
        ),
        (
            "PAX says 0, the header more",
            false,
            one(&[&extended(&[("size", "0")]), &with(file(), &[(124, &in_octal)]), &inner]),
        ),
        (
            "PAX says less than the header",
            false,
            one(&[&extended(&[("size", "512")]), &with(file(), &[(124, &in_octal)]), &inner]),
        ),
        (
            "PAX says more than the header",
            false,
            one(&[&extended(&[("size", &size.to_string())]), &with(file(), &[(124, b"00000001000\0")]), &inner]),
        ),
        (
            "PAX size of a directory",
            false,
            one(&[&extended(&[("size", &size.to_string())]), &block("d/", b'5', 0), &inner]),
        ),
        (
            "PAX size of a hard link",
            false,
            one(&[
                &file(),
                &extended(&[("size", &size.to_string())]),
                &with(block("h", b'1', 0), &[(157, b"a")]),
                &inner,
            ]),
        ),
        (
            "PAX size of a symbolic link",
            false,
            one(&[&extended(&[("size", &size.to_string())]), &with(block("l", b'2', 0), &[(157, b"a")]), &inner]),
        ),
        ("PAX size of a FIFO", false, one(&[&extended(&[("size", &size.to_string())]), &block("p", b'6', 0), &inner])),
        (
            "PAX size of a volume label",
            false,
            one(&[&extended(&[("size", &size.to_string())]), &block("v", b'V', 0), &inner]),
        ),
        ("a directory with a size", false, one(&[&block("d/", b'5', size), &inner])),
        ("a FIFO with a size", false, one(&[&block("p", b'6', size), &inner])),
        ("a symbolic link with a size", false, one(&[&with(block("l", b'2', size), &[(157, b"a")]), &inner])),
        ("a hard link with a size", true, one(&[&file(), &with(block("h", b'1', size), &[(157, b"a")]), &inner])),
        ("two PAX headers", false, one(&[&extended(&[("path", "x")]), &extended(&[("size", "0")]), &file()])),
        (
            "two PAX sizes in one header",
            false,
            one(&[&extended(&[("size", "0"), ("size", &size.to_string())]), &file(), &inner]),
        ),
        ("two PAX paths in one header", false, one(&[&extended(&[("path", "x"), ("path", "y")]), &file()])),
        (
            "a PAX size taken back",
            false,
            one(&[&extended(&[("size", "")]), &with(file(), &[(124, &in_octal)]), &inner]),
        ),
        ("a PAX path taken back", false, one(&[&extended(&[("path", "")]), &file()])),
        ("a PAX size with a sign", false, one(&[&extended(&[("size", "+0")]), &file()])),
        ("a negative PAX size", false, one(&[&extended(&[("size", "-512")]), &file()])),
        ("a PAX size with a blank", false, one(&[&extended(&[("size", " 0")]), &file()])),
        ("a PAX size in hexadecimal", false, one(&[&extended(&[("size", "0x10")]), &file()])),
        ("a PAX size beyond 64 bits", false, one(&[&extended(&[("size", "18446744073709551616")]), &file()])),
        ("a PAX record that is too long", false, one(&[&pax(b'x', b"99 path=x\n"), &file()])),
        ("a PAX record without a newline", false, one(&[&pax(b'x', b"9 path=xy"), &file()])),
        ("a PAX record with NUL in its path", false, one(&[&extended(&[("path", "x\0y")]), &file()])),
        (
            "a PAX record with NUL in its link",
            false,
            one(&[&extended(&[("linkpath", "x\0y")]), &with(block("l", b'2', 0), &[(157, b"a")])]),
        ),
        ("a PAX path with a newline", true, one(&[&extended(&[("path", "x\ny")]), &file()])),
        ("a global path", false, one(&[&pax(b'g', &record("path", "x")), &file()])),
        ("a global size", false, one(&[&pax(b'g', &record("size", "512")), &file(), &inner])),
        ("a global owner", true, one(&[&pax(b'g', &record("uid", "7")), &file()])),
        ("a global comment, as git writes it", true, one(&[&pax(b'g', &record("comment", "hash")), &file()])),
        ("a Solaris extended header", true, one(&[&pax(b'X', &record("path", "x")), &file()])),
        ("a long name, then PAX", false, one(&[&long(b'L', b"long\0"), &extended(&[("path", "pax")]), &file()])),
        ("PAX, then a long name", false, one(&[&extended(&[("path", "pax")]), &long(b'L', b"long\0"), &file()])),
        (
            "a long name and PAX without a path",
            true,
            one(&[&long(b'L', b"long\0"), &extended(&[("mtime", "1")]), &file()]),
        ),
        ("two long names", false, one(&[&long(b'L', b"one\0"), &long(b'L', b"two\0"), &file()])),
        (
            "a long name and a long link",
            true,
            one(&[&long(b'K', b"target\0"), &long(b'L', b"name\0"), &with(block("l", b'2', 0), &[(157, b"a")])]),
        ),
        ("a long name without its NUL", true, one(&[&long(b'L', b"name"), &file()])),
        ("an empty long name", false, one(&[&long(b'L', b"\0"), &file()])),
        ("a long name with NUL inside", false, one(&[&long(b'L', b"one\0two\0"), &file()])),
        ("a long name at the end", false, one(&[&file(), &long(b'L', b"name\0")])),
        ("PAX at the end", false, one(&[&file(), &extended(&[("path", "x")])])),
        ("PAX before the end blocks", false, one(&[&file(), &extended(&[("path", "x")]), &[0; 1024]])),
        ("NUL in the name", true, one(&[&with(file(), &[(0, b"a\0b")])])),
        ("no name", false, one(&[&with(file(), &[(0, b"\0")])])),
        ("a name of 100 bytes", true, one(&[&with(file(), &[(0, &[b'n'; 100])])])),
        ("a prefix", true, one(&[&with(file(), &[(345, b"dir")])])),
        ("a prefix and GNU's magic", false, one(&[&with(file(), &[(257, b"ustar  \0"), (345, b"dir")])])),
        ("a prefix and no magic", false, one(&[&with(file(), &[(257, &[0; 8]), (345, b"dir")])])),
        ("a prefix and PAX", true, one(&[&extended(&[("path", "x")]), &with(file(), &[(345, b"dir")])])),
        ("a magic of neither", true, one(&[&with(file(), &[(257, b"usxar\x0000")])])),
        ("ustar with another version", true, one(&[&with(file(), &[(263, b"99"), (345, b"dir")])])),
        ("a file with a trailing slash", false, one(&[&block("d/", b'0', 0)])),
        ("a file with a trailing slash and a size", false, one(&[&block("d/", b'0', size), &inner])),
        ("an old file with a trailing slash", true, one(&[&block("d/", 0, 0)])),
        ("an old file with a trailing slash and a size", false, one(&[&block("d/", 0, size), &inner])),
        ("a contiguous file", true, one(&[&block("c", b'7', size), &inner])),
        ("an unknown type", false, one(&[&block("z", b'Z', size), &inner])),
        ("a reserved type", false, one(&[&block("z", b'8', size), &inner])),
        ("a dump directory", false, one(&[&block("d/", b'D', 0)])),
        ("a multivolume part", false, one(&[&block("m", b'M', size), &inner])),
        ("a volume label", false, one(&[&block("v", b'V', 0), &file()])),
        ("a size in base 256", true, one(&[&with(file(), &[(124, &[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0])]), &inner])),
        ("a negative size in base 256", false, one(&[&with(file(), &[(124, &[0xff; 12])]), &inner])),
        ("a size of 2^95", false, one(&[&with(file(), &[(124, &[0x80, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0])]), &inner])),
        (
            "a size of 2^64 and some",
            false,
            one(&[&with(file(), &[(124, &[0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 6, 0])]), &inner]),
        ),
        (
            "a size with bit 6 of the first byte",
            false,
            one(&[&with(file(), &[(124, &[0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0])]), &inner]),
        ),
        (
            "a size with the first byte's low bits",
            false,
            one(&[&with(file(), &[(124, &[0x81, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0])]), &inner]),
        ),
        ("a negative owner in base 256", false, one(&[&with(file(), &[(108, &[0xff; 8])])])),
        ("an owner of 2^32", false, one(&[&with(file(), &[(108, &[0x80, 0, 0, 1, 0, 0, 0, 0])])])),
        ("a blank size", false, one(&[&with(file(), &[(124, b"            ")])])),
        ("a size of blanks and digits", true, one(&[&with(file(), &[(124, b"       3000 ")]), &inner])),
        ("a size with digits after a NUL", false, one(&[&with(file(), &[(124, b"0\x003000\0\0\0\0\0\0")]), &inner])),
        ("a size with digits after a blank", false, one(&[&with(file(), &[(124, b"0 3000      ")]), &inner])),
        ("a size with a letter", false, one(&[&with(file(), &[(124, b"0000000300x\0")]), &inner])),
        ("a size with digit 9", false, one(&[&with(file(), &[(124, b"00000000900\0")]), &inner])),
        ("a size with a minus", false, one(&[&with(file(), &[(124, b"-0000000600\0")]), &inner])),
        ("a size that fills its field", true, one(&[&with(file(), &[(124, b"000000003000")]), &inner])),
        ("a mode in base 256", true, one(&[&with(file(), &[(100, &[0x80, 0, 0, 0, 0, 0, 1, 0xa4])])])),
        ("a mode with file type bits", true, one(&[&with(file(), &[(100, b"0100644\0")])])),
        ("a checksum of signed bytes", true, {
            let mut header = block("a", b'0', 0);
            header[0] = 0xe9;
            header[148..156].fill(b' ');
            let sum: i32 = header.iter().map(|&byte| i32::from(byte.cast_signed())).sum();
            header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            header.to_vec()
        }),
        ("a blank checksum", false, {
            let mut header = block("a", b'0', 0);
            header[148..156].fill(b' ');
            header.to_vec()
        }),
        ("a wrong checksum in the second entry", false, one(&[&file(), &[7; 512]])),
        ("one empty block, then more", false, one(&[&file(), &[0; 512], &block("b", b'0', 0)])),
        ("two empty blocks, then another archive", true, one(&[&file(), &[0; 1024], &block("b", b'0', 0), &[0; 1024]])),
        ("the end, then anything", true, one(&[&file(), &[0; 1024], b"anything"])),
        ("no end blocks", true, one(&[&block("a", b'0', size), &inner[..size as usize]])),
        ("nothing", true, vec![0; 1024]),
        ("cut in a header", false, file()[..511].to_vec()),
        ("cut in data", false, one(&[&block("a", b'0', size), &inner[..1000]])),
        ("cut in an extended header", false, pax(b'x', &record("path", "x"))[..700].to_vec()),
        ("a hard link to itself", true, one(&[&with(block("h", b'1', 0), &[(157, b"h")])])),
        ("a hard link to nothing", false, one(&[&block("h", b'1', 0)])),
        ("a symbolic link to nothing", false, one(&[&block("l", b'2', 0)])),
        ("a character device without numbers", true, one(&[&with(block("c", b'3', 0), &[(329, &[0; 16])])])),
        (
            "GNU times in place of a prefix",
            false,
            one(&[&with(file(), &[(257, b"ustar  \0"), (345, b"12345670123\x0012345670123\0")])]),
        ),
        (
            "a sparse map in a plain file's PAX",
            true,
            one(&[
                &extended(&[("GNU.sparse.size", "512"), ("GNU.sparse.numblocks", "1"), ("GNU.sparse.map", "0,512")]),
                &block("s", b'0', 512),
                &[1; 512],
            ]),
        ),
        (
            "a sparse size without a map",
            false,
            one(&[&extended(&[("GNU.sparse.realsize", "9999")]), &block("s", b'0', 512), &[1; 512]]),
        ),
        ("a sparse name without a map", false, one(&[&extended(&[("GNU.sparse.name", "other")]), &file()])),
        (
            "a sparse name before a path",
            false,
            one(&[&extended(&[("GNU.sparse.name", "other"), ("path", "path")]), &file()]),
        ),
        (
            "a sparse map of a directory",
            false,
            one(&[
                &extended(&[
                    ("GNU.sparse.major", "1"),
                    ("GNU.sparse.minor", "0"),
                    ("GNU.sparse.name", "x"),
                    ("GNU.sparse.realsize", "5"),
                ]),
                &block("d/", b'5', 0),
            ]),
        ),
        (
            "a sparse format to come",
            false,
            one(&[
                &extended(&[
                    ("GNU.sparse.major", "2"),
                    ("GNU.sparse.minor", "0"),
                    ("GNU.sparse.name", "x"),
                    ("GNU.sparse.realsize", "5"),
                ]),
                &file(),
            ]),
        ),
    ]
}

#[test]
fn readers_agree_or_the_archive_is_refused() {
    if !has_readers() {
        return;
    }
    let mut wrong = Vec::new();
    let mut archives = Vec::new();
    for (what, is_taken, mut bytes) in doubtful() {
        for has_end in [false, true] {
            let got = by_hoy(&bytes);
            if got.is_ok() != is_taken && !(has_end && what.starts_with("cut")) {
                wrong.push(format!("{what}: wanted {is_taken}, got {got:?}"));
            }
            archives.push((format!("{what}, end {has_end}"), bytes.clone()));
            bytes.resize(bytes.len().next_multiple_of(512) + 1024, 0);
        }
    }
    let (_, different) = disagreements(&archives);
    assert!(different.is_empty(), "{} disagreements:\n{}", different.len(), different.join("\n"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Archives with a few bytes of a few headers changed to what headers are made of, all checksums right.
fn spoilt(count: usize) -> Vec<(String, Vec<u8>)> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let pieces = |random: &mut dyn FnMut(usize) -> usize| -> Vec<Vec<u8>> {
        let mut blocks: Vec<Vec<u8>> = Vec::new();
        for _ in 0..=random(3) {
            match random(8) {
                0 => blocks.extend([extended(&[("path", "from-pax"), ("mtime", "1.5")])]),
                1 => blocks.extend([extended(&[("size", "600"), ("uid", "70000")])]),
                2 => blocks.extend([long(b'L', b"a/long/name\0")]),
                3 => blocks.extend([long(b'K', b"a/long/link\0")]),
                _ => {}
            }
            let kind = b"00000000\x0071235S46"[random(17)];
            let size = if matches!(kind, b'0' | b'7' | 0) { [0, 3, 512, 600][random(4)] } else { 0 };
            let mut header = block(["a", "dir/", "dir/b", "c"][random(4)], kind, size);
            if matches!(kind, b'1' | b'2') {
                header[157..160].copy_from_slice(b"a/b");
                sign(&mut header);
            }
            blocks.push(header.to_vec());
            let inner: Vec<u8> = nested().into_iter().cycle().take((size as usize).next_multiple_of(512)).collect();
            blocks.push(inner);
        }
        blocks
    };
    let fields = [
        0, 1, 99, 100, 107, 108, 116, 124, 125, 134, 135, 136, 148, 156, 157, 257, 262, 263, 329, 337, 345, 346, 386,
        482, 483,
    ];
    let bytes = b"\0 01234567879-+ax/.\x80\x81\xff\xc0gLKVSXx5612";
    (0..count)
        .map(|number| {
            let mut blocks = pieces(&mut random);
            for _ in 0..=random(3) {
                let at = random(blocks.len());
                let headers = blocks[at].len() / 512;
                if headers == 0 {
                    continue;
                }
                // Extended headers are two blocks, of which the second has the text.
                let block = &mut blocks[at][..512];
                let from = fields[random(fields.len())];
                for step in 0..=random(3) {
                    block[from + step] = bytes[random(bytes.len())];
                }
                sign(block.try_into().unwrap());
            }
            let mut bytes = blocks.concat();
            if random(4) > 0 {
                bytes.extend([0; 1024]);
            }
            (format!("random archive {number}"), bytes)
        })
        .collect()
}

#[test]
fn readers_agree_about_random_headers() {
    if !has_readers() {
        return;
    }
    let count = if std::env::var_os("HOY_LONG").is_some() { 20_000 } else { 600 };
    let archives = spoilt(count);
    let (taken, different) = disagreements(&archives);
    assert!(taken > count / 10, "only {taken} of {count} were taken at all");
    assert!(
        different.is_empty(),
        "{} disagreements of {taken}:\n{}",
        different.len(),
        different[..different.len().min(20)].join("\n")
    );
}
