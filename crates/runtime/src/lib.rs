//! The OCI runtime: makes the process that a bundle describes, and ends it.
//!
//! One process does it: the container's own is a copy of it that builds its root, gives up its rights and becomes the
//! program. This crate never reads the environment's opinion of where things are, and never keeps anything running.

mod affinity;
mod bind_attributes;
mod capability;
mod cgroup_mount;
mod channel;
mod checkpoint;
mod classic_mount;
pub mod config;
mod console;
mod cpu_list;
mod criu;
mod criu_wire;
mod device;
pub mod document;
mod error;
mod events;
mod exec;
mod features;
mod filter;
mod filter_cache;
mod foreground;
#[cfg(test)]
mod fuzz;
mod group;
mod hooks;
mod identity;
mod init;
mod label;
mod launch;
mod lifecycle;
mod memory_policy;
mod mount_plan;
mod namespace;
mod net_device;
mod netlink;
mod no_pivot;
mod notify;
mod personality;
mod procfs;
mod program;
mod resctrl;
mod restore;
mod rootfs;
mod saved;
mod scheduling;
mod seal;
mod shared_mounts;
pub mod state;
mod sysctl;
mod tree;
mod update;
mod userns;
mod validate;

pub use checkpoint::{CgroupMode, CheckpointOptions, Images, checkpoint};
pub use error::{Error, Result};
pub use events::{Event, stats, watch};
pub use exec::{ExecOptions, exec, parse_user};
pub use features::features;
pub use group::CgroupManager;
pub use launch::{CreateOptions, create};
pub use lifecycle::{delete, kill, pause, processes, run, start};
pub use restore::{RestoreOptions, restore};
pub use seal::seal;
pub use update::update;
