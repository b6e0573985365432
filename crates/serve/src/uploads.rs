//! Blobs that clients send (distribution-spec, "Pushing blobs").
//!
//! An upload is a file beside the blobs, so that it goes on over another connection and in another process.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::{Mutex, PoisonError};

use hoy_layout::{BlobWriter, Written};
use hoy_oci::Digest;

use crate::fault::Fault;
use crate::message::{Body, Request, Response, Status};
use crate::service::Service;

/// How many uploads are remembered with what has been hashed of them; of others the file is read again.
const MAX_REMEMBERED: usize = 256;

/// What has been hashed of uploads.
#[derive(Default)]
pub(crate) struct Hashed(Mutex<HashMap<String, Written>>);

impl Hashed {
    fn take(&self, id: &str) -> Option<Written> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id)
    }

    fn keep(&self, id: &str, written: Written) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_REMEMBERED {
            all.clear();
        }
        all.insert(id.to_owned(), written);
    }
}

fn unknown(id: &str) -> Fault {
    let id = id.chars().take(100).collect::<String>();
    Fault::new(Status::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", format!("there is no upload \"{id}\""))
}

fn invalid(message: &str) -> Fault {
    Fault::new(Status::BAD_REQUEST, "BLOB_UPLOAD_INVALID", message)
}

/// Where a finished blob is.
fn created(repository: &str, digest: &Digest) -> Response {
    Response::empty(Status::CREATED)
        .with("Location", format!("/v2/{repository}/blobs/{digest}"))
        .with("Docker-Content-Digest", digest.to_string())
}

/// How far an upload has come, as the specification has it: without a byte it is at 0-0 too.
fn at(repository: &str, id: &str, size: u64, status: Status) -> Response {
    Response::empty(status)
        .with("Location", format!("/v2/{repository}/blobs/uploads/{id}"))
        .with("Range", format!("0-{}", size.saturating_sub(1)))
        .with("Docker-Upload-UUID", id)
}

impl Service {
    /// `POST /v2/NAME/blobs/uploads/`: takes a blob that is there, or one at once, or begins an upload.
    pub(crate) fn begin_upload(
        &self,
        repository: &str,
        query: &crate::route::Query,
        body: &mut Body<'_>,
    ) -> Result<Response, Fault> {
        let digest = |name: &str| query.get(name).map(|text| self.digest(text)).transpose();
        if let Some(algorithm) = query.get("digest-algorithm")
            && !["sha256", "sha512"].contains(&algorithm)
        {
            return Err(Fault::digest_invalid(algorithm));
        }
        // All repositories of a layout have its blobs.
        if let Some(digest) = digest("mount")?
            && self.shelf().files().blob_size(&digest)?.is_some()
        {
            return Ok(created(repository, &digest));
        }
        let whole = digest("digest")?;
        let id = self.shelf().files().begin_upload()?;
        match whole {
            Some(digest) => {
                let writer = self.receive(&id, self.open(&id)?, body)?;
                self.finish(repository, writer, &digest)
            }
            None => Ok(at(repository, &id, 0, Status::ACCEPTED)),
        }
    }

    /// `GET /v2/NAME/blobs/uploads/ID`.
    pub(crate) fn upload_status(&self, repository: &str, id: &str) -> Result<Response, Fault> {
        let size = self.shelf().files().upload_size(id).ok_or_else(|| unknown(id))?;
        Ok(at(repository, id, size, Status::NO_CONTENT))
    }

    /// `PATCH /v2/NAME/blobs/uploads/ID`: the next bytes.
    pub(crate) fn continue_upload(
        &self,
        repository: &str,
        id: &str,
        request: &Request,
        body: &mut Body<'_>,
    ) -> Result<Response, Fault> {
        let writer = self.open(id)?;
        if let Err(fault) = follows(&writer, request, body, repository, id) {
            self.pause(id, writer);
            return Err(fault);
        }
        let writer = self.receive(id, writer, body)?;
        let size = writer.size();
        self.pause(id, writer);
        Ok(at(repository, id, size, Status::ACCEPTED))
    }

