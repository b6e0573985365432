//! Names of images.

use std::fmt;
use std::str::FromStr;

use crate::{Digest, Error, Result};

/// The host that names without one mean at a registry, as in Docker.
const DEFAULT_HOST: &str = "docker.io";

/// A full image name `host[:port]/repository[:tag][@digest]` (distribution-spec, "Pulling manifests").
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    host: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Reads a name as Docker does: `debian` is `docker.io/library/debian`. No tag is added.
    ///
    /// # Errors
    /// [`Error::Reference`] with the rule that the text breaks.
    pub fn parse(text: &str) -> Result<Self> {
        Self::parse_with_host(text, DEFAULT_HOST)
    }

    /// Reads a name as the store does: one without a host is `localhost/NAME`, and the tag defaults to `latest`.
    ///
    /// # Errors
    /// As [`Reference::parse`].
    pub fn parse_local(text: &str) -> Result<Self> {
        Ok(Self::parse_with_host(text, "localhost")?.or_latest())
    }

    fn parse_with_host(text: &str, default_host: &str) -> Result<Self> {
        let wrong = |reason| Error::Reference { text: text.to_owned(), reason };
        let (rest, digest) = match text.split_once('@') {
            None => (text, None),
            Some((rest, digest)) => {
                (rest, Some(digest.parse().map_err(|_| wrong("the part after '@' is no sha256 digest"))?))
            }
        };
        let slash = rest.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match rest.get(slash..).and_then(|last| last.find(':')) {
            None => (rest, None),
            Some(colon) => {
                let (name, tag) = rest.split_at(slash + colon);
                (name, tag.strip_prefix(':'))
            }
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(wrong("a tag has up to 128 letters, digits, '_', '.' and '-'"));
        }
        let (host, repository) = match name.split_once('/') {
            Some((first, rest)) if first == "localhost" || first.contains(['.', ':']) || has_upper(first) => {
                (first, rest)
            }
            _ => (default_host, name),
        };
        if !is_host(host) {
            return Err(wrong("the host is not of the form name[:port]"));
        }
        if repository.is_empty() {
            return Err(wrong("the name is empty"));
        }
        if has_upper(repository) {
            return Err(wrong("repository name must be lowercase"));
        }
        if repository.len() > 255 || !repository.split('/').all(is_component) {
            return Err(wrong("a repository has lower-case words joined by '/', '.', '_', '__' or '-'"));
        }
        let host = if host == "index.docker.io" { DEFAULT_HOST } else { host }.to_owned();
        let is_short = host == DEFAULT_HOST && !repository.contains('/');
        let repository = if is_short { format!("library/{repository}") } else { repository.to_owned() };
        let tag = tag.map(str::to_owned);
        Ok(Self { host, repository, tag, digest })
    }

    /// The registry, with its port if it has one.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The repository within the registry.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// `host/repository`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }

    /// The tag, if the name has one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if the name has one.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same name, with the tag `latest` where it has neither tag nor digest.
    #[must_use]
    pub fn or_latest(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some("latest".to_owned());
        }
        self
    }

    /// The same repository with another tag and no digest.
    ///
    /// # Errors
    /// [`Error::Reference`] when `tag` is none.
    pub fn with_tag(&self, tag: &str) -> Result<Self> {
        if !is_tag(tag) {
            let reason = "a tag has up to 128 letters, digits, '_', '.' and '-'";
            return Err(Error::Reference { text: tag.to_owned(), reason });
        }
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The names under which the store may know what a person called `text`, best first.
    ///
    /// A name with a host stands for itself; one without may be local or Docker's.
    ///
    /// # Errors
    /// As [`Reference::parse`].
    pub fn candidates(text: &str) -> Result<Vec<Self>> {
        let local = Self::parse_local(text)?;
        let docker = Self::parse(text)?.or_latest();
        Ok(if local == docker { vec![local] } else { vec![local, docker] })
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        self.digest.map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

fn has_upper(text: &str) -> bool {
    text.bytes().any(|c| c.is_ascii_uppercase())
}

/// `[\w][\w.-]{0,127}` (distribution-spec).
fn is_tag(text: &str) -> bool {
    let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|c| word(c) || c == b'.' || c == b'-')
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*` (distribution-spec).
fn is_component(text: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separators = text.split(alphanumeric).filter(|s| !s.is_empty());
    text.starts_with(alphanumeric)
        && text.ends_with(alphanumeric)
        && separators.into_iter().all(|s| matches!(s, "." | "_" | "__") || s.bytes().all(|c| c == b'-'))
}

/// A DNS name, an IPv4 address or a bracketed IPv6 address, and a port.
fn is_host(text: &str) -> bool {
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (text, None),
    };
    let port_ok = port.is_none_or(|port| port.parse::<u16>().is_ok() && port.bytes().all(|c| c.is_ascii_digit()));
    let name_ok = match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(ipv6) => ipv6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => name.split('.').all(|label| {
            let inner = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
            !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.bytes().all(inner)
        }),
    };
    port_ok && name_ok
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_names() {
        let hex = "a".repeat(64);
        for (text, want) in [
            ("debian", "docker.io/library/debian".to_owned()),
            ("debian:12", "docker.io/library/debian:12".to_owned()),
            ("index.docker.io/a/b", "docker.io/a/b".to_owned()),
            ("user/app", "docker.io/user/app".to_owned()),
            ("localhost/app", "localhost/app".to_owned()),
            ("127.0.0.1:5000/a/b:c", "127.0.0.1:5000/a/b:c".to_owned()),
            ("[::1]:5000/a", "[::1]:5000/a".to_owned()),
            (&format!("r.example/a:t@sha256:{hex}"), format!("r.example/a:t@sha256:{hex}")),
            ("r.example/a__b--c.d", "r.example/a__b--c.d".to_owned()),
        ] {
            assert_eq!(Reference::parse(text).unwrap().to_string(), want);
        }
        assert_eq!(Reference::parse_local("app").unwrap().to_string(), "localhost/app:latest");
    }

    #[test]
    fn wrong_names() {
        for text in [
            "",
            ":",
            "a:",
            "a/",
            "/a",
            "A",
            "a//b",
            "a:b:c",
            "a@sha256:..",
            "../a",
            "a/../b",
            "-a",
            "a_-b",
            "r.x:99999/a",
            "r.x:+1/a",
            "a b",
            "a:-t",
            "a\n",
        ] {
            assert!(Reference::parse(text).is_err(), "{text:?}");
        }
    }
}
