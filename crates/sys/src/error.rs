//! What a failed system call says.

use rustix::io::Errno;

/// A system call that failed, printed as strace does: `openat2: ENOENT: no such file or directory`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{call}: {errno}")]
#[non_exhaustive]
pub struct Error {
    /// Name of the call, as in its manual page.
    pub call: &'static str,
    /// The errno it returned.
    pub errno: Errno,
}

/// The result of a system call.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The failure of `call` with `errno`.
    pub fn new(call: &'static str, errno: Errno) -> Self {
        Self { call, errno }
    }

    /// The failure of `call` with the calling thread's current errno.
    pub fn last(call: &'static str) -> Self {
        let raw = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
        Self::new(call, Errno::from_raw_os_error(raw))
    }
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        Self::new(std::io::Error::from(error.errno).kind(), error)
    }
}

/// Turns the return value of a raw system call into a result: -1 is the failure in errno.
pub fn check(call: &'static str, ret: libc::c_long) -> Result<libc::c_long> {
    if ret == -1 { Err(Error::last(call)) } else { Ok(ret) }
}
