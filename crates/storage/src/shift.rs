//! A copied root file system whose files belong to the ids of a container, where mounts cannot map them.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use hoy_layout::Container;
use hoy_oci::IdMaps;
use hoy_sys::rustix::fs::{AtFlags, CWD, Gid, Mode, Uid, XattrFlags, chmod, chownat, lgetxattr, lsetxattr};
use hoy_sys::rustix::io::Errno;

use crate::{Error, Result};

/// Capabilities of a program, which chown(2) takes away.
const CAPABILITIES: &str = "security.capability";

/// The maps by which the files of a container have other ids than in its image; none where they have the same, and where
/// this user has one id only, so that all files are its own.
pub(crate) fn maps_of(container: &Container) -> Result<Option<&IdMaps>> {
    let Some(maps) = container.id_maps.as_ref().filter(|maps| !maps.is_identity()) else { return Ok(None) };
    let path = Path::new("/proc/self/uid_map");
    let own = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    let has_one_id = own.split_whitespace().skip(2).eq(["1"]);
    Ok(Some(maps).filter(|_| !has_one_id))
}

/// Gives everything in the tree to the ids outside that its owners inside are.
///
/// # Errors
/// [`Error::Owner`] for an owner that the container does not have.
pub(crate) fn give(path: &Path, maps: &IdMaps) -> Result<()> {
    give_once(path, maps, &mut HashSet::new())
}

/// A file with several names is met under each of them, and given once.
fn give_once(path: &Path, maps: &IdMaps, given: &mut HashSet<(u64, u64)>) -> Result<()> {
    let metadata = std::fs::symlink_metadata(path).map_err(Error::io("look at", path))?;
    if metadata.is_dir() {
        for entry in std::fs::read_dir(path).map_err(Error::io("read", path))? {
            give_once(&entry.map_err(Error::io("read", path))?.path(), maps, given)?;
        }
    } else if metadata.nlink() > 1 && !given.insert((metadata.dev(), metadata.ino())) {
        return Ok(());
    }
    let (uid, gid) = (metadata.uid(), metadata.gid());
    let unknown = || Error::Owner { path: path.to_owned(), uid, gid };
    let new = maps.host_uid(uid).zip(maps.host_gid(gid)).ok_or_else(unknown)?;
    change(path, new, &metadata).map_err(Error::io("change the owner of", path))
}

fn change(path: &Path, (uid, gid): (u32, u32), metadata: &std::fs::Metadata) -> std::result::Result<(), Errno> {
    let mut capabilities = [0; 64];
    let kept = match metadata.is_file() {
        true => lgetxattr(path, CAPABILITIES, &mut capabilities).unwrap_or(0),
        false => 0,
    };
    chownat(CWD, path, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::SYMLINK_NOFOLLOW)?;
    if metadata.mode() & 0o6000 != 0 && !metadata.is_symlink() {
        chmod(path, Mode::from_raw_mode(metadata.mode() & 0o7777))?;
    }
    match capabilities.get(..kept) {
        Some(value) if kept > 0 => lsetxattr(path, CAPABILITIES, value, XattrFlags::empty()),
        _ => Ok(()),
    }
}
