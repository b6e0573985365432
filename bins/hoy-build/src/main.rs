//! `hoy-build`: working containers and the images made of them, in buildah's words.

mod access;
mod args;
mod build;
mod build_args;
mod checks;
mod commands;
mod content;
mod context;
mod global;
mod history;
mod image;
mod images;
mod isolation;
mod manifest;
mod namespaces;
mod never;
mod onbuild;
mod said;
mod sbom;
mod show;
mod source;
mod surroundings;
mod timeline;
mod userns;
mod verify;
mod working;

use std::process::ExitCode;

/// The exit code of every failure, as in buildah: `run` gives its command's own code.
const FAILED: u8 = 125;

fn main() -> ExitCode {
    hoy_cli::main("hoy-build", || hoy_cli::Context::code(commands::run(hoy_cli::parse_or_exit_with(FAILED)), FAILED))
}
