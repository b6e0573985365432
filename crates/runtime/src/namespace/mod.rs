//! Which namespaces are made, which are joined, and by whom (namespaces(7)).

pub(crate) mod userns;

use std::cell::Cell;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use hoy_sys::process::{Child, clone3, exit_now, flags, namespace_kind, setns, unshare};
use hoy_sys::rustix::io::Errno;
use hoy_sys::rustix::process::{self, Pid, PidfdFlags, pidfd_open};
use oci_spec::runtime::LinuxNamespaceType as Kind;

use crate::channel::{self, Channel, Message};
use crate::config::Config;
use crate::device::open_host_path;
use crate::error::Doing;
use crate::trace::Trace;
use crate::{Error, Result};

/// The namespaces of a container, decided.
#[derive(Debug, Default)]
pub(crate) struct Namespaces {
    /// Flags of those that the process is born in.
    pub(crate) new: u64,
    /// A new cgroup namespace: made when the process is in its group, which is then the root of it.
    pub(crate) new_cgroup: bool,
    /// Offsets of a new time namespace, as /proc/self/timens_offsets takes them.
    pub(crate) time_offsets: Option<String>,
    /// The user namespace to join, before all others that the caller may not join: it gives the right to.
    pub(crate) join_user: Option<OwnedFd>,
    /// Those to join before the process is born: pid and time.
    pub(crate) join_before: Vec<(OwnedFd, u64)>,
    /// Those that the process joins itself.
    pub(crate) join_after: Vec<(OwnedFd, u64)>,
    /// Kinds joined already, with the caller's rights.
    joined: Cell<u64>,
}

/// Each kind, its flag, and its file in /proc/PID/ns.
const FILES: [(Kind, u64, &str); 8] = [
    (Kind::Mount, flags::NEWNS, "mnt"),
    (Kind::Cgroup, flags::NEWCGROUP, "cgroup"),
    (Kind::Uts, flags::NEWUTS, "uts"),
    (Kind::Ipc, flags::NEWIPC, "ipc"),
    (Kind::User, flags::NEWUSER, "user"),
    (Kind::Pid, flags::NEWPID, "pid"),
    (Kind::Network, flags::NEWNET, "net"),
    (Kind::Time, flags::NEWTIME, "time"),
];

/// As a step of the work: which are made, and which are joined.
impl fmt::Display for Namespaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |kinds: u64| FILES.iter().filter(move |(_, flag, _)| kinds & flag != 0).map(|(.., name)| *name);
        let list = |kinds| names(kinds).collect::<Vec<_>>().join(",");
        let cgroup = if self.new_cgroup { flags::NEWCGROUP } else { 0 };
        let time = self.time_offsets.as_ref().map_or(0, |_| flags::NEWTIME);
        let user = self.join_user.as_ref().map_or(0, |_| flags::NEWUSER);
        let joined = self.join_before.iter().chain(&self.join_after).fold(user, |kinds, (_, kind)| kinds | kind);
        write!(f, "new namespaces {}; joined {}", list(self.new | cgroup | time), list(joined))
    }
}

fn flag(kind: Kind) -> u64 {
    FILES.iter().find(|(known, ..)| *known == kind).map_or(0, |(_, flag, _)| *flag)
}

/// What the flags are of, for messages.
fn names(kinds: u64) -> String {
    let files = FILES.iter().filter(|(_, flag, _)| kinds & flag != 0).map(|(_, _, file)| *file);
    format!("namespaces {}", files.collect::<Vec<_>>().join(", "))
}

/// Checks that `fd`, opened at `path`, is a namespace of that kind.
fn check_kind(fd: BorrowedFd<'_>, path: &Path, kind: Kind) -> Result<()> {
    match namespace_kind(fd) {
        Ok(found) if found == flag(kind) => Ok(()),
        _ => Err(Error::Invalid(format!("\"{}\" is no {kind} namespace", path.display()))),
    }
}

