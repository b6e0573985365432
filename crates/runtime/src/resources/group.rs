//! The control group of a container: where it is, and whether there is one.

use std::collections::{BTreeMap, HashMap};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use hoy_cgroup::{Existing, Group, Hierarchies, Settings, Systemd, Unit};
use hoy_sys::rustix::process::geteuid;

use crate::config::Config;
use crate::container::Container;
use crate::process::program;
use crate::{Error, Result};

/// Who makes control groups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CgroupManager {
    /// This program, in the file system.
    #[default]
    Cgroupfs,
    /// systemd, which is asked for a unit.
    Systemd,
    /// Nobody: the container stays in its caller's.
    Disabled,
}

/// The unit that systemd is to be asked for.
pub(crate) fn plan_unit(container: &Container, config: &Config, manager: CgroupManager) -> Result<Option<Unit>> {
    if manager != CgroupManager::Systemd {
        return Ok(None);
    }
    let path = config.linux().cgroups_path().as_ref().map(|path| path.to_string_lossy().into_owned());
    Ok(Some(Unit::parse(path.as_deref(), container.id(), is_users())?))
}

/// Has systemd make the unit with the process `pid`, and sets what systemd has no property for.
pub(crate) fn start_unit(unit: &Unit, container: &Container, config: &Config, pid: i32) -> Result<Group> {
    let hierarchies = Hierarchies::detect()?;
    let resources = config.linux().resources().as_ref();
    let none = HashMap::new();
    let device_rules = !is_users();
    let v2 = hierarchies.is_unified();
    let annotations = config.spec.annotations().as_ref().unwrap_or(&none);
    let settings = Settings { resources, annotations, device_rules, v2 };
    let path = Systemd::connect(is_users())?.start(unit, container.id(), pid, &settings)?;
    container.note_groups(&hoy_cgroup::missing(&hierarchies, &path))?;
    Ok(Group::create(&hierarchies, &path, resources, device_rules, Existing::Own)?)
}

/// Puts another process of the unit `unit` into its groups.
pub(crate) fn join(directories: &BTreeMap<String, PathBuf>, unit: &str, pid: i32) -> Result<()> {
    match Group::add(directories, pid, false) {
        // Between two groups of a user is one that is not his: systemd may move a process all the same.
        Err(hoy_cgroup::Error::File { source, .. }) if source.kind() == ErrorKind::PermissionDenied => {
            Ok(Systemd::connect(is_users())?.attach(unit, pid)?)
        }
        other => Ok(other?),
    }
}

/// Stops the unit `name`, if it is still there.
pub(crate) fn stop_unit(name: &str) -> Result<()> {
    Ok(Systemd::connect(is_users())?.stop(name)?)
}

/// Whether units belong to a user's systemd and not to the machine's.
pub(crate) fn is_users() -> bool {
    !geteuid().is_root() || is_in_user_namespace()
}

/// Makes the container's group, or none where `rootless` says that none is needed and no limit is asked for.
pub(crate) fn make_group(
    container: &Container,
    config: &Config,
    in_userns: bool,
    rootless: Option<bool>,
    manager: CgroupManager,
) -> Result<Group> {
    let resources = config.linux().resources().as_ref();
    let needs_none =
        resources.map_or(Ok(true), |resources| hoy_cgroup::plan(resources, true).map(|plan| plan.is_empty()));
    if manager == CgroupManager::Disabled {
        if !needs_none.unwrap_or(false) {
            program::warn("control groups are disabled: the limits in linux.resources are left out");
        }
        return Ok(Group::default());
    }
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
        check_unused(&hierarchies, path)?;
        container.note_groups(&hoy_cgroup::missing(&hierarchies, path))?;
        return Ok(Group::create(&hierarchies, path, resources, rules, Existing::Join)?);
    }
    let parent = parent(&hierarchies);
    // The id is this state directory's; another may have it too, and its group is not for this container.
    let mut number = 0;
    loop {
        let name = if number == 0 { container.id().to_owned() } else { format!("{}-{number}", container.id()) };
        let path = parent.join(name);
        // Noted first, so that it can be removed should this process die before the state is written.
        container.note_groups(&hoy_cgroup::missing(&hierarchies, &path))?;
        match Group::create(&hierarchies, &path, resources, rules, Existing::Refuse) {
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

/// Checks of a group that is there already that no process is in it, and none would be stopped on entering it.
fn check_unused(hierarchies: &Hierarchies, path: &Path) -> Result<()> {
    let places = hierarchies.iter().map(|hierarchy| (hierarchy.controllers.clone(), hierarchy.directory(path)));
    for (controllers, directory) in places.filter(|(_, directory)| directory.is_dir()) {
        let alone = BTreeMap::from([(controllers, directory.clone())]);
        let count = hoy_cgroup::processes(&alone)?.len();
        let refused = |reason: &str| {
            Err(Error::Invalid(format!("container's cgroup {reason}: \"{}\" is another's", directory.display())))
        };
        if count > 0 {
            return refused("is not empty");
        }
        if hoy_cgroup::is_frozen(&alone) {
            return refused("unexpectedly frozen");
        }
    }
    Ok(())
}

/// Whether this process's root is not the machine's.
pub(crate) fn is_in_user_namespace() -> bool {
    !hoy_sys::user::in_initial_user_namespace().unwrap_or(true)
}
