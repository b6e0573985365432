//! What this machine and this user can do for a store, each lack with its remedy.

use std::fs;
use std::path::Path;

use hoy_layout::Store;
use hoy_sys::rustix::fs::{Access, AtFlags, CWD, StatVfsMountFlags};
use hoy_sys::rustix::fs::{XattrFlags, accessat, removexattr, setxattr, statvfs};
use hoy_sys::rustix::system::uname;

use crate::directory::TemporaryDirectory;
use crate::ids;
use crate::namespace::Standing;
use crate::{Error, Result};

/// Less free space than this is worth a word: an image of a distribution needs it twice over.
const LITTLE_SPACE: u64 = 1 << 30;

/// How well something can be done here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// As it should be.
    Good,
    /// Works, with less than there could be.
    Limited,
    /// Does not work.
    Missing,
}

impl Health {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Limited => "limited",
            Self::Missing => "missing",
        }
    }
}

/// One thing looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is about, in one word.
    pub area: &'static str,
    /// How well it can be done.
    pub health: Health,
    /// What was seen.
    pub what: String,
    /// What to do about it; empty when all is good.
    pub remedy: String,
}

impl Finding {
    /// Something that is as it should be.
    pub fn good(area: &'static str, what: impl Into<String>) -> Self {
        Self { area, health: Health::Good, what: what.into(), remedy: String::new() }
    }

    /// Something that is not, and what to do.
    pub fn lack(area: &'static str, health: Health, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { area, health, what: what.into(), remedy: remedy.into() }
    }
}

