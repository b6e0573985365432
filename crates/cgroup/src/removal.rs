//! Removing groups.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use hoy_sys::rustix::fs::{FsWord, statfs};

use crate::error::At;
use crate::processes::subdirectories;
use crate::{Hierarchies, Result};

/// Removes the group and those made below it; those in `shared` stay, and so does what is no control group.
///
/// # Errors
/// `EBUSY` while processes are in it; the others are removed all the same.
pub fn remove(directories: &BTreeMap<String, PathBuf>, shared: &BTreeSet<String>) -> Result<()> {
    let mut failure = Ok(());
    let own = directories.iter().filter(|(controllers, _)| !shared.contains(*controllers));
    for (_, directory) in own.filter(|(_, directory)| is_group(directory)) {
        // What stays in one group stays in the others.
        let patience = if failure.is_ok() { 200 } else { 1 };
        if let Err(error) = remove_tree(directory, patience) {
            failure = Err(error);
        }
        let parent = directory.parent().filter(|p| p.file_name().is_some_and(|name| name == "hoy"));
        if let Some(parent) = parent {
            // It is removed with its last container, and is busy until then.
            fs::remove_dir(parent).unwrap_or_default();
        }
    }
    failure
}

/// A record of groups may be damaged: only in these file systems a directory is one.
fn is_group(directory: &Path) -> bool {
    /// CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC
    const MAGICS: [FsWord; 2] = [0x0027_e0eb, 0x6367_7270];
    statfs(directory).is_ok_and(|found| MAGICS.contains(&found.f_type))
}

/// Where the group `path` is not there yet, as [`crate::Group::directories`]: what making it would make.
pub fn missing(hierarchies: &Hierarchies, path: &Path) -> BTreeMap<String, PathBuf> {
    let directories = hierarchies.iter().map(|h| (h.controllers.clone(), h.directory(path)));
    directories.filter(|(_, directory)| !directory.exists()).collect()
}

fn remove_tree(directory: &Path, patience: u32) -> Result<()> {
    // A process that has just ended leaves its group a moment later.
    for attempt in 0..patience {
        match fs::remove_dir(directory) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == ErrorKind::ResourceBusy && attempt + 1 < patience => {
                for below in subdirectories(directory) {
                    remove_tree(&below, patience)?;
                }
                sleep(Duration::from_micros(200 << (attempt / 20).min(6)));
            }
            Err(error) => return Err(error).at("remove", directory),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_group_stays() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = temporary.path().join("hoy/x");
        fs::create_dir_all(&directory).unwrap();
        let groups = BTreeMap::from([("cpu".to_owned(), directory.clone()), ("pids".to_owned(), "../../..".into())]);
        remove(&groups, &BTreeSet::new()).unwrap();
        assert!(directory.is_dir());
    }
}
