//! Where images come from and go to: registries, layouts, archives, directories and the store, behind two traits.
//!
//! It moves bytes and keeps them as they are unless a conversion is asked for; it never unpacks a layer, and nothing it
//! delivers has not been checked against its digest.

mod convert;
mod copy;
mod docker;
mod endpoint;
mod error;
mod layout;
mod name;
mod observer;
mod work;

pub use convert::Format;
pub use copy::{Copied, CopyOptions, MultiArch, copy, select};
pub use docker::{DockerDestination, DockerSource};
pub use endpoint::{Destination, Document, Repository, Source};
pub use error::{Error, Result};
pub use layout::{LayoutDestination, LayoutSource, StoreDestination};
pub use name::ImageName;
pub use observer::{NoObserver, Observer, Outcome};
