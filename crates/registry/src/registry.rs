//! One registry: what it has and how to ask for it (distribution-spec 1.1).

use std::ffi::OsString;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use hoy_oci::{Descriptor, Digest, Document, MAX_DOCUMENT_BYTES, MediaType};
use serde::Deserialize;
use ureq::http::{Method, Uri, header};

use crate::auth::Auth;
use crate::error::Doing;
use crate::http::{Call, Http, Payload, Trace};
use crate::url::{Origin, resolve};
use crate::{BlobReader, Credentials, Error, Result, Retry, Tls};

/// What manifests are asked for; an index comes first so that a registry does not choose for us.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";
/// The longest list, of tags or other names, that is read, in bytes.
const MAX_LIST_BYTES: u64 = 64 << 20;
/// How many answers a list may come in.
const MAX_PAGES: usize = 10_000;

/// How to talk to a registry.
#[derive(Clone)]
#[non_exhaustive]
pub struct Options {
    /// Who the caller is there.
    pub credentials: Option<Credentials>,
    /// Whom to trust as the registry.
    pub tls: Tls,
    /// What is done about a failure that may pass.
    pub retry: Retry,
    /// How long the registry may be silent; one that sends a little now and then has five times as long for a document,
    /// or for each 64 KiB of a blob.
    pub patience: Duration,
    /// What the program calls itself.
    pub user_agent: String,
    /// Told of every request, without its secrets.
    pub trace: Option<Trace>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            credentials: None,
            tls: Tls::default(),
            retry: Retry::default(),
            patience: Duration::from_secs(60),
            user_agent: concat!("hoy/", env!("CARGO_PKG_VERSION")).to_owned(),
            trace: None,
        }
    }
}

/// A manifest or index as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Fetched {
    /// Its type, digest and size, all of the bytes themselves.
    pub descriptor: Descriptor,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// A registry. Clones share connections and tokens.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    http: Http,
    /// The host and port that requests go to.
    api_host: String,
    origin: OnceLock<Origin>,
    probing: Mutex<()>,
    /// How many blobs are being read.
    blobs: AtomicUsize,
}

#[derive(Deserialize)]
struct Tags {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Repositories {
    #[serde(default)]
    repositories: Option<Vec<String>>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Registry").field(&self.host()).finish()
    }
}

impl Registry {
    /// The registry that people call `host`, which may have a port. Nothing is sent yet.
    pub fn new(host: &str, options: Options) -> Self {
        let api_host = if host == "docker.io" { "registry-1.docker.io" } else { host };
        let http = Http {
            name: host.to_owned(),
            tls: options.tls,
            auth: Auth::new(options.credentials),
            retry: options.retry,
            patience: options.patience,
            user_agent: options.user_agent,
            trace: options.trace,
            command: None,
            agents: [OnceLock::new(), OnceLock::new()],
            token_fetch: Mutex::new(()),
        };
        let api_host = api_host.to_owned();
        Self(Arc::new(Inner {
            http,
            api_host,
            origin: OnceLock::new(),
            probing: Mutex::new(()),
            blobs: AtomicUsize::new(0),
        }))
    }

    /// The registry that `command`, a program and its arguments, leads to: it speaks the protocol over standard input and
    /// output. People call it `name`. The command is run when something is asked for, once for each request under way.
    pub fn behind(command: Vec<OsString>, name: &str, options: Options) -> Self {
        let mut registry =
            Self::new("localhost", Options { credentials: None, retry: Retry { times: 0, delay: None }, ..options });
        if let Some(inner) = Arc::get_mut(&mut registry.0) {
            (inner.http.command, inner.http.name) = (Some(command), name.to_owned());
            inner.origin = OnceLock::from(Origin { https: false, host: "localhost".to_owned(), port: 80 });
        }
        registry
    }

