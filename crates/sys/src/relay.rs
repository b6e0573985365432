//! Signals to this process as bytes in a pipe, so that they can be waited for beside other things and passed on.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::pipe::{PipeFlags, pipe_with};

use crate::{Error, Result, check};

/// The writing end of the pipe; -1 before there is one.
static PIPE: AtomicI32 = AtomicI32::new(-1);

/// Marks a signal that the kernel sent, as a terminal does to its whole foreground process group.
const FROM_KERNEL: u8 = 0x80;

/// A signal that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Its number.
    pub signal: i32,
    /// Whether the kernel sent it, so that the children in this process's group have it already: sigaction(2) `si_code`.
    pub from_kernel: bool,
}

impl Received {
    /// What a byte of the pipe means.
    pub fn from_byte(byte: u8) -> Self {
        Self { signal: i32::from(byte & !FROM_KERNEL), from_kernel: byte & FROM_KERNEL != 0 }
    }
}

/// Catches every signal that would end this process and can be caught, and gives the end of a pipe from which each is
/// read as one byte: [`Received::from_byte`]. A program started later finds the default actions.
///
/// # Errors
/// Those of pipe2(2) and sigaction(2).
pub fn catch_signals() -> Result<OwnedFd> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(|e| Error::new("pipe2", e))?;
    // The handler may run until the process ends, so its end of the pipe is never closed.
    let old = PIPE.swap(write.as_raw_fd(), Ordering::Relaxed);
    std::mem::forget(write);
    debug_assert_eq!(old, -1, "signals are caught once");
    let named = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2, libc::SIGTERM, libc::SIGALRM];
    let more =
        [libc::SIGVTALRM, libc::SIGPROF, libc::SIGIO, libc::SIGPWR, libc::SIGXCPU, libc::SIGWINCH, libc::SIGCONT];
    for signal in named.into_iter().chain(more).chain(libc::SIGRTMIN()..=libc::SIGRTMAX()) {
        catch(signal)?;
    }
    Ok(read)
}

fn catch(signal: i32) -> Result<()> {
    // SAFETY: an all-zero sigaction is a valid one: no handler, an empty mask, no flags.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = on_signal;
    action.sa_sigaction = handler as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
    // SAFETY: `action` is initialised, its handler has the form that SA_SIGINFO asks for and does only what
    // signal-safety(7) allows; no old action is asked for.
    let ret = unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
    check("sigaction", ret.into()).map(drop)
}

/// Writes the signal's byte. A full pipe loses it, as signals that pend twice are lost too.
extern "C" fn on_signal(signal: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes a siginfo_t that is valid while the handler runs.
    let code = unsafe { (*info).si_code };
    let byte = signal as u8 | if code == libc::SI_KERNEL { FROM_KERNEL } else { 0 };
    // SAFETY: errno is this thread's own, and asking where it is cannot fail.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: the place is valid as long as the thread.
    let before = unsafe { *errno };
    // SAFETY: write(2) is async-signal-safe, the buffer is one byte of this frame, and a wrong descriptor is an error only.
    unsafe { libc::write(PIPE.load(Ordering::Relaxed), (&raw const byte).cast(), 1) };
    // SAFETY: as above; what the interrupted code was about to read is put back.
    unsafe { *errno = before };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_a_byte() {
        let pipe = catch_signals().unwrap();
        let me = rustix::process::getpid();
        rustix::process::kill_process(me, rustix::process::Signal::USR1).unwrap();
        let mut byte = [0];
        let mut fds = [rustix::event::PollFd::new(&pipe, rustix::event::PollFlags::IN)];
        while rustix::event::poll(&mut fds, None).is_err() {}
        assert_eq!(rustix::io::read(&pipe, &mut byte).unwrap(), 1);
        assert_eq!(Received::from_byte(byte[0]), Received { signal: libc::SIGUSR1, from_kernel: false });
    }
}
