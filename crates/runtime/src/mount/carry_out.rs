//! Carrying out the mounts that were planned, one after the other.

use std::borrow::Cow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use hoy_cgroup::Hierarchies;
use hoy_sys::mount::{MountAttr, attr, propagation};

use crate::channel::Channel;
use crate::error::Doing;
use crate::mount::plan::{Kind, Link, MountPlan};
use crate::mount::rootfs::propagate;
use crate::mount::source::{Source, Sources, open_bind};
use crate::mount::tree::{self, Root};
use crate::mount::{bind_attributes, cgroup, classic, copy_up, filesystem};
use crate::{Error, Result};

/// Mounts everything, in order: the kernel lists mounts in the order in which they were opened.
pub(crate) fn mount_all(
    root: &Root<'_>,
    mounts: &[MountPlan],
    sources: &Sources,
    bundle: &Path,
    channel: &Channel,
) -> Result<()> {
    // A bind opened by the caller is older than this namespace, and what it brings would be found first.
    let has_groups = mounts.iter().any(|plan| plan.kind == Kind::Cgroup);
    let hierarchies = if has_groups { Hierarchies::detect()? } else { Hierarchies::default() };
    let mount_one = |plan: &_, source: &_| mount_one(root, plan, source, &hierarchies);
    for (number, plan) in mounts.iter().enumerate() {
        let map = sources.maps.get(number).and_then(Option::as_ref);
        match sources.binds.get(number) {
            None => mount_one(plan, &open_bind(plan, bundle, map)?)?,
            Some(early) => match (open_inside(root, plan, &sources.rootfs, bundle)?, early) {
                (Some(tree), _) => {
                    if map.is_some() {
                        // Only the caller may map the ids of a file system that no user namespace of his has made.
                        channel.give_to_map(number, tree.as_fd())?;
                        channel.wait_go()?;
                    }
                    mount_one(plan, &Source::Tree(tree))?;
                }
                (None, Source::None) => mount_one(plan, &open_bind(plan, bundle, map)?)?,
                (None, early) => mount_one(plan, early)?,
            },
        }
    }
    Ok(())
}

/// Opens the source of a bind that lies in the root, with what is mounted there by now. This process may not be able to
/// walk to the root as the caller did: it walks from there.
fn open_inside(root: &Root<'_>, plan: &MountPlan, rootfs: &Path, bundle: &Path) -> Result<Option<OwnedFd>> {
    let Kind::Bind { source, recursive, link: Link::Follow } = &plan.kind else { return Ok(None) };
    let path = bundle.join(source);
    let Ok(inner) = path.strip_prefix(rootfs) else { return Ok(None) };
    if inner.components().any(|part| part == Component::ParentDir) {
        return Ok(None);
    }
    let found = root.find(&Path::new(".").join(inner))?;
    let tree = found.map(|found| tree::copy_of(found.as_fd(), *recursive)).transpose();
    tree.doing(|| format!("open \"{}\" to mount on \"{}\"", source.display(), plan.destination.display()))
}

