//! What a request's address asks for (distribution-spec, "Endpoints").

use crate::fault::Fault;
use crate::message::Status;

/// An address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    Root,
    Catalog,
    Tags(String),
    /// A tag or a digest.
    Manifest(String, String),
    Blob(String, String),
    Uploads(String),
    Upload(String, String),
    Referrers(String, String),
}

/// The parameters behind the path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// Each value of a parameter that may come several times.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// Takes a request's target apart.
pub(crate) fn parse(target: &str) -> Result<(Route, Query), Fault> {
    let unknown = || Fault::new(Status::NOT_FOUND, "UNSUPPORTED", "a registry has nothing at this address");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = decode(path, false).ok_or_else(unknown)?;
    let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((decode(name, true)?, decode(value, true)?))
    });
    let query = Query(pairs.collect::<Option<_>>().ok_or_else(unknown)?);
    let rest = match path.strip_prefix("/v2/") {
        Some(rest) => rest,
        None if path == "/v2" => "",
        None => return Err(unknown()),
    };
    let route = match rest {
        "" => Route::Root,
        "_catalog" => Route::Catalog,
        _ => in_repository(rest).ok_or_else(unknown)?,
    };
    let name = match &route {
        Route::Root | Route::Catalog => return Ok((route, query)),
        Route::Tags(name) | Route::Uploads(name) => name,
        Route::Manifest(name, _) | Route::Blob(name, _) | Route::Upload(name, _) | Route::Referrers(name, _) => name,
    };
    if is_repository(name) { Ok((route, query)) } else { Err(Fault::name_invalid(name)) }
}

/// The words that end a path decide, as a repository may have any of them in its name.
fn in_repository(path: &str) -> Option<Route> {
    if let Some(name) = path.strip_suffix("/tags/list") {
        return Some(Route::Tags(name.to_owned()));
    }
    let (rest, last) = path.rsplit_once('/')?;
    let last = last.to_owned();
    if let Some(name) = rest.strip_suffix("/blobs/uploads") {
        let name = name.to_owned();
        return Some(if last.is_empty() { Route::Uploads(name) } else { Route::Upload(name, last) });
    }
    let (name, kind) = rest.rsplit_once('/')?;
    let name = name.to_owned();
    match kind {
        "manifests" => Some(Route::Manifest(name, last)),
        "blobs" if last == "uploads" => Some(Route::Uploads(name)),
        "blobs" => Some(Route::Blob(name, last)),
        "referrers" => Some(Route::Referrers(name, last)),
        _ => None,
    }
}

/// Whether it is a repository's name. The first word may be a host with a port: the store has such names.
fn is_repository(name: &str) -> bool {
    hoy_oci::Reference::parse_local(name).is_ok_and(|r| r.digest().is_none() && r.tag() == Some("latest"))
        && !name.rsplit('/').next().unwrap_or_default().contains(':')
        && !name.contains('@')
        && !name.bytes().any(|c| c.is_ascii_uppercase())
}

/// Undoes percent-encoding; none for what is no text then.
fn decode(text: &str, plus_is_space: bool) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
                digit(bytes.next()?)? << 4 | digit(bytes.next()?)?
            }
            b'+' if plus_is_space => b' ',
            byte => byte,
        });
    }
    String::from_utf8(out).ok().filter(|text| !text.contains('\0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let s = str::to_owned;
        for (target, want) in [
            ("/v2/", Some(Route::Root)),
            ("/v2", Some(Route::Root)),
            ("/v2/_catalog?n=3", Some(Route::Catalog)),
            ("/v2/a/tags/list", Some(Route::Tags(s("a")))),
            ("/v2/a/tags/list/tags/list", Some(Route::Tags(s("a/tags/list")))),
            ("/v2/a/b/manifests/1", Some(Route::Manifest(s("a/b"), s("1")))),
            ("/v2/a/blobs/sha256%3Aab", Some(Route::Blob(s("a"), s("sha256:ab")))),
            ("/v2/a/blobs/uploads/", Some(Route::Uploads(s("a")))),
            ("/v2/a/blobs/uploads", Some(Route::Uploads(s("a")))),
            ("/v2/a/blobs/uploads/17", Some(Route::Upload(s("a"), s("17")))),
            ("/v2/a/referrers/x", Some(Route::Referrers(s("a"), s("x")))),
            ("/v2/127.0.0.1:5000/a/manifests/1", Some(Route::Manifest(s("127.0.0.1:5000/a"), s("1")))),
            ("/v2/A/manifests/1", None),
            ("/v2/a:b/manifests/1", None),
            ("/v2/../../etc/manifests/1", None),
            ("/v2/a/%00/manifests/1", None),
            ("/v2/a/manifests", None),
            ("/v2/manifests/1", None),
            ("/v1/", None),
            ("/v2/a/%zz", None),
        ] {
            assert_eq!(parse(target).ok().map(|(route, _)| route), want, "{target}");
        }
        let (_, query) = parse("/v2/_catalog?n=3&last=a%2Fb&x").unwrap();
        assert_eq!((query.get("n"), query.get("last"), query.get("x")), (Some("3"), Some("a/b"), Some("")));
    }
}
