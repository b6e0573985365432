//! hoy-copy: moves images between registries, layouts and archives, and looks at them. It speaks skopeo's command line.

mod access;
mod args;
mod commands;
mod copy;
mod delete;
mod endpoint;
mod inspect;
mod list_tags;
mod login;
mod manifest_digest;
mod policy;
mod side;
mod sync;
mod words;

use std::process::ExitCode;

fn main() -> ExitCode {
    hoy_cli::main("hoy-copy", || commands::run(args::parse()))
}
