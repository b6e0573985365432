//! Making, filling, emptying and removing the groups of one container.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;

use crate::error::{At, put};
use crate::hierarchy::{Hierarchies, Hierarchy};
use crate::limits::Write;
use crate::removal::remove;
use crate::{Error, Result, apply, delegate, device, limits};

/// What becomes of a group that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It is an error.
    Refuse,
    /// The container joins it, and it stays when the container goes.
    Join,
    /// It was made for this container: it is limited, and removed with it.
    Own,
}

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
    /// Where this user may not make groups there is none, unless a limit was asked for. With `device_rules` false device
    /// rules are left out: in a user namespace nobody may set them, and nobody can make devices.
    ///
    /// # Errors
    /// [`Error::Unavailable`] for a limit whose controller is missing or may not be used; nothing is left behind.
    pub fn create(
        hierarchies: &Hierarchies,
        path: &Path,
        resources: Option<&LinuxResources>,
        device_rules: bool,
        existing: Existing,
    ) -> Result<Self> {
        let v2 = hierarchies.is_unified();
        let writes = resources.map_or(Ok(Vec::new()), |resources| limits::plan(resources, v2))?;
        let mut group = Self::default();
        let made = group.make(hierarchies, path, &writes, existing).and_then(|()| {
            group.warnings = apply::write_all(&group.directories, &writes)?;
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

    fn make(&mut self, hierarchies: &Hierarchies, path: &Path, writes: &[Write], existing: Existing) -> Result<()> {
        for hierarchy in hierarchies.iter() {
            let directory = hierarchy.directory(path);
            let made = make_directory(hierarchy, &directory);
            match made.and_then(|made| if existing == Existing::Join { may_join(made, &directory) } else { Ok(made) }) {
                Ok(true) => {}
                Ok(false) if existing == Existing::Refuse => return Err(Error::Exists(directory)),
                Ok(false) if existing == Existing::Own => {}
                Ok(false) => {
                    self.shared.insert(hierarchy.controllers.clone());
                }
                Err(Error::File { source, .. }) if is_refusal(&source) => {
                    let asked = |w: &&Write| hierarchies.is_unified() || has(hierarchy, &w.controller);
                    if let Some(write) = writes.iter().find(asked) {
                        let reason =
                            format!("this user may not make \"{}\": use --systemd-cgroup", directory.display());
                        return Err(Error::Unavailable { controller: write.controller.clone(), reason });
                    }
                    continue;
                }
                Err(error) => return Err(error),
            }
            // Noted first: what fails after this is taken back.
            let directory = self.directories.entry(hierarchy.controllers.clone()).insert_entry(directory).into_mut();
            if hierarchy.is_v2() && hierarchies.is_unified() {
                delegate::hand_down(&hierarchy.mount, directory, &delegate::controllers(writes))?;
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
            let open = |name: &str| {
                let path = directory.join(name);
                let file = fs::File::options().write(true).open(&path).at("open", &path)?;
                Ok((path, file))
            };
            let (allow, deny) = (open("devices.allow")?, open("devices.deny")?);
            for rule in device::plan_v1(&rules)? {
                let (path, file) = if rule.allow { &allow } else { &deny };
                (&mut &*file).write_all(rule.to_string().as_bytes()).at("write", path)?;
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
            put(&path, &pid.to_string()).at("write", &path)?;
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

fn has(hierarchy: &Hierarchy, controller: &str) -> bool {
    hierarchy.controllers.split(',').any(|name| name == controller)
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem | ErrorKind::NotFound)
}

/// Makes `directory` and what is missing above it; `false` when it was there.
fn make_directory(hierarchy: &Hierarchy, directory: &Path) -> Result<bool> {
    // Somebody may remove an empty parent between the two steps.
    for _ in 0..16 {
        match fs::create_dir(directory) {
            Ok(()) => {
                if has(hierarchy, "cpuset") {
                    ["cpuset.cpus", "cpuset.mems"].iter().try_for_each(|file| inherit(directory, file).map(drop))?;
                }
                return Ok(true);
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(false),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let parent = directory.parent().filter(|parent| *parent != hierarchy.mount);
                let parent = parent.ok_or(error).at("make", directory)?;
                make_directory(hierarchy, parent)?;
            }
            Err(error) => return Err(error).at("make", directory),
        }
    }
    Err(io::Error::from(ErrorKind::NotFound)).at("make", directory)
}

/// Gives a group of v1's cpuset that has no processors, or no memory, those of the group above.
fn inherit(directory: &Path, file: &str) -> Result<String> {
    let Some(parent) = directory.parent() else { return Ok(String::new()) };
    let from = parent.join(file);
    let mut inherited = fs::read_to_string(&from).at("read", &from)?;
    if inherited.trim_end().is_empty() {
        inherited = inherit(parent, file)?;
    }
    let path = directory.join(file);
    put(&path, inherited.trim_end()).at("write", &path)?;
    Ok(inherited)
}
