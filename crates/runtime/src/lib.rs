//! The OCI runtime: makes the process that a bundle describes, and ends it.
//!
//! One process does it: the container's own is a copy of it that builds its root, gives up its rights and becomes the
//! program. This crate never reads the environment's opinion of where things are, and never keeps anything running.

mod channel;
mod checkpoint;
pub mod config;
mod console;
pub mod container;
mod device;
pub mod document;
mod error;
mod exec;
mod features;
mod filter;
mod foreground;
#[cfg(test)]
mod fuzz;
mod hooks;
mod init;
mod launch;
mod lifecycle;
mod mount;
mod namespace;
mod network;
mod notify;
mod pid_file;
mod process;
mod procfs;
mod resources;
mod seal;
pub mod state;
mod sysctl;
mod trace;

pub use checkpoint::restore::{RestoreOptions, restore};
pub use checkpoint::{CgroupMode, CheckpointOptions, Images, checkpoint};
pub use error::{Error, Result};
pub use exec::{ExecOptions, exec, parse_user};
pub use features::features;
pub use launch::{CreateOptions, create};
pub use lifecycle::{delete, kill, pause, processes, run, start};
pub use resources::events::{Event, stats, watch};
pub use resources::group::CgroupManager;
pub use resources::update::update;
pub use seal::seal;
pub use trace::Trace;
