//! Other programs: found beside this one, then in PATH.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use hoy_layout::Roots;

use crate::{Error, Result};

/// How other programs are found and told where the store is.
#[derive(Debug, Clone)]
pub struct Programs {
    beside: Option<PathBuf>,
    roots: Roots,
}

impl Programs {
    /// Programs that work on the store at `roots`.
    pub fn new(roots: Roots) -> Self {
        let own = std::env::current_exe().ok();
        Self { beside: own.and_then(|path| path.parent().map(Path::to_owned)), roots }
    }

    /// Where the store is.
    pub fn roots(&self) -> &Roots {
        &self.roots
    }

    /// The executable file of that name: beside this program, then in PATH. A name with a slash is a path.
    pub fn find(&self, name: &OsStr) -> Option<PathBuf> {
        let is_program = |path: &PathBuf| {
            path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        };
        if name.as_encoded_bytes().contains(&b'/') {
            return Some(PathBuf::from(name)).filter(is_program);
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let in_path: Vec<PathBuf> = std::env::split_paths(&path).filter(|dir| dir.is_absolute()).collect();
        self.beside.iter().chain(&in_path).map(|dir| dir.join(name)).find(is_program)
    }

    /// A command of that program, which learns where the store is from its environment.
    ///
    /// # Errors
    /// [`Error::Start`] when there is no such program.
    pub fn command(&self, name: &str) -> Result<Command> {
        let missing = || Error::Start {
            program: name.to_owned(),
            source: std::io::Error::new(std::io::ErrorKind::NotFound, "it is neither beside hoy nor in PATH"),
        };
        let mut command = Command::new(self.find(name.as_ref()).ok_or_else(missing)?);
        command.envs(self.roots.environment());
        Ok(command)
    }

    /// What the program prints, without the newline at its end. What it says on failure becomes the error.
    ///
    /// # Errors
    /// [`Error::Start`], [`Error::Failed`].
    pub fn output(&self, name: &str, args: &[&str]) -> Result<String> {
        let mut command = self.command(name)?;
        let output = command.args(args).stdin(Stdio::null()).output().map_err(start(name))?;
        if !output.status.success() {
            return Err(Error::Failed { message: complaint(name, &output) });
        }
        // Warnings; when standard error is closed nobody is left to tell.
        std::io::stderr().write_all(&output.stderr).unwrap_or_default();
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// What the program prints; what it says, progress and failure, goes to the person.
    ///
    /// # Errors
    /// [`Error::Start`], [`Error::Told`].
    pub fn output_seen(&self, name: &str, args: &[String]) -> Result<String> {
        let mut command = self.command(name)?;
        let output =
            command.args(args).stdin(Stdio::inherit()).stderr(Stdio::inherit()).output().map_err(start(name))?;
        match output.status.code() {
            Some(0) => Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned()),
            code => Err(Error::Told { program: name.to_owned(), code: code.unwrap_or(125) }),
        }
    }
}

pub(crate) fn start(program: &str) -> impl FnOnce(std::io::Error) -> Error {
    let program = program.to_owned();
    move |source| Error::Start { program, source }
}

/// What a failed program said, without its own name at the beginning.
fn complaint(name: &str, output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let text = text.trim();
    let text = text.strip_prefix(name).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(text);
    if text.is_empty() { format!("{name} ended with {}", output.status) } else { text.to_owned() }
}
