//! How a program starts and ends.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::process::ExitCode;

use clap::builder::TypedValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command, Parser};
use clap_complete::Shell;

use crate::output::Closed;
use crate::{Error, Result, Stdout};

/// Runs a program: prints a failure's chain of causes once, and turns it into the exit code.
pub fn main(name: &str, run: impl FnOnce() -> Result<ExitCode>) -> ExitCode {
    let finished = run().and_then(|code| Stdout::new().flush().map(|()| code).map_err(Error::from));
    match finished {
        Ok(code) => code,
        Err(error) if error.is(|_: &Closed| true) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be closed too, and then there is nobody to tell.
            writeln!(std::io::stderr(), "{name}: {error}").unwrap_or_default();
            ExitCode::from(error.code().unwrap_or(1))
        }
    }
}

/// Reads the command line; wrong usage ends the program with exit code 2.
pub fn parse<A: Parser>() -> A {
    parse_or_exit_with(2)
}

/// Reads the command line; wrong usage ends the program with `code`.
///
/// `--completion SHELL` and `--describe` as the only arguments print the completion script, and every command with its
/// options, one a line, instead.
pub fn parse_or_exit_with<A: Parser>(code: u8) -> A {
    parse_args(std::env::args_os().collect(), code)
}

/// Reads a command line that is not, or not quite, the one typed; otherwise as [`parse_or_exit_with`].
pub fn parse_args<A: Parser>(args: Vec<OsString>, code: u8) -> A {
    match read(&args, |command| command) {
        Ok(parsed) => parsed,
        Err(error) => {
            // Nobody is left to tell when the terminal is gone.
            match lacks_value(&error) {
                // The words of getopt(3): podman looks for them to learn what a runtime knows.
                Some(option) => writeln!(std::io::stderr(), "error: option '{option}' requires an argument"),
                None => error.print(),
            }
            .unwrap_or_default();
            std::process::exit(if error.use_stderr() { code.into() } else { 0 });
        }
    }
}

/// Reads a command line by a description that is `changed`.
pub(crate) fn read<A: Parser>(
    args: &[OsString],
    changed: fn(Command) -> Command,
) -> std::result::Result<A, clap::Error> {
    let texts: Vec<&str> = args.iter().skip(1).filter_map(|a| a.to_str()).collect();
    match texts.as_slice() {
        ["--completion", shell] => print_and_exit(&completion(A::command(), shell)),
        ["--describe"] => print_and_exit(&describe(A::command())),
        _ => {}
    }
    let read = |command: Command| command.try_get_matches_from(args).and_then(|found| A::from_arg_matches(&found));
    read(changed(A::command())).or_else(|error| {
        read(with_values(changed(A::command()))).map_err(|other| match (error.kind(), other.kind()) {
            // It is not the value of an option that is there or not.
            (ErrorKind::TooManyValues, kind) if kind != ErrorKind::InvalidValue => other,
            // What is wrong is told of the options as they are in the manual.
            _ => error,
        })
    })
}

/// The same, where each option that is there or not also takes `=true` and `=false`, as all do in the tools whose
/// command lines these are.
fn with_values(command: Command) -> Command {
    let command = command.mut_args(|arg| match arg.get_action() {
        ArgAction::SetTrue => {
            let arg = arg.action(ArgAction::Set).num_args(0..=1).require_equals(true);
            arg.default_missing_value("true").default_value("false").value_parser(BoolValue)
        }
        _ => arg,
    });
    command.mut_subcommands(with_values)
}

/// `true` and `false` as Go reads them.
#[derive(Clone)]
struct BoolValue;

impl TypedValueParser for BoolValue {
    type Value = bool;

    fn parse_ref(&self, command: &Command, _: Option<&Arg>, value: &OsStr) -> std::result::Result<bool, clap::Error> {
        match value.to_str() {
            Some("1" | "t" | "T" | "true" | "True" | "TRUE") => Ok(true),
            Some("0" | "f" | "F" | "false" | "False" | "FALSE") => Ok(false),
            _ => Err(clap::Error::new(ErrorKind::InvalidValue).with_cmd(command)),
        }
    }
}

/// The option that came without the value it needs, when that is what is wrong.
fn lacks_value(error: &clap::Error) -> Option<String> {
    let text = |kind| error.get(kind).map(ToString::to_string);
    let is_empty = text(ContextKind::InvalidValue).is_some_and(|value| value.is_empty());
    // Where only some values are possible, clap lists them.
    let is_free = match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(values)) => values.is_empty(),
        other => other.is_none(),
    };
    text(ContextKind::InvalidArg).filter(|_| error.kind() == ErrorKind::InvalidValue && is_empty && is_free)
}

/// Splits the words of an argument that is declared `trailing_var_arg`, into a name and what is passed on unread.
///
/// Options end at the name, as podman, buildah and runc have it. A `--` behind the name is no part of what follows.
pub fn name_and_words(words: Vec<String>) -> (String, Vec<String>) {
    let mut words = words.into_iter();
    let name = words.next().unwrap_or_default();
    let mut rest = words.peekable();
    rest.next_if(|word| word == "--");
    (name, rest.collect())
}

pub(crate) fn print_and_exit(text: &str) -> ! {
    let code = i32::from(text.is_empty() || Stdout::new().write_all(text.as_bytes()).is_err());
    std::process::exit(code)
}

/// The completion script for `shell`; empty when there is none for it.
fn completion(mut command: Command, shell: &str) -> String {
    let Ok(shell) = shell.parse::<Shell>() else { return String::new() };
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Every visible command and option, one a line: `NAME SUBCOMMAND --long`, `NAME SUBCOMMAND -s`.
fn describe(mut command: Command) -> String {
    command.build();
    let mut lines = Vec::new();
    describe_into(&command, "", &mut lines);
    lines.concat()
}

fn describe_into(command: &Command, prefix: &str, lines: &mut Vec<String>) {
    let name = format!("{prefix}{}", command.get_name());
    lines.push(format!("{name}\n"));
    let automatic = |arg: &&Arg| !matches!(arg.get_id().as_str(), "help" | "version");
    for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()).filter(automatic) {
        lines.extend(arg.get_long().map(|long| format!("{name} --{long}\n")));
        lines.extend(arg.get_short().map(|short| format!("{name} -{short}\n")));
    }
    let real = |sub: &&Command| !sub.is_hide_set() && sub.get_name() != "help";
    for sub in command.get_subcommands().filter(real) {
        describe_into(sub, &format!("{name} "), lines);
    }
}
