//! `RUN --mount=type=ssh`: the agent that a command asks, which is the caller's own, or one that is started for its keys.

use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use hoy_sys::rustix::fs::{Mode, OFlags, open};
use hoy_sys::rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::containerfile::builder::open_directory;
use crate::tools::no_program;
use crate::{Error, Result};

/// The agent of OpenSSH, and what gives it keys.
const AGENT: &str = "ssh-agent";
const ADD: &str = "ssh-add";
/// Says the agent's process id, and stays until its standard input is closed, as it is when this process ends: the agent
/// ends with it.
const HOLD: &str = "echo \"$SSH_AGENT_PID\"; exec cat";
/// More conversations at once than any command has with an agent.
const MAX_TALKS: usize = 64;

/// What `--ssh` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Agent {
    /// An agent's socket.
    Socket(PathBuf),
    /// Files of keys.
    Keys(Vec<PathBuf>),
}

/// A process that has keys.
#[derive(Debug)]
pub(crate) struct Started {
    hold: Child,
    agent: OwnedFd,
    socket: PathBuf,
}

impl Started {
    /// Starts an agent in a directory, and gives it these keys.
    fn new(directory: &Path, keys: &[PathBuf]) -> Result<Self> {
        let mut command = Command::new(AGENT);
        // The name of a socket is short, and the directory's may be long.
        command.args(["-a", "agent", "sh", "-c", HOLD]).current_dir(directory);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut hold = command.spawn().map_err(no_program(AGENT))?;
        let mut line = String::new();
        let said = hold.stdout.take().map(|stdout| BufReader::new(stdout).read_line(&mut line));
        said.transpose().map_err(Error::io("read from", AGENT))?;
        let pid = line.trim().parse().ok().and_then(Pid::from_raw);
        let agent = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let Some(agent) = agent else {
            drop(hold.stdin.take());
            hold.wait().map_err(Error::io("wait for", AGENT))?;
            return Err(Error::Refused(format!("{AGENT} did not start")));
        };
        let started = Self { hold, agent, socket: directory.join("agent") };
        let mut command = Command::new(ADD);
        command.arg("-q").args(keys).current_dir(directory).stdin(Stdio::null()).stdout(Stdio::null());
        command.env("SSH_AUTH_SOCK", "agent").env("SSH_ASKPASS_REQUIRE", "never");
        let output = command.stderr(Stdio::piped()).output().map_err(no_program(ADD))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let said: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
            let text = format!("option --ssh: {}: give a key with a passphrase to an agent yourself", said.join(" "));
            return Err(Error::Refused(text));
        }
        Ok(started)
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // It may have ended already.
        pidfd_send_signal(&self.agent, Signal::TERM).unwrap_or_default();
        drop(self.hold.stdin.take());
        self.hold.wait().map(drop).unwrap_or_default();
    }
}

/// What a command is given for as long as it runs.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) socket: PathBuf,
    #[expect(dead_code, reason = "it ends when it is dropped, before what it leads to")]
    relay: Option<Relay>,
    #[expect(dead_code, reason = "it ends when it is dropped")]
    started: Option<Started>,
}

/// Has the agent at work. With `is_own` its socket is one of its own, to which an owner and a mode can be given.
pub(crate) fn serve(agent: &Agent, directory: &Path, is_own: bool) -> Result<Served> {
    let (socket, started) = match agent {
        Agent::Socket(socket) => (socket.clone(), None),
        Agent::Keys(keys) => {
            let started = Started::new(directory, keys)?;
            (started.socket.clone(), Some(started))
        }
    };
    let relay = is_own.then(|| Relay::new(directory, &socket)).transpose()?;
    let socket = relay.as_ref().map_or(socket, |relay| relay.socket.clone());
    Ok(Served { socket, relay, started })
}

/// A socket whose connections are passed on to another: an agent itself answers only its owner and root.
#[derive(Debug)]
struct Relay {
    socket: PathBuf,
    directory: OwnedFd,
    is_over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Relay {
    fn new(directory: &Path, to: &Path) -> Result<Self> {
        let target = open(to, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(Error::io("open", to))?;
        let socket = directory.join("relay");
        let directory = open_directory(directory)?;
        let listener = UnixListener::bind(relay_in(&directory)).map_err(Error::io("listen at", &socket))?;
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || accept(&listener, &Arc::new(target), &over));
        Ok(Self { socket, directory, is_over, thread: Some(thread) })
    }
}

/// The socket by a short name: sockaddr_un(7) has no place for a long one.
fn relay_in(directory: &OwnedFd) -> String {
    format!("/proc/self/fd/{}/relay", directory.as_raw_fd())
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // What wakes the thread up; where the socket is gone, the thread is at its end with the process.
        if UnixStream::connect(relay_in(&self.directory)).is_ok()
            && let Some(thread) = self.thread.take()
        {
            thread.join().unwrap_or_default();
        }
    }
}

fn accept(listener: &UnixListener, target: &Arc<OwnedFd>, is_over: &AtomicBool) {
    let talks = Arc::new(AtomicUsize::new(0));
    for asking in listener.incoming() {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        let Ok(asking) = asking else { continue };
        if talks.fetch_add(1, Ordering::Relaxed) >= MAX_TALKS {
            talks.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let (target, talks) = (Arc::clone(target), Arc::clone(&talks));
        std::thread::spawn(move || {
            // One that breaks off is the command's business.
            pass(&asking, &target).unwrap_or_default();
            talks.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

/// Passes all that both sides say on to the other.
fn pass(asking: &UnixStream, target: &OwnedFd) -> std::io::Result<()> {
    let answering = UnixStream::connect(format!("/proc/self/fd/{}", target.as_fd().as_raw_fd()))?;
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| one_way(asking, &answering));
        one_way(&answering, asking)?;
        asked.join().map_err(|_| std::io::Error::other("a thread ended"))?
    })
}

fn one_way(mut from: &UnixStream, mut to: &UnixStream) -> std::io::Result<()> {
    std::io::copy(&mut from, &mut to)?;
    to.shutdown(std::net::Shutdown::Write)
}
