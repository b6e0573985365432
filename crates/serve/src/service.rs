//! Requests and what is done for them.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::sync::Arc;

use hoy_layout::Lock;
use hoy_oci::Digest;

use crate::fault::Fault;
use crate::message::{Body, Content, Request, Response, Status};
use crate::route::{self, Query, Route};
use crate::shelf::Shelf;
use crate::uploads::Hashed;

/// Told of every request and its answer.
pub type Trace = Arc<dyn Fn(&str) + Send + Sync>;

/// A registry.
pub struct Service {
    shelf: Shelf,
    hashed: Hashed,
    is_read_only: bool,
    trace: Option<Trace>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("shelf", &self.shelf).finish_non_exhaustive()
    }
}

/// What one connection holds on to.
#[derive(Default)]
pub(crate) struct Session {
    /// From its first write on, so that nobody takes blobs away that a manifest is yet to name.
    lease: Option<Lock>,
}

impl Service {
    /// A registry of what is on the shelf, whose clients may change nothing where it `is_read_only`.
    pub fn new(shelf: Shelf, is_read_only: bool, trace: Option<Trace>) -> Self {
        Self { shelf, hashed: Hashed::default(), is_read_only, trace }
    }

    pub(crate) fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    pub(crate) fn hashed(&self) -> &Hashed {
        &self.hashed
    }

    /// The answer to a request.
    pub(crate) fn answer(&self, session: &mut Session, request: &Request, body: &mut Body<'_>) -> Response {
        let response = self.try_answer(session, request, body).unwrap_or_else(Fault::response);
        if let Some(trace) = &self.trace {
            let text = format!("{} {}: {}", request.method, request.target, response.status.0);
            trace(&text.chars().filter(|c| !c.is_control()).collect::<String>());
        }
        response
    }

    fn try_answer(&self, session: &mut Session, request: &Request, body: &mut Body<'_>) -> Result<Response, Fault> {
        let (route, query) = route::parse(&request.target)?;
        let method = request.method.as_str();
        if !matches!(method, "GET" | "HEAD") {
            if self.is_read_only {
                let text = "this registry is only read";
                return Err(Fault::new(Status::FORBIDDEN, "DENIED", text));
            }
            if session.lease.is_none() {
                session.lease = Some(self.shelf.lease()?);
            }
        }
        match (method, &route) {
            ("GET" | "HEAD", Route::Root) => Ok(Response::json(Status::OK, "application/json", b"{}".to_vec())),
            ("GET" | "HEAD", Route::Catalog) => self.catalog(&query),
            ("GET" | "HEAD", Route::Tags(name)) => self.tags(name, &query),
            ("GET" | "HEAD", Route::Manifest(name, reference)) => self.manifest(name, reference),
            ("PUT", Route::Manifest(name, reference)) => self.put_manifest(name, reference, &query, request, body),
            ("DELETE", Route::Manifest(name, reference)) => self.delete_manifest(name, reference),
            ("GET" | "HEAD", Route::Referrers(name, digest)) => self.referrers(name, digest, &query),
            (_, Route::Blob(name, digest)) => {
                let digest = self.digest(digest)?;
                match method {
                    "GET" | "HEAD" => self.blob(&digest, request),
                    "DELETE" => self.delete_blob(session, &digest),
                    _ => Err(unknown_method(&format!("a blob of {name}"))),
                }
            }
            (_, Route::Uploads(name)) if method == "POST" => self.begin_upload(name, &query, body),
            (_, Route::Upload(name, id)) => self.upload(name, id, &query, request, body),
            _ => Err(unknown_method("this address")),
        }
    }

    /// The digest that a client has written; the store has those of SHA-256 alone.
    pub(crate) fn digest(&self, text: &str) -> Result<Digest, Fault> {
        let digest: Option<Digest> = text.parse().ok();
        digest.filter(|d| d.is_sha256() || !self.shelf.is_store()).ok_or_else(|| Fault::digest_invalid(text))
    }

    fn upload(
        &self,
        name: &str,
        id: &str,
        query: &Query,
        request: &Request,
        body: &mut Body<'_>,
    ) -> Result<Response, Fault> {
        match request.method.as_str() {
            "GET" | "HEAD" => self.upload_status(name, id),
            "PATCH" => self.continue_upload(name, id, request, body),
            "PUT" => self.end_upload(name, id, query, request, body),
            "DELETE" => self.cancel_upload(id),
            _ => Err(unknown_method("an upload")),
        }
    }

