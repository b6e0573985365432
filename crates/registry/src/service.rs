//! Questions to web services that are no registries: small documents there and back, as making signatures needs.

use std::thread::sleep;

use ureq::http::{Method, Uri, header};

use crate::error::Doing;
use crate::http::{Call, Payload};
use crate::url::{Origin, Purpose, check_place, show};
use crate::{Error, Options, Registry, Result, retry};

/// The longest answer that is read, in bytes.
const MAX_ANSWER_BYTES: u64 = 1 << 20;
/// The type of a form, in which secrets are sent (RFC 6749).
const FORM: &str = "application/x-www-form-urlencoded";

/// What a service is asked. Its debug form shows no secret.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// Where: an `http:` or `https:` address.
    pub address: &'a str,
    /// The address whose answer named this one, if one did: HTTPS is not left for plain HTTP, and nobody elsewhere sends
    /// this program to this machine.
    pub named_by: Option<&'a str>,
    /// What shows who asks.
    pub token: Option<&'a str>,
    /// The type and the text of what is sent; none asks with GET.
    pub sends: Option<(&'a str, &'a [u8])>,
}

/// What it answers, whether it is content or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Where else to look.
    pub location: Option<String>,
    /// All of the body.
    pub body: Vec<u8>,
}

impl Question<'_> {
    /// A form of these fields.
    pub fn form(fields: &[(&str, &str)]) -> String {
        let one = |(name, value): &(&str, &str)| format!("{name}={}", crate::url::escape(value));
        fields.iter().map(one).collect::<Vec<_>>().join("&")
    }

    /// Asks. What failed in a way that may pass is asked again; redirects are not followed.
    ///
    /// # Errors
    /// When there is no answer, and where a secret would go over plain HTTP to another machine.
    pub fn ask(&self, options: Options) -> Result<Answer> {
        let shown = self.address.parse().map_or_else(|_| self.address.to_owned(), |uri| show(&uri));
        self.answer(options).doing(|| format!("ask \"{shown}\""))
    }

    fn answer(&self, options: Options) -> Result<Answer> {
        let no_address = || Error::Protocol("it is no http or https address");
        let parse = |text: &str| text.parse::<Uri>().map_err(|_| no_address());
        let uri = parse(self.address)?;
        let origin = match self.named_by {
            Some(by) => check_place(&uri, &Origin::of(&parse(by)?).ok_or_else(no_address)?, Purpose::Token)?,
            None => Origin::of(&uri).ok_or_else(no_address)?,
        };
        let is_secret = self.token.is_some() || self.sends.is_some_and(|(kind, _)| kind == FORM);
        if is_secret && !origin.https && !origin.is_this_machine() {
            return Err(Error::Place { url: show(&uri), reason: "credentials would go there over plain HTTP" });
        }
        let registry = Registry::new(&origin.host, Options { credentials: None, ..options });
        let (http, authorization) = (registry.http(), self.token.map(|token| format!("Bearer {token}")));
        let mut attempt = 0;
        let response = loop {
            let mut call = Call::new(Method::GET, uri.clone(), &[]);
            if let Some((kind, text)) = self.sends {
                call.method = Method::POST;
                call = call.with_header(header::CONTENT_TYPE, kind).with_payload(Payload::Bytes(text));
            }
            let answer = http.once(&origin, &origin, &mut call, authorization.as_deref());
            let wait = match &answer {
                Ok(response) if retry::is_temporary_status(response.status().as_u16()) => {
                    http.retry.wait_as_asked(attempt + 1, response.headers())
                }
                Err(error) if error.is_temporary() => Some(http.retry.wait(attempt + 1)),
                _ => None,
            };
            match wait.filter(|_| attempt < http.retry.times) {
                Some(wait) => sleep(wait),
                None => break answer?,
            }
            attempt += 1;
        };
        let status = response.status().as_u16();
        let location =
            response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok(Answer { status, location, body: http.read_limited(response, MAX_ANSWER_BYTES, "answer")? })
    }
}

impl std::fmt::Debug for Question<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Question").field("address", &self.address).finish_non_exhaustive()
    }
}
