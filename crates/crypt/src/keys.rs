//! Keys: PEM, DER, and JSON Web Keys (RFC 7517).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pkcs8::{DecodePrivateKey as _, DecodePublicKey as _, EncryptedPrivateKeyInfoRef};
use rsa::BoxedUint;
use rsa::pkcs1::{DecodeRsaPrivateKey as _, DecodeRsaPublicKey as _};
use serde::{Deserialize, Serialize};

use crate::{Error, Result, curve, pem};

/// The longest RSA key, in bits.
const MAX_RSA_BITS: u32 = 8192;

/// How a layer's key is wrapped for a recipient (RFC 7518 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Algorithm {
    #[serde(rename = "RSA-OAEP")]
    RsaOaep,
    #[serde(rename = "RSA-OAEP-256")]
    RsaOaep256,
    #[serde(rename = "ECDH-ES+A128KW")]
    EcdhA128,
    #[serde(rename = "ECDH-ES+A192KW")]
    EcdhA192,
    #[serde(rename = "ECDH-ES+A256KW")]
    EcdhA256,
}

/// A key that layers are encrypted for.
#[derive(Clone)]
pub struct PublicKey {
    pub(crate) material: Public,
    pub(crate) algorithm: Algorithm,
}

#[derive(Clone)]
pub(crate) enum Public {
    Rsa(Box<rsa::PublicKey>),
    Curve(curve::Public),
}

/// A key that layers are decrypted with.
#[derive(Clone)]
pub struct PrivateKey(pub(crate) Private);

#[derive(Clone)]
pub(crate) enum Private {
    Rsa(Box<rsa::PrivateKey>),
    Curve(curve::Private),
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({:?})", self.algorithm)
    }
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PrivateKey")
    }
}

/// A JSON Web Key, of the kinds that wrap keys; numbers in base64url.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Jwk {
    kty: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    alg: Option<Algorithm>,
    #[serde(skip_serializing_if = "Option::is_none")]
    crv: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    y: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    e: Option<String>,
    #[serde(skip_serializing)]
    d: Option<String>,
    #[serde(skip_serializing)]
    p: Option<String>,
    #[serde(skip_serializing)]
    q: Option<String>,
}

impl Jwk {
    /// The public key on a curve.
    pub(crate) fn of(key: &curve::Public) -> Self {
        let (curve, point) = key.point();
        // A point is one byte that says that it is uncompressed, and two numbers of the same length.
        let (x, y) = point.get(1..).unwrap_or_default().split_at(point.len() / 2);
        let number = |bytes| Some(URL_SAFE_NO_PAD.encode(bytes));
        Self { kty: "EC".to_owned(), crv: Some(curve.to_owned()), x: number(x), y: number(y), ..Self::default() }
    }

    /// The public key on a curve that it is.
    pub(crate) fn curve(&self) -> Option<curve::Public> {
        let point = [vec![4], decode(&self.x)?, decode(&self.y)?].concat();
        curve::Public::from_point(self.crv.as_deref().filter(|_| self.kty == "EC")?, &point)
    }

    fn public(&self) -> Option<Public> {
        match self.kty.as_str() {
            "RSA" => Some(Public::Rsa(Box::new(rsa::PublicKey::new(number(&self.n)?, number(&self.e)?).ok()?))),
            _ => self.curve().map(Public::Curve),
        }
    }

    fn private(&self) -> Option<Private> {
        if self.kty == "RSA" {
            let primes = [&self.p, &self.q].into_iter().filter_map(number).collect();
            let key = rsa::PrivateKey::from_components(number(&self.n)?, number(&self.e)?, number(&self.d)?, primes);
            return Some(Private::Rsa(Box::new(key.ok()?)));
        }
        let own = curve::Private::from_number(self.crv.as_deref()?, &decode(&self.d)?)?;
        Some(Private::Curve(own))
    }
}

fn decode(text: &Option<String>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text.as_ref()?).ok()
}

fn number(text: &Option<String>) -> Option<BoxedUint> {
    let bytes = decode(text)?;
    BoxedUint::from_be_slice(&bytes, u32::try_from(bytes.len() * 8).ok().filter(|bits| *bits <= MAX_RSA_BITS)?).ok()
}

impl PublicKey {
    /// Reads a public key: PEM, DER, or a JSON Web Key; RSA, or on the curves P-256, P-384 and P-521.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let der = |bytes: &[u8]| {
            let rsa = rsa::PublicKey::from_public_key_der(bytes).ok();
            let rsa = rsa.or_else(|| rsa::PublicKey::from_pkcs1_der(bytes).ok());
            let rsa = rsa.map(|key| Public::Rsa(Box::new(key)));
            rsa.or_else(|| curve::Public::from_der(bytes).map(Public::Curve))
        };
        let (material, named) = match pem::read(text) {
            Some(block) if block.label.ends_with("PRIVATE KEY") => {
                return Err(Error::Key("it is a private key, and layers are encrypted with the public one".to_owned()));
            }
            Some(block) => (der(&block.open(None)?), None),
            None => match serde_json::from_slice::<Jwk>(text) {
                Ok(key) => (key.public(), key.alg),
                Err(_) => (der(text), None),
            },
        };
        let reason = "it is no public key of RSA or on P-256, P-384 or P-521, in PEM, DER or JWK form";
        let material = material.ok_or_else(|| Error::Key(reason.to_owned()))?;
        let is_rsa = matches!(material, Public::Rsa(_));
        let usual = if is_rsa { Algorithm::RsaOaep } else { Algorithm::EcdhA256 };
        let algorithm = named.unwrap_or(usual);
        if is_rsa != matches!(algorithm, Algorithm::RsaOaep | Algorithm::RsaOaep256) {
            return Err(Error::Key(format!("it is not of a kind for {algorithm:?}, which it names")));
        }
        Ok(Self { material, algorithm })
    }
}

impl PrivateKey {
    /// Reads a private key, and unlocks it with the password if it is locked: PEM, DER, or a JSON Web Key.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::Password`], or when it is none of these.
    pub fn parse(text: &[u8], password: Option<&[u8]>) -> Result<Self> {
        let der = |bytes: &[u8]| {
            let rsa = rsa::PrivateKey::from_pkcs8_der(bytes).ok();
            let rsa = rsa.or_else(|| rsa::PrivateKey::from_pkcs1_der(bytes).ok());
            let rsa = rsa.map(|key| Private::Rsa(Box::new(key)));
            rsa.or_else(|| curve::Private::from_der(bytes).map(Private::Curve))
        };
        let found = match pem::read(text) {
            Some(block) if block.label == "ENCRYPTED PRIVATE KEY" => {
                let bytes = block.open(None)?;
                let sealed = EncryptedPrivateKeyInfoRef::try_from(bytes.as_slice());
                let sealed = sealed.map_err(|_| Error::Key("it is damaged".to_owned()))?;
                der(sealed.decrypt(password.ok_or(Error::Locked)?).map_err(|_| Error::Password)?.as_bytes())
            }
            // A wrong password gives bytes that are no key as often as a wrong end.
            Some(block) => {
                let is_locked = block.is_locked();
                let found = der(&block.open(password)?);
                if found.is_none() && is_locked {
                    return Err(Error::Password);
                }
                found
            }
            None => match serde_json::from_slice::<Jwk>(text) {
                Ok(key) => key.private(),
                Err(_) => der(text),
            },
        };
        let reason = "it is no private key of RSA or on P-256, P-384 or P-521, in PEM, DER or JWK form";
        found.map(Self).ok_or_else(|| Error::Key(reason.to_owned()))
    }
}
