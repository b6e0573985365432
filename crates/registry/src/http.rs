//! Requests to one registry and to the places it points to.

use std::ffi::OsString;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use ureq::http::{HeaderMap, Method, Response, Uri, header};
use ureq::{Agent, Body, SendBody};

use crate::auth::{Auth, MAX_TOKEN_BYTES};
use crate::challenge::Challenge;
use crate::url::{Origin, Purpose, check_place, resolve, show};
use crate::{Error, Result, Retry, Tls, retry, tunnel};

/// How many times an answer may point elsewhere.
const MAX_REDIRECTS: u32 = 5;
/// How much of an error's body is read, in bytes.
const MAX_ERROR_BYTES: u64 = 8 << 10;

/// What a request sends.
pub(crate) enum Payload<'a> {
    None,
    Bytes(&'a [u8]),
    /// So many bytes, or as many as come; it can be sent once.
    Stream(&'a mut dyn Read, Option<u64>),
}

/// One request.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: Vec<(header::HeaderName, String)>,
    /// What the token must allow.
    pub(crate) scopes: &'a [String],
    pub(crate) payload: Payload<'a>,
}

impl<'a> Call<'a> {
    pub(crate) fn new(method: Method, uri: Uri, scopes: &'a [String]) -> Self {
        Self { method, uri, headers: Vec::new(), scopes, payload: Payload::None }
    }

    pub(crate) fn with_header(mut self, name: header::HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn with_payload(mut self, payload: Payload<'a>) -> Self {
        self.payload = payload;
        self
    }
}

/// Tells somebody what is requested, for debugging; secrets are left out.
pub(crate) type Trace = Arc<dyn Fn(&str) + Send + Sync>;

/// HTTP with one registry.
pub(crate) struct Http {
    /// The registry's name as people write it, for errors.
    pub(crate) name: String,
    pub(crate) tls: Tls,
    pub(crate) auth: Auth,
    pub(crate) retry: Retry,
    pub(crate) patience: Duration,
    pub(crate) user_agent: String,
    pub(crate) trace: Option<Trace>,
    /// What is run for a connection, instead of connecting to a host.
    pub(crate) command: Option<Vec<OsString>>,
    pub(crate) agents: [OnceLock<Agent>; 2],
    /// Held while a token is fetched, so that threads do not all ask for the same.
    pub(crate) token_fetch: Mutex<()>,
}

impl Http {
    /// The agent for a place: certificates go unchecked at the registry's own host alone, and there only when asked for
    /// (CVE-2019-10214).
    fn agent(&self, place: &Origin, registry: &Origin) -> Result<&Agent> {
        let verify = self.tls.verify || place.host != registry.host;
        let [trusting, verifying] = &self.agents;
        let cell = if verify { verifying } else { trusting };
        if let Some(agent) = cell.get() {
            return Ok(agent);
        }
        if let Some(command) = &self.command {
            return Ok(cell.get_or_init(|| tunnel::agent(command, &self.user_agent, self.patience)));
        }
        // An agent for plain HTTP never looks at certificates: it is spared reading them.
        let tls = if place.https { self.tls.clone() } else { Tls { verify: false, ..Tls::default() } };
        let agent = tls.agent(verify && place.https, &self.user_agent, self.patience)?;
        if !place.https && verify {
            return Ok(self.agents[0].get_or_init(|| agent));
        }
        Ok(cell.get_or_init(|| agent))
    }

    /// Whether anything that speaks HTTP answers; what it answers does not matter, so it is told nothing.
    pub(crate) fn probe(&self, registry: &Origin, uri: Uri) -> Result<()> {
        self.once(registry, registry, &mut Call::new(Method::GET, uri, &[]), None).map(drop)
    }

