//! Waiting for the runtime, passing signals on to it, and telling its failures from its command's.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::Child;

use hoy_sys::process::pidfd_signal;
use hoy_sys::relay::Received;
use hoy_sys::rustix::event::{PollFd, PollFlags, poll};
use hoy_sys::rustix::io::{Errno, read};
use hoy_sys::rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::Deserialize;

use crate::{Error, Result};

/// Waits for `child`; signals that come through `signals` and were sent to this process alone are passed on to it.
///
/// Returns its exit code, or 128 and the signal's number.
pub(crate) fn wait(mut child: Child, signals: &OwnedFd) -> Result<u8> {
    let failed = || Error::io::<Errno>("wait for", "the OCI runtime");
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH).map_err(failed())?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(failed())?;
    loop {
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
        match poll(&mut fds, None) {
            Err(Errno::INTR) => continue,
            other => other.map_err(failed())?,
        };
        let [has_ended, has_signal] = fds.map(|fd| fd.revents().contains(PollFlags::IN));
        if has_signal {
            relay(signals, &pidfd).map_err(failed())?;
        }
        if has_ended {
            break;
        }
    }
    let status = child.wait().map_err(Error::io("wait for", "the OCI runtime"))?;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(125))
}

fn relay(signals: &OwnedFd, child: &OwnedFd) -> std::result::Result<(), Errno> {
    let mut bytes = [0; 64];
    let count = match read(signals, &mut bytes) {
        Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
        other => other?,
    };
    let received = bytes.iter().take(count).map(|byte| Received::from_byte(*byte));
    // What a terminal sends, it sends to the whole group.
    for received in received.filter(|received| !received.from_kernel) {
        match pidfd_signal(child.as_fd(), received.signal) {
            Err(error) if error.errno != Errno::SRCH => return Err(error.errno),
            _ => {}
        }
    }
    Ok(())
}

/// What a runtime complained of in its log.
#[derive(Deserialize)]
struct Line {
    level: String,
    msg: String,
}

/// The exit code for a command that could not be started, from the runtime's log: 127 not found, 126 not executable,
/// 125 anything else; none when the log has no failure.
pub(crate) fn start_failure(log: &str) -> Option<u8> {
    let mut lines = log.lines().rev().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    let failure = lines.find(|line| matches!(line.level.as_str(), "error" | "fatal"))?.msg.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| failure.contains(word));
    Some(if says(&["permission denied", "exec format error", "is a directory"]) {
        126
    } else if says(&["not found", "no such file"]) {
        127
    } else {
        125
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_log() {
        for (log, want) in [
            ("", None),
            ("garbage\n{\"level\":\"warning\",\"msg\":\"not found\"}\n", None),
            ("{\"level\":\"error\",\"msg\":\"exec: \\\"x\\\": executable file not found in $PATH\"}\n", Some(127)),
            (
                "{\"level\":\"error\",\"msg\":\"exec /etc: Permission denied\"}\n{\"level\":\"info\",\"msg\":\"\"}",
                Some(126),
            ),
            ("{\"level\":\"fatal\",\"msg\":\"mount /proc: EPERM\"}\n", Some(125)),
        ] {
            assert_eq!(start_failure(log), want, "{log}");
        }
    }
}
