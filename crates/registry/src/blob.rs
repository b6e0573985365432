//! Reading a blob, over several connections if need be.

use std::io::{self, Read};

use hoy_oci::Descriptor;
use ureq::BodyReader;
use ureq::http::{Method, StatusCode, header};

use crate::error::Doing;
use crate::http::Call;
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
    body: BodyReader<'static>,
    offset: u64,
    attempt: u32,
}

impl BlobReader {
    pub(crate) fn open(registry: Registry, repository: &str, descriptor: &Descriptor) -> Result<Self> {
        let doing = || format!("read blob {} of \"{}/{repository}\"", descriptor.digest, registry.host());
        let body = request(&registry, repository, descriptor, 0).doing(doing)?;
        let (repository, descriptor) = (repository.to_owned(), descriptor.clone());
        Ok(Self { registry, repository, descriptor, body, offset: 0, attempt: 0 })
    }

    /// Opens the rest of the blob after `failure`; gives that back when it is not worth it.
    fn reopen(&mut self, failure: io::Error) -> io::Result<()> {
        let failure = match failure.downcast::<ureq::Error>() {
            Ok(error) => error,
            Err(error) => ureq::Error::Io(error),
        };
        if self.attempt >= self.registry.http().retries || !retry::is_temporary_failure(&failure) {
            return Err(failure.into_io());
        }
        self.attempt += 1;
        std::thread::sleep(retry::wait(self.attempt, None));
        self.body =
            request(&self.registry, &self.repository, &self.descriptor, self.offset).map_err(io::Error::other)?;
        Ok(())
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let failure = match self.body.read(buffer) {
                Ok(0) if self.offset < self.descriptor.size && !buffer.is_empty() => {
                    io::Error::new(io::ErrorKind::UnexpectedEof, "the registry sent less than it promised")
                }
                Ok(count) => {
                    self.offset += count as u64;
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
fn request(registry: &Registry, repository: &str, descriptor: &Descriptor, offset: u64) -> Result<BodyReader<'static>> {
    let scopes = [pull_scope(repository)];
    let uri = registry.uri(&format!("{repository}/blobs/{}", descriptor.digest))?;
    let mut call = Call::new(Method::GET, uri, &scopes);
    if offset > 0 {
        call = call.with_header(header::RANGE, format!("bytes={offset}-"));
    }
    let response = registry.http().send(registry.origin()?, call)?;
    let status = response.status();
    if !status.is_success() {
        return Err(Error::NotFound("blob"));
    }
    // One byte more than promised is enough to see that there is too much.
    let limit = descriptor.size.saturating_add(1);
    let mut body = response.into_body().into_with_config().limit(limit.saturating_add(1)).reader();
    if offset > 0 && status != StatusCode::PARTIAL_CONTENT {
        let mut skipped = (&mut body).take(offset);
        io::copy(&mut skipped, &mut io::sink()).map_err(Error::Read)?;
    }
    Ok(body)
}
