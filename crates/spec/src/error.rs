//! Why no configuration could be made.

use std::io;
use std::path::{Path, PathBuf};

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What is wrong with an option, an image or its files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option's value breaks a rule.
    #[error("option {option}: \"{value}\": {reason}")]
    Option {
        /// As typed: `--memory`.
        option: &'static str,
        /// As typed.
        value: String,
        /// The rule.
        reason: String,
    },
    /// A field of the image's configuration breaks a rule.
    #[error("the image's {field} \"{value}\": {reason}")]
    Image {
        /// `User`, `WorkingDir` …
        field: &'static str,
        /// As it is in the image.
        value: String,
        /// The rule.
        reason: String,
    },
    /// Neither the caller nor the image says what to run.
    #[error("no command: the image has neither Entrypoint nor Cmd, so name one after the image")]
    NoCommand,
    /// A user or group that the root file system does not know, or that is no such name.
    #[error("unknown {kind} error: \"{name}\": {reason}")]
    User {
        /// `user` or `group`.
        kind: &'static str,
        /// As asked for.
        name: String,
        /// Why not.
        reason: String,
    },
    /// The image's list of users or groups could not be read.
    #[error("unknown users: read \"{}\"", path.display())]
    Users {
        /// As it is named in the container.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file could not be read.
    #[error("read \"{}\"", path.display())]
    Read {
        /// The file; one of the image's is named as in the container.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is JSON of another kind.
    #[error("read \"{}\"", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        source: serde_json::Error,
    },
    /// A limit that nothing would enforce.
    #[error("option {option}: limits need control groups, {why}")]
    Limit {
        /// As typed: `--memory`.
        option: &'static str,
        /// Why there are none.
        why: &'static str,
    },
    /// `--init` without an init.
    #[error("no init for --init: install catatonit or tini, or name a static one with --init-path")]
    NoInit,
}

impl Error {
    pub(crate) fn option(option: &'static str, value: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Option { option, value: value.into(), reason: reason.into() }
    }

    pub(crate) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Read { path: path.to_owned(), source }
    }
}
