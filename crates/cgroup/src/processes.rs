//! The processes of a group, and their end.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::Result;
use crate::error::{At, put};

/// The processes in the group and below it.
///
/// # Errors
/// Those of reading cgroup.procs.
pub fn processes(directories: &BTreeMap<String, PathBuf>) -> Result<BTreeSet<i32>> {
    let mut pids = BTreeSet::new();
    let any = directories.get("").or_else(|| directories.values().next());
    if let Some(directory) = any {
        collect(directory, &mut pids)?;
    }
    Ok(pids)
}

fn collect(directory: &Path, pids: &mut BTreeSet<i32>) -> Result<()> {
    let path = directory.join("cgroup.procs");
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other.at("read", &path)?,
    };
    pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    for below in subdirectories(directory) {
        collect(&below, pids)?;
    }
    Ok(())
}

pub(crate) fn subdirectories(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().filter_map(io::Result::ok);
    entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

/// Kills every process of the group at once where the kernel can (cgroup.kill, Linux 5.14); `false` where it cannot.
pub fn kill_all(directories: &BTreeMap<String, PathBuf>) -> bool {
    directories.get("").is_some_and(|directory| put(&directory.join("cgroup.kill"), "1").is_ok())
}
