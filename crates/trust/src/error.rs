//! Why something is not trusted.

use std::io;
use std::path::{Path, PathBuf};

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why something is not trusted, or a signature cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What the policy, a key or a signature says stands against it.
    #[error("{0}")]
    Refused(String),
    /// The policy has a rule against such images.
    #[error("it rejects such images")]
    Rejected,
    /// A file of keys or of the policy.
    #[error("{doing} \"{}\"", path.display())]
    File {
        /// A verb.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A document that is not of its form.
    #[error("{what}: {reason}")]
    Form {
        /// What was read.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// One of GnuPG's programs.
    #[error("run \"{program}\", which checks and makes simple signatures")]
    Program {
        /// Its name.
        program: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn refused(reason: impl Into<String>) -> Self {
        Self::Refused(reason.into())
    }

    pub(crate) fn form(what: impl Into<String>, reason: impl ToString) -> Self {
        Self::Form { what: what.into(), reason: reason.to_string() }
    }

    pub(crate) fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { doing, path: path.to_owned(), source }
    }
}
