//! Which names a signature may bear (containers-policy.json(5), "signedIdentity").

use hoy_oci::Reference;
use serde::Deserialize;

/// How the name in a signature is held against the image's.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub enum SignedIdentity {
    /// The very name.
    MatchExact {},
    /// The very name; of an image that was asked for by digest, the repository.
    MatchRepoDigestOrExact {},
    /// The repository.
    MatchRepository {},
    /// Another name.
    ExactReference {
        /// It.
        docker_reference: String,
    },
    /// A name of another repository.
    ExactRepository {
        /// It.
        docker_repository: String,
    },
    /// As [`SignedIdentity::MatchRepoDigestOrExact`], with another beginning of the image's name.
    RemapIdentity {
        /// How the name begins.
        prefix: String,
        /// What stands there in signatures.
        signed_prefix: String,
    },
}

impl SignedIdentity {
    /// Whether a signature for `signed` is one for the image that is called `image`.
    pub fn matches(&self, image: Option<&Reference>, signed: &str) -> bool {
        let Ok(signed) = Reference::parse(signed) else { return false };
        match self {
            Self::MatchExact {} => image.is_some_and(|image| exact(image, &signed)),
            Self::MatchRepoDigestOrExact {} => image.is_some_and(|image| digest_or_exact(image, &signed)),
            Self::MatchRepository {} => image.is_some_and(|image| image.name() == signed.name()),
            Self::ExactReference { docker_reference } => {
                Reference::parse(docker_reference).is_ok_and(|wanted| exact(&wanted, &signed))
            }
            Self::ExactRepository { docker_repository } => Reference::parse(docker_repository)
                .is_ok_and(|wanted| is_bare(&wanted) && wanted.name() == signed.name()),
            Self::RemapIdentity { prefix, signed_prefix } => image
                .and_then(|image| remap(image, prefix, signed_prefix))
                .is_some_and(|i| digest_or_exact(&i, &signed)),
        }
    }
}

fn is_bare(name: &Reference) -> bool {
    name.tag().is_none() && name.digest().is_none()
}

fn exact(image: &Reference, signed: &Reference) -> bool {
    !is_bare(image) && image == signed
}

fn digest_or_exact(image: &Reference, signed: &Reference) -> bool {
    match image.digest() {
        Some(_) => !is_bare(signed) && image.name() == signed.name(),
        None => exact(image, signed),
    }
}

/// The image's name with another beginning; the same where it begins otherwise.
fn remap(image: &Reference, prefix: &str, signed_prefix: &str) -> Option<Reference> {
    let text = image.to_string();
    match text.strip_prefix(prefix) {
        Some(rest) if rest.is_empty() || rest.starts_with(['/', ':', '@']) => {
            Reference::parse(&format!("{signed_prefix}{rest}")).ok()
        }
        _ => Some(image.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let digest = format!("r.x/a@sha256:{}", "0".repeat(64));
        let read = |json: &str| serde_json::from_str::<SignedIdentity>(json).unwrap();
        let (exact, digest_or_exact) = (r#"{"type":"matchExact"}"#, r#"{"type":"matchRepoDigestOrExact"}"#);
        let repository = r#"{"type":"matchRepository"}"#;
        let other = r#"{"type":"exactReference","dockerReference":"o.x/b:2"}"#;
        let other_repository = r#"{"type":"exactRepository","dockerRepository":"o.x/b"}"#;
        let remap = r#"{"type":"remapIdentity","prefix":"r.x","signedPrefix":"o.x/y"}"#;
        for (rule, image, signed, want) in [
            (exact, "r.x/a:1", "r.x/a:1", true),
            (exact, "r.x/a:1", "r.x/a:2", false),
            (exact, "r.x/a:1", "r.x/a", false),
            (exact, "r.x/a", "r.x/a", false),
            (exact, &digest, "r.x/a:1", false),
            (exact, "debian:12", "docker.io/library/debian:12", true),
            (digest_or_exact, "r.x/a:1", "r.x/a:1", true),
            (digest_or_exact, "r.x/a:1", "r.x/a:2", false),
            (digest_or_exact, &digest, "r.x/a:2", true),
            (digest_or_exact, &digest, "r.x/b:2", false),
            (digest_or_exact, &digest, "r.x/a", false),
            (repository, "r.x/a:1", "r.x/a:2", true),
            (repository, "r.x/a:1", "r.x/aa:2", false),
            (other, "r.x/a:1", "o.x/b:2", true),
            (other, "r.x/a:1", "r.x/a:1", false),
            (other_repository, "r.x/a:1", "o.x/b:7", true),
            (other_repository, "r.x/a:1", "o.x/bb:7", false),
            (remap, "r.x/a:1", "o.x/y/a:1", true),
            (remap, "r.xy/a:1", "o.x/yy/a:1", false),
            (remap, "s.x/a:1", "s.x/a:1", true),
            (exact, "r.x/a:1", "Not A Name", false),
        ] {
            let image = Reference::parse(image).unwrap();
            assert_eq!(read(rule).matches(Some(&image), signed), want, "{rule} {image} {signed}");
        }
        assert!(!read(exact).matches(None, "r.x/a:1") && read(other).matches(None, "o.x/b:2"));
        for wrong in [r#"{"type":"x"}"#, r#"{"type":"matchExact","a":1}"#, r#"{"type":"exactReference"}"#, "{}"] {
            assert!(serde_json::from_str::<SignedIdentity>(wrong).is_err(), "{wrong}");
        }
    }
}
