//! Keys in PEM and DER (RFC 7468, RFC 5280 "SubjectPublicKeyInfo").

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::{Error, Result};

/// The bytes of the PEM block with this label.
pub(crate) fn pem(text: &[u8], label: &str) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    STANDARD.decode(body.split_whitespace().collect::<String>()).ok()
}

/// A PEM block.
pub(crate) fn to_pem(label: &str, bytes: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    for (at, c) in STANDARD.encode(bytes).chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            text.push('\n');
        }
        text.push(c);
    }
    text + &format!("\n-----END {label}-----\n")
}

/// The element of this tag at the beginning of `bytes`: its content, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match *first {
        short @ ..=0x7f => (usize::from(short), rest),
        0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
        0x82 => (usize::from(*rest.first()?) << 8 | usize::from(*rest.get(1)?), rest.get(2..)?),
        _ => return None,
    };
    (*found == tag && rest.len() >= length).then(|| rest.split_at(length))
}

/// The algorithm, as DER has it, and the key of a public key in PEM.
pub(crate) fn public_key(text: &[u8]) -> Result<(Vec<u8>, Vec<u8>)> {
    let parse = || {
        let bytes = pem(text, "PUBLIC KEY")?;
        let (sequence, rest) = element(&bytes, 0x30)?;
        let (algorithm, key) = element(sequence, 0x30)?;
        let (key, end) = element(key, 0x03)?;
        // A bit string begins with the number of bits at its end that do not count.
        let key = key.strip_prefix(&[0])?;
        (rest.is_empty() && end.is_empty()).then(|| (algorithm.to_vec(), key.to_vec()))
    };
    parse().ok_or_else(|| Error::form("read a public key", "it is no public key in PEM form"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_refused() {
        let key = [&[0x30, 11, 0x30, 3, 6, 1, 9, 0x03, 4, 0, 1, 2, 3][..]].concat();
        let good = to_pem("PUBLIC KEY", &key);
        assert_eq!(public_key(good.as_bytes()).unwrap(), (vec![6, 1, 9], vec![1, 2, 3]));
        for bad in [&key[..12], &[&key[..], &[0]].concat(), &[], &[0x30, 0x84, 1, 1, 1, 1], &[0x30, 0x80]] {
            assert!(public_key(to_pem("PUBLIC KEY", bad).as_bytes()).is_err());
        }
        assert!(public_key(b"-----BEGIN PUBLIC KEY-----").is_err());
    }
}
