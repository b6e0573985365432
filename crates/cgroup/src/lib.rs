//! Control groups: makes them, puts limits and processes into them, and removes them, on v2, v1 and hybrid hosts.
//!
//! It never changes a limit, and never removes a group, that it did not make itself.

mod apply;
mod block;
mod dbus;
mod delegate;
mod device;
mod door;
mod error;
mod freezer;
mod group;
mod hierarchy;
mod limits;
mod memory;
mod oom;
mod place;
mod processes;
mod property;
mod removal;
mod stats;
mod systemd;
mod unit;

pub use apply::update;
pub use door::Door;
pub use error::{Error, Result};
pub use freezer::{freeze, is_frozen};
pub use group::{Existing, Group};
pub use hierarchy::{Hierarchies, Hierarchy};
pub use limits::{Write, plan};
pub use oom::OomWatch;
pub use place::place;
pub use processes::{kill_all, processes};
pub use removal::{missing, remove};
pub use stats::stats;
pub use systemd::{Settings, Systemd};
pub use unit::Unit;
