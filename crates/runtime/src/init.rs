//! The container's first process, from its birth to the program: everything that happens inside the namespaces.

use std::convert::Infallible;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hoy_sys::process::{block_signals, close_except, exit_now, flags, join_session_keyring, unshare};
use hoy_sys::rustix::event::{PollFd, PollFlags, poll};
use hoy_sys::rustix::fs::{Mode, readlinkat};
use hoy_sys::rustix::io::{Errno, read};
use hoy_sys::rustix::process::{DumpableBehavior, set_dumpable_behavior, setsid, umask};
use hoy_sys::rustix::system::{setdomainname, sethostname};

use crate::channel::Channel;
use crate::config::Config;
use crate::console::Terminal;
use crate::device::{self, Device};
use crate::error::Doing;
use crate::filter::Filter;
use crate::mount::plan::MountPlan;
use crate::mount::source::Sources;
use crate::mount::tree::Root;
use crate::mount::{carry_out, rootfs};
use crate::mount::{no_pivot, shared_mounts};
use crate::namespace::Namespaces;
use crate::process::capability::Sets;
use crate::process::program::Setting;
use crate::process::{affinity, identity};
use crate::state::{State, Status};
use crate::{Error, Result, hooks, sysctl};

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
    move_in(job)?;
    channel.trace(|| format!("child process in init(): it builds its root from \"{}\"", job.rootfs.display()));
    let opened;
    let sources = match &job.sources {
        Some(sources) => sources,
        None => {
            // Closed below with everything else, and not a second time by its owner.
            opened = ManuallyDrop::new(Sources::open(&job.rootfs, &job.bundle, &job.mounts, false)?);
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
    let fifo = job.fifo.as_ref().map_or(root.0, AsFd::as_fd);
    let first = job.preserve_fds.saturating_add(3);
    if identity::limits_files(process) {
        // What is open here is not what a low limit is meant for.
        let keep = [channel.as_fd(), job.proc.as_fd(), root.0, fifo];
        close_except(first, &keep).doing(|| "close descriptors")?;
    }
    setting.limit()?;
    let program = setting.find(&root)?;
    let state = state_text(job, Status::Created);
    if job.fifo.is_some() {
        // Others may look at this process until it is started: nothing of the host's is open for longer than needed.
        close_except(first, &[channel.as_fd(), root.0, fifo]).doing(|| "close descriptors")?;
    }
    channel.say(b'R')?;
    // Nobody would know of a process that waits for `start` when its maker died before the state was written.
    channel.wait_go()?;
    if let Some(fifo) = &job.fifo {
        wait_for_start(fifo)?;
    }
    channel.trace(|| format!("init: closing the pipe to signal completion: exec {program}"));
    let start = job.config.hooks(|hooks| hooks.start_container());
    setting.become_program(&root, &program, |env| hooks::run_inside(start, &state, env))
}

/// Becomes a process of the container's namespaces, with their names.
fn move_in(job: &Job) -> Result<()> {
    affinity::reset();
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
    names(&job.config)
}

/// Mounts, devices and the way into the root; gives the terminal when there is to be one.
fn build_root(job: &Job, sources: &Sources, channel: &Channel) -> Result<Option<Terminal>> {
    let linux = job.config.linux();
    let propagation = linux.rootfs_propagation().as_deref();
    let root = Root(sources.root.as_fd());
    let null = job.null.as_ref().map_or_else(device::null, |null| null.try_clone().doing(|| "duplicate"))?;
    let is_shared = job.state.root_mount.is_some();
    let is_joined = job.namespaces.joins_mounts();
    if is_shared {
        shared_mounts::attach(root.0, &job.rootfs)?;
    } else {
        let place = (!job.no_pivot).then_some(job.rootfs.as_path());
        rootfs::attach_root(root.0, place, propagation, is_joined)?;
    }
    carry_out::mount_all(&root, &job.mounts, sources, &job.bundle, channel)?;
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
    hooks::run("createContainer", create, &state_text(job, Status::Creating), &job.bundle)?;
    // As every runtime does; one that cannot be made is told of when it is entered.
    root.directory(process.cwd()).map(drop).unwrap_or_default();
    sysctl::set_all(&job.config, job.proc.as_fd())?;
    if job.no_pivot && !is_shared && !is_joined {
        no_pivot::hide_host()?;
    }
    // Others in a mount namespace that is not this container's own keep their root.
    rootfs::enter(root.0, job.no_pivot || is_shared || is_joined)?;
    device::make_readonly(&root, linux.readonly_paths().as_deref().unwrap_or_default())?;
    device::mask(&root, linux, &null)?;
    carry_out::seal_dev(&root, &job.mounts)?;
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
pub(crate) fn keyring(id: &str) -> Result<()> {
    let name = std::ffi::CString::new(format!("_ses.{id}"));
    let name = name.map_err(|_| Error::Invalid(format!("container id {id:?} has a NUL byte")))?;
    // The keys of containers that ended a moment ago count against a user's limit until the kernel gets to them.
    for _ in 0..100 {
        match join_session_keyring(&name) {
            Err(error) if error.errno == Errno::NOSYS => return Ok(()),
            Err(error) if error.errno == Errno::DQUOT => std::thread::sleep(Duration::from_millis(50)),
            other => return other.doing(|| "make a session keyring"),
        }
    }
    let remedy = "raise kernel.keys.maxkeys, or use --no-new-keyring";
    Err(Error::Invalid(format!("make a session keyring: this user has as many keys as allowed: {remedy}")))
}

/// Sleeps until `start` writes a byte.
///
/// The first process of a PID namespace is deaf to signals that it does not ask for: those that ask it to end do so.
fn wait_for_start(fifo: &OwnedFd) -> Result<()> {
    const ENDING: [u32; 5] = [1, 2, 3, 6, 15];
    let doing = || "wait for start";
    let signals = block_signals().doing(doing)?;
    loop {
        let mut fds = [PollFd::new(fifo, PollFlags::IN), PollFd::new(&signals, PollFlags::IN)];
        poll(&mut fds, None)
            .map(drop)
            .or_else(|errno| if errno == Errno::INTR { Ok(()) } else { Err(errno) })
            .doing(doing)?;
        let [start, signal] = fds.map(|fd| fd.revents().contains(PollFlags::IN));
        if start {
            return read(fifo, &mut [0_u8; 1]).map(drop).doing(doing);
        }
        // struct signalfd_siginfo: 128 bytes, the signal's number first.
        let mut info = [0_u8; 128];
        if signal && read(&signals, &mut info).is_ok() {
            let number = info.first_chunk::<4>().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
            if ENDING.contains(&number) {
                exit_now(128 + i32::try_from(number).unwrap_or_default());
            }
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
