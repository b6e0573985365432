//! `exec`: another program in a running container.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use hoy_cgroup::Door;
use hoy_sys::process::block_signals;
use hoy_sys::rustix::fs::{CWD, Mode, OFlags, openat};
use hoy_sys::rustix::process::{
    DumpableBehavior, Signal, WaitOptions, pidfd_send_signal, set_dumpable_behavior, setsid, umask, waitpid,
};
use oci_spec::runtime::{LinuxCapabilities, Process};
use serde_json::Value;

use crate::channel::{Channel, Message};
use crate::config::validate;
use crate::config::{Config, mend_process};
use crate::console::{self, Terminal};
use crate::container::Container;
use crate::error::Doing;
use crate::filter::Filter;
use crate::launch::{failure, listen_fds, send_listener};
use crate::mount::shared_mounts;
use crate::mount::tree::Root;
use crate::namespace::{Namespaces, spawn};
use crate::pid_file::write_pid_file;
use crate::process::affinity::Affinity;
use crate::process::capability::{self, Sets};
use crate::process::program::{self, Setting};
use crate::process::{identity, label};
use crate::resources::{group, resctrl};
use crate::state::{State, Status};
use crate::trace::Trace;
use crate::{Error, Result, foreground, procfs};

/// What is to be run, and how.
#[derive(Debug, Clone, Default)]
pub struct ExecOptions {
    /// A process of the specification as JSON; what follows changes the container's own process instead.
    pub process: Option<PathBuf>,
    /// The program and its arguments.
    pub args: Vec<String>,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Its working directory.
    pub cwd: Option<PathBuf>,
    /// What is added to its environment.
    pub env: Vec<String>,
    /// Its user and group.
    pub user: Option<(u32, Option<u32>)>,
    /// Its supplementary groups, added to the container's.
    pub additional_gids: Vec<u32>,
    /// Capabilities to add, never beyond the container's own bounding set.
    pub capabilities: Vec<String>,
    /// Whether it may gain privileges no more.
    pub no_new_privileges: bool,
    /// Its AppArmor profile.
    pub apparmor: Option<String>,
    /// Its SELinux label.
    pub label: Option<String>,
    /// How many descriptors from 3 on it keeps.
    pub preserve_fds: u32,
    /// Whether nobody waits for it.
    pub detach: bool,
    /// Where its pid is written.
    pub pid_file: Option<PathBuf>,
    /// Where its terminal's master is sent.
    pub console_socket: Option<PathBuf>,
    /// Where a descriptor of it is sent.
    pub pidfd_socket: Option<PathBuf>,
    /// Groups below the container's, each a path or `CONTROLLERS:PATH`.
    pub cgroup: Vec<String>,
    /// Whether a paused container will do.
    pub ignore_paused: bool,
    /// Who is told of each step.
    pub trace: Trace,
}

/// Parses `UID` or `UID:GID`, decimal numbers alone.
///
/// # Errors
/// [`Error::Invalid`] for anything else: a name means something only with the image's files, and a number out of
/// range must never become another user.
pub fn parse_user(text: &str) -> Result<(u32, Option<u32>)> {
    let invalid = || Error::Invalid(format!("user \"{text}\" is not UID or UID:GID, in numbers"));
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u32>().ok().filter(|id| digits && *id != u32::MAX).ok_or_else(invalid)
    };
    match text.split_once(':') {
        Some((uid, gid)) => Ok((number(uid)?, Some(number(gid)?))),
        None => Ok((number(text)?, None)),
    }
}

