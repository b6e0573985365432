//! What can go wrong with the store's work.

use std::io;
use std::path::{Path, PathBuf};

use hoy_oci::Digest;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the store could not do something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name that no record of another program may have.
    #[error("\"{0}\" is no name for a program's record: give a plain one that is not storage's own")]
    RecordName(String),
    /// The files of the store.
    #[error(transparent)]
    Layout(#[from] hoy_layout::Error),
    /// What should be an archive is none.
    #[error("read the archive")]
    Archive(#[source] hoy_layer::Error),
    /// An archive with neither of the lists of images that there are.
    #[error("\"{}\" is no archive of images: it has neither manifest.json nor index.json", .0.display())]
    NoImages(PathBuf),
    /// A layer could not be unpacked.
    #[error("unpack layer {layer}")]
    Layer {
        /// The digest of its blob.
        layer: Digest,
        /// Why.
        source: hoy_layer::Error,
    },
    /// A layer's bytes are not those that the image's configuration names.
    #[error("layer {layer} has diff ID {actual}, the image's configuration says {expected}")]
    WrongDiffId {
        /// The digest of its blob.
        layer: Digest,
        /// What the configuration says.
        expected: Digest,
        /// What it unpacked to.
        actual: Digest,
    },
    /// A layer of a media type that this version cannot unpack.
    #[error("layer {layer} is of type {media_type:?}, which is no layer this version can unpack")]
    UnknownLayer {
        /// The digest of its blob.
        layer: Digest,
        /// Its media type.
        media_type: String,
    },
    /// Manifest and configuration do not list the same layers.
    #[error("image {image} has {layers} layers and {diff_ids} diff IDs")]
    LayerCount {
        /// The digest of its manifest.
        image: Digest,
        /// Layers in the manifest.
        layers: usize,
        /// Diff IDs in the configuration.
        diff_ids: usize,
    },
    /// Comparing a container with its image.
    #[error("compare container {id} with its image")]
    Diff {
        /// The container.
        id: String,
        /// Why.
        source: hoy_layer::Error,
    },
    /// The operating system refused.
    #[error("{doing} \"{}\"", path.display())]
    Io {
        /// A verb: `mount`, `create` …
        doing: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A mounted root file system is in use.
    #[error("the root file system of {id} is in use at \"{}\"", path.display())]
    Busy {
        /// The container, or the image.
        id: String,
        /// Where it is mounted.
        path: PathBuf,
    },
    /// The container's root file system is mounted where only a process sees it.
    #[error("process {pid} still has the root file system of container {id}")]
    Held {
        /// The container.
        id: String,
        /// The process.
        pid: i32,
    },
    /// A container that need not survive a power cut.
    #[error(
        "container {0} was made with --volatile, and the machine has been started again since: its files may be torn"
    )]
    Torn(String),
    /// More layers than overlayfs stacks.
    #[error("mount {count} layers: an overlay takes 500")]
    Layers {
        /// How many there are.
        count: usize,
    },
    /// A file's owner is not among the ids of the container.
    #[error("\"{}\" belongs to {uid}:{gid}, which the container's ids do not have", path.display())]
    Owner {
        /// The file.
        path: PathBuf,
        /// Its user.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// An image that containers were made from.
    #[error("image {image} is in use by container {container}")]
    InUse {
        /// The image as asked for.
        image: String,
        /// The first such container.
        container: String,
    },
    /// An image that is mounted.
    #[error("image {image} is mounted at \"{}\"", path.display())]
    Mounted {
        /// The image as asked for.
        image: String,
        /// Where.
        path: PathBuf,
    },
    /// Ids for a user namespace could not be had.
    #[error("{what}: {remedy}")]
    Ids {
        /// What is missing, with file and range.
        what: String,
        /// What to do.
        remedy: String,
    },
    /// A text that cannot be a container's name.
    #[error("\"{0}\" is no name for a container: letters, digits, \"_\", \".\" and \"-\", the first a letter or digit")]
    Name(String),
    /// A directory that something else is in already.
    #[error("\"{}\" is not empty", .0.display())]
    NotEmpty(PathBuf),
    /// The process that keeps an ordinary user's mounts could not get ready.
    #[error("keep mounts: {0}")]
    Holder(String),
    /// User namespaces are not to be had.
    #[error("{call}")]
    Namespace {
        /// What was being done.
        call: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// The thing asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Layout(error) if error.is_not_found())
    }

    /// There is no space left on the disk, or for this user.
    pub fn is_full_disk(&self) -> bool {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        match self {
            Self::Layout(error) => error.is_full_disk(),
            Self::Io { source, .. } => full.contains(&source.kind()),
            _ => false,
        }
    }

    /// What a person can do about it, if that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Layout(hoy_layout::Error::Damaged { path, .. }) if path.ends_with("index.json") => {
                Some("\"hoy-storage check --repair\" brings the last good index back".to_owned())
            }
            Self::Io { doing: crate::overlay::MOUNT_OVERLAY, source, .. }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Some(
                    "this user namespace has neither its own mounts nor all ids of the container's files: \
                     run it outside, or in \"hoy-storage unshare\""
                        .to_owned(),
                )
            }
            Self::Held { .. } => Some("end it first".to_owned()),
            Self::Torn(_) => Some("remove the container and make it anew".to_owned()),
            Self::Owner { .. } => Some("ask for more ids, as --userns=auto:size=65536".to_owned()),
            Self::Busy { .. } => Some("end what uses it, or add --force".to_owned()),
            Self::Mounted { image, .. } => Some(format!("\"hoy-storage umount --image {image}\" unmounts it")),
            Self::InUse { .. } => {
                Some("remove the container first, or add --force to keep it without its image".to_owned())
            }
            _ => None,
        }
    }

    /// A closure for `map_err` on an operation with `path`.
    pub(crate) fn io<E: Into<io::Error>>(doing: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source: source.into() }
    }
}
