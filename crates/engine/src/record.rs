//! What the engine records of a container: `hoy.json`, which it alone writes.

use std::collections::BTreeMap;

use hoy_layout::ContainerDir;
use hoy_oci::{Digest, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Result;

/// The record's file in the container's directory.
pub(crate) const FILE: &str = "hoy.json";

/// How far a container has come, as last recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Made and not started yet.
    Created,
    /// Its process was started, and nobody recorded its end.
    Running,
    /// Its process ended.
    Exited,
}

/// What the engine knows of a container beyond `storage.json` and `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// How far it has come.
    pub phase: Phase,
    /// What it runs.
    pub command: Vec<String>,
    /// The image as it was asked for.
    pub image: String,
    /// The digest of the image's configuration.
    pub image_id: Digest,
    /// The runtime's name or path.
    pub runtime: String,
    /// Whether it is removed when it ends.
    pub auto_remove: bool,
    /// Labels, the image's among them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The network mode.
    pub network: String,
    /// When its process was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// When its process ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<Timestamp>,
    /// How its process ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Record {
    /// The record of a container; none of one that another program made.
    ///
    /// # Errors
    /// Those of reading a file that is there.
    pub fn read(dir: &ContainerDir) -> Result<Option<Self>> {
        if dir.path().join(FILE).exists() { Ok(Some(dir.read_json(FILE)?)) } else { Ok(None) }
    }

    pub(crate) fn write(&self, dir: &ContainerDir) -> Result<()> {
        // Nobody misses a container that a power cut takes when it was to go at its end anyway.
        match self.auto_remove {
            true => Ok(dir.write_volatile_json(FILE, self)?),
            false => Ok(dir.write_json(FILE, self)?),
        }
    }
}
