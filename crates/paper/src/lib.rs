//! On paper: what a container's command asks of the kernel that its user may not do is heard of by seccomp_unotify(2), and
//! written down where a layer is made of it, or given.
//!
//! It never runs anything itself: the command is the runtime's, which sends the descriptor.

mod devices;
mod error;
mod paper;

pub use devices::DEVICES;
pub use error::{Error, Result};
pub use paper::Paper;
