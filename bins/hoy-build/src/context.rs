//! Where this program runs: its store, its fellow programs, its user.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hoy_build::{CgroupParent, Tools};
use hoy_cli::{Context as _, Error, Result};
use hoy_layout::{ContainerId, Roots, Store};
use hoy_sys::rustix::io::Errno;
use hoy_sys::rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::FAILED;
use crate::containers_conf::ContainersConf;
use crate::global::Global;

/// How often joining a namespace is tried.
const ATTEMPTS: u32 = 200;

/// Whether warnings are wanted: --log-level.
static IS_SILENT: AtomicBool = AtomicBool::new(false);

pub(crate) struct Context {
    roots: Roots,
    pub(crate) tools: Tools,
    /// It is systemd that makes the control groups of commands, and not the runtime.
    pub(crate) is_systemd: bool,
    /// `--default-mounts-file`.
    pub(crate) mounts_file: Option<PathBuf>,
}

impl Context {
    pub(crate) fn new(global: &Global) -> Result<Self> {
        global.check()?;
        // Once, before anything else is done.
        IS_SILENT.store(global.is_silent(), Ordering::Relaxed);
        let uid = hoy_sys::rustix::process::getuid().as_raw();
        let env = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let roots = Roots::from_env(env, uid, hoy_sys::user::is_initial_root());
        let mut roots = roots.with(global.root.as_deref(), global.runroot.as_deref(), &global.additional_store)?;
        for problem in roots.leave_out_unreadable() {
            warn(&format!("warning: {}", hoy_cli::Error::from(problem)));
        }
        let beside = std::env::current_exe().ok().and_then(|path| path.parent().map(PathBuf::from));
        let tools = Tools::new(beside, roots.clone()).with_copy_options(global.copy_options());
        let tools = if global.is_telling() { tools.telling() } else { tools };
        Ok(Self { tools, roots, is_systemd: global.is_systemd(), mounts_file: global.default_mounts_file.clone() })
    }

    /// The control group that commands get theirs in, in the words of whoever makes it.
    pub(crate) fn cgroup_parent(&self, parent: String) -> CgroupParent {
        if self.is_systemd { CgroupParent::Slice(parent) } else { CgroupParent::Path(parent) }
    }

    pub(crate) fn store(&self) -> Result<Store> {
        let store = Store::open_or_create(&self.roots);
        let store = store.context(|| format!("open the store \"{}\"", self.roots.root.display()))?;
        Ok(store.telling(|error| hoy_cli::warn_of_damage_once("hoy-build", error)))
    }

    /// What the machine wants for every container.
    pub(crate) fn containers_conf(&self) -> Result<ContainersConf> {
        ContainersConf::read(hoy_sys::user::is_initial_root(), |name| std::env::var_os(name))
    }

    /// Becomes another program; returns only when that fails.
    pub(crate) fn become_other(&self, program: &str, action: &str, args: &[OsString]) -> Result<ExitCode> {
        let error = self.tools.command(program).arg(action).args(args).exec();
        Err(Error::from(error)).context(|| format!("run \"{program}\""))
    }

    /// Has another program do it; its failure has the exit code of every failure here.
    pub(crate) fn leave_to(&self, program: &str, action: &str, args: &[OsString]) -> Result<ExitCode> {
        let status = self.tools.command(program).arg(action).args(args).status();
        let status = status.context(|| format!("run \"{program}\""))?;
        Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
    }

    /// Goes on where an ordinary user's mounts are visible and files of all its ids can be written.
    ///
    /// For root, for whoever is there already, and where the root file system of the container `id` is a plain
    /// directory because mounts are not allowed, this does nothing.
    pub(crate) fn enter_namespaces(&self, id: &ContainerId) -> Result<()> {
        if hoy_sys::rustix::process::geteuid().is_root() || !self.tools.mount(id.as_str())?.starts_with("/proc") {
            return Ok(());
        }
        self.enter()
    }

