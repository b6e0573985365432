//! Which namespaces are made, which are joined, and by whom (namespaces(7)).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hoy_sys::process::{Child, clone3, exit_now, flags, setns, unshare};
use hoy_sys::rustix::io::Errno;
use hoy_sys::rustix::process::{self, Pid, PidfdFlags, pidfd_open};
use oci_spec::runtime::LinuxNamespaceType as Kind;

use crate::channel::{self, Channel, Message};
use crate::config::Config;
use crate::device::open_host_path;
use crate::error::Doing;
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
    /// The user namespace to join, before all others: it gives the right to join them.
    pub(crate) join_user: Option<OwnedFd>,
    /// Those to join before the process is born: pid and time.
    pub(crate) join_before: Vec<(OwnedFd, u64)>,
    /// Those that the process joins itself.
    pub(crate) join_after: Vec<(OwnedFd, u64)>,
}

fn flag(kind: Kind) -> u64 {
    match kind {
        Kind::Mount => flags::NEWNS,
        Kind::Cgroup => flags::NEWCGROUP,
        Kind::Uts => flags::NEWUTS,
        Kind::Ipc => flags::NEWIPC,
        Kind::User => flags::NEWUSER,
        Kind::Pid => flags::NEWPID,
        Kind::Network => flags::NEWNET,
        Kind::Time => flags::NEWTIME,
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
                (Some(path), kind) => plan.join(open_host_path(path)?, kind),
            }
        }
        Ok(plan)
    }

    fn join(&mut self, fd: OwnedFd, kind: Kind) {
        match kind {
            Kind::User => self.join_user = Some(fd),
            Kind::Pid | Kind::Time => self.join_before.push((fd, flag(kind))),
            _ => self.join_after.push((fd, flag(kind))),
        }
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
                Kind::User if is_own_user_namespace(pid) => {}
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

    /// What the born process does itself.
    pub(crate) fn join_rest(&self) -> Result<()> {
        for (fd, kinds) in &self.join_after {
            setns(fd.as_fd(), *kinds).doing(|| "join the namespaces")?;
        }
        Ok(())
    }

    /// Whether another process must stand between: rights over these namespaces come with the user namespace only.
    fn needs_between(&self) -> bool {
        self.join_user.is_some() || (self.has_new_user() && self.time_offsets.is_some())
    }

    /// The caller's own namespaces that its children would be born out of, to return to: its hooks are its children.
    fn own_before(&self) -> Result<Vec<(OwnedFd, u64)>> {
        let time = self.time_offsets.as_ref().map(|_| flags::NEWTIME);
        let kinds = self.join_before.iter().map(|(_, kind)| *kind).chain(time);
        let path = |kind| if kind == flags::NEWPID { "/proc/self/ns/pid" } else { "/proc/self/ns/time" };
        kinds.map(|kind| Ok((open_host_path(path(kind).as_ref())?, kind))).collect()
    }

    fn before(&self) -> Result<()> {
        for (fd, kinds) in &self.join_before {
            setns(fd.as_fd(), *kinds).doing(|| "join a namespace")?;
        }
        if let Some(offsets) = &self.time_offsets {
            unshare(flags::NEWTIME).doing(|| "make a time namespace")?;
            if !offsets.is_empty() {
                std::fs::write("/proc/self/timens_offsets", offsets).doing(|| "set the time namespace's offsets")?;
            }
        }
        Ok(())
    }
}

fn is_own_user_namespace(pid: i32) -> bool {
    let id = |path: String| hoy_sys::rustix::fs::stat(path).map(|stat| (stat.st_dev, stat.st_ino));
    matches!((id("/proc/self/ns/user".to_owned()), id(format!("/proc/{pid}/ns/user"))), (Ok(a), Ok(b)) if a == b)
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
    cgroup: Option<BorrowedFd<'_>>,
    maps: impl Fn(i32) -> Result<()>,
    child: impl FnOnce(&Channel),
) -> Result<(Child, Channel)> {
    let (outer, inner) = channel::pair()?;
    if plan.needs_between() {
        return spawn_between(plan, cgroup, outer, inner, maps, child);
    }
    let own = plan.own_before()?;
    plan.before()?;
    let Some(made) = clone3(plan.new, cgroup).doing(|| "make the container's process")? else {
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
