//! `run`, `start`, `kill`, `delete`, `pause`, `resume`: a container's life after it was made.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use hoy_sys::process::{block_signals, pidfd_signal};
use hoy_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use hoy_sys::rustix::fs::OFlags;
use hoy_sys::rustix::io::Errno;
use oci_spec::runtime::LinuxNamespaceType;

use crate::channel::Message;
use crate::config::Config;
use crate::container::Container;
use crate::error::Doing;
use crate::foreground;
use crate::launch::{CreateOptions, failure, launch, send_listener};
use crate::mount::shared_mounts;
use crate::notify::Relay;
use crate::process::program;
use crate::resources::{group, resctrl};
use crate::state::{State, Status};
use crate::{Error, Result, hooks};

const KILL: i32 = 9;

/// Makes a container and runs its program: the exit code, or at once 0 when it is detached.
///
/// # Errors
/// Whatever fails before the program begins; nothing is then left behind.
pub fn run(container: &Container, options: &CreateOptions, detach: bool, keep: bool) -> Result<u8> {
    // Before the process is there, so that no signal is lost between the two.
    let signals = if detach { None } else { Some(block_signals().doing(|| "block signals")?) };
    if detach {
        let config = Config::read(&options.config_file())?;
        if config.process()?.terminal().unwrap_or(false) && options.console_socket.is_none() {
            let reason = "process.terminal is set: a detached container needs --console-socket";
            return Err(Error::Invalid(reason.to_owned()));
        }
    }
    let launched = launch(container, options, false)?;
    let started = Relay::new(container.dir()).and_then(|relay| {
        launched.channel.say(b'G')?;
        loop {
            match launched.channel.receive()? {
                Message::Closed => break Ok(relay),
                Message::Listener(fd) => {
                    send_listener(&launched.config, &launched.state, &fd)?;
                    launched.channel.say(b'G')?;
                }
                other => break Err(failure(other)),
            }
        }
    });
    let started = started.and_then(|relay| {
        let state = launched.state.document(Status::Running).to_string();
        let hooks = launched.config.hooks(|hooks| hooks.poststart());
        hooks::run("poststart", hooks, &state, &launched.state.bundle)?;
        Ok(relay)
    });
    let relay = match started {
        Ok(relay) => relay,
        Err(error) => {
            delete(container, true).unwrap_or_else(|e| program::warn(&e.chain()));
            return Err(error);
        }
    };
    let Some(signals) = signals else {
        relay.map_or(Ok(()), |relay| relay.wait(launched.child.pidfd.as_fd(), launched.state.pid))?;
        return Ok(0);
    };
    let code = foreground::wait(launched.child, signals, launched.terminal, relay)?;
    if !keep {
        delete_known(container, true, Some(launched.config))?;
    }
    Ok(code)
}

/// Lets the program of a created container begin, and returns when it has.
///
/// # Errors
/// [`Error::State`] when the container is not waiting for it.
pub fn start(container: &Container) -> Result<()> {
    let lock = container.lock()?;
    let state = container.state("start")?;
    let refused =
        |reason: &str| Error::State { doing: "start", id: container.id().to_owned(), reason: reason.to_owned() };
    match container.status(Some(&state)) {
        Status::Created => {}
        Status::Stopped => return Err(refused("it has stopped")),
        _ => return Err(refused("it is running already")),
    }
    let path = container.fifo();
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOFOLLOW).bits()).unwrap_or_default();
    let opened = OpenOptions::new().write(true).custom_flags(flags).open(&path);
    let mut fifo = match opened {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NXIO) => return Err(refused("it has stopped")),
        other => other.doing(|| format!("open \"{}\"", path.display()))?,
    };
    let relay = Relay::new(container.dir())?;
    let pidfd = state.pidfd();
    fifo.write_all(b"0").doing(|| "start the program")?;
    std::fs::remove_file(&path).doing(|| format!("remove \"{}\"", path.display()))?;
    // The last reader goes when the program begins: its descriptor closes on exec.
    poll(&mut [PollFd::new(&fifo, PollFlags::empty())], None).doing(|| "wait for the program to begin")?;
    drop(lock);
    let config = container.config()?;
    let document = state.document(Status::Running).to_string();
    hooks::run("poststart", config.hooks(|hooks| hooks.poststart()), &document, &state.bundle)
        .inspect_err(|_| kill_process(&state))?;
    match (relay, pidfd) {
        (Some(relay), Some(pidfd)) => relay.wait(pidfd.as_fd(), state.pid),
        _ => Ok(()),
    }
}

