//! Reading a blob, over several connections if need be.

use std::io::{self, Read};
use std::sync::atomic::Ordering;

use hoy_oci::Descriptor;
use ureq::BodyReader;
use ureq::http::{HeaderMap, Method, Response, StatusCode, header};

use crate::ahead::{Ahead, Speed};
use crate::error::Doing;
use crate::http::{Call, Drip};
use crate::registry::pull_scope;
use crate::{Error, Registry, Result, retry};

/// A blob's bytes as they come from the registry, at most as many as its descriptor promises and one more.
///
/// When the connection breaks, reading goes on over a new one from where it broke. Nothing is verified here: wrap it
/// in a [`hoy_oci::VerifyingReader`].
pub struct BlobReader {
    registry: Registry,
    repository: String,
    descriptor: Descriptor,
    body: Option<Drip<BodyReader<'static>>>,
    /// Further connections, which bring the rest when one is slow.
    ahead: Option<Ahead>,
    speed: Speed,
    /// Whether the registry sends parts.
    has_parts: bool,
    offset: u64,
    attempt: u32,
    /// How many bytes came since the connection last broke.
    since_break: u64,
}

/// What must come within five times the patience, in bytes.
const PORTION_BYTES: u64 = 64 << 10;
/// A connection that brought this much before it broke was a good one, in bytes: the count of tries begins anew.
const GOOD_BYTES: u64 = 1 << 20;

impl BlobReader {
    pub(crate) fn open(registry: Registry, repository: &str, descriptor: &Descriptor, offset: u64) -> Result<Self> {
        let doing = || format!("read blob {} of \"{}/{repository}\"", descriptor.digest, registry.host());
        let (body, has_parts) = request(&registry, repository, descriptor, offset).doing(doing)?;
        registry.blobs().fetch_add(1, Ordering::Relaxed);
        let (repository, descriptor) = (repository.to_owned(), descriptor.clone());
        let (ahead, speed) = (None, Speed::default());
        let body = Some(body);
        Ok(Self { registry, repository, descriptor, body, ahead, speed, has_parts, offset, attempt: 0, since_break: 0 })
    }

    /// Opens the rest of the blob after `failure`; gives that back when it is not worth it.
    fn reopen(&mut self, failure: io::Error) -> io::Result<()> {
        let failure = match failure.downcast::<ureq::Error>() {
            Ok(error) => error,
            Err(error) => ureq::Error::Io(error),
        };
        if self.attempt >= self.registry.http().retry.times && self.since_break < GOOD_BYTES
            || !retry::is_temporary_failure(&failure)
        {
            return Err(failure.into_io());
        }
        if self.since_break >= GOOD_BYTES {
            self.attempt = 0;
        }
        (self.attempt, self.since_break) = (self.attempt + 1, 0);
        std::thread::sleep(self.registry.http().retry.wait(self.attempt));
        let reopened = request(&self.registry, &self.repository, &self.descriptor, self.offset);
        self.body = Some(reopened.map_err(io::Error::other)?.0);
        Ok(())
    }

    /// Reads from wherever the next bytes come.
    fn read_once(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ahead.is_none() && self.has_parts {
            let left = self.descriptor.size.saturating_sub(self.offset);
            let blobs = self.registry.blobs().load(Ordering::Relaxed);
            let connections = self.speed.connections(left, blobs);
            if let Some(count) = connections {
                self.ahead = Some(Ahead::new(self.offset, self.descriptor.size, count));
                self.body = None;
            }
        }
        let Some(ahead) = &mut self.ahead else {
            let Some(body) = &mut self.body else { return Ok(0) };
            return self.speed.watch(|| body.read(buffer));
        };
        let (registry, repository, descriptor) = (&self.registry, &self.repository, &self.descriptor);
        let read = ahead.read(buffer, || {
            let (registry, repository, descriptor) = (registry.clone(), repository.clone(), descriptor.clone());
            move |from, to, bytes| part(&registry, &repository, &descriptor, (from, to), bytes)
        });
        if read.is_err() {
            // One connection serves where several do not.
            (self.ahead, self.has_parts) = (None, false);
        }
        read
    }
}

