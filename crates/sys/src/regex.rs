//! Extended regular expressions as the C library has them: regcomp(3), regexec(3).

use std::ffi::CStr;
use std::mem::MaybeUninit;

use rustix::io::Errno;

use crate::{Error, Result};

/// A compiled expression.
pub struct Regex(libc::regex_t);

impl Regex {
    /// Compiles an extended expression (regex(7)).
    ///
    /// # Errors
    /// `EINVAL` for what is no expression.
    pub fn new(pattern: &CStr) -> Result<Self> {
        let mut compiled = MaybeUninit::uninit();
        // SAFETY: regcomp writes the structure it is given and reads a text that ends with a NUL byte.
        let ret =
            unsafe { libc::regcomp(compiled.as_mut_ptr(), pattern.as_ptr(), libc::REG_EXTENDED | libc::REG_NOSUB) };
        if ret != 0 {
            return Err(Error::new("regcomp", Errno::INVAL));
        }
        // SAFETY: regcomp returned 0, so it wrote the whole structure.
        Ok(Self(unsafe { compiled.assume_init() }))
    }

    /// Whether it is found anywhere in `text`.
    pub fn is_match(&self, text: &CStr) -> bool {
        // SAFETY: the structure was compiled; with no room for matches none is written.
        unsafe { libc::regexec(&raw const self.0, text.as_ptr(), 0, std::ptr::null_mut(), 0) == 0 }
    }
}

impl Drop for Regex {
    fn drop(&mut self) {
        // SAFETY: the structure was compiled and is freed once.
        unsafe { libc::regfree(&raw mut self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_and_refuses() {
        let regex = Regex::new(c"^a(b|c)+$").unwrap();
        assert!(regex.is_match(c"abcb"));
        assert!(!regex.is_match(c"a"));
        assert!(Regex::new(c"(").is_err());
    }
}
