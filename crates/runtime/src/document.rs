//! The state of a container as others read it (runtime-spec runtime.md "State").

use std::collections::HashMap;
use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;

use serde::Serialize;

use crate::state::{State, Status};

/// What hooks, `state` and `list` give, in the order that everybody gives it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    /// Version of the specification.
    pub oci_version: String,
    /// The container's id.
    pub id: String,
    /// Its first process, as the host counts; 0 when it has ended.
    pub pid: i32,
    /// Where it is in its life.
    pub status: Status,
    /// The bundle.
    pub bundle: PathBuf,
    /// The root file system.
    pub rootfs: PathBuf,
    /// When it was made.
    pub created: String,
    /// Annotations of the configuration.
    pub annotations: HashMap<String, String>,
    /// Who made it.
    pub owner: String,
}

impl State {
    /// The state as the specification has it.
    pub fn document(&self, status: Status) -> Document {
        Document {
            oci_version: self.oci_version.clone(),
            id: self.id.clone(),
            pid: if status == Status::Stopped { 0 } else { self.pid },
            status,
            bundle: self.bundle.clone(),
            rootfs: self.rootfs.clone(),
            created: self.created.clone(),
            annotations: self.annotations.clone(),
            owner: self.owner.clone(),
        }
    }
}

impl Display for Document {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}
