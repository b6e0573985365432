//! `create` and `run`: the caller's side of making a container.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use hoy_cgroup::{Door, Group, Unit};
use hoy_sys::process::{Child, flags};
use hoy_sys::rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, openat};
use hoy_sys::rustix::process::{
    DumpableBehavior, Signal, WaitOptions, geteuid, pidfd_send_signal, set_dumpable_behavior, waitpid,
};
use hoy_sys::rustix::thread::CapabilitySet;
use oci_spec::runtime::LinuxNamespaceType;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::channel::{Channel, Message};
use crate::config::Config;
use crate::config::validate;
use crate::container::Container;
use crate::error::Doing;
use crate::filter::Filter;
use crate::init::{self, Job};
use crate::mount::source::Sources;
use crate::mount::{plan, shared_mounts};
use crate::namespace::userns;
use crate::namespace::{Namespaces, spawn};
use crate::pid_file::write_pid_file;
use crate::process::capability::Sets;
use crate::process::{capability, program};
use crate::resources::group::{CgroupManager, is_in_user_namespace, make_group, plan_unit, start_unit, stop_unit};
use crate::resources::resctrl;
use crate::state::{OCI_VERSION, State, Status, process_times};
use crate::trace::Trace;
use crate::{Error, Result, console, device, foreground, hooks, network, notify, procfs};

/// What is asked for besides the bundle.
#[derive(Debug, Clone, Default)]
pub struct CreateOptions {
    /// The bundle.
    pub bundle: PathBuf,
    /// The configuration, where it is not the bundle's `config.json`.
    pub config: Option<PathBuf>,
    /// Where the terminal's master is sent.
    pub console_socket: Option<PathBuf>,
    /// Where the pid is written.
    pub pid_file: Option<PathBuf>,
    /// Where a descriptor of the first process is sent.
    pub pidfd_socket: Option<PathBuf>,
    /// How many descriptors from 3 on the program keeps.
    pub preserve_fds: u32,
    /// The root is changed by chroot instead.
    pub no_pivot: bool,
    /// The caller's session keyring is kept.
    pub no_new_keyring: bool,
    /// Whether control groups are left alone where no limit needs them; `Some(false)` makes it an error when they
    /// cannot be made, `None` makes them where this user may.
    pub rootless: Option<bool>,
    /// Who makes control groups.
    pub cgroup_manager: CgroupManager,
    /// Who is told of each step.
    pub trace: Trace,
}

/// What a failure takes back.
#[derive(Default)]
struct Begun {
    group: Group,
    unit: Option<Unit>,
    child: Option<Child>,
}

impl CreateOptions {
    /// The configuration's file.
    pub(crate) fn config_file(&self) -> PathBuf {
        self.config.clone().unwrap_or_else(|| self.bundle.join("config.json"))
    }
}

/// A container just made, its process waiting.
pub(crate) struct Launched {
    pub(crate) child: Child,
    pub(crate) channel: Channel,
    pub(crate) state: State,
    pub(crate) config: Config,
    /// The terminal's master, when nobody else was given it.
    pub(crate) terminal: Option<OwnedFd>,
}

/// Makes the container `container`, its process waiting for `start`.
///
/// # Errors
/// Whatever fails; nothing is then left behind.
pub fn create(container: &Container, options: &CreateOptions) -> Result<()> {
    launch(container, options, true).map(drop)
}

/// Makes the container. With `fifo` its process waits for `start`, and otherwise for a message of this process.
pub(crate) fn launch(container: &Container, options: &CreateOptions, fifo: bool) -> Result<Launched> {
    let bundle =
        std::fs::canonicalize(&options.bundle).doing(|| format!("open bundle \"{}\"", options.bundle.display()))?;
    let config = Config::read(&options.config_file())?;
    check(&config, options, fifo)?;
    container.make(&config)?;
    let mut begun = Begun::default();
    let made = launch_in(container, options, fifo, &bundle, config, &mut begun);
    if made.is_err() {
        // What went wrong is told; what was begun is taken back as far as it goes.
        let Begun { group, unit, child } = begun;
        let has_child = child.is_some();
        if let Some(child) = child {
            pidfd_send_signal(&child.pidfd, Signal::KILL).unwrap_or_default();
            waitpid(Some(child.pid), WaitOptions::empty()).map(drop).unwrap_or_default();
        }
        if let Some(unit) = unit.filter(|_| has_child) {
            stop_unit(&unit.name).unwrap_or_default();
        }
        hoy_cgroup::remove(&group.directories, &group.shared).unwrap_or_default();
        container.read().ok().flatten().map_or(Ok(()), |state| shared_mounts::detach(&state)).unwrap_or_default();
        container.remove().unwrap_or_default();
    }
    made
}

