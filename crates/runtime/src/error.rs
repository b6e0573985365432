//! Why a container could not be made, found or changed.

use std::io;

/// A failure of the runtime.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call or file operation failed.
    #[error("{doing}")]
    System {
        /// What was being done, to what.
        doing: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A document is not what it should be.
    #[error("read {what}")]
    Json {
        /// Which document.
        what: String,
        /// Where it is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// The configuration, or an argument, asks for what cannot be.
    #[error("{0}")]
    Invalid(String),
    /// No container has this id.
    #[error("container \"{0}\" does not exist")]
    NotFound(String),
    /// A container has this id already.
    #[error("container \"{0}\" already exists: choose another id, or \"delete\" it")]
    Exists(String),
    /// The container is not in a state that allows this.
    #[error("{doing} container \"{id}\": {reason}")]
    State {
        /// What was asked for.
        doing: &'static str,
        /// The container.
        id: String,
        /// Why it cannot be.
        reason: String,
    },
    /// The container's own process failed before its program began.
    #[error("{0}")]
    Init(String),
    /// The kernel would not execute the container's program: the whole line that a shell would say, as runc does.
    #[error("{0}")]
    NotExecuted(String),
    /// A control group could not be made or changed.
    #[error(transparent)]
    Cgroup(#[from] hoy_cgroup::Error),
    /// The seccomp profile is wrong.
    #[error("compile seccomp profile")]
    Seccomp(#[from] hoy_seccomp::Error),
}

/// The result of a runtime operation.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Whether no container of that id was there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound(_))
    }

    /// Whether the container was made, and its program could not be executed.
    pub fn is_not_executed(&self) -> bool {
        matches!(self, Self::NotExecuted(_))
    }

    /// The errno at the bottom, when a system call failed.
    pub fn errno(&self) -> Option<hoy_sys::rustix::io::Errno> {
        let Self::System { source, .. } = self else { return None };
        let inner = source.get_ref().and_then(|inner| inner.downcast_ref::<hoy_sys::Error>());
        inner.map(|e| e.errno).or_else(|| hoy_sys::rustix::io::Errno::from_io_error(source))
    }

    /// The whole chain of causes in one line, each once.
    pub fn chain(&self) -> String {
        hoy_sys::chain(Vec::new(), self)
    }
}

/// Says what was being done when a system call failed.
pub(crate) trait Doing<T> {
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| Error::System { doing: doing().into(), source: error.into() })
    }
}
