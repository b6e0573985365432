//! Compressed streams of every kind, whole, in parts, cut, and with demands on memory.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use hoy_layer::{Compression, Decompressor};

/// What the program `name` makes of `input`; none where it is not installed.
fn through(name: &str, args: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let started = Command::new(name).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut child) = started else {
        eprintln!("skipped: {name} is not installed");
        return None;
    };
    let (mut stdin, bytes) = (child.stdin.take().unwrap(), input.to_vec());
    let writer = std::thread::spawn(move || stdin.write_all(&bytes).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "{name} {args:?}");
    Some(output.stdout)
}

fn plain(input: impl Read) -> std::io::Result<Vec<u8>> {
    let mut output = Vec::new();
    Decompressor::detect(input)?.read_to_end(&mut output).map(|_| output)
}

fn text() -> Vec<u8> {
    (0..9_000_u32).flat_map(|n| format!("line {} of some text\n", n.wrapping_mul(2_654_435_761)).into_bytes()).collect()
}

/// A reader that gives one byte at a time, as a slow pipe may.
struct Slow<'a>(&'a [u8]);

impl Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = buffer.len().min(1);
        self.0.read(&mut buffer[..most])
    }
}

const PROGRAMS: &[(&str, &[&str], Compression)] = &[
    ("gzip", &["-c"], Compression::Gzip),
    ("bzip2", &["-c"], Compression::Bzip2),
    ("xz", &["-c", "-T1"], Compression::Xz),
    ("xz", &["-c", "-9", "--check=sha256", "--block-size=100000"], Compression::Xz),
    ("zstd", &["-c"], Compression::Zstd),
    ("zstd", &["-c", "--no-check"], Compression::Zstd),
];

#[test]
fn members_and_frames_of_any_number_are_one_stream() {
    let text = text();
    for (name, args, kind) in PROGRAMS {
        let Some(first) = through(name, args, &text) else { continue };
        let second = through(name, args, b"more").unwrap();
        assert_eq!(Compression::of(&first), *kind);
        let nothing = through(name, args, b"").unwrap();
        assert_eq!(Compression::of(&nothing), *kind, "{name} of nothing");
        let joined = [first.as_slice(), &nothing, &second].concat();
        assert!(plain(joined.as_slice()).unwrap() == [text.as_slice(), b"more"].concat(), "{name} {args:?}");
        assert!(plain(Slow(&second)).unwrap() == b"more", "{name} {args:?}, a byte at a time");
    }
}

#[test]
fn what_is_cut_or_damaged_is_no_success() {
    let text = text();
    for (name, args, _) in PROGRAMS {
        let Some(whole) = through(name, args, &text) else { continue };
        for length in (16..whole.len()).step_by(whole.len() / 25).chain([whole.len() - 1]) {
            assert!(plain(&whole[..length]).is_err(), "{name} {args:?} cut at {length} of {}", whole.len());
        }
        for at in (20..whole.len()).step_by(whole.len() / 25) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x55;
            let got = plain(damaged.as_slice());
            // Without a checksum some damage cannot be seen here; the diff ID sees it.
            let may_differ = args.contains(&"--no-check");
            assert!(may_differ || got.map_or(true, |got| got == text), "{name} {args:?} damaged at {at}");
        }
        let followed = [whole.as_slice(), b"something else"].concat();
        assert!(plain(followed.as_slice()).is_err(), "{name} {args:?} with something after it");
    }
}

/// zstd:chunked: the tar in frames of their own, with what the format adds in skippable frames between and after them.
#[test]
fn skippable_frames_are_skipped() {
    let skippable = |bytes: &[u8]| {
        [&[0x50, 0x2a, 0x4d, 0x18][..], &u32::try_from(bytes.len()).unwrap().to_le_bytes(), bytes].concat()
    };
    let frame = |text: &[u8]| zstd::encode_all(text, 3).unwrap();
    let parts = [skippable(b"x"), frame(b"one "), skippable(&[7; 100_000]), frame(b"two"), skippable(b"GNUlInUx")];
    assert_eq!(plain(parts.concat().as_slice()).unwrap(), b"one two");
    let cut = [frame(b"one"), skippable(&[7; 100])[..50].to_vec()].concat();
    assert!(plain(cut.as_slice()).is_err());
}

#[test]
fn memory_is_bounded_whatever_is_demanded() {
    // A window of 128 MiB is as much as zstd itself takes without being told.
    for (arg, fits) in [("--long=27", true), ("--long=28", false)] {
        let Some(bytes) = through("zstd", &["-c", "-1", arg, "--no-content-size"], &[7; 1 << 20]) else { continue };
        let window = plain(bytes.as_slice());
        assert_eq!(window.is_ok(), fits, "{arg}: {:?}", window.map(|bytes| bytes.len()));
    }
    for (size, fits) in [("64MiB", true), ("65MiB", false)] {
        let args = ["-c", "-T1", &format!("--lzma2=preset=0,dict={size}")];
        let Some(bytes) = through("xz", &args, b"small") else { continue };
        let got = plain(bytes.as_slice());
        assert_eq!(got.is_ok(), fits, "{size}: {got:?}");
        assert!(fits || got.unwrap_err().to_string().contains("64 MiB"));
    }
}

#[test]
fn what_only_begins_like_a_compressed_stream_is_plain() {
    for bytes in [&b""[..], b"BZh9", b"BZh9.tar\0\0", b"\x1f\x8b", b"\xfd7zXY\0\0\0\0\0", b"\x28\xb5\x2f"] {
        assert_eq!(plain(bytes).unwrap(), bytes);
    }
}
