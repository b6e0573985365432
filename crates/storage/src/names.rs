//! File names in JSON, as text or, where they are no UTF-8, as an array of their bytes; and what the file system of a
//! layer could not take.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use hoy_layer::{OverrideStat, Time, Unrepresented};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Name {
    Text(String),
    Bytes(Vec<u8>),
}

impl Name {
    fn new(bytes: &[u8]) -> Self {
        std::str::from_utf8(bytes).map_or_else(|_| Self::Bytes(bytes.to_vec()), |text| Self::Text(text.to_owned()))
    }

    fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.into_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }
}

pub(crate) fn serialize<S: Serializer>(names: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(names.iter().map(|path| Name::new(path.as_os_str().as_bytes())))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
    let names: Vec<Name> = Vec::deserialize(deserializer)?;
    Ok(names.into_iter().map(|name| PathBuf::from(OsString::from_vec(name.into_bytes()))).collect())
}

/// The files of a layer with something that could not be represented.
pub(crate) mod unrepresented {
    use super::*;

    #[derive(Serialize, Deserialize)]
    struct File {
        path: Name,
        mtime: (i64, u32),
        #[serde(default, skip_serializing_if = "Option::is_none")]
        owner: Option<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        xattrs: Vec<(Name, Vec<u8>)>,
    }

    pub(crate) fn serialize<S: Serializer>(
        files: &BTreeMap<Vec<u8>, Unrepresented>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(files.iter().map(|(path, lost)| File {
            path: Name::new(path),
            mtime: (lost.mtime.seconds, lost.mtime.nanoseconds),
            owner: lost.owner.map(|owner| owner.to_value()),
            xattrs: lost.xattrs.iter().map(|(name, value)| (Name::new(name), value.clone())).collect(),
        }))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<Vec<u8>, Unrepresented>, D::Error> {
        let files: Vec<File> = Vec::deserialize(deserializer)?;
        let lost = |file: File| {
            let (seconds, nanoseconds) = file.mtime;
            let owner = file.owner.and_then(|owner| OverrideStat::parse(owner.as_bytes()));
            let xattrs = file.xattrs.into_iter().map(|(name, value)| (name.into_bytes(), value)).collect();
            (file.path.into_bytes(), Unrepresented { mtime: Time { seconds, nanoseconds }, owner, xattrs })
        };
        Ok(files.into_iter().map(lost).collect())
    }
}
