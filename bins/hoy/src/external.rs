//! Other programs that do the work of a command.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use hoy_cli::{Context, Error, Result};
use hoy_engine::Programs;
use hoy_sys::rustix::process::geteuid;

use crate::args::{Args, Global, Rest};

/// Becomes `hoy-storage COMMAND …`.
pub(crate) fn storage(global: &Global, command: &str, rest: &Rest) -> Result<ExitCode> {
    let mut program = Programs::new(global.roots()?).command("hoy-storage")?;
    program.arg(command).args(&rest.words);
    become_program(program, "hoy-storage")
}

/// Becomes `hoy-X …`.
pub(crate) fn other(global: &Global, words: &[OsString]) -> Result<ExitCode> {
    let (first, rest) = words.split_first().ok_or_else(|| Error::msg("no command"))?;
    let programs = Programs::new(global.roots()?);
    let mut name = OsString::from("hoy-");
    name.push(first);
    let text = first.to_string_lossy();
    if text.contains('/') || programs.find(&name).is_none() {
        let error = Error::msg(format!("\"{text}\" is no command of hoy, and there is no program hoy-{text}"));
        return Err(match nearest(&text) {
            Some(word) => error.with_hint(format!("did you mean \"hoy {word}\"?")),
            None => error.with_hint("\"hoy --help\" lists the commands"),
        });
    }
    let name = name.to_string_lossy().into_owned();
    let mut program = programs.command(&name)?;
    program.args(rest);
    become_program(program, &name)
}

fn become_program(mut program: Command, name: &str) -> Result<ExitCode> {
    Err(program.exec()).context(|| format!("start \"{name}\""))
}

/// Becomes this very command inside the namespaces where an ordinary user's files and mounts are; returns there, and at
/// once for root.
pub(crate) fn enter_namespaces(global: &Global) -> Result<()> {
    if geteuid().is_root() {
        return Ok(());
    }
    let own = std::env::current_exe().context(|| "find this program")?;
    let mut program = Programs::new(global.roots()?).command("hoy-storage")?;
    program.args(["unshare", "--"]).arg(own).args(std::env::args_os().skip(1));
    // Whether the sockets are for this process is decided; the process they are used by has another number.
    program.env_remove("LISTEN_PID");
    if std::env::var("LISTEN_PID").is_ok_and(|pid| pid != std::process::id().to_string()) {
        program.env_remove("LISTEN_FDS").env_remove("LISTEN_FDNAMES");
    }
    become_program(program, "hoy-storage").map(drop)
}

/// The command that a mistyped word is nearest to, if it is near enough.
fn nearest(word: &str) -> Option<String> {
    let command = <Args as clap::CommandFactory>::command();
    let own = command.get_subcommands().map(|sub| sub.get_name().to_owned());
    let others = ["build", "copy", "storage", "spec"].map(str::to_owned);
    let (name, distance) =
        own.chain(others).map(|name| (name.clone(), distance(word, &name))).min_by_key(|(_, distance)| *distance)?;
    (distance <= 2 && distance < word.len()).then_some(name)
}

/// How many letters are to be put in, left out or changed.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(&b) {
            let best = (diagonal + usize::from(x != *y)).min(*cell + 1).min(left + 1);
            diagonal = std::mem::replace(cell, best);
            left = best;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(nearest("rnu").as_deref(), Some("run"));
        assert_eq!(nearest("imags").as_deref(), Some("images"));
        assert_eq!(nearest("buidl").as_deref(), Some("build"));
        assert_eq!(nearest("xyzzy"), None);
    }
}
