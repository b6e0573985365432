//! Waiting for a child and passing signals on to it.

use std::os::fd::{AsFd, OwnedFd};
use std::process::Child;

use hoy_sys::process::pidfd_signal;
use hoy_sys::relay::Received;
use hoy_sys::rustix::event::{PollFd, PollFlags, poll};
use hoy_sys::rustix::io::{Errno, read};
use hoy_sys::rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::{Error, Result};

/// Waits for `child`, passing on to it every signal that comes through `signals` and that it did not get itself.
///
/// Returns its exit code, or 128 and the signal's number, as a shell has it.
pub(crate) fn wait(child: &mut Child, signals: &OwnedFd) -> Result<u8> {
    let system = |call| move |errno: Errno| Error::System(hoy_sys::Error::new(call, errno));
    let pid =
        i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH).map_err(system("pidfd_open"))?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(system("pidfd_open"))?;
    loop {
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
        match poll(&mut fds, None) {
            Err(Errno::INTR) => continue,
            other => other.map_err(system("poll"))?,
        };
        let [ended, signalled] = fds.map(|fd| fd.revents().contains(PollFlags::IN));
        if signalled {
            relay(signals, &pidfd)?;
        }
        if ended {
            break;
        }
    }
    let status = child.wait().map_err(|source| Error::Start { program: "the OCI runtime".to_owned(), source })?;
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    let code = status.code().or(signal.map(|signal| 128 + signal)).unwrap_or(125);
    Ok(u8::try_from(code).unwrap_or(125))
}

fn relay(signals: &OwnedFd, child: &OwnedFd) -> Result<()> {
    let mut bytes = [0; 64];
    let count = match read(signals, &mut bytes) {
        Err(Errno::AGAIN | Errno::INTR) => 0,
        other => other.map_err(|errno| Error::System(hoy_sys::Error::new("read", errno)))?,
    };
    for received in bytes.iter().take(count).map(|byte| Received::from_byte(*byte)) {
        // A terminal signals its whole process group, the child among it.
        if !received.from_kernel {
            match pidfd_signal(child.as_fd(), received.signal) {
                Err(error) if error.errno != Errno::SRCH => return Err(error.into()),
                _ => {}
            }
        }
    }
    Ok(())
}
