//! Manifests, what names them, and what refers to them.

use hoy_oci::{Descriptor, Digest, Document, Index, MAX_DOCUMENT_BYTES, MediaType};
use serde_json::{Value, json};

use crate::fault::Fault;
use crate::message::{Body, Content, Request, Response, Status};
use crate::route::Query;
use crate::service::Service;
use crate::shelf::subject;

/// How many tags one manifest may be sent with.
const MAX_TAGS: usize = 64;

fn unknown(reference: &str) -> Fault {
    let text = format!("there is no manifest \"{}\"", reference.chars().take(200).collect::<String>());
    Fault::new(Status::NOT_FOUND, "MANIFEST_UNKNOWN", text)
}

fn invalid(message: impl Into<String>) -> Fault {
    Fault::new(Status::BAD_REQUEST, "MANIFEST_INVALID", message)
}

impl Service {
    /// `GET /v2/NAME/manifests/REFERENCE`.
    pub(crate) fn manifest(&self, repository: &str, reference: &str) -> Result<Response, Fault> {
        let found = if reference.contains(':') {
            let digest = self.digest(reference)?;
            self.shelf().pinned(repository, &digest)?
        } else {
            self.shelf().tagged(repository, reference)?.map(|found| found.descriptor)
        };
        let descriptor = found.ok_or_else(|| unknown(reference))?;
        if self.shelf().files().blob_size(&descriptor.digest)?.is_none() {
            return Err(unknown(reference));
        }
        let bytes = self.shelf().files().read_document(&descriptor)?;
        let response = Response { content: Content::Bytes(bytes), ..Response::empty(Status::OK) };
        Ok(response
            .with("Content-Type", descriptor.media_type.as_str())
            .with("Docker-Content-Digest", descriptor.digest.to_string())
            .with("ETag", format!("\"{}\"", descriptor.digest)))
    }