    /// The document at an address that is no registry's, of up to `limit` bytes, for anybody; none when there is none.
    ///
    /// # Errors
    /// Those of the request.
    pub fn fetch(address: &str, options: Options, limit: u64) -> Result<Option<Vec<u8>>> {
        let get = || {
            let uri: Uri = address.parse().map_err(|_| Error::Protocol("it is no address"))?;
            let origin = Origin::of(&uri).ok_or(Error::Protocol("it is no http or https address"))?;
            let registry = Self::new(&origin.host, Options { credentials: None, ..options });
            let response = registry.http().send(&origin, Call::new(Method::GET, uri, &[]))?;
            match response.status().as_u16() {
                404 => Ok(None),
                _ => registry.http().read_limited(response, limit, "document").map(Some),
            }
        };
        get().doing(|| format!("read \"{address}\""))
    }

    /// The name it was made with.
    pub fn host(&self) -> &str {
        &self.0.http.name
    }

    pub(crate) fn http(&self) -> &Http {
        &self.0.http
    }

    /// Where the registry is. Where plain HTTP is allowed, HTTPS is tried first.
    pub(crate) fn origin(&self) -> Result<&Origin> {
        if let Some(origin) = self.0.origin.get() {
            return Ok(origin);
        }
        let probing = self.0.probing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(origin) = self.0.origin.get() {
            return Ok(origin);
        }
        let at = |scheme: &str| {
            let uri: Uri = format!("{scheme}://{}/v2/", self.0.api_host)
                .parse()
                .map_err(|_| Error::Protocol("the registry's name is no host name"))?;
            let origin = Origin::of(&uri).ok_or(Error::Protocol("the registry's name is no host name"))?;
            Ok::<_, Error>((uri, origin))
        };
        let (uri, secure) = at("https")?;
        let origin = if self.http().tls.verify {
            secure
        } else {
            match self.http().probe(&secure, uri) {
                Ok(()) => secure,
                // It has answered, in plain HTTP: there is no need to greet it again.
                Err(Error::PlainHttp(_)) => at("http")?.1,
                Err(Error::Connection { .. }) => {
                    let (uri, plain) = at("http")?;
                    self.http().probe(&plain, uri)?;
                    plain
                }
                Err(error) => return Err(error),
            }
        };
        drop(probing);
        Ok(self.0.origin.get_or_init(|| origin))
    }

    /// The address of something at the registry.
    pub(crate) fn uri(&self, path: &str) -> Result<Uri> {
        let origin = self.origin()?;
        let scheme = if origin.https { "https" } else { "http" };
        format!("{scheme}://{}/v2/{path}", self.0.api_host)
            .parse()
            .map_err(|_| Error::Protocol("the registry's name is no host name"))
    }

    /// Whether the registry knows the caller: succeeds when it does.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] when it does not, and those of reaching it.
    pub fn check_login(&self) -> Result<()> {
        let response = self.http().send(self.origin()?, Call::new(Method::GET, self.uri("")?, &[]))?;
        match response.status().as_u16() {
            404 => Err(Error::Protocol("there is no registry at this address")),
            _ => Ok(()),
        }
    }

    /// Fetches a manifest or index by tag or digest; one asked for by digest has that digest.
    ///
    /// # Errors
    /// Those of the request, with what was asked for; [`Error::NotFound`]; wrong or oversized content.
    pub fn manifest(&self, repository: &str, reference: &str) -> Result<Fetched> {
        let doing = || format!("read manifest of \"{}\"", self.full_name(repository, reference));
        self.try_manifest(repository, reference).doing(doing)
    }

    fn try_manifest(&self, repository: &str, reference: &str) -> Result<Fetched> {
        let scopes = [pull_scope(repository)];
        let uri = self.uri(&format!("{repository}/manifests/{reference}"))?;
        let call = Call::new(Method::GET, uri, &scopes).with_header(header::ACCEPT, ACCEPT);
        let response = self.http().send(self.origin()?, call)?;
        if !response.status().is_success() {
            return Err(self.http().not_found("image", response));
        }
        let text = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (announced, stated) = (text("content-type"), text("docker-content-digest"));
        let bytes = self.http().read_limited(response, MAX_DOCUMENT_BYTES, "manifest")?;
        let asked: Option<Digest> = reference.parse().ok();
        // The header is no proof, but a registry that contradicts itself is not believed either.
        for expected in [asked, stated.and_then(|text| text.parse().ok())].into_iter().flatten() {
            let actual = expected.again(&bytes);
            if expected != actual {
                return Err(hoy_oci::Error::DigestMismatch { expected, actual }.into());
            }
        }
        let announced = announced.as_deref().and_then(|t| t.split(';').next()).map(|t| MediaType::from(t.trim()));
        let media_type = match announced {
            Some(t) if t.is_index() || t.is_manifest() => t,
            Some(t) if is_schema1(&t) => return Err(Error::Schema1),
            _ => Document::guess_media_type(&bytes)?,
        };
        Ok(Fetched {
            descriptor: Descriptor::new(media_type, asked.unwrap_or_else(|| Digest::of(&bytes)), bytes.len() as u64),
            bytes,
        })
    }