fn mount_one(root: &Root<'_>, plan: &MountPlan, source: &Source, hierarchies: &Hierarchies) -> Result<()> {
    let destination = &plan.destination;
    let doing = || format!("mount on \"{}\"", destination.display());
    match (&plan.kind, source) {
        (Kind::Bind { .. }, Source::Tree(tree)) => {
            let target = match tree::is_directory(tree).doing(doing)? {
                _ if plan.is_on_link => root.link(destination)?,
                true => root.directory(destination)?,
                false => root.file(destination)?,
            };
            finish(tree.as_fd(), plan, true).doing(doing)?;
            tree::attach(tree.as_fd(), target.as_fd()).doing(doing)
        }
        (Kind::Bind { .. }, Source::Link(target)) => root.make_link(destination, target),
        (Kind::Bind { .. }, Source::None) => {
            Err(Error::Invalid(format!("mount on \"{}\" has no source", destination.display())))
        }
        (Kind::Remount { is_bind }, _) => {
            let there = root.directory(destination)?;
            let reconfigured = if *is_bind { Ok(()) } else { filesystem::reconfigure(there.as_fd(), plan) };
            let doing = || format!("remount \"{}\"", destination.display());
            reconfigured.and_then(|()| tree::set_attributes(there.as_fd(), false, plan.attr)).doing(doing)?;
            finish(there.as_fd(), plan, false).doing(doing)
        }
        (Kind::Filesystem { fstype, source }, _) => {
            let was_there = fstype == "tmpfs" && root.find(destination)?.is_some();
            let target = if matches!(fstype.as_str(), "proc" | "sysfs") {
                // A symlink there would put it somewhere else: every /proc path of the configuration means this one.
                root.plain_directory(destination)?
            } else {
                root.directory(destination)?
            };
            if classic::is_needed(plan) {
                let doing = || format!("mount {fstype} on \"{}\"", destination.display());
                classic::mount_on(target.as_fd(), fstype, source, plan).doing(doing)?;
                let there = root.directory(destination)?;
                tree::set_attributes(there.as_fd(), false, plan.attr).doing(doing)?;
                return finish(there.as_fd(), plan, false).doing(doing);
            }
            let plan = &at_first(plan, was_there.then_some(target.as_fd())).doing(doing)?;
            let made = filesystem::make_or_bind(fstype, source, plan);
            let tree = made.doing(|| format!("mount {fstype} on \"{}\"", destination.display()))?;
            finish(tree.as_fd(), plan, false).doing(doing)?;
            if plan.copy_up {
                copy_up::copy(target.as_fd(), tree.as_fd())
                    .doing(|| format!("copy up \"{}\"", destination.display()))?;
                let readonly = MountAttr { set: plan.attr.set & attr::RDONLY, ..MountAttr::default() };
                tree::set_attributes(tree.as_fd(), false, readonly).doing(doing)?;
            }
            tree::attach(tree.as_fd(), target.as_fd()).doing(doing)
        }
        (Kind::Cgroup, _) => cgroup::mount(root, plan, hierarchies),
    }
}

/// The plan of a file system as it is made: /dev is filled before it is read-only, and a tmpfs without a mode has that
/// of the directory that it covers, if that `was` there.
fn at_first<'a>(plan: &'a MountPlan, was: Option<BorrowedFd<'_>>) -> std::io::Result<Cow<'a, MountPlan>> {
    let mut plan = Cow::Borrowed(plan);
    if is_readonly_dev(&plan) {
        plan.to_mut().attr.set &= !attr::RDONLY;
    }
    if let Some(was) = was.filter(|_| !plan.data.iter().any(|(key, _)| key == "mode")) {
        let mode = hoy_sys::rustix::fs::fstat(was)?.st_mode & 0o7777;
        plan.to_mut().data.push(("mode".to_owned(), Some(format!("{mode:o}"))));
    }
    Ok(plan)
}

fn is_readonly_dev(plan: &MountPlan) -> bool {
    let is_new = matches!(plan.kind, Kind::Filesystem { .. });
    is_new && plan.attr.set & attr::RDONLY != 0 && tree::clean(&plan.destination) == Path::new("dev")
}

/// Makes /dev read-only where it is to be, now that it is filled.
pub(crate) fn seal_dev(root: &Root<'_>, mounts: &[MountPlan]) -> Result<()> {
    if mounts.iter().any(is_readonly_dev)
        && let Some(dev) = root.find(Path::new("/dev"))?
    {
        let change = MountAttr { set: attr::RDONLY, ..MountAttr::default() };
        tree::set_attributes(dev.as_fd(), false, change).doing(|| "make \"/dev\" read-only")?;
    }
    Ok(())
}

/// Attributes and propagation. A new file system has its own attributes from fsmount already.
pub(crate) fn finish(tree: BorrowedFd<'_>, plan: &MountPlan, is_bind: bool) -> std::io::Result<()> {
    if is_bind {
        bind_attributes::set(tree, &plan.bind)?;
    }
    tree::set_attributes(tree, true, plan.recursive)?;
    // A copy of a shared mount is its peer; unless asked otherwise, nothing goes either way.
    if is_bind && plan.propagation.is_empty() {
        propagate(tree, propagation::PRIVATE, true)?;
    }
    for (kind, recursive) in &plan.propagation {
        propagate(tree, *kind, *recursive)?;
    }
    Ok(())
}
