//! The talk between the runtime and the container's first process while it is being made.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hoy_sys::net::{recv_fds, send_fds};
use hoy_sys::rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::error::Doing;
use crate::trace::Trace;
use crate::{Error, Result};

/// The longest message, in bytes: a failure with all its causes is told in less.
const LONGEST: usize = 4096;

/// One message.
#[derive(Debug)]
pub(crate) enum Message {
    /// Go on.
    Go,
    /// The first process is another: its pid.
    Pid(i32),
    /// The namespaces are there; the hooks that run outside may begin.
    Hooks,
    /// The master side of the container's terminal.
    Terminal(OwnedFd),
    /// The descriptor of seccomp notifications.
    Listener(OwnedFd),
    /// What the mount of this number binds: its ids are to be mapped.
    Map(usize, OwnedFd),
    /// All is done but the program itself.
    Ready,
    /// It failed.
    Failed(String),
    /// The kernel would not execute its program.
    NotExecuted(String),
    /// The other side is gone: its program has begun, or it has died.
    Closed,
}

/// One end.
#[derive(Debug)]
pub(crate) struct Channel {
    end: OwnedFd,
    trace: Trace,
}

/// Makes the two ends; what one traces the other tells.
pub(crate) fn pair(trace: &Trace) -> Result<(Channel, Channel)> {
    let (one, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .doing(|| "make a socket pair")?;
    Ok((Channel { end: one, trace: trace.clone() }, Channel { end: other, trace: trace.clone() }))
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }
}

impl Channel {
    /// Sends a message of one letter.
    pub(crate) fn say(&self, letter: u8) -> Result<()> {
        self.send(&[letter], &[])
    }

    /// Sends a letter and a text.
    pub(crate) fn tell(&self, letter: u8, text: &str) -> Result<()> {
        let mut bytes = vec![letter];
        bytes.extend(text.bytes().take(LONGEST - 1));
        self.send(&bytes, &[])
    }

    /// Sends a step for the other side to tell; nobody has to be there.
    pub(crate) fn trace(&self, step: impl FnOnce() -> String) {
        if self.trace.is_on() {
            self.tell(b'D', &step()).unwrap_or_default();
        }
    }

    /// Sends a letter and a descriptor.
    pub(crate) fn give(&self, letter: u8, fd: BorrowedFd<'_>) -> Result<()> {
        self.send(&[letter], &[fd])
    }

    /// Sends what the mount `number` binds, to have its ids mapped.
    pub(crate) fn give_to_map(&self, number: usize, tree: BorrowedFd<'_>) -> Result<()> {
        self.send(format!("M{number}").as_bytes(), &[tree])
    }

    fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
        send_fds(self.end.as_fd(), bytes, fds).doing(|| "talk between runtime and container")
    }

    /// Waits for a message, telling the steps that come before it.
    pub(crate) fn receive(&self) -> Result<Message> {
        loop {
            if let Some(message) = self.receive_one()? {
                return Ok(message);
            }
        }
    }

    /// Waits for a message or a step, which is none.
    fn receive_one(&self) -> Result<Option<Message>> {
        let mut buffer = [0; LONGEST];
        let (length, mut fds) = match recv_fds(self.end.as_fd(), &mut buffer) {
            Err(error) if error.errno == hoy_sys::rustix::io::Errno::CONNRESET => return Ok(Some(Message::Closed)),
            other => other.doing(|| "talk between runtime and container")?,
        };
        let text = || String::from_utf8_lossy(buffer.get(1..length).unwrap_or_default()).into_owned();
        let broken = || Error::Init("the container's process sent a broken message".to_owned());
        Ok(Some(match (buffer.first().filter(|_| length > 0), fds.pop()) {
            (None, _) => Message::Closed,
            (Some(b'G'), _) => Message::Go,
            (Some(b'H'), _) => Message::Hooks,
            (Some(b'R'), _) => Message::Ready,
            (Some(b'P'), _) => Message::Pid(text().parse().map_err(|_| broken())?),
            (Some(b'T'), Some(fd)) => Message::Terminal(fd),
            (Some(b'L'), Some(fd)) => Message::Listener(fd),
            (Some(b'M'), Some(fd)) => Message::Map(text().parse().map_err(|_| broken())?, fd),
            (Some(b'E'), _) => Message::Failed(text()),
            (Some(b'X'), _) => Message::NotExecuted(text()),
            (Some(b'D'), _) => {
                self.trace.say(text);
                return Ok(None);
            }
            _ => return Err(broken()),
        }))
    }

    /// Waits for leave to go on; ends this process when the other has ended, for nobody is left to go on for.
    pub(crate) fn wait_go(&self) -> Result<()> {
        match self.receive()? {
            Message::Go => Ok(()),
            Message::Closed => hoy_sys::process::exit_now(1),
            _ => Err(Error::Init("the runtime sent an unexpected message".to_owned())),
        }
    }
}
