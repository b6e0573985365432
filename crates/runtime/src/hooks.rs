//! Hooks: programs of the host's that run at points of a container's life (runtime-spec config.md "POSIX-platform Hooks").

use std::io::{ErrorKind, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use hoy_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use hoy_sys::rustix::process::{Pid, PidfdFlags, pidfd_open};
use oci_spec::runtime::Hook;

use crate::error::Doing;
use crate::program::warn;
use crate::{Error, Result};

/// Runs `hooks` in order, each with `state` on its standard input; the first failure ends it.
///
/// A hook has the environment that the configuration gives it and no other, and `/` as its working directory.
pub(crate) fn run(kind: &str, hooks: &[Hook], state: &str) -> Result<()> {
    hooks.iter().try_for_each(|hook| run_one(kind, hook, state))
}

/// Runs `hooks` in order, every one of them: a failure is only told of.
pub(crate) fn run_each(kind: &str, hooks: &[Hook], state: &str) {
    for hook in hooks {
        run_one(kind, hook, state).unwrap_or_else(|error| warn(&error.chain()));
    }
}

fn run_one(kind: &str, hook: &Hook, state: &str) -> Result<()> {
    let name = hook.path().display();
    let doing = || format!("run {kind} hook \"{name}\"");
    let mut command = Command::new(hook.path());
    let args = hook.args().as_deref().unwrap_or_default();
    if let Some((first, rest)) = args.split_first() {
        command.arg0(first).args(rest);
    }
    command.env_clear().current_dir("/").stdin(Stdio::piped());
    command.envs(hook.env().iter().flatten().filter_map(|entry| entry.split_once('=')));
    let mut child = command.spawn().doing(doing)?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(state.as_bytes()) {
            // A hook need not read it.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            other => other.doing(doing)?,
        }
    }
    if let Some(timeout) = hook.timeout().and_then(|seconds| u64::try_from(seconds).ok()).filter(|s| *s > 0) {
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let ended = pid.map(|pid| ends_within(pid, Duration::from_secs(timeout))).transpose().doing(doing)?;
        if ended == Some(false) {
            child.kill().and_then(|()| child.wait()).doing(doing)?;
            return Err(Error::Invalid(format!("{kind} hook \"{name}\" did not end within {timeout} s")));
        }
    }
    let status = child.wait().doing(doing)?;
    if status.success() { Ok(()) } else { Err(Error::Invalid(format!("{kind} hook \"{name}\" failed: {status}"))) }
}

fn ends_within(pid: Pid, timeout: Duration) -> std::io::Result<bool> {
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let timeout = Timespec::try_from(timeout).map_err(std::io::Error::other)?;
    Ok(poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout))? > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(script: &str, timeout: u32) -> Hook {
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
}