    /// Sends a request to the registry at `registry`: authenticates, follows redirects of requests without a body,
    /// repeats what can be repeated.
    ///
    /// # Errors
    /// When there is no answer, or one of 401 or above that is not 404, which callers understand.
    pub(crate) fn send(&self, registry: &Origin, mut call: Call<'_>) -> Result<Response<Body>> {
        let (mut attempt, mut redirects, mut authenticated) = (0, 0, false);
        loop {
            let place = check_place(&call.uri, registry, Purpose::Content)?;
            if self.command.is_some() && place != *registry {
                return Err(Error::Place { url: show(&call.uri), reason: "a command leads to one place alone" });
            }
            let is_home = place == *registry;
            let authorization = if is_home { self.auth.header(call.scopes) } else { None };
            let can_repeat = !matches!(call.payload, Payload::Stream(..));
            let response = match self.once(&place, registry, &mut call, authorization.as_deref()) {
                Err(error) if can_repeat && attempt < self.retry.times && error.is_temporary() => {
                    attempt += 1;
                    std::thread::sleep(self.retry.wait(attempt));
                    continue;
                }
                other => other?,
            };
            let status = response.status().as_u16();
            match status {
                401 if is_home && can_repeat && !authenticated => {
                    authenticated = true;
                    self.authenticate(registry, response.headers(), call.scopes, authorization.as_deref())?;
                }
                301 | 302 | 303 | 307 | 308 if matches!(call.payload, Payload::None) => {
                    redirects += 1;
                    if redirects > MAX_REDIRECTS {
                        return Err(Error::Protocol("it redirects again and again"));
                    }
                    call.uri = resolve(&call.uri, location(response.headers())?)?;
                }
                status if can_repeat && attempt < self.retry.times && retry::is_temporary_status(status) => {
                    attempt += 1;
                    match self.retry.wait_as_asked(attempt, response.headers()) {
                        Some(wait) => std::thread::sleep(wait),
                        None => return Err(self.failure(response)),
                    }
                }
                404 | 405 | 416 | 200..=299 => return Ok(response),
                _ => return Err(self.failure(response)),
            }
        }
    }

    /// Sends a request once, with what shows who asks, and takes any answer.
    pub(crate) fn once(
        &self,
        place: &Origin,
        registry: &Origin,
        call: &mut Call<'_>,
        authorization: Option<&str>,
    ) -> Result<Response<Body>> {
        let mut request = ureq::http::Request::builder().method(call.method.clone()).uri(call.uri.clone());
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let is_get = matches!(call.method, Method::GET | Method::HEAD | Method::DELETE);
        let agent = self.agent(place, registry)?;
        let wrong = |_| Error::Protocol("it names an address that cannot be written");
        let sent = match &mut call.payload {
            Payload::Stream(content, size) => {
                if let Some(size) = size {
                    request = request.header(header::CONTENT_LENGTH, *size);
                }
                agent.run(request.body(SendBody::from_reader(*content)).map_err(wrong)?)
            }
            Payload::Bytes(bytes) => agent.run(request.body(*bytes).map_err(wrong)?),
            Payload::None if is_get => agent.run(request.body(()).map_err(wrong)?),
            Payload::None => agent.run(request.body(&[] as &[u8]).map_err(wrong)?),
        };
        let shown = if self.command.is_some() { self.name.clone() } else { place.name() };
        let answer = sent.map_err(|e| Error::connection(&shown, e));
        if let Some(trace) = &self.trace {
            let result = match &answer {
                Ok(response) => response.status().as_u16().to_string(),
                Err(error) => error.to_string(),
            };
            trace(&format!("{} {}: {result}", call.method, show(&call.uri)));
        }
        answer
    }

    /// Answers the challenges of a 401 to a request that showed `shown`.
    fn authenticate(
        &self,
        registry: &Origin,
        headers: &HeaderMap,
        scopes: &[String],
        shown: Option<&str>,
    ) -> Result<()> {
        let values = headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|v| v.to_str().ok());
        let challenges: Vec<Challenge> = values.flat_map(Challenge::parse_all).collect();
        let fetching = self.token_fetch.lock().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have fetched meanwhile what this one waited for.
        if self.auth.header(scopes).is_some_and(|header| Some(header.as_str()) != shown) {
            return Ok(());
        }
        let Some(request) = self.auth.answer(&self.name, registry, &challenges, scopes)? else { return Ok(()) };
        let mut call = Call::new(Method::GET, request.uri, scopes);
        if let Some(form) = &request.form {
            call.method = Method::POST;
            call = call.with_header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
            call.payload = Payload::Bytes(form.as_bytes());
        }
        let mut attempt = 0;
        let response = loop {
            let answer = self.once(&request.origin, registry, &mut call, request.authorization.as_deref());
            let wait = match &answer {
                Ok(response) if retry::is_temporary_status(response.status().as_u16()) => {
                    self.retry.wait_as_asked(attempt + 1, response.headers())
                }
                Err(error) if error.is_temporary() => Some(self.retry.wait(attempt + 1)),
                _ => None,
            };
            let Some(wait) = wait.filter(|_| attempt < self.retry.times) else { break answer? };
            attempt += 1;
            std::thread::sleep(wait);
        };
        match response.status().as_u16() {
            200..=299 => self.auth.accept(scopes, &self.read_limited(response, MAX_TOKEN_BYTES, "token")?)?,
            400 | 401 | 403 => return Err(Error::Unauthorized(self.name.clone())),
            _ => return Err(self.failure(response)),
        }
        drop(fetching);
        Ok(())
    }

