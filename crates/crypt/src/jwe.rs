//! JSON Web Encryption in its JSON form (RFC 7516), with the algorithms that ocicrypt uses (RFC 7518).

use aes::cipher::KeyInit as _;
use aes_kw::AesKw;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use crate::keys::{Algorithm, Jwk, Private, Public};
use crate::{Error, PrivateKey, PublicKey, Result};

/// The one way in which content is encrypted.
const CONTENT: &str = "A256GCM";
/// Its tag's length in bytes.
const TAG_BYTES: usize = 16;

#[derive(Serialize, Deserialize)]
struct Envelope {
    protected: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    recipients: Vec<Recipient>,
    #[serde(flatten)]
    only: Recipient,
    #[serde(skip_serializing)]
    unprotected: Option<Map<String, Value>>,
    #[serde(skip_serializing)]
    aad: Option<String>,
    iv: String,
    ciphertext: String,
    tag: String,
}

/// The content's key for one recipient.
#[derive(Default, Serialize, Deserialize)]
struct Recipient {
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<Map<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    encrypted_key: Option<String>,
}

/// What the headers say of one recipient, all together.
#[derive(Deserialize)]
struct Header {
    alg: Algorithm,
    enc: String,
    epk: Option<Jwk>,
    #[serde(default)]
    apu: String,
    #[serde(default)]
    apv: String,
    zip: Option<Value>,
    crit: Option<Value>,
}

/// `plain`, encrypted so that each of the keys opens it.
pub(crate) fn seal(plain: &[u8], recipients: &[PublicKey]) -> Result<Vec<u8>> {
    let (mut key, mut iv) = ([0; 32], [0; 12]);
    let random = SystemRandom::new();
    random.fill(&mut key).and_then(|()| random.fill(&mut iv)).map_err(|_| Error::Failed("there is no randomness"))?;
    let mut wrapped = recipients.iter().map(|recipient| wrap(&key, recipient)).collect::<Result<Vec<_>>>()?;
    let mut protected = Map::from_iter([("enc".to_owned(), CONTENT.into())]);
    // Of a single recipient, everything is protected.
    let only = if wrapped.len() == 1 { wrapped.pop().unwrap_or_default() } else { Recipient::default() };
    protected.extend(only.header.into_iter().flatten());
    let protected = URL_SAFE_NO_PAD.encode(Value::Object(protected).to_string());
    let mut text = plain.to_vec();
    let nonce = Nonce::assume_unique_for_key(iv);
    let tag = content_key(&key)?.seal_in_place_separate_tag(nonce, Aad::from(protected.as_bytes()), &mut text);
    let tag = tag.map_err(|_| Error::Failed("the layer's key cannot be encrypted"))?;
    let envelope = Envelope {
        protected,
        recipients: wrapped,
        only: Recipient { header: None, ..only },
        unprotected: None,
        aad: None,
        iv: URL_SAFE_NO_PAD.encode(iv),
        ciphertext: URL_SAFE_NO_PAD.encode(text),
        tag: URL_SAFE_NO_PAD.encode(tag),
    };
    serde_json::to_vec(&envelope).map_err(|e| Error::Form(e.to_string()))
}

/// What is encrypted in `text`, opened by the first of the keys that does.
pub(crate) fn open(text: &[u8], keys: &[PrivateKey]) -> Result<Vec<u8>> {
    let damaged = |_| Error::Form("it is no JSON Web Encryption".to_owned());
    let envelope: Envelope = serde_json::from_slice(text).map_err(|e| Error::Form(e.to_string()))?;
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(damaged);
    let mut shared: Map<String, Value> =
        serde_json::from_slice(&decode(&envelope.protected)?).map_err(|e| Error::Form(e.to_string()))?;
    shared.extend(envelope.unprotected.into_iter().flatten());
    let iv: [u8; 12] = decode(&envelope.iv)?.try_into().map_err(|_| Error::Form("its nonce is too long".to_owned()))?;
    let (ciphertext, tag) = (decode(&envelope.ciphertext)?, decode(&envelope.tag)?);
    let aad = envelope.aad.map_or_else(|| envelope.protected.clone(), |aad| format!("{}.{aad}", envelope.protected));
    for recipient in envelope.recipients.into_iter().chain([envelope.only]) {
        let Some(wrapped) = recipient.encrypted_key else { continue };
        let all = shared.clone().into_iter().chain(recipient.header.into_iter().flatten());
        // A recipient of another kind is somebody else.
        let Ok(header) = serde_json::from_value::<Header>(Value::Object(all.collect())) else { continue };
        if header.enc != CONTENT || header.zip.is_some() || header.crit.is_some() {
            return Err(Error::Unknown(format!("its key is encrypted by {}, or with more than that", header.enc)));
        }
        let wrapped = decode(&wrapped)?;
        for key in keys.iter().filter_map(|key| unwrap(&wrapped, &header, key)) {
            let mut content = [ciphertext.as_slice(), &tag].concat();
            let nonce = Nonce::assume_unique_for_key(iv);
            if tag.len() == TAG_BYTES
                && let Ok(plain) = content_key(&key)?.open_in_place(nonce, Aad::from(aad.as_bytes()), &mut content)
            {
                return Ok(plain.to_vec());
            }
        }
    }
    Err(Error::NoKey)
}

fn content_key(key: &[u8]) -> Result<LessSafeKey> {
    let key = UnboundKey::new(&AES_256_GCM, key).map_err(|_| Error::Form("its key is too short".to_owned()))?;
    Ok(LessSafeKey::new(key))
}

