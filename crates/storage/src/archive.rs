//! Which images are in an archive of docker save or in a tar of an OCI layout.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use hoy_layer::{Archive, Decompressor};
use serde_json::Value;

use crate::{Error, Result};

/// The most that the list of an archive's images may have, in bytes.
const MAX_LIST_BYTES: u64 = 4 << 20;

/// The images of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Archived {
    /// One of docker save; the names of each image.
    Docker(Vec<Vec<String>>),
    /// A tar of an OCI layout; the name of each image.
    Oci(Vec<Option<String>>),
}

/// Reads which images are in the archive, compressed or not.
///
/// # Errors
/// [`Error::Archive`] for what is no archive, [`Error::NoImages`] for one of something else.
pub fn archived_images(path: &Path) -> Result<Archived> {
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    file.rewind().map_err(Error::io("read", path))?;
    let input = Decompressor::detect(file).map_err(|e| Error::Archive(hoy_layer::Error::Read(e)))?;
    let mut archive = Archive::new(BufReader::with_capacity(128 << 10, input));
    let mut oci = None;
    while let Some(entry) = archive.next_entry().map_err(Error::Archive)? {
        let name = entry.path.strip_prefix(b"./").unwrap_or(&entry.path).to_vec();
        if name != b"manifest.json" && name != b"index.json" {
            continue;
        }
        let mut bytes = Vec::new();
        archive.data().take(MAX_LIST_BYTES).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
        let Ok(list) = serde_json::from_slice::<Value>(&bytes) else { continue };
        // An archive may have both, and docker's own list then says more.
        if name == b"manifest.json" {
            return Ok(Archived::Docker(rows(&list).map(|item| texts(item.get("RepoTags"))).collect()));
        }
        let named = |entry: &Value| {
            let name = entry.pointer(&format!("/annotations/{}", hoy_oci::REF_NAME))?;
            name.as_str().map(str::to_owned)
        };
        oci = list.get("manifests").map(|entries| rows(entries).map(named).collect());
    }
    oci.map(Archived::Oci).ok_or_else(|| Error::NoImages(path.to_owned()))
}

fn rows(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().map(Vec::as_slice).unwrap_or_default().iter()
}

fn texts(value: Option<&Value>) -> Vec<String> {
    value.map(|list| rows(list).filter_map(Value::as_str).map(str::to_owned).collect()).unwrap_or_default()
}
