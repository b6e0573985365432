//! File names in JSON: as text, and those that are no UTF-8 as an array of their bytes.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Name {
    Text(String),
    Bytes(Vec<u8>),
}

pub(crate) fn serialize<S: Serializer>(names: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
    let name = |path: &PathBuf| match path.to_str() {
        Some(text) => Name::Text(text.to_owned()),
        None => Name::Bytes(path.as_os_str().as_bytes().to_vec()),
    };
    serializer.collect_seq(names.iter().map(name))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
    let path = |name| match name {
        Name::Text(text) => PathBuf::from(text),
        Name::Bytes(bytes) => PathBuf::from(OsString::from_vec(bytes)),
    };
    Ok(Vec::deserialize(deserializer)?.into_iter().map(path).collect())
}
