//! The one error type of programs: a chain of causes, an exit code, a remedy.

use std::error::Error as StdError;
use std::fmt;
use std::io::Write;
use std::sync::Once;

use hoy_sys::chain;

/// A result of a program's command.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a command failed: what was being done, each cause once, the exit code, what to do.
///
/// Any library error turns into one by `?`. Like `anyhow::Error` it is not itself a [`std::error::Error`].
pub struct Error {
    doing: Vec<String>,
    cause: Box<dyn StdError + Send + Sync>,
    code: Option<u8>,
    hint: Option<String>,
}

impl Error {
    /// A failure that `message` explains in full.
    pub fn msg(message: impl Into<String>) -> Self {
        Self { doing: Vec::new(), cause: message.into().into(), code: None, hint: None }
    }

    /// The same failure, ending the program with `code`.
    #[must_use]
    pub fn with_code(mut self, code: u8) -> Self {
        self.code = Some(code);
        self
    }

    /// The same failure, with a remedy printed after it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The exit code it was given, if any; a program's default is 1.
    pub fn code(&self) -> Option<u8> {
        self.code
    }

    /// The library's error at the bottom of what was being done.
    pub fn cause(&self) -> &(dyn StdError + 'static) {
        &*self.cause
    }

    /// Whether an error of type `E` that `test` accepts is among the causes.
    pub fn is<E: StdError + 'static>(&self, test: impl Fn(&E) -> bool) -> bool {
        let mut next = Some(self.cause());
        while let Some(error) = next {
            // An io::Error does not name the error it wraps as its source, but that one's.
            let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
            let wrapped = wrapped.and_then(|inner| inner.downcast_ref::<E>());
            if error.downcast_ref::<E>().or(wrapped).is_some_and(&test) {
                return true;
            }
            next = error.source();
        }
        false
    }
}

impl<E: StdError + Send + Sync + 'static> From<E> for Error {
    fn from(cause: E) -> Self {
        Self { doing: Vec::new(), cause: Box::new(cause), code: None, hint: None }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&chain(self.doing.iter().rev().cloned().collect(), self.cause()))?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "\nhint: {hint}"))
    }
}

/// Warns, for the program `name`, of damage to the store that it goes on in spite of: all causes, and what looks further.
pub fn warn_of_damage(name: &str, error: &(dyn StdError + 'static)) {
    let causes = chain(Vec::new(), error);
    // Standard error may be closed, and then there is nobody to tell.
    writeln!(std::io::stderr(), "{name}: warning: {causes}; see \"hoy-storage check\"").unwrap_or_default();
}

/// The same, of the first damage only: each reading of a file finds it again.
pub fn warn_of_damage_once(name: &str, error: &(dyn StdError + 'static)) {
    static TOLD: Once = Once::new();
    TOLD.call_once(|| warn_of_damage(name, error));
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Says what was being done when something failed.
pub trait Context<T> {
    /// Puts `doing` before the causes: verb and object, lower case, the subject in quotes.
    ///
    /// # Errors
    /// The failure it was called on.
    fn context<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T>;

    /// Gives the failure an exit code unless it has one.
    ///
    /// # Errors
    /// The failure it was called on.
    fn code(self, code: u8) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for std::result::Result<T, E> {
    fn context<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| {
            let mut error = error.into();
            error.doing.push(doing().into());
            error
        })
    }

    fn code(self, code: u8) -> Result<T> {
        self.map_err(|error| {
            let mut error = error.into();
            error.code.get_or_insert(code);
            error
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_once() {
        let missing = || Err::<(), _>(std::io::Error::from_raw_os_error(2));
        let error = missing().context(|| "read \"x\"").context(|| "open store").unwrap_err();
        assert_eq!(error.to_string(), "open store: read \"x\": no such file or directory");
        let wrapped = std::io::Error::other(std::io::Error::other("cause"));
        assert_eq!(Error::from(wrapped).to_string(), "cause");
        let wrapped = std::io::Error::other(crate::output::Closed);
        assert!(Error::from(wrapped).is(|_: &crate::output::Closed| true));
        assert_eq!(missing().code(125).code(1).unwrap_err().code(), Some(125));
    }
}
