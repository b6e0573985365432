//! What an address means, and which are refused (Docker's "Build context", "URL fragments" and "URL queries").

use std::borrow::Cow;
use std::path::{Component, Path};

use percent_encoding::percent_decode_str;

use crate::{Error, Result};

/// A source elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remote {
    /// A file, by its address.
    File(String),
    /// A Git repository.
    Git(GitSource),
}

/// What of a Git repository is meant. Nothing in it can be taken for an option or for a refspec with two sides.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GitSource {
    /// Where it is; no user and password of HTTP are in it.
    pub(crate) remote: String,
    /// User and password for HTTP, as in the address.
    pub(crate) login: Option<String>,
    /// A branch, a tag, a name below `refs/`, or a commit; none is what HEAD is there.
    pub(crate) reference: Option<String>,
    /// The commit that it must be, or how that begins.
    pub(crate) checksum: Option<String>,
    /// A directory in it, relative and without `..`.
    pub(crate) subdirectory: Option<String>,
    /// `.git` is kept.
    pub(crate) keeps_git: Option<bool>,
    /// Submodules are fetched too, which is so unless it is said otherwise.
    pub(crate) submodules: Option<bool>,
}

impl Remote {
    /// What `text` means, if it is an address.
    ///
    /// # Errors
    /// [`Error::Refused`] for a scheme that is not fetched from, and for parts that could be taken for something else.
    pub fn parse(text: &str) -> Result<Option<Self>> {
        let refuse = |reason: &str| Err(Error::Refused(format!("\"{}\": {reason}", without_credentials(text))));
        let Some((scheme, rest)) = scheme(text) else {
            return match scp(text) {
                Some((place, path)) if is_host(place) => git(text, format!("{place}:"), path, None).map(Some),
                _ => Ok(None),
            };
        };
        if text.chars().any(|c| c.is_control() || c == ' ') {
            return refuse("it is no address: it has a blank or a control character in it");
        }
        if !matches!(scheme.as_str(), "http" | "https" | "git" | "ssh") {
            return refuse("only http, https, git and ssh are fetched from");
        }
        let path_at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (place, path) = rest.split_at(path_at);
        let (login, host) = place.rsplit_once('@').map_or((None, place), |(login, host)| (Some(login), host));
        if !is_host(host) {
            return refuse("it names no host");
        }
        let is_repository = path.split(['?', '#']).next().is_some_and(|path| path.ends_with(".git"));
        match scheme.as_str() {
            "http" | "https" if !is_repository => Ok(Some(Self::File(format!("{scheme}://{rest}")))),
            "http" | "https" => git(text, format!("{scheme}://{host}"), path, login).map(Some),
            "ssh" if login.is_some_and(|user| user.contains(':') || !is_host(user)) => {
                refuse("ssh takes no password from an address")
            }
            _ => git(text, format!("{scheme}://{place}"), path, None).map(Some),
        }
    }

    /// The name that a file gets where none is given: the last part of its address.
    pub(crate) fn file_name(address: &str) -> Option<String> {
        let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
        let (_, path) = rest.split(['?', '#']).next()?.split_once('/')?;
        let name = unescape(path.rsplit('/').next()?)?;
        let is_name = !matches!(name.as_str(), "" | "." | "..") && !name.contains(['/', '\0']);
        is_name.then_some(name)
    }
}

/// The scheme in lower case, and what is behind `://`.
fn scheme(text: &str) -> Option<(String, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let is_one = !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    is_one.then(|| (scheme.to_ascii_lowercase(), rest))
}

/// `USER@HOST:PATH`, as ssh has it: what is before the colon, and what is behind it.
fn scp(text: &str) -> Option<(&str, &str)> {
    let (place, path) = text.split_once(':')?;
    let (user, _) = place.split_once('@')?;
    let is_user = !user.is_empty() && user.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    (is_user && !text.chars().any(|c| c.is_control() || c == ' ')).then_some((place, path))
}

/// No part of it is an option for ssh (CVE-2017-1000117).
fn is_host(place: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    let mut parts = place.split('@');
    !place.is_empty() && parts.all(|part| !part.is_empty() && !part.starts_with('-') && part.chars().all(is_plain))
}

