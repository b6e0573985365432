//! Long options with one dash, which Go programs take and send: `restore -no-subreaper`.

use std::ffi::OsString;

use clap::{Command, CommandFactory};

use crate::args::Cli;

/// The command line with two dashes before each long option that has one.
pub(crate) fn with_two_dashes(args: Vec<OsString>) -> Vec<OsString> {
    let may_be =
        |arg: &OsString| arg.to_str().and_then(split).is_some_and(|(dashes, name)| dashes == 1 && name.len() > 1);
    // To know every option takes a while, and hardly anybody needs it.
    if args.iter().any(may_be) { rewrite(&Cli::command(), args) } else { args }
}

/// The dashes of an option and its name without a value.
fn split(arg: &str) -> Option<(usize, &str)> {
    let name = arg.trim_start_matches('-');
    let name = name.split('=').next().filter(|name| !name.is_empty())?;
    let dashes = arg.len() - arg.trim_start_matches('-').len();
    (dashes > 0).then_some((dashes, name))
}

fn rewrite(root: &Command, args: Vec<OsString>) -> Vec<OsString> {
    let mut command = root;
    let mut names = 0;
    let mut is_value = true; // The program's own name.
    let mut is_rest = false;
    let mut words = Vec::with_capacity(args.len());
    for arg in args {
        let text = arg.to_str().unwrap_or_default();
        if is_rest || std::mem::take(&mut is_value) {
            words.push(arg);
            continue;
        }
        let Some((dashes, name)) = split(text) else {
            // `-` and `--` are names like any other here, and the second ends the options.
            is_rest = text == "--";
            match command.find_subcommand(text) {
                Some(sub) => command = sub,
                None => names += 1,
            }
            // What follows the first name is for another program.
            let passes_on = command.get_positionals().any(clap::Arg::is_trailing_var_arg_set);
            is_rest |= passes_on && names > 0;
            words.push(arg);
            continue;
        };
        let long = command.get_arguments().find(|option| option.get_long() == Some(name));
        let short = |option: &&clap::Arg| name.chars().last().is_some_and(|last| option.get_short() == Some(last));
        let option = long.or_else(|| command.get_arguments().find(short).filter(|_| dashes == 1));
        is_value = !text.contains('=') && option.is_some_and(|option| option.get_action().takes_values());
        let needs_dash = dashes == 1 && name.len() > 1 && long.is_some();
        words.push(if needs_dash { format!("-{text}").into() } else { arg });
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_dash_is_enough() {
        let cases = [
            ("create -b dir id", "create -b dir id"),
            ("-root /r -log-format=json create -bundle dir id", "--root /r --log-format=json create --bundle dir id"),
            ("run -no-subreaper id -pid-file p", "run --no-subreaper id --pid-file p"),
            ("--root -log list -quiet", "--root -log list --quiet"),
            ("run -b -keep id", "run -b -keep id"),
            ("exec -tty id ls -all -tty", "exec --tty id ls -all -tty"),
            ("exec -dt id sh", "exec -dt id sh"),
            ("kill -all id 9", "kill --all id 9"),
        ];
        for (input, want) in cases {
            let words =
                |text: &str| std::iter::once("hoy-runtime").chain(text.split(' ')).map(OsString::from).collect();
            let want: Vec<OsString> = words(want);
            assert_eq!(with_two_dashes(words(input)), want);
        }
    }
}
