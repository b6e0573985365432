//! Hooks: programs of the host's that run at points of a container's life (runtime-spec config.md "POSIX-platform Hooks").

use std::ffi::CString;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use hoy_sys::command::with_default_signals;
use hoy_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use hoy_sys::rustix::fs::{MemfdFlags, memfd_create};
use hoy_sys::rustix::io::Errno;
use hoy_sys::rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use oci_spec::runtime::Hook;

use crate::error::Doing;
use crate::process::program::warn;
use crate::{Error, Result};

/// Runs `hooks` of the host's in order, each with `state` on its standard input; the first failure ends it.
///
/// A hook has the environment that the configuration gives it and no other, `place` as its working directory, and a
/// process group of its own, with which it is killed when its time is over.
pub(crate) fn run(kind: &str, hooks: &[Hook], state: &str, place: &Path) -> Result<()> {
    hooks.iter().enumerate().try_for_each(|(number, hook)| run_one((kind, number), hook, state, place, &[]))
}

/// Runs `hooks` in order, every one of them: a failure is only told of.
pub(crate) fn run_each(kind: &str, hooks: &[Hook], state: &str, bundle: &Path) {
    for (number, hook) in hooks.iter().enumerate() {
        run_one((kind, number), hook, state, bundle, &[]).unwrap_or_else(|error| warn(&error.chain()));
    }
}

/// Runs the startContainer hooks, in the container: one without an environment has the program's, `env`.
pub(crate) fn run_inside(hooks: &[Hook], state: &str, env: &[CString]) -> Result<()> {
    let mut hooks = hooks.iter().enumerate();
    hooks.try_for_each(|(number, hook)| run_one(("startContainer", number), hook, state, Path::new("/"), env))
}

/// Runs one hook; a failure is told in runc's words, which people search for, with its number among those of its kind.
fn run_one((kind, number): (&str, usize), hook: &Hook, state: &str, directory: &Path, env: &[CString]) -> Result<()> {
    let name = hook.path().display();
    let running = format!("error running {kind} hook #{number}: \"{name}\"");
    let doing = || running.clone();
    let mut command = Command::new(hook.path());
    let args = hook.args().as_deref().unwrap_or_default();
    if let Some((first, rest)) = args.split_first() {
        command.arg0(first).args(rest);
    }
    // A mount namespace that is joined need not have the bundle.
    let directory = if directory.is_dir() { directory } else { Path::new("/") };
    command.env_clear().current_dir(directory).process_group(0).stdin(input(state).doing(doing)?);
    let given = env.iter().filter(|_| hook.env().is_none()).filter_map(|entry| entry.to_str().ok());
    let own = hook.env().iter().flatten().map(String::as_str);
    command.envs(own.chain(given).filter_map(|entry| entry.split_once('=')));
    with_default_signals(&mut command);
    // Kept aside, so that a failure says what the hook said; a pipe would end only with whatever it leaves running.
    let said = memfd_create(c"hook", MemfdFlags::CLOEXEC).ok().map(File::from);
    if let Some(copy) = said.as_ref().and_then(|said| said.try_clone().ok()) {
        command.stderr(copy);
    }
    let mut child = command.spawn().doing(doing)?;
    if let Some(timeout) = hook.timeout().and_then(|seconds| u64::try_from(seconds).ok()) {
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or(Errno::SRCH).doing(doing)?;
        if !ends_within(pid, Duration::from_secs(timeout)).doing(doing)? {
            kill_process_group(pid, Signal::KILL).doing(doing)?;
            child.wait().doing(doing)?;
            return Err(Error::Invalid(format!("{running} did not end within {timeout} s")));
        }
    }
    let status = child.wait().doing(doing)?;
    let said = said.map(|said| last_words(&said)).filter(|said| !said.is_empty());
    if status.success() {
        // Standard error may be closed, and then there is nobody to tell.
        said.map_or(Ok(()), |said| writeln!(std::io::stderr(), "{said}")).unwrap_or_default();
        return Ok(());
    }
    let said = said.map(|said| format!(": {said}")).unwrap_or_default();
    // In the container a hook is under its filter.
    let why = if status.signal() == Some(Signal::SYS.as_raw()) {
        ", bad system call: the seccomp filter ended it"
    } else {
        ""
    };
    Err(Error::Invalid(format!("{running} failed: {status}{why}{said}")))
}

/// What a hook wrote, no more than an error message can hold.
fn last_words(said: &File) -> String {
    let mut buffer = [0; 4096];
    let length = said.read_at(&mut buffer, 0).unwrap_or(0);
    String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).trim().to_owned()
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
        let check = "test \"$(cat)\" = state && test $A = b && test -z \"$HOME\" && test $(pwd) = /tmp";
        run("prestart", &[hook(check, 0)], "state", Path::new("/tmp")).unwrap();
    }

    #[test]
    fn failures_name_the_hook() {
        let failed = run("poststop", &[hook("exit 3", 0)], "", Path::new("/")).unwrap_err().to_string();
        assert_eq!(failed, "error running poststop hook #0: \"/bin/sh\" failed: exit status: 3");
        let second =
            run("prestart", &[hook("true", 0), hook("exit 3", 0)], "", Path::new("/")).unwrap_err().to_string();
        assert!(second.starts_with("error running prestart hook #1: "), "{second}");
        let failed = run("poststop", &[hook("echo why >&2; exit 3", 0)], "", Path::new("/")).unwrap_err().to_string();
        assert!(failed.ends_with("exit status: 3: why"), "{failed}");
        let slow = run("prestart", &[hook("sleep 9", 1)], "", Path::new("/")).unwrap_err().to_string();
        assert_eq!(slow, "error running prestart hook #0: \"/bin/sh\" did not end within 1 s");
    }

    #[test]
    fn a_state_that_nobody_reads_keeps_nobody() {
        run("prestart", &[hook("true", 5)], &"x".repeat(1 << 20), Path::new("/")).unwrap();
    }

    #[test]
    fn what_a_hook_started_ends_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let mark = directory.path().join("mark");
        let script = format!("(sleep 2; touch {}) & sleep 9", mark.display());
        run("prestart", &[hook(&script, 1)], "", Path::new("/")).unwrap_err();
        std::thread::sleep(Duration::from_millis(1500));
        assert!(!mark.exists());
    }
}