/// Runs a program in `container`: its exit code, or 0 at once when it is detached.
///
/// # Errors
/// [`Error::State`] when the container does not run; whatever fails before the program begins.
pub fn exec(container: &Container, options: &ExecOptions) -> Result<u8> {
    let refused =
        |reason: &str| Error::State { doing: "exec in", id: container.id().to_owned(), reason: reason.to_owned() };
    let state = container.state("exec in")?;
    let config = container.config()?;
    match container.status(Some(&state)) {
        Status::Stopped => return Err(refused("container not running")),
        Status::Paused if !options.ignore_paused => {
            return Err(refused(
                "it is paused: cannot exec in a paused container; resume it first, or use --ignore-paused",
            ));
        }
        _ => {}
    }
    let process = decide(&config, options)?;
    validate::check_process(&process)?;
    label::check_process(&process)?;
    let terminal = process.terminal().unwrap_or(false);
    match (&options.console_socket, terminal) {
        (Some(_), false) => {
            return Err(Error::Invalid("--console-socket is given, and no terminal is asked for".to_owned()));
        }
        (None, true) if options.detach => {
            return Err(Error::Invalid("a detached process with a terminal needs --console-socket".to_owned()));
        }
        _ => {}
    }
    let signals = if options.detach { None } else { Some(block_signals().doing(|| "block signals")?) };
    let pidfd = state.pidfd().ok_or_else(|| refused("container not running"))?;
    let namespaces = Namespaces::of_process(&config, pidfd.as_fd(), state.pid)?;
    let proc = procfs::open()?;
    let root = shared_mounts::root_of(&state, proc.as_fd())?;
    if !state.is_alive() {
        return Err(refused("container not running"));
    }
    let job = Job {
        filter: config
            .linux()
            .seccomp()
            .as_ref()
            .map(|profile| Filter::new(profile, &container.filters()))
            .transpose()?,
        sets: sets(&config, &process, options),
        proc,
        root,
        preserve_fds: options.preserve_fds.saturating_add(listen_fds()),
        cgroups: hoy_cgroup::place(&state.cgroups, &options.cgroup, state.pid)?,
        process,
        namespaces,
        config,
        state,
    };
    job.start(options, signals).map_err(|error| {
        // It may end between the look and the joining: its namespaces go a little before it does.
        let text = error.chain();
        let gone = text.starts_with("join") && text.ends_with("no such process");
        if gone || !job.state.is_alive() { refused("container not running") } else { error }
    })
}

struct Job {
    config: Config,
    state: State,
    /// The groups it goes into.
    cgroups: BTreeMap<String, PathBuf>,
    process: Process,
    sets: Option<Sets>,
    namespaces: Namespaces,
    filter: Option<Filter>,
    proc: OwnedFd,
    /// The container's root, where no mount namespace leads to it.
    root: Option<OwnedFd>,
    preserve_fds: u32,
}

/// The process to run: of the file, or the container's own with the changes that were asked for.
fn decide(config: &Config, options: &ExecOptions) -> Result<Process> {
    if let Some(path) = &options.process {
        let bytes = std::fs::read(path).doing(|| format!("read \"{}\"", path.display()))?;
        let (process, warnings) = parse_process(&bytes, path)?;
        warnings.iter().for_each(|warning| program::warn(warning));
        return Ok(process);
    }
    if options.args.is_empty() {
        return Err(Error::Invalid("neither a command nor --process is given".to_owned()));
    }
    let mut process = config.process()?.clone();
    process.set_args(Some(options.args.clone()));
    process.set_terminal(Some(options.tty));
    if let Some(cwd) = &options.cwd {
        process.set_cwd(cwd.clone());
    }
    let mut env = process.env().clone().unwrap_or_default();
    for entry in &options.env {
        let name = entry.split('=').next().unwrap_or_default();
        env.retain(|old| old.split('=').next() != Some(name));
        env.push(entry.clone());
    }
    process.set_env(Some(env));
    let user = process.user_mut();
    if let Some((uid, gid)) = options.user {
        user.set_uid(uid);
        user.set_gid(gid.unwrap_or(user.gid()));
    }
    if !options.additional_gids.is_empty() {
        let mut gids = user.additional_gids().clone().unwrap_or_default();
        gids.extend(&options.additional_gids);
        user.set_additional_gids(Some(gids));
    }
    if options.no_new_privileges {
        process.set_no_new_privileges(Some(true));
    }
    if options.apparmor.is_some() {
        process.set_apparmor_profile(options.apparmor.clone());
    }
    if options.label.is_some() {
        process.set_selinux_label(options.label.clone());
    }
    Ok(process)
}

