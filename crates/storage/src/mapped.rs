//! Mounts in which files have other ids than on disk: mount_setattr(2) MOUNT_ATTR_IDMAP, for overlayfs Linux 5.19.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use hoy_oci::{IdMapping, IdMaps};
use hoy_sys::mount::{MountAttr, attr, mount_setattr};
use hoy_sys::process::{flags, unshare};
use hoy_sys::rustix::fs::CWD;
use hoy_sys::rustix::io::Errno;
use hoy_sys::rustix::mount::{
    MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount_change, move_mount, open_tree,
};
use hoy_sys::rustix::thread::{CapabilitiesSecureBits, capabilities_secure_bits, set_capabilities_secure_bits};
use hoy_sys::userns::namespace_of_nobody;

use crate::{Error, Result};

/// What was being done when the kernel does not map the ids of mounts here.
pub(crate) const MAP_IDS: &str = "map the ids of files in";

/// Copies of directories' mounts with mapped ids, attached nowhere yet.
#[derive(Debug)]
pub(crate) struct Mapped {
    mounts: Vec<(PathBuf, OwnedFd)>,
    owner: (u32, u32),
}

impl Mapped {
    /// Maps what is in each of these directories.
    ///
    /// # Errors
    /// [`Error::Io`] doing [`MAP_IDS`] where the kernel or the file system cannot.
    pub(crate) fn new(maps: &IdMaps, directories: &[&Path]) -> Result<Self> {
        let namespace = user_namespace(maps)?;
        let clone = |directory: &&Path| {
            let mount = open_tree(CWD, *directory, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC);
            let mount = mount.map_err(Error::io(MAP_IDS, directory))?;
            let idmap = MountAttr { set: attr::IDMAP, ..MountAttr::default() };
            mount_setattr(mount.as_fd(), false, idmap, Some(namespace.as_fd()))
                .map_err(|error| Error::io(MAP_IDS, directory)(error.errno))?;
            Ok((directory.to_path_buf(), mount))
        };
        let first = |maps: &[IdMapping]| maps.first().map_or(0, |map| map.host_id);
        let root = |host: Option<u32>, maps| host.unwrap_or_else(|| first(maps));
        let owner = (root(maps.host_uid(0), &maps.uid_mappings), root(maps.host_gid(0), &maps.gid_mappings));
        Ok(Self { owner, mounts: directories.iter().map(clone).collect::<Result<_>>()? })
    }

    /// Puts each over the directory it is a copy of; for a mount namespace that nobody else sees.
    pub(crate) fn attach(&self) -> std::result::Result<(), Errno> {
        for (directory, mount) in &self.mounts {
            move_mount(mount.as_fd(), "", CWD, directory, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        }
        Ok(())
    }

    /// Lets this thread make files there, which only somebody with an id of the maps can: overlayfs does so, in its work
    /// directory, with the ids of whoever mounts. The thread keeps its capabilities.
    pub(crate) fn become_owner(&self) -> std::result::Result<(), Errno> {
        let bits = capabilities_secure_bits()? | CapabilitiesSecureBits::NO_SETUID_FIXUP;
        set_capabilities_secure_bits(bits)?;
        hoy_sys::user::set_file_ids(self.owner.0, self.owner.1);
        Ok(())
    }
}

/// Does `work` on a thread whose mounts nobody else sees, and which are gone afterwards.
pub(crate) fn in_private_namespace<T: Send>(
    work: impl FnOnce() -> std::result::Result<T, Errno> + Send,
) -> std::result::Result<T, Errno> {
    let inside = || {
        // The working directory becomes the thread's own with it.
        unshare(flags::NEWNS).map_err(|error| error.errno)?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        work()
    };
    std::thread::scope(|scope| scope.spawn(inside).join().unwrap_or(Err(Errno::IO)))
}

/// A user namespace with these maps and nobody in it.
fn user_namespace(maps: &IdMaps) -> Result<OwnedFd> {
    let text = |maps: &[IdMapping]| -> String {
        maps.iter().map(|map| format!("{} {} {}\n", map.container_id, map.host_id, map.size)).collect()
    };
    let made = namespace_of_nobody(|pid| {
        std::fs::write(format!("/proc/{pid}/gid_map"), text(&maps.gid_mappings))?;
        std::fs::write(format!("/proc/{pid}/uid_map"), text(&maps.uid_mappings))
    });
    made.map_err(|source| Error::Namespace { call: "make a user namespace with the container's ids", source })
}