fn check(config: &Config, options: &CreateOptions, fifo: bool) -> Result<()> {
    config.warnings.iter().for_each(|warning| program::warn(warning));
    config.process()?.capabilities().as_ref().map(Sets::new).iter().for_each(Sets::warn);
    let terminal = config.process()?.terminal().unwrap_or(false);
    match (terminal, &options.console_socket) {
        (false, Some(_)) => {
            Err(Error::Invalid("--console-socket is given, and process.terminal is not set".to_owned()))
        }
        (true, None) if fifo => {
            Err(Error::Invalid("process.terminal is set: a detached container needs --console-socket".to_owned()))
        }
        _ => validate::check_here(config),
    }
}

fn launch_in(
    container: &Container,
    options: &CreateOptions,
    fifo: bool,
    bundle: &Path,
    config: Config,
    begun: &mut Begun,
) -> Result<Launched> {
    let in_userns = config.namespace(LinuxNamespaceType::User).is_some() || is_in_user_namespace();
    begun.unit = plan_unit(container, &config, options.cgroup_manager)?;
    if begun.unit.is_none() {
        begun.group = make_group(container, &config, in_userns, options.rootless, options.cgroup_manager)?;
    }
    let mut job = prepare(container, options, fifo, bundle, config, in_userns)?;
    job.state.systemd_unit = begun.unit.as_ref().map(|unit| unit.name.clone());
    job.state.take_group(&begun.group);
    options.trace.say(|| format!("control groups: {:?}", begun.group.directories));
    job.state.creating = true;
    if begun.unit.is_some() {
        // Should this process be killed now, `delete --force` knows what there is to stop.
        container.write(&job.state)?;
    }
    let v2 = begun.group.directories.get("").map(|directory| open_directory(directory)).transpose()?;
    let door = Door::open(&begun.group.directories, v2.is_some())?;
    let maps = |pid| {
        let linux = job.config.linux();
        let of = |maps: &'_ Option<Vec<_>>| maps.clone().unwrap_or_default();
        userns::write_maps(pid, &of(linux.uid_mappings()), &of(linux.gid_mappings()))
    };
    if !job.namespaces.has_new_user() || geteuid().is_root() {
        // The child is born so: in a PID namespace that is joined others see it at once, and look at what it has open.
        // An ordinary user could not write the maps of a new user namespace then; nobody else sees into his.
        set_dumpable_behavior(DumpableBehavior::NotDumpable).doing(|| "hide the process")?;
    }
    let own_score = program::set_oom_score(job.proc.as_fd(), job.config.process()?.oom_score_adj())?;
    let (child, outer) = spawn(&job.namespaces, &options.trace, v2.as_ref().map(AsFd::as_fd), maps, |inner| {
        let Err(error) = door.enter().map_err(Error::from).and_then(|()| init::run(&job, inner));
        inner.tell(b'E', &error.chain()).unwrap_or_else(|_| program::warn(&error.chain()));
    })?;
    program::set_oom_score(job.proc.as_fd(), own_score)?;
    let pid = child.pid.as_raw_nonzero().get();
    begun.child = Some(Child { pid: child.pid, pidfd: child.pidfd.try_clone().doing(|| "duplicate a descriptor")? });
    job.state.pid = pid;
    record(container, &mut job, begun, pid)?;
    network::move_all(&job.config, &job.namespaces, pid)?;
    let rdt = job.config.linux().intel_rdt().as_ref().map(|rdt| resctrl::plan(rdt, &job.state.id)).transpose()?;
    let made = rdt.map(|plan| resctrl::apply(&resctrl::root()?, &plan, pid)).transpose()?;
    outer.say(b'G')?;
    let terminal = talk(&outer, &job, options.console_socket.as_deref())?;
    job.state.creating = false;
    container.write(&job.state)?;
    if let Some(path) = &options.pid_file {
        write_pid_file(path, pid)?;
    }
    made.into_iter().for_each(resctrl::Made::keep);
    if let Some(socket) = &options.pidfd_socket {
        console::send_pidfd(socket, b"standard", child.pidfd.as_fd())?;
    }
    if fifo {
        outer.say(b'G')?;
    }
    Ok(Launched { child, channel: outer, state: job.state, config: job.config, terminal })
}