/// Parses the document of `path`; what could not be understood and was left out is told.
pub(crate) fn parse_process(bytes: &[u8], path: &Path) -> Result<(Process, Vec<String>)> {
    let json = |source| Error::Json { what: format!("\"{}\"", path.display()), source };
    let mut value: Value = serde_json::from_slice(bytes).map_err(json)?;
    let mut warnings = Vec::new();
    if let Some(process) = value.as_object_mut() {
        process.entry("user").or_insert_with(|| serde_json::json!({"uid": 0, "gid": 0}));
    }
    mend_process(Some(&mut value), &mut warnings);
    Ok((serde_json::from_value(value).map_err(json)?, warnings))
}

/// Its capabilities: its own, or else the container's.
fn sets(config: &Config, process: &Process, options: &ExecOptions) -> Option<Sets> {
    let of_container = config.spec.process().as_ref().and_then(|p| p.capabilities().as_ref());
    let caps: Option<&LinuxCapabilities> = process.capabilities().as_ref().or(of_container);
    let mut sets = Sets::new(caps?);
    let known = options.capabilities.iter().filter_map(|name| {
        let number = capability::number(name);
        if number.is_none() {
            program::warn(&format!("unknown capability \"{name}\" is left out"));
        }
        number
    });
    let add = known.fold(0, |bits, number| bits | 1 << number);
    sets.add(add, of_container.map_or(0, |caps| Sets::new(caps).bounding));
    sets.warn();
    Some(sets)
}

