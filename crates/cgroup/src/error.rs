//! Why a control group could not be made or changed.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A failure with a control group.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or directory of the hierarchy could not be read, made, written or removed.
    #[error("{verb} \"{path}\"")]
    File {
        /// What was being done.
        verb: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A limit was asked for that this machine, or this user, cannot set.
    #[error("set {controller} limit: {reason}")]
    Unavailable {
        /// The controller.
        controller: String,
        /// Why.
        reason: String,
    },
    /// A group that was to be new is there already.
    #[error("control group \"{0}\" exists")]
    Exists(PathBuf),
    /// systemd could not be asked, or did not do it.
    #[error("ask systemd: {doing}: {reason}")]
    Systemd {
        /// What was asked.
        doing: String,
        /// Why it was not done.
        reason: String,
    },
    /// systemd, or the bus, answered with an error.
    #[error("ask systemd: {doing}: {reason}")]
    Bus {
        /// What was asked: the method.
        doing: String,
        /// The error's name.
        name: String,
        /// What it says.
        reason: String,
    },
    /// A name in the configuration would lead out of the group.
    #[error("\"{0}\" is not in the control group")]
    Name(String),
    /// A process was to go where the container has no group; in runc's words, which people search for.
    #[error("{0}")]
    Below(String),
}

/// The result of an operation on control groups.
pub type Result<T> = std::result::Result<T, Error>;

/// Says what was being done to which file.
pub(crate) trait At<T> {
    fn at(self, verb: &'static str, path: &Path) -> Result<T>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, verb: &'static str, path: &Path) -> Result<T> {
        self.map_err(|source| Error::File { verb, path: path.to_owned(), source })
    }
}

/// Writes `value` to a file of a group, in one go. One that is not there is not made: the kernel would refuse that, and
/// hide that it is not there.
pub(crate) fn put(path: &Path, value: &str) -> io::Result<()> {
    File::options().write(true).open(path)?.write_all(value.as_bytes())
}