impl Namespaces {
    /// Decides from the configuration, and opens those that are joined.
    pub(crate) fn plan(config: &Config) -> Result<Self> {
        let mut plan = Self::default();
        for namespace in config.namespaces() {
            let path = namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty());
            let kind = namespace.typ();
            match (path, kind) {
                (None, Kind::Cgroup) => plan.new_cgroup = true,
                (None, Kind::Time) => plan.time_offsets = Some(offsets(config)),
                (None, kind) => plan.new |= flag(kind),
                // Who is in it already may not join it, and need not.
                (Some(path), Kind::User) if is_same(path, "/proc/self/ns/user") => {}
                (Some(path), kind) => {
                    let fd = open_host_path(path)?;
                    check_kind(fd.as_fd(), path, kind)?;
                    let has_new_user = config.has_new(Kind::User);
                    match kind {
                        Kind::User => plan.join_user = Some(fd),
                        Kind::Pid | Kind::Time => plan.join_before.push((fd, flag(kind))),
                        // It is older than the new user namespace: only the caller may have rights over it.
                        Kind::Network | Kind::Ipc | Kind::Uts | Kind::Cgroup if has_new_user => {
                            plan.join_before.push((fd, flag(kind)));
                        }
                        _ => plan.join_after.push((fd, flag(kind))),
                    }
                }
            }
        }
        Ok(plan)
    }

    /// The namespaces of the container whose first process is `pidfd`, to be joined by another process.
    pub(crate) fn of_process(config: &Config, pidfd: BorrowedFd<'_>, pid: i32) -> Result<Self> {
        let doing = || "duplicate a descriptor";
        let mut plan = Self::default();
        let mut after = 0;
        for namespace in config.namespaces() {
            let copy = || pidfd.try_clone_to_owned().doing(doing);
            match namespace.typ() {
                // Who is in it already may not join it.
                Kind::User if is_same(format!("/proc/{pid}/ns/user").as_ref(), "/proc/self/ns/user") => {}
                Kind::User => plan.join_user = Some(copy()?),
                kind @ (Kind::Pid | Kind::Time) => plan.join_before.push((copy()?, flag(kind))),
                kind => after |= flag(kind),
            }
        }
        if after != 0 {
            plan.join_after.push((pidfd.try_clone_to_owned().doing(doing)?, after));
        }
        Ok(plan)
    }

    /// Whether the process is born in a new user namespace.
    pub(crate) fn has_new_user(&self) -> bool {
        self.new & flags::NEWUSER != 0
    }

    /// The network namespace that is joined, if one is.
    pub(crate) fn network(&self) -> Option<BorrowedFd<'_>> {
        let joined = self.join_before.iter().chain(&self.join_after);
        joined.into_iter().find(|(_, kinds)| kinds & flags::NEWNET != 0).map(|(fd, _)| fd.as_fd())
    }

    /// What the born process does itself.
    pub(crate) fn join_rest(&self) -> Result<()> {
        self.join(&self.join_after)
    }

    fn join(&self, those: &[(OwnedFd, u64)]) -> Result<()> {
        let rest = |kinds: u64| kinds & !self.joined.get();
        for (fd, kinds) in those.iter().map(|(fd, kinds)| (fd, rest(*kinds))).filter(|(_, kinds)| *kinds != 0) {
            setns(fd.as_fd(), kinds).doing(|| format!("join the {} of the configuration", names(kinds)))?;
        }
        Ok(())
    }

    /// Joins what the caller has a right to, before the user namespace is joined: that one may own nothing of it.
    ///
    /// What is refused is joined later, with the rights that the user namespace gives. So is the mount namespace:
    /// without rights over it nothing could be done there.
    fn join_with_own_rights(&self) {
        for (fd, kinds) in self.join_before.iter().chain(&self.join_after) {
            let kinds = kinds & !flags::NEWNS;
            let each = FILES.iter().map(|(_, flag, _)| kinds & flag);
            for kinds in std::iter::once(kinds).chain(each) {
                let kinds = kinds & !self.joined.get();
                if kinds != 0 && setns(fd.as_fd(), kinds).is_ok() {
                    self.joined.set(self.joined.get() | kinds);
                }
            }
        }
    }

    /// Whether the mount namespace is one that others are in.
    pub(crate) fn joins_mounts(&self) -> bool {
        self.join_after.iter().any(|(_, kinds)| kinds & flags::NEWNS != 0)
    }

    /// Whether another process must stand between: rights over these namespaces come with the user namespace only.
    fn needs_between(&self) -> bool {
        self.join_user.is_some() || (self.has_new_user() && self.time_offsets.is_some())
    }

    /// The caller's own namespaces that its children would be born out of, to return to: its hooks are its children.
    fn own_before(&self) -> Result<Vec<(OwnedFd, u64)>> {
        let time = self.time_offsets.as_ref().map(|_| flags::NEWTIME);
        let kinds = self.join_before.iter().map(|(_, kind)| *kind).chain(time);
        let path = |kind| {
            let file = FILES.iter().find(|(_, flag, _)| *flag == kind).map_or("time", |(_, _, file)| file);
            format!("/proc/self/ns/{file}")
        };
        kinds.map(|kind| Ok((open_host_path(path(kind).as_ref())?, kind))).collect()
    }

    fn before(&self) -> Result<()> {
        self.join(&self.join_before)?;
        if let Some(offsets) = &self.time_offsets {
            unshare(flags::NEWTIME).doing(|| "make a time namespace")?;
            if !offsets.is_empty() {
                std::fs::write("/proc/self/timens_offsets", offsets).doing(|| "set the time namespace's offsets")?;
            }
        }
        Ok(())
    }
}

