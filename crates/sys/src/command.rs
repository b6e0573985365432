//! Programs started by [`Command`] that are not to have this process's signal state.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::process::reset_signals;

/// Lets the program begin with every signal unblocked and at its default action.
pub fn with_default_signals(command: &mut Command) {
    // SAFETY: between fork and exec the closure makes signal(2) and sigprocmask(2) calls only, which signal-safety(7)
    // allows, and allocates nothing.
    unsafe {
        command.pre_exec(|| {
            reset_signals();
            Ok(())
        })
    };
}
