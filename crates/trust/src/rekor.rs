//! Rekor's log: its promise that a signature was put there, and when (a "signed entry timestamp").

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hoy_oci::Digest;
use serde::{Deserialize, Serialize};

use crate::der::only_block;
use crate::{Attached, Error, PublicKey, Result};

/// The annotation with the promise.
const BUNDLE: &str = "dev.sigstore.cosign/bundle";

#[derive(Deserialize)]
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
    let wrong = |reason: &str| Error::refused(format!("the log's entry for the signature is not good: {reason}"));
    let form = |what: &'static str| move |_| wrong(what);
    let text = attached
        .more
        .get(BUNDLE)
        .ok_or_else(|| Error::refused(format!("it asks for \"{BUNDLE}\", and the signature has none")))?;
    let bundle: Bundle = serde_json::from_str(text).map_err(|e| wrong(&e.to_string()))?;
    let signed = serde_json::to_vec(&bundle.payload).map_err(|e| wrong(&e.to_string()))?;
    let promise = STANDARD.decode(&bundle.signed_entry_timestamp).map_err(form("it is not in base64"))?;
    if !keys.iter().any(|key| key.is_ecdsa() && key.has_signed(&signed, &promise)) {
        return Err(wrong("no trusted log has signed it"));
    }
    let body = STANDARD.decode(&bundle.payload.body).map_err(form("its body is not in base64"))?;
    let entry: Entry = serde_json::from_slice(&body).map_err(|e| wrong(&e.to_string()))?;
    if entry.kind != "hashedrekord" || entry.api_version != "0.0.1" {
        return Err(wrong("it is of another kind"));
    }
    let named = STANDARD.decode(&entry.spec.signature.public_key.content).map_err(form("its key is not in base64"))?;
    if only_block(&named).is_none_or(|named| named != signer) {
        return Err(wrong("it is for another key"));
    }
    let decode = |text: &str| STANDARD.decode(text).map_err(form("its signature is not in base64"));
    if decode(&entry.spec.signature.content)? != decode(&attached.signature)? {
        return Err(wrong("it is for another signature"));
    }
    let hash = entry.spec.data.hash;
    if hash.algorithm != "sha256" || hash.value != Digest::of(&attached.payload).hex() {
        return Err(wrong("it is for another text"));
    }
    u64::try_from(bundle.payload.integrated_time).map_err(|_| wrong("its time is before 1970"))
}
