//! Sigstore signatures by keys, as cosign makes them: ECDSA over a payload, the private key sealed with a passphrase.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use poly1305::Poly1305;
use poly1305::universal_hash::KeyInit as _;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{self, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey, VerificationAlgorithm};
use salsa20::XSalsa20;
use salsa20::cipher::{KeyIvInit as _, StreamCipher as _};
use serde::{Deserialize, Serialize};

use crate::der::{pem, public_key, public_key_info, to_pem};
use crate::{Error, Result};

/// How many of the algorithms, the first ones, are ECDSA.
const ECDSA_ALGORITHMS: usize = 2;
/// The algorithms of keys, as SubjectPublicKeyInfo names them, and how they verify over SHA-256.
const ALGORITHMS: [(&[u8], &dyn VerificationAlgorithm); 4] = [
    (
        b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07",
        &signature::ECDSA_P256_SHA256_ASN1,
    ),
    (b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22", &signature::ECDSA_P384_SHA256_ASN1),
    (b"\x06\x03\x2b\x65\x70", &signature::ED25519),
    (b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00", &signature::RSA_PKCS1_2048_8192_SHA256),
];
/// What stands before the point of a P-256 key in its SubjectPublicKeyInfo.
const P256_PREFIX: &[u8] =
    b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
/// The labels of sealed private keys; cosign wrote the second one once.
const LABELS: [&str; 2] = ["ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY"];
/// The most that opening a key may cost, as scrypt's N·r·p: 256 MiB.
const MAX_COST: u64 = 1 << 21;

/// A signature beside an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// What is signed.
    pub payload: Vec<u8>,
    /// The signature, in base64.
    pub signature: String,
    /// What else is said beside it, by name: certificates, the word of a log.
    pub more: BTreeMap<String, String>,
}

/// A key that signatures are checked with.
pub struct PublicKey {
    key: UnparsedPublicKey<Vec<u8>>,
    /// As SubjectPublicKeyInfo.
    info: Vec<u8>,
    is_ecdsa: bool,
}

impl PublicKey {
    /// Reads a key in PEM.
    ///
    /// # Errors
    /// When it is none, or of a kind that is not known.
    pub fn parse(text: &[u8]) -> Result<Self> {
        Self::of(&public_key_info(text)?)
    }

    /// The key of a SubjectPublicKeyInfo.
    pub(crate) fn of(info: &[u8]) -> Result<Self> {
        let (algorithm, key) = public_key(info)?;
        let known = ALGORITHMS.iter().position(|(name, _)| *name == algorithm.as_slice());
        let known = known.and_then(|at| Some((at, ALGORITHMS.get(at)?.1)));
        let (at, how) = known.ok_or_else(|| Error::form("read a public key", "its algorithm is not known"))?;
        Ok(Self { key: UnparsedPublicKey::new(how, key), info: info.to_vec(), is_ecdsa: at < ECDSA_ALGORITHMS })
    }

    /// Whether the signature is right.
    pub fn verifies(&self, attached: &Attached) -> bool {
        let signature = STANDARD.decode(attached.signature.as_bytes());
        signature.is_ok_and(|signature| self.has_signed(&attached.payload, &signature))
    }

    pub(crate) fn has_signed(&self, text: &[u8], signature: &[u8]) -> bool {
        self.key.verify(text, signature).is_ok()
    }

    pub(crate) fn is_ecdsa(&self) -> bool {
        self.is_ecdsa
    }

    /// Its SubjectPublicKeyInfo.
    pub(crate) fn info(&self) -> &[u8] {
        &self.info
    }
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    kdf: Kdf,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Serialize, Deserialize)]
struct Kdf {
    name: String,
    params: Params,
    salt: String,
}

#[derive(Serialize, Deserialize)]
struct Params {
    #[serde(rename = "N")]
    n: u64,
    r: u32,
    p: u32,
}

#[derive(Serialize, Deserialize)]
struct Cipher {
    name: String,
    nonce: String,
}

/// A key that signs.
pub struct PrivateKey(EcdsaKeyPair);

