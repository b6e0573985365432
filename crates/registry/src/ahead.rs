//! The rest of a huge blob over several connections, where each of them is slow.

use std::collections::VecDeque;
use std::io::{self, Cursor, Read};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// What one request asks for, in bytes. One more than there are connections are held in memory, and used again: what a
/// thread frees is not given back while there are others.
const PART_BYTES: u64 = 1 << 20;
/// A blob is worth more than one connection while so much of it is to come, in bytes.
const WORTH_BYTES: u64 = 64 << 20;
/// A connection is slow that brings less than this a second, in bytes, for as long as it is watched.
const SLOW_BYTES: u64 = 24 << 20;
const WATCHED: Duration = Duration::from_secs(1);
/// How many connections are used for blobs in all, as far as this is concerned, and for one of them.
const MAX_CONNECTIONS: usize = 6;
const MAX_FOR_ONE: usize = 4;

/// How fast a connection is, while somebody waits for it.
#[derive(Default)]
pub(crate) struct Speed {
    waited: Duration,
    came: u64,
}

impl Speed {
    /// Watches `read`, which reads from the connection.
    pub(crate) fn watch(&mut self, read: impl FnOnce() -> io::Result<usize>) -> io::Result<usize> {
        let began = Instant::now();
        let count = read()?;
        self.waited += began.elapsed();
        self.came += count as u64;
        Ok(count)
    }

    /// How many connections to use instead of this one for a blob of which `left` bytes are to come, while `blobs` are on
    /// their way; none where one is right.
    pub(crate) fn connections(&mut self, left: u64, blobs: usize) -> Option<usize> {
        if self.waited < WATCHED {
            return None;
        }
        let is_slow = self.came as f64 / self.waited.as_secs_f64() < SLOW_BYTES as f64;
        *self = Self::default();
        let count = (MAX_CONNECTIONS / blobs.max(1)).min(MAX_FOR_ONE);
        (is_slow && left >= WORTH_BYTES && count > 1).then_some(count)
    }
}

/// Parts of a blob on their way.
pub(crate) struct Ahead {
    parts: VecDeque<Receiver<io::Result<Vec<u8>>>>,
    connections: usize,
    /// Where the first part begins that nobody has asked for.
    next: u64,
    end: u64,
    current: Cursor<Vec<u8>>,
}

impl Ahead {
    /// The bytes of a blob from `offset` to `end` over so many connections.
    pub(crate) fn new(offset: u64, end: u64, connections: usize) -> Self {
        Self { parts: VecDeque::new(), connections, next: offset, end, current: Cursor::default() }
    }

    /// The next bytes; `part` fetches those from one position to another into what it is given.
    pub(crate) fn read<P>(&mut self, buffer: &mut [u8], part: impl Fn() -> P) -> io::Result<usize>
    where
        P: FnOnce(u64, u64, &mut Vec<u8>) -> io::Result<()> + Send + 'static,
    {
        loop {
            let count = self.current.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            let mut used = std::mem::take(&mut self.current).into_inner();
            while self.parts.len() < self.connections && self.next < self.end {
                let (from, to) = (self.next, self.end.min(self.next + PART_BYTES));
                let (send, receive) = channel();
                let (fetch, mut bytes) = (part(), std::mem::take(&mut used));
                bytes.clear();
                bytes.reserve_exact(usize::try_from(PART_BYTES).unwrap_or_default());
                std::thread::Builder::new().spawn(move || {
                    let fetched = fetch(from, to, &mut bytes).map(|()| bytes);
                    // Nobody waits for the part of a blob that has been given up.
                    send.send(fetched).unwrap_or_default();
                })?;
                self.next = to;
                self.parts.push_back(receive);
            }
            let Some(first) = self.parts.pop_front() else { return Ok(0) };
            let lost = |_| io::Error::from(io::ErrorKind::ConnectionReset);
            self.current = Cursor::new(first.recv().map_err(lost)??);
        }
    }
}