/// A repository at `place` and `path`, which has query and fragment behind it.
fn git(text: &str, place: String, path: &str, login: Option<&str>) -> Result<Remote> {
    let refuse = |reason: String| Error::Refused(format!("\"{}\": {reason}", without_credentials(text)));
    let (rest, fragment) = path.split_once('#').map_or((path, None), |(path, fragment)| (path, Some(fragment)));
    let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
    if path.trim_start_matches('/').is_empty() || path.trim_start_matches('/').starts_with('-') {
        return Err(refuse("it names no repository".to_owned()));
    }
    let mut source =
        GitSource { remote: format!("{place}{path}"), login: login.map(str::to_owned), ..GitSource::default() };
    if let Some(fragment) = fragment {
        let (reference, directory) = fragment.split_once(':').unwrap_or((fragment, ""));
        source.reference = Some(reference.to_owned()).filter(|text| !text.is_empty());
        source.subdirectory = Some(directory.to_owned()).filter(|text| !text.is_empty());
    }
    for pair in query.into_iter().flat_map(|query| query.split('&')).filter(|pair| !pair.is_empty()) {
        source.query(pair).map_err(refuse)?;
    }
    source.check().map_err(refuse)?;
    Ok(Remote::Git(source))
}

impl GitSource {
    /// One `NAME=VALUE` of a query.
    fn query(&mut self, pair: &str) -> std::result::Result<(), String> {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = unescape(value).ok_or_else(|| format!("the query {name} has no value that can be read"))?;
        let truth = || match value.as_str() {
            "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            _ => Err(format!("the query {name} is neither true nor false")),
        };
        let below = |prefix: &str| format!("{prefix}{}", value.strip_prefix(prefix).unwrap_or(&value));
        let (field, value) = match name {
            "keep-git-dir" => return truth().map(|keeps| self.keeps_git = Some(keeps)),
            "submodules" => return truth().map(|fetched| self.submodules = Some(fetched)),
            _ if value.is_empty() => return Err(format!("the query {name} has no value")),
            "ref" => (&mut self.reference, value),
            "tag" => (&mut self.reference, below("refs/tags/")),
            "branch" => (&mut self.reference, below("refs/heads/")),
            "subdir" => (&mut self.subdirectory, value),
            "checksum" | "commit" => (&mut self.checksum, value),
            _ => return Err(format!("there is no query {name}")),
        };
        match field {
            Some(other) if *other != value => Err(format!("\"{other}\" and \"{value}\" cannot both be meant")),
            _ => {
                *field = Some(value);
                Ok(())
            }
        }
    }

    /// `--checksum`, beside what the address says.
    pub(crate) fn expect(&mut self, checksum: &str) -> Result<()> {
        if self.checksum.as_ref().is_some_and(|other| !other.starts_with(checksum) && !checksum.starts_with(other)) {
            return Err(Error::Refused(format!("--checksum {checksum}: the address has another commit")));
        }
        self.checksum = Some(checksum.to_owned());
        self.check().map_err(Error::Refused)
    }

    fn check(&self) -> std::result::Result<(), String> {
        if let Some(text) = self.reference.as_ref().filter(|text| !is_reference(text)) {
            return Err(format!("\"{text}\" is no branch, tag or commit"));
        }
        let is_hash =
            |text: &String| (7..=64).contains(&text.len()) && text.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
        if let Some(text) = self.checksum.as_ref().filter(|text| !is_hash(text)) {
            return Err(format!("\"{text}\" is no commit: it has 7 to 64 hexadecimal digits in lower case"));
        }
        let is_inside = |text: &String| {
            Path::new(text).components().all(|part| !matches!(part, Component::ParentDir)) && !text.contains('\0')
        };
        match self.subdirectory.as_ref().filter(|text| !is_inside(text)) {
            Some(text) => Err(format!("\"{text}\" leads out of the repository")),
            None => Ok(()),
        }
    }
}

/// git-check-ref-format(1), which keeps options, ranges and refspecs out.
fn is_reference(text: &str) -> bool {
    let is_plain = |c: char| !c.is_control() && !" ~^:?*[\\".contains(c);
    let is_part = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
    !text.starts_with(['-', '+'])
        && text.chars().all(is_plain)
        && text.split('/').all(is_part)
        && !text.contains("..")
        && !text.contains("@{")
        && !text.ends_with('.')
}

/// `%XX` as the bytes they stand for; none for what is no text then.
pub(crate) fn unescape(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(Cow::into_owned)
}

