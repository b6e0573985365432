//! Why a step of a build failed.

use std::io;
use std::path::{Path, PathBuf};

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, and with what.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store refused.
    #[error(transparent)]
    Layout(#[from] hoy_layout::Error),
    /// A layer could not be written or an archive not unpacked.
    #[error(transparent)]
    Layer(#[from] hoy_layer::Error),
    /// An image could not be looked through.
    #[error(transparent)]
    Contents(#[from] hoy_sbom::Error),
    /// Owners that were not written down.
    #[error(transparent)]
    Paper(#[from] hoy_paper::Error),
    /// No runtime configuration could be made.
    #[error(transparent)]
    Spec(#[from] hoy_spec::Error),
    /// A name, digest or platform that is none.
    #[error(transparent)]
    Vocabulary(#[from] hoy_oci::Error),
    /// The operating system refused.
    #[error("{doing} \"{}\"", path.display())]
    Io {
        /// A verb: `open`, `copy` …
        doing: &'static str,
        /// What it was done to; a path in a container is written as it is there.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another program could not be started.
    #[error("run \"{program}\": install it beside this program or in PATH")]
    NoProgram {
        /// Its name.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// Another program failed and said why.
    #[error("{}", if message.is_empty() { format!("{program} failed with exit code {code}") } else { message.clone() })]
    Program {
        /// Its name.
        program: String,
        /// What it said, without its name; empty where it has told the person itself.
        message: String,
        /// Its exit code.
        code: i32,
    },
    /// A container of the store that is no working container.
    #[error("container \"{0}\" was not made by hoy-build from")]
    NotWorking(String),
    /// An option whose value breaks a rule.
    #[error("option {option}: \"{value}\": {reason}")]
    Option {
        /// As typed: `--port`.
        option: &'static str,
        /// As typed.
        value: String,
        /// The rule.
        reason: String,
    },
    /// Nothing to copy under a name or pattern, and what a person should hear besides.
    #[error("no source matches \"{0}\"{1}: no such file or directory")]
    NoSource(String, String),
    /// A request that cannot be met, with the reason.
    #[error("{0}")]
    Refused(String),
    /// A word of a Containerfile that cannot be.
    #[error("{error}")]
    Language {
        /// Why.
        error: hoy_containerfile::Error,
        /// Where.
        span: hoy_containerfile::Span,
    },
    /// What is wrong with a Containerfile, or with carrying it out, with its line and a caret.
    #[error("{text}")]
    Located {
        /// The lines that a person reads.
        text: String,
        /// The exit code of the command that failed, where one did.
        code: Option<i32>,
    },
    /// A command of a Containerfile ended with another code than 0.
    #[error("exit status {0}")]
    Command(u8),
    /// The OCI runtime refused its own options, or came to no container for another reason that it told itself.
    #[error("the OCI runtime \"{runtime}\" refused (exit status {code}): no command was run; its own words are above")]
    NoContainer {
        /// As given.
        runtime: String,
        /// Its exit code.
        code: u8,
    },
    /// The build was ended from outside.
    #[error("interrupted")]
    Interrupted,
    /// Documents that could not be written as JSON.
    #[error("write {0}")]
    Json(&'static str, #[source] serde_json::Error),
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    hoy_sys::chain(Vec::new(), error)
}

impl Error {
    /// An owner that a container's user namespace has not.
    pub(crate) fn no_such_id(uid: u32, gid: u32) -> Self {
        Self::Refused(format!("{uid}:{gid} is not among the ids of the container's user namespace: see --userns"))
    }

    /// The container, image or source asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::Layout(error) => error.is_not_found(),
            Self::NoSource(..) => true,
            Self::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            _ => false,
        }
    }

    /// The exit code of the program that failed, where one did.
    pub fn program_code(&self) -> Option<i32> {
        match self {
            Self::Program { code, .. } => Some(*code),
            Self::Command(code) => Some((*code).into()),
            // As the runtimes that buildah knows end, whose code it passes on.
            Self::NoContainer { .. } => Some(1),
            Self::Located { code, .. } => *code,
            _ => None,
        }
    }

    pub(crate) fn io<E: Into<io::Error>>(doing: &'static str, path: impl AsRef<Path>) -> impl FnOnce(E) -> Self {
        move |source| Self::Io { doing, path: path.as_ref().to_owned(), source: source.into() }
    }

    pub(crate) fn option(option: &'static str, value: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Option { option, value: value.into(), reason: reason.into() }
    }
}
