//! Carrying out the mounts: the root, what is mounted in it, and the way into it (pivot_root(2)).

use std::borrow::Cow;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use hoy_cgroup::Hierarchies;
use hoy_sys::mount::{MountAttr, attr, mount_setattr, propagation};
use hoy_sys::rustix::fs::{CWD, Mode, OFlags, openat, readlink};
use hoy_sys::rustix::io::Errno;
use hoy_sys::rustix::mount::{self, FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, UnmountFlags};
use hoy_sys::rustix::process;

use crate::channel::Channel;
use crate::error::Doing;
use crate::mount_plan::{Kind, Link, Mapping, MountPlan, SOMETIMES};
use crate::tree::{self, Root};
use crate::{Error, Result, bind_attributes, cgroup_mount, classic_mount, shared_mounts};

/// Trees of the caller's file system, opened where the caller's paths mean what the caller meant.
pub(crate) struct Sources {
    /// The root file system.
    pub(crate) root: OwnedFd,
    /// Where that is.
    rootfs: PathBuf,
    /// One for each mount, in their order, where they are opened before their turn.
    pub(crate) binds: Vec<Source>,
    /// The user namespaces whose maps mounts have: made outside, where a process has the number that /proc knows.
    maps: Vec<Option<OwnedFd>>,
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
        Mapping::Maps(uids, gids) => crate::userns::with_maps(uids, gids),
        Mapping::Namespace(path) => crate::device::open_host_path(path),
    });
    userns.transpose()
}

fn open_bind(plan: &MountPlan, bundle: &Path, map: Option<&OwnedFd>) -> Result<Source> {
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

/// The value of `linux.rootfsPropagation`.
fn root_propagation(text: Option<&str>) -> Result<(u64, bool)> {
    Ok(match text {
        None | Some("" | "rslave" | "slave") => (propagation::SLAVE, true),
        Some("private" | "rprivate") => (propagation::PRIVATE, true),
        Some("shared" | "rshared") => (propagation::SHARED, true),
        Some("unbindable" | "runbindable") => (propagation::UNBINDABLE, true),
        Some(other) => return Err(Error::Invalid(format!("rootfsPropagation \"{other}\" is not known"))),
    })
}

fn propagate(mount: BorrowedFd<'_>, kind: u64, recursive: bool) -> std::io::Result<()> {
    Ok(mount_setattr(mount, recursive, MountAttr { propagation: kind, ..MountAttr::default() }, None)?)
}

/// Attaches the root in this namespace, so that it can become the root itself: where it comes from, so that sources of
/// later binds that lie in it are seen with what is mounted there, or else over `/`.
///
/// Mounts made here do not reach the host, and with the default propagation the host's reach here.
///
/// Others in a mount namespace that `is_joined` keep the propagation they have.
pub(crate) fn attach_root(
    root: BorrowedFd<'_>,
    place: Option<&Path>,
    rootfs_propagation: Option<&str>,
    is_joined: bool,
) -> Result<()> {
    let (kind, recursive) = root_propagation(rootfs_propagation)?;
    let here = open_here("/")?;
    let host = if kind == propagation::PRIVATE { kind } else { propagation::SLAVE };
    if !is_joined {
        propagate(here.as_fd(), host, true).doing(|| "change propagation of \"/\"")?;
    }
    // A shared tree would send what is mounted in it to its peers on the host.
    propagate(root, host, recursive).doing(|| "change propagation of the root")?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // Root of a user namespace may not be able to walk there, and a namespace that is joined may not have it.
    let place = place.and_then(|path| openat(CWD, path, flags, Mode::empty()).ok()).unwrap_or(here);
    tree::attach(root, place.as_fd()).doing(|| "attach the root")
}

fn open_here(path: &str) -> Result<OwnedFd> {
    openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).doing(|| format!("open \"{path}\""))
}

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
            let reconfigured = if *is_bind { Ok(()) } else { reconfigure(there.as_fd(), plan) };
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
            if classic_mount::is_needed(plan) {
                let doing = || format!("mount {fstype} on \"{}\"", destination.display());
                classic_mount::mount_on(target.as_fd(), fstype, source, plan).doing(doing)?;
                let there = root.directory(destination)?;
                tree::set_attributes(there.as_fd(), false, plan.attr).doing(doing)?;
                return finish(there.as_fd(), plan, false).doing(doing);
            }
            let plan = &at_first(plan, was_there.then_some(target.as_fd())).doing(doing)?;
            let made = match new_filesystem(fstype, source, plan) {
                Err(error) if may_be_bound(fstype, &error) => bound_instead(fstype, plan).map_err(|_| error),
                other => other,
            };
            let tree = made.doing(|| format!("mount {fstype} on \"{}\"", destination.display()))?;
            finish(tree.as_fd(), plan, false).doing(doing)?;
            if plan.copy_up {
                copy_up(target.as_fd(), tree.as_fd()).doing(|| format!("copy up \"{}\"", destination.display()))?;
                let readonly = MountAttr { set: plan.attr.set & attr::RDONLY, ..MountAttr::default() };
                tree::set_attributes(tree.as_fd(), false, readonly).doing(doing)?;
            }
            tree::attach(tree.as_fd(), target.as_fd()).doing(doing)
        }
        (Kind::Cgroup, _) => cgroup_mount::mount(root, plan, hierarchies),
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

