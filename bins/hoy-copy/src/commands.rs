//! Which command does what.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use hoy_cli::Result;

use crate::args::{Action, Command};
use crate::{copy, delete, inspect, list_tags, login, manifest_digest, sync};

/// Carries out a command line.
pub(crate) fn run(command: Command) -> Result<ExitCode> {
    if let Some(limit) = command.global.command_timeout {
        std::thread::spawn(move || give_up_after(limit));
    }
    let global = &command.global;
    match command.action {
        Action::Copy(args) => copy::run(global, *args)?,
        Action::Inspect(args) => inspect::run(global, args)?,
        Action::ListTags(args) => list_tags::run(global, args)?,
        Action::Delete(args) => delete::run(global, args)?,
        Action::Login(args) => login::login(global, args)?,
        Action::Logout(args) => login::logout(args)?,
        Action::ManifestDigest(args) => manifest_digest::run(args)?,
        Action::Sync(args) => return sync::run(global, *args),
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
