//! Control groups: makes them, puts limits and processes into them, and removes them, on v2, v1 and hybrid hosts.
//!
//! It never changes a limit, and never removes a group, that it did not make itself.

mod device;
mod error;
mod group;
mod hierarchy;
mod limits;

pub use error::{Error, Result};
pub use group::{Group, freeze, is_frozen, kill_all, missing, processes, remove};
pub use hierarchy::{Hierarchies, Hierarchy};
pub use limits::{Write, plan};