/// Text in which addresses have no user and no password.
pub fn without_credentials(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("://") {
        let end = behind.find(|c: char| "/?#\"' \t\n".contains(c)).unwrap_or(behind.len());
        let (place, path) = behind.split_at(end);
        shown.push_str(before);
        shown.push_str("://");
        shown.push_str(place.rsplit('@').next().unwrap_or_default());
        rest = path;
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> std::result::Result<Option<Remote>, String> {
        Remote::parse(text).map_err(|error| error.to_string())
    }

    #[test]
    fn files_and_repositories() {
        for text in ["a", "a/b:c", "a@b", "./a", "C:\\x", "ext::sh -c touch", "--upload-pack=x", "a b@c:d"] {
            assert_eq!(parsed(text), Ok(None), "{text}");
        }
        for text in ["http://h/a", "https://u:p@h:1/a.git.txt", "https://h/?x.git", "http://h/a#b.git"] {
            assert_eq!(parsed(text), Ok(Some(Remote::File(text.to_owned()))), "{text}");
        }
        let source = |text: &str| match parsed(text) {
            Ok(Some(Remote::Git(source))) => source,
            other => panic!("{text}: {other:?}"),
        };
        let of = |remote: &str| GitSource { remote: remote.to_owned(), ..GitSource::default() };
        let some = |text: &str| Some(text.to_owned());
        for (text, want) in [
            ("https://h/a.git", of("https://h/a.git")),
            (
                "HTTPS://u:p@h/a.git#v1:sub/x",
                GitSource {
                    login: some("u:p"),
                    reference: some("v1"),
                    subdirectory: some("sub/x"),
                    ..of("https://h/a.git")
                },
            ),
            ("git@h:a/b.git#:d", GitSource { subdirectory: some("d"), ..of("git@h:a/b.git") }),
            ("git://h:1/a#x/y", GitSource { reference: some("x/y"), ..of("git://h:1/a") }),
            ("ssh://git@h/a", of("ssh://git@h/a")),
            (
                "https://h/a.git?tag=v1&subdir=d%2Fe&keep-git-dir&submodules=0&commit=0123456",
                GitSource {
                    reference: some("refs/tags/v1"),
                    subdirectory: some("d/e"),
                    keeps_git: Some(true),
                    submodules: Some(false),
                    checksum: some("0123456"),
                    ..of("https://h/a.git")
                },
            ),
            (
                "https://h/a.git?branch=refs/heads/m",
                GitSource { reference: some("refs/heads/m"), ..of("https://h/a.git") },
            ),
        ] {
            assert_eq!(source(text), want, "{text}");
        }
    }

    #[test]
    fn nothing_becomes_an_option_or_leads_out() {
        for (text, word) in [
            ("https://h/a.git#--upload-pack=touch", "no branch"),
            ("https://h/a.git#a:b/../../c", "leads out"),
            ("https://h/a.git#+refs/heads/x", "no branch"),
            ("https://h/a.git?ref=a:refs/x", "no branch"),
            ("https://h/a.git#x..y", "no branch"),
            ("https://h/a.git#:../..", "leads out"),
            ("https://h/a.git?subdir=a%2F..%2F..", "leads out"),
            ("https://h/a.git?checksum=HEAD", "no commit"),
            ("https://h/a.git?ref=a&tag=b", "cannot both"),
            ("https://h/a.git?evil=1", "no query"),
            ("https://h/a.git?ref", "no value"),
            ("ssh://-oProxyCommand=x/a", "no host"),
            ("ssh://-oProxyCommand@h/a", "no password"),
            ("git://-x/a", "no host"),
            ("git://h/-a", "no repository"),
            ("git@h:-a", "no repository"),
            ("git@h:", "no repository"),
            ("file:///etc", "only http"),
            ("ftp://h/a", "only http"),
            ("ext://h/a", "only http"),
            ("https://h/a b", "no address"),
            ("https://h/a\nb.git", "no address"),
        ] {
            let error = parsed(text).expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
        // What ssh would take for an option is no address at all, and a path that is not there.
        assert_eq!(parsed("git@-oProxyCommand=x:a"), Ok(None));
    }

    #[test]
    fn names_and_secrets() {
        for (address, want) in [
            ("https://h/a/b.tar?x=/c", Some("b.tar")),
            ("https://h/a%20b", Some("a b")),
            ("https://h/", None),
            ("https://h", None),
            ("https://h/a/..", None),
            ("https://h/%2e%2e", None),
            ("https://h/a%2Fb", None),
        ] {
            assert_eq!(Remote::file_name(address).as_deref(), want, "{address}");
        }
        for (text, want) in [
            ("ADD https://u:p@h/a git://x@y/b /", "ADD https://h/a git://y/b /"),
            ("plain", "plain"),
            ("a://b@c\"d@e", "a://c\"d@e"),
        ] {
            assert_eq!(without_credentials(text), want);
        }
    }
}
