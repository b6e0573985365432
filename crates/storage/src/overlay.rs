//! Overlay mounts through the mount API of Linux 5.2 (fsopen(2)); layer by layer since Linux 6.5.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use hoy_layer::OverlayXattrs;
use hoy_sys::rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxAttributes, StatxFlags, open, statx};
use hoy_sys::rustix::io::Errno;
use hoy_sys::rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, move_mount, unmount,
};

use crate::{Error, Result};

/// fsconfig(2) takes no longer value.
const MAX_VALUE_BYTES: usize = 255;

/// What was being done when [`Overlay::mount`] fails.
pub(crate) const MOUNT_OVERLAY: &str = "mount an overlay at";

/// The directories of one overlay.
#[derive(Debug)]
pub(crate) struct Overlay<'a> {
    /// Highest first; at least one.
    pub(crate) lowers: &'a [PathBuf],
    pub(crate) upper: &'a Path,
    pub(crate) work: &'a Path,
    pub(crate) xattrs: OverlayXattrs,
}

impl Overlay<'_> {
    /// Mounts it at the directory `target`.
    pub(crate) fn mount(&self, target: &Path) -> Result<()> {
        let mounted = match self.superblock() {
            // "lowerdir+" is of Linux 6.5.
            Err(Errno::INVAL) => self.mount_by_options(target),
            Err(errno) => Err(errno),
            Ok(mount) => move_mount(mount.as_fd(), "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH),
        };
        mounted.map_err(Error::io(MOUNT_OVERLAY, target))
    }

    fn superblock(&self) -> std::result::Result<OwnedFd, Errno> {
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
        set("upperdir", self.upper)?;
        set("workdir", self.work)?;
        for (key, value) in [("index", "off"), ("metacopy", "off"), ("redirect_dir", "off"), ("xino", "off")] {
            match fsconfig_set_string(&context, key, value) {
                // A kernel that does not have the feature has it off.
                Ok(()) | Err(Errno::INVAL) => {}
                Err(errno) => return Err(errno),
            }
        }
        if self.xattrs == OverlayXattrs::User {
            fsconfig_set_flag(&context, "userxattr")?;
        }
        fsconfig_create(&context)?;
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
    }

    /// mount(2), with a handle for each directory so that a page of options holds some two hundred layers.
    fn mount_by_options(&self, target: &Path) -> std::result::Result<(), Errno> {
        let handle = |path: &Path| open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        let name = |handle: &OwnedFd| format!("/proc/self/fd/{}", handle.as_raw_fd());
        let lowers = self.lowers.iter().map(|path| handle(path)).collect::<std::result::Result<Vec<_>, Errno>>()?;
        let (upper, work) = (handle(self.upper)?, handle(self.work)?);
        let lowerdir = lowers.iter().map(name).collect::<Vec<_>>().join(":");
        let userxattr = if self.xattrs == OverlayXattrs::User { ",userxattr" } else { "" };
        let options = format!("lowerdir={lowerdir},upperdir={},workdir={}{userxattr}", name(&upper), name(&work));
        let options = std::ffi::CString::new(options).map_err(|_| Errno::INVAL)?;
        mount("overlay", target, "overlay", MountFlags::empty(), Some(options.as_c_str()))
    }
}

/// Why overlays cannot be mounted here at all; none when they can.
pub(crate) fn why_impossible() -> Option<Errno> {
    fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).err()
}

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
