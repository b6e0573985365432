//! A connection to a bus, or to systemd itself (D-Bus Specification "Authentication Protocol").

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::value::malformed;
use super::{Kind, Message, Reader};
use crate::{Error, Result};

/// How long systemd may take for an answer or a job.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection over which calls are made, one at a time.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: UnixStream,
    /// What came and is not decoded yet.
    input: Vec<u8>,
    serial: u32,
    /// Signals that came while an answer was waited for.
    signals: Vec<Message>,
}

impl Connection {
    /// Connects to the socket at `path`.
    ///
    /// # Errors
    /// Those of connecting, or a server that does not know this user.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let doing = || format!("connect to \"{}\"", path.display());
        let stream = UnixStream::connect(path).and_then(|stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(stream)
        });
        let stream = stream.map_err(|error| failure(doing(), &error))?;
        let mut connection = Self { stream, input: Vec::new(), serial: 0, signals: Vec::new() };
        // No user is named: the server takes the one that the kernel tells it, which is right in a user namespace too.
        // All at once, so that the server has begun when it has answered: systemd forgets a call that it reads in one go
        // with what begins the conversation.
        connection.send(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        for want in ["DATA", "OK"] {
            let line = connection.line()?;
            if !line.starts_with(want) {
                return Err(Error::Systemd { doing: doing(), reason: format!("it answers \"{line}\"") });
            }
        }
        Ok(connection)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).map_err(|error| failure("ask it".to_owned(), &error))
    }

    fn more(&mut self) -> Result<()> {
        let mut buffer = [0; 4096];
        let count = loop {
            match self.stream.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other.map_err(|error| failure("wait for its answer".to_owned(), &error))?,
            }
        };
        match buffer.get(..count) {
            Some(read) if count > 0 => self.input.extend(read),
            _ => return Err(malformed("it closed the connection")),
        }
        Ok(())
    }

    fn line(&mut self) -> Result<String> {
        loop {
            if let Some(end) = self.input.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.input.drain(..end + 2).take(end).collect();
                return String::from_utf8(line).map_err(|_| malformed("it is not text"));
            }
            if self.input.len() > 4096 {
                return Err(malformed("a line does not end"));
            }
            self.more()?;
        }
    }

    /// The next message that comes.
    fn receive(&mut self) -> Result<Message> {
        loop {
            if let Some((message, size)) = Message::decode(&self.input)? {
                self.input.drain(..size);
                return Ok(message);
            }
            self.more()?;
        }
    }

    /// Makes a call and gives its answer, which may be an error.
    ///
    /// # Errors
    /// Those of the connection.
    pub(crate) fn call(&mut self, mut call: Message) -> Result<Message> {
        self.serial += 1;
        call.serial = self.serial;
        self.send(&call.encode())?;
        loop {
            let message = self.receive()?;
            match message.kind {
                Kind::Return | Kind::Error if message.reply_to == self.serial => return Ok(message),
                Kind::Signal => self.signals.push(message),
                _ => {}
            }
        }
    }

    /// The next signal for which `want` gives something.
    ///
    /// # Errors
    /// Those of the connection.
    pub(crate) fn signal<T>(&mut self, want: impl Fn(&Message) -> Option<T>) -> Result<T> {
        let found = self.signals.iter().find_map(&want);
        self.signals.clear();
        if let Some(found) = found {
            return Ok(found);
        }
        loop {
            let message = self.receive()?;
            if let Some(found) = (message.kind == Kind::Signal).then(|| want(&message)).flatten() {
                return Ok(found);
            }
        }
    }
}

impl Message {
    /// The first string of the body, when it begins with one.
    pub(crate) fn first_text(&self) -> Option<&str> {
        let is_text = self.signature.starts_with(['s', 'o']);
        Reader::new(&self.body).text().ok().filter(|_| is_text)
    }
}

fn failure(doing: String, error: &io::Error) -> Error {
    Error::Systemd { doing, reason: hoy_sys::words(error) }
}
