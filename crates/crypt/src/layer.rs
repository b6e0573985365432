//! The layer itself: AES-256-CTR, then an HMAC with the same key over what came out of it.

use std::collections::BTreeMap;
use std::io::{self, Read};

use aes::Aes256;
use aes::cipher::{KeyIvInit as _, StreamCipher as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ctr::Ctr128BE;
use hoy_oci::{Descriptor, Digest, Hasher, MediaType};
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Error, PrivateKey, PublicKey, Result, jwe};

/// What the media type of an encrypted layer ends in.
const SUFFIX: &str = "+encrypted";
/// The annotations: keys, by the way in which they are wrapped, and what everybody may know.
const ANNOTATIONS: &str = "org.opencontainers.image.enc.";
const KEYS: &str = "org.opencontainers.image.enc.keys.";
const JWE_KEYS: &str = "org.opencontainers.image.enc.keys.jwe";
const PUBLIC: &str = "org.opencontainers.image.enc.pubopts";
/// The one cipher there is.
const CIPHER: &str = "AES_256_CTR_HMAC_SHA256";
/// The name of the option that holds the counter's beginning.
const NONCE: &str = "nonce";

/// The type of a layer when it is encrypted.
pub fn encrypted_type(plain: &MediaType) -> MediaType {
    MediaType::from(format!("{plain}{SUFFIX}").as_str())
}

/// The type of an encrypted layer when it no longer is; none of one that is not encrypted.
pub fn plain_type(encrypted: &MediaType) -> Option<MediaType> {
    encrypted.as_str().strip_suffix(SUFFIX).map(MediaType::from)
}

/// Takes what is said about encryption out of a layer's annotations.
pub fn forget(annotations: &mut BTreeMap<String, String>) {
    annotations.retain(|name, _| !name.starts_with(ANNOTATIONS));
}

/// Bytes that are base64 in JSON.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
        STANDARD.decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}

type Options = BTreeMap<String, Bytes>;

/// What only recipients may know.
#[derive(Serialize, Deserialize)]
struct Private {
    symkey: Bytes,
    /// Of the layer before it was encrypted; may be empty.
    #[serde(default)]
    digest: String,
    cipheroptions: Option<Options>,
}

#[derive(Serialize, Deserialize)]
struct Public {
    cipher: String,
    hmac: Bytes,
    cipheroptions: Option<Options>,
}

/// What a layer is decrypted with.
#[derive(Clone)]
pub struct LayerKey {
    key: [u8; 32],
    nonce: [u8; 16],
    hmac: Vec<u8>,
    plain: Option<Digest>,
}

impl LayerKey {
    /// Opens the key of a layer by one of `keys`.
    ///
    /// # Errors
    /// [`Error::NoKey`] when none opens it, and others when the layer's annotations are not what they must be.
    pub fn open(layer: &Descriptor, keys: &[PrivateKey]) -> Result<Self> {
        let form = |reason: String| Error::Form(reason);
        let Some(wrapped) = layer.annotations.get(JWE_KEYS) else {
            let other = layer.annotations.keys().find_map(|name| name.strip_prefix(KEYS));
            let reason = other.map(|other| format!("its key is wrapped by {other}, and jwe is what can be opened"));
            return Err(reason.map_or_else(|| form("it has no key".to_owned()), Error::Unknown));
        };
        let mut private = Err(Error::NoKey);
        for one in wrapped.split(',') {
            let text = STANDARD.decode(one).map_err(|e| form(e.to_string()))?;
            private = jwe::open(&text, keys);
            if private.is_ok() {
                break;
            }
        }
        let private: Private = serde_json::from_slice(&private?).map_err(|e| form(e.to_string()))?;
        let public = layer.annotations.get(PUBLIC).ok_or_else(|| form(format!("there is no {PUBLIC}")))?;
        let public = STANDARD.decode(public).map_err(|e| form(e.to_string()))?;
        let public: Public = serde_json::from_slice(&public).map_err(|e| form(e.to_string()))?;
        if public.cipher != CIPHER {
            return Err(Error::Unknown(format!("its cipher is \"{}\", not {CIPHER}", public.cipher)));
        }
        let option = |options: Option<Options>| options.and_then(|mut options| options.remove(NONCE));
        let nonce = option(public.cipheroptions).or_else(|| option(private.cipheroptions));
        let nonce = nonce.and_then(|nonce| nonce.0.try_into().ok());
        Ok(Self {
            key: private.symkey.0.try_into().map_err(|_| form("its key is of a wrong length".to_owned()))?,
            nonce: nonce.ok_or_else(|| form("its nonce is missing, or of a wrong length".to_owned()))?,
            hmac: public.hmac.0,
            plain: private.digest.parse().ok(),
        })
    }

