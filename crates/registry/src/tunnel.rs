//! A registry at the other end of a command, such as `ssh host hoy-copy serve`: its standard input and output are the
//! connection.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport};
use ureq::{Agent, Error};

/// How long a connection may rest: as long as a copy takes.
const REST: Duration = Duration::from_secs(24 * 3600);

/// An agent that runs `command` for a connection, and gives up on one that is silent for longer than `patience`.
pub(crate) fn agent(command: &[OsString], user_agent: &str, patience: Duration) -> Agent {
    let config = Agent::config_builder()
        .proxy(None)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(user_agent)
        .max_idle_age(REST)
        .input_buffer_size(64 << 10)
        .output_buffer_size(64 << 10)
        // The command may ask a person for a password first.
        .timeout_recv_response(Some(patience.saturating_mul(5)))
        .build();
    Agent::with_parts(config, Starter(command.to_vec()), Nowhere)
}

/// Runs the command.
#[derive(Debug)]
struct Starter(Vec<OsString>);

/// The command needs no address.
#[derive(Debug)]
struct Nowhere;

impl Resolver for Nowhere {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let mut any = self.empty();
        any.push(std::net::SocketAddr::from(([127, 0, 0, 1], 0)));
        Ok(any)
    }
}

impl Connector for Starter {
    type Out = Tunnel;

    fn connect(&self, details: &ConnectionDetails<'_>, _: Option<()>) -> Result<Option<Tunnel>, Error> {
        let missing = || Error::Io(io::Error::new(io::ErrorKind::NotFound, "the command is empty"));
        let (program, arguments) = self.0.split_first().ok_or_else(missing)?;
        let (stream, theirs) = UnixStream::pair()?;
        let output = theirs.try_clone()?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(OwnedFd::from(output)))
            .spawn()
            .map_err(|e| io::Error::new(e.kind(), format!("run \"{}\": {e}", program.to_string_lossy())))?;
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Tunnel { stream, child, buffers }))
    }
}

/// A running command.
struct Tunnel {
    stream: UnixStream,
    child: Child,
    buffers: LazyBuffers,
}

impl std::fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tunnel").field("pid", &self.child.id()).finish_non_exhaustive()
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        // It may have ended by itself; what it was asked for has been answered.
        self.child.kill().and_then(|()| self.child.wait()).map(drop).unwrap_or_default();
    }
}

fn in_time(error: io::Error, timeout: NextTimeout) -> Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::Timeout(timeout.reason),
        _ => error.into(),
    }
}

impl Transport for Tunnel {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let timeout = timeout.for_write();
        self.stream.set_write_timeout(timeout.not_zero().map(|t| *t))?;
        let bytes = self.buffers.output().get(..amount).unwrap_or_default().to_vec();
        self.stream.write_all(&bytes).map_err(|e| in_time(e, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let timeout = timeout.for_read();
        self.stream.set_read_timeout(timeout.not_zero().map(|t| *t))?;
        let count = loop {
            match self.stream.read(self.buffers.input_append_buf()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other.map_err(|e| in_time(e, timeout))?,
            }
        };
        self.buffers.input_appended(count);
        Ok(count > 0)
    }

    fn is_open(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|ended| ended.is_none())
    }
}
