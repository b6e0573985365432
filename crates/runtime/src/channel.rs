//! The talk between the runtime and the container's first process while it is being made.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hoy_sys::net::{recv_fds, send_fds};
use hoy_sys::rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::error::Doing;
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
    /// The other side is gone: its program has begun, or it has died.
    Closed,
}

/// One end.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

/// Makes the two ends.
pub(crate) fn pair() -> Result<(Channel, Channel)> {
    let (one, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .doing(|| "make a socket pair")?;
    Ok((Channel(one), Channel(other)))
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
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

    /// Sends a letter and a descriptor.
    pub(crate) fn give(&self, letter: u8, fd: BorrowedFd<'_>) -> Result<()> {
        self.send(&[letter], &[fd])
    }

    /// Sends what the mount `number` binds, to have its ids mapped.
    pub(crate) fn give_to_map(&self, number: usize, tree: BorrowedFd<'_>) -> Result<()> {
        self.send(format!("M{number}").as_bytes(), &[tree])
    }

    fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
        send_fds(self.0.as_fd(), bytes, fds).doing(|| "talk between runtime and container")
    }

    /// Waits for a message.
    pub(crate) fn receive(&self) -> Result<Message> {
        let mut buffer = [0; LONGEST];
        let (length, mut fds) = match recv_fds(self.0.as_fd(), &mut buffer) {
            Err(error) if error.errno == hoy_sys::rustix::io::Errno::CONNRESET => return Ok(Message::Closed),
            other => other.doing(|| "talk between runtime and container")?,
        };
        let text = || String::from_utf8_lossy(buffer.get(1..length).unwrap_or_default()).into_owned();
        let broken = || Error::Init("the container's process sent a broken message".to_owned());
        Ok(match (buffer.first().filter(|_| length > 0), fds.pop()) {
            (None, _) => Message::Closed,
            (Some(b'G'), _) => Message::Go,
            (Some(b'H'), _) => Message::Hooks,
            (Some(b'R'), _) => Message::Ready,
            (Some(b'P'), _) => Message::Pid(text().parse().map_err(|_| broken())?),
            (Some(b'T'), Some(fd)) => Message::Terminal(fd),
            (Some(b'L'), Some(fd)) => Message::Listener(fd),
            (Some(b'M'), Some(fd)) => Message::Map(text().parse().map_err(|_| broken())?, fd),
            (Some(b'E'), _) => Message::Failed(text()),
            _ => return Err(broken()),
        })
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
