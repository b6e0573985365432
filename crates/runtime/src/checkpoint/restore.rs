//! `restore`: a container from the images that `checkpoint` made, through criu.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use hoy_cgroup::Group;
use hoy_sys::mount::{MountAttr, mount_setattr, propagation};
use hoy_sys::process::{Child, block_signals, flags, setns, unshare};
use hoy_sys::rustix::fs::{CWD, Mode, OFlags, openat};
use hoy_sys::rustix::process::{Pid, PidfdFlags, fchdir, pidfd_open};
use oci_spec::runtime::LinuxNamespaceType;

use crate::checkpoint::criu::{Criu, Notice, Task};
use crate::checkpoint::saved::{self, Source};
use crate::checkpoint::wire::Writer;
use crate::checkpoint::{Images, check_user, hand_on};
use crate::config::Config;
use crate::container::Container;
use crate::error::Doing;
use crate::launch::{CreateOptions, new_state};
use crate::lifecycle::delete;
use crate::mount::shared_mounts;
use crate::mount::tree::{self, Root};
use crate::pid_file::write_pid_file;
use crate::resources::group::{make_group, plan_unit};
use crate::state::{State, Status, process_times};
use crate::{Error, Result, console, foreground, hooks, init};

const LOG: &str = "restore.log";

/// What `restore` is told.
#[derive(Debug, Clone, Default)]
pub struct RestoreOptions {
    /// The container, as for `create`.
    pub create: CreateOptions,
    /// The images.
    pub images: Images,
    /// TCP connections are restored closed.
    pub tcp_close: bool,
    /// Another profile of the security module.
    pub lsm_profile: Option<String>,
    /// Another SELinux label for mounts.
    pub lsm_mount_context: Option<String>,
    /// Nobody waits for it.
    pub detach: bool,
}

/// Makes `container` from images: its exit code, or 0 at once when it is detached.
///
/// # Errors
/// Whatever fails; nothing is then left behind.
pub fn restore(container: &Container, options: &RestoreOptions) -> Result<u8> {
    check_user("restore", container.id())?;
    let bundle = &options.create.bundle;
    let bundle = fs::canonicalize(bundle).doing(|| format!("open bundle \"{}\"", bundle.display()))?;
    let config = Config::read(&options.create.config_file())?;
    let has_terminal = config.process()?.terminal().unwrap_or(false);
    if has_terminal && options.detach && options.create.console_socket.is_none() {
        let reason = "process.terminal is set: a detached container needs --console-socket";
        return Err(Error::Invalid(reason.to_owned()));
    }
    if plan_unit(container, &config, options.create.cgroup_manager)?.is_some() {
        return Err(Error::Invalid("restore cannot put processes into a unit of systemd".to_owned()));
    }
    container.make(&config)?;
    let mut state = new_state(container, &config, &bundle);
    match make(container, options, &config, &mut state) {
        Ok((child, signals, terminal)) => {
            let Some(signals) = signals else { return Ok(0) };
            let code = foreground::wait(child, signals, terminal, None)?;
            delete(container, true)?;
            Ok(code)
        }
        Err(error) => {
            // What went wrong is told; what was begun is taken back as far as it goes.
            hoy_cgroup::remove(&state.cgroups, &state.cgroups_shared).unwrap_or_default();
            shared_mounts::detach(&state).unwrap_or_default();
            container.remove().unwrap_or_default();
            Err(error)
        }
    }
}

type Made = (Child, Option<OwnedFd>, Option<OwnedFd>);

