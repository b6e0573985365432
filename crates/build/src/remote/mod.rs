//! Sources that are no paths: files of web servers, and Git repositories.
//!
//! `hoy-copy` fetches the one, `git` the other; here it is decided what is asked of them.

mod fetch;
mod git;
mod url;

pub(crate) use fetch::{FILE_MODE, RemoteFile, file_name, inside};
pub use fetch::{Fetched, Fetcher};
pub(crate) use git::Checkout;
pub(crate) use url::GitSource;
pub use url::{Remote, without_credentials};
