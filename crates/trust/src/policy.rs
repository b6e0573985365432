//! The policy: containers-policy.json(5).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hoy_oci::{Digest, Reference};
use serde::Deserialize;

use crate::payload::{Claim, Kind};
use crate::{Attached, Error, Result, SignedIdentity, SigstoreSigned, simple};

/// The longest file of the policy or of a key that is read, in bytes.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// What is trusted, by transport and scope.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    default: Vec<Requirement>,
    #[serde(default)]
    transports: BTreeMap<String, BTreeMap<String, Vec<Requirement>>>,
}

/// What an image must have to be trusted.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub enum Requirement {
    /// Nothing.
    InsecureAcceptAnything {},
    /// What none has.
    Reject {},
    /// A simple signature by one of the keys.
    SignedBy {
        /// `GPGKeys` is the one there is.
        key_type: String,
        /// A keyring.
        key_path: Option<PathBuf>,
        /// Several keyrings.
        key_paths: Option<Vec<PathBuf>>,
        /// A keyring in base64.
        key_data: Option<String>,
        /// Which names it may bear.
        signed_identity: Option<SignedIdentity>,
    },
    /// A sigstore signature.
    SigstoreSigned(SigstoreSigned),
}

/// What is to be trusted.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// What it was asked for by, where names are registries'.
    pub name: Option<&'a Reference>,
    /// The digest of its manifest.
    pub digest: &'a Digest,
    /// When that is, in seconds since 1970, at which certificates must be valid.
    pub now: u64,
}

/// Where an image's signatures come from; they are fetched when a requirement asks for them.
pub trait Evidence {
    /// Its simple signatures.
    ///
    /// # Errors
    /// When they cannot be had, as a text.
    fn simple(&self, digest: &Digest) -> std::result::Result<Vec<Vec<u8>>, String>;

    /// Its sigstore signatures.
    ///
    /// # Errors
    /// When they cannot be had, as a text.
    fn sigstore(&self, digest: &Digest) -> std::result::Result<Vec<Attached>, String>;
}

impl Policy {
    /// Reads a policy.
    ///
    /// # Errors
    /// For whatever is not as it must be: a policy of which a part is not understood is none.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let policy: Self = serde_json::from_slice(text).map_err(|e| Error::form("read the trust policy", e))?;
        let all = policy.transports.values().flat_map(BTreeMap::values).chain([&policy.default]);
        for requirement in all.flatten() {
            requirement.check()?;
        }
        Ok(policy)
    }

    /// What an image of the transport must have; of `scopes`, which it is in, the narrowest comes first.
    pub fn requirements(&self, transport: &str, scopes: &[String]) -> &[Requirement] {
        let of_transport = self.transports.get(transport);
        let scoped = scopes.iter().find_map(|scope| of_transport?.get(scope));
        scoped.or_else(|| of_transport?.get("")).unwrap_or(&self.default)
    }
}

impl Requirement {
    /// Whether all of these are met.
    ///
    /// # Errors
    /// With the reason when one is not, or nothing is asked for, which trusts nobody.
    pub fn all_met(all: &[Self], subject: Subject<'_>, evidence: &dyn Evidence) -> Result<()> {
        if all.is_empty() {
            return Err(Error::refused("a rule without a requirement means nothing"));
        }
        all.iter().try_for_each(|requirement| requirement.is_met(subject, evidence))
    }

    /// Whether its fields go together.
    fn check(&self) -> Result<()> {
        let wrong = |reason: &str| Err(Error::form("read the trust policy", reason));
        match self {
            Self::SignedBy { key_type, key_path, key_paths, key_data, .. } => {
                if key_type != "GPGKeys" {
                    return wrong("the one keyType that is known is GPGKeys");
                }
                let count = [key_path.is_some(), key_paths.is_some(), key_data.is_some()];
                if count.into_iter().filter(|is_set| *is_set).count() != 1 {
                    return wrong("signedBy has exactly one of keyPath, keyPaths and keyData");
                }
                Ok(())
            }
            Self::SigstoreSigned(rule) => rule.check().or_else(wrong),
            _ => Ok(()),
        }
    }

    fn is_met(&self, subject: Subject<'_>, evidence: &dyn Evidence) -> Result<()> {
        match self {
            Self::InsecureAcceptAnything {} => Ok(()),
            Self::Reject {} => Err(Error::Rejected),
            Self::SignedBy { key_path, key_paths, key_data, signed_identity, .. } => {
                let datas = key_data.as_slice();
                let keys = keys(key_path.iter().chain(key_paths.iter().flatten()), datas)?;
                let usual = SignedIdentity::MatchRepoDigestOrExact {};
                let found = evidence.simple(subject.digest).map_err(Error::Refused)?;
                let check = |signature: &Vec<u8>| {
                    let (text, _) = simple::check(signature, &keys)?;
                    let claim = Claim::parse(&text, Kind::Simple)?;
                    agrees(&claim, subject, signed_identity.as_ref().unwrap_or(&usual))
                };
                any_of(&found, check)
            }
            Self::SigstoreSigned(rule) => rule.is_met(subject, evidence),
        }
    }
}

