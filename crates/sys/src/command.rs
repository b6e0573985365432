//! Programs started by [`Command`] with more said of them than the standard library can say.

use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::Errno;
use rustix::process::{
    Pid, Resource, Rlimit, Signal, getpid, getppid, getrlimit, set_parent_process_death_signal, setrlimit,
};

use crate::process::reset_signals;

/// Lets the program begin with every signal unblocked and at its default action.
pub fn with_default_signals(command: &mut Command) {
    // SAFETY: between fork and exec the closure makes signal(2) and sigprocmask(2) calls only, which signal-safety(7)
    // allows, and allocates nothing.
    unsafe {
        command.pre_exec(|| {
            reset_signals();
            Ok(())
        })
    };
}

/// Lets the program write no file longer than `file_bytes` and work for no longer than `seconds` of processor time:
/// setrlimit(2). The kernel ends it where it goes on.
pub fn with_limits(command: &mut Command, file_bytes: u64, seconds: u64) {
    // SAFETY: between fork and exec the closure makes getrlimit(2) and setrlimit(2) calls only, and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            for (resource, most) in [(Resource::Fsize, file_bytes), (Resource::Cpu, seconds)] {
                // What is lower already stays.
                let most = getrlimit(resource).maximum.map_or(most, |maximum| maximum.min(most));
                setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
            }
            Ok(())
        })
    };
}

/// Lets the program be killed when the thread that starts it ends, however that ends: prctl(2), PR_SET_PDEATHSIG.
///
/// A program that changes its ids or its capabilities is no longer meant.
pub fn die_with_parent(command: &mut Command) {
    let parent: Option<Pid> = Some(getpid());
    // SAFETY: between fork and exec the closure makes the system calls prctl(2) and getppid(2) only, and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // It may have ended before it was said.
            if getppid() == parent { Ok(()) } else { Err(Errno::SRCH.into()) }
        })
    };
}
