//! What can go wrong on the way of an image.

use std::io;
use std::path::{Path, PathBuf};

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an image could not be read, written or converted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A text that names no image.
    #[error("image name \"{text}\": {reason}")]
    Name {
        /// The text as given.
        text: String,
        /// The rule it breaks.
        reason: String,
    },
    /// A registry.
    #[error(transparent)]
    Registry(#[from] hoy_registry::Error),
    /// A layout or the store.
    #[error(transparent)]
    Layout(#[from] hoy_layout::Error),
    /// A document or blob that is not what it must be.
    #[error("{doing}")]
    Content {
        /// What was being read, with its name.
        doing: String,
        /// The rule it breaks.
        source: hoy_oci::Error,
    },
    /// Moving a blob.
    #[error("copy blob {digest} from {from}")]
    Blob {
        /// The blob.
        digest: hoy_oci::Digest,
        /// The image it belongs to.
        from: String,
        /// Why.
        source: Box<Error>,
    },
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
    /// Reading content that was on its way.
    #[error("read content")]
    Read(#[source] io::Error),
    /// An image index has no member for a platform.
    #[error(
        "parsing manifest for image: choosing image instance: no image found in manifest list for {platform}: {name} has {available}"
    )]
    NoPlatform {
        /// The image.
        name: String,
        /// The platform asked for.
        platform: String,
        /// Those it has.
        available: String,
    },
    /// An archive that is not of its kind.
    #[error("\"{}\" is no usable archive: {reason}", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An image that cannot be written in the form asked for.
    #[error("convert {name}: {reason}")]
    Convert {
        /// The image.
        name: String,
        /// What stands against it.
        reason: String,
    },
    /// A layer that cannot be read as a tar.
    #[error("read a layer of {name}")]
    Layer {
        /// The image.
        name: String,
        /// What is wrong with it.
        source: hoy_layer::Error,
    },
    /// An encrypted layer that cannot be decrypted.
    #[error("decrypting layer {digest} of {name}")]
    Crypt {
        /// The layer.
        digest: hoy_oci::Digest,
        /// The image.
        name: String,
        /// Why.
        source: hoy_crypt::Error,
    },
    /// Encrypting a layer.
    #[error("encrypt a layer")]
    Encrypt(#[source] hoy_crypt::Error),
    /// A daemon that speaks Docker's API.
    #[error("use the daemon at \"{host}\": {reason}")]
    Daemon {
        /// Its address.
        host: String,
        /// What went wrong.
        reason: String,
    },
    /// Another thread failed first.
    #[error("stopped")]
    Stopped,
}

impl Error {
    /// The thing asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::Registry(error) => error.is_not_found(),
            Self::Layout(error) => error.is_not_found(),
            Self::Blob { source, .. } => source.is_not_found(),
            Self::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            _ => false,
        }
    }

    /// The same request may succeed a little later.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Registry(error) => error.is_temporary(),
            Self::Blob { source, .. } => source.is_temporary(),
            _ => false,
        }
    }

    /// Content came that is not what its digest and size say.
    pub(crate) fn is_wrong_content(&self) -> bool {
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = next {
            if matches!(
                error.downcast_ref(),
                Some(hoy_oci::Error::DigestMismatch { .. } | hoy_oci::Error::SizeMismatch { .. })
            ) {
                return true;
            }
            // An error of io carries another one inside, which is not its source.
            let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            next = inner.map(|inner| inner as &(dyn std::error::Error + 'static)).or_else(|| error.source());
        }
        false
    }

    /// A closure for `map_err` on an operation with `path`.
    pub(crate) fn io<E: Into<io::Error>>(doing: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source: source.into() }
    }

    /// A closure for `map_err` on reading `what`.
    pub(crate) fn content(what: impl std::fmt::Display) -> impl FnOnce(hoy_oci::Error) -> Self {
        move |source| Self::Content { doing: format!("read {what}"), source }
    }
}
