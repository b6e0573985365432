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

/// All blocks with this label, in order; none when one is damaged.
pub(crate) fn blocks(text: &[u8], label: &str) -> Option<Vec<Vec<u8>>> {
    let text = std::str::from_utf8(text).ok()?;
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let decode = |block: &str| {
        let (body, _) = block.split_once(&end)?;
        STANDARD.decode(body.split_whitespace().collect::<String>()).ok()
    };
    text.split(&begin).skip(1).map(decode).collect()
}

/// The bytes of a text that is one block, whatever its label; none if there is anything else.
pub(crate) fn only_block(text: &[u8]) -> Option<Vec<u8>> {
    let inner = std::str::from_utf8(text).ok()?.trim().strip_prefix("-----BEGIN ")?;
    let (label, _) = inner.split_once("-----")?;
    let rest = inner.strip_suffix(&format!("-----END {label}-----"))?;
    (!rest.contains("-----BEGIN ")).then(|| pem(text, label)).flatten()
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

/// The element at the beginning of `bytes`, whatever it is: its tag, its content, and what follows it.
fn any(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let tag = *bytes.first()?;
    let (content, rest) = element(bytes, tag)?;
    Some((tag, content, rest))
}

/// The text that is all of `bytes`: a UTF8String, a PrintableString or an IA5String.
pub(crate) fn utf8(bytes: &[u8]) -> Option<&[u8]> {
    let (tag, content, rest) = any(bytes)?;
    (matches!(tag, 0x0c | 0x13 | 0x16) && rest.is_empty()).then_some(content)
}

/// What is read of a certificate (RFC 5280 4.1), which somebody else has verified.
pub(crate) struct Certificate<'a> {
    /// Its SubjectPublicKeyInfo.
    pub(crate) key: &'a [u8],
    extensions: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> Certificate<'a> {
    pub(crate) fn parse(der: &'a [u8]) -> Option<Self> {
        let (certificate, end) = element(der, 0x30)?;
        let (mut fields, _) = element(certificate, 0x30)?;
        if let Some((_, rest)) = element(fields, 0xa0) {
            fields = rest;
        }
        // Serial number, algorithm, issuer, validity, subject.
        for tag in [0x02, 0x30, 0x30, 0x30, 0x30] {
            fields = element(fields, tag)?.1;
        }
        let (_, mut rest) = element(fields, 0x30)?;
        let key = fields.get(..fields.len() - rest.len())?;
        let mut extensions = Vec::new();
        while let Some((tag, content, next)) = any(rest) {
            if tag == 0xa3 {
                let (mut all, _) = element(content, 0x30)?;
                while !all.is_empty() {
                    let (extension, next) = element(all, 0x30)?;
                    let (name, value) = element(extension, 0x06)?;
                    // Whether it is critical may stand between the two.
                    let value = element(value, 0x01).map_or(value, |(_, value)| value);
                    extensions.push((name, element(value, 0x04)?.0));
                    all = next;
                }
            }
            rest = next;
        }
        end.is_empty().then_some(Self { key, extensions })
    }

    /// The extension of this name, if there is one; the outer none when there are two.
    pub(crate) fn extension(&self, name: &[u8]) -> Option<Option<&'a [u8]>> {
        let mut found = self.extensions.iter().filter(|(other, _)| *other == name).map(|(_, value)| *value);
        let first = found.next();
        found.next().is_none().then_some(first)
    }

    /// The mail addresses among its alternative names.
    pub(crate) fn emails(&self) -> Option<Vec<&'a [u8]>> {
        let Some(names) = self.extension(b"\x55\x1d\x11")? else { return Some(Vec::new()) };
        let (mut names, _) = element(names, 0x30)?;
        let mut emails = Vec::new();
        while !names.is_empty() {
            let (tag, content, rest) = any(names)?;
            if tag == 0x81 {
                emails.push(content);
            }
            names = rest;
        }
        Some(emails)
    }
}

/// The algorithm, as DER has it, and the key of a SubjectPublicKeyInfo.
pub(crate) fn public_key(bytes: &[u8]) -> Result<(Vec<u8>, Vec<u8>)> {
    let parse = || {
        let (sequence, rest) = element(bytes, 0x30)?;
        let (algorithm, key) = element(sequence, 0x30)?;
        let (key, end) = element(key, 0x03)?;
        // A bit string begins with the number of bits at its end that do not count.
        let key = key.strip_prefix(&[0])?;
        (rest.is_empty() && end.is_empty()).then(|| (algorithm.to_vec(), key.to_vec()))
    };
    parse().ok_or_else(no_key)
}

/// The SubjectPublicKeyInfo of a public key in PEM.
pub(crate) fn public_key_info(text: &[u8]) -> Result<Vec<u8>> {
    pem(text, "PUBLIC KEY").ok_or_else(no_key)
}

fn no_key() -> Error {
    Error::form("read a public key", "it is no public key in PEM form")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_refused() {
        let key = [&[0x30, 11, 0x30, 3, 6, 1, 9, 0x03, 4, 0, 1, 2, 3][..]].concat();
        let good = to_pem("PUBLIC KEY", &key);
        assert_eq!(public_key_info(good.as_bytes()).unwrap(), key);
        assert_eq!(only_block(good.as_bytes()).unwrap(), key);
        assert!(only_block(format!("{good}{good}").as_bytes()).is_none() && only_block(b"x").is_none());
        assert_eq!(public_key(&key).unwrap(), (vec![6, 1, 9], vec![1, 2, 3]));
        for bad in [&key[..12], &[&key[..], &[0]].concat(), &[], &[0x30, 0x84, 1, 1, 1, 1], &[0x30, 0x80]] {
            assert!(public_key(bad).is_err());
            assert!(Certificate::parse(bad).is_none());
        }
        assert!(public_key_info(b"-----BEGIN PUBLIC KEY-----").is_err());
    }
}