    /// A blob's bytes from `offset` on as they come, not yet verified. A broken connection is taken up where it broke.
    ///
    /// # Errors
    /// [`Error::NotFound`] and those of the request.
    pub fn blob(&self, repository: &str, descriptor: &Descriptor, offset: u64) -> Result<BlobReader> {
        BlobReader::open(self.clone(), repository, descriptor, offset)
    }

    pub(crate) fn blobs(&self) -> &AtomicUsize {
        &self.0.blobs
    }

    /// The length in bytes of a blob the registry has; none when it has it not.
    ///
    /// # Errors
    /// Those of the request.
    pub fn blob_size(&self, repository: &str, digest: &Digest) -> Result<Option<u64>> {
        let doing = || format!("look for blob {digest} in \"{}/{repository}\"", self.host());
        self.try_blob_size(repository, digest).doing(doing)
    }

    fn try_blob_size(&self, repository: &str, digest: &Digest) -> Result<Option<u64>> {
        let scopes = [push_scope(repository)];
        let uri = self.uri(&format!("{repository}/blobs/{digest}"))?;
        let response = self.http().send(self.origin()?, Call::new(Method::HEAD, uri, &scopes))?;
        if !response.status().is_success() {
            return Ok(None);
        }
        let length = response.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
        Ok(length)
    }

    /// Puts a manifest or index under a tag or its digest. True when the registry says that it has listed the manifest
    /// among the referrers of its subject (distribution-spec, "Pushing Manifests with Subject").
    ///
    /// # Errors
    /// Those of the request.
    pub fn put_manifest(
        &self,
        repository: &str,
        reference: &str,
        media_type: &MediaType,
        bytes: &[u8],
    ) -> Result<bool> {
        let put = || {
            let scopes = [push_scope(repository)];
            let uri = self.uri(&format!("{repository}/manifests/{reference}"))?;
            let call = Call::new(Method::PUT, uri, &scopes)
                .with_header(header::CONTENT_TYPE, media_type.as_str())
                .with_payload(Payload::Bytes(bytes));
            let response = self.http().send(self.origin()?, call)?;
            let is_listed = response.headers().contains_key("oci-subject");
            if response.status().is_success() { Ok(is_listed) } else { Err(self.http().failure(response)) }
        };
        put().doing(|| format!("write manifest of \"{}\"", self.full_name(repository, reference)))
    }

    /// All tags of a repository, in the registry's order.
    ///
    /// # Errors
    /// [`Error::NotFound`] and those of the request.
    pub fn tags(&self, repository: &str) -> Result<Vec<String>> {
        self.try_tags(repository).doing(|| format!("list tags of \"{}/{repository}\"", self.host()))
    }

    fn try_tags(&self, repository: &str) -> Result<Vec<String>> {
        let scopes = [pull_scope(repository)];
        let pages = self.pages(&format!("{repository}/tags/list"), &scopes, None, "list of tags")?;
        let pages = pages.ok_or(Error::NotFound { what: "repository", said: String::new() })?;
        let tags = |page: &Vec<u8>| Some(serde_json::from_slice::<Tags>(page).ok()?.tags.unwrap_or_default());
        let found: Option<Vec<_>> = pages.iter().map(tags).collect();
        Ok(found.ok_or(Error::Protocol("it is no list of tags"))?.concat())
    }

