//! Control groups: makes them, puts limits and processes into them, and removes them, on v2, v1 and hybrid hosts.
//!
//! It never changes a limit, and never removes a group, that it did not make itself.

mod apply;
mod block;
mod delegate;
mod device;
mod entry;
mod error;
mod freezer;
mod group;
mod hierarchy;
mod limits;
mod memory;
mod oom;
mod processes;
mod removal;
mod stats;

pub use apply::update;
pub use entry::entry;
pub use error::{Error, Result};
pub use freezer::{freeze, is_frozen};
pub use group::Group;
pub use hierarchy::{Hierarchies, Hierarchy};
pub use limits::{Write, plan};
pub use oom::OomWatch;
pub use processes::{kill_all, processes};
pub use removal::{remove, remove_empty};
pub use stats::stats;
