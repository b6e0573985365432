//! What is signed: which image has which digest (containers-signature(5), cosign's signature specification).

use hoy_oci::{Digest, Reference};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{Error, Result};

/// The longest payload that is read, in bytes.
pub(crate) const MAX_PAYLOAD_BYTES: usize = 64 << 10;

/// Who says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A simple signature.
    Simple,
    /// A sigstore signature.
    Sigstore,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Simple => "atomic container signature",
            Self::Sigstore => "cosign container image signature",
        }
    }
}

/// What a payload says.
#[derive(Debug, PartialEq, Eq)]
pub struct Claim {
    /// The image's name.
    pub reference: String,
    /// The digest of its manifest.
    pub digest: Digest,
}

// Fields that are unknown or come twice are refused: one text must not say two things.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    critical: Critical,
    #[serde(default, rename = "optional")]
    _optional: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Critical {
    #[serde(rename = "type")]
    kind: String,
    image: Image,
    identity: Identity,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    #[serde(rename = "docker-reference")]
    reference: String,
}

impl Claim {
    /// Reads a payload whose signature was right.
    ///
    /// # Errors
    /// When it is not exactly of the form, or of the other kind.
    pub fn parse(bytes: &[u8], kind: Kind) -> Result<Self> {
        let wrong = |reason: &dyn ToString| Error::form("read the signed text", reason.to_string());
        if bytes.len() > MAX_PAYLOAD_BYTES {
            return Err(wrong(&"it is too long"));
        }
        let payload: Payload = serde_json::from_slice(bytes).map_err(|e| wrong(&e))?;
        if payload.critical.kind != kind.word() {
            return Err(wrong(&format!("it is of the type \"{}\"", payload.critical.kind)));
        }
        let digest = payload.critical.image.digest.parse().map_err(|e| wrong(&e))?;
        Ok(Self { reference: payload.critical.identity.reference, digest })
    }
}

/// The text to sign: that `reference` has the manifest `digest`. `creator` is the program, `when` is in seconds of the epoch.
pub fn payload(kind: Kind, reference: &Reference, digest: &Digest, creator: &str, when: Option<u64>) -> Vec<u8> {
    let document = json!({
        "critical": {
            "type": kind.word(),
            "image": {"docker-manifest-digest": digest.to_string()},
            "identity": {"docker-reference": reference.to_string()},
        },
        "optional": {"creator": creator, "timestamp": when},
    });
    document.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_clear_is_read() {
        let reference: Reference = "r.x/a:1".parse().unwrap();
        let digest = Digest::of(b"x");
        let good = payload(Kind::Simple, &reference, &digest, "test", Some(1));
        let claim = Claim::parse(&good, Kind::Simple).unwrap();
        assert_eq!(claim, Claim { reference: "r.x/a:1".to_owned(), digest });
        assert!(Claim::parse(&good, Kind::Sigstore).is_err());
        let good = String::from_utf8(good).unwrap();
        for (from, to) in [
            ("\"critical\":", "\"critical\":{},\"critical\":"),
            ("\"identity\":", "\"more\":1,\"identity\":"),
            ("\"type\":", "\"type\":\"x\",\"type\":"),
            ("sha256:", "sha257:"),
            ("\"optional\":", "\"other\":"),
            ("{", ""),
        ] {
            let bad = good.replacen(from, to, 1);
            assert!(bad != good && Claim::parse(bad.as_bytes(), Kind::Simple).is_err(), "{bad}");
        }
        assert!(Claim::parse(&vec![b' '; MAX_PAYLOAD_BYTES + 1], Kind::Simple).is_err());
    }
}
