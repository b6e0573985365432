//! The container's first process, from its birth to the program: everything that happens inside the namespaces.

use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use hoy_sys::process::{flags, join_session_keyring, unshare};
use hoy_sys::rustix::fs::{Mode, readlinkat};
use hoy_sys::rustix::io::{Errno, read};
use hoy_sys::rustix::process::{DumpableBehavior, set_dumpable_behavior, setsid, umask};
use hoy_sys::rustix::system::{setdomainname, sethostname};

use crate::capability::Sets;
use crate::channel::Channel;
use crate::config::Config;
use crate::console::Terminal;
use crate::device::{self, Device};
use crate::error::Doing;
use crate::filter::Filter;
use crate::mount_plan::MountPlan;
use crate::namespace::Namespaces;
use crate::program::{Setting, write_proc};
use crate::rootfs::{self, Sources};
use crate::state::{State, Status};
use crate::tree::Root;
use crate::{Error, Result, hooks, identity};

/// Everything decided and opened before the process is born.
pub(crate) struct Job {
    pub(crate) config: Config,
    pub(crate) state: State,
    pub(crate) bundle: PathBuf,
    pub(crate) rootfs: PathBuf,
    pub(crate) namespaces: Namespaces,
    pub(crate) mounts: Vec<MountPlan>,
    /// Opened by the caller when the container's root user could not; `None` when he opens them himself.
    pub(crate) sources: Option<Sources>,
    pub(crate) devices: Vec<Device>,
    /// The container's root is not the host's: it can make no device.
    pub(crate) in_userns: bool,
    /// What the program is told of the caller's notify socket.
    pub(crate) notify_env: Option<String>,
    /// The caller's devices, where none can be made.
    pub(crate) host_devices: Option<Vec<Option<OwnedFd>>>,
    pub(crate) null: Option<OwnedFd>,
    pub(crate) filter: Option<Filter>,
    pub(crate) proc: OwnedFd,
    /// What the process waits on until `start`.
    pub(crate) fifo: Option<OwnedFd>,
    pub(crate) preserve_fds: u32,
    pub(crate) no_pivot: bool,
    pub(crate) no_new_keyring: bool,
}

/// Becomes the container's program; returns only on failure.
pub(crate) fn run(job: &Job, channel: &Channel) -> Result<Infallible> {
    channel.wait_go()?;
    if job.namespaces.has_new_user() || job.namespaces.join_user.is_some() {
        identity::become_root();
    }
    // Nobody in a namespace that is joined may look at this process or at its descriptors.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).doing(|| "hide the process")?;
    umask(Mode::empty());
    setsid().map(drop).or_else(|errno| if errno == Errno::PERM { Ok(()) } else { Err(errno) }).doing(|| "setsid")?;
    job.namespaces.join_rest()?;
    if job.namespaces.new_cgroup {
        unshare(flags::NEWCGROUP).doing(|| "make a cgroup namespace")?;
    }
    if !job.no_new_keyring {
        keyring(job.state.id.as_str())?;
    }
    if job.namespaces.new & flags::NEWNET != 0 {
        hoy_sys::net::loopback_up().doing(|| "bring the loopback interface up")?;
    }
    names(&job.config)?;
    let opened;
    let sources = match &job.sources {
        Some(sources) => sources,
        None => {
            opened = Sources::open(&job.rootfs, &job.bundle, &job.mounts)?;
            &opened
        }
    };
    let terminal = build_root(job, sources, channel)?;
    let root = Root(sources.root.as_fd());
    let process = job.config.process()?;
    if let Some(terminal) = &terminal {
        terminal.take()?;
        channel.give(b'T', terminal.master.as_fd())?;
    }
    let is_terminal = terminal.is_some();
    drop(terminal);
    let setting = Setting {
        process,
        linux: job.config.linux(),
        filter: job.filter.as_ref(),
        sets: process.capabilities().as_ref().map(Sets::new),
        proc: job.proc.as_fd(),
        channel,
        fifo: job.fifo.as_ref().map(AsFd::as_fd),
        preserve_fds: job.preserve_fds,
        is_terminal,
        notify_env: job.notify_env.as_deref(),
    };
    setting.limit()?;
    let start = job.config.hooks(|hooks| hooks.start_container());
    let state = state_text(job, Status::Created);
    setting.become_program(&root, || {
        match &job.fifo {
            Some(fifo) => wait_for_start(fifo)?,
            None => channel.wait_go()?,
        }
        hooks::run("startContainer", start, &state)
    })
}