    /// All repositories of the registry that it tells of (distribution: "Listing Repositories").
    ///
    /// # Errors
    /// Those of the request.
    pub fn catalog(&self) -> Result<Vec<String>> {
        let list = || {
            let scopes = ["registry:catalog:*".to_owned()];
            let pages = self.pages("_catalog", &scopes, None, "list of repositories")?;
            let pages = pages.ok_or(Error::Protocol("it has no list of repositories"))?;
            let names = |page: &Vec<u8>| {
                Some(serde_json::from_slice::<Repositories>(page).ok()?.repositories.unwrap_or_default())
            };
            let found: Option<Vec<_>> = pages.iter().map(names).collect();
            Ok(found.ok_or(Error::Protocol("it is no list of repositories"))?.concat())
        };
        list().doing(|| format!("list repositories of \"{}\"", self.host()))
    }

    /// All pages of a list; none when there is no such thing, or it is not of the type asked for.
    pub(crate) fn pages(
        &self,
        path: &str,
        scopes: &[String],
        accept: Option<&str>,
        kind: &'static str,
    ) -> Result<Option<Vec<Vec<u8>>>> {
        let mut uri = self.uri(path)?;
        let (mut found, mut size) = (Vec::new(), 0);
        for _ in 0..MAX_PAGES {
            let mut call = Call::new(Method::GET, uri.clone(), scopes);
            if let Some(accept) = accept {
                call = call.with_header(header::ACCEPT, accept);
            }
            let response = self.http().send(self.origin()?, call)?;
            let media_type = response.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
            let is_it = accept.is_none_or(|accept| media_type.is_some_and(|text| text.starts_with(accept)));
            if !response.status().is_success() || !is_it {
                return Ok(None);
            }
            let link = response.headers().get(header::LINK).and_then(|v| v.to_str().ok()).and_then(next_link);
            let next = link.map(|link| resolve(&uri, link)).transpose()?;
            let page = self.http().read_limited(response, MAX_LIST_BYTES - size, kind)?;
            size += page.len() as u64;
            found.push(page);
            match next {
                Some(next) if next != uri => uri = next,
                _ => return Ok(Some(found)),
            }
        }
        Err(Error::Protocol("its list has no end"))
    }

    /// Deletes a manifest by its digest, and with it every tag that points to it.
    ///
    /// # Errors
    /// [`Error::NotFound`], and those of the request.
    pub fn delete_manifest(&self, repository: &str, digest: &Digest) -> Result<()> {
        let delete = || {
            let scopes = [format!("repository:{repository}:*")];
            let uri = self.uri(&format!("{repository}/manifests/{digest}"))?;
            let response = self.http().send(self.origin()?, Call::new(Method::DELETE, uri, &scopes))?;
            match response.status().as_u16() {
                404 => Err(self.http().not_found("image", response)),
                405 => Err(Error::Protocol("it does not allow deletion; its configuration can")),
                _ => Ok(()),
            }
        };
        delete().doing(|| format!("delete \"{}/{repository}@{digest}\"", self.host()))
    }

    fn full_name(&self, repository: &str, reference: &str) -> String {
        let separator = if reference.contains(':') { '@' } else { ':' };
        format!("{}/{repository}{separator}{reference}", self.host())
    }
}

/// What reading a repository needs of a token.
pub(crate) fn pull_scope(repository: &str) -> String {
    format!("repository:{repository}:pull")
}

/// What writing a repository needs of a token.
pub(crate) fn push_scope(repository: &str) -> String {
    format!("repository:{repository}:pull,push")
}

fn is_schema1(media_type: &MediaType) -> bool {
    media_type.as_str().starts_with("application/vnd.docker.distribution.manifest.v1+")
}

/// The address of the next page (RFC 8288).
fn next_link(header: &str) -> Option<&str> {
    let (target, parameters) = header.trim().strip_prefix('<')?.split_once('>')?;
    parameters.contains("next").then_some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links() {
        assert_eq!(next_link("</v2/a/tags/list?n=2&last=b>; rel=\"next\""), Some("/v2/a/tags/list?n=2&last=b"));
        assert_eq!(next_link("</x>; rel=prev"), None);
        assert_eq!(next_link("garbage"), None);
    }
}
