//! What can be wrong with a word or a document of the vocabulary.

use crate::Digest;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a digest, a reference or a document was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not `sha256:` and 64 lowercase hexadecimal digits, nor `sha512:` and 128.
    #[error("digest {0:?} is not \"sha256:\" and 64 lowercase hexadecimal digits, nor \"sha512:\" and 128")]
    Digest(String),
    /// Not a reference of the form `[host[:port]/]name[:tag][@digest]`.
    #[error("{}: invalid reference format: {reason}", text.escape_debug())]
    Reference {
        /// The text as given.
        text: String,
        /// The rule it breaks.
        reason: &'static str,
    },
    /// Not `os/architecture[/variant]`.
    #[error("platform {0:?} is not os/architecture or os/architecture/variant")]
    Platform(String),
    /// A registry that whoever runs the build does not let it use.
    #[error("registry {host:?} denied by policy: {reason}")]
    Registry {
        /// `host[:port]`.
        host: String,
        /// Which list says so.
        reason: &'static str,
    },
    /// Not an RFC 3339 date and time.
    #[error("time {0:?} is not of the form 2006-01-02T15:04:05Z")]
    Timestamp(String),
    /// A document that is no valid JSON of its kind.
    #[error("read {kind}")]
    Json {
        /// "manifest", "index" or "image configuration".
        kind: &'static str,
        /// Where and why the JSON is wrong.
        source: serde_json::Error,
    },
    /// A document that can be read in two ways, or does not say what it is.
    #[error("document of type {media_type:?} is refused: {reason}")]
    Ambiguous {
        /// The media type it was announced with.
        media_type: String,
        /// What is contradictory.
        reason: &'static str,
    },
    /// A document longer than any real one.
    #[error("{kind} of {size} bytes is over the limit of {limit}")]
    TooLarge {
        /// What it should have been.
        kind: &'static str,
        /// Its length in bytes.
        size: u64,
        /// The most that is read.
        limit: u64,
    },
    /// A media type that names no image document.
    #[error("media type {0:?} is not an image manifest or index")]
    MediaType(String),
    /// Bytes that are not those the descriptor promised.
    #[error("content has digest {actual}, wanted {expected}")]
    DigestMismatch {
        /// The digest asked for.
        expected: Digest,
        /// The digest of the bytes that came.
        actual: Digest,
    },
    /// More or fewer bytes than the descriptor promised.
    #[error("content of {expected} has {actual} bytes, wanted {size}")]
    SizeMismatch {
        /// The digest asked for.
        expected: Digest,
        /// The size its descriptor states, in bytes.
        size: u64,
        /// The bytes that came (one more than `size` when the stream was cut off there).
        actual: u64,
    },
    /// A range of ids that no user namespace can have.
    #[error("id mapping \"{text}\": {reason}")]
    IdMapping {
        /// The range.
        text: String,
        /// The rule that it breaks.
        reason: String,
    },
}