/// Mounts, devices and the way into the root; gives the terminal when there is to be one.
fn build_root(job: &Job, sources: &Sources, channel: &Channel) -> Result<Option<Terminal>> {
    let linux = job.config.linux();
    let propagation = linux.rootfs_propagation().as_deref();
    let root = Root(sources.root.as_fd());
    let null = job.null.as_ref().map_or_else(device::null, |null| null.try_clone().doing(|| "duplicate"))?;
    rootfs::attach_root(root.0, propagation)?;
    rootfs::mount_all(&root, &job.mounts, &sources.binds)?;
    let opened = (job.in_userns && job.host_devices.is_none()).then(|| device::open_host(&job.devices));
    device::make_all(&root, &job.devices, job.host_devices.as_deref().or(opened.as_deref()))?;
    device::link_all(&root)?;
    let process = job.config.process()?;
    let terminal = process.terminal().unwrap_or(false).then(|| Terminal::new(&root)).transpose()?;
    if let Some(terminal) = &terminal {
        terminal.prepare(process)?;
        terminal.mount(&root)?;
    }
    let is_asked = |hooks: &[oci_spec::runtime::Hook]| !hooks.is_empty();
    if is_asked(job.config.hooks(|h| prestart(h))) || is_asked(job.config.hooks(|h| h.create_runtime())) {
        channel.say(b'H')?;
        channel.wait_go()?;
    }
    let create = job.config.hooks(|hooks| hooks.create_container());
    hooks::run("createContainer", create, &state_text(job, Status::Creating))?;
    // As every runtime does; one that cannot be made is told of when it is entered.
    root.directory(process.cwd()).map(drop).unwrap_or_default();
    for (name, value) in linux.sysctl().iter().flatten() {
        sysctl(job, name, value)?;
    }
    rootfs::enter(root.0, job.no_pivot)?;
    device::make_readonly(&root, linux.readonly_paths().as_deref().unwrap_or_default())?;
    device::mask(&root, linux.masked_paths().as_deref().unwrap_or_default(), &null)?;
    rootfs::seal(root.0, job.config.is_readonly(), propagation)?;
    Ok(terminal)
}

pub(crate) fn prestart(hooks: &oci_spec::runtime::Hooks) -> &Option<Vec<oci_spec::runtime::Hook>> {
    hooks.prestart()
}

fn names(config: &Config) -> Result<()> {
    if let Some(name) = config.spec.hostname().as_ref().filter(|name| !name.is_empty()) {
        sethostname(name.as_bytes()).doing(|| format!("set hostname \"{name}\""))?;
    }
    if let Some(name) = config.spec.domainname().as_ref().filter(|name| !name.is_empty()) {
        setdomainname(name.as_bytes()).doing(|| format!("set domainname \"{name}\""))?;
    }
    Ok(())
}

/// The caller's keys are not the container's.
fn keyring(id: &str) -> Result<()> {
    let name = std::ffi::CString::new(format!("_ses.{id}"));
    let name = name.map_err(|_| Error::Invalid(format!("container id {id:?} has a NUL byte")))?;
    match join_session_keyring(&name) {
        Err(error) if error.errno == Errno::NOSYS => Ok(()),
        other => other.doing(|| "make a session keyring"),
    }
}