    /// Goes on there, for an ordinary user, and for root of a container that may not mount; returns only for any other
    /// root, and when it fails.
    pub(crate) fn enter(&self) -> Result<()> {
        if is_there() {
            return Ok(());
        }
        let own = called().context(|| "find this program")?;
        let mut command = self.tools.command("hoy-storage");
        let error = command.args(["unshare", "--"]).arg(own).args(std::env::args_os().skip(1)).exec();
        Err(Error::from(error)).context(|| "run \"hoy-storage\"")
    }

    /// The same for this very process, which must have one thread: it follows a child there.
    pub(crate) fn join(&self) -> Result<()> {
        if is_there() {
            return Ok(());
        }
        let own = std::env::current_exe().context(|| "find this program")?;
        let mut command = self.tools.command("hoy-storage");
        command.args(["unshare", "--"]).arg(own).arg("keep").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context(|| "run \"hoy-storage\"")?;
        // It answers once it is there.
        let mut answer = [0];
        let (asked, answered) = (child.stdin.as_mut(), child.stdout.as_mut());
        let is_inside = asked.is_some_and(|stdin| stdin.write_all(b"\n").is_ok())
            && answered.is_some_and(|stdout| stdout.read_exact(&mut answer).is_ok());
        let joined = if is_inside { follow(&child) } else { Ok(()) };
        drop(child.stdin.take());
        let status = child.wait()?;
        match status.success() {
            true => joined,
            // It said why.
            false => Err(Error::msg("go on in a user namespace")),
        }
    }
}

/// Whether this process need not go anywhere else.
fn is_there() -> bool {
    hoy_sys::rustix::process::geteuid().is_root() && !hoy_sys::user::is_confined_root()
}

/// Joins the namespaces that `child` is in.
fn follow(child: &Child) -> Result<()> {
    let directory = std::env::current_dir();
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let mut left = ATTEMPTS;
    while let Err(error) = hoy_sys::userns::join_user_and_mounts(pidfd.as_fd()) {
        // The kernel still counts a thread that has ended a moment ago.
        if error.errno != Errno::INVAL || left == 0 {
            return Err(Error::from(error)).context(|| "join a user namespace");
        }
        left -= 1;
        std::thread::sleep(Duration::from_millis(1));
    }
    // setns(2) went to the root directory.
    if let Ok(directory) = directory {
        std::env::set_current_dir(&directory).context(|| format!("enter \"{}\"", directory.display()))?;
    }
    Ok(())
}

/// Tells the person something that is no failure.
pub(crate) fn warn(text: &str) {
    if IS_SILENT.load(Ordering::Relaxed) {
        return;
    }
    // Standard error may be closed, and then there is nobody to tell.
    writeln!(std::io::stderr(), "{}", warning(text)).unwrap_or_default();
}

/// How it is told: called buildah in the shape of its lines for --log-level, which scripts look for.
pub(crate) fn warning(text: &str) -> String {
    if hoy_cli::is_called("buildah") {
        format!("level=warning msg={:?}", text.trim_start_matches("warning: "))
    } else {
        format!("hoy-build: {text}")
    }
}

/// Tells of a failure that is not the last one of a command: buildah names itself at the last alone.
pub(crate) fn say_earlier(error: &Error) {
    let name = if hoy_cli::is_called("buildah") { "" } else { "hoy-build: " };
    // Standard error may be closed, and then there is nobody to tell.
    writeln!(std::io::stderr(), "{name}{error}").unwrap_or_default();
}

/// This program, by the name that it was called by: its words depend on it.
fn called() -> std::io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let name = PathBuf::from(std::env::args_os().next().unwrap_or_default());
    let path = std::env::var_os("PATH").filter(|_| name.components().count() == 1).unwrap_or_default();
    let places = std::env::split_paths(&path).map(|dir| dir.join(&name)).chain([name.clone()]);
    Ok(places.into_iter().find(|place| place.canonicalize().is_ok_and(|found| found == own)).unwrap_or(own))
}