/// Puts the process `pid` into its unit, if it has one, and notes all that there is to be removed by now.
fn record(container: &Container, job: &mut Job, begun: &mut Begun, pid: i32) -> Result<()> {
    if let Some(unit) = &begun.unit {
        begun.group = start_unit(unit, container, &job.config, pid)?;
        job.state.take_group(&begun.group);
        // systemd has put it into the unit's group of version 2.
        Group::add(&begun.group.directories, pid, true)?;
    }
    begun.group.warnings.iter().for_each(|warning| program::warn(warning));
    job.state.start_time =
        process_times(pid).ok_or_else(|| Error::Init("the container's process died at once".to_owned()))?.1;
    // Should this process be killed, the other ends at its next question, or `delete --force` ends it.
    container.write(&job.state)
}

/// Answers the container's process until it is ready; gives the terminal when no socket takes it.
fn talk(channel: &Channel, job: &Job, console: Option<&Path>) -> Result<Option<OwnedFd>> {
    let mut terminal = None;
    loop {
        match channel.receive()? {
            Message::Hooks => {
                let state = |status| job.state.document(status).to_string();
                // The first kind of hook there was is told what it always was, and callers' tests ask for it.
                hooks::run("prestart", job.config.hooks(init::prestart), &state(Status::Created), &job.bundle)?;
                let create = job.config.hooks(|hooks| hooks.create_runtime());
                hooks::run("createRuntime", create, &state(Status::Creating), &job.bundle)?;
                channel.say(b'G')?;
            }
            Message::Terminal(master) => match console {
                Some(socket) => console::send(socket, master.as_fd())?,
                None => {
                    foreground::plain_lines(master.as_fd())?;
                    terminal = Some(master);
                }
            },
            Message::Map(number, tree) => {
                job.sources.as_ref().map_or(Ok(()), |sources| sources.map(&job.mounts, number, tree.as_fd()))?;
                channel.say(b'G')?;
            }
            Message::Ready => return Ok(terminal),
            other => return Err(failure(other)),
        }
    }
}

/// What a message that ends the talk too early means.
pub(crate) fn failure(message: Message) -> Error {
    match message {
        Message::Failed(text) => Error::Init(text),
        Message::NotExecuted(text) => Error::NotExecuted(text),
        _ => Error::Init("the container's process died while it was being made".to_owned()),
    }
}

/// Sends the descriptor of seccomp notifications to who listens at `linux.seccomp.listenerPath`.
pub(crate) fn send_listener(config: &Config, state: &State, listener: &OwnedFd) -> Result<()> {
    let seccomp = config.linux().seccomp().as_ref();
    let path = seccomp.and_then(|s| s.listener_path().as_deref());
    let path = path.ok_or_else(|| Error::Invalid("SCMP_ACT_NOTIFY needs seccomp.listenerPath".to_owned()))?;
    // runc's words, which people search for.
    let doing = || format!("failed to connect with seccomp agent \"{}\"", path.display());
    let metadata = seccomp.and_then(|s| s.listener_metadata().clone()).unwrap_or_default();
    let text = serde_json::json!({
        "ociVersion": OCI_VERSION, "fds": ["seccompFd"], "pid": state.pid, "metadata": metadata,
        "state": state.document(Status::Creating),
    });
    let stream = UnixStream::connect(path).doing(doing)?;
    hoy_sys::net::send_fds(&stream, text.to_string().as_bytes(), &[listener.as_fd()]).doing(doing)
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .doing(|| format!("open \"{}\"", path.display()))
}

