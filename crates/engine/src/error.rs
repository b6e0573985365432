//! What can go wrong in the life of a container.

use std::io;
use std::path::{Path, PathBuf};

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a container could not be made, run, entered or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
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
    /// The store's files.
    #[error(transparent)]
    Layout(#[from] hoy_layout::Error),
    /// Owners that were not written down.
    #[error(transparent)]
    Paper(#[from] hoy_paper::Error),
    /// What was asked of the container cannot be had.
    #[error(transparent)]
    Spec(#[from] hoy_spec::Error),
    /// A system call.
    #[error(transparent)]
    System(#[from] hoy_sys::Error),
    /// A program could not be started.
    #[error("start \"{program}\"")]
    Start {
        /// Which.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// A program failed and said why.
    #[error("{message}")]
    Failed {
        /// Its message, without its name.
        message: String,
    },
    /// A program failed after it told a person why itself.
    #[error("{program} ended with exit code {code}")]
    Told {
        /// Which.
        program: String,
        /// Its exit code.
        code: i32,
    },
    /// A short name that could be anybody's.
    #[error("\"{0}\" does not say which registry it is at: write it in full, as docker.io/library/{0}")]
    ShortName(String),
    /// An image that is nowhere here.
    #[error("{name}: image not known: \"hoy pull {full}\" fetches it")]
    NoImage {
        /// As asked for.
        name: String,
        /// Under which name it may be had.
        full: String,
    },
    /// Something that is no reference to an image.
    #[error("read image name")]
    Name(#[source] hoy_oci::Error),
    /// Something that is no name of a container.
    #[error("\"{0}\" is no name of a container: letters, digits, '_', '.' and '-', the first a letter or digit")]
    ContainerName(String),
    /// A container of the same name.
    #[error("the name \"{0}\" is taken by another container: remove it first, or use --replace")]
    NameTaken(String),
    /// A running container cannot be removed just so.
    #[error("container \"{0}\" is running: stop it first, or use --force")]
    Running(String),
    /// Only running containers can be entered.
    #[error("container \"{0}\" is not running")]
    NotRunning(String),
    /// What is run in it asks a process that is no more.
    #[error(
        "the \"hoy run\" of container \"{0}\", which hears of owners, was killed: nothing more can be run in it; remove it, and run it again"
    )]
    Unheard(String),
    /// A list of descriptors that were not handed to this process.
    #[error("option --preserve-fds: descriptor {0} is not open")]
    NoDescriptor(u32),
}

impl Error {
    pub(crate) fn io<E: Into<io::Error>>(doing: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source: source.into() }
    }

    /// Whether it is about a container or image that does not exist.
    pub fn is_not_found(&self) -> bool {
        use hoy_layout::Error as Layout;
        matches!(self, Self::NoImage { .. } | Self::Layout(Layout::NoContainer(_) | Layout::NoImage { .. }))
    }

    /// Whether a person has been told already.
    pub fn is_told(&self) -> bool {
        matches!(self, Self::Told { .. })
    }
}
