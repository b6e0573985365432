//! Secrets given to a build: read once, kept in memory, and looked for in everything that a build makes.

use std::fmt;
use std::path::PathBuf;

use aho_corasick::AhoCorasick;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::{Error, Result};

/// Shorter texts are found everywhere: they are nobody's secret.
const MIN_SOUGHT_BYTES: usize = 6;
/// As in Docker.
const MAX_SECRET_BYTES: u64 = 500 << 10;

/// One secret.
#[derive(Clone)]
pub struct Secret {
    /// What `--mount=type=secret,id=…` calls it.
    pub id: String,
    pub(crate) bytes: Vec<u8>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Secret {
    /// Reads `id=NAME[,src=FILE|,env=VARIABLE][,type=file|env]`.
    ///
    /// # Errors
    /// [`Error::Option`], and those of reading the file.
    pub fn read(text: &str, environment: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let wrong = |reason: &str| Error::option("--secret", text, reason);
        let (mut id, mut source, mut kind, mut env) = (None, None, None, None);
        for field in text.split(',') {
            match field.split_once('=') {
                Some(("id", value)) => id = Some(value.to_owned()),
                Some(("src" | "source", value)) => source = Some(value.to_owned()),
                Some(("env", value)) => env = Some(value.to_owned()),
                Some(("type", value @ ("file" | "env"))) => kind = Some(value.to_owned()),
                _ => return Err(wrong("incorrect secret flag format: it is id=NAME and src=FILE or env=VARIABLE")),
            }
        }
        let id = id.filter(|id| !id.is_empty()).ok_or_else(|| wrong("it has no id"))?;
        if kind.as_deref() == Some("env") && env.is_none() {
            env = source.take().or_else(|| Some(id.clone()));
        }
        let named = env.clone().or_else(|| source.is_none().then(|| id.clone()));
        let value = named.filter(|_| source.is_none()).and_then(|name| environment(&name));
        if let Some(value) = value {
            return Ok(Self { id, bytes: value.into_bytes() });
        }
        if let (Some(name), None) = (&env, &source) {
            return Err(wrong(&format!("the environment has no {name}")));
        }
        let path = PathBuf::from(source.unwrap_or_else(|| id.clone()));
        let size = path.metadata().map_err(Error::io("open", &path))?.len();
        if size > MAX_SECRET_BYTES {
            return Err(wrong("a secret has at most 500 KiB"));
        }
        Ok(Self { id, bytes: std::fs::read(&path).map_err(Error::io("read", &path))? })
    }
}

/// A secret was about to be written where it would stay.
#[derive(Debug, thiserror::Error)]
#[error("the secret \"{0}\" is in it")]
pub(crate) struct Leak(pub(crate) String);

/// What no layer and no configuration may hold: the secrets, as they are and in base64.
#[derive(Debug)]
pub(crate) struct Watch {
    automaton: AhoCorasick,
    /// The id of the secret behind each pattern.
    ids: Vec<String>,
    longest: usize,
}

impl Watch {
    /// None where there is nothing to look for.
    pub(crate) fn new(secrets: &[Secret]) -> Result<Option<Self>> {
        let (mut patterns, mut ids) = (Vec::new(), Vec::new());
        for secret in secrets {
            let text = secret.bytes.trim_ascii();
            if text.len() < MIN_SOUGHT_BYTES {
                continue;
            }
            let mut forms = vec![text.to_vec()];
            // In base64 three texts, for each place in a group that a secret may begin at, less the characters at the
            // ends that depend on its neighbours.
            for before in 0..3 {
                let padded = [vec![0; before].as_slice(), text].concat();
                let encoded = STANDARD.encode(&padded).into_bytes();
                let start = (before * 8).div_ceil(6);
                let end = padded.len() * 8 / 6;
                forms.extend(encoded.get(start..end).map(<[u8]>::to_vec));
            }
            ids.extend(forms.iter().map(|_| secret.id.clone()));
            patterns.extend(forms);
        }
        let longest = patterns.iter().map(Vec::len).max().unwrap_or_default();
        if patterns.is_empty() {
            return Ok(None);
        }
        let automaton = AhoCorasick::new(&patterns).map_err(|error| Error::Refused(error.to_string()))?;
        Ok(Some(Self { automaton, ids, longest }))
    }

    /// The id of a secret that is in `bytes`.
    pub(crate) fn find(&self, bytes: &[u8]) -> Option<&str> {
        let found = self.automaton.find(bytes)?;
        self.ids.get(found.pattern().as_usize()).map(String::as_str)
    }

    /// The id of a secret that ends in the next bytes of a stream, of which `tail` is the end before them.
    pub(crate) fn see(&self, tail: &mut Vec<u8>, bytes: &[u8]) -> Option<&str> {
        let keep = self.longest.saturating_sub(1);
        // What may have begun before is looked for apart, so that the many bytes are not copied.
        let edge = [tail.as_slice(), bytes.get(..keep.min(bytes.len())).unwrap_or_default()].concat();
        let found = self.find(&edge).or_else(|| self.find(bytes));
        let joined = if bytes.len() >= keep { bytes } else { &edge };
        *tail = joined.get(joined.len().saturating_sub(keep)..).unwrap_or_default().to_vec();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_and_find() {
        let environment = |name: &str| (name == "TOKEN").then(|| "hunter2-hunter2".to_owned());
        let secret = Secret::read("id=t,env=TOKEN", environment).unwrap();
        assert_eq!(format!("{secret:?}"), "Secret { id: \"t\", .. }");
        for text in ["", "id=", "id=x,env=NOPE", "id=x,what=y", "src=/etc/hostname"] {
            assert!(Secret::read(text, environment).is_err(), "{text}");
        }
        let watch = Watch::new(&[secret]).unwrap().unwrap();
        for text in [
            "xhunter2-hunter2y".to_owned(),
            STANDARD.encode("a: hunter2-hunter2\n"),
            STANDARD.encode("hunter2-hunter2"),
            STANDARD.encode("user:hunter2-hunter2!"),
        ] {
            assert_eq!(watch.find(text.as_bytes()), Some("t"), "{text}");
            for size in [1, 2, 7, 30] {
                let mut tail = Vec::new();
                let seen = text.as_bytes().chunks(size).filter_map(|chunk| watch.see(&mut tail, chunk)).count();
                assert!(seen >= 1, "{text} in pieces of {size}");
            }
        }
        assert_eq!(watch.find(b"hunter2-hunter"), None);
        assert!(Watch::new(&[]).unwrap().is_none());
    }
}
