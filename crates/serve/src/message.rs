//! HTTP/1.1 messages (RFC 9112), as far as a registry needs them.

use std::fs::File;
use std::io::{self, Read, Write};
use std::time::Duration;

use crate::wire::{BUFFER_BYTES, Wire};

/// The longest head of a request, in bytes, and its most fields.
const MAX_HEAD_BYTES: usize = 32 << 10;
const MAX_FIELDS: usize = 64;
/// How much of an unread body is read over so that the connection can go on, in bytes.
const MAX_SKIPPED_BYTES: u64 = 1 << 20;

/// A status code with its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status(pub(crate) u16, &'static str);

impl Status {
    pub(crate) const OK: Self = Self(200, "OK");
    pub(crate) const CREATED: Self = Self(201, "Created");
    pub(crate) const ACCEPTED: Self = Self(202, "Accepted");
    pub(crate) const NO_CONTENT: Self = Self(204, "No Content");
    pub(crate) const PARTIAL: Self = Self(206, "Partial Content");
    pub(crate) const BAD_REQUEST: Self = Self(400, "Bad Request");
    pub(crate) const FORBIDDEN: Self = Self(403, "Forbidden");
    pub(crate) const NOT_FOUND: Self = Self(404, "Not Found");
    pub(crate) const METHOD_NOT_ALLOWED: Self = Self(405, "Method Not Allowed");
    pub(crate) const TOO_LARGE: Self = Self(413, "Content Too Large");
    pub(crate) const URI_TOO_LONG: Self = Self(414, "URI Too Long");
    pub(crate) const RANGE: Self = Self(416, "Range Not Satisfiable");
    pub(crate) const HEAD_TOO_LARGE: Self = Self(431, "Request Header Fields Too Large");
    pub(crate) const INTERNAL: Self = Self(500, "Internal Server Error");
    pub(crate) const NOT_IMPLEMENTED: Self = Self(501, "Not Implemented");
    pub(crate) const UNAVAILABLE: Self = Self(503, "Service Unavailable");
}

/// The head of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// The target as it came: path and query.
    pub(crate) target: String,
    /// Names in lower case.
    fields: Vec<(String, String)>,
    /// Whether the client understands HTTP/1.1.
    is_modern: bool,
}

/// How a body's end is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// So many bytes are left.
    Length(u64),
    /// So many bytes are left of the present chunk; before the first one none are.
    Chunks {
        left: u64,
        is_first: bool,
    },
    Done,
}

/// Why there is no request.
#[derive(Debug)]
pub(crate) enum NoRequest {
    /// The client is gone, or done.
    End,
    /// It sent something else; it is told so and left.
    Bad(Status, &'static str),
}

impl From<io::Error> for NoRequest {
    fn from(_: io::Error) -> Self {
        Self::End
    }
}

impl Request {
    /// The next request; `idle` is how long it may take to begin.
    pub(crate) fn read(wire: &mut Wire, idle: Option<Duration>) -> Result<Self, NoRequest> {
        while wire.pending().is_empty() {
            if wire.fill(idle)? == 0 {
                return Err(NoRequest::End);
            }
        }
        // Above all the greeting of TLS, whose sender waits for an answer before it tries plain HTTP.
        if !wire.pending().first().is_some_and(u8::is_ascii_alphabetic) {
            return Err(NoRequest::Bad(Status::BAD_REQUEST, "this is no HTTP request"));
        }
        wire.begin();
        let mut searched = 0_usize;
        loop {
            let pending = wire.pending();
            let from = searched.saturating_sub(3);
            if pending.get(from..).is_some_and(|new| new.windows(4).any(|w| w == b"\r\n\r\n")) {
                let (request, length) = Self::parse(pending)?;
                wire.consume(length);
                return Ok(request);
            }
            searched = pending.len();
            if searched >= MAX_HEAD_BYTES {
                return Err(NoRequest::Bad(Status::HEAD_TOO_LARGE, "the request's head is too long"));
            }
            if wire.fill_message()? == 0 {
                return Err(NoRequest::End);
            }
        }
    }

