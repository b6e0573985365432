//! What the container's process is to be, one part of it a file, and the last steps that make it so.

pub(crate) mod affinity;
pub(crate) mod capability;
mod cpu_list;
pub(crate) mod identity;
pub(crate) mod label;
pub(crate) mod memory_policy;
pub(crate) mod personality;
pub(crate) mod program;
pub(crate) mod scheduling;
