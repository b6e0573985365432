//! Encrypted image layers, as ocicrypt makes them: AES-256-CTR with an HMAC, the key wrapped for each recipient by a JWE.
//!
//! It never reads a file and never writes one: keys and layers are given to it as bytes.

mod curve;
mod error;
mod jwe;
mod keys;
mod layer;
mod pem;

pub use error::{Error, Result};
pub use keys::{PrivateKey, PublicKey};
pub use layer::{Decrypting, Encrypting, LayerKey, encrypted_type, forget, plain_type};
