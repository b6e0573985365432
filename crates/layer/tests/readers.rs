//! What Hoy takes an archive for is what GNU tar and Python's tarfile take it for, or the archive is refused
//! (CVE-2025-62518, CVE-2026-33055: an archive that is one thing to who checks it and another to who unpacks it).

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod doubtful;
mod raw;

use std::fs;
use std::path::Path;
use std::process::Command;

use hoy_layer::{Archive, Kind};

use doubtful::{doubtful, extended, long, nested};
use raw::{block, sign};

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
