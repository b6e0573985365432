//! Being the parent of a container in the foreground: signals, the terminal, the exit code.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hoy_sys::process::{Child, pidfd_signal};
use hoy_sys::rustix::event::{PollFd, PollFlags, poll};
use hoy_sys::rustix::io::Errno;
use hoy_sys::rustix::process::{WaitOptions, waitpid};
use hoy_sys::rustix::stdio::{stdin, stdout};
use hoy_sys::rustix::termios::{
    OptionalActions, OutputModes, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};

use crate::Result;
use crate::error::Doing;
use crate::notify::Relay;
use crate::process::program;

const SIGCHLD: u32 = 17;
const SIGWINCH: u32 = 28;
/// Asked for by a program about its own descriptors: not for the container.
const SIGURG: u32 = 23;
const SIGPIPE: u32 = 13;

/// The caller's terminal, put back as it was when this is dropped.
struct Raw(Termios);

impl Raw {
    /// Lets every key through to the container's terminal, which gives them their meaning.
    fn new() -> Option<Self> {
        let before = tcgetattr(stdin()).ok().filter(|_| isatty(stdin()))?;
        let mut raw = before.clone();
        raw.make_raw();
        // What comes out is not a terminal's output yet: see `plain_lines`.
        raw.output_modes = before.output_modes;
        // Not flushed: what was typed before the container was there is for it.
        tcsetattr(stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // The terminal may have gone away.
        tcsetattr(stdin(), OptionalActions::Drain, &self.0).unwrap_or_default();
    }
}

/// Lets a container's terminal end lines as its program does: the caller's own terminal adds what it needs, and a file
/// or pipe gets no carriage return.
pub(crate) fn plain_lines(terminal: BorrowedFd<'_>) -> Result<()> {
    let mut modes = tcgetattr(terminal).doing(|| "read the terminal's modes")?;
    modes.output_modes.remove(OutputModes::ONLCR);
    tcsetattr(terminal, OptionalActions::Now, &modes).doing(|| "set the terminal's modes")
}

/// Waits for the end of `child`, passing signals on to it and copying between the caller and its terminal.
///
/// # Errors
/// Those of waiting.
pub(crate) fn wait(child: Child, signals: OwnedFd, terminal: Option<OwnedFd>, mut relay: Option<Relay>) -> Result<u8> {
    let raw = terminal.as_ref().and_then(|_| Raw::new());
    let mut terminal = terminal.map(File::from);
    resize(terminal.as_ref());
    let mut input_is_open = terminal.is_some();
    let mut signals = File::from(signals);
    let code = loop {
        let nothing = PollFlags::empty();
        let mut fds = vec![PollFd::new(&signals, PollFlags::IN)];
        if let Some(terminal) = &terminal {
            fds.push(PollFd::new(terminal, PollFlags::IN));
        }
        let input = stdin();
        if input_is_open {
            fds.push(PollFd::from_borrowed_fd(input, PollFlags::IN));
        }
        let count = fds.len();
        if let Some(relay) = &relay {
            fds.push(PollFd::new(relay, PollFlags::IN));
        }
        match poll(&mut fds, None) {
            Err(Errno::INTR) => continue,
            other => other.doing(|| "wait for the container")?,
        };
        let ready: Vec<bool> = fds.iter().map(|fd| fd.revents() != nothing).collect();
        let is_ready = |at: usize| ready.get(at).copied().unwrap_or(false);
        if relay.as_ref().is_some_and(|relay| is_ready(count) && is_done(relay)) {
            relay = None;
        }
        if terminal.is_some() && is_ready(1) && !copy_out(terminal.as_mut()) {
            // Nobody has the other side open any more.
            terminal = None;
            input_is_open = false;
        }
        if input_is_open && is_ready(2) {
            input_is_open = copy_in(terminal.as_mut());
        }
        if is_ready(0)
            && let Some(code) = on_signal(&mut signals, &child, terminal.as_ref())?
        {
            break code;
        }
    };
    // What the program wrote last is still in the terminal.
    while terminal.is_some() && has_more(terminal.as_ref()) && copy_out(terminal.as_mut()) {}
    drop(raw);
    Ok(code)
}

/// Passes the container's readiness on; a caller that cannot be told is no reason to end.
fn is_done(relay: &Relay) -> bool {
    relay.pass_on(None).unwrap_or_else(|error| {
        program::warn(&error.chain());
        true
    })
}

fn has_more(terminal: Option<&File>) -> bool {
    let Some(terminal) = terminal else { return false };
    let now = hoy_sys::rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut fds = [PollFd::new(terminal, PollFlags::IN)];
    let ready = poll(&mut fds, Some(&now)).unwrap_or(0);
    ready > 0 && fds.first().is_some_and(|fd| fd.revents().contains(PollFlags::IN))
}

/// Copies what the container wrote; `false` at its end.
fn copy_out(terminal: Option<&mut File>) -> bool {
    let mut buffer = [0_u8; 8192];
    let Some(terminal) = terminal else { return false };
    // The master of a terminal whose other side is closed gives EIO.
    let Ok(length @ 1..) = terminal.read(&mut buffer) else { return false };
    let mut rest = buffer.get(..length).unwrap_or_default();
    while !rest.is_empty() {
        match hoy_sys::rustix::io::write(stdout(), rest) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(Errno::INTR | Errno::AGAIN) => {}
            // The container goes on when its reader has gone.
            Err(_) => return true,
        }
    }
    true
}

/// Copies what the caller typed; `false` at its end, which the container sees as an end of input.
fn copy_in(terminal: Option<&mut File>) -> bool {
    /// What a terminal in line mode takes for the end of input: VEOF.
    const END_OF_INPUT: u8 = 4;
    let mut buffer = [0_u8; 4096];
    let Some(terminal) = terminal else { return false };
    let length = hoy_sys::rustix::io::read(stdin(), &mut buffer).unwrap_or(0);
    let bytes = if length == 0 { &[END_OF_INPUT] } else { buffer.get(..length).unwrap_or_default() };
    terminal.write_all(bytes).is_ok() && length > 0
}

fn resize(terminal: Option<&File>) {
    if let (Some(terminal), Ok(size)) = (terminal, tcgetwinsize(stdin())) {
        // The other side may be closed already.
        tcsetwinsize(terminal, size).unwrap_or_default();
    }
}

/// Acts on one signal; gives the exit code when the container has ended.
fn on_signal(signals: &mut File, child: &Child, terminal: Option<&File>) -> Result<Option<u8>> {
    // struct signalfd_siginfo: 128 bytes, the signal's number first.
    let mut info = [0_u8; 128];
    signals.read_exact(&mut info).doing(|| "read signals")?;
    let number = info.first_chunk::<4>().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
    match number {
        SIGCHLD => return exit_code(child),
        SIGWINCH if terminal.is_some() => resize(terminal),
        SIGURG | SIGPIPE => {}
        other => {
            let signal = i32::try_from(other).unwrap_or_default();
            // It may have ended, and SIGCHLD is next then.
            pidfd_signal(child.pidfd.as_fd(), signal).unwrap_or_default();
        }
    }
    Ok(None)
}

/// The exit code of `child` as a shell gives it, when it has ended.
pub(crate) fn exit_code(child: &Child) -> Result<Option<u8>> {
    let status = waitpid(Some(child.pid), WaitOptions::NOHANG).doing(|| "wait for the container")?;
    Ok(status.and_then(|(_, status)| {
        let code = status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal))?;
        u8::try_from(code).ok()
    }))
}