fn prepare(
    container: &Container,
    options: &CreateOptions,
    fifo: bool,
    bundle: &Path,
    config: Config,
    in_userns: bool,
) -> Result<Job> {
    let rootfs = config.rootfs(bundle);
    let mut mounts = plan::plan_all(&config)?;
    for mount in &mut mounts {
        // A place below the root by its path on the host is one in the root, as runc takes it.
        if let Ok(inner) = mount.destination.strip_prefix(&rootfs) {
            mount.destination = Path::new("/").join(inner);
        }
    }
    let env = config.process()?.env().as_deref().unwrap_or_default();
    let notify = notify::plan(container.dir(), std::env::var_os("NOTIFY_SOCKET").as_deref(), env);
    let (notify_env, notify_mount) = notify.unzip();
    if let Some(mount) = notify_mount {
        notify::prepare(container.dir())?;
        mounts.push(mount);
    }
    let namespaces = Namespaces::plan(&config)?;
    let devices = device::plan(config.linux().devices().as_deref().unwrap_or_default())?;
    // Root of a user namespace may not be allowed to walk where the caller may, and in a mount namespace that is
    // joined paths mean something else: the caller opens for it, when he may.
    let opens = geteuid().is_root() && capability::is_effective(CapabilitySet::SYS_ADMIN);
    let has_mounts = config.namespace(LinuxNamespaceType::Mount).is_some();
    let walks = !in_userns && (!has_mounts || namespaces.new & flags::NEWNS != 0);
    let sources = opens.then(|| Sources::open(&rootfs, bundle, &mounts, !walks)).transpose()?;
    let root_mount = match &sources {
        _ if has_mounts => None,
        Some(sources) => Some(shared_mounts::identify(sources.root.as_fd(), &rootfs)?),
        None => return Err(Error::Invalid("a container without a mount namespace needs root".to_owned())),
    };
    let host_devices = (in_userns && opens).then(|| device::open_host(&devices));
    let filter =
        config.linux().seccomp().as_ref().map(|profile| Filter::new(profile, &container.filters())).transpose()?;
    filter.iter().for_each(|filter| options.trace.say(|| filter.to_string()));
    let state = State { root_mount, ..new_state(container, &config, bundle) };
    Ok(Job {
        state,
        bundle: bundle.to_owned(),
        rootfs,
        namespaces,
        mounts,
        sources,
        devices,
        in_userns,
        notify_env,
        host_devices,
        null: opens.then(device::null).transpose()?,
        filter,
        proc: procfs::open()?,
        fifo: fifo.then(|| make_fifo(&container.fifo())).transpose()?,
        preserve_fds: options.preserve_fds.saturating_add(listen_fds()),
        no_pivot: options.no_pivot,
        no_new_keyring: options.no_new_keyring,
        config,
    })
}

/// The state of a container that is about to be made.
pub(crate) fn new_state(container: &Container, config: &Config, bundle: &Path) -> State {
    State {
        oci_version: OCI_VERSION.to_owned(),
        id: container.id().to_owned(),
        pid: 0,
        start_time: 0,
        creating: false,
        bundle: bundle.to_owned(),
        rootfs: config.rootfs(bundle),
        created: OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default(),
        owner: geteuid().as_raw().to_string(),
        annotations: config.spec.annotations().clone().unwrap_or_default(),
        cgroups: std::collections::BTreeMap::new(),
        cgroups_shared: std::collections::BTreeSet::new(),
        root_mount: None,
        systemd_unit: None,
    }
}

/// Descriptors of socket activation are handed on: sd_listen_fds(3).
pub(crate) fn listen_fds() -> u32 {
    std::env::var("LISTEN_FDS").ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn make_fifo(path: &Path) -> Result<OwnedFd> {
    let doing = || format!("make \"{}\"", path.display());
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).doing(doing)?;
    // Open for both: the read waits for a byte, and does not end when the last writer goes.
    openat(CWD, path, OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty()).doing(doing)
}
