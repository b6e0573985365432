//! Making, filling, emptying and removing the groups of one container.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use oci_spec::runtime::LinuxResources;

use crate::error::At;
use crate::hierarchy::{Hierarchies, Hierarchy};
use crate::limits::Write;
use crate::{Error, Result, device, limits};

/// The group of one container in every hierarchy where it has one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    /// Controllers, as in /proc/self/cgroup (empty for v2), to directory.
    pub directories: BTreeMap<String, PathBuf>,
    /// Those of them that were there before and are somebody else's.
    pub shared: BTreeSet<String>,
    /// What could not be done and was not asked for.
    pub warnings: Vec<String>,
}

impl Group {
    /// Makes the group `path` in every hierarchy and sets the limits of `resources`.
    ///
    /// Where this user may not make groups there is none, unless a limit was asked for. With `must_be_new` a group that
    /// is there is an error; otherwise it is joined, and stays when the container goes. With `device_rules` false
    /// device rules are left out: in a user namespace nobody may set them, and nobody can make devices.
    ///
    /// # Errors
    /// [`Error::Unavailable`] for a limit whose controller is missing or may not be used; nothing is left behind.
    pub fn create(
        hierarchies: &Hierarchies,
        path: &Path,
        resources: Option<&LinuxResources>,
        device_rules: bool,
        must_be_new: bool,
    ) -> Result<Self> {
        let v2 = hierarchies.is_unified();
        let writes = resources.map_or(Ok(Vec::new()), |resources| limits::plan(resources, v2))?;
        let mut group = Self::default();
        let made = group.make(hierarchies, path, &writes, must_be_new).and_then(|()| {
            group.limit(hierarchies, &writes)?;
            if device_rules { group.devices(hierarchies, resources) } else { Ok(()) }
        });
        match made {
            Ok(()) => Ok(group),
            Err(error) => {
                // The first failure is the one to tell; what was made a moment ago is empty.
                remove(&group.directories, &group.shared).unwrap_or_default();
                Err(error)
            }
        }
    }

    fn make(&mut self, hierarchies: &Hierarchies, path: &Path, writes: &[Write], must_be_new: bool) -> Result<()> {
        for hierarchy in hierarchies.iter() {
            let directory = hierarchy.directory(path);
            match make_directory(hierarchy, &directory, writes).and_then(|made| may_join(made, &directory)) {
                Ok(true) => {}
                Ok(false) if must_be_new => return Err(Error::Exists(directory)),
                Ok(false) => {
                    self.shared.insert(hierarchy.controllers.clone());
                }
                Err(Error::File { source, .. }) if is_refusal(&source) => {
                    let asked = |w: &&Write| hierarchies.is_unified() || has(hierarchy, &w.controller);
                    if let Some(write) = writes.iter().find(asked) {
                        let reason = format!("this user may not make \"{}\": {source}", directory.display());
                        return Err(Error::Unavailable { controller: write.controller.clone(), reason });
                    }
                    continue;
                }
                Err(error) => return Err(error),
            }
            self.directories.insert(hierarchy.controllers.clone(), directory);
        }
        Ok(())
    }

    fn directory(&self, hierarchies: &Hierarchies, controller: &str) -> Option<&PathBuf> {
        let v2 = hierarchies.v2().filter(|_| hierarchies.is_unified());
        let hierarchy = v2.or_else(|| hierarchies.v1(controller))?;
        self.directories.get(&hierarchy.controllers)
    }

    fn limit(&mut self, hierarchies: &Hierarchies, writes: &[Write]) -> Result<()> {
        for Write { controller, file, value } in writes {
            let unavailable =
                |reason: &str| Error::Unavailable { controller: controller.clone(), reason: reason.to_owned() };
            let directory = self.directory(hierarchies, controller);
            let directory = directory.ok_or_else(|| unavailable("this machine has no such controller"))?;
            let path = directory.join(file);
            match fs::write(&path, value) {
                Ok(()) => {}
                // Weights exist only with the bfq scheduler, and no runtime holds a container back for them.
                Err(error) if error.kind() == ErrorKind::NotFound && file.contains("weight") => {
                    self.warnings.push(format!("this kernel has no \"{file}\": the weight is left out"));
                }
                // A kernel without swap accounting cannot count it, and the memory limit holds without.
                Err(error) if error.kind() == ErrorKind::NotFound && is_swap(file) => {
                    self.warnings.push(format!("this kernel has no \"{file}\": the swap limit is left out"));
                }
                Err(error) if matches!(error.kind(), ErrorKind::NotFound) => {
                    return Err(unavailable(&format!("there is no \"{}\"", path.display())));
                }
                Err(error) => return Err(error).at("write", &path),
            }
        }
        Ok(())
    }

