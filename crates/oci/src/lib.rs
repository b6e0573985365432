//! Digests, descriptors, references, platforms and documents of OCI images, and id maps of user namespaces.
//!
//! Pure vocabulary: nothing here opens a file, a socket or a clock. Documents keep the fields they do not know, and
//! whoever stores or sends one uses the bytes as they were received, never a serialisation of these types.

mod config;
mod descriptor;
mod digest;
mod document;
mod error;
mod id_map;
mod media_type;
mod platform;
mod reference;
mod registry_sources;
mod timestamp;

pub use config::{ContainerConfig, Healthcheck, History, ImageConfig, RootFs};
pub use descriptor::{Descriptor, REF_NAME};
pub use digest::{Digest, Hasher, VerifyingReader};
pub use document::{Document, Index, MAX_DOCUMENT_BYTES, Manifest};
pub use error::{Error, Result};
pub use id_map::{IdMapping, IdMaps};
pub use media_type::{LayerCompression, MediaType};
pub use platform::Platform;
pub use reference::Reference;
pub use registry_sources::RegistrySources;
pub use timestamp::Timestamp;
