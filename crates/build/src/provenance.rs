//! Where an image comes from, as an in-toto statement with SLSA provenance v1.
//!
//! Nothing in it differs between two builds of the same: no time, no host, no user, no path of this machine. Nothing is
//! in it that lets anybody in anywhere.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hoy_containerfile::is_secret_name;
use hoy_oci::{Digest, Platform};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

use crate::containerfile::{Watch, leak};
use crate::remote::without_credentials;
use crate::{BuildOptions, Lock, Result, Squash};

/// What a type of predicate is called.
pub const PREDICATE: &str = "https://slsa.dev/provenance/v1";
/// A name for this kind of build, and one for whoever does it, where nobody else says more of it.
const BUILD_TYPE: &str = "urn:hoy:build:containerfile:v1";
const BUILDER: &str = "urn:hoy:build";
/// What stands as it is in a package URL.
const PLAIN: AsciiSet = NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_').remove(b'~');

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Detail {
    /// What was built from, and how; of variables only their names.
    #[default]
    Min,
    /// Also the Containerfile, and the values of variables that are not called secret.
    Max,
}

/// What was asked for.
#[derive(Debug)]
pub struct Request {
    parameters: Map<String, Value>,
    containerfile: Option<Vec<u8>>,
}

impl Request {
    /// Of a build with these options by this Containerfile.
    ///
    /// # Errors
    /// [`crate::Error::Refused`] where one of the build's secrets would be in it.
    pub fn new(options: &BuildOptions, containerfile: &[u8], context: Option<&str>, detail: Detail) -> Result<Self> {
        if let Some(watch) = Watch::new(&options.secrets)? {
            let pairs = options.said.labels.iter().chain(&options.said.annotations).map(|(_, value)| value.as_bytes());
            let env = options.said.env.iter().map(|(_, value)| value);
            let values = options.args.values().chain(env).map(String::as_bytes).filter(|_| detail == Detail::Max);
            let text = Some(containerfile).filter(|_| detail == Detail::Max);
            if let Some(secret) = pairs.chain(values).chain(text).find_map(|bytes| watch.find(bytes)) {
                return Err(leak(secret, "the provenance"));
            }
        }
        // A context of this machine has no name that means anything elsewhere.
        let context = context.map_or_else(|| "local".to_owned(), address);
        let value = |name: &String, value: &String| match detail {
            Detail::Min => Value::Null,
            Detail::Max if is_secret_name(name) => json!("redacted"),
            Detail::Max => json!(without_credentials(value)),
        };
        let build_args = options.args.iter().map(|(name, text)| (name.clone(), value(name, text)));
        let env = options.said.env.iter().map(|(name, text)| (name.clone(), value(name, text)));
        let pairs = |pairs: &[(String, String)]| pairs.iter().cloned().collect::<BTreeMap<String, String>>();
        let squash = match options.squash {
            Squash::None => "none",
            Squash::New => "new",
            Squash::All => "all",
        };
        let secrets = options.secrets.iter().map(|secret| secret.id.clone()).collect::<std::collections::BTreeSet<_>>();
        let all = [
            ("containerfile", json!({"digest": {"sha256": Digest::of(containerfile).hex()}})),
            ("context", json!(context)),
            ("contexts", json!(options.contexts.keys().collect::<Vec<_>>())),
            ("target", json!(options.target)),
            ("buildArgs", json!(build_args.collect::<BTreeMap<_, _>>())),
            ("env", json!(env.collect::<BTreeMap<_, _>>())),
            ("labels", json!(pairs(&options.said.labels))),
            ("annotations", json!(pairs(&options.said.annotations))),
            ("secrets", json!(secrets)),
            ("ssh", json!(options.ssh.keys().collect::<Vec<_>>())),
            ("timestamp", json!(options.timestamp)),
            ("sourceDateEpoch", json!(options.source_date_epoch)),
            ("network", json!(options.create.network)),
            ("squash", json!(squash)),
            ("compress", json!(options.compress)),
        ];
        let is_said = |value: &Value| match value {
            Value::Null => false,
            Value::Array(all) => !all.is_empty(),
            Value::Object(all) => !all.is_empty(),
            _ => true,
        };
        let parameters = all.into_iter().filter(|(_, value)| is_said(value));
        Ok(Self {
            parameters: parameters.map(|(name, value)| (name.to_owned(), value)).collect(),
            containerfile: (detail == Detail::Max)
                .then(|| without_credentials(&String::from_utf8_lossy(containerfile)).into_bytes()),
        })
    }

