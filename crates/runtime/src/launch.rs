//! `create` and `run`: the caller's side of making a container.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use hoy_cgroup::Group;
use hoy_sys::process::Child;
use hoy_sys::rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, openat};
use hoy_sys::rustix::process::{
    DumpableBehavior, Signal, WaitOptions, geteuid, pidfd_send_signal, set_dumpable_behavior, waitpid,
};
use oci_spec::runtime::LinuxNamespaceType;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::channel::{Channel, Message};
use crate::config::Config;
use crate::error::Doing;
use crate::filter::Filter;
use crate::group::{is_in_user_namespace, make_group};
use crate::init::{self, Job};
use crate::namespace::{Namespaces, spawn};
use crate::rootfs::Sources;
use crate::state::{Container, OCI_VERSION, State, Status, process_times, write_pid_file};
use crate::{Error, Result, console, device, hooks, mount_plan, notify, program, userns};

/// What is asked for besides the bundle.
#[derive(Debug, Clone, Default)]
pub struct CreateOptions {
    /// The bundle.
    pub bundle: PathBuf,
    /// Where the terminal's master is sent.
    pub console_socket: Option<PathBuf>,
    /// Where the pid is written.
    pub pid_file: Option<PathBuf>,
    /// How many descriptors from 3 on the program keeps.
    pub preserve_fds: u32,
    /// The root is changed by chroot instead.
    pub no_pivot: bool,
    /// The caller's session keyring is kept.
    pub no_new_keyring: bool,
    /// Whether control groups are left alone where no limit needs them; `Some(false)` makes it an error when they
    /// cannot be made, `None` makes them where this user may.
    pub rootless: Option<bool>,
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
    let config = Config::read(&bundle.join("config.json"))?;
    check(&config, options, fifo)?;
    container.make(&config)?;
    let mut group = Group::default();
    let mut child = None;
    let made = launch_in(container, options, fifo, &bundle, config, &mut group, &mut child);
    if made.is_err() {
        // What went wrong is told; what was begun is taken back as far as it goes.
        if let Some(child) = child {
            pidfd_send_signal(&child.pidfd, Signal::KILL).unwrap_or_default();
            waitpid(Some(child.pid), WaitOptions::empty()).map(drop).unwrap_or_default();
        }
        hoy_cgroup::remove(&group.directories, &group.shared).unwrap_or_default();
        container.remove().unwrap_or_default();
    }
    made
}

fn check(config: &Config, options: &CreateOptions, fifo: bool) -> Result<()> {
    config.warnings.iter().for_each(|warning| program::warn(warning));
    let terminal = config.process()?.terminal().unwrap_or(false);
    match (terminal, &options.console_socket) {
        (false, Some(_)) => {
            Err(Error::Invalid("--console-socket is given, and process.terminal is not set".to_owned()))
        }
        (true, None) if fifo => {
            Err(Error::Invalid("process.terminal is set: a detached container needs --console-socket".to_owned()))
        }
        _ => init::check_sysctls(config),
    }
}

fn launch_in(
    container: &Container,
    options: &CreateOptions,
    fifo: bool,
    bundle: &Path,
    config: Config,
    group: &mut Group,
    made: &mut Option<Child>,
) -> Result<Launched> {
    let in_userns = config.namespace(LinuxNamespaceType::User).is_some() || is_in_user_namespace();
    *group = make_group(container, &config, in_userns, options.rootless)?;
    group.warnings.iter().for_each(|warning| program::warn(warning));
    let mut job = prepare(container, options, fifo, bundle, config, in_userns)?;
    job.state.cgroups = group.directories.clone();
    job.state.cgroups_shared = group.shared.clone();
    // Should this process be killed now, `delete --force` knows what there is to remove.
    container.write(&job.state)?;
    let v2 = group.directories.get("").map(|directory| open_directory(directory)).transpose()?;
    let maps = |pid| {
        let linux = job.config.linux();
        let of = |maps: &'_ Option<Vec<_>>| maps.clone().unwrap_or_default();
        userns::write_maps(pid, &of(linux.uid_mappings()), &of(linux.gid_mappings()))
    };
    if !job.namespaces.has_new_user() {
        // The child is born so: in a PID namespace that is joined others see it at once. The maps of a new user
        // namespace could not be written then, and nobody else is in it.
        set_dumpable_behavior(DumpableBehavior::NotDumpable).doing(|| "hide the process")?;
    }
    let own_score = program::set_oom_score(job.proc.as_fd(), job.config.process()?.oom_score_adj())?;
    let (child, outer) = spawn(&job.namespaces, v2.as_ref().map(AsFd::as_fd), maps, |inner| {
        let Err(error) = init::run(&job, inner);
        inner.tell(b'E', &error.chain()).unwrap_or_else(|_| program::warn(&error.chain()));
    })?;
    program::set_oom_score(job.proc.as_fd(), own_score)?;
    let pid = child.pid.as_raw_nonzero().get();
    *made = Some(Child { pid: child.pid, pidfd: child.pidfd.try_clone().doing(|| "duplicate a descriptor")? });
    job.state.pid = pid;
    Group::add(&group.directories, pid, v2.is_some())?;
    job.state.start_time =
        process_times(pid).ok_or_else(|| Error::Init("the container's process died at once".to_owned()))?.1;
    outer.say(b'G')?;
    let terminal = talk(&outer, &job, options.console_socket.as_deref())?;
    container.write(&job.state)?;
    if let Some(path) = &options.pid_file {
        write_pid_file(path, pid)?;
    }
    Ok(Launched { child, channel: outer, state: job.state, config: job.config, terminal })
}

