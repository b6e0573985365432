//! OCI runtime: makes the process that a bundle describes.

use std::process::ExitCode;

mod args;
mod commands;
mod events;
mod log;
mod ps;
mod signal;
mod spec;
mod update;
mod words;

fn main() -> ExitCode {
    hoy_cli::main("hoy-runtime", || {
        commands::run(hoy_cli::parse_args(words::with_two_dashes(std::env::args_os().collect()), 2))
    })
}
