//! Content identifiers, and readers that check them on the way.

use std::fmt::{self, Write as _};
use std::io::{self, Read};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256, Sha512};

use crate::{Descriptor, Error, Result};

/// Content identifier `sha256:<64 lowercase hex>` or `sha512:<128 lowercase hex>` (image-spec descriptor.md "Digests").
///
/// Holds the raw bytes, so it can be joined to a path without further checks. What is made here has SHA-256; the other
/// kind is read, verified and kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(Raw);

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Raw {
    Sha256([u8; 32]),
    Sha512([u8; 64]),
}

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Raw::Sha256(Sha256::digest(bytes).into()))
    }

    /// The longer digest of `bytes`, by SHA-512.
    pub fn sha512_of(bytes: &[u8]) -> Self {
        Self(Raw::Sha512(Sha512::digest(bytes).into()))
    }

    /// The digest of `bytes` by the algorithm of this one.
    pub fn again(&self, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::like(self);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The algorithm: `sha256` or `sha512`.
    pub fn algorithm(&self) -> &'static str {
        match self.0 {
            Raw::Sha256(_) => "sha256",
            Raw::Sha512(_) => "sha512",
        }
    }

    /// Whether it is of the kind that everybody has.
    pub fn is_sha256(&self) -> bool {
        matches!(self.0, Raw::Sha256(_))
    }

    /// Where a layout has the blob, below `blobs`: the algorithm, then the hexadecimal digits.
    pub fn path(&self) -> String {
        format!("{}/{}", self.algorithm(), self.hex())
    }

    /// The hexadecimal digits without the algorithm, which is also the name of the blob's file.
    pub fn hex(&self) -> String {
        let raw: &[u8] = match &self.0 {
            Raw::Sha256(raw) => raw,
            Raw::Sha512(raw) => raw,
        };
        let mut text = String::with_capacity(raw.len() * 2);
        for byte in raw {
            // Writing to a String cannot fail.
            write!(text, "{byte:02x}").unwrap_or_default();
        }
        text
    }

    /// The digest whose 64 hexadecimal digits are `hex`.
    ///
    /// # Errors
    /// [`Error::Digest`] for anything else, upper case included.
    pub fn from_hex(hex: &str) -> Result<Self> {
        unhex(hex).map(|raw| Self(Raw::Sha256(raw))).ok_or_else(|| Error::Digest(hex.to_owned()))
    }
}

/// The bytes that lowercase hexadecimal digits stand for, if they are exactly so many.
fn unhex<const N: usize>(hex: &str) -> Option<[u8; N]> {
    let nibble = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    if hex.len() != 2 * N {
        return None;
    }
    let mut raw = [0; N];
    for (byte, pair) in raw.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        if let [high, low] = *pair {
            *byte = nibble(high)? << 4 | nibble(low)?;
        }
    }
    Some(raw)
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let raw = match text.split_once(':') {
            Some(("sha256", hex)) => unhex(hex).map(Raw::Sha256),
            Some(("sha512", hex)) => unhex(hex).map(Raw::Sha512),
            _ => None,
        };
        raw.map(Self).ok_or_else(|| Error::Digest(text.to_owned()))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Computes a [`Digest`] from bytes given piece by piece.
#[derive(Clone)]
pub struct Hasher(State);

#[derive(Clone)]
enum State {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Default for Hasher {
    fn default() -> Self {
        Self(State::Sha256(Sha256::new()))
    }
}

impl Hasher {
    /// A hasher that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// One that has seen nothing, for what is to have this digest.
    pub fn like(digest: &Digest) -> Self {
        match digest.0 {
            Raw::Sha256(_) => Self::new(),
            Raw::Sha512(_) => Self(State::Sha512(Sha512::new())),
        }
    }

    /// Forgets all bytes.
    pub fn begin_anew(&mut self) {
        match &mut self.0 {
            State::Sha256(state) => *state = Sha256::new(),
            State::Sha512(state) => *state = Sha512::new(),
        }
    }

    /// Adds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
    }

    /// The digest of all bytes added.
    pub fn finish(self) -> Digest {
        Digest(match self.0 {
            State::Sha256(state) => Raw::Sha256(state.finalize().into()),
            State::Sha512(state) => Raw::Sha512(state.finalize().into()),
        })
    }
}

impl io::Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A reader of exactly the bytes a descriptor promises.
///
/// The `read` of the last bytes fails instead when the digest differs, for callers that know the size and read no further;
/// the one after it, which returns 0, fails when the size does. A caller that has seen the end without an error has the
/// right bytes. It never reads more than one byte past the promised size.
pub struct VerifyingReader<R> {
    inner: R,
    hasher: Hasher,
    digest: Digest,
    size: u64,
    seen: u64,
}

impl<R: Read> VerifyingReader<R> {
    /// Reads from `inner` what `descriptor` describes.
    pub fn new(inner: R, descriptor: &Descriptor) -> Self {
        Self {
            inner,
            hasher: Hasher::like(&descriptor.digest),
            digest: descriptor.digest,
            size: descriptor.size,
            seen: 0,
        }
    }

    fn verify(&self) -> Result<()> {
        if self.seen != self.size {
            return Err(Error::SizeMismatch { expected: self.digest, size: self.size, actual: self.seen });
        }
        let actual = self.hasher.clone().finish();
        if actual != self.digest {
            return Err(Error::DigestMismatch { expected: self.digest, actual });
        }
        Ok(())
    }
}

impl<R: Read> Read for VerifyingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = self.inner.read(buffer)?;
        self.seen += count as u64;
        if count == 0 || self.seen > self.size {
            self.verify().map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        }
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        if count > 0 && self.seen == self.size {
            self.verify().map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MediaType;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn text_form() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        assert_eq!(EMPTY.parse::<Digest>().unwrap(), Digest::of(b""));
        let long = Digest(Raw::Sha512([0xab; 64]));
        assert_eq!(long.to_string().parse::<Digest>().unwrap(), long);
        assert_eq!(long.path(), format!("sha512/{}", "ab".repeat(64)));
        assert_ne!(long.again(b""), Digest::of(b"").again(b""));
        assert!(long.again(b"").hex().starts_with("cf83e1357eefb8bd"));
        assert!(format!("sha512:{}", &EMPTY[7..]).parse::<Digest>().is_err());
        for wrong in ["", "sha256:", &EMPTY[..70], &EMPTY.to_uppercase(), "sha256:../../../../etc/passwd", "sha512:00"]
        {
            assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn reader_accepts_only_what_was_promised() {
        let descriptor = Descriptor::new(MediaType::from("x/y"), Digest::of(b"cargo"), 5);
        let read = |bytes: &[u8]| io::read_to_string(VerifyingReader::new(bytes, &descriptor));
        assert_eq!(read(b"cargo").unwrap(), "cargo");
        // Who takes as many as are promised and looks no further is told too.
        assert!(VerifyingReader::new(&b"Cargo"[..], &descriptor).read_exact(&mut [0; 5]).is_err());
        for wrong in [&b"carg"[..], b"cargos", b"Cargo", b""] {
            assert_eq!(read(wrong).unwrap_err().kind(), io::ErrorKind::InvalidData, "{wrong:?}");
        }
    }
}
