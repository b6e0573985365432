//! The program criu, which saves and restores processes: a request, its questions, the answer (criu(8) "swrk").

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use hoy_sys::net::{recv_fds, send_fds};
use hoy_sys::rustix::io::{Errno, FdFlags, fcntl_setfd};
use hoy_sys::rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::checkpoint::wire::{Value, Writer, fields};
use crate::error::Doing;
use crate::{Error, Result};

/// What criu is asked to do: the members of `criu_req_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// Save the processes.
    Dump = 1,
    /// Make them again.
    Restore = 2,
    /// Save their memory, and let them go on.
    PreDump = 4,
}

/// criu's member of the enumeration for a question.
const NOTIFY: u64 = 6;

/// A point that criu has reached; it waits until we go on.
#[derive(Debug)]
pub(crate) struct Notice {
    /// The point's name, as action scripts have it.
    pub(crate) point: String,
    /// The first process.
    pub(crate) pid: i32,
    /// A terminal's master, where a terminal is restored.
    pub(crate) fd: Option<OwnedFd>,
}

/// What criu has to say.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answer {
    kind: u64,
    is_success: bool,
    point: String,
    pid: i32,
    errno: i32,
    message: String,
}

/// A criu that waits for its request.
pub(crate) struct Criu {
    socket: OwnedFd,
    child: Child,
}

impl Criu {
    /// Starts the program.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the remedy when it is not installed.
    pub(crate) fn start(program: &Path) -> Result<Self> {
        let (socket, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .doing(|| "make a socket pair")?;
        inherit(other.as_fd())?;
        let mut command = Command::new(program);
        command.arg("swrk").arg(other.as_raw_fd().to_string()).stdin(Stdio::inherit());
        let child = command.spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::Invalid(format!(
                "program \"{}\" is not there: install criu, version 3.11 or newer, or name it by --criu",
                program.display()
            )),
            _ => Error::System { doing: format!("start \"{}\"", program.display()), source: error },
        })?;
        Ok(Self { socket, child })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or_default()
    }

    /// Has `task` done, and answers what is asked meanwhile by `on_notice`; gives the pid of what was restored.
    ///
    /// # Errors
    /// That of `on_notice`, or what criu says.
    pub(crate) fn work(
        mut self,
        task: Task,
        options: &Writer,
        mut on_notice: impl FnMut(Notice) -> Result<()>,
    ) -> Result<i32> {
        let request = Writer::default().int(1, task as u64).message(2, options);
        let worked = self.send(&request).and_then(|()| {
            loop {
                let (answer, fd) = self.receive()?;
                if answer.kind != NOTIFY {
                    break answer.result();
                }
                let noticed = on_notice(Notice { point: answer.point, pid: answer.pid, fd });
                self.send(&Writer::default().int(1, NOTIFY).int(3, noticed.is_ok().into()))?;
                noticed?;
            }
        });
        drop(self.socket);
        // What it has done is known; how it ends adds nothing.
        self.child.wait().map(drop).unwrap_or_default();
        worked
    }

    fn send(&self, request: &Writer) -> Result<()> {
        send_fds(&self.socket, request.as_bytes(), &[]).doing(|| "talk to criu")
    }

    fn receive(&self) -> Result<(Answer, Option<OwnedFd>)> {
        let mut buffer = vec![0; 64 * 1024];
        let (length, mut fds) = match recv_fds(&self.socket, &mut buffer) {
            Err(error) if error.errno == Errno::CONNRESET => (0, Vec::new()),
            other => other.doing(|| "talk to criu")?,
        };
        if length == 0 {
            return Err(Error::Init("criu ended before it had answered".to_owned()));
        }
        let answer = Answer::read(buffer.get(..length).unwrap_or_default());
        let answer = answer.ok_or_else(|| Error::Init("criu sent a broken message".to_owned()))?;
        Ok((answer, fds.pop()))
    }
}

/// Lets programs that are started have `fd` under the same number.
pub(crate) fn inherit(fd: BorrowedFd<'_>) -> Result<()> {
    fcntl_setfd(fd, FdFlags::empty()).doing(|| "hand on a descriptor")
}

impl Answer {
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut answer = Self::default();
        // Numbers below zero are written as 64 bits.
        let number = |value: Value<'_>| value.int() as i32;
        for (field, value) in fields(bytes)? {
            match (field, value) {
                (1, value) => answer.kind = value.int(),
                (2, value) => answer.is_success = value.int() != 0,
                (4 | 5, Value::Bytes(inner)) => {
                    for (inner_field, value) in fields(inner)? {
                        match (field, inner_field) {
                            (4, 1) | (5, 2) => answer.pid = number(value),
                            (5, 1) => answer.point = value.text(),
                            _ => {}
                        }
                    }
                }
                (7, value) => answer.errno = number(value),
                (9, value) => answer.message = value.text(),
                _ => {}
            }
        }
        Some(answer)
    }

    fn result(self) -> Result<i32> {
        if self.is_success {
            return Ok(self.pid);
        }
        let errno = std::io::Error::from_raw_os_error(self.errno.abs());
        Err(match (self.message.is_empty(), self.errno) {
            (false, _) => Error::Init(format!("criu: {}", self.message)),
            (true, 0) => Error::Init("criu gives no reason".to_owned()),
            (true, _) => Error::System { doing: "criu".to_owned(), source: errno },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let notify = Writer::default().text(1, Some("post-restore")).int(2, 7);
        let read = Answer::read(Writer::default().int(1, 6).int(2, 1).message(5, &notify).as_bytes()).unwrap();
        assert_eq!((read.kind, read.point.as_str(), read.pid), (NOTIFY, "post-restore", 7));
        let restored = Writer::default().int(1, 2).int(2, 1).message(4, &Writer::default().int(1, 42));
        assert_eq!(Answer::read(restored.as_bytes()).unwrap().result().unwrap(), 42);
        let failed = Writer::default().int(1, 1).int(2, 0).int(7, -17_i64 as u64);
        let failed = Answer::read(failed.as_bytes()).unwrap();
        assert_eq!(failed.errno, -17);
        assert_eq!(failed.result().unwrap_err().chain(), "criu: file exists");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = Criu::start(Path::new("/no/criu")).err().unwrap().to_string();
        assert!(error.starts_with("program \"/no/criu\" is not there: install criu"), "{error}");
    }
}