    /// A whole head and its length.
    fn parse(bytes: &[u8]) -> Result<(Self, usize), NoRequest> {
        let bad = || NoRequest::Bad(Status::BAD_REQUEST, "this is no HTTP request");
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut parsed = httparse::Request::new(&mut fields);
        let length = match parsed.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Err(httparse::Error::TooManyHeaders) => {
                return Err(NoRequest::Bad(Status::HEAD_TOO_LARGE, "the request has too many fields"));
            }
            _ => return Err(bad()),
        };
        let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
            return Err(bad());
        };
        let field = |h: &httparse::Header<'_>| {
            Some((h.name.to_ascii_lowercase(), std::str::from_utf8(h.value).ok()?.trim().to_owned()))
        };
        let fields = parsed.headers.iter().map(field).collect::<Option<_>>().ok_or_else(bad)?;
        Ok((Self { method: method.to_owned(), target: target.to_owned(), fields, is_modern: version == 1 }, length))
    }

    /// The field's value; none where it is missing.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// How the body's end is told; two ways at once are none (request smuggling).
    fn framing(&self) -> Result<Framing, NoRequest> {
        let bad = |text| Err(NoRequest::Bad(Status::BAD_REQUEST, text));
        let all =
            |name: &str| self.fields.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect::<Vec<_>>();
        let (lengths, codings) = (all("content-length"), all("transfer-encoding"));
        match (lengths.as_slice(), codings.as_slice()) {
            ([], []) => Ok(Framing::Length(0)),
            ([length], []) if length.bytes().all(|c| c.is_ascii_digit()) => match length.parse() {
                Ok(length) => Ok(Framing::Length(length)),
                Err(_) => bad("the Content-Length is no length"),
            },
            ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunks { left: 0, is_first: true }),
            ([], [_]) => Err(NoRequest::Bad(Status::NOT_IMPLEMENTED, "the only transfer coding known is chunked")),
            _ => bad("the request's length is not clear"),
        }
    }

    /// Whether the connection ends with this request.
    pub(crate) fn is_last(&self) -> bool {
        let says = |word: &str| {
            self.field("connection").is_some_and(|v| v.split(',').any(|w| w.trim().eq_ignore_ascii_case(word)))
        };
        says("close") || (!self.is_modern && !says("keep-alive"))
    }
}

/// The body of a request as it comes.
pub(crate) struct Body<'a> {
    wire: &'a mut Wire,
    framing: Framing,
    must_ask: bool,
    failed: bool,
}

impl<'a> Body<'a> {
    pub(crate) fn of(request: &Request, wire: &'a mut Wire) -> Result<Self, NoRequest> {
        let framing = request.framing()?;
        let must_ask = request.field("expect").is_some_and(|v| v.eq_ignore_ascii_case("100-continue"));
        Ok(Self { wire, framing, must_ask, failed: false })
    }

    /// How many bytes it has, if that is known before.
    pub(crate) fn length(&self) -> Option<u64> {
        if let Framing::Length(length) = self.framing { Some(length) } else { None }
    }

