//! What is kept of a container between two commands, and whether its first process is still that one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use hoy_sys::rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

/// The runtime-spec version of the documents written here.
pub const OCI_VERSION: &str = "1.3.0";

/// Status of a container (runtime-spec runtime.md "State").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is being made.
    Creating,
    /// Made, and its program not begun.
    Created,
    /// Its program runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// It has ended.
    Stopped,
}

impl Status {
    /// Its word in the specification.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// What is kept between two commands.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Version of the specification.
    pub oci_version: String,
    /// The container's id.
    pub id: String,
    /// Its first process, as the host counts.
    pub pid: i32,
    /// When that process began, in clock ticks after boot: tells it from a later one with the same number.
    pub start_time: u64,
    /// Whether it is being made, or its maker was killed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub creating: bool,
    /// The bundle, absolute.
    pub bundle: PathBuf,
    /// The root file system, absolute.
    pub rootfs: PathBuf,
    /// When it was made, RFC 3339.
    pub created: String,
    /// Who made it.
    pub owner: String,
    /// Annotations of the configuration.
    #[serde(default)]
    pub annotations: HashMap<String, String>,
    /// Its control groups: controller (empty for v2) to directory.
    #[serde(default)]
    pub cgroups: BTreeMap<String, PathBuf>,
    /// Those of them that were there before it.
    #[serde(default)]
    pub cgroups_shared: BTreeSet<String>,
    /// The mount that its tree hangs on, where it has no mount namespace.
    #[serde(default)]
    pub root_mount: Option<u64>,
    /// The unit of systemd that it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub systemd_unit: Option<String>,
}

impl State {
    pub(crate) fn take_group(&mut self, group: &hoy_cgroup::Group) {
        self.cgroups.clone_from(&group.directories);
        self.cgroups_shared.clone_from(&group.shared);
    }

    /// The control groups that were made for it: nobody else's process is in them.
    pub(crate) fn own_groups(&self) -> BTreeMap<String, PathBuf> {
        let mut groups = self.cgroups.clone();
        groups.retain(|controllers, _| !self.cgroups_shared.contains(controllers));
        groups
    }

    /// Whether the first process is there and not a zombie.
    pub fn is_alive(&self) -> bool {
        process_times(self.pid).is_some_and(|(state, start)| start == self.start_time && !matches!(state, 'Z' | 'X'))
    }

    /// A descriptor of the first process; `None` when it has ended.
    pub fn pidfd(&self) -> Option<OwnedFd> {
        let pid = Pid::from_raw(self.pid).filter(|_| self.pid > 0)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // Opened first, compared after: the number cannot be given to another in between.
        self.is_alive().then_some(pidfd)
    }
}

/// The state letter and start time of process `pid`: /proc/PID/stat, proc(5).
pub(crate) fn process_times(pid: i32) -> Option<(char, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything: what counts starts after the last one.
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_alone_is_not_the_process() {
        let (_, start_time) = process_times(std::process::id().try_into().unwrap()).unwrap();
        let mut state = State {
            oci_version: OCI_VERSION.to_owned(),
            id: "a".to_owned(),
            pid: std::process::id().try_into().unwrap(),
            start_time,
            creating: false,
            bundle: PathBuf::new(),
            rootfs: PathBuf::new(),
            created: String::new(),
            owner: String::new(),
            annotations: HashMap::new(),
            cgroups: BTreeMap::new(),
            cgroups_shared: BTreeSet::new(),
            root_mount: None,
            systemd_unit: None,
        };
        assert!(state.is_alive());
        state.start_time += 1;
        assert!(!state.is_alive());
        assert!(state.pidfd().is_none());
    }
}
