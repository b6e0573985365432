//! A program whose processes are stopped at each of their system calls, to be killed at one of them (ptrace(2)).

use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::Run;

/// No traced program takes longer than this.
const LIMIT: Duration = Duration::from_secs(120);

/// PTRACE_EVENT_EXEC: a new program.
const EVENT_EXEC: i32 = 4;

/// PTRACE_EVENT_STOP: a new process, or one that was asked to stop.
const EVENT_STOP: i32 = 128;

/// The system call to kill a process at: which process, in the order of their births, and which of its calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    /// 0 is the program itself.
    pub process: usize,
    /// 1 is the first call after its exec(3).
    pub call: u32,
}

/// What was seen of a traced program.
#[derive(Debug)]
pub struct Seen {
    /// How many system calls each process began, in the order of their births.
    pub calls: Vec<u32>,
    /// Whether the call to kill at was reached.
    pub killed: bool,
}

struct Process {
    pid: Pid,
    calls: u32,
    is_in_call: bool,
    is_alive: bool,
}

struct Tracer {
    processes: Vec<Process>,
    at: Option<At>,
    has_begun: bool,
    killed: bool,
}

/// Runs a program until it has ended, killing one of its processes at the entry of a system call, which is then not
/// made. Its other processes go on, and are let go when the program has ended.
///
/// # Panics
/// When it does not end in time.
#[must_use]
pub fn traced(run: Run, at: Option<At>) -> Seen {
    #[allow(clippy::zombie_processes, reason = "the tracer waits for it")]
    let pid = Pid::from_raw(run.stopped().spawn().id().try_into().expect("a process id"));
    waitpid(pid, Some(WaitPidFlag::WUNTRACED)).expect("wait for the program to stop");
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACEEXEC;
    ptrace::seize(pid, options).expect("trace the program");
    let mut tracer = Tracer { processes: Vec::new(), at, has_begun: false, killed: false };
    tracer.process(pid);
    kill(pid, Signal::SIGCONT).expect("let the program go on");
    let start = Instant::now();
    while tracer.processes.first().is_some_and(|program| program.is_alive) {
        if start.elapsed() > LIMIT {
            tracer
                .processes
                .iter()
                .filter(|p| p.is_alive)
                .for_each(|p| kill(p.pid, Signal::SIGKILL).unwrap_or_default());
            panic!("the program hangs when killed at {at:?}");
        }
        tracer.step(false);
    }
    // Who waits in a system call is stopped to be let go.
    let rest: Vec<Pid> = tracer.processes.iter().filter(|p| p.is_alive).map(|p| p.pid).collect();
    rest.iter().for_each(|pid| ptrace::interrupt(*pid).unwrap_or_default());
    while tracer.processes.iter().any(|p| p.is_alive) {
        tracer.step(true);
    }
    Seen { calls: tracer.processes.iter().map(|p| p.calls).collect(), killed: tracer.killed }
}

impl Tracer {
    /// The place of `pid` in the list; one that is new is the last born.
    fn process(&mut self, pid: Pid) -> usize {
        self.processes.iter().position(|p| p.pid == pid).unwrap_or_else(|| {
            self.processes.push(Process { pid, calls: 0, is_in_call: false, is_alive: true });
            self.processes.len() - 1
        })
    }

    /// Takes one report of a process, and lets that process go on, or go when `leave` says so.
    fn step(&mut self, leave: bool) {
        // Only what this thread started and traces: other tests have processes of their own.
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD | WaitPidFlag::WNOHANG;
        let status = match waitpid(None, Some(flags)) {
            Ok(WaitStatus::StillAlive) => return std::thread::sleep(Duration::from_micros(100)),
            Err(Errno::ECHILD) => return self.processes.iter_mut().for_each(|p| p.is_alive = false),
            other => other.expect("wait for a traced process"),
        };
        let Some(pid) = status.pid() else { return };
        let place = self.process(pid);
        let mut signal = None;
        match status {
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => {
                self.processes[place].is_alive = false;
                return;
            }
            WaitStatus::PtraceSyscall(_) if self.is_to_be_killed(place) => {
                self.killed = true;
                return kill(pid, Signal::SIGKILL).expect("kill a traced process");
            }
            WaitStatus::PtraceSyscall(_) => {}
            // The first is that of the shell that stopped itself.
            WaitStatus::PtraceEvent(_, _, EVENT_EXEC) => self.has_begun = true,
            WaitStatus::PtraceEvent(_, _, EVENT_STOP) => {}
            WaitStatus::PtraceEvent(..) => self.see_birth(pid),
            WaitStatus::Stopped(_, given) => signal = Some(given),
            _ => {}
        }
        // It may have been killed a moment ago.
        if leave {
            let gone = ptrace::detach(pid, signal);
            self.processes[place].is_alive = gone.is_err();
        } else {
            ptrace::syscall(pid, signal).unwrap_or_default();
        }
    }

    fn see_birth(&mut self, parent: Pid) {
        if let Ok(child) = ptrace::getevent(parent) {
            self.process(Pid::from_raw(child.try_into().expect("a process id")));
        }
    }

    /// Counts a system call that begins; whether it is the one to kill at.
    fn is_to_be_killed(&mut self, place: usize) -> bool {
        let process = &mut self.processes[place];
        process.is_in_call = !process.is_in_call;
        if !process.is_in_call {
            return false;
        }
        process.calls += u32::from(self.has_begun);
        self.has_begun && self.at == Some(At { process: place, call: process.calls })
    }
}
