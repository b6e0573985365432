//! The command line as programs made with cobra and pflag read it, and wrong usage in their words: for a program that
//! is called by the name of one of them.

use std::ffi::{OsStr, OsString};
use std::num::{IntErrorKind, ParseIntError};
use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command, Parser};

use crate::start::{print_and_exit, read};
use crate::{Error, Result};

/// Whether this program was called by that name, as a link to it has it.
pub fn is_called(name: &str) -> bool {
    std::env::args_os().next().is_some_and(|path| Path::new(&path).file_name() == Some(OsStr::new(name)))
}

/// Reads the command line as pflag does: an option that needs a value takes the next word, whatever it is. Options of
/// the commands `options_first` stand before the first name.
///
/// # Errors
/// Wrong usage, in cobra's words.
pub fn parse_as_cobra<A: Parser>(options_first: &[&str]) -> Result<A> {
    let args: Vec<OsString> = std::env::args_os().collect();
    let mut command = A::command();
    command.build();
    let typed = Typed::read(&command, &args, options_first);
    if let Some(option) = typed.late_option() {
        let text = format!("no options ({option}) can be specified after the image or container name");
        return Err(Error::msg(text));
    }
    read(&args, with_any_value).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            typed.print_help(&command)
        }
        ErrorKind::InvalidSubcommand if typed.path.len() > 1 => typed.print_help(&command),
        _ if error.use_stderr() => typed.tell(&error),
        _ => error.exit(),
    })
}

fn with_any_value(command: Command) -> Command {
    command
        .mut_args(|arg| if takes_next(&arg) { arg.allow_hyphen_values(true) } else { arg })
        .mut_subcommands(with_any_value)
}

/// Whether an option's value is the next word.
fn takes_next(arg: &Arg) -> bool {
    let is_valued = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append) && !arg.is_positional();
    is_valued && !arg.is_require_equals_set() && arg.get_num_args().is_none_or(|count| count.min_values() > 0)
}

/// What was typed: the command, and the words that are no options.
struct Typed<'a> {
    /// The command and those that it belongs to.
    path: Vec<&'a str>,
    command: &'a Command,
    words: Vec<&'a str>,
    last: &'a str,
    has_options_first: bool,
}

impl<'a> Typed<'a> {
    fn read(program: &'a Command, args: &'a [OsString], options_first: &[&str]) -> Self {
        let mut args = args.iter().map(|arg| arg.to_str().unwrap_or_default());
        let name = args.next().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
        let last = args.clone().next_back().unwrap_or_default();
        let mut typed = Self { path: vec![name], command: program, words: Vec::new(), last, has_options_first: false };
        while let Some(word) = args.next() {
            if word == "--" {
                break;
            }
            if word.len() > 1 && word.starts_with('-') {
                if typed.takes_next(word) {
                    args.next();
                }
            } else if let (true, Some(command)) = (typed.words.is_empty(), typed.command.find_subcommand(word)) {
                typed.has_options_first = typed.path.len() == 1 && options_first.contains(&command.get_name());
                typed.path.push(command.get_name());
                typed.command = command;
            } else {
                typed.words.push(word);
                if typed.has_options_first {
                    break;
                }
            }
        }
        typed.words.extend(args);
        typed
    }

    /// Whether the value of an option, or of the last of several letters, is the next word.
    fn takes_next(&self, word: &str) -> bool {
        if let Some(long) = word.strip_prefix("--") {
            let is_it = |arg: &Arg| arg.get_all_aliases().is_some_and(|others| others.contains(&long));
            return self.find(|arg| arg.get_long() == Some(long) || is_it(arg));
        }
        let mut letters = word.chars().skip(1);
        let takes = |letter| self.find(|arg| arg.get_short() == Some(letter));
        letters.by_ref().any(takes) && letters.next().is_none()
    }

    fn find(&self, is_it: impl Fn(&Arg) -> bool) -> bool {
        self.command.get_arguments().any(|arg| is_it(arg) && takes_next(arg))
    }

    /// The first option that stands behind a name where none may.
    fn late_option(&self) -> Option<&str> {
        let is_option = |word: &&&str| word.len() > 1 && word.starts_with('-');
        self.words.iter().filter(|_| self.has_options_first).find(is_option).copied()
    }

    /// Prints the help of a command, also of one that is named after `help`, and ends the program.
    fn print_help(&self, program: &Command) -> ! {
        let (mut path, mut command) = (self.path.iter().take(1).copied().collect::<Vec<_>>(), program);
        let mut names: Vec<&str> = self.path.iter().chain(&self.words).skip(1).copied().collect();
        names.iter().position(|name| *name == "help").map(|at| names.remove(at));
        for name in names {
            if let Some(found) = command.find_subcommand(name) {
                (command, path) = (found, [path, vec![found.get_name()]].concat());
            }
        }
        print_and_exit(&help(command.clone(), &path.join(" ")))
    }

