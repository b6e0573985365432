//! What steps made before: plain files below `ROOT/build`, each named by the digest of everything its step depends on.
//!
//! A record is believed only while the layer it names is in the store. Nothing in it is a time or a secret.

use std::collections::BTreeMap;
use std::fs::DirEntry;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hoy_layout::{ImageLayout, Store, make_directory, write_volatile_file};
use hoy_oci::{Descriptor, Digest};
use serde::{Deserialize, Serialize};

use crate::document::NewLayer;
use crate::{Error, Result};

/// What a step depends on, by name: `parent`, `instruction`, `files` …
pub(crate) type Inputs = BTreeMap<&'static str, String>;

/// Records of this form alone are believed.
const VERSION: u32 = 1;
/// The directory of names of layers, each in a file named by the layer's digest.
pub(crate) const NAMES: &str = "names";
/// Beyond so many records none is looked for to explain a miss.
const MAX_EXPLAINED: usize = 10_000;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    version: u32,
    inputs: BTreeMap<String, String>,
    /// None where the step changed nothing.
    layer: Option<Descriptor>,
    diff_id: Option<Digest>,
}

/// The cache of a store.
#[derive(Debug)]
pub(crate) struct Cache {
    directory: PathBuf,
    /// Nothing in it is used; what is made anew is added nevertheless.
    is_ignored: bool,
    /// Records older than this are not used; and what time it is.
    ttl: Option<(Duration, SystemTime)>,
}

impl Cache {
    pub(crate) fn new(store: &Store, is_ignored: bool, ttl: Option<(Duration, SystemTime)>) -> Result<Self> {
        let directory = store.root().join("build");
        for path in [directory.clone(), directory.join("cache"), directory.join("content"), directory.join(NAMES)] {
            make_directory(&path, 0o700)?;
        }
        Ok(Self { directory, is_ignored, ttl })
    }

    /// What a step is called that depends on this.
    pub(crate) fn key(inputs: &Inputs) -> Result<Digest> {
        let bytes = serde_json::to_vec(&(VERSION, inputs)).map_err(|source| Error::Json("cache key", source))?;
        Ok(Digest::of(&bytes))
    }

    fn path(&self, inputs: &Inputs) -> Result<PathBuf> {
        Ok(self.directory.join("cache").join(format!("{}.json", Self::key(inputs)?.hex())))
    }

    /// Whether caches that travel may be asked, in which nothing has an age.
    pub(crate) fn may_ask_others(&self) -> bool {
        !self.is_ignored && self.ttl.is_none()
    }

    /// What the step made before: a layer, or none where it changed nothing.
    pub(crate) fn find(&self, layout: &ImageLayout, inputs: &Inputs) -> Result<Option<Option<NewLayer>>> {
        let path = self.path(inputs)?;
        if self.is_ignored || self.is_too_old(&path) {
            return Ok(None);
        }
        let Some(record) = read(&path) else { return Ok(None) };
        let is_ours = record.inputs.iter().map(|(k, v)| (k.as_str(), v)).eq(inputs.iter().map(|(k, v)| (*k, v)));
        if record.version != VERSION || !is_ours {
            return Ok(None);
        }
        match (record.layer, record.diff_id) {
            (None, None) => Ok(Some(None)),
            (Some(descriptor), Some(diff_id)) if layout.blob_size(&descriptor.digest)? == Some(descriptor.size) => {
                Ok(Some(Some(NewLayer { descriptor, diff_id })))
            }
            _ => Ok(None),
        }
    }

    fn is_too_old(&self, path: &Path) -> bool {
        let Some((ttl, now)) = self.ttl else { return false };
        let made = path.metadata().and_then(|metadata| metadata.modified());
        made.is_ok_and(|made| now.duration_since(made).unwrap_or_default() >= ttl)
    }

    /// Remembers what a step made.
    pub(crate) fn add(&self, inputs: &Inputs, layer: Option<&NewLayer>) -> Result<()> {
        let (path, bytes) = self.record(inputs, layer)?;
        Ok(write_volatile_file(&path, &bytes)?)
    }

    /// The file that remembers it.
    pub(crate) fn record(&self, inputs: &Inputs, layer: Option<&NewLayer>) -> Result<(PathBuf, Vec<u8>)> {
        let record = Record {
            version: VERSION,
            inputs: inputs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
            layer: layer.map(|layer| layer.descriptor.clone()),
            diff_id: layer.map(|layer| layer.diff_id),
        };
        let bytes = serde_json::to_vec(&record).map_err(|source| Error::Json("cache record", source))?;
        Ok((self.path(inputs)?, bytes))
    }

    /// Why nothing was found: what is different from the most alike of the same instruction's records.
    pub(crate) fn explain(&self, inputs: &Inputs) -> String {
        if self.is_ignored {
            return "the cache is not used".to_owned();
        }
        let directory = std::fs::read_dir(self.directory.join("cache"));
        let records =
            directory.into_iter().flatten().flatten().take(MAX_EXPLAINED).filter_map(|e: DirEntry| read(&e.path()));
        let differences = records.filter_map(|record| {
            (record.inputs.get("instruction") == inputs.get("instruction")).then(|| {
                let differs = |(name, value): &(&&str, &String)| record.inputs.get(**name) != Some(value);
                inputs.iter().filter(differs).map(|(name, _)| *name).collect::<Vec<_>>()
            })
        });
        match differences.min_by_key(Vec::len) {
            None => "never done before".to_owned(),
            Some(none) if none.is_empty() => "its layer is no longer in the store, or too old".to_owned(),
            Some(names) => format!("other {}", names.join(", ")),
        }
    }

    /// The fingerprint of files that cannot change, remembered under what names them.
    pub(crate) fn content(&self, name: &str) -> Option<Digest> {
        std::fs::read_to_string(self.content_file(name)).ok()?.parse().ok()
    }

    pub(crate) fn add_content(&self, name: &str, content: &Digest) -> Result<()> {
        Ok(write_volatile_file(&self.content_file(name), content.to_string().as_bytes())?)
    }

    /// Where the names of a layer are kept.
    pub(crate) fn names(&self, layer: &Digest) -> PathBuf {
        self.directory.join(NAMES).join(layer.hex())
    }

    fn content_file(&self, name: &str) -> PathBuf {
        self.directory.join("content").join(Digest::of(name.as_bytes()).hex())
    }
}

/// A record that cannot be read is none.
fn read(path: &Path) -> Option<Record> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// Whether a record can be read and its layer is there.
pub(crate) fn is_of_use(layout: &ImageLayout, path: &Path) -> Result<bool> {
    let Some(record) = read(path).filter(|record| record.version == VERSION) else { return Ok(false) };
    match record.layer {
        None => Ok(true),
        Some(layer) => Ok(layout.blob_size(&layer.digest)? == Some(layer.size)),
    }
}
