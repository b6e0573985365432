//! A container without a mount namespace: what it has mounted is in the caller's own.
//!
//! Its whole tree hangs on one mount, put where the root file system is, and comes off with it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use hoy_sys::mount::{MountAttr, mount_setattr, propagation};
use hoy_sys::rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, openat, statx};
use hoy_sys::rustix::mount::{UnmountFlags, unmount};
use hoy_sys::rustix::process::{chdir, chroot, fchdir};

use crate::error::Doing;
use crate::mount::tree;
use crate::state::State;
use crate::{Error, Result};

/// The number of the mount `root`, by which it is known again; refuses a root that is the caller's too.
pub(crate) fn identify(root: BorrowedFd<'_>, rootfs: &Path) -> Result<u64> {
    if rootfs.parent().is_none() {
        return Err(Error::Invalid("root.path \"/\" needs a mount namespace: it is the host's".to_owned()));
    }
    let doing = || format!("look at root \"{}\"", rootfs.display());
    Ok(statx(root, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).doing(doing)?.stx_mnt_id)
}

/// Attaches `root` where it comes from.
pub(crate) fn attach(root: BorrowedFd<'_>, rootfs: &Path) -> Result<()> {
    let doing = || format!("attach the root to \"{}\"", rootfs.display());
    let private = MountAttr { propagation: propagation::PRIVATE, ..MountAttr::default() };
    mount_setattr(root, true, private, None).doing(doing)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let target = openat(CWD, rootfs, flags, Mode::empty()).doing(doing)?;
    tree::attach(root, target.as_fd()).doing(doing)
}

/// Takes off the tree that the container was given, if it is still there.
pub(crate) fn detach(state: &State) -> Result<()> {
    let Some(mount) = state.root_mount else { return Ok(()) };
    let found = statx(CWD, &state.rootfs, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::MNT_ID);
    // What the caller himself has mounted there stays.
    if !found.is_ok_and(|found| found.stx_mnt_id == mount) {
        return Ok(());
    }
    unmount(&state.rootfs, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
        .doing(|| format!("unmount \"{}\"", state.rootfs.display()))
}

/// The root of the container's first process, where no mount namespace leads to it.
pub(crate) fn root_of(state: &State, proc: BorrowedFd<'_>) -> Result<Option<OwnedFd>> {
    if state.root_mount.is_none() {
        return Ok(None);
    }
    let path = format!("{}/root", state.pid);
    openat(proc, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map(Some)
        .doing(|| "open the container's root")
}

/// Makes `root` this process's `/`.
pub(crate) fn enter(root: BorrowedFd<'_>) -> Result<()> {
    fchdir(root).doing(|| "enter the root")?;
    chroot(".").doing(|| "change the root")?;
    chdir("/").doing(|| "enter \"/\"")
}
