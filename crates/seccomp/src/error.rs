//! What is wrong with a profile.

/// A profile that cannot be compiled.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The profile asks for what no filter can do.
    #[error("{0}")]
    Invalid(String),
    /// The program is longer than the kernel takes, 4096 instructions.
    #[error("the filter has {0} instructions, and the kernel takes 4096")]
    TooLong(usize),
}

/// The result of compiling a profile.
pub type Result<T> = std::result::Result<T, Error>;
