//! The names in one layer, read from its tar once and then kept: what it takes to know what stands where.
//!
//! What is kept belongs to the layer's digest and says nothing of a build. It is made again wherever it is not whole.

use std::io::{BufReader, Read};
use std::path::Path;

use hoy_layer::{Archive, Decompressor, Kind};
use hoy_layout::{ImageLayout, write_volatile_file};
use hoy_oci::{Descriptor, Digest};

use crate::containerfile::standing::{Node, clean};
use crate::{Error, Result};

/// Longer user databases are no user databases.
const MAX_DATABASE_BYTES: u64 = 1 << 20;

/// What a layer says of one name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// What is there.
    Node(Node),
    /// The text of passwd(5) or group(5).
    Database(String),
}

/// All that a layer says, in its order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Names(pub(crate) Vec<(Vec<u8>, Named)>);

impl Names {
    /// Those of `layer`, which the file `kept` may have.
    pub(crate) fn of(layout: &ImageLayout, layer: &Descriptor, kept: &Path) -> Result<Self> {
        if let Some(known) = std::fs::read(kept).ok().and_then(|bytes| Self::parse(&bytes)) {
            return Ok(known);
        }
        let names = Self::read(layout, layer)?;
        write_volatile_file(kept, &names.to_bytes())?;
        Ok(names)
    }

    pub(crate) fn read(layout: &ImageLayout, layer: &Descriptor) -> Result<Self> {
        let blob = layout.open_blob(layer)?;
        let reading = || Error::io("read", layout.blob_path(&layer.digest));
        let tar = Decompressor::detect(blob).map_err(reading())?;
        let mut archive = Archive::new(BufReader::with_capacity(256 << 10, tar));
        let mut names = Vec::new();
        while let Some(entry) = archive.next_entry()? {
            let path = clean(&entry.path);
            if entry.kind == Kind::File && matches!(path.as_slice(), b"etc/passwd" | b"etc/group") {
                let mut bytes = Vec::new();
                archive.data().take(MAX_DATABASE_BYTES).read_to_end(&mut bytes).map_err(reading())?;
                names.push((path.clone(), Named::Database(String::from_utf8_lossy(&bytes).into_owned())));
            }
            names.push((path, Named::Node(Node::of(entry))));
        }
        Ok(Self(names))
    }

    /// The digest of the rest, and for each name a letter, and its texts with their lengths before them.
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (path, named) in &self.0 {
            let (letter, text) = match named {
                Named::Node(Node::Directory) => (b'd', &b""[..]),
                Named::Node(Node::Link(target)) => (b'l', target.as_slice()),
                Named::Node(Node::Other) => (b'o', &b""[..]),
                Named::Database(text) => (b't', text.as_bytes()),
            };
            bytes.push(letter);
            for part in [path, text] {
                bytes.extend((part.len() as u64).to_le_bytes());
                bytes.extend(part);
            }
        }
        [Digest::of(&bytes).to_string().as_bytes(), b"\n", &bytes].concat()
    }

    /// None for what a power cut has torn.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.iter().position(|&c| c == b'\n')?;
        let (digest, mut rest) = (bytes.get(..end)?, bytes.get(end + 1..)?);
        if Digest::of(rest).to_string().as_bytes() != digest {
            return None;
        }
        let mut names = Vec::new();
        while let Some((&letter, after)) = rest.split_first() {
            rest = after;
            let mut part = || {
                let (length, after) = rest.split_first_chunk::<8>()?;
                let (part, after) = after.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
                rest = after;
                Some(part.to_vec())
            };
            let (path, text) = (part()?, part()?);
            let named = match letter {
                b'd' => Named::Node(Node::Directory),
                b'l' => Named::Node(Node::Link(text)),
                b'o' => Named::Node(Node::Other),
                b't' => Named::Database(String::from_utf8(text).ok()?),
                _ => return None,
            };
            names.push((path, named));
        }
        Some(Self(names))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let names = Names(vec![
            (b"etc".to_vec(), Named::Node(Node::Directory)),
            (b"etc/passwd".to_vec(), Named::Database("root:x:0:0::/:/bin/sh\n".to_owned())),
            (b"etc/passwd".to_vec(), Named::Node(Node::Other)),
            (b"a\nb".to_vec(), Named::Node(Node::Link(b"\xff".to_vec()))),
        ]);
        let bytes = names.to_bytes();
        assert_eq!(Names::parse(&bytes).as_ref(), Some(&names));
        for end in 0..bytes.len() {
            assert_eq!(Names::parse(&bytes[..end]), None, "torn at {end}");
        }
        let mut other = bytes.clone();
        *other.last_mut().unwrap() ^= 1;
        assert_eq!(Names::parse(&other), None);
    }
}
