//! Mounts: what config.json asks for, and carrying it out by descriptors, no path opened twice.

pub(crate) mod bind_attributes;
pub(crate) mod carry_out;
mod cgroup;
mod classic;
mod copy_up;
mod filesystem;
pub(crate) mod idmap;
pub(crate) mod no_pivot;
pub(crate) mod option;
pub(crate) mod plan;
pub(crate) mod rootfs;
pub(crate) mod shared_mounts;
pub(crate) mod source;
pub(crate) mod tree;