    fn devices(&self, hierarchies: &Hierarchies, resources: Option<&LinuxResources>) -> Result<()> {
        let rules = device::plan(resources.and_then(|r| r.devices().as_deref()).unwrap_or_default());
        let own = |hierarchy: &Hierarchy| {
            let directory = self.directories.get(&hierarchy.controllers);
            directory.filter(|_| !self.shared.contains(&hierarchy.controllers))
        };
        if let Some(hierarchy) = hierarchies.v1("devices") {
            let Some(directory) = own(hierarchy) else { return Ok(()) };
            for rule in rules {
                let path = directory.join(if rule.allow { "devices.allow" } else { "devices.deny" });
                fs::write(&path, rule.to_string()).at("write", &path)?;
            }
            return Ok(());
        }
        let Some(directory) = hierarchies.v2().and_then(own) else { return Ok(()) };
        let opened = fs::File::open(directory).at("open", directory)?;
        hoy_sys::bpf::load_device_program(&device::program(&rules))
            .and_then(|program| hoy_sys::bpf::attach_device_program(opened.as_fd(), program.as_fd()))
            .map_err(io::Error::from)
            .at("limit devices of", directory)
    }

    /// Puts the process `pid` into every group; `except_v2` where it was born in that one.
    ///
    /// # Errors
    /// Those of writing cgroup.procs.
    pub fn add(directories: &BTreeMap<String, PathBuf>, pid: i32, except_v2: bool) -> Result<()> {
        for (controllers, directory) in directories {
            if except_v2 && controllers.is_empty() {
                continue;
            }
            let path = directory.join("cgroup.procs");
            fs::write(&path, pid.to_string()).at("write", &path)?;
        }
        Ok(())
    }
}

/// Whether this user may put processes into a group that was there, as `made` says.
fn may_join(made: bool, directory: &Path) -> Result<bool> {
    use hoy_sys::rustix::fs::{Access, AtFlags, CWD, accessat};
    let procs = directory.join("cgroup.procs");
    if !made {
        accessat(CWD, &procs, Access::WRITE_OK, AtFlags::EACCESS).map_err(io::Error::from).at("join", directory)?;
    }
    Ok(made)
}

fn is_swap(file: &str) -> bool {
    matches!(file, "memory.memsw.limit_in_bytes" | "memory.swap.max")
}

fn has(hierarchy: &Hierarchy, controller: &str) -> bool {
    hierarchy.controllers.split(',').any(|name| name == controller)
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem | ErrorKind::NotFound)
}

/// Makes `directory` and what is missing above it; `false` when it was there.
fn make_directory(hierarchy: &Hierarchy, directory: &Path, writes: &[Write]) -> Result<bool> {
    // Somebody may remove an empty parent between the two steps.
    for _ in 0..16 {
        match fs::create_dir(directory) {
            Ok(()) => {
                prepare(hierarchy, directory, writes)?;
                return Ok(true);
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(false),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let parent = directory.parent().filter(|parent| *parent != hierarchy.mount);
                let parent = parent.ok_or(error).at("make", directory)?;
                make_directory(hierarchy, parent, writes)?;
            }
            Err(error) => return Err(error).at("make", directory),
        }
    }
    Err(io::Error::from(ErrorKind::NotFound)).at("make", directory)
}

/// A new group of v1's cpuset has no processors until it is told; one of v2 has the controllers its parent hands down.
fn prepare(hierarchy: &Hierarchy, directory: &Path, writes: &[Write]) -> Result<()> {
    let Some(parent) = directory.parent() else { return Ok(()) };
    if has(hierarchy, "cpuset") {
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let (from, to) = (parent.join(file), directory.join(file));
            let inherited = fs::read_to_string(&from).at("read", &from)?;
            fs::write(&to, inherited.trim_end()).at("write", &to)?;
        }
    }
    if hierarchy.is_v2() && !writes.is_empty() {
        let path = parent.join("cgroup.subtree_control");
        let enabled = fs::read_to_string(&path).at("read", &path)?;
        let available = fs::read_to_string(parent.join("cgroup.controllers")).unwrap_or_default();
        let wanted: BTreeSet<&str> = writes.iter().map(|w| w.controller.as_str()).collect();
        for name in wanted {
            let listed = |text: &str| text.split_whitespace().any(|n| n == name);
            if listed(&available) && !listed(&enabled) {
                fs::write(&path, format!("+{name}")).at("write", &path)?;
            }
        }
    }
    Ok(())
}

