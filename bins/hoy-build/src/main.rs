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
mod working;

use std::process::ExitCode;

use hoy_cli::Context as _;

/// The exit code of every failure, as in buildah: `run` gives its command's own code.
const FAILED: u8 = 125;

/// The commands of buildah whose options stand before names.
const OPTIONS_FIRST: [&str; 14] = [
    "add", "commit", "config", "copy", "from", "images", "inspect", "mount", "prune", "pull", "push", "rm", "rmi",
    "umount",
];

fn main() -> ExitCode {
    let is_buildah = hoy_cli::is_called("buildah");
    hoy_cli::main(if is_buildah { "Error" } else { "hoy-build" }, || {
        let command = if is_buildah {
            hoy_cli::parse_as_cobra(&OPTIONS_FIRST).code(FAILED)?
        } else {
            hoy_cli::parse_or_exit_with(FAILED)
        };
        commands::run(command).code(FAILED)
    })
}
