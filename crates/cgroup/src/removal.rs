//! Removing groups.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use crate::error::At;
use crate::processes::subdirectories;
use crate::{Hierarchies, Result};

/// Removes the group and those made below it; those in `shared` stay.
///
/// # Errors
/// `EBUSY` while processes are in it; the others are removed all the same.
pub fn remove(directories: &BTreeMap<String, PathBuf>, shared: &BTreeSet<String>) -> Result<()> {
    let mut failure = Ok(());
    for (_, directory) in directories.iter().filter(|(controllers, _)| !shared.contains(*controllers)) {
        if let Err(error) = remove_tree(directory) {
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

/// Removes the group `path` from every hierarchy where it is empty: one whose maker died before it was recorded.
///
/// # Errors
/// Those of finding the hierarchies; a group that has processes stays.
pub fn remove_empty(path: &Path) -> Result<()> {
    for hierarchy in Hierarchies::detect()?.iter() {
        let directory = hierarchy.directory(path);
        fs::remove_dir(&directory).unwrap_or_default();
        if let Some(parent) = directory.parent().filter(|p| p.file_name().is_some_and(|name| name == "hoy")) {
            fs::remove_dir(parent).unwrap_or_default();
        }
    }
    Ok(())
}

fn remove_tree(directory: &Path) -> Result<()> {
    // A process that has just ended leaves its group a moment later.
    for attempt in 0..200 {
        match fs::remove_dir(directory) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == ErrorKind::ResourceBusy && attempt < 199 => {
                for below in subdirectories(directory) {
                    remove_tree(&below)?;
                }
                sleep(Duration::from_micros(200 << (attempt / 20).min(6)));
            }
            Err(error) => return Err(error).at("remove", directory),
        }
    }
    Ok(())
}