    /// The statement about images of these names, digests and platforms, for which `used` was taken.
    pub fn statement(
        &self,
        names: &[String],
        digests: &[Digest],
        platforms: &[Platform],
        used: &Lock,
        version: &str,
    ) -> Value {
        let subject = |digest: &Digest| {
            let digest = json!({"sha256": digest.hex()});
            match names.first() {
                Some(name) => json!({"name": name, "digest": digest}),
                None => json!({"digest": digest}),
            }
        };
        let mut parameters = self.parameters.clone();
        parameters.insert("platforms".to_owned(), platforms.iter().map(ToString::to_string).collect());
        let mut run = json!({"builder": {"id": BUILDER, "version": {"hoy-build": version}}});
        if let (Some(text), Some(run)) = (&self.containerfile, run.as_object_mut()) {
            let file = json!({
                "name": "Containerfile", "mediaType": "text/plain", "content": STANDARD.encode(text),
                "digest": {"sha256": Digest::of(text).hex()},
            });
            run.insert("byproducts".to_owned(), json!([file]));
        }
        json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": digests.iter().map(subject).collect::<Vec<_>>(),
            "predicateType": PREDICATE,
            "predicate": {
                "buildDefinition": {
                    "buildType": BUILD_TYPE,
                    "externalParameters": parameters,
                    "resolvedDependencies": dependencies(used),
                },
                "runDetails": run,
            },
        })
    }
}

/// Each thing that was taken, by what it is called everywhere.
fn dependencies(used: &Lock) -> Vec<Value> {
    let images = used.images.iter().flat_map(|(name, platforms)| {
        platforms.iter().map(move |(platform, digest)| (image(name, platform), "sha256", digest.hex()))
    });
    let files = used.files.iter().map(|(address_, digest)| (address(address_), "sha256", digest.hex()));
    let repositories = used.repositories.iter().map(|(address_, commit)| {
        let address = address(address_);
        let start = if address.starts_with("git") { "" } else { "git+" };
        (format!("{start}{address}"), "gitCommit", commit.clone())
    });
    let all = images.chain(files).chain(repositories);
    all.map(|(uri, algorithm, digest)| json!({"uri": uri, "digest": {algorithm: digest}})).collect()
}

/// A package URL, as BuildKit writes it.
fn image(name: &str, platform: &str) -> String {
    let (path, version) = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, tag),
        _ => (name, "latest"),
    };
    let path = path.split('/').map(|part| utf8_percent_encode(part, &PLAIN).to_string()).collect::<Vec<_>>().join("/");
    format!("pkg:docker/{path}@{version}?platform={}", utf8_percent_encode(platform, &PLAIN))
}

/// An address without what may let somebody in: user and password, and the query.
fn address(text: &str) -> String {
    let text = without_credentials(text);
    let (path, fragment) = text.split_once('#').map_or((text.as_str(), None), |(path, part)| (path, Some(part)));
    let path = path.split('?').next().unwrap_or_default();
    fragment.map_or_else(|| path.to_owned(), |fragment| format!("{path}#{fragment}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken() {
        let digest = Digest::of(b"1");
        let mut used = Lock::default();
        used.images.entry("localhost:5000/a/b:1".to_owned()).or_default().insert("linux/amd64".to_owned(), digest);
        used.files.insert("https://u:p@h/f?token=x".to_owned(), digest);
        used.repositories.insert("https://h/r.git#main".to_owned(), "ab".to_owned());
        used.repositories.insert("git://h/r.git#main".to_owned(), "ab".to_owned());
        let uris: Vec<Value> = dependencies(&used).into_iter().map(|one| one["uri"].clone()).collect();
        let want = [
            "pkg:docker/localhost%3A5000/a/b@1?platform=linux%2Famd64",
            "https://h/f",
            "git://h/r.git#main",
            "git+https://h/r.git#main",
        ];
        assert_eq!(uris, want);
    }
}