/// Makes a new file system, attached nowhere.
///
/// The group `tty` of a terminal is a convenience: where its id is not mapped, terminals have the user's group.
pub(crate) fn new_filesystem(fstype: &str, source: &str, plan: &MountPlan) -> std::io::Result<OwnedFd> {
    let has_group = fstype == "devpts" && plan.data.iter().any(|(key, _)| key == "gid");
    match make_filesystem(fstype, source, plan) {
        Err(_) if has_group => {
            let mut plan = plan.clone();
            plan.data.retain(|(key, _)| key != "gid");
            make_filesystem(fstype, source, &plan)
        }
        other => other,
    }
}

fn make_filesystem(fstype: &str, source: &str, plan: &MountPlan) -> std::io::Result<OwnedFd> {
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
fn reconfigure(there: BorrowedFd<'_>, plan: &MountPlan) -> std::io::Result<()> {
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

/// Copies the directory `from` into the new file system `to`: the option `tmpcopyup`.
fn copy_up(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> std::io::Result<()> {
    use hoy_sys::rustix::fs::{AtFlags, Dir, FileType, statat};
    let open = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let source = openat(from, ".", open, Mode::empty())?;
    let target = openat(to, ".", open, Mode::empty())?;
    for entry in Dir::read_from(&source)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = statat(&source, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                hoy_sys::rustix::fs::mkdirat(&target, name, mode)?;
                let below = openat(&source, name, open, Mode::empty())?;
                let made = openat(&target, name, open, Mode::empty())?;
                copy_up(below.as_fd(), made.as_fd())?;
            }
            FileType::Symlink => {
                let link = hoy_sys::rustix::fs::readlinkat(&source, name, Vec::new())?;
                hoy_sys::rustix::fs::symlinkat(link, &target, name)?;
            }
            FileType::RegularFile => {
                let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
                let write = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let mut reader = std::fs::File::from(openat(&source, name, read, Mode::empty())?);
                let mut writer = std::fs::File::from(openat(&target, name, write, mode)?);
                std::io::copy(&mut reader, &mut writer)?;
            }
            other => hoy_sys::rustix::fs::mknodat(&target, name, other, mode, stat.st_rdev)?,
        }
        let (uid, gid) = (process::Uid::from_raw(stat.st_uid), process::Gid::from_raw(stat.st_gid));
        hoy_sys::rustix::fs::chownat(&target, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        if !FileType::from_raw_mode(stat.st_mode).is_symlink() {
            // A change of owner takes set-id bits away.
            hoy_sys::rustix::fs::chmodat(&target, name, mode, AtFlags::empty())?;
        }
    }
    Ok(())
}

/// Makes `root` this process's `/` and lets the old one go.
pub(crate) fn enter(root: BorrowedFd<'_>, no_pivot: bool) -> Result<()> {
    if no_pivot {
        return shared_mounts::enter(root);
    }
    process::fchdir(root).doing(|| "enter the root")?;
    // The old root is stacked on the new one and comes off again: pivot_root(2) NOTES.
    process::pivot_root(".", ".").doing(|| "pivot the root")?;
    mount::unmount(".", UnmountFlags::DETACH).doing(|| "unmount the old root")?;
    process::chdir("/").doing(|| "enter \"/\"")
}

/// The last changes to the root mount itself.
pub(crate) fn seal(root: BorrowedFd<'_>, readonly: bool, rootfs_propagation: Option<&str>) -> Result<()> {
    if readonly {
        let change = MountAttr { set: attr::RDONLY, ..MountAttr::default() };
        tree::set_attributes(root, false, change).doing(|| "make the root read-only")?;
    }
    let (kind, recursive) = root_propagation(rootfs_propagation)?;
    if matches!(kind, propagation::SHARED | propagation::UNBINDABLE) {
        propagate(root, kind, recursive).doing(|| "change propagation of the root")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn propagations() {
        assert_eq!(root_propagation(None).unwrap(), (propagation::SLAVE, true));
        assert_eq!(root_propagation(Some("private")).unwrap(), (propagation::PRIVATE, true));
        assert!(root_propagation(Some("sideways")).is_err());
    }
}
