//! A further process in a running container.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::Stdio;

use hoy_layout::write_volatile_file;
use hoy_spec::{Config, Host, Options, Users, exec_process};
use hoy_sys::process::{flags, setns};
use hoy_sys::relay::catch_signals;
use hoy_sys::rustix;
use hoy_sys::rustix::process::{geteuid, getpid};

use crate::programs::start;
use crate::{Engine, Error, Handed, Result, Status, supervise};

/// What was asked to be run in a container.
#[derive(Debug, Clone)]
pub struct Exec {
    /// The container's name or id.
    pub container: String,
    /// The command.
    pub command: Vec<String>,
    /// `env`, `env_file`, `user`, `workdir`, `tty` and `privileged` of it.
    pub options: Options,
    /// Whether standard input is the process's too.
    pub interactive: bool,
    /// What the caller hands to the process.
    pub handed: Handed,
}

impl Engine {
    /// Runs a process in a running container and waits for its end; gives its exit code, or 125, 126 or 127 when it could
    /// not be started and the runtime said why.
    ///
    /// # Errors
    /// [`Error::NotRunning`], and whatever keeps it from being started.
    pub fn exec(&self, exec: &Exec) -> Result<u8> {
        let entry = self.container(&exec.container)?;
        let not_running = || Error::NotRunning(exec.container.clone());
        let pid = self.pid(&entry).filter(|_| entry.status == Status::Running).ok_or_else(not_running)?;
        let runtime = self.runtime(&entry.record.runtime)?;
        let root_path = format!("/proc/{pid}/root");
        let config: Config = entry.dir.read_json("config.json")?;
        if !geteuid().is_root() {
            join_user_namespace(pid, entry.container.id_maps.is_some())?;
        }
        let listener = config.linux.seccomp.as_ref().and_then(|seccomp| seccomp.listener_path.as_ref());
        if listener.is_some_and(|path| !Path::new(path).exists()) {
            return Err(Error::Unheard(exec.container.clone()));
        }
        let root = File::open(&root_path).map_err(Error::io("open", Path::new(&root_path)))?;
        let users = Users::read(root.as_fd())?;
        let process = exec_process(&config, &users, &Host::current(), &exec.options, &exec.command)?;
        let file = |what: &str| {
            let me = getpid().as_raw_nonzero();
            entry.dir.path().join(format!("{}exec-{me}-{what}", hoy_layout::TEMPORARY_PREFIX))
        };
        let (description, log) = (file("process.json"), file("log"));
        let json =
            serde_json::to_vec(&process).map_err(|e| Error::io("write", &description)(std::io::Error::from(e)))?;
        write_volatile_file(&description, &json)?;
        let mut args = vec!["exec".into(), "--process".into(), description.clone().into_os_string()];
        if exec.handed.descriptors > 0 {
            args.extend(["--preserve-fds".into(), exec.handed.descriptors.to_string().into()]);
        }
        args.push(entry.id().as_str().into());
        let mut command = runtime.logging(&log, args);
        Handed::hide_from(&mut command);
        command.stdin(if exec.interactive { Stdio::inherit() } else { Stdio::null() });
        let signals = catch_signals()?;
        let spawned = command.spawn().map_err(start(&runtime.program().display().to_string()));
        let ended = spawned.and_then(|mut child| supervise::wait(&mut child, &signals));
        std::fs::remove_file(&description).unwrap_or_default();
        self.explain(ended?, &log, || Ok(()))
    }
}

/// Becomes root of the user namespace in which another `hoy run` of this user made the container: its owner may.
///
/// A container with ids of its own has a namespace in that one.
fn join_user_namespace(pid: i32, has_own: bool) -> Result<()> {
    let theirs = format!("/proc/{pid}/ns/user");
    let path = Path::new(&theirs);
    let mut target = OwnedFd::from(File::open(path).map_err(Error::io("open", path))?);
    if has_own {
        target = hoy_sys::userns::parent(target.as_fd())?;
    }
    let ours = Path::new("/proc/self/ns/user");
    let inode = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino);
    let own = rustix::fs::stat(ours).map_err(Error::io("look at", ours))?;
    if inode(rustix::fs::fstat(&target).map_err(Error::io("look at", path))?) == inode(own) {
        return Ok(());
    }
    Ok(setns(target.as_fd(), flags::NEWUSER)?)
}
