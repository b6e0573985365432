//! New file systems, made attached nowhere: fsopen(2), fsconfig(2), fsmount(2), Linux 5.2.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use hoy_sys::mount::{MountAttr, attr, propagation};
use hoy_sys::rustix::io::Errno;
use hoy_sys::rustix::mount::{self, FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags};

use crate::mount::option::SOMETIMES;
use crate::mount::plan::MountPlan;
use crate::mount::rootfs::propagate;
use crate::mount::tree;

/// Makes a new file system, attached nowhere.
///
/// The group `tty` of a terminal is a convenience: where its id is not mapped, terminals have the user's group.
pub(crate) fn make(fstype: &str, source: &str, plan: &MountPlan) -> std::io::Result<OwnedFd> {
    let has_group = fstype == "devpts" && plan.data.iter().any(|(key, _)| key == "gid");
    match make_as_told(fstype, source, plan) {
        Err(_) if has_group => {
            let mut plan = plan.clone();
            plan.data.retain(|(key, _)| key != "gid");
            make_as_told(fstype, source, &plan)
        }
        other => other,
    }
}

fn make_as_told(fstype: &str, source: &str, plan: &MountPlan) -> std::io::Result<OwnedFd> {
    let context = mount::fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC)?;
    mount::fsconfig_set_string(context.as_fd(), "source", source)?;
    if plan.attr.set & attr::RDONLY != 0 && source.starts_with('/') {
        // A device may be one that cannot be written.
        mount::fsconfig_set_flag(context.as_fd(), "ro")?;
    }
    configure(context.as_fd(), plan)?;
    mount::fsconfig_create(context.as_fd()).map_err(|errno| explained(context.as_fd(), errno))?;
    let mut bits = plan.attr.set;
    if plan.copy_up {
        bits &= !attr::RDONLY;
    }
    if bits & attr::ATIME == 0 && plan.attr.clear & attr::ATIME == 0 {
        bits &= !attr::ATIME;
    }
    let attributes = MountAttrFlags::from_bits_retain(u32::try_from(bits).unwrap_or_default());
    Ok(mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Tells the file system what it is to know.
fn configure(context: BorrowedFd<'_>, plan: &MountPlan) -> std::io::Result<()> {
    for (key, value) in &plan.data {
        let told = match value {
            Some(value) => mount::fsconfig_set_string(context, key.as_str(), value.as_str()),
            None => mount::fsconfig_set_flag(context, key.as_str()),
        };
        match told {
            Err(Errno::INVAL) if SOMETIMES.contains(&key.as_str()) => {}
            other => other.map_err(|errno| {
                let option = value.as_ref().map_or_else(|| key.clone(), |value| format!("{key}={value}"));
                std::io::Error::other(format!("option \"{option}\": {}", explained(context, errno)))
            })?,
        }
    }
    Ok(())
}

/// Changes the file system of the mount that `there` is open on.
pub(crate) fn reconfigure(there: BorrowedFd<'_>, plan: &MountPlan) -> std::io::Result<()> {
    let flags = FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH;
    let context = mount::fspick(there, "", flags)?;
    configure(context.as_fd(), plan)?;
    mount::fsconfig_reconfigure(context.as_fd()).map_err(|errno| explained(context.as_fd(), errno))
}

/// What the kernel says besides the errno, if it does: fsconfig(2) "e message".
fn explained(context: BorrowedFd<'_>, errno: Errno) -> std::io::Error {
    let mut said = [0; 256];
    let length = hoy_sys::rustix::io::read(context, &mut said).unwrap_or(0);
    let said = String::from_utf8_lossy(said.get(..length).unwrap_or_default()).into_owned();
    match said.strip_prefix("e ") {
        // Who asks for the errno of a refusal is to find it.
        Some(said) if !matches!(errno, Errno::PERM | Errno::ACCESS | Errno::BUSY) => {
            std::io::Error::new(std::io::Error::from(errno).kind(), said.trim().to_owned())
        }
        _ => errno.into(),
    }
}

/// The same; where the kernel refuses one of those that it has made already, that one is bound.
pub(crate) fn make_or_bind(fstype: &str, source: &str, plan: &MountPlan) -> std::io::Result<OwnedFd> {
    match make(fstype, source, plan) {
        Err(error) if may_be_bound(fstype, &error) => bound_instead(fstype, plan).map_err(|_| error),
        other => other,
    }
}

/// The kernel lets only who owns a namespace mount what shows it; the caller's own is then the one to show.
fn may_be_bound(fstype: &str, error: &std::io::Error) -> bool {
    let refused = matches!(Errno::from_io_error(error), Some(Errno::PERM | Errno::ACCESS | Errno::BUSY));
    refused && matches!(fstype, "sysfs" | "proc" | "mqueue")
}

fn bound_instead(fstype: &str, plan: &MountPlan) -> std::io::Result<OwnedFd> {
    let path = match fstype {
        "sysfs" => "/sys",
        "proc" => "/proc",
        _ => "/dev/mqueue",
    };
    let tree = tree::copy_of_path(Path::new(path), true)?;
    let readonly = if fstype == "sysfs" { attr::RDONLY } else { 0 };
    let change = MountAttr { set: plan.attr.set & !attr::ATIME | readonly, ..MountAttr::default() };
    tree::set_attributes(tree.as_fd(), true, change)?;
    propagate(tree.as_fd(), propagation::PRIVATE, true)?;
    Ok(tree)
}