/// Answers the container's process until it is ready; gives the terminal when no socket takes it.
fn talk(channel: &Channel, job: &Job, console: Option<&Path>) -> Result<Option<OwnedFd>> {
    let mut terminal = None;
    loop {
        match channel.receive()? {
            Message::Hooks => {
                let state = job.state.document(Status::Creating).to_string();
                hooks::run("prestart", job.config.hooks(init::prestart), &state)?;
                hooks::run("createRuntime", job.config.hooks(|hooks| hooks.create_runtime()), &state)?;
                channel.say(b'G')?;
            }
            Message::Terminal(master) => match console {
                Some(socket) => console::send(socket, master.as_fd())?,
                None => terminal = Some(master),
            },
            Message::Ready => return Ok(terminal),
            other => return Err(failure(other)),
        }
    }
}

/// What a message that ends the talk too early means.
pub(crate) fn failure(message: Message) -> Error {
    match message {
        Message::Failed(text) => Error::Init(text),
        _ => Error::Init("the container's process died while it was being made".to_owned()),
    }
}

/// Sends the descriptor of seccomp notifications to who listens at `linux.seccomp.listenerPath`.
pub(crate) fn send_listener(config: &Config, state: &State, listener: &OwnedFd) -> Result<()> {
    let seccomp = config.linux().seccomp().as_ref();
    let path = seccomp.and_then(|s| s.listener_path().as_deref());
    let path = path.ok_or_else(|| Error::Invalid("SCMP_ACT_NOTIFY needs seccomp.listenerPath".to_owned()))?;
    let doing = || format!("send seccomp notifications to \"{}\"", path.display());
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
    let mut mounts = config.spec.mounts().iter().flatten().map(mount_plan::plan).collect::<Result<Vec<_>>>()?;
    let env = config.process()?.env().as_deref().unwrap_or_default();
    let notify = notify::plan(std::env::var_os("NOTIFY_SOCKET").as_deref(), env);
    let (notify_env, notify_mount) = notify.map_or((None, None), |(entry, mount)| (Some(entry), mount));
    mounts.extend(notify_mount);
    let namespaces = Namespaces::plan(&config)?;
    let devices = device::plan(config.linux().devices().as_deref().unwrap_or_default())?;
    // Root of a user namespace may not be allowed to walk where the caller may: the caller opens for it, when he may.
    let opens = geteuid().is_root();
    let sources = opens.then(|| Sources::open(&rootfs, bundle, &mounts)).transpose()?;
    let host_devices = (in_userns && opens).then(|| device::open_host(&devices));
    let filter =
        config.linux().seccomp().as_ref().map(|profile| Filter::new(profile, &container.filters())).transpose()?;
    let state = State {
        oci_version: OCI_VERSION.to_owned(),
        id: container.id().to_owned(),
        pid: 0,
        start_time: 0,
        bundle: bundle.to_owned(),
        rootfs: rootfs.clone(),
        created: OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default(),
        owner: geteuid().as_raw().to_string(),
        annotations: config.spec.annotations().clone().unwrap_or_default(),
        cgroups: std::collections::BTreeMap::new(),
        cgroups_shared: std::collections::BTreeSet::new(),
    };
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
        proc: program::open_proc()?,
        fifo: fifo.then(|| make_fifo(&container.fifo())).transpose()?,
        preserve_fds: options.preserve_fds + listen_fds(),
        no_pivot: options.no_pivot,
        no_new_keyring: options.no_new_keyring,
        config,
    })
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