impl Drop for BlobReader {
    fn drop(&mut self) {
        self.registry.blobs().fetch_sub(1, Ordering::Relaxed);
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let failure = match self.read_once(buffer) {
                Ok(0) if self.offset < self.descriptor.size && !buffer.is_empty() => {
                    io::Error::new(io::ErrorKind::UnexpectedEof, "the registry sent less than it promised")
                }
                Ok(count) => {
                    self.offset += count as u64;
                    self.since_break += count as u64;
                    return Ok(count);
                }
                Err(error) => error,
            };
            let was_short = failure.kind() == io::ErrorKind::UnexpectedEof;
            match self.reopen(failure) {
                Ok(()) => {}
                // The reader above compares sizes and has the better words for a blob that is short for good.
                Err(_) if was_short => return Ok(0),
                Err(error) => return Err(error),
            }
        }
    }
}

impl std::fmt::Debug for BlobReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobReader").field("digest", &self.descriptor.digest).field("offset", &self.offset).finish()
    }
}

/// The body from `offset` on.
fn request(
    registry: &Registry,
    repository: &str,
    descriptor: &Descriptor,
    offset: u64,
) -> Result<(Drip<BodyReader<'static>>, bool)> {
    let range = (offset > 0).then(|| format!("bytes={offset}-"));
    let response = ask(registry, repository, descriptor, range)?;
    let status = response.status();
    if !status.is_success() {
        return Err(registry.http().not_found("blob", response));
    }
    if status == StatusCode::PARTIAL_CONTENT && !begins_at(response.headers(), offset) {
        return Err(Error::Protocol("it sends another part than was asked for"));
    }
    let takes = response.headers().get(header::ACCEPT_RANGES).is_some_and(|value| value == "bytes");
    // A command would be run once for each connection, and may ask for a password each time.
    let has_parts = (takes || status == StatusCode::PARTIAL_CONTENT) && registry.http().command.is_none();
    // One byte more than promised is enough to see that there is too much.
    let limit = descriptor.size.saturating_add(1);
    let mut body = response.into_body().into_with_config().limit(limit.saturating_add(1)).reader();
    if offset > 0 && status != StatusCode::PARTIAL_CONTENT {
        let mut skipped = (&mut body).take(offset);
        io::copy(&mut skipped, &mut io::sink()).map_err(Error::Read)?;
    }
    Ok((Drip::new(body, registry.http().patience, PORTION_BYTES), has_parts))
}

fn ask(
    registry: &Registry,
    repository: &str,
    descriptor: &Descriptor,
    range: Option<String>,
) -> Result<Response<ureq::Body>> {
    let scopes = [pull_scope(repository)];
    let uri = registry.uri(&format!("{repository}/blobs/{}", descriptor.digest))?;
    let mut call = Call::new(Method::GET, uri, &scopes);
    if let Some(range) = range {
        call = call.with_header(header::RANGE, range);
    }
    registry.http().send(registry.origin()?, call)
}

/// Puts the bytes of a blob from one position to another into `bytes`; whatever fails is tried again over one connection.
fn part(
    registry: &Registry,
    repository: &str,
    descriptor: &Descriptor,
    (from, to): (u64, u64),
    bytes: &mut Vec<u8>,
) -> io::Result<()> {
    let failed = |reason: String| io::Error::new(io::ErrorKind::ConnectionReset, reason);
    let response = ask(registry, repository, descriptor, Some(format!("bytes={from}-{}", to - 1)));
    let response = response.map_err(|e| failed(e.to_string()))?;
    if response.status() != StatusCode::PARTIAL_CONTENT || !begins_at(response.headers(), from) {
        return Err(failed("it sends another part than was asked for".to_owned()));
    }
    let body = response.into_body().into_with_config().limit(to - from + 1).reader();
    Drip::new(body, registry.http().patience, PORTION_BYTES).read_to_end(bytes)?;
    if bytes.len() as u64 == to - from { Ok(()) } else { Err(failed("it sends less than was asked for".to_owned())) }
}

/// Whether a part is the one that begins at `offset`, as far as the answer says (RFC 9110, section 14.4).
fn begins_at(headers: &HeaderMap, offset: u64) -> bool {
    let range = headers.get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let first =
        range.and_then(|range| range.trim().strip_prefix("bytes ")?.split('-').next()?.trim().parse::<u64>().ok());
    first.is_none_or(|first| first == offset)
}
