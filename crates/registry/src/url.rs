//! Addresses that a registry names, and which of them are gone to.

use std::net::IpAddr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use ureq::http::Uri;

use crate::{Error, Result};

/// Scheme, host and port: where credentials may be sent (RFC 6454).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) https: bool,
    /// Lower case and without the dot that may end a name; an IPv6 address has its brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Origin {
    /// The origin of an absolute address.
    pub(crate) fn of(uri: &Uri) -> Option<Self> {
        let https = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let authority = uri.authority()?;
        let port = authority.port_u16().unwrap_or(if https { 443 } else { 80 });
        let host = authority.host().trim_end_matches('.').to_ascii_lowercase();
        Some(Self { https, host, port })
    }

    /// Host and port as a person writes them.
    pub(crate) fn name(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    pub(crate) fn is_this_machine(&self) -> bool {
        let name = self.host == "localhost" || self.host.ends_with(".localhost");
        name || self.address().is_some_and(|address| address.to_canonical().is_loopback())
    }

    fn address(&self) -> Option<IpAddr> {
        self.host.trim_matches(['[', ']']).parse().ok()
    }
}

/// How an address came up, which decides what it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Content is fetched from or sent to it, with credentials only at the registry itself.
    Content,
    /// Credentials are shown to it for a token.
    Token,
}

/// The origin of `uri`, which the registry at `registry` named, if it is gone to.
///
/// HTTPS is never left for plain HTTP; a registry elsewhere does not make this program talk to this machine or to the
/// link's metadata services (CVE-2026-48978); plain HTTP gets credentials at the registry's own host alone.
pub(crate) fn check_place(uri: &Uri, registry: &Origin, purpose: Purpose) -> Result<Origin> {
    let refuse = |reason| Error::Place { url: show(uri), reason };
    let origin = Origin::of(uri).ok_or_else(|| refuse("it is no http or https address"))?;
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(refuse("it has a user in it"));
    }
    let same_host = origin.host == registry.host;
    if registry.https && !origin.https {
        return Err(refuse("it is plain HTTP"));
    }
    if purpose == Purpose::Token && !origin.https && !same_host {
        return Err(refuse("credentials would go to another host over plain HTTP"));
    }
    if !same_host {
        let is_local = |address: IpAddr| match address {
            IpAddr::V4(v4) => v4.is_link_local() || v4.is_unspecified(),
            IpAddr::V6(v6) => (v6.segments()[0] & 0xffc0) == 0xfe80 || v6.is_unspecified(),
        };
        let is_link = origin.address().is_some_and(|address| is_local(address.to_canonical()));
        if is_link || (origin.is_this_machine() && !registry.is_this_machine()) {
            return Err(refuse("it is an address of this machine or its link"));
        }
    }
    Ok(origin)
}

/// An address without its query, which may hold a signature.
pub(crate) fn show(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or_default();
    let authority = uri.authority().map_or("", |a| a.as_str().rsplit('@').next().unwrap_or_default());
    format!("{scheme}://{authority}{}", uri.path())
}

/// The absolute address that `location` means in an answer from `base`.
pub(crate) fn resolve(base: &Uri, location: &str) -> Result<Uri> {
    let wrong = || Error::Protocol("its Location is no address");
    let absolute = if location.starts_with("//") {
        format!("{}:{location}", base.scheme_str().unwrap_or("https"))
    } else if location.starts_with('/') || location.starts_with('?') {
        let path = if location.starts_with('?') { base.path() } else { "" };
        let (scheme, authority) = (base.scheme_str().unwrap_or("https"), base.authority().ok_or_else(wrong)?);
        format!("{scheme}://{authority}{path}{location}")
    } else if location.contains("://") {
        location.to_owned()
    } else {
        let directory = base.path().rsplit_once('/').map_or("", |(directory, _)| directory);
        let (scheme, authority) = (base.scheme_str().unwrap_or("https"), base.authority().ok_or_else(wrong)?);
        format!("{scheme}://{authority}{directory}/{location}")
    };
    absolute.parse().map_err(|_| wrong())
}

