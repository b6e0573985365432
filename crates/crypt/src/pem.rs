//! Keys in text form: RFC 7468, and the older form with headers in which OpenSSL locks keys (RFC 1421).

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeDecrypt as _, KeyIvInit as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};

use crate::{Error, Result};

/// One block of a text.
pub(crate) struct Block {
    pub(crate) label: String,
    /// The cipher that locks it and the initial value, as the header says.
    lock: Option<String>,
    bytes: Vec<u8>,
}

/// The first block of a text that has one.
pub(crate) fn read(text: &[u8]) -> Option<Block> {
    let text = std::str::from_utf8(text).ok()?;
    let (_, rest) = text.split_once("-----BEGIN ")?;
    let (label, rest) = rest.split_once("-----")?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    let (mut lock, mut base64) = (None, String::new());
    for line in body.lines() {
        match line.split_once(':') {
            Some(("DEK-Info", value)) => lock = Some(value.trim().to_owned()),
            Some(_) => {}
            None => base64.push_str(line.trim()),
        }
    }
    Some(Block { label: label.to_owned(), lock, bytes: STANDARD.decode(base64).ok()? })
}

impl Block {
    /// Whether a password opens it.
    pub(crate) fn is_locked(&self) -> bool {
        self.lock.is_some()
    }

    /// The bytes, unlocked.
    pub(crate) fn open(self, password: Option<&[u8]>) -> Result<Vec<u8>> {
        let Some(lock) = self.lock else { return Ok(self.bytes) };
        let password = password.ok_or(Error::Locked)?;
        let unknown =
            || Error::Key(format!("it is locked by \"{lock}\", and AES-CBC is the one cipher that is known here"));
        let (cipher, iv) = lock.split_once(',').ok_or_else(unknown)?;
        let iv = hex(iv.trim()).ok_or_else(unknown)?;
        // The salt is the beginning of the initial value.
        let key = |length| stretch(password, iv.get(..8).unwrap_or_default(), length);
        let bytes = self.bytes.as_slice();
        let open = match cipher {
            "AES-128-CBC" => cbc::Decryptor::<aes::Aes128>::new_from_slices(&key(16), &iv)
                .map(|c| c.decrypt_padded_vec::<Pkcs7>(bytes)),
            "AES-192-CBC" => cbc::Decryptor::<aes::Aes192>::new_from_slices(&key(24), &iv)
                .map(|c| c.decrypt_padded_vec::<Pkcs7>(bytes)),
            "AES-256-CBC" => cbc::Decryptor::<aes::Aes256>::new_from_slices(&key(32), &iv)
                .map(|c| c.decrypt_padded_vec::<Pkcs7>(bytes)),
            _ => return Err(unknown()),
        };
        open.map_err(|_| unknown())?.map_err(|_| Error::Password)
    }
}

/// OpenSSL's EVP_BytesToKey with MD5, once over: what locks keys in this form.
fn stretch(password: &[u8], salt: &[u8], length: usize) -> Vec<u8> {
    let mut key = Vec::new();
    let mut last = Vec::new();
    while key.len() < length {
        last = Md5::new().chain_update(&last).chain_update(password).chain_update(salt).finalize().to_vec();
        key.extend_from_slice(&last);
    }
    key.truncate(length);
    key
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