impl PrivateKey {
    /// A key that is written nowhere, for one certificate.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn fresh() -> Result<Self> {
        let none = |_| Error::refused("there is no randomness");
        let how = &signature::ECDSA_P256_SHA256_ASN1_SIGNING;
        pair(EcdsaKeyPair::generate_pkcs8(how, &SystemRandom::new()).map_err(none)?.as_ref())
    }

    /// Opens a sealed key.
    ///
    /// # Errors
    /// When the passphrase is wrong, or the key is damaged or of another kind.
    pub fn open(text: &[u8], passphrase: &str) -> Result<Self> {
        let wrong = |reason: &str| Error::form("open the private key", reason);
        let body = LABELS.iter().find_map(|label| pem(text, label));
        let body = body.ok_or_else(|| wrong("it is no sealed key of sigstore or cosign in PEM form"))?;
        let sealed: Sealed = serde_json::from_slice(&body).map_err(|e| wrong(&e.to_string()))?;
        let decode = |text: &str| STANDARD.decode(text).map_err(|_| wrong("it is damaged"));
        let (salt, nonce) = (decode(&sealed.kdf.salt)?, decode(&sealed.cipher.nonce)?);
        if sealed.kdf.name != "scrypt" || sealed.cipher.name != "nacl/secretbox" {
            return Err(wrong("it is sealed in a way that is not known"));
        }
        let key = derive(passphrase, &salt, &sealed.kdf.params)?;
        let nonce = nonce.try_into().map_err(|_| wrong("it is damaged"))?;
        let document = open_box(&key, &nonce, &decode(&sealed.ciphertext)?);
        let document = document.ok_or_else(|| wrong("the passphrase is wrong"))?;
        pair(&document)
    }

    /// Signs a payload; in base64.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn sign(&self, payload: &[u8]) -> Result<String> {
        let signature = self.0.sign(&SystemRandom::new(), payload).map_err(|_| Error::refused("signing fails"))?;
        Ok(STANDARD.encode(signature))
    }

    /// The public key, in PEM.
    pub fn public(&self) -> String {
        to_pem("PUBLIC KEY", &self.public_info())
    }

    /// The public key's SubjectPublicKeyInfo.
    pub(crate) fn public_info(&self) -> Vec<u8> {
        [P256_PREFIX, self.0.public_key().as_ref()].concat()
    }
}

fn pair(document: &[u8]) -> Result<PrivateKey> {
    let wrong = |e| Error::form("open the private key", format!("it is no ECDSA key on P-256: {e}"));
    let how = &signature::ECDSA_P256_SHA256_ASN1_SIGNING;
    Ok(PrivateKey(EcdsaKeyPair::from_pkcs8(how, document, &SystemRandom::new()).map_err(wrong)?))
}

/// Makes a key: the private one, sealed with the passphrase, and the public one, both in PEM.
///
/// # Errors
/// When there is no randomness.
pub fn generate_key(passphrase: &str) -> Result<(String, String)> {
    let none = |_| Error::refused("there is no randomness");
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&signature::ECDSA_P256_SHA256_ASN1_SIGNING, &random).map_err(none)?;
    let (mut salt, mut nonce) = ([0; 32], [0; 24]);
    random.fill(&mut salt).map_err(none)?;
    random.fill(&mut nonce).map_err(none)?;
    let params = Params { n: 1 << 16, r: 8, p: 1 };
    let key = derive(passphrase, &salt, &params)?;
    let sealed = Sealed {
        kdf: Kdf { name: "scrypt".to_owned(), params, salt: STANDARD.encode(salt) },
        cipher: Cipher { name: "nacl/secretbox".to_owned(), nonce: STANDARD.encode(nonce) },
        ciphertext: STANDARD.encode(seal_box(&key, &nonce, document.as_ref())),
    };
    let body = serde_json::to_vec(&sealed).map_err(|e| Error::form("write the private key", e))?;
    Ok((to_pem(LABELS[0], &body), pair(document.as_ref())?.public()))
}

fn derive(passphrase: &str, salt: &[u8], params: &Params) -> Result<[u8; 32]> {
    let wrong = || Error::form("open the private key", "its scrypt parameters make no sense");
    let cost = params.n.checked_mul(params.r.into()).and_then(|c| c.checked_mul(params.p.into()));
    if !params.n.is_power_of_two() || params.n < 2 || cost.is_none_or(|cost| cost > MAX_COST) {
        return Err(wrong());
    }
    let log_n = u8::try_from(params.n.trailing_zeros()).map_err(|_| wrong())?;
    let params = scrypt::Params::new(log_n, params.r, params.p).map_err(|_| wrong())?;
    let mut key = [0; 32];
    scrypt::scrypt(passphrase.as_bytes(), salt, &params, &mut key).map_err(|_| wrong())?;
    Ok(key)
}

