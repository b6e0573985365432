//! The mount type `cgroup`: the control groups as the host has them, v2, v1 or both.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use hoy_cgroup::{Hierarchies, Hierarchy};
use hoy_sys::mount::{MountAttr, attr};
use hoy_sys::rustix::fs::{self, Mode};
use hoy_sys::rustix::io::Errno;
use hoy_sys::user::is_initial_root;

use crate::Result;
use crate::error::Doing;
use crate::mount::filesystem;
use crate::mount::plan::MountPlan;
use crate::mount::tree::{self, Root};
use crate::process::program::warn;

/// Mounts `hierarchies` on `plan.destination`.
pub(crate) fn mount(root: &Root<'_>, plan: &MountPlan, hierarchies: &Hierarchies) -> Result<()> {
    if hierarchies.iter().next().is_none() {
        let point = plan.destination.display();
        warn(&format!("there are no control groups here: nothing is mounted on \"{point}\""));
        return Ok(());
    }
    let target = root.directory(&plan.destination)?;
    let doing = || format!("mount cgroup on \"{}\"", plan.destination.display());
    if let Some(v2) = hierarchies.v2().filter(|_| hierarchies.iter().count() == 1) {
        let tree = hierarchy_tree(v2, plan)?;
        return tree::attach(tree.as_fd(), target.as_fd()).doing(doing);
    }
    // A directory of hierarchies: the parts go in first, then it becomes what was asked for.
    let mut directory = plan.clone();
    directory.attr = MountAttr { set: plan.attr.set & !attr::RDONLY, ..plan.attr };
    directory.data = vec![("mode".to_owned(), Some("755".to_owned()))];
    let top = filesystem::make("tmpfs", "cgroup", &directory).doing(doing)?;
    tree::attach(top.as_fd(), target.as_fd()).doing(doing)?;
    for hierarchy in hierarchies.iter() {
        let name = hierarchy.name();
        fs::mkdirat(&top, name, Mode::from_raw_mode(0o755)).doing(doing)?;
        let below = Root(top.as_fd()).plain_directory(Path::new(name))?;
        let tree = hierarchy_tree(hierarchy, plan)?;
        tree::attach(tree.as_fd(), below.as_fd()).doing(doing)?;
        for part in hierarchy.controllers.split(',').filter(|part| *part != hierarchy.controllers) {
            fs::symlinkat(name, &top, part).doing(doing)?;
        }
    }
    let readonly = MountAttr { set: plan.attr.set & attr::RDONLY, ..MountAttr::default() };
    tree::set_attributes(top.as_fd(), false, readonly).doing(doing)
}

/// The hierarchy as the container's cgroup namespace shows it; without one, the container's own group of it.
fn hierarchy_tree(hierarchy: &Hierarchy, plan: &MountPlan) -> Result<OwnedFd> {
    let mut plan = plan.clone();
    let fstype = if hierarchy.is_v2() { "cgroup2" } else { "cgroup" };
    plan.data = if hierarchy.is_v2() {
        Vec::new()
    } else if hierarchy.controllers.starts_with("name=") {
        vec![("none".to_owned(), None), ("name".to_owned(), Some(hierarchy.name().to_owned()))]
    } else {
        hierarchy.controllers.split(',').map(|name| (name.to_owned(), None)).collect()
    };
    let in_namespace = hierarchy.own == Path::new("/") && hierarchy.root != Path::new("/");
    let doing = || format!("mount cgroup \"{}\"", hierarchy.name());
    if in_namespace {
        match filesystem::make(fstype, "cgroup", &plan) {
            Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::PERM | Errno::BUSY)) => {}
            other => return other.doing(doing),
        }
    }
    let own: PathBuf = hierarchy.directory(&hierarchy.own);
    let tree = tree::copy_of_path(&own, true).doing(doing)?;
    let mut change = plan.attr;
    if !in_namespace && !is_initial_root() {
        // Root of a user namespace is the caller on the host, whose groups these are. The machine's own root has what
        // he asks for: his container's group alone.
        change.set |= attr::RDONLY;
        change.clear &= !attr::RDONLY;
    }
    tree::set_attributes(tree.as_fd(), true, change).doing(doing)?;
    Ok(tree)
}
