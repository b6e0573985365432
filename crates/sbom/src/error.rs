//! What can go wrong while a tree is read.

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why there is no inventory of a tree.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The tar is damaged, or ends too early.
    #[error("read a file tree")]
    Tree(#[from] hoy_layer::Error),
    /// The bytes of a file in it, or the place where they are kept while they are looked at.
    #[error("look at \"{path}\"")]
    File {
        /// The file.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
}
