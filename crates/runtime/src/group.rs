//! The control group of a container: where it is, and whether there is one.

use std::path::{Path, PathBuf};

use hoy_cgroup::{Group, Hierarchies};
use hoy_sys::rustix::process::geteuid;

use crate::config::Config;
use crate::state::Container;
use crate::{Error, Result};

/// Makes the container's group, or none where `rootless` says that none is needed and no limit is asked for.
pub(crate) fn make_group(
    container: &Container,
    config: &Config,
    in_userns: bool,
    rootless: Option<bool>,
) -> Result<Group> {
    let resources = config.linux().resources().as_ref();
    let needs_none =
        resources.map_or(Ok(true), |resources| hoy_cgroup::plan(resources, true).map(|plan| plan.is_empty()));
    if rootless == Some(true) && needs_none.unwrap_or(false) {
        return Ok(Group::default());
    }
    let group = new_group(container, config, in_userns)?;
    if rootless == Some(false) && group.directories.is_empty() {
        return Err(Error::Invalid("no control group can be made here, and --rootless=false needs one".to_owned()));
    }
    Ok(group)
}

fn new_group(container: &Container, config: &Config, in_userns: bool) -> Result<Group> {
    let given = config.linux().cgroups_path().as_deref().filter(|path| !path.as_os_str().is_empty());
    if let Some(path) = given.filter(|path| path.components().any(|part| part == std::path::Component::ParentDir)) {
        return Err(Error::Invalid(format!("cgroupsPath \"{}\" has \"..\"", path.display())));
    }
    let hierarchies = Hierarchies::detect()?;
    // A new user namespace of real root has its devices limited from outside like any other container.
    let rules = !is_in_user_namespace() && (geteuid().is_root() || !in_userns);
    let resources = config.linux().resources().as_ref();
    if let Some(path) = given {
        return Ok(Group::create(&hierarchies, path, resources, rules, false)?);
    }
    let parent = parent(&hierarchies);
    // The id is this state directory's; another may have it too, and its group is not for this container.
    let mut number = 0;
    loop {
        let name = if number == 0 { container.id().to_owned() } else { format!("{}-{number}", container.id()) };
        let path = parent.join(name);
        // Noted first, so that it can be removed should this process die before the state is written.
        container.note_group(&path)?;
        match Group::create(&hierarchies, &path, resources, rules, true) {
            Err(hoy_cgroup::Error::Exists(_)) if number < 1000 => number += 1,
            other => return Ok(other?),
        }
    }
}

/// Where a group that nobody named is made. An ordinary user may make one only where systemd delegates: beside his own
/// group on v2, which has processes, so that groups below it could have no limits.
fn parent(hierarchies: &Hierarchies) -> PathBuf {
    let own = hierarchies.v2().filter(|_| hierarchies.is_unified() && !geteuid().is_root());
    own.and_then(|hierarchy| hierarchy.own.parent()).unwrap_or(Path::new("/")).join("hoy")
}

/// Whether this process's root is not the machine's.
pub(crate) fn is_in_user_namespace() -> bool {
    !hoy_sys::user::in_initial_user_namespace().unwrap_or(true)
}