/// NaCl's secretbox: the first 32 bytes of XSalsa20 are the key of Poly1305 over what the rest encrypts.
fn secretbox(key: &[u8; 32], nonce: &[u8; 24]) -> (XSalsa20, Poly1305) {
    let mut cipher = XSalsa20::new(key.into(), nonce.into());
    let mut first = [0; 32];
    cipher.apply_keystream(&mut first);
    (cipher, Poly1305::new((&first).into()))
}

fn open_box(key: &[u8; 32], nonce: &[u8; 24], sealed: &[u8]) -> Option<Vec<u8>> {
    let (tag, text) = sealed.split_at_checked(16)?;
    let (mut cipher, mac) = secretbox(key, nonce);
    // Both are hashes under a key that is used once: to compare them in the same time whatever they are costs nothing.
    let is_right = mac.compute_unpadded(text).iter().zip(tag).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0;
    let mut text = text.to_vec();
    cipher.apply_keystream(&mut text);
    is_right.then_some(text)
}

fn seal_box(key: &[u8; 32], nonce: &[u8; 24], text: &[u8]) -> Vec<u8> {
    let (mut cipher, mac) = secretbox(key, nonce);
    let mut text = text.to_vec();
    cipher.apply_keystream(&mut text);
    [mac.compute_unpadded(&text).as_slice(), &text].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_signs_and_is_sealed() {
        let (private, public) = generate_key("s3cret").unwrap();
        let key = PrivateKey::open(private.as_bytes(), "s3cret").unwrap();
        assert_eq!(key.public(), public);
        let attached =
            Attached { payload: b"text".to_vec(), signature: key.sign(b"text").unwrap(), more: BTreeMap::new() };
        let public = PublicKey::parse(public.as_bytes()).unwrap();
        assert!(public.verifies(&attached));
        assert!(!public.verifies(&Attached { payload: b"tex".to_vec(), ..attached.clone() }));
        assert!(!public.verifies(&Attached { signature: String::new(), ..attached.clone() }));
        assert!(!public.verifies(&Attached { signature: "%".to_owned(), ..attached }));
        assert!(PrivateKey::open(private.as_bytes(), "secret").is_err());
        assert!(PrivateKey::open(b"nothing", "").is_err());
        let dear = Params { n: 1 << 40, r: 8, p: 1 };
        assert!(derive("", b"", &dear).is_err());
    }

    #[test]
    fn secretbox_is_nacls() {
        // The test vector of NaCl's own secretbox test.
        let bytes = |hex: &str| -> Vec<u8> {
            (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).unwrap()).collect()
        };
        let key = bytes("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389").try_into().unwrap();
        let nonce = bytes("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37").try_into().unwrap();
        let text = bytes(
            "be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffce5ecbaaf33bd751a1ac728d45e6c61296cdc3c01233561f4\
             1db66cce314adb310e3be8250c46f06dceea3a7fa1348057e2f6556ad6b1318a024a838f21af1fde048977eb48f59ffd4924ca1c60902e52\
             f0a089bc76897040e082f937763848645e0705",
        );
        let sealed = seal_box(&key, &nonce, &text);
        let want = bytes(
            "f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce48332ea7164d96a4476fb8c531a1186ac0dfc17c98dce87b\
             4da7f011ec48c97271d2c20f9b928fe2270d6fb863d51738b48eeee314a7cc8ab932164548e526ae90224368517acfeabd6bb3732bc0e9da\
             99832b61ca01b6de56244a9e88d5f9b37973f622a43d14a6599b1f654cb45a74e355a5",
        );
        assert_eq!(sealed, want);
        assert_eq!(open_box(&key, &nonce, &sealed).unwrap(), text);
        let mut bad = sealed.clone();
        bad[20] ^= 1;
        assert_eq!(open_box(&key, &nonce, &bad), None);
        assert_eq!(open_box(&key, &nonce, &sealed[..15]), None);
    }
}
