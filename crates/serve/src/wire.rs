//! Bytes to and from one client, which may be slow, silent or gone.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use hoy_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use hoy_sys::rustix::fs::{FileType, fstat};
use hoy_sys::rustix::io::Errno;
use hoy_sys::rustix::net::{SendFlags, send};

/// How much is read at once, in bytes; a request's head has to fit.
pub(crate) const BUFFER_BYTES: usize = 64 << 10;
/// What poll(2) promises that a pipe takes without making the writer wait: PIPE_BUF.
const PIPE_BYTES: usize = 4096;

/// A connection.
pub(crate) struct Wire {
    input: File,
    output: File,
    is_socket: bool,
    patience: Duration,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    pace: Pace,
}

/// Makes sure that what moves comes to an end: each 64 KiB may take five times as long as the client may be silent.
struct Pace {
    limit: Duration,
    since: Instant,
    bytes: usize,
}

impl Pace {
    fn count(&mut self, bytes: usize) -> io::Result<()> {
        self.bytes += bytes;
        if self.since.elapsed() > self.limit {
            if self.bytes < BUFFER_BYTES {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the client is too slow"));
            }
            self.begin();
        }
        Ok(())
    }

    fn begin(&mut self) {
        (self.since, self.bytes) = (Instant::now(), 0);
    }
}

impl Wire {
    /// The connection that is read from `input` and written to `output`, whose client may be silent for `patience`.
    pub(crate) fn new(input: OwnedFd, output: OwnedFd, patience: Duration) -> Self {
        let is_socket = fstat(&output).is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Socket);
        let pace = Pace { limit: patience.saturating_mul(5), since: Instant::now(), bytes: 0 };
        let buffer = vec![0; BUFFER_BYTES].into_boxed_slice();
        Self { input: input.into(), output: output.into(), is_socket, patience, buffer, start: 0, end: 0, pace }
    }

    /// Whether it is a socket, whose client may be gone without a sign.
    pub(crate) fn is_socket(&self) -> bool {
        self.is_socket
    }

    /// What has come and is not yet used.
    pub(crate) fn pending(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Takes note that `count` of the pending bytes are used.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start = self.end.min(self.start + count);
    }

    /// Begins to measure how fast a new message moves.
    pub(crate) fn begin(&mut self) {
        self.pace.begin();
    }

    /// Waits for more bytes behind the pending ones; 0 is the end. Without a limit it waits as long as it takes.
    pub(crate) fn fill(&mut self, limit: Option<Duration>) -> io::Result<usize> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        await_ready(&self.input, PollFlags::IN, limit)?;
        let count = read_some(&mut self.input, self.buffer.get_mut(self.end..).unwrap_or_default())?;
        self.end += count;
        Ok(count)
    }

    /// Reads some bytes of a body.
    pub(crate) fn read_body(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = if self.pending().is_empty() {
            await_ready(&self.input, PollFlags::IN, Some(self.patience))?;
            read_some(&mut self.input, into)?
        } else {
            let count = self.pending().read(into)?;
            self.consume(count);
            count
        };
        self.pace.count(count)?;
        Ok(count)
    }

    /// Waits for more bytes of a message that has begun.
    pub(crate) fn fill_message(&mut self) -> io::Result<usize> {
        let count = self.fill(Some(self.patience))?;
        self.pace.count(count)?;
        Ok(count)
    }

    fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            if !self.is_socket {
                await_ready(&self.output, PollFlags::OUT, Some(self.patience))?;
                return self.output.write(bytes.get(..PIPE_BYTES).unwrap_or(bytes));
            }
            match send(&self.output, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Err(Errno::AGAIN) => await_ready(&self.output, PollFlags::OUT, Some(self.patience))?,
                Err(Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.write_some(bytes)?;
        self.pace.count(count)?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn read_some(from: &mut File, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(into) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Waits until the descriptor can be read or written, or its other end is gone.
fn await_ready(fd: &impl AsFd, what: PollFlags, limit: Option<Duration>) -> io::Result<()> {
    let limit = limit.map(|limit| Timespec::try_from(limit).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 }));
    loop {
        match poll(&mut [PollFd::new(fd, what)], limit.as_ref()) {
            Err(Errno::INTR) => {}
            Ok(0) => return Err(io::Error::new(io::ErrorKind::TimedOut, "the client is silent")),
            other => return Ok(other.map(drop)?),
        }
    }
}