/// Looks at kernel, user namespaces, ids, control groups, file system and space, as user `uid` has them.
///
/// Whether an overlay can be mounted shows only when it is: see [`of_container`].
///
/// # Errors
/// Those of writing to the store at all.
pub fn examine(store: &Store, uid: u32) -> Result<Vec<Finding>> {
    let standing = Standing::of_this_process();
    let release = uname().release().to_string_lossy().into_owned();
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let mut found = vec![kernel(&release)];
    if standing == Standing::Ordinary {
        let limits = ["user/max_user_namespaces", "kernel/unprivileged_userns_clone"].map(|name| {
            let path = format!("/proc/sys/{name}");
            let value = read(&path).trim().parse::<u64>().ok();
            (path, value)
        });
        found.push(user_namespaces(&limits, &read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")));
        found.push(subordinate(&read("/etc/subuid"), &read("/etc/subgid"), &read("/etc/passwd"), uid));
    }
    found.push(control_groups(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"), standing));
    found.extend(file_system(store)?);
    Ok(found)
}

/// What a container that was just made says of root file systems here: mounted, or copied and why.
pub fn of_container(container: &hoy_layout::Container) -> Finding {
    match crate::why_copied(container) {
        None => Finding::good("overlay", "root file systems are overlays of shared layers"),
        Some(reason) => {
            let what = format!("no overlay can be mounted ({reason}): each root file system is a copy");
            Finding::lack("overlay", Health::Limited, what, "allow user namespaces, or run where mounts are allowed")
        }
    }
}

fn kernel(release: &str) -> Finding {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let what = format!("Linux {release}");
    match version {
        (0..=4, _) | (5, 0..=11) => {
            Finding::lack("kernel", Health::Missing, what, "use Linux 5.12 or newer: mounts are made by descriptors")
        }
        (5, ..=18) => {
            let what = format!("{what}: a container with ids of its own is a copy of its image");
            Finding::lack("kernel", Health::Limited, what, "use Linux 5.19 or newer: overlays of mapped mounts")
        }
        _ => Finding::good("kernel", what),
    }
}

fn user_namespaces(limits: &[(String, Option<u64>)], apparmor: &str) -> Finding {
    const AREA: &str = "namespaces";
    if let Some((path, _)) = limits.iter().find(|(_, value)| *value == Some(0)) {
        let what = format!("user namespaces are switched off by {path}");
        let remedy =
            format!("as root: sysctl -w {}=1 or more", path.trim_start_matches("/proc/sys/").replace('/', "."));
        return Finding::lack(AREA, Health::Missing, what, remedy);
    }
    if apparmor.trim() == "1" {
        let what = "AppArmor keeps programs without a profile from making user namespaces";
        let remedy = "as root: give hoy-storage a profile with \"userns,\", or sysctl -w \
                      kernel.apparmor_restrict_unprivileged_userns=0";
        return Finding::lack(AREA, Health::Missing, what, remedy);
    }
    Finding::good(AREA, "ordinary users may make user namespaces")
}

fn subordinate(subuid: &str, subgid: &str, passwd: &str, uid: u32) -> Finding {
    let name = ids::name_of(passwd, uid);
    let count = |text: &str| ids::ranges(text, name, uid).iter().map(|range| u64::from(range.count)).sum::<u64>();
    let (users, groups) = (count(subuid), count(subgid));
    let who = name.map_or_else(|| uid.to_string(), str::to_owned);
    let remedy = format!("as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {who}");
    match (users, groups) {
        (0, 0) => {
            let what = "no subordinate ids: files of other owners are recorded, not owned";
            Finding::lack("ids", Health::Limited, what, remedy)
        }
        (0, _) | (_, 0) => Finding::lack("ids", Health::Missing, "subordinate users or groups, not both", remedy),
        (1..65_536, _) | (_, 1..65_536) => {
            let what = format!("{users} subordinate users and {groups} groups: images may use up to 65536");
            Finding::lack("ids", Health::Limited, what, remedy)
        }
        _ => Finding::good("ids", format!("{users} subordinate users, {groups} groups")),
    }
}

fn control_groups(mountinfo: &str, own: &str, standing: Standing) -> Finding {
    const AREA: &str = "cgroups";
    let of_type = |kind: &str| -> Vec<&str> {
        let is_it = |line: &&str| line.split(" - ").nth(1).is_some_and(|rest| rest.split(' ').next() == Some(kind));
        mountinfo.lines().filter(is_it).filter_map(|line| line.split(' ').nth(4)).collect()
    };
    let (v1, v2) = (of_type("cgroup"), of_type("cgroup2"));
    let limits = "limits on memory, processors and processes";
    let group = own.lines().find_map(|line| line.strip_prefix("0::"));
    match (v1.is_empty(), v2.first(), group) {
        (true, None, _) => Finding::lack(
            AREA,
            Health::Limited,
            format!("none mounted: no {limits}"),
            "mount cgroup2 on /sys/fs/cgroup",
        ),
        (true, Some(mount), Some(group)) => {
            let directory = Path::new(mount).join(group.trim_start_matches('/'));
            let controllers = fs::read_to_string(directory.join("cgroup.controllers")).unwrap_or_default();
            let controllers = controllers.trim();
            let is_writable = accessat(CWD, directory.join("cgroup.procs"), Access::WRITE_OK, AtFlags::EACCESS).is_ok();
            if is_writable && !controllers.is_empty() {
                return Finding::good(AREA, format!("version 2: {controllers}"));
            }
            let what = format!("version 2, and nothing delegated to this session: no {limits}");
            let remedy = "start the session by systemd with Delegate=yes, or use --cgroup-manager systemd";
            Finding::lack(AREA, Health::Limited, what, remedy)
        }
        _ if standing == Standing::Root => {
            let kind = if v2.is_empty() { "version 1" } else { "version 1 with version 2 beside it" };
            Finding::good(AREA, kind)
        }
        _ => {
            let what = format!("version 1, which is not given to ordinary users: no {limits}");
            Finding::lack(AREA, Health::Limited, what, "boot with systemd.unified_cgroup_hierarchy=1")
        }
    }
}

fn file_system(store: &Store) -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    let place = store.layers();
    let space = statvfs(&place).map_err(Error::io("look at", &place))?;
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    let words = format!("{} MiB and {} files free in \"{}\"", free >> 20, space.f_favail, store.root().display());
    let remedy = "\"hoy-storage prune --all\" removes what no container needs; or choose another --root";
    found.push(match free {
        // A file system without a number of files, such as btrfs, says 0 of 0.
        _ if free == 0 || (space.f_favail == 0 && space.f_files > 0) => {
            Finding::lack("space", Health::Missing, words, remedy)
        }
        ..LITTLE_SPACE => Finding::lack("space", Health::Limited, words, remedy),
        _ => Finding::good("space", words),
    });
    let probe = TemporaryDirectory::create_in(&place)?;
    let name = c"user.hoy.doctor";
    let set = setxattr(probe.path(), name, b"1", XattrFlags::empty());
    found.push(match set.and_then(|()| removexattr(probe.path(), name)) {
        Ok(()) => Finding::good("xattrs", "the file system keeps extended attributes of users"),
        Err(errno) => {
            let what = format!("the file system keeps no extended attributes of users ({errno})");
            Finding::lack("xattrs", Health::Limited, what, "choose --root on ext4, xfs, btrfs or tmpfs of Linux 6.6")
        }
    });
    let refused = [
        (StatVfsMountFlags::NOEXEC, "noexec", "no program of an image can run"),
        (StatVfsMountFlags::NOSUID, "nosuid", "set-id programs of images have no effect"),
        (StatVfsMountFlags::NODEV, "nodev", "devices in images have no effect"),
    ];
    for (flag, name, effect) in refused.iter().filter(|(flag, ..)| space.f_flag.contains(*flag)) {
        let health = if *flag == StatVfsMountFlags::NOEXEC { Health::Missing } else { Health::Limited };
        let what = format!("the file system is mounted {name}: {effect}");
        found.push(Finding::lack("mount", health, what, "choose another --root, or mount it without"));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels() {
        let cases = [
            ("6.18.5", Health::Good),
            ("6.5.0-1-amd64", Health::Good),
            ("5.19.0", Health::Good),
            ("5.15.0-91-generic", Health::Limited),
            ("5.10.0", Health::Missing),
            ("4.18.0-553.el8", Health::Missing),
        ];
        for (release, want) in cases {
            assert_eq!(kernel(release).health, want, "{release}");
        }
    }

    #[test]
    fn user_namespaces_and_their_switches() {
        let off = [("/proc/sys/kernel/unprivileged_userns_clone".to_owned(), Some(0))];
        assert!(user_namespaces(&off, "").remedy.contains("sysctl -w kernel.unprivileged_userns_clone=1"));
        assert_eq!(user_namespaces(&[("x".to_owned(), Some(5)), ("y".to_owned(), None)], "0\n").health, Health::Good);
        assert_eq!(user_namespaces(&[], "1\n").health, Health::Missing);
    }

    #[test]
    fn subordinate_ids() {
        let passwd = "ann:x:1000:1000::/:\n";
        let cases = [
            ("ann:1:65536", "ann:1:65536", Health::Good),
            ("ann:1:100", "ann:1:65536", Health::Limited),
            ("bob:1:65536", "", Health::Limited),
            ("ann:1:65536", "", Health::Missing),
        ];
        for (subuid, subgid, want) in cases {
            assert_eq!(subordinate(subuid, subgid, passwd, 1000).health, want, "{subuid} {subgid}");
        }
    }

    #[test]
    fn control_groups_of_each_kind() {
        let v1 = "30 1 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        let v2 = "31 1 0:31 / /nowhere rw - cgroup2 cgroup2 rw\n";
        let cases = [
            ("", "", Standing::Root, Health::Limited),
            (v1, "1:cpu:/", Standing::Root, Health::Good),
            (v1, "1:cpu:/", Standing::Ordinary, Health::Limited),
            (v2, "0::/user", Standing::Ordinary, Health::Limited),
        ];
        for (mountinfo, own, standing, want) in cases {
            assert_eq!(control_groups(mountinfo, own, standing).health, want, "{mountinfo} {standing:?}");
        }
    }
}
