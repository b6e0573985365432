//! What is to be synchronized, as a file says it: skopeo-sync(1), "YAML FILE CONTENT".

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hoy_cli::{Context, Error, Result};
use regex::bytes::{Regex, RegexBuilder};
use semver::{Version, VersionReq};
use serde::Deserialize;

use crate::access::{Access, Login};

/// The longest file that is read, in bytes.
const MAX_BYTES: u64 = 4 << 20;

/// What is wanted of one registry.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct Registry {
    images: BTreeMap<String, Option<Vec<String>>>,
    images_by_tag_regex: BTreeMap<String, String>,
    images_by_semver: BTreeMap<String, String>,
    credentials: Option<Credentials>,
    tls_verify: Option<bool>,
    cert_dir: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Credentials {
    username: String,
    password: String,
}

/// What is wanted of one repository.
pub(crate) struct Wanted {
    /// The repository, with its registry.
    pub(crate) repository: String,
    pub(crate) which: Which,
    /// How its registry is reached.
    pub(crate) access: Access,
}

/// Which images of a repository.
#[derive(Debug)]
pub(crate) enum Which {
    /// Those of all tags.
    All,
    /// Those of these tags and digests.
    These(Vec<String>),
    /// Those whose tag matches.
    Matching(Regex),
    /// Those whose tag is a version that fulfils one of these.
    Versions(Vec<VersionReq>),
}

/// Reads the file; `usual` says how registries are reached of which it does not say that itself.
pub(crate) fn read(path: &Path, usual: &Access) -> Result<Vec<Wanted>> {
    let doing = || format!("read \"{}\"", path.display());
    if std::fs::metadata(path).context(doing)?.len() > MAX_BYTES {
        return Err(Error::msg(format!("{}: the file is longer than 4 MiB", doing())));
    }
    let text = std::fs::read_to_string(path).context(doing)?;
    let registries: BTreeMap<String, Registry> = serde_saphyr::from_str(&text).context(doing)?;
    let mut all = Vec::new();
    for (host, registry) in registries {
        let login = registry.credentials.map(|c| Login { user: c.username, password: Some(c.password) });
        let access = Access {
            login: login.or_else(|| usual.login.clone()),
            tls_verify: registry.tls_verify.or(usual.tls_verify),
            cert_dir: registry.cert_dir.or_else(|| usual.cert_dir.clone()),
            ..usual.clone()
        };
        let mut want = |name: &str, which: Which| {
            all.push(Wanted { repository: format!("{host}/{name}"), which, access: access.clone() });
        };
        for (name, tags) in registry.images {
            let tags = tags.unwrap_or_default();
            want(&name, if tags.is_empty() { Which::All } else { Which::These(tags) });
        }
        for (name, pattern) in registry.images_by_tag_regex {
            let regex = RegexBuilder::new(&pattern).unicode(false).size_limit(1 << 20).build();
            want(&name, Which::Matching(regex.context(doing)?));
        }
        for (name, text) in registry.images_by_semver {
            let versions = text.split("||").map(requirement).collect::<std::result::Result<_, _>>();
            let wrong = |e| Error::msg(format!("{}: \"{text}\" is no range of versions: {e}", doing()));
            want(&name, Which::Versions(versions.map_err(wrong)?));
        }
    }
    Ok(all)
}

impl Which {
    /// Whether a tag of the repository is wanted.
    pub(crate) fn has(&self, tag: &str) -> bool {
        match self {
            Self::All => true,
            Self::These(tags) => tags.iter().any(|wanted| wanted == tag),
            Self::Matching(regex) => regex.is_match(tag.as_bytes()),
            Self::Versions(all) => version(tag).is_some_and(|version| all.iter().any(|one| one.matches(&version))),
        }
    }
}

/// A range of versions whose parts stand side by side or between commas; a bare version is that one alone.
fn requirement(text: &str) -> std::result::Result<VersionReq, semver::Error> {
    let is_operator = |c: char| "<>=~^".contains(c);
    let mut parts: Vec<String> = Vec::new();
    for word in text.split([' ', ',']).filter(|word| !word.is_empty()) {
        match parts.last_mut().filter(|last| last.chars().all(is_operator)) {
            Some(operator) => operator.push_str(word),
            None if word.starts_with(|c: char| c.is_ascii_digit()) => parts.push(format!("={word}")),
            None => parts.push(word.to_owned()),
        }
    }
    VersionReq::parse(&parts.join(", "))
}

/// A tag as a version: `v` may stand before it, and up to two numbers may be missing.
fn version(tag: &str) -> Option<Version> {
    let text = tag.strip_prefix('v').unwrap_or(tag);
    let end = text.find(['-', '+']).unwrap_or(text.len());
    let (numbers, rest) = text.split_at(end);
    let missing = 2_usize.saturating_sub(numbers.matches('.').count());
    Version::parse(&format!("{numbers}{}{rest}", ".0".repeat(missing))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let has = |range: &str, tag: &str| {
            let all = range.split("||").map(|one| requirement(one).unwrap()).collect();
            Which::Versions(all).has(tag)
        };
        for (range, yes, no) in [
            (">= 3.12.0", "3.12.0 3.12 v4 4.0.1", "3.11.9 latest 3.13.0-rc1 3"),
            (">=1.2 <2", "1.2 1.9.9", "2.0.0 1.1"),
            (">= 1.2, < 2", "1.2 1.9.9", "2.0.0 1.1"),
            ("1.2.3", "1.2.3 v1.2.3", "1.2.4"),
            ("~1.2", "1.2.0 1.2.9", "1.3.0"),
            ("^1.2 || 3.0.0", "1.9 3.0", "2.0 3.0.1"),
            ("1.x", "1.0 1.9.9", "2.0"),
        ] {
            for tag in yes.split(' ') {
                assert!(has(range, tag), "{range}: {tag}");
            }
            for tag in no.split(' ') {
                assert!(!has(range, tag), "{range}: {tag}");
            }
        }
        assert!(requirement(">= x").is_err() && requirement("1.2 - 2").is_err());
    }
}
