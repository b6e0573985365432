//! `run`: a command in a working container.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::OnceLock;

use hoy_layout::{ContainerDir, ContainerId, Store, write_volatile_file};
use hoy_paper::Paper;
use hoy_spec::{Config, Host, Mount, Options, Request, Users, generate};
use hoy_sys::path::open_in_root;
use hoy_sys::process::{flags, unshare};
use hoy_sys::relay::catch_signals;
use hoy_sys::rustix::fs::{Mode, OFlags, StatVfsMountFlags, statvfs};
use hoy_sys::rustix::io::Errno;
use hoy_sys::rustix::system::sethostname;

use crate::in_root::Left;
use crate::placed::Placed;
use crate::supervise::{self, start_failure};
use crate::tools::no_program;
use crate::{Error, Result, Tools, Working};

/// What `hoy-storage diff` reads to leave out what was only made to be mounted on.
const STUBS: &str = "stubs.json";
/// Files of the host that a process in the host's network needs.
const NETWORK_FILES: [&str; 2] = ["/etc/resolv.conf", HOSTS];
const HOSTS: &str = "/etc/hosts";

/// What keeps a command apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// An OCI runtime.
    #[default]
    Oci,
    /// Its root directory alone, where nothing else can be had.
    Chroot,
}

impl Isolation {
    /// The program that is spoken to as an OCI runtime, and the options that come first, where it is none that was chosen.
    pub const IN_ROOT: (&str, &str) = ("hoy-build", "in-root");
}

/// A control group that commands get theirs in, and who makes that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CgroupParent {
    /// A path of the hierarchy; the runtime makes it.
    Path(String),
    /// A slice of systemd.
    Slice(String),
}

impl CgroupParent {
    /// `cgroupsPath` of the runtime's configuration.
    fn path(&self, id: &ContainerId) -> String {
        match self {
            Self::Path(path) => format!("/{}/{id}", path.trim_matches('/')),
            Self::Slice(slice) => format!("{slice}:hoy:{id}"),
        }
    }
}

/// How a command is run.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// The options that it shares with `podman create`.
    pub create: Options,
    /// The OCI runtime: a name or a path.
    pub runtime: String,
    /// Global options for it.
    pub runtime_flags: Vec<String>,
    /// What is mounted beside what `create` says.
    pub mounts: Vec<Mount>,
    /// The control group that the command's own is made in; none for that of this process.
    pub cgroup_parent: Option<CgroupParent>,
    /// The image's own /etc/hosts stays where it is.
    pub no_hosts: bool,
    /// Where bundle and runtime's state are made, if not in the store's volatile state.
    pub bundles: Option<PathBuf>,
    /// What keeps it apart; with [`Isolation::Chroot`] `runtime` is that of [`Isolation::IN_ROOT`].
    pub isolation: Isolation,
}

impl RunOptions {
    /// Where the runtime keeps what it knows of the container, and of its variables.
    pub(crate) fn state_root(&self, store: &Store) -> PathBuf {
        self.bundles.as_deref().unwrap_or(store.runroot()).join("runtime")
    }
}

/// Runs `command` in the container and returns its exit code, with what a person should hear about it.
///
/// The image's entry point plays no part. What mounts need is written down so that it never gets into a layer.
///
/// # Errors
/// [`Error::Spec`], [`Error::NoProgram`], and those of mounting.
pub fn run(
    store: &Store,
    tools: &Tools,
    dir: &ContainerDir,
    working: &Working,
    command: &[String],
    options: &RunOptions,
    warn: impl Fn(&str),
) -> Result<u8> {
    let rootfs = tools.mount(dir.id().as_str())?;
    let started = start(store, tools, (dir, &rootfs), working, command, options, |_, _| Ok(()), warn)?;
    let signals = catch_signals().map_err(Error::io("catch", "signals"))?;
    let left = started.watch(options, store)?;
    let code = supervise::wait(started.child, &signals)?;
    left.map_or(Ok(()), Left::wait)?;
    started.bundle.finish(code, dir, options)
}

/// A command that runs.
pub(crate) struct Started {
    pub(crate) child: Child,
    pub(crate) bundle: Bundle,
}

