//! `hoy`: containers with podman's command line and no daemon.

mod args;
mod container;
mod external;
mod image;
mod inspect;
mod ps;

use std::process::ExitCode;

use args::{Args, Command};
use hoy_cli::{Context, Result};

/// What a failure of the engine itself ends with, as podman's.
const ENGINE_FAILED: u8 = 125;

fn main() -> ExitCode {
    hoy_cli::main("hoy", || run(hoy_cli::parse_or_exit_with(ENGINE_FAILED)).code(ENGINE_FAILED))
}

fn run(args: Args) -> Result<ExitCode> {
    let Args { global, command } = args;
    match command {
        Command::Run(run) => container::run(&global, *run),
        Command::Exec(exec) => container::exec(&global, exec),
        Command::Rm(rm) => container::remove(&global, &rm),
        Command::Ps(ps) => ps::list(&global, &ps),
        Command::Inspect(inspect) => inspect::inspect(&global, &inspect),
        Command::Pull(pull) => image::pull(&global, &pull),
        Command::Push(push) => image::push(&global, &push),
        Command::Images(rest) => external::storage(&global, "images", &rest),
        Command::Rmi(rest) => external::storage(&global, "rmi", &rest),
        Command::Tag(rest) => external::storage(&global, "tag", &rest),
        Command::Untag(rest) => external::storage(&global, "untag", &rest),
        Command::History(rest) => external::storage(&global, "history", &rest),
        Command::Other(words) => external::other(&global, &words),
    }
}
