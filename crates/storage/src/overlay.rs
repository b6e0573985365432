//! Overlay mounts through the mount API of Linux 5.2 (fsopen(2)); layer by layer since Linux 6.5.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use hoy_layer::OverlayXattrs;
use hoy_oci::IdMaps;
use hoy_sys::rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxAttributes, StatxFlags, mkdir, open, statfs, statx};
use hoy_sys::rustix::io::Errno;
use hoy_sys::rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, move_mount, open_tree, unmount,
};

use crate::mapped::{self, Mapped};
use crate::{Error, Result};

/// fsconfig(2) takes no longer value.
const MAX_VALUE_BYTES: usize = 255;

/// The most layers that overlayfs stacks (OVL_MAX_STACK).
pub(crate) const MAX_LAYERS: usize = 500;

/// What was being done when [`Overlay::mount`] fails.
pub(crate) const MOUNT_OVERLAY: &str = "mount an overlay at";

/// The directories of one overlay.
#[derive(Debug)]
pub(crate) struct Overlay<'a> {
    /// Highest first; at least one, and two where nothing can be written.
    pub(crate) lowers: &'a [PathBuf],
    /// None for an overlay that is read-only.
    pub(crate) writable: Option<Writable<'a>>,
    pub(crate) xattrs: OverlayXattrs,
    /// The user namespace whose ids the files have in the mount; on disk they have those of the image.
    pub(crate) maps: Option<&'a IdMaps>,
}

/// Where an overlay is written to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Writable<'a> {
    pub(crate) upper: &'a Path,
    pub(crate) work: &'a Path,
    /// Nothing is written to disk for safety's sake. overlayfs then leaves a marker in `work`: [`VOLATILE_MARK`].
    pub(crate) volatile: bool,
}

/// Below a work directory: a volatile overlay was mounted here, and overlayfs refuses the directory until it is gone
/// (overlayfs.rst "Volatile mount").
pub(crate) const VOLATILE_MARK: &str = "work/incompat/volatile";

type Call<T> = std::result::Result<T, Errno>;

/// Directories for an overlay, topmost first, each where it comes first: the kernel takes none twice (`ELOOP`), and
/// what a layer has is hidden where the same layer lies above.
pub(crate) fn each_once(lowers: impl Iterator<Item = PathBuf>) -> Vec<PathBuf> {
    let mut seen = BTreeSet::new();
    lowers.filter(|lower| seen.insert(lower.clone())).collect()
}