    /// The digest that the layer has when it is decrypted, if its key says so.
    pub fn plain(&self) -> Option<Digest> {
        self.plain
    }
}

/// The cipher, and the code over what it encrypts.
struct Cipher {
    stream: Ctr128BE<Aes256>,
    code: hmac::Context,
}

impl Cipher {
    fn new(key: &[u8; 32], nonce: &[u8; 16]) -> Self {
        let code = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
        Self { stream: Ctr128BE::new(key.into(), nonce.into()), code }
    }
}

/// A layer, encrypted as it is read.
pub struct Encrypting<R> {
    input: R,
    cipher: Cipher,
    plain: Hasher,
    key: [u8; 32],
    nonce: [u8; 16],
}

impl<R: Read> Encrypting<R> {
    /// `input`, encrypted with a new key.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn new(input: R) -> Result<Self> {
        let (mut key, mut nonce) = ([0; 32], [0; 16]);
        let random = SystemRandom::new();
        let filled = random.fill(&mut key).and_then(|()| random.fill(&mut nonce));
        filled.map_err(|_| Error::Failed("there is no randomness"))?;
        Ok(Self { input, cipher: Cipher::new(&key, &nonce), plain: Hasher::new(), key, nonce })
    }

    /// After the end: the annotations by which `recipients` can decrypt the layer.
    ///
    /// # Errors
    /// When there is no randomness, or a key does not work.
    pub fn finish(self, recipients: &[PublicKey]) -> Result<BTreeMap<String, String>> {
        let form = |e: serde_json::Error| Error::Form(e.to_string());
        let private = Private {
            symkey: Bytes(self.key.to_vec()),
            digest: self.plain.finish().to_string(),
            cipheroptions: Some(Options::from([(NONCE.to_owned(), Bytes(self.nonce.to_vec()))])),
        };
        let public = Public {
            cipher: CIPHER.to_owned(),
            hmac: Bytes(self.cipher.code.sign().as_ref().to_vec()),
            cipheroptions: Some(Options::new()),
        };
        let wrapped = jwe::seal(&serde_json::to_vec(&private).map_err(form)?, recipients)?;
        let public = serde_json::to_vec(&public).map_err(form)?;
        let all = [(JWE_KEYS, wrapped), (PUBLIC, public)];
        Ok(all.into_iter().map(|(name, bytes)| (name.to_owned(), STANDARD.encode(bytes))).collect())
    }
}

impl<R: Read> Read for Encrypting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        let bytes = buffer.get_mut(..count).unwrap_or_default();
        self.plain.update(bytes);
        self.cipher.stream.apply_keystream(bytes);
        self.cipher.code.update(bytes);
        Ok(count)
    }
}

/// An encrypted layer, decrypted as it is read. Reading fails at its end when it is not what was encrypted.
pub struct Decrypting<R> {
    input: R,
    cipher: Cipher,
    plain: Hasher,
    key: LayerKey,
}

impl<R: Read> Decrypting<R> {
    /// `input`, decrypted with the layer's key.
    pub fn new(input: R, key: LayerKey) -> Self {
        Self { input, cipher: Cipher::new(&key.key, &key.nonce), plain: Hasher::new(), key }
    }

    fn check(&self) -> Result<()> {
        // The code is no secret: whoever has the layer has it too.
        if self.cipher.code.clone().sign().as_ref() != self.key.hmac {
            return Err(Error::Damaged("their HMAC is another one"));
        }
        if self.key.plain.is_some_and(|plain| plain != self.plain.clone().finish()) {
            return Err(Error::Damaged("decrypted, their digest is another one"));
        }
        Ok(())
    }
}

impl<R: Read> Read for Decrypting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        if count == 0 && !buffer.is_empty() {
            self.check().map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        }
        let bytes = buffer.get_mut(..count).unwrap_or_default();
        self.cipher.code.update(bytes);
        self.cipher.stream.apply_keystream(bytes);
        self.plain.update(bytes);
        Ok(count)
    }
}
