//! What builds left: of those that were killed everything, of the cache what no longer counts.

use std::fs::File;
use std::path::{Path, PathBuf};

use hoy_layout::{Lock, Store, TEMPORARY_PREFIX};
use hoy_sys::rustix::fs::{FlockOperation, flock};
use hoy_sys::rustix::mount::{UnmountFlags, unmount};
use serde::Deserialize;

use crate::containerfile::cache::{NAMES, is_of_use};
use crate::containerfile::keeper::end_running;
use crate::containerfile::origin::STEP_RECORD;
use crate::containerfile::scratch::MEMORY;
use crate::history::HISTORY;
use crate::{Error, Result, Tools};

/// The record that a build's container has.
#[derive(Deserialize)]
struct Step {
    build: PathBuf,
}

/// Removes containers and directories of builds that are gone, records whose layers are gone, and with `all` the whole
/// cache and the directories of cache mounts that nobody uses; returns how many.
///
/// # Errors
/// Those of removing something that is there.
pub fn prune_builds(store: &Store, tools: &Tools, all: bool) -> Result<usize> {
    let root = store.root().join("build");
    let is_temporary =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(TEMPORARY_PREFIX));
    let gone = entries(&root)?.into_iter().filter(is_temporary);
    // Held until they are gone: nobody takes up a directory that is being removed.
    let gone: Vec<(File, PathBuf)> = gone.filter_map(|path| Some((abandoned(&path)?, path))).collect();
    gone.iter().for_each(|(_, path)| end_running(tools, path));
    let is_gone = |build: &Path| gone.iter().any(|(_, path)| path == build) || !build.exists();
    let mut count = remove_containers(store, tools, is_gone)?;
    for (_, path) in &gone {
        count += remove(path)?;
    }
    for path in entries(&root.join("cache"))? {
        if all || !is_of_use(store.layout(), &path)? {
            count += remove(&path)?;
        }
    }
    for path in entries(&root.join(NAMES))? {
        let layer = path.file_name().and_then(|name| format!("sha256:{}", name.to_string_lossy()).parse().ok());
        if all || !layer.map_or(Ok(false), |layer| Ok::<_, Error>(store.layout().blob_size(&layer)?.is_some()))? {
            count += remove(&path)?;
        }
    }
    if all {
        for path in entries(&root.join("content"))? {
            count += remove(&path)?;
        }
        for path in entries(&root.join(HISTORY))? {
            count += remove(&path)?;
        }
        for path in entries(&root.join("mounts"))? {
            if Lock::try_exclusive(&path.join("lock"))?.is_some() {
                count += remove(&path)?;
            }
        }
    }
    Ok(count)
}

/// Ends what the build in `scratch` runs, and removes it; nobody else does so meanwhile.
pub(crate) fn remove_build(store: &Store, tools: &Tools, scratch: &Path) -> Result<()> {
    end_running(tools, scratch);
    remove_containers(store, tools, |build| build == scratch)?;
    // Memory for secrets, where there was any.
    unmount(scratch.join(MEMORY), UnmountFlags::DETACH).unwrap_or_default();
    remove(scratch).map(drop)
}

/// Removes the containers of builds that are meant; returns how many.
fn remove_containers(store: &Store, tools: &Tools, is_meant: impl Fn(&Path) -> bool) -> Result<usize> {
    let mut count = 0;
    for dir in store.all_containers()? {
        let Ok(step) = dir.read_json::<Step>(&format!("{STEP_RECORD}.json")) else { continue };
        if is_meant(&step.build) {
            tools.storage(["rm", "--force", dir.id().as_str()])?;
            count += 1;
        }
    }
    Ok(count)
}

/// The lock of a build's directory that nobody holds.
fn abandoned(directory: &Path) -> Option<File> {
    let file = File::open(directory).ok()?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(file)
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    match std::fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::io("read", directory)(error)),
        Ok(entries) => {
            let paths = entries.map(|entry| entry.map(|entry| entry.path()));
            paths.collect::<std::io::Result<_>>().map_err(Error::io("read", directory))
        }
    }
}

fn remove(path: &Path) -> Result<usize> {
    let is_directory = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
    let removed = if is_directory { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match removed {
        // Another prune was faster.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        other => other.map(|()| 1).map_err(Error::io("remove", path)),
    }
}
