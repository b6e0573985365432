//! A file at an address that is no registry's: whatever `ADD` and build contexts name.

use std::io::{self, Read};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use ureq::BodyReader;
use ureq::http::{Method, Uri, header};

use crate::error::Doing;
use crate::http::{Call, Drip};
use crate::url::{Origin, show, unescape};
use crate::{Credentials, Error, Options, Registry, Result};

/// What must come within five times the patience, in bytes.
const PORTION_BYTES: u64 = 64 << 10;

/// A file on its way: its bytes, and what the server says of it. Nothing is verified here.
pub struct RemoteFile {
    body: Drip<BodyReader<'static>>,
    /// How long it is, where the server says.
    pub size_bytes: Option<u64>,
    /// When it was changed, in seconds since 1970, where the server says (RFC 9110, 8.8.2).
    pub modified: Option<i64>,
    /// Where it was asked for, without user and query.
    pub shown: String,
}

impl RemoteFile {
    /// Asks for the file at `address`. A user and a password in it are shown to that server alone, when it asks.
    ///
    /// Redirects are followed under the rules for a registry's: not from HTTPS to HTTP, not from elsewhere to this
    /// machine, not without end.
    ///
    /// # Errors
    /// [`Error::Server`] for an answer that has no file, and those of the request.
    pub fn open(address: &str, options: Options) -> Result<Self> {
        let wrong = |reason| Error::Address(without_user(address), reason);
        let (plain, credentials) = split_user(address);
        let uri: Uri = plain.parse().map_err(|_| wrong("it is no address"))?;
        let origin = Origin::of(&uri).ok_or_else(|| wrong("it is no http or https address"))?;
        let shown = show(&uri);
        let ask = || {
            let registry = Registry::new(&origin.name(), Options { credentials, ..options });
            let response = match registry.http().send(&origin, Call::new(Method::GET, uri, &[])) {
                Err(Error::Status { status, .. }) => return Err(Error::Server(status)),
                Err(Error::Unauthorized(_)) => return Err(Error::Server(401)),
                Err(Error::Denied(_)) => return Err(Error::Server(403)),
                other => other?,
            };
            let status = response.status().as_u16();
            if status != 200 {
                return Err(Error::Server(status));
            }
            let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::trim);
            let size_bytes = text(header::CONTENT_LENGTH).and_then(|text| text.parse().ok());
            let date = text(header::LAST_MODIFIED).and_then(|text| OffsetDateTime::parse(text, &Rfc2822).ok());
            let body = response.into_body().into_with_config().limit(u64::MAX).reader();
            let body = Drip::new(body, registry.http().patience, PORTION_BYTES);
            Ok((body, size_bytes, date.map(OffsetDateTime::unix_timestamp)))
        };
        let (body, size_bytes, modified) = ask().doing(|| format!("fetch \"{shown}\""))?;
        Ok(Self { body, size_bytes, modified, shown })
    }
}

impl Read for RemoteFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.body.read(buffer)
    }
}

impl std::fmt::Debug for RemoteFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteFile").field("shown", &self.shown).finish_non_exhaustive()
    }
}

/// An address without the user in it, and that user.
fn split_user(address: &str) -> (String, Option<Credentials>) {
    let Some((scheme, rest)) = address.split_once("://") else { return (address.to_owned(), None) };
    let (place, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    // What is behind a # is for the reader of the file.
    let path = path.split('#').next().unwrap_or_default();
    let Some((user, host)) = place.rsplit_once('@') else { return (format!("{scheme}://{place}{path}"), None) };
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    let credentials = Credentials::Password { user: unescape(user), password: unescape(password) };
    (format!("{scheme}://{host}{path}"), Some(credentials))
}

fn without_user(address: &str) -> String {
    split_user(address).0.split('?').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_taken_out() {
        let password = |user: &str, password: &str| {
            Some(Credentials::Password { user: user.to_owned(), password: password.to_owned() })
        };
        for (address, plain, user) in [
            ("https://h/a?b#c", "https://h/a?b", None),
            ("https://u:p%40q@h:1/a", "https://h:1/a", password("u", "p@q")),
            ("http://u@h", "http://h", password("u", "")),
            ("http://h/a@b", "http://h/a@b", None),
            ("nothing", "nothing", None),
        ] {
            assert_eq!(split_user(address), (plain.to_owned(), user), "{address}");
        }
        assert_eq!(without_user("https://u:p@h/a?token=1"), "https://h/a");
    }
}
