//! The root: attached where it can become one, entered (pivot_root(2)), sealed, and how mounts reach out of it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use hoy_sys::mount::{MountAttr, attr, mount_setattr, propagation};
use hoy_sys::rustix::fs::{CWD, Mode, OFlags, openat};
use hoy_sys::rustix::mount::{self, UnmountFlags};
use hoy_sys::rustix::process;

use crate::error::Doing;
use crate::mount::{shared_mounts, tree};
use crate::{Error, Result};

/// The value of `linux.rootfsPropagation`.
fn root_propagation(text: Option<&str>) -> Result<(u64, bool)> {
    Ok(match text {
        None | Some("" | "rslave" | "slave") => (propagation::SLAVE, true),
        Some("private" | "rprivate") => (propagation::PRIVATE, true),
        Some("shared" | "rshared") => (propagation::SHARED, true),
        Some("unbindable" | "runbindable") => (propagation::UNBINDABLE, true),
        Some(other) => return Err(Error::Invalid(format!("rootfsPropagation \"{other}\" is not known"))),
    })
}

/// Changes how mounts and unmounts below `mount` reach others.
pub(crate) fn propagate(mount: BorrowedFd<'_>, kind: u64, recursive: bool) -> std::io::Result<()> {
    Ok(mount_setattr(mount, recursive, MountAttr { propagation: kind, ..MountAttr::default() }, None)?)
}

/// Attaches the root in this namespace, so that it can become the root itself: where it comes from, so that sources of
/// later binds that lie in it are seen with what is mounted there, or else over `/`.
///
/// Mounts made here do not reach the host, and with the default propagation the host's reach here.
///
/// Others in a mount namespace that `is_joined` keep the propagation they have.
pub(crate) fn attach_root(
    root: BorrowedFd<'_>,
    place: Option<&Path>,
    rootfs_propagation: Option<&str>,
    is_joined: bool,
) -> Result<()> {
    let (kind, recursive) = root_propagation(rootfs_propagation)?;
    let here = open_here("/")?;
    let host = if kind == propagation::PRIVATE { kind } else { propagation::SLAVE };
    if !is_joined {
        propagate(here.as_fd(), host, true).doing(|| "change propagation of \"/\"")?;
    }
    // A shared tree would send what is mounted in it to its peers on the host.
    propagate(root, host, recursive).doing(|| "change propagation of the root")?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // Root of a user namespace may not be able to walk there, and a namespace that is joined may not have it.
    let place = place.and_then(|path| openat(CWD, path, flags, Mode::empty()).ok()).unwrap_or(here);
    tree::attach(root, place.as_fd()).doing(|| "attach the root")
}

fn open_here(path: &str) -> Result<OwnedFd> {
    openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).doing(|| format!("open \"{path}\""))
}

/// Makes `root` this process's `/` and lets the old one go.
pub(crate) fn enter(root: BorrowedFd<'_>, no_pivot: bool) -> Result<()> {
    if no_pivot {
        return shared_mounts::enter(root);
    }
    process::fchdir(root).doing(|| "enter the root")?;
    // The old root is stacked on the new one and comes off again: pivot_root(2) NOTES.
    process::pivot_root(".", ".").doing(|| "pivot the root")?;
    mount::unmount(".", UnmountFlags::DETACH).doing(|| "unmount the old root")?;
    process::chdir("/").doing(|| "enter \"/\"")
}

/// The last changes to the root mount itself.
pub(crate) fn seal(root: BorrowedFd<'_>, readonly: bool, rootfs_propagation: Option<&str>) -> Result<()> {
    if readonly {
        let change = MountAttr { set: attr::RDONLY, ..MountAttr::default() };
        tree::set_attributes(root, false, change).doing(|| "make the root read-only")?;
    }
    let (kind, recursive) = root_propagation(rootfs_propagation)?;
    if matches!(kind, propagation::SHARED | propagation::UNBINDABLE) {
        propagate(root, kind, recursive).doing(|| "change propagation of the root")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn propagations() {
        assert_eq!(root_propagation(None).unwrap(), (propagation::SLAVE, true));
        assert_eq!(root_propagation(Some("private")).unwrap(), (propagation::PRIVATE, true));
        assert!(root_propagation(Some("sideways")).is_err());
    }
}
