//! Where images come from and go to: registries, layouts, archives, directories and the store, behind two traits.
//!
//! It moves bytes and keeps them as they are unless a conversion is asked for; it never unpacks a layer, and nothing it
//! delivers has not been checked against its digest.

mod archive;
mod archive_writer;
mod change;
mod chunked;
mod chunked_toc;
mod convert;
mod copy;
mod daemon;
mod dir;
mod docker;
mod docker_archive;
mod edited;
mod endpoint;
mod error;
mod flat;
mod hashed;
mod layout;
mod name;
mod observer;
mod oci_archive;
mod recompress;
mod referrers;
mod tarball;
mod work;

pub use change::Encryption;
pub use convert::Format;
pub use copy::{Copied, CopyOptions, LayerPolicy, MultiArch, attach, copy, select, select_from};
pub use daemon::{DaemonDestination, DaemonHost};
pub use dir::{DirDestination, DirSource};
pub use docker::{DockerDestination, DockerSource};
pub use docker_archive::{DockerArchiveDestination, DockerArchiveSource, docker_archive_names};
pub use edited::{Draft, Edited, NewLayer, diff_id, read_small};
pub use endpoint::{Destination, Document, Incoming, Repository, Source};
pub use error::{Error, Result};
pub use flat::flatten;
pub use layout::{LayoutDestination, LayoutSource, StoreDestination};
pub use name::{ImageName, Pick, SshHost, TRANSPORTS};
pub use observer::{NoObserver, Observer, Outcome};
pub use oci_archive::{OciArchiveDestination, OciArchiveSource, oci_archive_names};
pub use tarball::TarballSource;
