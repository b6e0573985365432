//! Which command does what.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use hoy_cli::{Error, Result};

use crate::args::{Action, Command};
use crate::{
    artifact, copy, delete, edit, export, fetch, index, inspect, list_tags, login, look, manifest_digest, names, serve,
    sign, sync, validate,
};

/// Carries out a command line.
pub(crate) fn run(command: Command) -> Result<ExitCode> {
    if let Some(limit) = command.global.command_timeout {
        std::thread::spawn(move || give_up_after(limit));
    }
    let global = &command.global;
    if global.tls_details.is_some() {
        let text =
            "--tls-details: this version speaks TLS 1.2 and 1.3 with the ciphers it has, and can be told no others";
        return Err(Error::msg(text).with_code(2));
    }
    match command.action {
        Action::Copy(args) => copy::run(global, *args)?,
        Action::Inspect(args) => inspect::run(global, args)?,
        Action::ListTags(args) => list_tags::run(global, args)?,
        Action::Names(args) => names::print(global, &args)?,
        Action::Delete(args) => delete::run(global, args)?,
        Action::Login(args) => login::login(global, args)?,
        Action::Logout(args) => login::logout(args)?,
        Action::ManifestDigest(args) => manifest_digest::run(args)?,
        Action::Sync(args) => return sync::run(global, *args),
        Action::Serve(args) => serve::run(global, args)?,
        Action::GenerateSigstoreKey(args) => sign::generate_key(args)?,
        Action::StandaloneSign(args) => sign::standalone_sign(args)?,
        Action::StandaloneVerify(args) => sign::standalone_verify(args)?,
        Action::Digest(args) => look::digest(global, args)?,
        Action::Manifest(args) => look::manifest(global, args)?,
        Action::Config(args) => look::config(global, args)?,
        Action::Layers(args) => look::layers(global, args)?,
        Action::Blob(args) => look::blob(global, args)?,
        Action::Catalog(args) => look::catalog(global, args)?,
        Action::Validate(args) => validate::run(global, args)?,
        Action::Referrers(args) => artifact::referrers(global, args)?,
        Action::Discover(args) => artifact::discover(global, args)?,
        Action::Export(args) => export::run(global, args)?,
        Action::Append(args) => edit::append(global, *args)?,
        Action::Mutate(args) => edit::mutate(global, *args)?,
        Action::Rebase(args) => edit::rebase(global, args)?,
        Action::Flatten(args) => edit::flatten(global, args)?,
        Action::Attach(args) => artifact::attach(global, args)?,
        Action::Pull(args) => artifact::pull(global, args)?,
        Action::Fetch(args) => fetch::run(global, args)?,
        Action::Index(action) => index::run(global, action)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Ends the program. What it leaves are temporaries, as after any kill.
fn give_up_after(limit: Duration) {
    std::thread::sleep(limit);
    // Standard error may be closed, and then there is nobody to tell.
    writeln!(std::io::stderr(), "hoy-copy: not done within {limit:?}, as --command-timeout says").unwrap_or_default();
    std::process::exit(1);
}
