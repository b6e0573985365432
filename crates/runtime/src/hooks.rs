//! Hooks: programs of the host's that run at points of a container's life (runtime-spec config.md "POSIX-platform Hooks").

use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use hoy_sys::command::with_default_signals;
use hoy_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use hoy_sys::rustix::fs::{MemfdFlags, memfd_create};
use hoy_sys::rustix::io::Errno;
use hoy_sys::rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use oci_spec::runtime::Hook;

use crate::error::Doing;
use crate::{Error, Result};

/// Runs `hooks` in order, each with `state` on its standard input; the first failure ends it.
///
/// A hook has the environment that the configuration gives it and no other, `/` as its working directory, and a process
/// group of its own, with which it is killed when its time is over.
pub(crate) fn run(kind: &str, hooks: &[Hook], state: &str) -> Result<()> {
    hooks.iter().try_for_each(|hook| run_one(kind, hook, state))
}

fn run_one(kind: &str, hook: &Hook, state: &str) -> Result<()> {
    let name = hook.path().display();
    let doing = || format!("run {kind} hook \"{name}\"");
    let mut command = Command::new(hook.path());
    let args = hook.args().as_deref().unwrap_or_default();
    if let Some((first, rest)) = args.split_first() {
        command.arg0(first).args(rest);
    }
    command.env_clear().current_dir("/").process_group(0).stdin(input(state).doing(doing)?);
    command.envs(hook.env().iter().flatten().filter_map(|entry| entry.split_once('=')));
    with_default_signals(&mut command);
    let mut child = command.spawn().doing(doing)?;
    if let Some(timeout) = hook.timeout().and_then(|seconds| u64::try_from(seconds).ok()) {
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or(Errno::SRCH).doing(doing)?;
        if !ends_within(pid, Duration::from_secs(timeout)).doing(doing)? {
            kill_process_group(pid, Signal::KILL).doing(doing)?;
            child.wait().doing(doing)?;
            return Err(Error::Invalid(format!("{kind} hook \"{name}\" did not end within {timeout} s")));
        }
    }
    let status = child.wait().doing(doing)?;
    if status.success() { Ok(()) } else { Err(Error::Invalid(format!("{kind} hook \"{name}\" failed: {status}"))) }
}

/// The state as a file without a name: a hook may read it or leave it, and nobody waits for that.
fn input(state: &str) -> std::io::Result<Stdio> {
    let mut file = File::from(memfd_create("state", MemfdFlags::CLOEXEC)?);
    file.write_all(state.as_bytes())?;
    file.rewind()?;
    Ok(file.into())
}

fn ends_within(pid: Pid, timeout: Duration) -> std::io::Result<bool> {
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let timeout = Timespec::try_from(timeout).map_err(std::io::Error::other)?;
    loop {
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)) {
            Err(Errno::INTR) => {}
            other => return Ok(other? > 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(script: &str, timeout: u32) -> Hook {
        let timeout = (timeout > 0).then_some(timeout);
        let json = serde_json::json!({"path":"/bin/sh","args":["name","-c",script],"env":["A=b"],"timeout":timeout});
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn state_comes_in_and_nothing_else() {
        let check = "test \"$(cat)\" = state && test $A = b && test -z \"$HOME\" && test $(pwd) = /";
        run("prestart", &[hook(check, 0)], "state").unwrap();
    }

    #[test]
    fn failures_name_the_hook() {
        let failed = run("poststop", &[hook("exit 3", 0)], "").unwrap_err().to_string();
        assert_eq!(failed, "poststop hook \"/bin/sh\" failed: exit status: 3");
        let slow = run("prestart", &[hook("sleep 9", 1)], "").unwrap_err().to_string();
        assert_eq!(slow, "prestart hook \"/bin/sh\" did not end within 1 s");
    }

    #[test]
    fn a_state_that_nobody_reads_keeps_nobody() {
        run("prestart", &[hook("true", 5)], &"x".repeat(1 << 20)).unwrap();
    }

    #[test]
    fn what_a_hook_started_ends_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let mark = directory.path().join("mark");
        let script = format!("(sleep 2; touch {}) & sleep 9", mark.display());
        run("prestart", &[hook(&script, 1)], "").unwrap_err();
        std::thread::sleep(Duration::from_millis(1500));
        assert!(!mark.exists());
    }
}