    /// `GET /v2/NAME/blobs/DIGEST`, also of a part of it.
    fn blob(&self, digest: &Digest, request: &Request) -> Result<Response, Fault> {
        let unknown = || Fault::new(Status::NOT_FOUND, "BLOB_UNKNOWN", format!("there is no blob {digest}"));
        let size = self.shelf.files().blob_size(digest)?.ok_or_else(unknown)?;
        let mut file = File::open(self.shelf.files().blob_file(digest)).map_err(|_| unknown())?;
        let response = |status, content| {
            Response { content, ..Response::empty(status) }
                .with("Content-Type", "application/octet-stream")
                .with("Docker-Content-Digest", digest.to_string())
                .with("Accept-Ranges", "bytes")
                .with("ETag", format!("\"{digest}\""))
        };
        match request.field("range").map_or(Part::All, |range| part(range, size)) {
            Part::All => Ok(response(Status::OK, Content::File(file, size))),
            Part::None => Err(Fault::new(Status::RANGE, "SIZE_INVALID", format!("the blob has {size} bytes"))
                .with("Content-Range", format!("bytes */{size}"))),
            Part::Some(first, last) => {
                file.seek(SeekFrom::Start(first)).map_err(|_| unknown())?;
                let range = format!("bytes {first}-{last}/{size}");
                Ok(response(Status::PARTIAL, Content::File(file, last - first + 1)).with("Content-Range", range))
            }
        }
    }

    /// `DELETE /v2/NAME/blobs/DIGEST`: all repositories have a layout's blobs, so one that any of them needs stays.
    fn delete_blob(&self, session: &mut Session, digest: &Digest) -> Result<Response, Fault> {
        if self.shelf.is_store() {
            return Err(Fault::unsupported("blobs of the store go with \"hoy-storage prune\""));
        }
        if self.shelf.files().blob_size(digest)?.is_none() {
            return Err(Fault::new(Status::NOT_FOUND, "BLOB_UNKNOWN", format!("there is no blob {digest}")));
        }
        session.lease = None;
        let lease = Lock::try_exclusive(&self.shelf.files().path().join(".lease.lock"))?;
        let busy = || Fault::new(Status::UNAVAILABLE, "UNAVAILABLE", "somebody is writing").with("Retry-After", "1");
        let lease = lease.ok_or_else(busy)?;
        if self.shelf.is_used(digest)? {
            return Err(Fault::unsupported("a manifest has this blob"));
        }
        let path = self.shelf.files().blob_path(digest);
        std::fs::remove_file(&path)
            .map_err(|e| Fault::new(Status::INTERNAL, "UNKNOWN", format!("this registry cannot remove it: {e}")))?;
        drop(lease);
        Ok(Response::empty(Status::ACCEPTED))
    }
}

fn unknown_method(what: &str) -> Fault {
    Fault::unsupported(format!("{what} does not know this method"))
}

/// What a `Range` asks for.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    All,
    /// From one byte to another.
    Some(u64, u64),
    None,
}

/// One range of bytes; what is none, or several, counts as the whole (RFC 9110, "Range").
fn part(range: &str, size: u64) -> Part {
    let ends = range.strip_prefix("bytes=").and_then(|range| range.split_once('-'));
    let number = |text: &str| text.trim().parse::<u64>().ok();
    match ends {
        Some(("", count)) => match number(count) {
            Some(count) if count > 0 && size > 0 => Part::Some(size.saturating_sub(count), size - 1),
            Some(_) => Part::None,
            None => Part::All,
        },
        Some((first, last)) => match (number(first), last.trim().is_empty(), number(last)) {
            (Some(first), true, _) if first < size => Part::Some(first, size - 1),
            (Some(first), false, Some(last)) if first <= last && first < size => Part::Some(first, last.min(size - 1)),
            (Some(first), true, _) | (Some(first), false, Some(_)) if first >= size => Part::None,
            _ => Part::All,
        },
        None => Part::All,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (range, want) in [
            ("bytes=0-", Part::Some(0, 9)),
            ("bytes=2-4", Part::Some(2, 4)),
            ("bytes=2-400", Part::Some(2, 9)),
            ("bytes=-3", Part::Some(7, 9)),
            ("bytes=-30", Part::Some(0, 9)),
            ("bytes=10-", Part::None),
            ("bytes=4-2", Part::All),
            ("bytes=0-1,3-4", Part::All),
            ("lines=1-2", Part::All),
            ("bytes=99999999999999999999-", Part::All),
        ] {
            assert_eq!(part(range, 10), want, "{range}");
        }
        assert_eq!(part("bytes=0-", 0), Part::None);
    }
}