fn is_same(one: &Path, other: &str) -> bool {
    let id = |path: &Path| hoy_sys::rustix::fs::stat(path).map(|stat| (stat.st_dev, stat.st_ino));
    matches!((id(one), id(other.as_ref())), (Ok(a), Ok(b)) if a == b)
}

fn offsets(config: &Config) -> String {
    let mut lines: Vec<String> = config
        .linux()
        .time_offsets()
        .iter()
        .flatten()
        .map(|(clock, offset)| format!("{clock} {} {}\n", offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0)))
        .collect();
    lines.sort();
    lines.concat()
}

/// Makes the container's process, which runs `child` with its end of the channel and never returns.
///
/// `maps` writes the id maps of a new user namespace. Gives the process and the caller's end.
pub(crate) fn spawn(
    plan: &Namespaces,
    trace: &Trace,
    cgroup: Option<BorrowedFd<'_>>,
    maps: impl Fn(i32) -> Result<()>,
    child: impl FnOnce(&Channel),
) -> Result<(Child, Channel)> {
    trace.say(|| format!("nsexec container setup: {plan}"));
    let (outer, inner) = channel::pair(trace)?;
    if plan.needs_between() {
        return spawn_between(plan, cgroup, outer, inner, maps, child);
    }
    let own = plan.own_before()?;
    plan.before()?;
    let Some(made) = born(clone3(plan.new, cgroup), plan)? else {
        // Its own copy of the other end would keep it from seeing that the caller has ended.
        drop(outer);
        child(&inner);
        exit_now(1)
    };
    for (fd, kind) in own {
        match setns(fd.as_fd(), kind) {
            // Whoever entered the container's user namespace first has no way back, and needs none: only processes
            // made later would notice.
            Err(error) if error.errno == Errno::PERM => {}
            other => other.doing(|| "return to the own namespace")?,
        }
    }
    if plan.has_new_user() {
        maps(made.pid.as_raw_nonzero().get())?;
    }
    Ok((made, outer))
}

/// The result of a birth, with its remedy when the right to it is missing.
fn born<T>(result: hoy_sys::Result<T>, plan: &Namespaces) -> Result<T> {
    let is_refused = result.as_ref().is_err_and(|error| error.errno == Errno::PERM) && !plan.has_new_user();
    let remedy = if is_refused { " without CAP_SYS_ADMIN, for which it needs a user namespace" } else { "" };
    result.doing(|| format!("make the container's process{remedy}"))
}

fn spawn_between(
    plan: &Namespaces,
    cgroup: Option<BorrowedFd<'_>>,
    outer: Channel,
    inner: Channel,
    maps: impl Fn(i32) -> Result<()>,
    child: impl FnOnce(&Channel),
) -> Result<(Child, Channel)> {
    let user = plan.new & flags::NEWUSER;
    let Some(between) = clone3(user, cgroup).doing(|| "make a process")? else {
        drop(outer);
        let told = stand_between(plan, &inner, child).or_else(|error| inner.tell(b'E', &error.chain()));
        exit_now(i32::from(told.is_err()))
    };
    drop(inner);
    if user != 0 {
        maps(between.pid.as_raw_nonzero().get())?;
    }
    outer.say(b'G')?;
    let message = outer.receive()?;
    process::waitpid(Some(between.pid), process::WaitOptions::empty()).doing(|| "wait for a process")?;
    match message {
        Message::Pid(raw) => {
            let pid = Pid::from_raw(raw).ok_or_else(|| Error::Init("no process was made".to_owned()))?;
            let pidfd = pidfd_open(pid, PidfdFlags::empty()).doing(|| "open the container's process")?;
            Ok((Child { pid, pidfd }, outer))
        }
        Message::Failed(text) => Err(Error::Init(text)),
        _ => Err(Error::Init("the container's process died while it was being made".to_owned())),
    }
}

fn stand_between(plan: &Namespaces, inner: &Channel, child: impl FnOnce(&Channel)) -> Result<()> {
    inner.wait_go()?;
    if let Some(user) = &plan.join_user {
        plan.join_with_own_rights();
        setns(user.as_fd(), flags::NEWUSER).doing(|| "join the user namespace")?;
    }
    plan.before()?;
    let rest = (plan.new & !flags::NEWUSER) | flags::PARENT;
    match clone3(rest, None).doing(|| "make the container's process")? {
        None => {
            child(inner);
            exit_now(1)
        }
        Some(made) => inner.tell(b'P', &made.pid.as_raw_nonzero().to_string()),
    }
}
