//! hoy-copy: moves images between registries, layouts and archives, and looks at them. It speaks skopeo's command line.

mod access;
mod args;
mod artifact;
mod blob_cache;
mod blobs;
mod commands;
mod copy;
mod delete;
mod edit;
mod edit_args;
mod encryption;
mod endpoint;
mod export;
mod fetch;
mod index;
mod inspect;
mod keys;
mod list_tags;
mod login;
mod login_args;
mod look;
mod look_args;
mod manifest_digest;
mod names;
mod oidc;
mod policy;
mod progress;
mod prune;
mod rate;
mod serve;
mod side;
mod sign;
mod signatures;
mod signing_args;
mod signing_params;
mod sync;
mod sync_args;
mod sync_file;
mod validate;
mod web;
mod words;

use std::process::ExitCode;

fn main() -> ExitCode {
    hoy_cli::main("hoy-copy", || commands::run(args::parse()))
}
