//! What can go wrong with files of the store.

use std::io;
use std::path::{Path, PathBuf};

use hoy_oci::Digest;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why something on disk could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("{doing} \"{}\"", path.display())]
    Io {
        /// A verb: `open`, `create`, `rename` …
        doing: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory without an `oci-layout` file of version 1.
    #[error("\"{}\" is not an OCI image layout: its file oci-layout is missing or of another version", .0.display())]
    NotALayout(PathBuf),
    /// A file that should hold JSON of a known form does not.
    #[error("\"{}\" is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        source: serde_json::Error,
    },
    /// A file that marks a layout and says nothing else was damaged, and is as it was.
    #[error("\"{}\" was damaged, and has been written anew", .0.display())]
    Mended(PathBuf),
    /// No image of that name.
    #[error("{name}: image not known in \"{}\"", layout.display())]
    NoImage {
        /// The name asked for.
        name: String,
        /// The layout's directory.
        layout: PathBuf,
    },
    /// An image that cannot be changed.
    #[error("image \"{image}\" is in the additional store \"{}\", which is read-only", store.display())]
    ReadOnly {
        /// As it was asked for.
        image: String,
        /// The store that it is in.
        store: PathBuf,
    },
    /// An additional store that cannot be used.
    #[error("additional store \"{}\" is left out", path.display())]
    Additional {
        /// Where it is, or should be.
        path: PathBuf,
        /// Why.
        source: Box<Error>,
    },
    /// Several images, and nothing says which.
    #[error("\"{}\" holds {count} images: add the name of one", layout.display())]
    WhichImage {
        /// The layout's directory.
        layout: PathBuf,
        /// How many there are.
        count: usize,
    },
    /// A blob that a document refers to is not there.
    #[error("blob {digest} is missing from \"{}\"", layout.display())]
    NoBlob {
        /// The blob.
        digest: Digest,
        /// The layout's directory.
        layout: PathBuf,
    },
    /// A blob, document or name that is not what it must be.
    #[error("{doing}")]
    Content {
        /// What was being read, with its name.
        doing: String,
        /// The rule it breaks.
        source: hoy_oci::Error,
    },
    /// No container with that id, prefix or name.
    #[error("\"{0}\": container not known")]
    NoContainer(String),
    /// An id prefix that fits several.
    #[error("\"{0}\" is the beginning of several container ids")]
    WhichContainer(String),
    /// Another container has the name.
    #[error("the name \"{name}\" is already in use by container {id}")]
    NameInUse {
        /// The name.
        name: String,
        /// Who has it.
        id: String,
    },
    /// An image index has no member for a platform.
    #[error("\"{name}\" has no image for {platform}")]
    NoPlatform {
        /// The image.
        name: String,
        /// The platform asked for.
        platform: String,
    },
}

impl Error {
    /// The thing asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::NoImage { .. } | Self::NoBlob { .. } | Self::NoContainer(_) => true,
            Self::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            _ => false,
        }
    }

    /// A file is torn or gone, as opposed to a disk that does not give it.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            _ => false,
        }
    }

    /// There is no space left on the disk, or for this user.
    pub fn is_full_disk(&self) -> bool {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        matches!(self, Self::Io { source, .. } if full.contains(&source.kind()))
    }

    /// A closure for `map_err` on an operation with `path`.
    pub(crate) fn io<E: Into<io::Error>>(doing: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source: source.into() }
    }
}
