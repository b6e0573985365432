//! Writing a blob (distribution-spec, "Push").

use std::io::{self, Read};

use hoy_oci::{Descriptor, Digest, Hasher};
use ureq::http::{Method, Response, Uri, header};

use crate::error::Doing;
use crate::http::{Call, Payload, location};
use crate::registry::{pull_scope, push_scope};
use crate::url::{resolve, with_query};
use crate::{Error, Registry, Result};

/// The largest blob that is sent in the request that ends its upload, in bytes: one that breaks is sent again.
const ONE_REQUEST_BYTES: u64 = 4 << 20;

/// Gives a blob's bytes from an offset on.
type Open<'a, 'f> = dyn FnMut(u64) -> io::Result<Box<dyn Read + 'a>> + 'f;

/// Where an upload goes on.
struct Upload(Uri);

impl Registry {
    /// Makes a blob of another repository of this registry available in `repository`; false when the registry did not.
    ///
    /// # Errors
    /// Those of the request.
    pub fn mount_blob(&self, repository: &str, digest: &Digest, from: &str) -> Result<bool> {
        let mount = || {
            let scopes = [push_scope(repository), pull_scope(from)];
            let uri = self.uri(&format!("{repository}/blobs/uploads/?mount={digest}&from={from}"))?;
            let response = match self.http().send(self.origin()?, Call::new(Method::POST, uri.clone(), &scopes)) {
                // No right to read over there is no reason not to send.
                Err(Error::Denied(_) | Error::Unauthorized(_)) => return Ok(false),
                other => other?,
            };
            if response.status().as_u16() == 201 {
                return Ok(true);
            }
            // The registry began an upload instead, which is called off; if that fails, it times out there.
            if let Ok(Upload(uri)) = self.upload_at(&uri, &response) {
                let scopes = [push_scope(repository)];
                self.http().send(self.origin()?, Call::new(Method::DELETE, uri, &scopes)).map(drop).unwrap_or_default();
            }
            Ok(false)
        };
        mount().doing(|| format!("mount blob {digest} in \"{}/{repository}\"", self.host()))
    }