impl Started {
    /// Ends its other processes with it, which only a container does by itself.
    pub(crate) fn watch(&self, options: &RunOptions, store: &Store) -> Result<Option<Left>> {
        let is_bare = options.isolation == Isolation::Chroot;
        let watch = || Left::watch(&self.child, options.state_root(store), self.bundle.id.to_string());
        is_bare.then(watch).transpose()
    }
}

/// Starts `command` in a container mounted at `rootfs`; `set_up` may change how the runtime is started, and hears under which id.
#[expect(clippy::too_many_arguments, reason = "a place, what is done there, and who hears of it")]
pub(crate) fn start(
    store: &Store,
    tools: &Tools,
    (dir, rootfs): (&ContainerDir, &Path),
    working: &Working,
    command: &[String],
    options: &RunOptions,
    set_up: impl FnOnce(&mut Command, &ContainerId) -> Result<()>,
    warn: impl Fn(&str),
) -> Result<Started> {
    let root = File::open(rootfs).map_err(Error::io("open", rootfs))?;
    let config = config(root.as_fd(), dir, working, command, options, &warn)?;
    remember_stubs(root.as_fd(), dir, &config.mounts)?;
    let mut bundle = Bundle::new(options, store, rootfs, config, dir)?;
    if options.isolation == Isolation::Chroot {
        let mounts = extra_mounts(options);
        bundle.placed = Some(Placed::put(root.as_fd(), &mounts)?);
    }
    let mut runtime = tools.command(&options.runtime);
    runtime.args(&options.runtime_flags).arg("--root").arg(options.state_root(store));
    runtime.arg("--log").arg(bundle.log()).args(["--log-format", "json"]);
    runtime.arg("run").arg("--bundle").arg(&bundle.path);
    if options.isolation == Isolation::Oci {
        runtime.arg("--pid-file").arg(bundle.pid_file());
    }
    runtime.arg(bundle.id.as_str());
    set_up(&mut runtime, &bundle.id)?;
    let child = runtime.spawn().map_err(no_program(&options.runtime))?;
    Ok(Started { child, bundle })
}

fn config(
    root: BorrowedFd<'_>,
    dir: &ContainerDir,
    working: &Working,
    command: &[String],
    options: &RunOptions,
    warn: impl Fn(&str),
) -> Result<Config> {
    let mut image = working.config.config.clone();
    (image.entrypoint, image.cmd) = (None, None);
    let mounts = extra_mounts(options);
    if let Some(option) = options.create.id_options().into_iter().next() {
        let reason = "a working container has the ids it was made with".to_owned();
        return Err(hoy_spec::Error::Option { option: "--userns", value: option, reason }.into());
    }
    let mut made = generate(&Request {
        image: &image,
        options: &options.create,
        command,
        users: &Users::read(root)?,
        host: &Host::current(),
        ids: dir.container()?.id_maps.as_ref(),
        user_namespace: None,
        hostname: dir.id().short(),
        mounts: &mounts,
    })?;
    made.warnings.iter().for_each(|warning| warn(warning));
    if options.isolation == Isolation::Oci && !may_name_hosts() {
        if let Some(name) = &options.create.hostname {
            let reason = "a filter on this process lets nobody set a host name".to_owned();
            return Err(hoy_spec::Error::Option { option: "--hostname", value: name.clone(), reason }.into());
        }
        made.config.hostname = None;
    }
    let settings = statvfs("/proc/sys").map(|found| found.f_flag);
    if settings.is_ok_and(|flags| flags.contains(StatVfsMountFlags::RDONLY)) {
        // A container that this one is in has them for itself.
        made.config.linux.sysctl.clear();
    }
    Ok(made.config)
}

/// Whether a host name can be set in a UTS namespace: filters that other builders' containers have refuse it even there.
pub(crate) fn may_name_hosts() -> bool {
    static MAY: OnceLock<bool> = OnceLock::new();
    // The namespace is that of the thread alone, and ends with it.
    let attempt = || unshare(flags::NEWUTS).is_ok_and(|()| sethostname(b"attempt").is_ok());
    *MAY.get_or_init(|| std::thread::spawn(attempt).join().unwrap_or(false))
}