    /// `PUT /v2/NAME/blobs/uploads/ID?digest=…`: perhaps the last bytes, and what all of them are.
    pub(crate) fn end_upload(
        &self,
        repository: &str,
        id: &str,
        query: &crate::route::Query,
        request: &Request,
        body: &mut Body<'_>,
    ) -> Result<Response, Fault> {
        let text = query.get("digest").ok_or_else(|| invalid("the digest is missing"))?;
        let digest = self.digest(text)?;
        let writer = self.open(id)?;
        if let Err(fault) = follows(&writer, request, body, repository, id) {
            self.pause(id, writer);
            return Err(fault);
        }
        let writer = self.receive(id, writer, body)?;
        self.finish(repository, writer, &digest)
    }

    /// `DELETE /v2/NAME/blobs/uploads/ID`.
    pub(crate) fn cancel_upload(&self, id: &str) -> Result<Response, Fault> {
        drop(self.open(id)?);
        Ok(Response::empty(Status::NO_CONTENT))
    }

    fn open(&self, id: &str) -> Result<BlobWriter, Fault> {
        let known = self.hashed().take(id);
        self.shelf().files().resume_upload(id, known)?.ok_or_else(|| unknown(id))
    }

    fn pause(&self, id: &str, writer: BlobWriter) {
        self.hashed().keep(id, writer.pause());
    }

    /// Writes the body behind what there is. When it breaks off, what came of it stays.
    fn receive(&self, id: &str, mut writer: BlobWriter, body: &mut Body<'_>) -> Result<BlobWriter, Fault> {
        let mut buffer = vec![0; 128 << 10];
        loop {
            let bytes = match body.read(&mut buffer) {
                Ok(0) => return Ok(writer),
                Ok(count) => buffer.get(..count).unwrap_or_default(),
                Err(error) => {
                    self.pause(id, writer);
                    return Err(invalid(&format!("the content breaks off: {error}")));
                }
            };
            if let Err(error) = writer.write_all(bytes) {
                return Err(Fault::new(Status::INTERNAL, "UNKNOWN", format!("this registry cannot write it: {error}")));
            }
        }
    }

    fn finish(&self, repository: &str, writer: BlobWriter, digest: &Digest) -> Result<Response, Fault> {
        match writer.finish_with(digest)? {
            true => Ok(created(repository, digest)),
            false => Err(Fault::new(Status::BAD_REQUEST, "DIGEST_INVALID", "the content has another digest")),
        }
    }
}

/// Whether the body goes on where the upload stands.
fn follows(writer: &BlobWriter, request: &Request, body: &Body<'_>, repository: &str, id: &str) -> Result<(), Fault> {
    let Some(range) = request.field("content-range") else { return Ok(()) };
    let range = range.strip_prefix("bytes ").unwrap_or(range).split('/').next().unwrap_or_default();
    let ends = range.split_once('-').and_then(|(a, b)| Some((a.parse::<u64>().ok()?, b.parse::<u64>().ok()?)));
    let (start, end) = ends.ok_or_else(|| invalid("the Content-Range is not of the form START-END"))?;
    let length = end.checked_sub(start).and_then(|d| d.checked_add(1));
    if body.length().is_some_and(|sent| Some(sent) != length) {
        return Err(Fault::new(Status::BAD_REQUEST, "SIZE_INVALID", "Content-Range and Content-Length differ"));
    }
    if start != writer.size() {
        let text = format!("the upload stands at byte {}", writer.size());
        return Err(Fault::new(Status::RANGE, "BLOB_UPLOAD_INVALID", text)
            .with("Location", format!("/v2/{repository}/blobs/uploads/{id}"))
            .with("Range", format!("0-{}", writer.size().saturating_sub(1))));
    }
    Ok(())
}
