//! What a failed system call says.

use std::fmt::Display;

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

/// What an error says, with the system's words as tools of this field have them: they begin in lower case, and have no
/// number, which says nothing that they do not.
pub fn words(error: &(impl Display + ?Sized)) -> String {
    let text = error.to_string();
    let Some((text, _)) = text.split_once(" (os error ") else { return text };
    let (before, own) = text.split_at(text.rfind(": ").map_or(0, |colon| colon + 2));
    let mut letters = own.chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if second.is_lowercase() => {
            format!("{before}{}{}", first.to_lowercase(), letters.as_str())
        }
        _ => text.to_owned(),
    }
}

/// What was being done, then an error and its causes, each once, in one line.
pub fn chain(mut doing: Vec<String>, error: &dyn std::error::Error) -> String {
    let mut next = Some(error);
    while let Some(error) = next {
        let text = words(error);
        // An io::Error shows the error it wraps as its own text.
        if doing.last() != Some(&text) {
            doing.push(text);
        }
        next = error.source();
    }
    doing.join(": ")
}

/// Turns the return value of a raw system call into a result: -1 is the failure in errno.
pub fn check(call: &'static str, ret: libc::c_long) -> Result<libc::c_long> {
    if ret == -1 { Err(Error::last(call)) } else { Ok(ret) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_words() {
        for (text, want) in [
            ("No such file or directory (os error 2)", "no such file or directory"),
            ("openat2: Too many levels of symbolic links (os error 40)", "openat2: too many levels of symbolic links"),
            ("Ist: RFS specific error (os error 78)", "Ist: RFS specific error"),
            ("No number", "No number"),
        ] {
            assert_eq!(words(text), want);
        }
        let wrapped = std::io::Error::other(Error::new("openat2", Errno::NOENT));
        assert_eq!(chain(vec!["a".to_owned()], &wrapped), "a: openat2: no such file or directory");
    }
}
