//! Where another process of a container enters its group.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::At;
use crate::{Hierarchies, Result};

/// The groups that another process enters, of a container whose first process is `pid`.
///
/// A group of v2 that hands controllers down can have no process itself (kernel cgroup-v2.rst "No Internal Process
/// Constraint"): where an init divided its group, as systemd does, that is the init's own group.
///
/// # Errors
/// Those of reading /proc and the group's files.
pub fn entry(directories: &BTreeMap<String, PathBuf>, pid: i32) -> Result<BTreeMap<String, PathBuf>> {
    let mut entry = directories.clone();
    let Some(group) = entry.get_mut("") else { return Ok(entry) };
    let read = |path: &Path| fs::read_to_string(path).at("read", path);
    if read(&group.join("cgroup.subtree_control"))?.trim().is_empty() {
        return Ok(entry);
    }
    let hierarchies = Hierarchies::detect()?;
    let text = read(Path::new(&format!("/proc/{pid}/cgroup")))?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::"));
    let own = hierarchies.v2().zip(own).map(|(hierarchy, own)| hierarchy.directory(Path::new(own)));
    // Whoever moved the process elsewhere did not mean this one.
    if let Some(own) = own.filter(|own| own.starts_with(&*group)) {
        *group = own;
    }
    Ok(entry)
}
