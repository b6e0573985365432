//! `--mount=type=cache`: directories that outlive whoever writes into them.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;

use hoy_containerfile::Sharing;
use hoy_layout::{Lock, Store, make_directory};
use hoy_oci::{Digest, IdMapping, IdMaps};

use crate::{Error, Result};

/// A cache that is in use.
#[derive(Debug)]
pub struct CacheMount {
    /// What is in it.
    pub data: PathBuf,
    /// Held while it is used.
    pub lock: Lock,
}

impl CacheMount {
    /// The directory that `mount` means for a command with these ids: named by its id, owner and permissions, and never
    /// by a path that was typed. A new one is what `fill` gives, a directory on the store's file system; `origin` is a
    /// name for what that has. With `is_alone`, nobody else has it at the same time.
    ///
    /// # Errors
    /// Those of making it; [`Error::Refused`] for an owner that the ids do not have.
    pub fn open(
        store: &Store,
        mount: &hoy_containerfile::Mount,
        target: &str,
        origin: &str,
        ids: Option<&IdMaps>,
        is_alone: bool,
        fill: impl FnOnce() -> Result<PathBuf>,
    ) -> Result<Self> {
        let id = if mount.id.is_empty() { target } else { &mount.id };
        let (uid, gid) = (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
        // On disk the ids are those that they stand for: each user namespace has directories of its own.
        let maps = options_of_ids(ids).join(" ");
        let name = Digest::of(format!("{id:?} {uid} {gid} {origin} {:?}{maps}", mount.source).as_bytes()).hex();
        let all = store.root().join("build/mounts");
        make_directory(&all, 0o700)?;
        let sharing = mount.sharing.unwrap_or(Sharing::Shared);
        let (directory, lock) = match if is_alone && sharing == Sharing::Shared { Sharing::Locked } else { sharing } {
            Sharing::Shared => {
                let directory = all.join(&name);
                make_directory(&directory, 0o700)?;
                let lock = Lock::shared(&directory.join("lock"))?;
                (directory, lock)
            }
            Sharing::Locked => {
                let directory = all.join(&name);
                make_directory(&directory, 0o700)?;
                let lock = Lock::exclusive(&directory.join("lock"))?;
                (directory, lock)
            }
            Sharing::Private => {
                let mut number = 0;
                loop {
                    let directory = all.join(format!("{name}-{number}"));
                    make_directory(&directory, 0o700)?;
                    if let Some(lock) = Lock::try_exclusive(&directory.join("lock"))? {
                        break (directory, lock);
                    }
                    number += 1;
                }
            }
        };
        let data = directory.join("data");
        let named = serde_json::json!({"id": id, "uid": uid, "gid": gid});
        let bytes = serde_json::to_vec(&named).map_err(|source| Error::Json("cache mount", source))?;
        hoy_layout::write_volatile_file(&directory.join("mount.json"), &bytes)?;
        let making = Lock::exclusive(&directory.join("making"))?;
        if !data.is_dir() {
            let filled = fill()?;
            let mode = std::fs::Permissions::from_mode(mount.mode.unwrap_or(0o755) & 0o7777);
            let owner = owner_outside(ids, uid, gid)?;
            chown(&filled, Some(owner.0), Some(owner.1)).map_err(Error::io("give to its owner", &filled))?;
            std::fs::set_permissions(&filled, mode).map_err(Error::io("change", &filled))?;
            std::fs::rename(&filled, &data).map_err(Error::io("rename to", &data))?;
        }
        drop(making);
        Ok(Self { data, lock })
    }
}

/// The ids of this process's that stand for those in a container.
pub(crate) fn owner_outside(ids: Option<&IdMaps>, uid: u32, gid: u32) -> Result<(u32, u32)> {
    let Some(ids) = ids else { return Ok((uid, gid)) };
    ids.host_uid(uid).zip(ids.host_gid(gid)).ok_or_else(|| Error::no_such_id(uid, gid))
}

/// The ids as options of `hoy-storage create`.
pub(crate) fn options_of_ids(ids: Option<&IdMaps>) -> Vec<String> {
    let option = |name: &str, map: &IdMapping| format!("--{name}={}:{}:{}", map.container_id, map.host_id, map.size);
    let all = ids.into_iter().flat_map(|ids| {
        let uids = ids.uid_mappings.iter().map(|map| option("uidmap", map));
        uids.chain(ids.gid_mappings.iter().map(|map| option("gidmap", map)))
    });
    all.collect()
}