    /// All of a body that may be `limit` bytes long, and must come within a time that no honest registry needs.
    pub(crate) fn read_limited(&self, response: Response<Body>, limit: u64, kind: &'static str) -> Result<Vec<u8>> {
        let length = response.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
        let too_large = |size| Error::Content(hoy_oci::Error::TooLarge { kind, size, limit });
        if let Some(size) = length.filter(|size| *size > limit) {
            return Err(too_large(size));
        }
        let mut bytes = Vec::new();
        let body = response.into_body().into_with_config().limit(u64::MAX).reader();
        let mut body = Drip::new(body.take(limit + 1), self.patience, limit + 1);
        body.read_to_end(&mut bytes).map_err(Error::Read)?;
        let size = bytes.len() as u64;
        if size > limit { Err(too_large(size)) } else { Ok(bytes) }
    }

    /// The error that an answer stands for.
    pub(crate) fn failure(&self, response: Response<Body>) -> Error {
        let status = response.status().as_u16();
        let challenge = response.headers().get(header::WWW_AUTHENTICATE).and_then(|v| v.to_str().ok());
        let insufficient = challenge.is_some_and(|text| text.contains("insufficient_scope"));
        match status {
            401 if insufficient => return Error::Denied(self.name.clone()),
            401 => return Error::Unauthorized(self.name.clone()),
            403 => return Error::Denied(self.name.clone()),
            _ => {}
        }
        Error::Status { status, message: error_message(&error_body(response)) }
    }

    /// What an answer means that there is no such `what`.
    pub(crate) fn not_found(&self, what: &'static str, response: Response<Body>) -> Error {
        let said = refusal(&error_body(response));
        Error::NotFound { what, said: if said.is_empty() { said } else { format!(" ({said})") } }
    }
}

/// A body that comes, if not all at once, at a speed that leads to an end (a connection that drips costs a lane for ever).
pub(crate) struct Drip<R> {
    body: R,
    /// How long one portion may take.
    limit: Duration,
    portion_bytes: u64,
    since: Instant,
    came: u64,
}

impl<R> Drip<R> {
    /// Each `portion_bytes` of `body` may take five times `patience`.
    pub(crate) fn new(body: R, patience: Duration, portion_bytes: u64) -> Self {
        Self { body, limit: patience.saturating_mul(5), portion_bytes, since: Instant::now(), came: 0 }
    }
}

impl<R: Read> Read for Drip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.body.read(buffer)?;
        self.came += count as u64;
        if count > 0 && self.since.elapsed() > self.limit {
            if self.came < self.portion_bytes {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "it sends too slowly to come to an end"));
            }
            (self.since, self.came) = (Instant::now(), 0);
        }
        Ok(count)
    }
}

/// The `Location` of an answer.
pub(crate) fn location(headers: &HeaderMap) -> Result<&str> {
    let value = headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
    value.ok_or(Error::Protocol("it points elsewhere without saying where"))
}

/// The body of an error; one that cannot be read is told by its number alone.
fn error_body(response: Response<Body>) -> Vec<u8> {
    let mut text = Vec::new();
    response.into_body().into_reader().take(MAX_ERROR_BYTES).read_to_end(&mut text).unwrap_or_default();
    text
}

/// What a registry says of what it lacks, as Docker shows it: code and message.
fn refusal(body: &[u8]) -> String {
    let document: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let field =
        |name: &str| document.pointer(&format!("/errors/0/{name}")).and_then(|v| v.as_str()).unwrap_or_default();
    let code = field("code").to_ascii_lowercase().replace('_', " ");
    let text = [code.as_str(), field("message")].into_iter().filter(|t| !t.is_empty()).collect::<Vec<_>>().join(": ");
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// The messages of a registry's error document (distribution-spec, "Error codes"), made fit for one line.
fn error_message(body: &[u8]) -> String {
    let document: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let errors = document.get("errors").and_then(|e| e.as_array()).cloned().unwrap_or_default();
    let one = |error: &serde_json::Value| {
        let field = |name| error.get(name).and_then(|v| v.as_str()).filter(|text| !text.is_empty());
        field("message").or(field("code")).map(str::to_owned)
    };
    let text = errors.iter().filter_map(one).collect::<Vec<_>>().join(", ");
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_cannot_write_to_the_terminal() {
        let body = br#"{"errors":[{"code":"X","message":"a\u001b[2Jb"},{"code":"Y"}]}"#;
        assert_eq!(error_message(body), "a[2Jb, Y");
        assert_eq!(error_message(b"<html>"), "");
        let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest\u0007 unknown"}]}"#;
        assert_eq!(refusal(body), "manifest unknown: manifest unknown");
        assert_eq!(refusal(b"{}"), "");
    }
}