impl Overlay<'_> {
    /// Mounts it at the directory `target`.
    pub(crate) fn mount(&self, target: &Path) -> Result<()> {
        let mount = match self.maps {
            None => self.detached(target).map_err(Error::io(MOUNT_OVERLAY, target))?,
            Some(maps) => {
                let mapped = Mapped::new(maps, &self.parents())?;
                let made = mapped::in_private_namespace(|| {
                    mapped.attach()?;
                    mapped.become_owner()?;
                    self.detached(target)
                });
                made.map_err(Error::io(MOUNT_OVERLAY, target))?
            }
        };
        let moved = move_mount(mount.as_fd(), "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH);
        moved.map_err(Error::io(MOUNT_OVERLAY, target))
    }

    /// The directories that those of the overlay are in, each once.
    fn parents(&self) -> Vec<&Path> {
        let written = self.writable.iter().map(|writable| writable.upper);
        let mut parents: Vec<&Path> =
            self.lowers.iter().map(PathBuf::as_path).chain(written).filter_map(Path::parent).collect();
        parents.sort();
        parents.dedup();
        parents
    }

    /// The mount, attached nowhere. `target` may serve as a place to work at, in a namespace of its own.
    fn detached(&self, target: &Path) -> Call<OwnedFd> {
        match self.superblock() {
            // "lowerdir+" is of Linux 6.5.
            Err(Errno::INVAL) if self.lowers.len() <= MAX_LAYERS => {
                mapped::in_private_namespace(|| self.by_options(target))
            }
            other => other,
        }
    }

    fn superblock(&self) -> Call<OwnedFd> {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let mut handles = Vec::new();
        let mut set = |key: &str, path: &Path| {
            if path.as_os_str().len() <= MAX_VALUE_BYTES {
                return fsconfig_set_string(&context, key, path);
            }
            let handle = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
            let name = format!("/proc/self/fd/{}", handle.as_raw_fd());
            handles.push(handle);
            fsconfig_set_string(&context, key, name)
        };
        for lower in self.lowers {
            set("lowerdir+", lower)?;
        }
        if let Some(writable) = self.writable {
            set("upperdir", writable.upper)?;
            set("workdir", writable.work)?;
        }
        for (key, value) in [("index", "off"), ("metacopy", "off"), ("redirect_dir", "off"), ("xino", "off")] {
            match fsconfig_set_string(&context, key, value) {
                // A kernel that does not have the feature has it off.
                Ok(()) | Err(Errno::INVAL) => {}
                Err(errno) => return Err(errno),
            }
        }
        for flag in self.flags() {
            match fsconfig_set_flag(&context, flag) {
                // Of Linux 5.10; without it the disk is waited for.
                Err(Errno::INVAL) if flag == "volatile" => {}
                other => other?,
            }
        }
        fsconfig_create(&context)?;
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, self.attributes())
    }

    fn flags(&self) -> impl Iterator<Item = &'static str> {
        let userxattr = (self.xattrs == OverlayXattrs::User).then_some("userxattr");
        let volatile = self.writable.is_some_and(|writable| writable.volatile).then_some("volatile");
        userxattr.into_iter().chain(volatile)
    }

    fn attributes(&self) -> MountAttrFlags {
        match self.writable {
            Some(_) => MountAttrFlags::empty(),
            None => MountAttrFlags::MOUNT_ATTR_RDONLY,
        }
    }

    /// mount(2), whose options are one page: in a small file system over `target`, seen by this thread alone, each
    /// directory has a name of two or three letters.
    fn by_options(&self, target: &Path) -> Call<OwnedFd> {
        mount("tmpfs", target, "tmpfs", MountFlags::empty(), None)?;
        hoy_sys::rustix::process::chdir(target)?;
        let mut count = 0_u32;
        let mut link = |path: &Path| {
            count += 1;
            let name = short_name(count);
            match symlink(path, &name) {
                Ok(()) => Ok(name),
                Err(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
            }
        };
        let lowers = self.lowers.iter().map(|lower| link(lower)).collect::<Call<Vec<_>>>()?;
        let mut options = format!("lowerdir={}", lowers.join(":"));
        if let Some(writable) = self.writable {
            options.push_str(&format!(",upperdir={},workdir={}", link(writable.upper)?, link(writable.work)?));
        }
        for flag in self.flags() {
            options.push(',');
            options.push_str(flag);
        }
        let options = std::ffi::CString::new(options).map_err(|_| Errno::INVAL)?;
        mkdir("merged", Mode::RWXU)?;
        let flags = if self.writable.is_none() { MountFlags::RDONLY } else { MountFlags::empty() };
        mount("overlay", "merged", "overlay", flags, Some(options.as_c_str()))?;
        open_tree(CWD, "merged", OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)
    }
}

/// The number in digits of base 36.
fn short_name(number: u32) -> String {
    let mut digits = String::new();
    let mut rest = number;
    while rest > 0 {
        digits.extend(char::from_digit(rest % 36, 36));
        rest /= 36;
    }
    digits
}

/// Why overlays cannot be mounted over the files of the store in `root` at all; none when they can.
pub(crate) fn why_impossible(root: &Path) -> Option<Errno> {
    // Overlayfs lets nobody make whiteouts on it, or write through another overlay (fs/overlayfs: ovl_mknod).
    let is_overlay = statfs(root).is_ok_and(|found| found.f_type == OVERLAYFS_SUPER_MAGIC);
    if is_overlay { Some(Errno::INVAL) } else { fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).err() }
}

/// What statfs(2) calls an overlay.
const OVERLAYFS_SUPER_MAGIC: i64 = 0x794c_7630;

/// Whether something is mounted exactly at `path`.
pub(crate) fn is_mount_point(path: &Path) -> Result<bool> {
    match statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE) {
        Ok(found) => Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(Error::io("look at", path)(errno)),
    }
}

/// Unmounts `path`; lazily when `detach`, which takes it out of sight even while it is in use.
pub(crate) fn unmount_at(path: &Path, detach: bool) -> std::result::Result<(), Errno> {
    let flags = if detach { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    unmount(path, flags | UnmountFlags::NOFOLLOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_many_layers_fit_into_a_page() {
        let names: std::collections::BTreeSet<String> = (1..=502).map(short_name).collect();
        let bytes: usize = names.iter().map(|name| name.len() + 1).sum();
        assert!(names.len() == 502 && bytes < 3000, "{bytes}");
    }
}
