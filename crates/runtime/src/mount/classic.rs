//! File systems made by mount(2): for options that are too long for fsconfig(2), as the directories of an overlay may be.

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd};

use hoy_sys::rustix::mount::{MountFlags, mount};

use crate::mount::plan::MountPlan;

/// The longest value that fsconfig(2) takes, in bytes.
const LONGEST: usize = 255;

/// Whether an option of the mount is longer than that.
pub(crate) fn is_needed(plan: &MountPlan) -> bool {
    plan.data.iter().any(|(_, value)| value.as_ref().is_some_and(|value| value.len() > LONGEST))
}

/// Mounts a new file system on what `target` is open on, by the descriptor's name in /proc.
pub(crate) fn mount_on(target: BorrowedFd<'_>, fstype: &str, source: &str, plan: &MountPlan) -> std::io::Result<()> {
    let option = |(key, value): &(String, Option<String>)| match value {
        Some(value) => format!("{key}={value}"),
        None => key.clone(),
    };
    let data = CString::new(plan.data.iter().map(option).collect::<Vec<_>>().join(","))?;
    let target = format!("/proc/self/fd/{}", target.as_raw_fd());
    Ok(mount(source, target, fstype, MountFlags::empty(), Some(data.as_c_str()))?)
}
