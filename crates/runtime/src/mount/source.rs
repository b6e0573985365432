//! What binds show: trees of the caller's file system, opened before the container's process can lose sight of them.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use hoy_sys::mount::{MountAttr, attr, mount_setattr};
use hoy_sys::rustix::fs::readlink;
use hoy_sys::rustix::io::Errno;

use crate::Result;
use crate::error::Doing;
use crate::mount::idmap::Mapping;
use crate::mount::plan::{Kind, Link, MountPlan};
use crate::mount::tree;

/// Trees of the caller's file system, opened where the caller's paths mean what the caller meant.
pub(crate) struct Sources {
    /// The root file system.
    pub(crate) root: OwnedFd,
    /// Where that is.
    pub(crate) rootfs: PathBuf,
    /// One for each mount, in their order, where they are opened before their turn.
    pub(crate) binds: Vec<Source>,
    /// The user namespaces whose maps mounts have: made outside, where a process has the number that /proc knows.
    pub(crate) maps: Vec<Option<OwnedFd>>,
}

/// What was opened for a mount.
pub(crate) enum Source {
    /// Nothing: it is no bind, or its turn comes later.
    None,
    /// A detached copy of the tree.
    Tree(OwnedFd),
    /// Where the symlink leads that is to be made again.
    Link(CString),
}

impl Sources {
    /// Opens a detached copy of the root, and with `early` those of the sources of the binds among `mounts`.
    pub(crate) fn open(rootfs: &Path, bundle: &Path, mounts: &[MountPlan], early: bool) -> Result<Self> {
        let root = tree::copy_of_path(rootfs, true).doing(|| format!("open root \"{}\"", rootfs.display()))?;
        let maps = mounts.iter().map(map).collect::<Result<Vec<_>>>()?;
        let open = |(plan, map): (&_, &Option<OwnedFd>)| match open_bind(plan, bundle, map.as_ref()) {
            // It may be there when what comes before it is mounted.
            Err(error) if error.errno() == Some(Errno::NOENT) => Ok(Source::None),
            other => other,
        };
        let early = if early { mounts } else { &[] };
        let binds = early.iter().zip(&maps).map(open).collect::<Result<_>>()?;
        Ok(Self { root, rootfs: rootfs.to_owned(), binds, maps })
    }

    /// Maps the ids of what the container's process has opened for a mount.
    pub(crate) fn map(&self, mounts: &[MountPlan], number: usize, tree: BorrowedFd<'_>) -> Result<()> {
        let map = self.maps.get(number).and_then(Option::as_ref);
        mounts.get(number).map_or(Ok(()), |plan| map_ids(tree, plan, map))
    }
}

/// The user namespace that maps the ids of a bind.
fn map(plan: &MountPlan) -> Result<Option<OwnedFd>> {
    let idmap = plan.idmap.as_ref().filter(|_| matches!(plan.kind, Kind::Bind { .. }));
    let userns = idmap.map(|idmap| match &idmap.by {
        Mapping::Maps(uids, gids) => crate::namespace::userns::with_maps(uids, gids),
        Mapping::Namespace(path) => crate::device::open_host_path(path),
    });
    userns.transpose()
}

/// Opens the source of a bind where the caller's paths lead.
pub(crate) fn open_bind(plan: &MountPlan, bundle: &Path, map: Option<&OwnedFd>) -> Result<Source> {
    let Kind::Bind { source, recursive, link } = &plan.kind else { return Ok(Source::None) };
    let path = bundle.join(source);
    if *link == Link::Copy
        && let Ok(target) = readlink(&path, Vec::new())
    {
        return Ok(Source::Link(target));
    }
    let opened = match link {
        Link::Mount => tree::copy_of_link(&path, *recursive),
        Link::Follow | Link::Copy => tree::copy_of_path(&path, *recursive),
    };
    let doing = || format!("open \"{}\" to mount on \"{}\"", source.display(), plan.destination.display());
    let tree = opened.doing(doing)?;
    map_ids(tree.as_fd(), plan, map)?;
    Ok(Source::Tree(tree))
}

/// Maps the ids of a bind as it is to have them.
fn map_ids(tree: BorrowedFd<'_>, plan: &MountPlan, map: Option<&OwnedFd>) -> Result<()> {
    if let (Some(idmap), Some(userns)) = (&plan.idmap, map) {
        let change = MountAttr { set: attr::IDMAP, ..MountAttr::default() };
        mount_setattr(tree, idmap.recursive, change, Some(userns.as_fd()))
            .doing(|| format!("map ids of the source of \"{}\"", plan.destination.display()))?;
    }
    Ok(())
}