/// The contents of key files, and of keys in base64.
pub(crate) fn keys<'a>(paths: impl Iterator<Item = &'a PathBuf>, datas: &[String]) -> Result<Vec<Vec<u8>>> {
    let mut all = paths.map(|path| read(path)).collect::<Result<Vec<_>>>()?;
    for data in datas {
        all.push(STANDARD.decode(data).map_err(|e| Error::form("read the trust policy's key data", e))?);
    }
    Ok(all)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let size = std::fs::metadata(path).map_err(Error::file("read", path))?.len();
    if size > MAX_FILE_BYTES {
        return Err(Error::form(format!("read \"{}\"", path.display()), "it is too long for a key"));
    }
    std::fs::read(path).map_err(Error::file("read", path))
}

/// Whether one of the signatures is good; the reason is that of the last one.
pub(crate) fn any_of<T>(found: &[T], check: impl Fn(&T) -> Result<()>) -> Result<()> {
    let mut reason = Error::refused("it asks for a signature, and the image has none");
    for signature in found {
        match check(signature) {
            Ok(()) => return Ok(()),
            Err(error) => reason = error,
        }
    }
    Err(reason)
}

/// Whether what was signed is this image.
pub(crate) fn agrees(claim: &Claim, subject: Subject<'_>, identity: &SignedIdentity) -> Result<()> {
    if claim.digest != *subject.digest {
        return Err(Error::refused(format!("the signature is for another image, {}", claim.digest)));
    }
    if !identity.matches(subject.name, &claim.reference) {
        return Err(Error::refused(format!("Signature for identity {} is not accepted", claim.reference)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PrivateKey, generate_key, payload};

    struct Has(Vec<Attached>);

    impl Evidence for Has {
        fn simple(&self, _: &Digest) -> std::result::Result<Vec<Vec<u8>>, String> {
            Err("it cannot be had".to_owned())
        }

        fn sigstore(&self, _: &Digest) -> std::result::Result<Vec<Attached>, String> {
            Ok(self.0.clone())
        }
    }

    fn judge(requirements: &str, evidence: &dyn Evidence) -> String {
        let policy = Policy::parse(format!(r#"{{"default":[{requirements}]}}"#).as_bytes());
        let (name, digest) = (Reference::parse("r.x/a:1").unwrap(), Digest::of(b"manifest"));
        let subject = Subject { name: Some(&name), digest: &digest, now: 0 };
        let judged = policy.and_then(|p| Requirement::all_met(p.requirements("docker", &[]), subject, evidence));
        judged.err().map_or_else(|| "ok".to_owned(), |error| error.to_string())
    }

    #[test]
    fn signatures_by_keys() {
        let (private, public) = generate_key("").unwrap();
        let (other, _) = generate_key("").unwrap();
        let sign = |private: &str, name: &str, what: &[u8]| {
            let payload = payload(Kind::Sigstore, &name.parse().unwrap(), &Digest::of(what), "test", None);
            let signature = PrivateKey::open(private.as_bytes(), "").unwrap().sign(&payload).unwrap();
            Attached { payload, signature, more: BTreeMap::new() }
        };
        let rule = format!(r#"{{"type":"sigstoreSigned","keyData":"{}"}}"#, STANDARD.encode(&public));
        let good = sign(&private, "r.x/a:1", b"manifest");
        assert_eq!(judge(&rule, &Has(vec![good.clone()])), "ok");
        for (attached, want) in [
            (None, "has none"),
            (Some(sign(&other, "r.x/a:1", b"manifest")), "not a good one"),
            (Some(sign(&private, "r.x/a:2", b"manifest")), "Signature for identity r.x/a:2 is not accepted"),
            (Some(sign(&private, "r.x/a:1", b"other")), "for another image"),
            (Some(Attached { payload: b"{}".to_vec(), ..good.clone() }), "not a good one"),
        ] {
            let judged = judge(&rule, &Has(attached.into_iter().collect()));
            assert!(judged.contains(want), "{judged}");
        }
        // All requirements count, and of several signatures one is enough.
        let bad = sign(&other, "r.x/a:1", b"manifest");
        assert_eq!(judge(&rule, &Has(vec![bad, good.clone()])), "ok");
        let and = format!(r#"{rule},{{"type":"reject"}}"#);
        assert!(judge(&and, &Has(vec![good.clone()])).contains("rejects"));
        let names = rule.replace('}', r#","signedIdentity":{"type":"matchRepository"}}"#);
        assert_eq!(judge(&names, &Has(vec![sign(&private, "r.x/a:9", b"manifest")])), "ok");
        // A log that is asked for must have the signature, and with no key of one there is none that has.
        let log = STANDARD.encode(generate_key("").unwrap().1);
        for (asked, want) in [
            (format!(r#","rekorPublicKeyData":"{log}""#), "cosign/bundle"),
            (r#","rekorPublicKeyDatas":[]"#.to_owned(), "cosign/bundle"),
            (r#","rekorPublicKeyPath":"/no/key""#.to_owned(), "/no/key"),
        ] {
            let judged = judge(&rule.replace('}', &format!("{asked}}}")), &Has(vec![good.clone()]));
            assert!(judged.contains(want), "{judged}");
        }
        let pki = r#"{"type":"sigstoreSigned","pki":{"caRootsPath":"/no/root","subjectEmail":"e"}}"#;
        assert!(judge(pki, &Has(vec![good.clone()])).contains("/no/root"));
        assert!(
            judge(r#"{"type":"sigstoreSigned","keyPath":"/no/key"}"#, &Has(vec![good.clone()])).contains("/no/key")
        );
        assert!(judge(r#"{"type":"sigstoreSigned","keyData":"eA=="}"#, &Has(vec![good])).contains("public key"));
    }

    #[test]
    fn what_is_not_understood_is_no_policy() {
        let has = Has(Vec::new());
        assert_eq!(judge(r#"{"type":"insecureAcceptAnything"}"#, &has), "ok");
        assert!(judge("", &has).contains("means nothing"));
        assert!(judge(r#"{"type":"signedBy","keyType":"GPGKeys","keyData":""}"#, &has).contains("cannot be had"));
        for wrong in [
            r#"{"type":"x"}"#,
            r#"{"type":"reject","x":1}"#,
            r#"{"type":"signedBy","keyPath":"/x"}"#,
            r#"{"type":"signedBy","keyType":"X509Certificates","keyPath":"/x"}"#,
            r#"{"type":"signedBy","keyType":"GPGKeys"}"#,
            r#"{"type":"signedBy","keyType":"GPGKeys","keyPath":"/x","keyData":"eA=="}"#,
            r#"{"type":"signedBy","keyType":"GPGKeys","keyPath":"/x","signedIdentity":{"type":"x"}}"#,
            r#"{"type":"sigstoreSigned"}"#,
            r#"{"type":"sigstoreSigned","keyPath":"/x","fulcio":{}}"#,
            r#"{"type":"sigstoreSigned","keyPath":"/x","rekorPublicKeyPath":"/x","rekorPublicKeyData":"eA=="}"#,
            r#"{"type":"sigstoreSigned","fulcio":{"caPath":"/x","oidcIssuer":"i","subjectEmail":"e"}}"#,
            r#"{"type":"sigstoreSigned","rekorPublicKeyPath":"/x","fulcio":{"oidcIssuer":"i","subjectEmail":"e"}}"#,
            r#"{"type":"sigstoreSigned","rekorPublicKeyPath":"/x","fulcio":{"caPath":"/x","subjectEmail":"e"}}"#,
            r#"{"type":"sigstoreSigned","rekorPublicKeyPath":"/x","fulcio":{"caPath":"/x","oidcIssuer":"","subjectEmail":"e"}}"#,
            r#"{"type":"sigstoreSigned","pki":{}}"#,
            r#"{"type":"sigstoreSigned","pki":{"caRootsPath":"/x"}}"#,
            r#"{"type":"sigstoreSigned","pki":{"caRootsPath":"/x","subjectEmail":""}}"#,
            r#"{"type":"sigstoreSigned","pki":{"caRootsPath":"/x","caRootsData":"","subjectEmail":"e"}}"#,
            r#"{"type":"sigstoreSigned","pki":{"caRootsPath":"/x","caIntermediatesPath":"/x","caIntermediatesData":"","subjectEmail":"e"}}"#,
            r#"{"type":"sigstoreSigned","rekorPublicKeyPath":"/x","pki":{"caRootsPath":"/x","subjectEmail":"e"}}"#,
        ] {
            let judged = judge(wrong, &has);
            assert!(judged.contains("trust policy"), "{wrong}: {judged}");
        }
        for wrong in ["{}", "[]", r#"{"default":[],"x":1}"#, r#"{"default":[],"default":[]}"#, ""] {
            assert!(Policy::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_narrowest_scope_counts() {
        let text = r#"{"default":[{"type":"reject"}],"transports":{"docker":{
            "r.x":[],"r.x/a":[{"type":"insecureAcceptAnything"}],"":[{"type":"reject"},{"type":"reject"}]}}}"#;
        let policy = Policy::parse(text.as_bytes()).unwrap();
        let count = |transport: &str, scopes: &[&str]| {
            let scopes: Vec<String> = scopes.iter().map(|s| (*s).to_owned()).collect();
            policy.requirements(transport, &scopes).len()
        };
        assert_eq!(count("docker", &["r.x/a:1", "r.x/a", "r.x"]), 1);
        assert_eq!(count("docker", &["r.x/b", "r.x"]), 0);
        assert_eq!(count("docker", &["s.x"]), 2);
        assert_eq!(count("oci", &["r.x/a"]), 1);
    }
}
