//! Rekor's log: its promise that a signature was put there, and when (a "signed entry timestamp").

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hoy_oci::Digest;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::der::only_block;
use crate::{Attached, Error, PublicKey, Result};

/// The annotation with the promise.
const BUNDLE: &str = "dev.sigstore.cosign/bundle";
/// The kind of entry that is known.
const KIND: &str = "hashedrekord";
const VERSION: &str = "0.0.1";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Bundle {
    signed_entry_timestamp: String,
    payload: Payload,
}

/// What the log signs, the fields in the order of canonical JSON (RFC 8785).
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Payload {
    body: String,
    integrated_time: i64,
    #[serde(rename = "logID")]
    log_id: String,
    log_index: i64,
}

/// An entry of the log: `hashedrekord`, of which only what is checked is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    api_version: String,
    kind: String,
    spec: Spec,
}

#[derive(Deserialize)]
struct Spec {
    signature: Signature,
    data: Data,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Signature {
    content: String,
    public_key: Content,
}

#[derive(Deserialize)]
struct Content {
    content: String,
}

#[derive(Deserialize)]
struct Data {
    hash: Hash,
}

#[derive(Deserialize)]
struct Hash {
    algorithm: String,
    value: String,
}

/// When the signature was logged, in seconds since 1970, by the word of one of `keys`; `signer` is the public key or
/// certificate, in DER, that the entry must name.
pub(crate) fn logged_at(keys: &[PublicKey], attached: &Attached, signer: &[u8]) -> Result<u64> {
    let text = attached
        .more
        .get(BUNDLE)
        .ok_or_else(|| Error::refused(format!("it asks for \"{BUNDLE}\", and the signature has none")))?;
    let bundle: Bundle = serde_json::from_str(text).map_err(|e| wrong(&e.to_string()))?;
    let signed = serde_json::to_vec(&bundle.payload).map_err(|e| wrong(&e.to_string()))?;
    let promise = decode(&bundle.signed_entry_timestamp, "it is not in base64")?;
    if !keys.iter().any(|key| key.is_ecdsa() && key.has_signed(&signed, &promise)) {
        return Err(wrong("no trusted log has signed it"));
    }
    bundle.payload.is_of(attached, signer)?;
    u64::try_from(bundle.payload.integrated_time).map_err(|_| wrong("its time is before 1970"))
}

impl Payload {
    /// Whether the entry is this signature's, by this public key or certificate in DER.
    fn is_of(&self, attached: &Attached, signer: &[u8]) -> Result<()> {
        let body = decode(&self.body, "its body is not in base64")?;
        let entry: Entry = serde_json::from_slice(&body).map_err(|e| wrong(&e.to_string()))?;
        if entry.kind != KIND || entry.api_version != VERSION {
            return Err(wrong("it is of another kind"));
        }
        let named = decode(&entry.spec.signature.public_key.content, "its key is not in base64")?;
        if only_block(&named).is_none_or(|named| named != signer) {
            return Err(wrong("it is for another key"));
        }
        let signature = |text: &str| decode(text, "its signature is not in base64");
        if signature(&entry.spec.signature.content)? != signature(&attached.signature)? {
            return Err(wrong("it is for another signature"));
        }
        let hash = &entry.spec.data.hash;
        if hash.algorithm != "sha256" || hash.value != Digest::of(&attached.payload).hex() {
            return Err(wrong("it is for another text"));
        }
        Ok(())
    }
}

fn wrong(reason: &str) -> Error {
    Error::refused(format!("the log's entry for the signature is not good: {reason}"))
}

fn decode(text: &str, reason: &'static str) -> Result<Vec<u8>> {
    STANDARD.decode(text).map_err(|_| wrong(reason))
}

/// What a log answers of an entry: a [`Payload`], and perhaps more.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Logged {
    body: String,
    integrated_time: i64,
    #[serde(rename = "logID")]
    log_id: String,
    log_index: i64,
    verification: Verification,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Verification {
    signed_entry_timestamp: String,
}

impl Attached {
    /// What is sent to a log so that it has this signature, as JSON; `signer` is the public key or certificate in PEM.
    pub fn log_entry(&self, signer: &str) -> Vec<u8> {
        let document = json!({"apiVersion": VERSION, "kind": KIND, "spec": {
            "data": {"hash": {"algorithm": "sha256", "value": Digest::of(&self.payload).hex()}},
            "signature": {"content": self.signature, "publicKey": {"content": STANDARD.encode(signer)}},
        }});
        document.to_string().into_bytes()
    }

    /// Puts what the log answered beside the signature.
    ///
    /// # Errors
    /// When the answer is not about one entry, and that this signature's.
    pub fn add_log(&mut self, signer: &str, answer: &[u8]) -> Result<()> {
        let mut all: BTreeMap<String, Logged> =
            serde_json::from_slice(answer).map_err(|e| Error::form("read the log's answer", e))?;
        let logged = all.pop_first().filter(|_| all.is_empty()).map(|(_, logged)| logged);
        let logged = logged.ok_or_else(|| Error::form("read the log's answer", "it is not about one entry"))?;
        let Logged { body, integrated_time, log_id, log_index, verification } = logged;
        let payload = Payload { body, integrated_time, log_id, log_index };
        let signer = only_block(signer.as_bytes()).ok_or_else(|| wrong("it is for no key"))?;
        payload.is_of(self, &signer)?;
        let bundle = Bundle { signed_entry_timestamp: verification.signed_entry_timestamp, payload };
        let text = serde_json::to_string(&bundle).map_err(|e| wrong(&e.to_string()))?;
        self.more.insert(BUNDLE.to_owned(), text);
        Ok(())
    }
}
