//! What software a file tree consists of: the packages that its own records name, and the documents that list them.
//!
//! Reads one tar from end to end. It never opens a file, starts a program, or looks at a clock; what it cannot read it names.

mod cyclonedx;
mod error;
mod inventory;
mod package;
mod program;
mod records;
mod rpm;
mod scripts;
mod spdx;
mod sqlite;
mod subject;

pub use cyclonedx::cyclonedx;
pub use error::{Error, Result};
pub use inventory::{Distribution, Inventory, Unread};
pub use package::{Kind, Package};
pub use spdx::spdx;
pub use subject::Subject;
