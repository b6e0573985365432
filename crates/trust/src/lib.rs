//! Which images are trusted: containers-policy.json(5), simple signatures by GnuPG's programs, sigstore's by keys and certificates.
//!
//! It never fetches anything, and whatever it cannot read, check or understand is not trusted.

mod certificate;
mod der;
mod error;
mod fulcio;
mod identity;
mod payload;
mod pki;
mod places;
mod policy;
mod rekor;
mod sigstore;
mod sigstore_signed;
mod simple;

pub use error::{Error, Result};
pub use fulcio::{Fulcio, Issued};
pub use identity::SignedIdentity;
pub use payload::{Claim, Kind, payload};
pub use places::{Places, Signatures as SignaturePlaces};
pub use policy::{Evidence, Policy, Requirement, Subject};
pub use sigstore::{Attached, PrivateKey, PublicKey, generate_key};
pub use sigstore_signed::SigstoreSigned;
pub use simple::{
    check as check_simple, export as export_simple_key, sign as sign_simple, sign_with as sign_simple_with,
};
