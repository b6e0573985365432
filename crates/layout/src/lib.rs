//! What is on disk and its format: the OCI image layout, container directories, locks, temporaries.
//!
//! It knows where things are and keeps each write atomic; it never unpacks, mounts, fetches or runs anything, and it
//! reads no environment: programs say where their roots are.

mod additional;
mod atomic;
mod blob;
mod container;
mod error;
mod image_layout;
mod lock;
mod owned;
mod restore;
mod roots;
mod store;

pub use atomic::{TEMPORARY_PREFIX, make_directory, sync, write_file, write_volatile_file};
pub use blob::{BlobWriter, Written};
pub use container::{Container, ContainerDir, ContainerId};
pub use error::{Error, Result};
pub use image_layout::{Image, ImageLayout, NamedImage};
pub use lock::Lock;
pub use owned::OwnedInode;
pub use roots::Roots;
pub use store::Store;