fn make(container: &Container, options: &RestoreOptions, config: &Config, state: &mut State) -> Result<Made> {
    let in_userns = config.namespace(LinuxNamespaceType::User).is_some();
    let group = make_group(container, config, in_userns, options.create.rootless, options.create.cgroup_manager)?;
    state.take_group(&group);
    container.write(state)?;
    if !options.create.no_new_keyring {
        init::keyring(container.id())?;
    }
    // criu wants the root as a mount of its own; in a namespace of its own it goes when criu does.
    let host = openat(CWD, "/proc/self/ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .doing(|| "open the mount namespace")?;
    let here =
        openat(CWD, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).doing(|| "open the working directory")?;
    let root = container.dir().join("criu-root");
    fs::create_dir(&root).doing(|| format!("make directory \"{}\"", root.display()))?;
    unshare(flags::NEWNS).doing(|| "make a mount namespace")?;
    // criu mounts in its working directory: it is one of its own namespace.
    let started = mount_root(&root, config, state)
        .and_then(|()| Ok((options.images.request(LOG)?, Criu::start(&options.images.criu)?)));
    setns(host.as_fd(), flags::NEWNS).doing(|| "return to the mount namespace")?;
    // The namespace comes with its "/" for the working directory; paths were given from another.
    fchdir(&here).doing(|| "return to the working directory")?;
    let ((request, _images, _work), criu) = started?;
    // Only now: criu would begin with the signals blocked. Nothing can have ended yet.
    let signals = if options.detach { None } else { Some(block_signals().doing(|| "block signals")?) };
    Group::add(&state.cgroups, criu.pid(), false)?;
    let (request, _kept) = complete(request, options, config, state, &root, criu.pid())?;
    let mut terminal = None;
    let on_notice = |notice: Notice| on_notice(notice, options, config, state, &mut terminal);
    let pid = criu.work(Task::Restore, &request, on_notice).map_err(|error| options.images.explain(error, LOG))?;
    let ended = || Error::Init("the restored process died at once".to_owned());
    let first = Pid::from_raw(pid).ok_or_else(ended)?;
    let pidfd = pidfd_open(first, PidfdFlags::empty()).doing(|| "open the restored process")?;
    state.pid = pid;
    state.start_time = process_times(pid).ok_or_else(ended)?.1;
    container.write(state)?;
    if let Some(path) = &options.create.pid_file {
        write_pid_file(path, pid)?;
    }
    Ok((Child { pid: first, pidfd }, signals, terminal))
}

/// Mounts the root file system at `target`, and makes in it what is mounted on.
fn mount_root(target: &Path, config: &Config, state: &State) -> Result<()> {
    let doing = || format!("mount root \"{}\"", state.rootfs.display());
    let open = |path: &Path| openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).doing(doing);
    let private = MountAttr { propagation: propagation::PRIVATE, ..MountAttr::default() };
    mount_setattr(open(Path::new("/"))?.as_fd(), true, private, None).doing(doing)?;
    let tree = tree::copy_of_path(&state.rootfs, true).doing(doing)?;
    tree::attach(tree.as_fd(), open(target)?.as_fd()).doing(doing)?;
    let root = Root(tree.as_fd());
    let covered: Vec<_> = config.spec.mounts().iter().flatten().map(|mount| mount.destination().clone()).collect();
    for mount in saved::mounts(config)? {
        let path = Path::new(&mount.key);
        // What lies in another mount is in the images.
        if covered.iter().any(|above| path != above && path.starts_with(above)) {
            continue;
        }
        match mount.source {
            Source::Path(source) if state.bundle.join(&source).is_file() => drop(root.file(path)?),
            Source::Path(_) => drop(root.directory(path)?),
            Source::Group(_) => {}
        }
    }
    Ok(())
}

/// Adds to the request what comes from outside. The descriptors given are in it by number.
fn complete(
    request: Writer,
    options: &RestoreOptions,
    config: &Config,
    state: &State,
    root: &Path,
    criu: i32,
) -> Result<(Writer, Vec<OwnedFd>)> {
    let mut request = request
        .text(13, Some(&root.to_string_lossy()))
        .flag(26, true)
        .flag(52, options.tcp_close)
        .text(53, options.lsm_profile.as_deref())
        .text(63, options.lsm_mount_context.as_deref());
    for mount in saved::mounts(config)? {
        let source = match mount.source {
            Source::Path(source) => state.bundle.join(source),
            Source::Group(hierarchy) => match state.cgroups.get(hierarchy.split(',').next().unwrap_or_default()) {
                Some(directory) => directory.clone(),
                None => continue,
            },
        };
        request = request.text(37, Some(&format!("mnt[{}]:{}", mount.key, source.display())));
    }
    // Only in version 1 does criu have to be told where the groups are now.
    let groups = fs::read_to_string(format!("/proc/{criu}/cgroup")).doing(|| "read criu's control groups")?;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        if let (Some(controllers), Some(path)) = (parts.next().filter(|name| !name.is_empty()), parts.next()) {
            request = request.message(25, &Writer::default().text(1, Some(controllers)).text(2, Some(path)));
        }
    }
    let mut kept = Vec::new();
    for namespace in saved::namespaces(config)? {
        let fd = openat(CWD, &namespace.path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .doing(|| format!("open \"{}\"", namespace.path.display()))?;
        request = request.message(27, &Writer::default().text(1, Some(namespace.key)).int(2, hand_on(&fd)?));
        kept.push(fd);
    }
    let streams = saved::read_streams(&options.images.directory)?;
    for (number, stream) in (0..).zip(streams.iter()).filter(|(_, stream)| stream.is_given_back()) {
        request = request.message(27, &Writer::default().text(1, Some(&stream.0)).int(2, number));
    }
    Ok((request, kept))
}

fn on_notice(
    notice: Notice,
    options: &RestoreOptions,
    config: &Config,
    state: &State,
    terminal: &mut Option<OwnedFd>,
) -> Result<()> {
    match (notice.point.as_str(), notice.fd) {
        ("setup-namespaces", _) => {
            let document = |status| State { pid: notice.pid, ..state.clone() }.document(status).to_string();
            hooks::run("prestart", config.hooks(init::prestart), &document(Status::Created), &state.bundle)?;
            let create = config.hooks(|hooks| hooks.create_runtime());
            hooks::run("createRuntime", create, &document(Status::Creating), &state.bundle)
        }
        ("orphan-pts-master", Some(master)) => {
            match &options.create.console_socket {
                Some(socket) => console::send(socket, master.as_fd())?,
                None => *terminal = Some(master),
            }
            Ok(())
        }
        _ => Ok(()),
    }
}
