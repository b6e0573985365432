//! What this machine and this process allow.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use hoy_oci::{IdMapping, IdMaps};
use hoy_sys::rustix::process::{Resource, getrlimit};

use crate::Rlimit;

/// CAP_SYS_RESOURCE, which may raise limits: capabilities(7).
const CAP_SYS_RESOURCE: u32 = 24;

/// Every limit of getrlimit(2) that has a name in the runtime specification.
const LIMITS: [(&str, Resource); 16] = [
    ("RLIMIT_AS", Resource::As),
    ("RLIMIT_CORE", Resource::Core),
    ("RLIMIT_CPU", Resource::Cpu),
    ("RLIMIT_DATA", Resource::Data),
    ("RLIMIT_FSIZE", Resource::Fsize),
    ("RLIMIT_LOCKS", Resource::Locks),
    ("RLIMIT_MEMLOCK", Resource::Memlock),
    ("RLIMIT_MSGQUEUE", Resource::Msgqueue),
    ("RLIMIT_NICE", Resource::Nice),
    ("RLIMIT_NOFILE", Resource::Nofile),
    ("RLIMIT_NPROC", Resource::Nproc),
    ("RLIMIT_RSS", Resource::Rss),
    ("RLIMIT_RTPRIO", Resource::Rtprio),
    ("RLIMIT_RTTIME", Resource::Rttime),
    ("RLIMIT_SIGPENDING", Resource::Sigpending),
    ("RLIMIT_STACK", Resource::Stack),
];

/// Facts about the caller and the kernel that decide what a configuration can ask for.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    /// The caller's environment, as far as it is text.
    pub environment: BTreeMap<String, String>,
    /// Ids of this user namespace: first id and count of each range.
    pub uids: Vec<(u32, u32)>,
    /// Group ids of this user namespace, likewise.
    pub gids: Vec<(u32, u32)>,
    /// Whether this is the user namespace in which the machine started.
    pub is_initial: bool,
    /// Whether setgroups(2) is allowed: user_namespaces(7).
    pub can_set_groups: bool,
    /// Whether control groups can be made.
    pub has_cgroup: bool,
    /// Whether limits can be raised.
    pub can_raise_limits: bool,
    /// This process's limits.
    pub limits: Vec<Rlimit>,
    /// The last capability that the kernel knows.
    pub last_capability: u32,
    /// Bits of the capabilities that this process may have at most.
    pub bounding: u64,
    /// The processor, as Rust names it: `x86_64`, `aarch64`.
    pub architecture: &'static str,
    /// Directories `thermal_throttle` of this machine's processors, which are hidden like the masked paths.
    pub thermal: Vec<String>,
}

impl Host {
    /// The machine and process this runs on. What cannot be read counts as the less that is allowed.
    pub fn current() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let uid_map = text("/proc/self/uid_map");
        let is_initial = hoy_sys::user::in_initial_user_namespace().unwrap_or(false);
        let status = text("/proc/self/status");
        let bits = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            u64::from_str_radix(line.unwrap_or("").trim(), 16).unwrap_or(0)
        };
        let environment = std::env::vars_os().filter_map(|(n, v)| Some((n.into_string().ok()?, v.into_string().ok()?)));
        Self {
            environment: environment.collect(),
            uids: ranges(&uid_map),
            gids: ranges(&text("/proc/self/gid_map")),
            is_initial,
            can_set_groups: text("/proc/self/setgroups").trim() == "allow",
            has_cgroup: is_initial && hoy_sys::rustix::process::geteuid().is_root() && cgroup_is_writable(),
            can_raise_limits: is_initial && bits("CapEff:") & (1 << CAP_SYS_RESOURCE) != 0,
            limits: LIMITS.iter().map(|(kind, resource)| limit(kind, *resource)).collect(),
            last_capability: text("/proc/sys/kernel/cap_last_cap").trim().parse().unwrap_or(40),
            bounding: bits("CapBnd:"),
            architecture: std::env::consts::ARCH,
            thermal: thermal_directories(),
        }
    }

    /// The same machine from inside a user namespace with these maps.
    pub(crate) fn inside(&self, maps: &IdMaps) -> Self {
        let ranges = |maps: &[IdMapping]| maps.iter().map(|map| (map.container_id, map.size)).collect();
        Self {
            uids: ranges(&maps.uid_mappings),
            gids: ranges(&maps.gid_mappings),
            is_initial: false,
            can_raise_limits: false,
            ..self.clone()
        }
    }

    /// Whether the user namespace has one user id alone, so that chown(2) can succeed on paper only.
    pub fn is_single_id(&self) -> bool {
        self.uids.iter().map(|(_, count)| u64::from(*count)).sum::<u64>() == 1
    }

    /// Whether a process may have this user id.
    pub fn has_uid(&self, uid: u32) -> bool {
        has(&self.uids, uid)
    }

    /// Whether a process may have this group id.
    pub fn has_gid(&self, gid: u32) -> bool {
        has(&self.gids, gid)
    }

    /// This process's hard limit of that name; none where it was not asked for.
    pub(crate) fn limit(&self, kind: &str) -> Option<&Rlimit> {
        self.limits.iter().find(|limit| limit.kind == kind)
    }
}

fn has(ranges: &[(u32, u32)], id: u32) -> bool {
    ranges.iter().any(|(first, count)| id.checked_sub(*first).is_some_and(|offset| offset < *count))
}

/// The first and third columns of a map: user_namespaces(7).
fn ranges(map: &str) -> Vec<(u32, u32)> {
    let range = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.parse().ok()?, words.nth(1)?.parse().ok()?))
    };
    map.lines().filter_map(range).collect()
}

fn limit(kind: &str, resource: Resource) -> Rlimit {
    let now = getrlimit(resource);
    // No limit is RLIM_INFINITY, the greatest number.
    let number = |value: Option<u64>| value.unwrap_or(u64::MAX);
    Rlimit { kind: kind.to_owned(), soft: number(now.current), hard: number(now.maximum) }
}

/// A group can be made where the hierarchy (v2) or one of the controllers (v1) is mounted read-write.
fn cgroup_is_writable() -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts.lines().any(|line| {
        let mut words = line.split(' ').skip(2);
        matches!(words.next(), Some("cgroup" | "cgroup2")) && words.next().is_some_and(|o| o.starts_with("rw"))
    })
}

fn thermal_directories() -> Vec<String> {
    let cpus = Path::new("/sys/devices/system/cpu");
    let entries = fs::read_dir(cpus).into_iter().flatten().flatten();
    let candidates = entries.map(|entry| entry.path().join("thermal_throttle")).filter(|path| path.is_dir());
    let mut found: Vec<String> = candidates.filter_map(|path| path.to_str().map(str::to_owned)).collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps() {
        assert_eq!(
            ranges("         0       1500          1\n         1     100000      65536\n"),
            [(0, 1), (1, 65536)]
        );
        let two = [(0, 1), (1, 65536)];
        assert!(has(&two, 0) && has(&two, 65536) && !has(&two, 65537));
        assert_eq!(ranges("garbage\n"), []);
    }
}
