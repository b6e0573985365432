//! Devices, the links of /dev, masked and read-only paths (runtime-spec config-linux.md).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use hoy_sys::mount::{MountAttr, attr};
use hoy_sys::path::open_beneath;
use hoy_sys::rustix::fs::{self, AtFlags, CWD, FileType, Mode, OFlags};
use hoy_sys::rustix::io::Errno;
use hoy_sys::rustix::mount::{self, FsMountFlags, FsOpenFlags, MountAttrFlags};
use hoy_sys::rustix::process::{Gid, Uid};
use oci_spec::runtime::{Linux, LinuxDevice, LinuxDeviceType};

use crate::error::Doing;
use crate::mount::tree::{self, Root};
use crate::process::label;
use crate::{Error, Result};

/// What every container has (config-linux.md "Default Devices"): name, major, minor.
const DEFAULT: &[(&str, u32, u32)] =
    &[("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Links in /dev that programs expect (config-linux.md "Dev symbolic links").
const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// A device to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) path: PathBuf,
    kind: FileType,
    major: u32,
    minor: u32,
    mode: u32,
    uid: u32,
    gid: u32,
}

/// The devices of the configuration and those that every container has.
pub(crate) fn plan(devices: &[LinuxDevice]) -> Result<Vec<Device>> {
    let mut all = devices.iter().map(device).collect::<Result<Vec<_>>>()?;
    for (name, major, minor) in DEFAULT {
        let path = Path::new("/dev").join(name);
        if !all.iter().any(|device| device.path == path) {
            let (kind, mode) = (FileType::CharacterDevice, 0o666);
            all.push(Device { path, kind, major: *major, minor: *minor, mode, uid: 0, gid: 0 });
        }
    }
    Ok(all)
}

fn device(device: &LinuxDevice) -> Result<Device> {
    let kind = match device.typ() {
        LinuxDeviceType::B => FileType::BlockDevice,
        LinuxDeviceType::C | LinuxDeviceType::U => FileType::CharacterDevice,
        LinuxDeviceType::P => FileType::Fifo,
        LinuxDeviceType::A => {
            return Err(Error::Invalid(format!("device \"{}\" has no type", device.path().display())));
        }
    };
    let (uid, gid) = (device.uid().unwrap_or(0), device.gid().unwrap_or(0));
    if let Some(id) = [uid, gid].into_iter().find(|id| *id == u32::MAX) {
        return Err(Error::Invalid(format!("device \"{}\": {id} is nobody's id", device.path().display())));
    }
    let number = |n: i64| u32::try_from(n).map_err(|_| Error::Invalid(format!("device number {n} is out of range")));
    Ok(Device {
        path: device.path().clone(),
        kind,
        major: number(device.major())?,
        minor: number(device.minor())?,
        mode: device.file_mode().unwrap_or(0o666) & 0o7777,
        uid,
        gid,
    })
}

/// Opens the caller's device of each path, for where no device can be made; one that is not there is `None`.
pub(crate) fn open_host(devices: &[Device]) -> Vec<Option<OwnedFd>> {
    devices.iter().map(|device| tree::copy_of_path(&device.path, false).ok()).collect()
}

/// Makes the devices, or puts the caller's there where `host` has them.
pub(crate) fn make_all(root: &Root<'_>, devices: &[Device], host: Option<&[Option<OwnedFd>]>) -> Result<()> {
    for (at, device) in devices.iter().enumerate() {
        // Anybody may make a fifo.
        let host = host.filter(|_| device.kind != FileType::Fifo);
        let bound = host.map(|host| host.get(at).and_then(Option::as_ref));
        let doing = || format!("make device \"{}\"", device.path.display());
        match bound {
            None => match make(root, device) {
                // Root without CAP_MKNOD has what there is.
                Err(error) if error.errno() == Some(Errno::PERM) => match tree::copy_of_path(&device.path, false) {
                    Ok(tree) => bind(root, device, &tree)?,
                    Err(_) => return Err(error),
                },
                other => other?,
            },
            Some(Some(tree)) => bind(root, device, tree)?,
            Some(None) => {
                let reason = "a user namespace can only be given devices that the caller has, and there is none";
                return Err(Error::Invalid(format!("{}: {reason}", doing())));
            }
        }
    }
    Ok(())
}

/// Puts the caller's device there.
fn bind(root: &Root<'_>, device: &Device, tree: &OwnedFd) -> Result<()> {
    let doing = || format!("make device \"{}\"", device.path.display());
    if !same_device(tree.as_fd(), device) {
        let numbers = format!("{}:{}", device.major, device.minor);
        return Err(Error::Invalid(format!("{}: the caller's is not the device {numbers}", doing())));
    }
    let target = root.file(&device.path)?;
    if same_device(target.as_fd(), device) {
        return Ok(());
    }
    tree::attach(tree.as_fd(), target.as_fd()).doing(doing)
}

fn same_device(fd: BorrowedFd<'_>, device: &Device) -> bool {
    fs::fstat(fd).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == device.kind && stat.st_rdev == fs::makedev(device.major, device.minor)
    })
}

