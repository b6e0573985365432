//! OCI runtime: makes the process that a bundle describes.

use std::process::ExitCode;

mod args;
mod checkpoint;
mod commands;
mod events;
mod help;
mod log;
mod ps;
mod signal;
mod spec;
mod update;
mod words;

/// The commands whose process enters a container.
const ENTERING: [&str; 3] = ["create", "exec", "run"];

fn main() -> ExitCode {
    // Sealing begins the program anew, and costs least before anything is read. A word that is no command here does
    // no harm; a failure is told by the command, which seals in any case.
    if std::env::args_os().any(|arg| ENTERING.iter().any(|command| arg == *command)) {
        hoy_runtime::seal().unwrap_or_default();
    }
    hoy_cli::main("hoy-runtime", || {
        commands::run(hoy_cli::parse_args(words::with_two_dashes(std::env::args_os().collect()), 2))
    })
}
