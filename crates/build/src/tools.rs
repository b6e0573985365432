//! The other programs, as children.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use hoy_layout::Roots;

use crate::{Error, Result};

/// Where the other programs are and which store they work on.
#[derive(Debug, Clone)]
pub struct Tools {
    beside: Option<PathBuf>,
    roots: Roots,
    copy_options: Vec<OsString>,
    is_telling: bool,
}

impl Tools {
    /// Programs are looked for in the directory `beside`, then in PATH.
    pub fn new(beside: Option<PathBuf>, roots: Roots) -> Self {
        Self { beside, roots, copy_options: Vec::new(), is_telling: false }
    }

    /// Every `hoy-copy` is told these options, which are of the kind that all its commands have.
    #[must_use]
    pub fn with_copy_options(mut self, options: Vec<OsString>) -> Self {
        self.copy_options = options;
        self
    }

    /// Each child is told on standard error before it is run.
    #[must_use]
    pub fn telling(mut self) -> Self {
        self.is_telling = true;
        self
    }

    /// A child that works on the same store.
    pub fn command(&self, program: &str) -> Command {
        let beside = self.beside.as_ref().map(|dir| dir.join(program)).filter(|path| path.exists());
        let mut command = Command::new(beside.unwrap_or_else(|| PathBuf::from(program)));
        command.envs(self.roots.environment());
        if program == "hoy-copy" {
            command.args(&self.copy_options);
        }
        command
    }

    /// Says what only somebody wants to know who looks for a cause, where that was asked for.
    pub fn debug(&self, text: &str) {
        if self.is_telling {
            Self::say(&format!("level=debug msg={text:?}"));
        }
    }

    /// Says what is run, where that was asked for, and nobody's password.
    fn tell(&self, command: &Command) {
        let shown = |arg: &OsStr| match arg.to_string_lossy().split_once("creds=") {
            Some((option, _)) => format!("{option}creds=***"),
            None => arg.to_string_lossy().into_owned(),
        };
        let words: Vec<String> = std::iter::once(command.get_program()).chain(command.get_args()).map(shown).collect();
        self.debug(&format!("run {}", words.join(" ")));
    }

    /// Tells the person something while it is done.
    pub(crate) fn say(text: &str) {
        // Standard error may be closed, and then there is nobody to tell.
        writeln!(std::io::stderr(), "{text}").unwrap_or_default();
    }

    /// What `hoy-storage` answers, without the newline at its end.
    ///
    /// # Errors
    /// [`Error::NoProgram`]; [`Error::Program`] with its words.
    pub fn storage<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<String> {
        let mut command = self.command("hoy-storage");
        command.args(args).stdin(Stdio::null());
        self.tell(&command);
        let output = command.output().map_err(no_program("hoy-storage"))?;
        answer("hoy-storage", output)
    }

    /// What `hoy-copy` answers; its progress goes to this process's standard error.
    ///
    /// # Errors
    /// As [`Tools::storage`]; on a terminal it says itself what is wrong.
    pub fn copy<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<String> {
        self.copy_from(args, Stdio::inherit())
    }

    /// The same of a `hoy-copy` that is told `text`, which is short, on standard input.
    pub(crate) fn copy_told<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>, text: &str) -> Result<String> {
        let (reader, mut writer) = std::io::pipe().map_err(Error::io("create", "pipe"))?;
        writeln!(writer, "{text}").map_err(Error::io("write", "pipe"))?;
        drop(writer);
        self.copy_from(args, Stdio::from(reader))
    }

    fn copy_from<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>, stdin: Stdio) -> Result<String> {
        let mut command = self.command("hoy-copy");
        command.args(args).stdin(stdin).stdout(Stdio::piped());
        self.tell(&command);
        let is_terminal = std::io::stderr().is_terminal();
        command.stderr(if is_terminal { Stdio::inherit() } else { Stdio::piped() });
        let mut child = command.spawn().map_err(no_program("hoy-copy"))?;
        let failure = child.stderr.take().map(|stderr| forward(stderr, "hoy-copy: "));
        let mut output = child.wait_with_output().map_err(Error::io("wait for", "hoy-copy"))?;
        output.stderr = failure.unwrap_or_default().into_bytes();
        answer("hoy-copy", output)
    }

    /// Starts `hoy-storage` with its answer in a pipe.
    pub(crate) fn storage_stream<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<Child> {
        let mut command = self.command("hoy-storage");
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.tell(&command);
        command.spawn().map_err(no_program("hoy-storage"))
    }

    /// Mounts a container's root and says where.
    ///
    /// # Errors
    /// As [`Tools::storage`].
    pub fn mount(&self, id: &str) -> Result<PathBuf> {
        self.storage(["mount", id]).map(PathBuf::from)
    }
}

/// Passes a child's lines on up to the one that begins as its failures do; that and the rest are returned.
fn forward(stderr: impl Read, failure: &str) -> String {
    let mut kept = String::new();
    let mut own = std::io::stderr();
    for line in BufReader::new(stderr).split(b'\n').map_while(std::io::Result::ok) {
        let line = String::from_utf8_lossy(&line);
        if kept.is_empty() && !line.starts_with(failure) {
            // Nobody is left to tell when standard error is closed.
            writeln!(own, "{line}").unwrap_or_default();
        } else {
            kept.push_str(&line);
            kept.push('\n');
        }
    }
    kept
}

pub(crate) fn no_program(program: &str) -> impl FnOnce(std::io::Error) -> Error + use<> {
    let program = program.to_owned();
    move |source| Error::NoProgram { program, source }
}

/// Turns the end of a child into its answer, or into an error with what it said.
pub(crate) fn answer(program: &str, output: Output) -> Result<String> {
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        // Warnings; nobody is left to tell when standard error is closed.
        std::io::stderr().write_all(said.as_bytes()).unwrap_or_default();
        return Ok(String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned());
    }
    let said = said.trim();
    let message = said.strip_prefix(program).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(said);
    let (message, code) = match output.status.code() {
        None if message.is_empty() => (format!("{program} failed: {}", output.status), 125),
        code => (message.to_owned(), code.unwrap_or(125)),
    };
    Err(Error::Program { program: program.to_owned(), message, code })
}