fn make(root: &Root<'_>, device: &Device) -> Result<()> {
    let doing = || format!("make device \"{}\"", device.path.display());
    let (parent, name) = root.parent(&device.path)?;
    let number = fs::makedev(device.major, device.minor);
    match fs::mknodat(&parent, &name, device.kind, Mode::from_raw_mode(device.mode), number) {
        Ok(()) => {}
        Err(Errno::EXIST) => {
            let there = open_beneath(&parent, &name, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()).doing(doing)?;
            if same_device(there.as_fd(), device) {
                return Ok(());
            }
            return Err(Error::Invalid(format!("{}: something else is there", doing())));
        }
        Err(errno) => return Err(errno).doing(doing),
    }
    if (device.uid, device.gid) != (0, 0) {
        let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
        fs::chownat(&parent, &name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).doing(doing)?;
    }
    Ok(())
}

/// Makes the links of /dev; what the image has at those names stays.
pub(crate) fn link_all(root: &Root<'_>) -> Result<()> {
    let dev = root.directory(Path::new("/dev"))?;
    for (name, target) in LINKS {
        link(dev.as_fd(), name, target)?;
    }
    if root.find(Path::new("/proc/kcore"))?.is_some() {
        link(dev.as_fd(), "core", "/proc/kcore")?;
    }
    let is_terminals = |fd: OwnedFd| fs::fstatfs(fd).is_ok_and(|stat| stat.f_type == DEVPTS_MAGIC);
    if root.find(Path::new("/dev/pts"))?.is_some_and(is_terminals) {
        tree::unlink(dev.as_fd(), Path::new("ptmx")).doing(|| "remove \"/dev/ptmx\"")?;
        link(dev.as_fd(), "ptmx", "pts/ptmx")?;
    }
    Ok(())
}

/// DEVPTS_SUPER_MAGIC
pub(crate) const DEVPTS_MAGIC: fs::FsWord = 0x1cd1;

fn link(dev: BorrowedFd<'_>, name: &str, target: &str) -> Result<()> {
    match fs::symlinkat(target, dev, name) {
        Err(Errno::EXIST) => Ok(()),
        other => other.doing(|| format!("link \"/dev/{name}\"")),
    }
}

/// Opens a detached copy of the caller's /dev/null, known to be that device.
pub(crate) fn null() -> Result<OwnedFd> {
    let tree = tree::copy_of_path(Path::new("/dev/null"), false).doing(|| "open \"/dev/null\"")?;
    if !tree::is_character_device(&tree, 1, 3) {
        return Err(Error::Invalid("\"/dev/null\" is not the null device".to_owned()));
    }
    Ok(tree)
}

