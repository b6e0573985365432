//! Handing controllers of version 2 down to a group (kernel cgroup-v2.rst "Controlling Controllers").

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use hoy_sys::rustix::io::Errno;

use crate::Result;
use crate::error::{At, put};
use crate::limits::{Write, unavailable};

/// The controllers of limits; the files `cgroup.*` are in every group.
pub(crate) fn controllers(writes: &[Write]) -> BTreeSet<&str> {
    writes.iter().map(|w| w.controller.as_str()).filter(|name| *name != "cgroup").collect()
}

/// Enables every controller there is from the mount point down to `group`, so that its use can be limited and counted.
///
/// # Errors
/// [`crate::Error::Unavailable`] when one that is `wanted` does not arrive, with the group that holds it back.
pub(crate) fn hand_down(mount: &Path, group: &Path, wanted: &BTreeSet<&str>) -> Result<()> {
    let all = words(&mount.join("cgroup.controllers"))?;
    let here = words(&group.join("cgroup.controllers"))?;
    if here.is_superset(&all) && wanted.iter().all(|name| here.contains(*name)) {
        return Ok(());
    }
    let Some(parent) = group.parent() else { return Ok(()) };
    let mut above: Vec<&Path> = parent.ancestors().take_while(|path| path.starts_with(mount)).collect();
    above.reverse();
    for path in above {
        let available = words(&path.join("cgroup.controllers"))?;
        if let Some(name) = wanted.iter().find(|name| !available.contains(**name)) {
            return Err(unavailable(name, &absent(path, path == mount)));
        }
        let enabled = words(&path.join("cgroup.subtree_control"))?;
        let new: Vec<&String> = available.difference(&enabled).collect();
        let Err(error) = enable(path, &new) else { continue };
        for name in new.into_iter().filter(|name| wanted.contains(name.as_str())) {
            enable(path, &[name]).map_err(|_| unavailable(name, &refusal(path, &error)))?;
        }
    }
    Ok(())
}

fn enable(path: &Path, names: &[&String]) -> io::Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let text: Vec<String> = names.iter().map(|name| format!("+{name}")).collect();
    put(&path.join("cgroup.subtree_control"), &text.join(" "))
}

fn words(path: &Path) -> Result<BTreeSet<String>> {
    let text = fs::read_to_string(path).at("read", path)?;
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

fn absent(path: &Path, is_top: bool) -> String {
    let what = if is_top { "the control groups of this machine" } else { "the groups above" };
    format!("{what} do not hand this controller to \"{}\"", path.display())
}

fn refusal(path: &Path, error: &io::Error) -> String {
    let path = path.display();
    match error.kind() {
        ErrorKind::ResourceBusy => {
            format!(
                "\"{path}\" has processes of its own, so groups below it have no controllers: use another cgroupsPath"
            )
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => format!(
            "the controller is not delegated in \"{path}\", and this user may not change that: \
             use --systemd-cgroup, or have systemd delegate it (Delegate= of user@.service)"
        ),
        _ if Errno::from_io_error(error) == Some(Errno::OPNOTSUPP) => format!("\"{path}\" is a threaded group"),
        _ => format!("enable it in \"{path}\": {error}"),
    }
}
