//! What can go wrong with keys and encrypted layers.

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a key cannot be read, or a layer not be encrypted or decrypted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Something that is no key of a kind that is known.
    #[error("read a key: {0}")]
    Key(String),
    /// A private key that is locked, and no password was given.
    #[error("the private key is locked: give its password, as KEY:pass=PASSWORD, KEY:file=FILE or KEY:fd=NUMBER")]
    Locked,
    /// A private key, or the password that is to unlock it, is not the right one.
    #[error("the password of the private key is wrong, or the key is damaged")]
    Password,
    /// None of the keys opens what is wrapped.
    #[error("no suitable key unwrapper found or none of the private keys could be used for decryption")]
    NoKey,
    /// What is said about the encryption is not of its form.
    #[error("what is said about its encryption is damaged: {0}")]
    Form(String),
    /// Encrypted in a way that this crate does not know.
    #[error("it is encrypted in a way that is not known: {0}")]
    Unknown(String),
    /// The bytes are not those that were encrypted.
    #[error("its bytes are not those that were encrypted: {0}")]
    Damaged(&'static str),
    /// Something that needs randomness, and there is none, or a key that does not work.
    #[error("{0}")]
    Failed(&'static str),
}