    /// All of it, unless it is longer than `limit`.
    pub(crate) fn read_all(&mut self, limit: u64) -> io::Result<Option<Vec<u8>>> {
        if self.length().is_some_and(|length| length > limit) {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        self.take(limit + 1).read_to_end(&mut bytes)?;
        Ok((bytes.len() as u64 <= limit).then_some(bytes))
    }

    /// Reads over what nobody wanted; false when the connection is of no more use.
    pub(crate) fn skip(mut self) -> bool {
        if self.failed || (self.must_ask && self.framing != Framing::Length(0)) {
            return false;
        }
        let skipped = io::copy(&mut (&mut self).take(MAX_SKIPPED_BYTES), &mut io::sink());
        skipped.is_ok() && matches!(self.framing, Framing::Done | Framing::Length(0))
    }

    fn read_some(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.must_ask {
            self.must_ask = false;
            self.wire.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        if let Framing::Chunks { left: 0, is_first } = self.framing {
            self.framing = self.next_chunk(is_first)?;
        }
        let (Framing::Length(left) | Framing::Chunks { left, .. }) = &mut self.framing else { return Ok(0) };
        let room = into.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
        if room == 0 {
            return Ok(0);
        }
        let count = self.wire.read_body(into.get_mut(..room).unwrap_or_default())?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the request's body ends early"));
        }
        *left -= count as u64;
        Ok(count)
    }

    /// Reads a chunk's head, and behind the last one the trailer.
    fn next_chunk(&mut self, is_first: bool) -> io::Result<Framing> {
        let bad = || io::Error::new(io::ErrorKind::InvalidData, "the request's chunks make no sense");
        if !is_first && !self.line()?.is_empty() {
            return Err(bad());
        }
        let line = self.line()?;
        let digits = line.split(|c| *c == b';').next().unwrap_or_default().trim_ascii();
        let digits = std::str::from_utf8(digits).ok().filter(|d| d.bytes().all(|c| c.is_ascii_hexdigit()));
        let left = u64::from_str_radix(digits.ok_or_else(bad)?, 16).map_err(|_| bad())?;
        if left > 0 {
            return Ok(Framing::Chunks { left, is_first: false });
        }
        for _ in 0..MAX_FIELDS {
            if self.line()?.is_empty() {
                return Ok(Framing::Done);
            }
        }
        Err(bad())
    }

    /// A line without its end, of no more than a few kilobytes.
    fn line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let pending = self.wire.pending();
            if let Some(end) = pending.windows(2).position(|w| w == b"\r\n") {
                let line = pending.get(..end).unwrap_or_default().to_vec();
                self.wire.consume(end + 2);
                return Ok(line);
            }
            if pending.len() > BUFFER_BYTES / 8 || self.wire.fill_message()? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a line has no end"));
            }
        }
    }
}

impl Read for Body<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let result = self.read_some(into);
        self.failed |= result.is_err();
        result
    }
}

/// What an answer has for a body.
#[derive(Debug)]
pub(crate) enum Content {
    Bytes(Vec<u8>),
    /// So many bytes of the file, from where it is now.
    File(File, u64),
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: Status,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) content: Content,
}

impl Response {
    pub(crate) fn empty(status: Status) -> Self {
        Self { status, headers: Vec::new(), content: Content::Bytes(Vec::new()) }
    }

    pub(crate) fn json(status: Status, media_type: &str, bytes: Vec<u8>) -> Self {
        Self { status, headers: Vec::new(), content: Content::Bytes(bytes) }.with("Content-Type", media_type)
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Sends it; the answer to a HEAD has no body. True when the connection can go on.
    pub(crate) fn send(self, wire: &mut Wire, is_head: bool, is_last: bool) -> io::Result<bool> {
        wire.begin();
        let Status(code, words) = self.status;
        let length = match &self.content {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::File(_, length) => *length,
        };
        let mut head = format!("HTTP/1.1 {code} {words}\r\nDocker-Distribution-API-Version: registry/2.0\r\n");
        for (name, value) in &self.headers {
            // Nothing that a client sent makes a line of its own.
            head.extend([*name, ": "]);
            head.extend(value.chars().filter(|c| !c.is_control()));
            head.push_str("\r\n");
        }
        if self.status != Status::NO_CONTENT {
            head.push_str(&format!("Content-Length: {length}\r\n"));
        }
        head.push_str(if is_last { "Connection: close\r\n\r\n" } else { "\r\n" });
        let mut head = head.into_bytes();
        match self.content {
            _ if is_head => wire.write_all(&head)?,
            Content::Bytes(bytes) => {
                head.extend(bytes);
                wire.write_all(&head)?;
            }
            Content::File(file, length) => {
                // The head travels with the first bytes: alone it would make them wait for its acknowledgement.
                let mut file = file.take(length);
                let first = (&mut file).take(BUFFER_BYTES as u64).read_to_end(&mut head)?;
                wire.write_all(&head)?;
                let (mut buffer, mut left) = (vec![0; 2 * BUFFER_BYTES], length - first as u64);
                while left > 0 {
                    let count = file.read(&mut buffer)?;
                    if count == 0 {
                        // The file is shorter than it was: only the end of the connection tells.
                        return Ok(false);
                    }
                    wire.write_all(buffer.get(..count).unwrap_or_default())?;
                    left -= count as u64;
                }
            }
        }
        Ok(!is_last)
    }
}