/// What is mounted beside what every container has.
fn extra_mounts(options: &RunOptions) -> Vec<Mount> {
    let has_network = options.isolation == Isolation::Chroot || options.create.network.as_deref() == Some("host");
    let is_wanted = |file: &&&str| has_network && Path::new(file).exists() && !(options.no_hosts && **file == HOSTS);
    let files = NETWORK_FILES.iter().filter(is_wanted).map(|file| bind(file));
    // What is asked for comes last, and stays.
    let is_asked = |mount: &Mount| options.mounts.iter().any(|asked| asked.destination == mount.destination);
    files.filter(|mount| !is_asked(mount)).chain(options.mounts.iter().cloned()).collect()
}

fn bind(file: &str) -> Mount {
    let options = ["bind", "ro", "nosuid", "nodev", "noexec"].map(str::to_owned).to_vec();
    Mount { destination: file.to_owned(), kind: "bind".to_owned(), source: file.to_owned(), options }
}

/// Writes down, before they are made, the mounts' destinations that the root file system has not.
fn remember_stubs(root: BorrowedFd<'_>, dir: &ContainerDir, mounts: &[Mount]) -> Result<()> {
    let mut stubs: BTreeSet<String> = match dir.read_json(STUBS) {
        Ok(stubs) => stubs,
        Err(error) if error.is_not_found() => BTreeSet::new(),
        Err(error) => return Err(error.into()),
    };
    let before = stubs.len();
    for mount in mounts {
        match open_in_root(root, &mount.destination, OFlags::PATH, Mode::empty()) {
            Err(error) if matches!(error.errno, Errno::NOENT | Errno::NOTDIR) => {
                stubs.insert(mount.destination.clone());
            }
            // Whatever else is wrong with it, the runtime says.
            _ => {}
        }
    }
    match stubs.len() == before {
        true => Ok(()),
        false if dir.container()?.volatile.is_some() => Ok(dir.write_volatile_json(STUBS, &stubs)?),
        false => Ok(dir.write_json(STUBS, &stubs)?),
    }
}

/// A bundle for one run, gone afterwards; several commands may run in one container.
pub(crate) struct Bundle {
    pub(crate) id: ContainerId,
    path: PathBuf,
    paper: Option<Paper>,
    placed: Option<Placed>,
}

impl Bundle {
    fn new(
        options: &RunOptions,
        store: &Store,
        rootfs: &Path,
        mut config: Config,
        container: &ContainerDir,
    ) -> Result<Self> {
        let id = ContainerId::random()?;
        let path = options.bundles.as_deref().unwrap_or(store.runroot()).join(id.as_str());
        DirBuilder::new().mode(0o700).create(&path).map_err(Error::io("create", &path))?;
        config.root.path = rootfs.display().to_string();
        config.linux.cgroups_path = options.cgroup_parent.as_ref().map(|parent| parent.path(&id));
        let mut bundle = Self { id, path, paper: None, placed: None };
        bundle.paper = Paper::of(&mut config, &bundle.path, container, options.isolation == Isolation::Chroot)?;
        let bytes = serde_json::to_vec(&config).map_err(|source| Error::Json("config.json", source))?;
        write_volatile_file(&bundle.path.join("config.json"), &bytes)?;
        Ok(bundle)
    }

    fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Written by the runtime when there is a container.
    fn pid_file(&self) -> PathBuf {
        self.path.join("pid")
    }

    /// What the code that the runtime ended with means: its command's, or that it could not start that.
    pub(crate) fn finish(mut self, code: u8, container: &ContainerDir, options: &RunOptions) -> Result<u8> {
        drop(self.placed.take());
        if let Some(paper) = self.paper.take() {
            paper.finish(container)?;
        }
        let failure = || std::fs::read_to_string(self.log()).ok().and_then(|log| start_failure(&log));
        if code != 0 && options.isolation == Isolation::Oci && !self.pid_file().exists() {
            // It says why in its log, or, where it did not come that far, on standard error.
            return failure().ok_or_else(|| Error::NoContainer { runtime: options.runtime.clone(), code });
        }
        // Only these can be the runtime's own.
        Ok(if matches!(code, 1 | 125..=127 | 255) { failure().unwrap_or(code) } else { code })
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        // What cannot be removed is in a directory that a reboot empties.
        std::fs::remove_dir_all(&self.path).unwrap_or_default();
    }
}
