//! What can go wrong with a layer.

use std::io;
use std::path::PathBuf;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a layer could not be unpacked or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The stream of the archive failed, its decompression or the check of its digest included.
    #[error("read layer")]
    Read(#[source] io::Error),
    /// Writing the archive failed.
    #[error("write layer")]
    Write(#[source] io::Error),
    /// Bytes that are no valid tar archive.
    #[error("entry {entry:?} at byte {offset} of the tar: {reason}")]
    Malformed {
        /// The entry's name as far as it is known.
        entry: String,
        /// Where its header begins in the uncompressed stream.
        offset: u64,
        /// The rule it breaks.
        reason: &'static str,
    },
    /// A valid entry that would harm, such as one outside the root.
    #[error("entry {entry:?} is refused: {reason}")]
    Refused {
        /// The entry's name.
        entry: String,
        /// Why.
        reason: &'static str,
    },
    /// An entry that only makes sense on top of the layers below.
    #[error("entry {entry:?} needs the layers below: {reason}")]
    NeedsParents {
        /// The entry's name.
        entry: String,
        /// What is not in this layer.
        reason: &'static str,
    },
    /// The operating system refused.
    #[error("{doing} {path:?}")]
    Io {
        /// A verb: `create`, `write`, `open` …
        doing: &'static str,
        /// The entry, relative to the root.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// More than the caller allows.
    #[error("layer has more than {limit} {what}")]
    Limit {
        /// `bytes` or `entries`.
        what: &'static str,
        /// The most that was allowed.
        limit: u64,
    },
}

impl Error {
    /// Unpacking on top of the parent layers would work.
    pub fn needs_parents(&self) -> bool {
        matches!(self, Self::NeedsParents { .. })
    }

    /// A closure for `map_err` on an operation with the entry `path`.
    pub(crate) fn io<E: Into<io::Error>>(doing: &'static str, path: &[u8]) -> impl FnOnce(E) -> Self {
        move |source| Self::Io { doing, path: crate::entry::to_path(path), source: source.into() }
    }

    pub(crate) fn refused(entry: &[u8], reason: &'static str) -> Self {
        Self::Refused { entry: crate::entry::to_path(entry).display().to_string(), reason }
    }

    pub(crate) fn parents(entry: &[u8], reason: &'static str) -> Self {
        Self::NeedsParents { entry: crate::entry::to_path(entry).display().to_string(), reason }
    }
}