    fn tell(&self, error: &clap::Error) -> Error {
        let told = |kind| match error.get(kind) {
            Some(ContextValue::Strings(all)) => all.first().cloned().unwrap_or_default(),
            other => other.map(ToString::to_string).unwrap_or_default(),
        };
        let arg = told(ContextKind::InvalidArg);
        let (option, value) = (name(&arg), told(ContextKind::InvalidValue));
        let possible = told(ContextKind::ValidValue);
        let text = match error.kind() {
            ErrorKind::UnknownArgument if arg.starts_with("--") => format!("unknown flag: {arg}"),
            ErrorKind::UnknownArgument if arg.starts_with('-') => {
                format!("unknown shorthand flag: '{}' in {arg}", arg.trim_start_matches('-'))
            }
            ErrorKind::MissingRequiredArgument if arg.starts_with('-') => {
                format!("required flag(s) \"{}\" not set", option.trim_start_matches('-'))
            }
            ErrorKind::UnknownArgument | ErrorKind::MissingRequiredArgument => self.count(),
            ErrorKind::InvalidSubcommand => {
                let unknown = told(ContextKind::InvalidSubcommand);
                format!("unknown command \"{unknown}\" for \"{}\"", self.path.join(" "))
            }
            ErrorKind::ArgumentConflict => match told(ContextKind::PriorArg).as_str() {
                other if other.starts_with('-') => {
                    format!("when using the {option} switch, you may not use {} switch", name(other))
                }
                other => format!("when using the {option} switch, you may not pass any {} names or IDs", name(other)),
            },
            ErrorKind::InvalidValue if value.is_empty() && possible.is_empty() => match self.last.strip_prefix('-') {
                Some(letter) if !letter.starts_with('-') => format!("flag needs an argument: '{letter}' in -{letter}"),
                _ => format!("flag needs an argument: {option}"),
            },
            ErrorKind::InvalidValue | ErrorKind::ValueValidation | ErrorKind::TooManyValues => {
                let short = self.command.get_arguments().find(|known| known.to_string() == arg);
                let short = short.and_then(Arg::get_short).map(|short| format!("-{short}, ")).unwrap_or_default();
                format!("invalid argument \"{value}\" for \"{short}{option}\" flag: {}", reason(error, &value))
            }
            _ => error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned(),
        };
        match told(ContextKind::SuggestedArg) + &told(ContextKind::SuggestedSubcommand) {
            none if none.is_empty() => Error::msg(text),
            meant => Error::msg(text).with_hint(format!("perhaps \"{}\" is meant", name(&meant))),
        }
    }

    /// Too many words, or too few.
    fn count(&self) -> String {
        let (mut least, mut most) = (0, 0_usize);
        for arg in self.command.get_positionals() {
            let is_many = matches!(arg.get_action(), ArgAction::Append);
            let count = arg.get_num_args().map(|count| (count.min_values(), count.max_values())).unwrap_or((1, 1));
            least += if arg.is_required_set() { count.0.max(1) } else { 0 };
            most = most.saturating_add(if is_many { usize::MAX } else { count.1 });
        }
        let typed = self.words.len();
        match () {
            () if least == most => format!("accepts {most} arg(s), received {typed}"),
            () if typed > most => format!("accepts at most {most} arg(s), received {typed}"),
            () => format!("requires at least {} arg(s), only received {typed}", least.max(1)),
        }
    }
}

/// The help of a command that is called by `path`.
fn help(command: Command, path: &str) -> String {
    let (mut usage, mut template) = (path.to_owned(), "{about-with-newline}\nUsage:\n  {usage}\n".to_owned());
    if command.has_subcommands() && command.get_name() != "help" {
        usage = if path.contains(' ') { path.to_owned() } else { format!("{path} [flags]\n  {path}") } + " [command]";
        template += "\nAvailable Commands:\n{subcommands}\n";
    } else {
        usage.extend(command.get_positionals().map(|arg| format!(" {arg}")));
        usage += " [flags]";
        template += "\nArguments:\n{positionals}\n";
    }
    template += "\nFlags:\n{options}\n";
    command.help_template(template).override_usage(usage).term_width(0).render_help().to_string()
}

/// An argument without its value and the marks of a placeholder: `--all`, `images`.
fn name(shown: &str) -> String {
    let is_option = shown.starts_with('-');
    let text = if is_option { shown.split([' ', '=', '[']).next() } else { shown.split(['[', '<', ']', '>']).nth(1) };
    let text = text.unwrap_or(shown);
    if is_option { text.to_owned() } else { text.to_lowercase() }
}

/// Why a value is none for its option.
fn reason(error: &clap::Error, value: &str) -> String {
    let source = std::error::Error::source(error);
    let possible = error.get(ContextKind::ValidValue).map(ToString::to_string).filter(|_| source.is_none());
    let out_of_range =
        |error: &ParseIntError| matches!(error.kind(), IntErrorKind::PosOverflow | IntErrorKind::NegOverflow);
    match (possible, source, source.and_then(|source| source.downcast_ref())) {
        (Some(possible), ..) => format!("it is one of {possible}"),
        (.., Some(error)) if out_of_range(error) => format!("parsing \"{value}\": value out of range"),
        (_, Some(source), None) => source.to_string(),
        _ => format!("parsing \"{value}\": invalid syntax"),
    }
}
