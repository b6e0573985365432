//! A client of OCI registries: the distribution protocol, its authentication, and where credentials are kept.
//!
//! It never writes a blob to disk, prints, or reads terminal, home or environment: callers say which files hold
//! credentials and certificates. Nothing a registry says is believed before its digest is checked.

mod ahead;
mod auth;
mod auth_file;
mod blob;
mod challenge;
mod error;
mod file;
mod http;
mod pinned;
mod referrers;
mod registries;
mod registry;
mod resolver;
mod retry;
mod service;
mod tls;
mod tunnel;
mod upload;
mod url;

pub use auth::Credentials;
pub use auth_file::{AuthFile, AuthFiles};
pub use blob::BlobReader;
pub use error::{Error, Failure, Result};
pub use file::RemoteFile;
pub use registries::{Mirrors, Place, Registries};
pub use registry::{Fetched, Options, Registry};
pub use retry::Retry;
pub use service::{Answer, Question};
pub use tls::Tls;