fn kill_process(state: &State) {
    if let Some(pidfd) = state.pidfd() {
        // It may have ended a moment ago.
        pidfd_signal(pidfd.as_fd(), KILL).unwrap_or_default();
    }
}

/// Sends a signal to the container's first process, or to all of them.
///
/// # Errors
/// [`Error::State`] when it has stopped.
pub fn kill(container: &Container, signal: i32, all: bool) -> Result<()> {
    let state = container.state("kill")?;
    let refused =
        || Error::State { doing: "kill", id: container.id().to_owned(), reason: "container not running".to_owned() };
    let first = state.is_alive().then_some(state.pid);
    if all {
        return signal_all(&state.cgroups, first, signal);
    }
    // Where its first process is not that of a PID namespace nothing else ends with it.
    if signal == KILL && !state.cgroups.is_empty() && state.cgroups_shared.is_empty() && !has_own_pids(container) {
        let is_empty = hoy_cgroup::processes(&state.cgroups)?.is_empty();
        return if is_empty && first.is_none() { Err(refused()) } else { signal_all(&state.cgroups, first, signal) };
    }
    let pidfd = state.pidfd().ok_or_else(refused)?;
    match pidfd_signal(pidfd.as_fd(), signal) {
        Err(error) if error.errno == Errno::SRCH => Err(refused()),
        other => other.doing(|| format!("send signal {signal}")),
    }?;
    if signal == KILL { thaw(&state.cgroups) } else { Ok(()) }
}

/// Lets frozen processes go on, to their end: on version 1 not even SIGKILL reaches them before.
fn thaw(groups: &BTreeMap<String, PathBuf>) -> Result<()> {
    if hoy_cgroup::is_frozen(groups) {
        hoy_cgroup::freeze(groups, false)?;
    }
    Ok(())
}

fn has_own_pids(container: &Container) -> bool {
    container.config().is_ok_and(|config| config.has_new(LinuxNamespaceType::Pid))
}

fn signal_all(groups: &BTreeMap<String, PathBuf>, first: Option<i32>, signal: i32) -> Result<()> {
    use hoy_sys::rustix::process::{Pid, PidfdFlags, pidfd_open};
    if signal == KILL && hoy_cgroup::kill_all(groups) {
        return Ok(());
    }
    let mut pids = hoy_cgroup::processes(groups)?;
    pids.extend(first);
    for pid in pids.into_iter().filter_map(Pid::from_raw) {
        let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
        match pidfd_signal(pidfd.as_fd(), signal) {
            Err(error) if error.errno == Errno::SRCH => {}
            other => other.doing(|| format!("send signal {signal}"))?,
        }
    }
    if signal == KILL { thaw(groups) } else { Ok(()) }
}

/// Removes a stopped container; with `force` kills it first, and one that is not there is no failure.
///
/// # Errors
/// [`Error::State`] when it runs; those of removing its groups and directory, after everything was tried.
pub fn delete(container: &Container, force: bool) -> Result<()> {
    delete_known(container, force, None)
}