impl Job {
    fn start(&self, options: &ExecOptions, signals: Option<OwnedFd>) -> Result<u8> {
        // Who may not move a process into a unit asks systemd to do it.
        let unit = self.state.systemd_unit.as_deref().filter(|_| group::is_users());
        let v2 = self.cgroups.get("").filter(|_| unit.is_none()).and_then(|directory| {
            openat(CWD, directory, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()
        });
        let door = if unit.is_none() { Door::open(&self.cgroups, v2.is_some())? } else { Door::default() };
        let no_maps = |_| Ok(());
        let affinity = Affinity::new(&self.process)?;
        self.filter.iter().for_each(|filter| options.trace.say(|| filter.to_string()));
        affinity.mask().iter().for_each(|mask| options.trace.say(|| format!("nsexec: affinity: {mask}")));
        // The process is born bound, and bound anew when it is in the container's group.
        affinity.before()?;
        // The child is born so: others in the container see it at once, with its memory and descriptors.
        set_dumpable_behavior(DumpableBehavior::NotDumpable).doing(|| "hide the process")?;
        let own_score = program::set_oom_score(self.proc.as_fd(), self.process.oom_score_adj())?;
        let (child, outer) = spawn(&self.namespaces, &options.trace, v2.as_ref().map(AsFd::as_fd), no_maps, |inner| {
            let Err(error) = door.enter().map_err(Error::from).and_then(|()| self.run(inner, &affinity));
            inner.tell(b'E', &error.chain()).unwrap_or_else(|_| program::warn(&error.chain()));
        })?;
        program::set_oom_score(self.proc.as_fd(), own_score)?;
        let pid = child.pid.as_raw_nonzero().get();
        let begun = unit.map_or(Ok(()), |unit| group::join(&self.cgroups, unit, pid)).and_then(|()| {
            if let Some(rdt) = self.config.linux().intel_rdt() {
                resctrl::join(&resctrl::root()?, &resctrl::plan(rdt, &self.state.id)?, pid)?;
            }
            outer.say(b'G')?;
            let terminal = self.talk(&outer, options)?;
            if let Some(path) = &options.pid_file {
                write_pid_file(path, pid)?;
            }
            if let Some(socket) = &options.pidfd_socket {
                console::send_pidfd(socket, b"setns", child.pidfd.as_fd())?;
            }
            Ok(terminal)
        });
        let terminal = match begun {
            Ok(terminal) => terminal,
            Err(error) => {
                // The failure is what is told; the process may have ended by itself.
                pidfd_send_signal(&child.pidfd, Signal::KILL).unwrap_or_default();
                waitpid(Some(child.pid), WaitOptions::empty()).map(drop).unwrap_or_default();
                return Err(error);
            }
        };
        match signals {
            Some(signals) => foreground::wait(child, signals, terminal, None),
            None => Ok(0),
        }
    }

    fn talk(&self, channel: &Channel, options: &ExecOptions) -> Result<Option<OwnedFd>> {
        let mut terminal = None;
        loop {
            match channel.receive()? {
                Message::Terminal(master) => match &options.console_socket {
                    Some(socket) => console::send(socket, master.as_fd())?,
                    None => {
                        foreground::plain_lines(master.as_fd())?;
                        terminal = Some(master);
                    }
                },
                Message::Ready => channel.say(b'G')?,
                Message::Listener(fd) => {
                    send_listener(&self.config, &self.state, &fd)?;
                    channel.say(b'G')?;
                }
                Message::Closed => return Ok(terminal),
                other => return Err(failure(other)),
            }
        }
    }

    fn run(&self, channel: &Channel, affinity: &Affinity) -> Result<Infallible> {
        channel.wait_go()?;
        affinity.after()?;
        umask(Mode::empty());
        setsid().doing(|| "make a session")?;
        self.namespaces.join_rest()?;
        channel.trace(|| "child process in init(): it is in the container's namespaces".to_owned());
        if let Some(root) = &self.root {
            shared_mounts::enter(root.as_fd())?;
        }
        if self.namespaces.join_user.is_some() {
            identity::become_root();
        }
        // A change of user may have shown the process again.
        set_dumpable_behavior(DumpableBehavior::NotDumpable).doing(|| "hide the process")?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let slash = openat(CWD, Path::new("/"), flags, Mode::empty()).doing(|| "open \"/\" in the container")?;
        let root = Root(slash.as_fd());
        let is_terminal = self.process.terminal().unwrap_or(false);
        if is_terminal {
            let terminal = Terminal::new(&root)?;
            terminal.prepare(&self.process)?;
            terminal.take()?;
            channel.give(b'T', terminal.master.as_fd())?;
        }
        let setting = Setting {
            process: &self.process,
            linux: self.config.linux(),
            filter: self.filter.as_ref(),
            sets: self.sets,
            proc: self.proc.as_fd(),
            channel,
            fifo: None,
            preserve_fds: self.preserve_fds,
            is_terminal,
            notify_env: None,
        };
        setting.limit()?;
        let program = setting.find(&root)?;
        channel.say(b'R')?;
        channel.wait_go()?;
        channel.trace(|| format!("setns_init: about to exec {:?}", self.process.args().iter().flatten().next()));
        setting.become_program(&root, &program, |_| Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_user() {
        let cases = [
            ("1", Some((1, None))),
            ("0", Some((0, None))),
            ("1:2", Some((1, Some(2)))),
            (":2", None),
            ("1:", None),
            ("name", None),
            ("name:grp", None),
            ("", None),
            ("-1", None),
            ("+1", None),
            (" 1", None),
            ("1x", None),
            ("4294967295", None),
            ("4294967296", None),
            ("1:2:3", None),
        ];
        for (text, want) in cases {
            assert_eq!(parse_user(text).ok(), want, "{text:?}");
        }
    }

    #[test]
    fn a_process_is_the_containers_with_changes() {
        let json = r#"{"ociVersion":"1.2.0","root":{"path":"r"},"process":{"args":["a"],"cwd":"/","env":["A=1","B=2"],
            "user":{"uid":3,"gid":4},"capabilities":{"bounding":["CAP_CHOWN"],"permitted":[]}},
            "linux":{"namespaces":[{"type":"mount"}]}}"#;
        let config = Config::parse(json.as_bytes().to_vec()).unwrap();
        let options = ExecOptions {
            args: vec!["b".to_owned()],
            env: vec!["A=9".to_owned()],
            user: Some((5, None)),
            capabilities: vec!["CAP_CHOWN".to_owned(), "CAP_SYS_ADMIN".to_owned()],
            ..ExecOptions::default()
        };
        let process = decide(&config, &options).unwrap();
        assert_eq!(process.env().as_deref().unwrap(), ["B=2", "A=9"]);
        assert_eq!((process.user().uid(), process.user().gid()), (5, 4));
        let sets = sets(&config, &process, &options).unwrap();
        assert_eq!((sets.bounding, sets.permitted, sets.effective, sets.inheritable), (1, 1, 1, 0));
        assert!(decide(&config, &ExecOptions::default()).is_err());
    }
}
