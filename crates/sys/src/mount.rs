//! What the new mount API has and rustix lacks: mount_setattr(2), Linux 5.12.

use std::os::fd::{AsRawFd, BorrowedFd};

use crate::{Result, check};

/// Mount attributes, MOUNT_ATTR_* of mount_setattr(2).
pub mod attr {
    /// Read-only.
    pub const RDONLY: u64 = 0x01;
    /// No set-user-id, set-group-id or file capabilities.
    pub const NOSUID: u64 = 0x02;
    /// No devices.
    pub const NODEV: u64 = 0x04;
    /// No execution.
    pub const NOEXEC: u64 = 0x08;
    /// The bits that say how access times are kept; relatime is none of them.
    pub const ATIME: u64 = 0x70;
    /// Access times are not kept.
    pub const NOATIME: u64 = 0x10;
    /// Access times are always kept.
    pub const STRICTATIME: u64 = 0x20;
    /// Access times of directories are not kept.
    pub const NODIRATIME: u64 = 0x80;
    /// Ids are mapped by a user namespace.
    pub const IDMAP: u64 = 0x10_0000;
    /// Symlinks are not followed.
    pub const NOSYMFOLLOW: u64 = 0x20_0000;
}

/// Propagation types, as in mount(2).
pub mod propagation {
    /// MS_UNBINDABLE
    pub const UNBINDABLE: u64 = 1 << 17;
    /// MS_PRIVATE
    pub const PRIVATE: u64 = 1 << 18;
    /// MS_SLAVE
    pub const SLAVE: u64 = 1 << 19;
    /// MS_SHARED
    pub const SHARED: u64 = 1 << 20;
}

/// What mount_setattr changes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct MountAttr {
    /// Attributes to set.
    pub set: u64,
    /// Attributes to clear.
    pub clear: u64,
    /// Propagation to change to; 0 leaves it.
    pub propagation: u64,
}

/// Changes the mount that `mount` is open on, with `recursive` those below it too; `userns` maps ids (IDMAP).
///
/// # Errors
/// `EPERM` when an attribute is locked by a more privileged namespace, and those of mount_setattr(2).
pub fn mount_setattr(
    mount: BorrowedFd<'_>,
    recursive: bool,
    attr: MountAttr,
    userns: Option<BorrowedFd<'_>>,
) -> Result<()> {
    let attr = libc::mount_attr {
        attr_set: attr.set,
        attr_clr: attr.clear,
        propagation: attr.propagation,
        userns_fd: userns.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is NUL-terminated and the struct has the size given; the kernel only reads both.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    check("mount_setattr", ret).map(drop)
}
