//! `hoy-build`: working containers and the images made of them, in buildah's words.

mod access;
mod args;
mod artifact;
mod build;
mod build_args;
mod checks;
mod commands;
mod containers_conf;
mod content;
mod context;
mod global;
mod history;
mod image;
mod images;
mod isolation;
mod manifest;
mod mounts_conf;
mod namespaces;
mod never;
mod onbuild;
mod resolver;
mod run;
mod run_mounts;
mod said;
mod sbom;
mod show;
mod source;
mod surroundings;
mod timeline;
mod userns;
mod verify;
mod volumes;
mod working;

use std::process::ExitCode;

/// The exit code of every failure, as in buildah: `run` gives its command's own code.
const FAILED: u8 = 125;

fn main() -> ExitCode {
    hoy_cli::main("hoy-build", || hoy_cli::Context::code(commands::run(hoy_cli::parse_or_exit_with(FAILED)), FAILED))
}