/// Removes a container whose configuration need not be read again when it is `known`.
fn delete_known(container: &Container, force: bool, known: Option<Config>) -> Result<()> {
    let _lock: OwnedFd = match container.lock() {
        Err(error) if force && error.is_not_found() => return Ok(()),
        other => other?,
    };
    let state = match container.read() {
        Err(error) if !force => return Err(error),
        other => other.unwrap_or_default(),
    };
    let status = container.status(state.as_ref());
    let Some(state) = state else {
        if !force {
            container.state("delete")?;
        }
        let groups = container.lost_groups(&BTreeMap::new());
        if groups.is_empty() && container.has_state() {
            program::warn("its state cannot be read: a process of it may be left");
        }
        signal_all(&groups, None, KILL)?;
        let removed = hoy_cgroup::remove(&groups, &BTreeSet::new());
        return container.remove().and(Ok(removed?));
    };
    if !matches!(status, Status::Stopped) {
        if !force && status != Status::Created {
            let reason = format!("it is {}: kill it first, or use --force", status.as_str());
            return Err(Error::State { doing: "delete", id: container.id().to_owned(), reason });
        }
        end(&state)?;
        if state.creating {
            // A hook of it may go on.
            signal_all(&state.own_groups(), None, KILL)?;
        }
    }
    let config = known.map_or_else(|| container.config(), Ok);
    let has_pid_namespace = config.as_ref().is_ok_and(|config| config.has_new(LinuxNamespaceType::Pid));
    if !has_pid_namespace && !state.cgroups.is_empty() && state.cgroups_shared.is_empty() {
        // Nothing else ends with the first process here.
        signal_all(&state.cgroups, None, KILL)?;
    }
    let unit = state.systemd_unit.as_deref().map_or(Ok(()), group::stop_unit);
    let groups = remove_groups(container, &state, force);
    let rdt = config.as_ref().ok().and_then(|config| config.linux().intel_rdt().as_ref());
    let shares = rdt.map_or(Ok(()), |rdt| resctrl::delete(rdt, container.id()));
    let unmounted = shared_mounts::detach(&state);
    // What has processes yet can be found and deleted again.
    let removed = if groups.is_ok() { container.remove() } else { Ok(()) };
    if let Ok(config) = config {
        // A hook that fails after the end is only told of, and the next one runs: runtime-spec runtime.md "Lifecycle".
        let document = state.document(Status::Stopped).to_string();
        hooks::run_each("poststop", config.hooks(|h| h.poststop()), &document, &state.bundle);
    }
    unit?;
    groups?;
    shares?;
    unmounted?;
    removed
}

/// Removes the control groups. With `force` also when processes are in them, or somebody else has changed the state.
fn remove_groups(container: &Container, state: &State, force: bool) -> Result<()> {
    let removed = hoy_cgroup::remove(&state.cgroups, &state.cgroups_shared);
    if !force {
        return Ok(removed?);
    }
    if removed.is_err() {
        signal_all(&state.own_groups(), None, KILL)?;
        hoy_cgroup::remove(&state.cgroups, &state.cgroups_shared)?;
    }
    let lost = container.lost_groups(&state.cgroups);
    signal_all(&lost, None, KILL)?;
    Ok(hoy_cgroup::remove(&lost, &BTreeSet::new())?)
}

/// Kills the first process and waits until it has gone.
fn end(state: &State) -> Result<()> {
    let Some(pidfd) = state.pidfd() else { return Ok(()) };
    thaw(&state.cgroups)?;
    kill_process(state);
    let timeout = Timespec::try_from(Duration::from_secs(10)).ok();
    let ended = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], timeout.as_ref()).doing(|| "wait for the container")?;
    if ended == 0 {
        return Err(Error::Invalid(format!("container \"{}\" does not end after SIGKILL", state.id)));
    }
    Ok(())
}

/// Freezes the container's processes, or lets them go on.
///
/// # Errors
/// [`Error::State`] when there is nothing to freeze or to let go.
pub fn pause(container: &Container, frozen: bool) -> Result<()> {
    let doing = if frozen { "pause" } else { "resume" };
    let state = container.state(doing)?;
    let status = container.status(Some(&state));
    let wanted = if frozen { Status::Running } else { Status::Paused };
    if status != wanted && !(frozen && status == Status::Created) {
        let reason = format!("it is {}", status.as_str());
        return Err(Error::State { doing, id: container.id().to_owned(), reason });
    }
    Ok(hoy_cgroup::freeze(&state.cgroups, frozen)?)
}

/// The processes in a container, as the host counts.
///
/// # Errors
/// Those of reading its control group.
pub fn processes(container: &Container) -> Result<Vec<i32>> {
    let state = container.state("list the processes of")?;
    let mut pids = hoy_cgroup::processes(&state.cgroups)?;
    if state.is_alive() {
        pids.insert(state.pid);
    }
    Ok(pids.into_iter().collect())
}
