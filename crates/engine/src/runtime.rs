//! The OCI runtime, whichever it is: runc's command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::programs::start;
use crate::{Engine, Error, Result};

/// The runtime that is used unless another is asked for.
pub(crate) const DEFAULT: &str = "hoy-runtime";

/// A program with the command line of runc, and where it keeps its state.
#[derive(Debug, Clone)]
pub struct Runtime {
    program: PathBuf,
    root: PathBuf,
}

/// What a runtime says of a container (runtime-spec runtime.md "State").
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RuntimeState {
    /// `creating`, `created`, `running`, `stopped`, and `paused` of some.
    pub status: String,
    /// The process id of its init; 0 or none when it has ended.
    #[serde(default)]
    pub pid: i32,
}

impl RuntimeState {
    /// Whether there is a process.
    pub fn is_alive(&self) -> bool {
        self.status != "stopped"
    }
}

impl Engine {
    /// The runtime of that name or path.
    ///
    /// # Errors
    /// [`Error::Start`] when there is no such program.
    pub fn runtime(&self, name: &str) -> Result<Runtime> {
        let missing = || Error::Start {
            program: name.to_owned(),
            source: std::io::Error::new(std::io::ErrorKind::NotFound, "no such OCI runtime"),
        };
        let program = self.programs.find(name.as_ref()).ok_or_else(missing)?;
        Ok(Runtime { program, root: self.store.runroot().to_owned() })
    }
}

impl Runtime {
    /// The program's path.
    pub fn program(&self) -> &PathBuf {
        &self.program
    }

    /// A command with these arguments after the global ones.
    pub fn command<S: Into<OsString>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(&self.root).args(args.into_iter().map(Into::into));
        command
    }

    /// A command that writes its complaints to the file `log` as JSON lines too.
    pub(crate) fn logging<S: Into<OsString>>(&self, log: &PathBuf, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(&self.root).arg("--log").arg(log).args(["--log-format", "json"]);
        command.args(args.into_iter().map(Into::into));
        command
    }

    /// The state of a container; none when the runtime does not know it.
    pub fn state(&self, id: &str) -> Option<RuntimeState> {
        let output = self.command(["state", id]).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
        serde_json::from_slice(&output.stdout).ok()
    }

    /// Ends and forgets a container, or what is left of one; not knowing it is no failure.
    ///
    /// # Errors
    /// [`Error::Start`].
    pub(crate) fn delete(&self, id: &str) -> Result<()> {
        let mut command = self.command(["delete", "--force", id]);
        let name = self.program.display().to_string();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().map(drop).map_err(start(&name))
    }
}

/// What a runtime complained of in its log.
#[derive(Deserialize)]
struct Line {
    level: String,
    msg: String,
}

/// The exit code for a container that could not be started, from the runtime's log; none when it ran.
pub(crate) fn start_failure(log: &str) -> Option<u8> {
    let mut lines = log.lines().rev().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    let error = lines.find(|line| matches!(line.level.as_str(), "error" | "fatal"))?;
    let text = error.msg.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    Some(match () {
        () if has(&["permission denied", "exec format error", "is a directory", "eacces", "enoexec", "eisdir"]) => 126,
        () if has(&["not found", "no such file", "enoent"]) => 127,
        () => 125,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes() {
        let line = |level: &str, msg: &str| format!("{{\"level\":\"{level}\",\"msg\":\"{msg}\"}}\n");
        assert_eq!(start_failure(""), None);
        assert_eq!(start_failure(&line("warning", "not found")), None);
        assert_eq!(start_failure(&line("error", "exec: executable file `x` not found in $PATH")), Some(127));
        assert_eq!(start_failure(&(line("warning", "a") + &line("error", "exec /etc: Permission denied"))), Some(126));
        assert_eq!(start_failure(&line("error", "mount /x: EPERM")), Some(125));
    }
}