/// `uri` with one more query parameter, whose value needs no escaping or is escaped by [`escape`].
pub(crate) fn with_query(uri: &Uri, parameter: &str) -> Result<Uri> {
    let separator = if uri.query().is_some() { '&' } else { '?' };
    format!("{uri}{separator}{parameter}").parse().map_err(|_| Error::Protocol("its Location is no address"))
}

/// All but RFC 3986's unreserved characters, `:` and `/`, which a query may hold.
const ESCAPED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':').remove(b'/');

/// Percent-encodes what a query may not hold.
pub(crate) fn escape(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

/// `text` with `%XX` as the bytes that they stand for (RFC 3986, 2.1).
pub(crate) fn unescape(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn any_location_is_borne(location in "\\PC{0,60}") {
            let base: Uri = "https://r.x/v2/a".parse().unwrap();
            let registry = Origin::of(&base).unwrap();
            if let Ok(uri) = resolve(&base, &location)
                && let Ok(origin) = check_place(&uri, &registry, Purpose::Token)
            {
                proptest::prop_assert!(origin.https);
            }
        }
    }

    #[test]
    fn locations() {
        let base: Uri = "https://r.x:5000/v2/a/blobs/uploads/?n=1".parse().unwrap();
        for (location, want) in [
            ("/v2/a?x=y", "https://r.x:5000/v2/a?x=y"),
            ("https://cdn.x/b", "https://cdn.x/b"),
            ("//cdn.x/b", "https://cdn.x/b"),
            ("17?_state=z", "https://r.x:5000/v2/a/blobs/uploads/17?_state=z"),
            ("?_state=z", "https://r.x:5000/v2/a/blobs/uploads/?_state=z"),
        ] {
            assert_eq!(resolve(&base, location).unwrap().to_string(), want);
        }
        assert!(resolve(&base, "http://[broken").is_err());
        assert_eq!(escape("repository:a/b:pull,push x"), "repository:a/b:pull%2Cpush%20x");
    }

    #[test]
    fn places() {
        let check = |registry: &str, url: &str, purpose| {
            let registry = Origin::of(&registry.parse().unwrap()).unwrap();
            check_place(&url.parse().unwrap(), &registry, purpose).is_ok()
        };
        for (registry, url, content, token) in [
            ("https://r.x", "https://cdn.x/b", true, true),
            ("https://r.x", "http://cdn.x/b", false, false),
            ("https://r.x", "http://r.x/b", false, false),
            ("https://r.x", "https://169.254.169.254/latest", false, false),
            ("https://r.x", "https://[fe80::1]/", false, false),
            ("https://r.x", "https://[::ffff:127.0.0.1]/", false, false),
            ("https://r.x", "https://localhost/", false, false),
            ("https://r.x", "https://0.0.0.0/", false, false),
            // The last dot of a name is no part of it, and names below localhost are this machine (RFC 6761).
            ("https://r.x", "https://localhost./", false, false),
            ("https://r.x", "https://a.localhost/", false, false),
            ("https://r.x", "https://127.0.0.1./", false, false),
            ("https://r.x", "https://169.254.169.254./latest", false, false),
            ("https://r.x", "https://mylocalhost/", true, true),
            ("https://r.x", "https://user@cdn.x/", false, false),
            ("https://r.x", "ftp://r.x/etc/passwd", false, false),
            ("http://127.0.0.1:5000", "http://127.0.0.1:5001/token", true, true),
            ("http://127.0.0.1:5000", "http://127.0.0.2:5001/token", true, false),
            ("http://127.0.0.1:5000", "https://auth.x/token", true, true),
        ] {
            assert_eq!(check(registry, url, Purpose::Content), content, "{url}");
            assert_eq!(check(registry, url, Purpose::Token), token, "{url}");
        }
    }
}