fn sysctl(job: &Job, name: &str, value: &str) -> Result<()> {
    let path = sysctl_path(name);
    write_proc(job.proc.as_fd(), &path, value).doing(|| format!("set sysctl \"{name}\" to \"{value}\""))
}

/// `net.ipv4.ip_forward`, or `net/ipv4/conf/eth0.1/forwarding` where a name has a dot: sysctl(8).
fn sysctl_path(name: &str) -> String {
    if name.contains('/') { format!("sys/{name}") } else { format!("sys/{}", name.replace('.', "/")) }
}

/// Checks that every sysctl is one of a namespace the container has: others are the host's.
pub(crate) fn check_sysctls(config: &Config) -> Result<()> {
    use oci_spec::runtime::LinuxNamespaceType as Kind;
    for name in config.linux().sysctl().iter().flatten().map(|(name, _)| name.replace('/', ".")) {
        let ipc = ["kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax"]
            .contains(&name.as_str())
            || ["kernel.shmmni", "kernel.shm_rmid_forced"].contains(&name.as_str())
            || name.starts_with("fs.mqueue.");
        let kind = if ipc {
            Kind::Ipc
        } else if name.starts_with("net.") {
            Kind::Network
        } else if matches!(name.as_str(), "kernel.hostname" | "kernel.domainname") {
            Kind::Uts
        } else if name.starts_with("user.") {
            Kind::User
        } else {
            return Err(Error::Invalid(format!("sysctl \"{name}\" is not in a separate namespace: it is the host's")));
        };
        if config.namespace(kind).is_none() || name.contains("..") {
            return Err(Error::Invalid(format!("sysctl \"{name}\" needs a {kind} namespace: it would be the host's")));
        }
    }
    Ok(())
}

/// Sleeps until `start` writes a byte.
fn wait_for_start(fifo: &OwnedFd) -> Result<()> {
    let mut byte = [0_u8; 1];
    loop {
        match read(fifo, &mut byte) {
            Err(Errno::INTR) => {}
            other => return other.map(drop).doing(|| "wait for start"),
        }
    }
}

/// The state for a hook that this process runs. Its pid is the one that the caller's /proc has for it.
fn state_text(job: &Job, status: Status) -> String {
    let mut state = job.state.clone();
    let own = readlinkat(&job.proc, Path::new("self"), Vec::new()).ok();
    state.pid = own.and_then(|name| name.to_str().ok()?.parse().ok()).unwrap_or(0);
    state.document(status).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(sysctl: &str, namespaces: &str) -> bool {
        let json = format!(
            r#"{{"ociVersion":"1.2.0","root":{{"path":"r"}},"linux":{{"sysctl":{{"{sysctl}":"1"}},
            "namespaces":[{{"type":"mount"}}{namespaces}]}}}}"#
        );
        check_sysctls(&Config::parse(json.into_bytes()).unwrap()).is_ok()
    }

    #[test]
    fn sysctls_of_the_host_are_refused() {
        let network = r#",{"type":"network"}"#;
        let ipc = r#",{"type":"ipc"}"#;
        let cases = [
            ("net.ipv4.ip_forward", network, true),
            ("net.ipv4.ip_forward", "", false),
            ("net.ipv4/../../kernel/core_pattern", network, false),
            ("kernel.shmmax", ipc, true),
            ("fs.mqueue.msg_max", ipc, true),
            ("kernel.core_pattern", ipc, false),
            ("vm.swappiness", network, false),
        ];
        for (name, namespaces, want) in cases {
            assert_eq!(checked(name, namespaces), want, "{name} {namespaces}");
        }
    }

    #[test]
    fn sysctl_paths() {
        assert_eq!(sysctl_path("net.ipv4.ip_forward"), "sys/net/ipv4/ip_forward");
        assert_eq!(sysctl_path("net/ipv4/conf/eth0.1/forwarding"), "sys/net/ipv4/conf/eth0.1/forwarding");
    }
}
