//! A huge blob over connections that are slow: several of them, unless the registry sends no parts, or wrong ones.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hoy_oci::{Descriptor, Digest, MediaType, VerifyingReader};
use hoy_registry::{Options, Registry, Tls};

const SIZE: usize = 84 << 20;
/// What a connection brings a second, in bytes.
const SPEED: usize = 16 << 20;

/// How the server answers who asks for a part.
#[derive(Clone, Copy, PartialEq)]
enum Parts {
    Right,
    /// It says that it has none.
    None,
    /// It sends all of the blob.
    All,
    /// It sends the one that begins a byte later, and says so.
    Wrong,
    /// It sends less than it says.
    Short,
}

fn serve(stream: TcpStream, blob: &[u8], parts: Parts, open: &AtomicUsize, most: &AtomicUsize) -> io::Result<()> {
    let (mut reader, mut out) = (BufReader::new(stream.try_clone()?), stream);
    loop {
        let (mut line, mut range) = (String::new(), None);
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            if header.trim().is_empty() {
                break;
            }
            let header = header.to_lowercase();
            range = header.strip_prefix("range: bytes=").map(|value| value.trim().to_owned()).or(range);
        }
        if !line.contains("/blobs/") {
            out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")?;
            continue;
        }
        let numbers = range.as_deref().and_then(|range| range.split_once('-'));
        let (from, to) = match numbers {
            Some((from, to)) => (from.parse().unwrap(), to.parse().map_or(SIZE, |last: usize| last + 1)),
            None => (0, SIZE),
        };
        let is_part = numbers.is_some_and(|(_, to)| !to.is_empty());
        let (status, from, to) = match parts {
            Parts::All if is_part => ("200 OK".to_owned(), 0, SIZE),
            Parts::Wrong if is_part => {
                (format!("206 P\r\nContent-Range: bytes {}-{}/{SIZE}", from + 1, to - 1), from + 1, to)
            }
            _ if range.is_some() => (format!("206 P\r\nContent-Range: bytes {from}-{}/{SIZE}", to - 1), from, to),
            _ => ("200 OK".to_owned(), from, to),
        };
        let accepts = if parts == Parts::None { "none" } else { "bytes" };
        write!(out, "HTTP/1.1 {status}\r\nAccept-Ranges: {accepts}\r\nContent-Length: {}\r\n\r\n", to - from)?;
        let to = if parts == Parts::Short && is_part { to - 1000 } else { to };
        most.fetch_max(open.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        let sent = blob[from..to].chunks(SPEED / 100).try_for_each(|piece| -> io::Result<()> {
            let began = Instant::now();
            out.write_all(piece)?;
            std::thread::sleep(Duration::from_millis(10).saturating_sub(began.elapsed()));
            Ok(())
        });
        open.fetch_sub(1, Ordering::Relaxed);
        if parts == Parts::Short && is_part {
            return Ok(());
        }
        sent?;
    }
}

/// Reads the blob from a server that answers so; how many connections it came over at once.
fn read(parts: Parts) -> usize {
    // No two parts are alike: the pattern's length is a prime.
    let pattern: Vec<u8> = (0..1_000_003u32).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
    let blob: Vec<u8> = pattern.repeat(SIZE.div_ceil(pattern.len())).split_at(SIZE).0.to_vec();
    let descriptor = Descriptor::of(MediaType::from("x/y"), &blob);
    assert_eq!(descriptor.digest, Digest::of(&blob));
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let shared = Arc::new((blob, AtomicUsize::new(0), AtomicUsize::new(0)));
    let server = shared.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let server = server.clone();
            std::thread::spawn(move || {
                // A client that goes away has what it wants.
                serve(stream.unwrap(), &server.0, parts, &server.1, &server.2).unwrap_or_default();
            });
        }
    });
    let mut options = Options::default();
    options.tls = Tls { verify: false, ..Tls::default() };
    let registry = Registry::new(&address, options);
    let content = registry.blob("app", &descriptor, 0).unwrap();
    let count = io::copy(&mut VerifyingReader::new(content, &descriptor), &mut io::sink()).unwrap();
    assert_eq!(count, SIZE as u64);
    shared.2.load(Ordering::Relaxed)
}

#[test]
fn several_connections_bring_what_one_is_slow_with() {
    let most = read(Parts::Right);
    assert!((3..=5).contains(&most), "{most} connections");
}

#[test]
fn a_registry_without_parts_is_asked_for_none() {
    assert_eq!(read(Parts::None), 1);
}

#[test]
fn wrong_parts_are_not_taken() {
    std::thread::scope(|scope| {
        for parts in [Parts::All, Parts::Wrong, Parts::Short] {
            scope.spawn(move || read(parts));
        }
    });
}