/// `key` for one recipient, with what the header says of it.
fn wrap(key: &[u8; 32], recipient: &PublicKey) -> Result<Recipient> {
    let failed = || Error::Failed("the layer's key cannot be wrapped for a recipient");
    let mut header = Map::from_iter([("alg".to_owned(), name(recipient.algorithm))]);
    let wrapped = match &recipient.material {
        Public::Rsa(rsa) if recipient.algorithm == Algorithm::RsaOaep256 => rsa.oaep_encrypt::<Sha256>(key),
        Public::Rsa(rsa) => rsa.oaep_encrypt::<Sha1>(key),
        Public::Curve(curve) => {
            let (ephemeral, shared) = curve.agree_anew().ok_or_else(failed)?;
            let public = serde_json::to_value(Jwk::of(&ephemeral)).map_err(|e| Error::Form(e.to_string()))?;
            header.insert("epk".to_owned(), public);
            Ok(key_wrap(&derive(recipient.algorithm, &shared, &[], &[]), key).ok_or_else(failed)?)
        }
    };
    let wrapped = wrapped.map_err(|_| failed())?;
    Ok(Recipient { header: Some(header), encrypted_key: Some(URL_SAFE_NO_PAD.encode(wrapped)) })
}

/// The content's key, if `key` is the one that it was wrapped for.
fn unwrap(wrapped: &[u8], header: &Header, key: &PrivateKey) -> Option<Vec<u8>> {
    match (&key.0, header.alg) {
        (Private::Rsa(rsa), Algorithm::RsaOaep) => rsa.oaep_decrypt::<Sha1>(wrapped).ok(),
        (Private::Rsa(rsa), Algorithm::RsaOaep256) => rsa.oaep_decrypt::<Sha256>(wrapped).ok(),
        (Private::Curve(curve), Algorithm::EcdhA128 | Algorithm::EcdhA192 | Algorithm::EcdhA256) => {
            let shared = curve.agree(&header.epk.as_ref()?.curve()?)?;
            let party = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
            let wrapping = derive(header.alg, &shared, &party(&header.apu)?, &party(&header.apv)?);
            key_unwrap(&wrapping, wrapped)
        }
        _ => None,
    }
}

/// The algorithm's name, as JSON has it.
fn name(algorithm: Algorithm) -> Value {
    serde_json::to_value(algorithm).unwrap_or_default()
}

/// Concat KDF (RFC 7518 4.6.2): the key that wraps, out of what two keys share. One round gives all of it.
fn derive(algorithm: Algorithm, shared: &[u8], apu: &[u8], apv: &[u8]) -> Vec<u8> {
    let length = match algorithm {
        Algorithm::EcdhA128 => 16,
        Algorithm::EcdhA192 => 24,
        _ => 32,
    };
    let mut hash = Sha256::new().chain_update([0, 0, 0, 1]).chain_update(shared);
    let name = name(algorithm);
    for part in [name.as_str().unwrap_or_default().as_bytes(), apu, apv] {
        hash.update(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        hash.update(part);
    }
    let bits: u32 = length * 8;
    let mut key = hash.chain_update(bits.to_be_bytes()).finalize().to_vec();
    key.truncate(length as usize);
    key
}

/// AES key wrap (RFC 3394).
fn key_wrap(wrapping: &[u8], key: &[u8; 32]) -> Option<Vec<u8>> {
    let mut output = [0; 40];
    match wrapping.len() {
        16 => AesKw::<aes::Aes128>::new_from_slice(wrapping).ok()?.wrap_key(key, &mut output).ok()?,
        24 => AesKw::<aes::Aes192>::new_from_slice(wrapping).ok()?.wrap_key(key, &mut output).ok()?,
        _ => AesKw::<aes::Aes256>::new_from_slice(wrapping).ok()?.wrap_key(key, &mut output).ok()?,
    };
    Some(output.to_vec())
}

fn key_unwrap(wrapping: &[u8], wrapped: &[u8]) -> Option<Vec<u8>> {
    let mut output = vec![0; wrapped.len()];
    let key = match wrapping.len() {
        16 => AesKw::<aes::Aes128>::new_from_slice(wrapping).ok()?.unwrap_key(wrapped, &mut output).ok()?,
        24 => AesKw::<aes::Aes192>::new_from_slice(wrapping).ok()?.unwrap_key(wrapped, &mut output).ok()?,
        _ => AesKw::<aes::Aes256>::new_from_slice(wrapping).ok()?.unwrap_key(wrapped, &mut output).ok()?,
    };
    Some(key.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 3394, 4.6.
    #[test]
    fn key_wrap_is_the_standards() {
        let bytes = |hex: &str| -> Vec<u8> {
            (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).unwrap()).collect()
        };
        let wrapping = bytes("000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F");
        let key = bytes("00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F");
        let want = bytes("28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21");
        assert_eq!(key_wrap(&wrapping, &key.clone().try_into().unwrap()).unwrap(), want);
        assert_eq!(key_unwrap(&wrapping, &want).unwrap(), key);
        assert_eq!(key_unwrap(&wrapping, &want[..39]), None);
        assert_eq!(key_unwrap(&wrapping, &[]), None);
    }

    #[test]
    fn what_is_no_envelope_is_refused() {
        for text in ["", "{}", "[]", r#"{"protected":"","iv":"","ciphertext":"","tag":""}"#, "\u{0}"] {
            assert!(matches!(open(text.as_bytes(), &[]), Err(Error::Form(_))), "{text}");
        }
        // Nothing in it is for anybody.
        let empty = r#"{"protected":"e30","iv":"AAAAAAAAAAAAAAAA","ciphertext":"","tag":""}"#;
        assert!(matches!(open(empty.as_bytes(), &[]), Err(Error::NoKey)));
    }
}