/// Hides the masked paths: a file under the null device, a directory under one empty read-only directory that all share.
pub(crate) fn mask(root: &Root<'_>, linux: &Linux, null: &OwnedFd) -> Result<()> {
    let paths = linux.masked_paths().as_deref().unwrap_or_default();
    let mut empty: Option<OwnedFd> = None;
    let mut null_attached: Option<OwnedFd> = None;
    for (at, path) in paths.iter().enumerate() {
        if paths.iter().take(at).any(|before| before == path) {
            continue;
        }
        let Some(target) = root.find(Path::new(path))? else { continue };
        let doing = || format!("mask \"{path}\"");
        if tree::is_directory(&target).doing(doing)? {
            cover(&mut empty, || empty_directory(linux), target.as_fd()).doing(doing)?;
        } else {
            cover(&mut null_attached, || null.try_clone(), target.as_fd()).doing(doing)?;
        }
    }
    Ok(())
}

/// Attaches the tree that `make` gives, or a copy of it: only what is attached here can be copied here.
fn cover(
    attached: &mut Option<OwnedFd>,
    make: impl FnOnce() -> std::io::Result<OwnedFd>,
    target: BorrowedFd<'_>,
) -> std::io::Result<()> {
    if let Some(first) = attached {
        return tree::attach(tree::copy_of(first.as_fd(), false)?.as_fd(), target);
    }
    let tree = make()?;
    tree::attach(tree.as_fd(), target)?;
    *attached = Some(tree);
    Ok(())
}

fn empty_directory(linux: &Linux) -> std::io::Result<OwnedFd> {
    let context = mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    mount::fsconfig_set_string(context.as_fd(), "nr_inodes", "1")?;
    mount::fsconfig_set_string(context.as_fd(), "mode", "755")?;
    if let Some((key, Some(label))) = label::mount_option(linux, "tmpfs") {
        mount::fsconfig_set_string(context.as_fd(), key, label)?;
    }
    mount::fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Ok(mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Makes `paths` read-only, with what is mounted below them.
pub(crate) fn make_readonly(root: &Root<'_>, paths: &[String]) -> Result<()> {
    for path in paths {
        let Some(target) = root.find(Path::new(path))? else { continue };
        let change = MountAttr { set: attr::RDONLY, ..MountAttr::default() };
        tree::copy_of(target.as_fd(), true)
            .and_then(|copy| {
                tree::set_attributes(copy.as_fd(), true, change)?;
                tree::attach(copy.as_fd(), target.as_fd())
            })
            .doing(|| format!("make \"{path}\" read-only"))?;
    }
    Ok(())
}

/// Opens `path` of the caller's file system for reading, waiting for nobody: a FIFO opens at once.
pub(crate) fn open_host_path(path: &Path) -> Result<OwnedFd> {
    fs::openat(CWD, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())
        .doing(|| format!("open \"{}\"", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_comes_before_the_defaults() {
        let json = r#"[{"path":"/dev/null","type":"c","major":1,"minor":3,"fileMode":384,"uid":5},
            {"path":"/dev/pipe","type":"p","major":0,"minor":0}]"#;
        let planned = plan(&serde_json::from_str::<Vec<LinuxDevice>>(json).unwrap()).unwrap();
        let paths: Vec<_> = planned.iter().map(|d| d.path.to_str().unwrap()).collect();
        let want = ["/dev/null", "/dev/pipe", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];
        assert_eq!(paths, want);
        let null = planned.first().unwrap();
        assert_eq!((null.mode, null.uid, null.kind), (0o600, 5, FileType::CharacterDevice));
        for bad in [r#""major":-1"#, r#""major":4294967296"#, r#""major":1,"uid":4294967295"#] {
            let bad = format!(r#"[{{"path":"/dev/x","type":"c","minor":3,{bad}}}]"#);
            assert!(plan(&serde_json::from_str::<Vec<LinuxDevice>>(&bad).unwrap()).is_err(), "{bad}");
        }
    }
}
