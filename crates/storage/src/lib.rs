//! The store at work: unpacked layers, overlay mounts, id maps, differences, check and prune.
//!
//! It acts on one store and on the mounts of its containers; it runs no container, speaks to no registry, and starts
//! no program but newuidmap and newgidmap.

mod archive;
mod base;
mod boot;
mod cache;
mod changes;
mod check;
mod compare;
mod container;
mod directory;
pub mod doctor;
mod error;
mod garbage;
pub mod holder;
pub mod ids;
mod image_mount;
mod images;
mod import;
mod mapped;
mod mounts;
mod names;
pub mod namespace;
mod overlay;
mod prune;
mod reach;
mod reset;
mod shift;
mod survey;
mod trash;
mod unpack;
mod usage;
mod userns;

pub use archive::{Archived, archived_images};
pub use cache::{Cache, LayerRecord};
pub use changes::{Changes, export};
pub use check::{CheckOptions, Damage, DamageKind, check};
pub use container::{CreateOptions, create, is_mounted, mount, rename, rm, umount, why_copied, why_shifted};
pub use error::{Error, Result};
pub use hoy_layer::{ChangeKind, OverlayXattrs};
pub use image_mount::{MountedImage, mount_image, mounted_images, umount_image};
pub use images::{ImageSummary, Removed, history, list_images, names_meant, remove_image, tag, untag};
pub use import::import;
pub use prune::{ImageFilter, PruneOptions, Pruned, prune};
pub use reset::reset;
pub use unpack::unpack_image;
pub use usage::{DiskUsage, ImageUsage, Usage, disk_usage};
pub use userns::IdOptions;
