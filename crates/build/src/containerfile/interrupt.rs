//! Signals that end a build: what it runs is killed, and it tidies up after itself.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use hoy_sys::relay::{Received, catch_signals};
use hoy_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use hoy_sys::rustix::io::read;

use crate::{Error, Result};

/// SIGHUP, SIGINT, SIGQUIT, SIGTERM: signal(7).
const ENDING: [i32; 4] = [1, 2, 3, 15];

/// How long is waited before what still runs is killed again.
const AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// Whether the build is to end, and what has to be killed then.
#[derive(Debug, Default)]
pub(crate) struct Interrupt {
    came: AtomicBool,
    /// Commands that kill what runs, by the container's id.
    running: Mutex<Vec<(String, Command)>>,
}

static ONE: OnceLock<Arc<Interrupt>> = OnceLock::new();

impl Interrupt {
    /// Catches signals from now on.
    pub(crate) fn catch() -> Result<Arc<Self>> {
        if let Some(one) = ONE.get() {
            return Ok(Arc::clone(one));
        }
        let interrupt = Arc::clone(ONE.get_or_init(Arc::default));
        let signals = catch_signals().map_err(Error::io("catch", "signals"))?;
        let listening = Arc::clone(&interrupt);
        std::thread::spawn(move || {
            loop {
                let mut bytes = [0; 16];
                let mut fds = [PollFd::new(&signals, PollFlags::IN)];
                let is_ending = listening.came.load(Ordering::SeqCst);
                // An interrupted wait is begun anew.
                poll(&mut fds, is_ending.then_some(&AGAIN)).unwrap_or_default();
                if is_ending {
                    // What was only just starting when the signal came can be killed now.
                    listening.end();
                }
                let count = read(&signals, &mut bytes).unwrap_or_default();
                let mut received = bytes.iter().take(count).map(|byte| Received::from_byte(*byte).signal);
                if received.any(|signal| ENDING.contains(&signal)) {
                    listening.end();
                }
            }
        });
        Ok(interrupt)
    }

    fn end(&self) {
        self.came.store(true, Ordering::SeqCst);
        for (_, kill) in self.running.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            // It may have ended by itself.
            drop(kill.output());
        }
    }

    /// # Errors
    /// [`Error::Interrupted`] once a signal came.
    pub(crate) fn check(&self) -> Result<()> {
        if self.came.load(Ordering::SeqCst) { Err(Error::Interrupted) } else { Ok(()) }
    }

    pub(crate) fn add(&self, id: &str, kill: Command) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).push((id.to_owned(), kill));
    }

    pub(crate) fn remove(&self, id: &str) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).retain(|(known, _)| known != id);
    }
}