    /// Sends a blob, whose bytes from an offset on `open` gives; a wrong digest is refused by the registry.
    ///
    /// A large one whose way breaks goes on at the offset that the registry tells.
    ///
    /// # Errors
    /// Those of the request and of reading the content.
    pub fn put_blob<'a>(&self, repository: &str, descriptor: &Descriptor, open: &mut Open<'a, '_>) -> Result<()> {
        let mut put = || {
            // What cannot be read is found out before anything is begun.
            let content = open(0).map_err(Error::Read)?;
            let upload = self.begin(repository)?;
            if descriptor.size <= ONE_REQUEST_BYTES {
                return self.put_whole(repository, descriptor, &upload, content);
            }
            let upload = self.send_in_parts(repository, descriptor, upload, content, open)?;
            let uri = with_query(&upload.0, &format!("digest={}", descriptor.digest))?;
            let scopes = [push_scope(repository)];
            let response = self.http().send(self.origin()?, Call::new(Method::PUT, uri, &scopes))?;
            if response.status().is_success() { Ok(()) } else { Err(self.http().failure(response)) }
        };
        put().doing(|| format!("write blob {} to \"{}/{repository}\"", descriptor.digest, self.host()))
    }

    fn put_whole(
        &self,
        repository: &str,
        descriptor: &Descriptor,
        upload: &Upload,
        mut content: Box<dyn Read + '_>,
    ) -> Result<()> {
        let uri = with_query(&upload.0, &format!("digest={}", descriptor.digest))?;
        let scopes = [push_scope(repository)];
        let mut content = Outgoing::new(&mut content, None);
        let call = Call::new(Method::PUT, uri, &scopes)
            .with_header(header::CONTENT_TYPE, "application/octet-stream")
            .with_payload(Payload::Stream(&mut content, Some(descriptor.size)));
        let sent = self.http().send(self.origin()?, call);
        let response = content.settle(sent)?;
        if !response.status().is_success() {
            return Err(self.http().failure(response));
        }
        content.finish()
    }

    /// Sends all of a blob's content, as often as it takes; returns where the upload is to be ended.
    fn send_in_parts<'a>(
        &self,
        repository: &str,
        descriptor: &Descriptor,
        mut upload: Upload,
        mut content: Box<dyn Read + 'a>,
        open: &mut Open<'a, '_>,
    ) -> Result<Upload> {
        let retry = self.http().retry;
        let (mut offset, mut attempt) = (0, 0);
        loop {
            let failure = match self.send_part(repository, descriptor, &upload, offset, &mut content) {
                Ok(next) => return Ok(next),
                Err(error) if attempt < retry.times && error.is_temporary() => error,
                Err(error) => return Err(error),
            };
            attempt += 1;
            std::thread::sleep(retry.wait(attempt));
            (upload, offset) = match self.progress(repository, &upload) {
                Ok(Some((upload, reached))) if reached <= descriptor.size => {
                    // A way that leads on is a good one, however often it breaks.
                    attempt = if reached > offset { 0 } else { attempt };
                    (upload, reached)
                }
                Ok(_) => (self.begin(repository)?, 0),
                Err(_) => return Err(failure),
            };
            content = open(offset).map_err(Error::Read)?;
        }
    }

    /// Sends the content from `offset` on; returns where the upload goes on.
    fn send_part(
        &self,
        repository: &str,
        descriptor: &Descriptor,
        upload: &Upload,
        offset: u64,
        content: &mut dyn Read,
    ) -> Result<Upload> {
        let scopes = [push_scope(repository)];
        let left = descriptor.size - offset;
        if left == 0 {
            return Ok(Upload(upload.0.clone()));
        }
        let mut content = Outgoing::new(content, None);
        let call = Call::new(Method::PATCH, upload.0.clone(), &scopes)
            .with_header(header::CONTENT_TYPE, "application/octet-stream")
            .with_header(header::CONTENT_RANGE, format!("{offset}-{}", descriptor.size - 1))
            .with_payload(Payload::Stream(&mut content, Some(left)));
        let sent = self.http().send(self.origin()?, call);
        let response = content.settle(sent)?;
        if !response.status().is_success() {
            return Err(self.http().failure(response));
        }
        content.finish()?;
        self.upload_at(&upload.0, &response)
    }

    /// How far an upload has come, and where it goes on; none when the registry knows nothing of it.
    fn progress(&self, repository: &str, upload: &Upload) -> Result<Option<(Upload, u64)>> {
        let scopes = [push_scope(repository)];
        let response = self.http().send(self.origin()?, Call::new(Method::GET, upload.0.clone(), &scopes))?;
        let range = response.headers().get(header::RANGE).and_then(|v| v.to_str().ok());
        let Some(range) = range.filter(|_| response.status().is_success()) else { return Ok(None) };
        let last = range.trim_start_matches("bytes=").split_once('-').and_then(|(_, last)| last.parse::<u64>().ok());
        // "0-0" stands for an upload without a byte; that one may have one is not worth telling apart.
        let reached = last.filter(|last| *last > 0).map_or(0, |last| last.saturating_add(1));
        Ok(Some((self.upload_at(&upload.0, &response)?, reached)))
    }

    /// Sends a blob whose digest is known only when all of it was read.
    ///
    /// # Errors
    /// Those of the request and of reading `content`.
    pub fn put_new_blob(&self, repository: &str, content: &mut dyn Read) -> Result<(Digest, u64)> {
        let mut put = || {
            let upload = self.begin(repository)?;
            let scopes = [push_scope(repository)];
            let mut content = Outgoing::new(content, Some(Hasher::new()));
            let call = Call::new(Method::PATCH, upload.0.clone(), &scopes)
                .with_header(header::CONTENT_TYPE, "application/octet-stream")
                .with_payload(Payload::Stream(&mut content, None));
            let sent = self.http().send(self.origin()?, call);
            let response = content.settle(sent)?;
            if !response.status().is_success() {
                return Err(self.http().failure(response));
            }
            let upload = self.upload_at(&upload.0, &response)?;
            let (digest, size) = (content.hasher.take().unwrap_or_default().finish(), content.size);
            let uri = with_query(&upload.0, &format!("digest={digest}"))?;
            let response = self.http().send(self.origin()?, Call::new(Method::PUT, uri, &scopes))?;
            if response.status().is_success() { Ok((digest, size)) } else { Err(self.http().failure(response)) }
        };
        put().doing(|| format!("write a blob to \"{}/{repository}\"", self.host()))
    }

    fn begin(&self, repository: &str) -> Result<Upload> {
        let scopes = [push_scope(repository)];
        let uri = self.uri(&format!("{repository}/blobs/uploads/"))?;
        let response = self.http().send(self.origin()?, Call::new(Method::POST, uri.clone(), &scopes))?;
        match response.status().as_u16() {
            404 => Err(self.http().not_found("repository", response)),
            405 => Err(Error::Protocol("it takes no uploads")),
            _ => self.upload_at(&uri, &response),
        }
    }

    /// Where an answer says that an upload goes on. On another host the request has no credentials (CVE-2026-50151).
    fn upload_at(&self, base: &Uri, response: &Response<ureq::Body>) -> Result<Upload> {
        let uri = resolve(base, location(response.headers())?)?;
        // A registry behind a proxy that ends TLS often calls itself http; it is the same place.
        if uri.scheme_str() == Some("http") && self.origin()?.https && uri.authority() == base.authority() {
            let path = uri.path_and_query().map_or("/", |p| p.as_str());
            return resolve(base, path).map(Upload);
        }
        Ok(Upload(uri))
    }
}

/// Content on its way out, whose failure to be read is told apart from the connection's.
struct Outgoing<'a> {
    content: &'a mut dyn Read,
    hasher: Option<Hasher>,
    size: u64,
    has_ended: bool,
    failure: Option<io::Error>,
}

impl<'a> Outgoing<'a> {
    fn new(content: &'a mut dyn Read, hasher: Option<Hasher>) -> Self {
        Self { content, hasher, size: 0, has_ended: false, failure: None }
    }

    /// What came of sending it.
    fn settle<T>(&mut self, sent: Result<T>) -> Result<T> {
        match self.failure.take() {
            Some(failure) => Err(Error::Read(failure)),
            None => sent,
        }
    }

    /// Reads on to the end, where content of known size is checked.
    fn finish(self) -> Result<()> {
        let more = if self.has_ended { 0 } else { self.content.read(&mut [0; 1]).map_err(Error::Read)? };
        if more == 0 { Ok(()) } else { Err(Error::Protocol("it took less than there was")) }
    }
}

impl Read for Outgoing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = match self.content.read(buffer) {
            Ok(count) => count,
            Err(error) => {
                self.failure = Some(error);
                return Err(io::Error::other("the content ends early"));
            }
        };
        self.has_ended |= count == 0 && !buffer.is_empty();
        self.size += count as u64;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(buffer.get(..count).unwrap_or_default());
        }
        Ok(count)
    }
}