/// Whether the processes of the group are frozen.
pub fn is_frozen(directories: &BTreeMap<String, PathBuf>) -> bool {
    freezer(directories).is_some_and(|(path, frozen, _)| {
        fs::read_to_string(path).is_ok_and(|state| matches!(state.trim(), s if s == frozen || s == "FREEZING"))
    })
}

/// Freezes the processes of the group, or lets them go on.
///
/// # Errors
/// [`Error::Unavailable`] where the group has no freezer.
pub fn freeze(directories: &BTreeMap<String, PathBuf>, frozen: bool) -> Result<()> {
    let unavailable = || Error::Unavailable {
        controller: "freezer".to_owned(),
        reason: "the container has no control group with a freezer".to_owned(),
    };
    let (path, yes, no) = freezer(directories).ok_or_else(unavailable)?;
    fs::write(&path, if frozen { yes } else { no }).at("write", &path)?;
    // The kernel freezes one process after the other.
    for _ in 0..1000 {
        let state = fs::read_to_string(&path).at("read", &path)?;
        if state.trim() != "FREEZING" {
            break;
        }
        sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn freezer(directories: &BTreeMap<String, PathBuf>) -> Option<(PathBuf, &'static str, &'static str)> {
    let v1 = directories.iter().find(|(controllers, _)| controllers.split(',').any(|c| c == "freezer"));
    let v1 = v1.map(|(_, directory)| (directory.join("freezer.state"), "FROZEN", "THAWED"));
    v1.or_else(|| directories.get("").map(|directory| (directory.join("cgroup.freeze"), "1", "0")))
}

/// The processes in the group and below it.
///
/// # Errors
/// Those of reading cgroup.procs.
pub fn processes(directories: &BTreeMap<String, PathBuf>) -> Result<BTreeSet<i32>> {
    let mut pids = BTreeSet::new();
    let any = directories.get("").or_else(|| directories.values().next());
    if let Some(directory) = any {
        collect(directory, &mut pids)?;
    }
    Ok(pids)
}

fn collect(directory: &Path, pids: &mut BTreeSet<i32>) -> Result<()> {
    let path = directory.join("cgroup.procs");
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other.at("read", &path)?,
    };
    pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    for below in subdirectories(directory) {
        collect(&below, pids)?;
    }
    Ok(())
}

fn subdirectories(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().filter_map(io::Result::ok);
    entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

/// Kills every process of the group at once where the kernel can (cgroup.kill, Linux 5.14); `false` where it cannot.
pub fn kill_all(directories: &BTreeMap<String, PathBuf>) -> bool {
    directories.get("").is_some_and(|directory| fs::write(directory.join("cgroup.kill"), "1").is_ok())
}

/// Removes the group and those made below it; those in `shared` stay.
///
/// # Errors
/// `EBUSY` while processes are in it; the others are removed all the same.
pub fn remove(directories: &BTreeMap<String, PathBuf>, shared: &BTreeSet<String>) -> Result<()> {
    let mut failure = Ok(());
    for (_, directory) in directories.iter().filter(|(controllers, _)| !shared.contains(*controllers)) {
        if let Err(error) = remove_tree(directory) {
            failure = Err(error);
        }
        let parent = directory.parent().filter(|p| p.file_name().is_some_and(|name| name == "hoy"));
        if let Some(parent) = parent {
            // It is removed with its last container, and is busy until then.
            fs::remove_dir(parent).unwrap_or_default();
        }
    }
    failure
}

/// Where the group `path` is not there yet, as [`Group::directories`]: what making it would make.
pub fn missing(hierarchies: &Hierarchies, path: &Path) -> BTreeMap<String, PathBuf> {
    let directories = hierarchies.iter().map(|h| (h.controllers.clone(), h.directory(path)));
    directories.filter(|(_, directory)| !directory.exists()).collect()
}

fn remove_tree(directory: &Path) -> Result<()> {
    // A process that has just ended leaves its group a moment later.
    for attempt in 0..200 {
        match fs::remove_dir(directory) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == ErrorKind::ResourceBusy && attempt < 199 => {
                for below in subdirectories(directory) {
                    remove_tree(&below)?;
                }
                sleep(Duration::from_micros(200 << (attempt / 20).min(6)));
            }
            Err(error) => return Err(error).at("remove", directory),
        }
    }
    Ok(())
}
