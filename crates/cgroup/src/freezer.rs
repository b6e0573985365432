//! Freezing the processes of a group (kernel cgroup-v1/freezer-subsystem.rst; cgroup-v2.rst "cgroup.freeze").

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use crate::error::At;
use crate::{Error, Result};

/// Whether the processes of the group are frozen.
pub fn is_frozen(directories: &BTreeMap<String, PathBuf>) -> bool {
    freezer(directories).is_some_and(|(path, frozen, _)| {
        fs::read_to_string(path).is_ok_and(|state| matches!(state.trim(), s if s == frozen || s == "FREEZING"))
    })
}

/// Freezes the processes of the group, or lets them go on.
///
/// # Errors
/// [`Error::Unavailable`] where the group has no freezer.
pub fn freeze(directories: &BTreeMap<String, PathBuf>, frozen: bool) -> Result<()> {
    let unavailable = || Error::Unavailable {
        controller: "freezer".to_owned(),
        reason: "the container has no control group with a freezer".to_owned(),
    };
    let (path, yes, no) = freezer(directories).ok_or_else(unavailable)?;
    fs::write(&path, if frozen { yes } else { no }).at("write", &path)?;
    // The kernel freezes one process after the other.
    for _ in 0..1000 {
        let state = fs::read_to_string(&path).at("read", &path)?;
        if state.trim() != "FREEZING" {
            break;
        }
        sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn freezer(directories: &BTreeMap<String, PathBuf>) -> Option<(PathBuf, &'static str, &'static str)> {
    let v1 = directories.iter().find(|(controllers, _)| controllers.split(',').any(|c| c == "freezer"));
    let v1 = v1.map(|(_, directory)| (directory.join("freezer.state"), "FROZEN", "THAWED"));
    v1.or_else(|| directories.get("").map(|directory| (directory.join("cgroup.freeze"), "1", "0")))
}
