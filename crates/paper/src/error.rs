//! Why nothing could be written down.

use std::io;
use std::path::{Path, PathBuf};

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, and with what.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The container's record.
    #[error(transparent)]
    Layout(#[from] hoy_layout::Error),
    /// The operating system refused.
    #[error("{doing} \"{}\"", path.display())]
    Io {
        /// A verb.
        doing: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Whoever was to listen is no more.
    #[error("the thread that writes owners down ended")]
    Gone,
}

impl Error {
    pub(crate) fn io<E: Into<io::Error>>(doing: &'static str, path: impl AsRef<Path>) -> impl FnOnce(E) -> Self {
        move |source| Self::Io { doing, path: path.as_ref().to_owned(), source: source.into() }
    }
}