    /// `PUT /v2/NAME/manifests/REFERENCE`.
    pub(crate) fn put_manifest(
        &self,
        repository: &str,
        reference: &str,
        query: &Query,
        request: &Request,
        body: &mut Body<'_>,
    ) -> Result<Response, Fault> {
        let wanted = if reference.contains(':') { Some(self.digest(reference)?) } else { None };
        // A manifest that is sent by its digest may say which tags it is to have.
        let tags: Vec<&str> = if wanted.is_some() { query.all("tag").collect() } else { vec![reference] };
        if tags.len() > MAX_TAGS {
            return Err(Fault::new(
                Status::URI_TOO_LONG,
                "UNSUPPORTED",
                format!("there are more than {MAX_TAGS} tags"),
            ));
        }
        let names = tags.iter().map(|tag| self.shelf().name(repository, tag)).collect::<Result<Vec<_>, _>>()?;
        let bytes = match body.read_all(MAX_DOCUMENT_BYTES) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Err(Fault::new(Status::TOO_LARGE, "SIZE_INVALID", "a manifest has 4 MiB at the most")),
            Err(error) => return Err(invalid(format!("the manifest breaks off: {error}"))),
        };
        let digest = wanted.map_or_else(|| Digest::of(&bytes), |wanted| wanted.again(&bytes));
        if wanted.is_some_and(|wanted| wanted != digest) {
            return Err(Fault::new(Status::BAD_REQUEST, "DIGEST_INVALID", "the manifest has another digest"));
        }
        let announced = request.field("content-type").and_then(|t| t.split(';').next()).map(str::trim);
        let media_type = match announced.filter(|t| !t.is_empty() && *t != "application/json") {
            Some(text) => MediaType::from(text),
            None => Document::guess_media_type(&bytes).map_err(|e| invalid(e.to_string()))?,
        };
        let document = Document::parse(&media_type, &bytes).map_err(|e| invalid(e.to_string()))?;
        if let Document::Manifest(manifest) = &document {
            for blob in std::iter::once(&manifest.config).chain(&manifest.layers).filter(|blob| blob.urls.is_empty()) {
                if self.shelf().files().blob_size(&blob.digest)? != Some(blob.size) {
                    let text = format!("the blob {} of {} bytes is not here", blob.digest, blob.size);
                    return Err(Fault::new(Status::NOT_FOUND, "MANIFEST_BLOB_UNKNOWN", text));
                }
            }
        }
        let descriptor = self.shelf().put(media_type, &bytes, digest)?;
        if names.is_empty() {
            self.shelf().list(&descriptor, None)?;
        }
        names.iter().try_for_each(|name| self.shelf().list(&descriptor, Some(name)))?;
        let response = Response::empty(Status::CREATED)
            .with("Location", format!("/v2/{repository}/manifests/{reference}"))
            .with("Docker-Content-Digest", digest.to_string());
        let has_tags = wanted.is_some() && !tags.is_empty();
        let response = if has_tags { response.with("OCI-Tag", tags.join(", ")) } else { response };
        Ok(match subject(&bytes) {
            Some(subject) => response.with("OCI-Subject", subject.to_string()),
            None => response,
        })
    }

    /// `DELETE /v2/NAME/manifests/REFERENCE`.
    pub(crate) fn delete_manifest(&self, repository: &str, reference: &str) -> Result<Response, Fault> {
        let digest = if reference.contains(':') {
            self.digest(reference)?
        } else {
            let found = self.shelf().tagged(repository, reference)?.ok_or_else(|| unknown(reference))?;
            self.shelf().untag(found.name.as_deref().unwrap_or_default())?;
            return match self.shelf().tagged(repository, reference)? {
                None => Ok(Response::empty(Status::ACCEPTED)),
                Some(_) => Err(Fault::unsupported("it is in a store that is only read")),
            };
        };
        if self.shelf().forget(repository, &digest)? {
            return Ok(Response::empty(Status::ACCEPTED));
        }
        match self.shelf().pinned(repository, &digest)? {
            Some(_) => Err(Fault::unsupported("it belongs to an index, or to a store that is only read")),
            None => Err(unknown(reference)),
        }
    }

    /// `GET /v2/NAME/referrers/DIGEST`.
    pub(crate) fn referrers(&self, repository: &str, digest: &str, query: &Query) -> Result<Response, Fault> {
        let wanted = self.digest(digest)?;
        let filter = query.get("artifactType").filter(|text| !text.is_empty());
        let mut found: Vec<Descriptor> = Vec::new();
        for root in self.shelf().roots(repository)? {
            let is_new = found.iter().all(|other| other.digest != root.digest);
            // What the index lists may be missing, and is then nobody's referrer.
            let Ok(bytes) = self.shelf().files().read_document(&root) else { continue };
            if is_new && subject(&bytes) == Some(wanted) {
                found.extend(describe(&root, &bytes));
            }
        }
        found.retain(|d| filter.is_none_or(|filter| d.artifact_type.as_deref() == Some(filter)));
        let index = serde_json::to_vec(&Index::new(found)).map_err(|e| invalid(e.to_string()))?;
        let response = Response::json(Status::OK, MediaType::INDEX, index);
        Ok(if filter.is_some() { response.with("OCI-Filters-Applied", "artifactType") } else { response })
    }

    /// `GET /v2/NAME/tags/list`.
    pub(crate) fn tags(&self, repository: &str, query: &Query) -> Result<Response, Fault> {
        let missing = || {
            let text = format!("there is no repository \"{repository}\"");
            Fault::new(Status::NOT_FOUND, "NAME_UNKNOWN", text)
        };
        let all = self.shelf().tags(repository)?.ok_or_else(missing)?;
        let (page, next) = page(all, query)?;
        let response = json(json!({"name": repository, "tags": page}));
        Ok(next
            .into_iter()
            .fold(response, |r, next| r.with("Link", link(&format!("/v2/{repository}/tags/list?{next}")))))
    }

    /// `GET /v2/_catalog`.
    pub(crate) fn catalog(&self, query: &Query) -> Result<Response, Fault> {
        let (page, next) = page(self.shelf().repositories()?, query)?;
        let response = json(json!({"repositories": page}));
        Ok(next.into_iter().fold(response, |r, next| r.with("Link", link(&format!("/v2/_catalog?{next}")))))
    }
}

fn json(value: Value) -> Response {
    Response::json(Status::OK, "application/json", value.to_string().into_bytes())
}

fn link(target: &str) -> String {
    format!("<{target}>; rel=\"next\"")
}

/// The part of a sorted list that is asked for, and the query for what follows it.
fn page(all: impl IntoIterator<Item = String>, query: &Query) -> Result<(Vec<String>, Option<String>), Fault> {
    let last = query.get("last").unwrap_or_default();
    let mut rest = all.into_iter().filter(|name| last.is_empty() || name.as_str() > last);
    let Some(count) = query.get("n") else { return Ok((rest.collect(), None)) };
    let wrong = |_| Fault::new(Status::BAD_REQUEST, "PAGINATION_NUMBER_INVALID", "n is no number");
    let count = count.parse::<usize>().map_err(wrong)?;
    let page: Vec<String> = rest.by_ref().take(count).collect();
    let next = rest.next().and_then(|_| Some(format!("n={count}&last={}", page.last()?.replace('/', "%2F"))));
    Ok((page, next))
}

/// The entry of a referrer in the list of them (distribution-spec, "Listing Referrers").
fn describe(root: &Descriptor, bytes: &[u8]) -> Option<Descriptor> {
    let mut descriptor = Descriptor::new(root.media_type.clone(), root.digest, root.size);
    match Document::parse(&root.media_type, bytes).ok()? {
        Document::Manifest(manifest) => {
            let config = manifest.config.media_type.as_str().to_owned();
            descriptor.artifact_type = manifest.artifact_type.or(Some(config));
            descriptor.annotations = manifest.annotations;
        }
        Document::Index(index) => {
            descriptor.artifact_type = index.artifact_type;
            descriptor.annotations = index.annotations;
        }
    }
    Some(descriptor)
}
