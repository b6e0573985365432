//! A program whose processes are stopped at each of their system calls, to be killed or to be failed there (ptrace(2)).

use std::fs::File;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::Run;
use crate::calls::{self, Call};

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

/// What happens at the entry of a system call, which is then not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// The process that makes it is killed.
    Kill,
    /// All processes of the program are killed.
    KillAll,
    /// It fails with this error.
    Fail(Errno),
}

/// Which of the calls of all processes, in the order in which they begin, something is done at.
pub struct Plan<'a> {
    /// The calls that count.
    pub counts: &'a dyn Fn(&Call) -> bool,
    /// 1 is the first of those; none counts them only.
    pub nth: Option<u32>,
    /// What is done there.
    pub deed: Deed,
}

/// What was seen of a traced program.
#[derive(Debug)]
pub struct Seen {
    /// How many system calls each process began, in the order of their births.
    pub calls: Vec<u32>,
    /// Whether the call to kill at was reached.
    pub killed: bool,
    /// How many calls the plan counted.
    pub counted: u32,
    /// The call at which the deed was done, in words.
    pub done_at: Option<String>,
    /// Whether that call writes.
    pub was_write: bool,
    /// The program's exit code, or 128 and the number of the signal that ended it.
    pub status: i32,
}

struct Process {
    pid: Pid,
    calls: u32,
    is_in_call: bool,
    is_alive: bool,
    /// The call that it is in returns this.
    fails: Option<Errno>,
}

struct Tracer<'a> {
    processes: Vec<Process>,
    at: Option<At>,
    plan: Option<&'a Plan<'a>>,
    has_begun: bool,
    seen: Seen,
    kills_all: bool,
}

/// Runs a program until it has ended, killing one of its processes at the entry of a system call, which is then not
/// made. Its other processes go on, and are let go when the program has ended.
///
/// # Panics
/// When it does not end in time.
#[must_use]
pub fn traced(run: Run, at: Option<At>) -> Seen {
    trace(run.stopped().spawn().id(), at, None)
}

/// Runs a program until it has ended, doing what `plan` says; its standard output and error go to these files.
///
/// # Panics
/// When it does not end in time.
#[must_use]
pub fn traced_by(run: Run, plan: &Plan<'_>, stdout: File, stderr: File) -> Seen {
    trace(run.stopped().spawn_to(stdout, stderr).id(), None, Some(plan))
}

fn trace(pid: u32, at: Option<At>, plan: Option<&Plan<'_>>) -> Seen {
    let pid = Pid::from_raw(pid.try_into().expect("a process id"));
    waitpid(pid, Some(WaitPidFlag::WUNTRACED)).expect("wait for the program to stop");
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACEEXEC;
    ptrace::seize(pid, options).expect("trace the program");
    let seen = Seen { calls: Vec::new(), killed: false, counted: 0, done_at: None, was_write: false, status: -1 };
    let mut tracer = Tracer { processes: Vec::new(), at, plan, has_begun: false, seen, kills_all: false };
    tracer.process(pid);
    kill(pid, Signal::SIGCONT).expect("let the program go on");
    let start = Instant::now();
    while tracer.processes.first().is_some_and(|program| program.is_alive) {
        if start.elapsed() > LIMIT {
            tracer.kill_all();
            panic!(
                "the program hangs: {:?}",
                tracer.at.map_or_else(|| tracer.seen.done_at.clone(), |at| Some(format!("{at:?}")))
            );
        }
        tracer.step(false);
    }
    // Who waits in a system call is stopped to be let go.
    let rest: Vec<Pid> = tracer.processes.iter().filter(|p| p.is_alive).map(|p| p.pid).collect();
    rest.iter().for_each(|pid| ptrace::interrupt(*pid).unwrap_or_default());
    while tracer.processes.iter().any(|p| p.is_alive) {
        tracer.step(true);
    }
    Seen { calls: tracer.processes.iter().map(|p| p.calls).collect(), ..tracer.seen }
}

impl Tracer<'_> {
    /// The place of `pid` in the list; one that is new is the last born.
    fn process(&mut self, pid: Pid) -> usize {
        self.processes.iter().position(|p| p.pid == pid).unwrap_or_else(|| {
            self.processes.push(Process { pid, calls: 0, is_in_call: false, is_alive: true, fails: None });
            if self.kills_all {
                kill(pid, Signal::SIGKILL).unwrap_or_default();
            }
            self.processes.len() - 1
        })
    }

    fn kill_all(&mut self) {
        self.kills_all = true;
        let alive = self.processes.iter().filter(|p| p.is_alive);
        alive.for_each(|p| kill(p.pid, Signal::SIGKILL).unwrap_or_default());
    }

    /// Takes one report of a process, and lets that process go on, or go when `leave` says so.
    fn step(&mut self, leave: bool) {
        // Only what this thread started and traces: other tests have processes of their own.
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD | WaitPidFlag::WNOHANG;
        let status = match waitpid(None, Some(flags)) {
            Ok(WaitStatus::StillAlive) => return std::thread::sleep(Duration::from_micros(20)),
            Err(Errno::ECHILD) => return self.processes.iter_mut().for_each(|p| p.is_alive = false),
            other => other.expect("wait for a traced process"),
        };
        let Some(pid) = status.pid() else { return };
        let place = self.process(pid);
        let mut signal = None;
        match status {
            WaitStatus::Exited(_, code) => return self.ended(place, code),
            WaitStatus::Signaled(_, by, _) => return self.ended(place, 128 + by as i32),
            WaitStatus::PtraceSyscall(_) => {
                if self.is_to_be_killed(place) {
                    self.seen.killed = true;
                    return kill(pid, Signal::SIGKILL).expect("kill a traced process");
                }
            }
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

    fn ended(&mut self, place: usize, status: i32) {
        self.processes[place].is_alive = false;
        if place == 0 {
            self.seen.status = status;
        }
    }

    fn see_birth(&mut self, parent: Pid) {
        if let Ok(child) = ptrace::getevent(parent) {
            self.process(Pid::from_raw(child.try_into().expect("a process id")));
        }
    }

    /// Counts a system call that begins, and does what the plan says; whether it is one to kill its process at.
    fn is_to_be_killed(&mut self, place: usize) -> bool {
        let process = &mut self.processes[place];
        process.is_in_call = !process.is_in_call;
        if !process.is_in_call {
            if let Some(errno) = process.fails.take() {
                calls::return_error(process.pid, errno).unwrap_or_default();
            }
            return false;
        }
        process.calls += u32::from(self.has_begun);
        let is_at = self.has_begun && self.at == Some(At { process: place, call: process.calls });
        is_at || self.has_begun && self.plan.is_some_and(|plan| self.follow(plan, place))
    }

    fn follow(&mut self, plan: &Plan<'_>, place: usize) -> bool {
        let pid = self.processes[place].pid;
        // A process that has just been killed has no registers.
        let Ok(call) = calls::entered(pid) else { return false };
        if self.seen.done_at.is_some() || !(plan.counts)(&call) {
            return false;
        }
        self.seen.counted += 1;
        if plan.nth != Some(self.seen.counted) {
            return false;
        }
        self.seen.done_at = Some(call.to_string());
        self.seen.was_write = call.is_write();
        match plan.deed {
            Deed::Kill => return true,
            Deed::KillAll => self.kill_all(),
            Deed::Fail(errno) => {
                calls::prevent(pid).expect("prevent a system call");
                self.processes[place].fails = Some(errno);
            }
        }
        false
    }
}
