//! `hoy-spec`: image configuration and flags in, runtime `config.json` out.

mod args;
mod print;

use std::process::ExitCode;

fn main() -> ExitCode {
    hoy_cli::main("hoy-spec", || print::run(&hoy_cli::parse()))
}
