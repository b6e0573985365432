//! The store at work: unpacked layers, overlay mounts, id maps, differences, check and prune.
//!
//! It acts on one store and on the mounts of its containers; it runs no container, speaks to no registry, and starts
//! no program but newuidmap and newgidmap.

mod base;
mod boot;
mod cache;
mod changes;
mod check;
mod container;
mod directory;
pub mod doctor;
mod error;
pub mod holder;
pub mod ids;
mod image_mount;
mod images;
mod mapped;
mod mounts;
mod names;
pub mod namespace;
mod overlay;
mod prune;
mod reach;
mod reset;
mod shift;
mod unpack;
mod userns;

pub use cache::{Cache, LayerRecord};
pub use changes::{Changes, export};
pub use check::{Damage, check};
pub use container::{CreateOptions, create, is_mounted, mount, rename, rm, umount, why_copied, why_shifted};
pub use error::{Error, Result};
pub use hoy_layer::{ChangeKind, OverlayXattrs};
pub use image_mount::{MountedImage, mount_image, mounted_images, umount_image};
pub use images::{ImageSummary, Removed, history, list_images, remove_image, tag, untag};
pub use prune::{CountAndBytes, DiskUsage, PruneOptions, Pruned, disk_usage, prune};
pub use reset::reset;
pub use unpack::unpack_image;
pub use userns::IdOptions;
