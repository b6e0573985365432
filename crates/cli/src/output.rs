//! Standard output, where a reader that went away is no failure.

use std::fmt;
use std::io::{self, Write};

use crate::Result;

/// The reader of standard output closed it: `hoy-storage images | head -1`.
#[derive(Debug)]
pub(crate) struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("standard output was closed by its reader")
    }
}

impl std::error::Error for Closed {}

/// Standard output as data. When its reader is gone, writing fails with an error that [`crate::main`] takes for success.
pub struct Stdout(io::Stdout);

impl Stdout {
    /// This process's standard output.
    #[expect(clippy::new_without_default, reason = "a handle on something global is not a default value")]
    pub fn new() -> Self {
        Self(io::stdout())
    }
}

fn closed(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::BrokenPipe { io::Error::new(io::ErrorKind::BrokenPipe, Closed) } else { error }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(closed)
    }

    /// A line goes out whole, also where several programs write to one file: a mere `write` of its end comes after what was
    /// kept of its beginning.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).map_err(closed)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(closed)
    }
}

/// Prints one line of result.
///
/// # Errors
/// Those of writing to standard output.
pub fn print_line(line: impl fmt::Display) -> Result<()> {
    Ok(writeln!(Stdout::new(), "{line}")?)
}
