//! The life of containers: made, run in the foreground, listed, entered and removed.
//!
//! It does nothing itself that a mechanism program does: file systems are `hoy-storage`'s, processes the OCI runtime's,
//! transfers `hoy-copy`'s, each asked as a child process. What it decides and records is here: names, `hoy.json`, the
//! order of steps, what a state means.

mod containers;
mod error;
mod etc;
mod exec;
mod handed;
mod image;
mod names;
mod programs;
mod record;
mod remove;
mod run;
mod runtime;
mod stubs;
mod supervise;

use hoy_layout::{Roots, Store};
use hoy_oci::Timestamp;

pub use containers::{Entry, Status};
pub use error::{Error, Result};
pub use exec::Exec;
pub use handed::Handed;
pub use image::{Pull, Transfer, full_name};
pub use programs::Programs;
pub use record::{Phase, Record};
pub use run::Run;
pub use runtime::{Runtime, RuntimeState};

/// The engine on one store.
#[derive(Debug, Clone)]
pub struct Engine {
    store: Store,
    programs: Programs,
    clock: fn() -> Timestamp,
}

impl Engine {
    /// The engine on the store at `roots`; `clock` tells the time that records get.
    ///
    /// # Errors
    /// Those of opening the store.
    pub fn new(roots: Roots, clock: fn() -> Timestamp) -> Result<Self> {
        let store = Store::open_or_create(&roots)?;
        Ok(Self { store, programs: Programs::new(roots), clock })
    }

    /// This engine, telling of damage to the store that it goes on in spite of.
    #[must_use]
    pub fn telling(self, tell: fn(&hoy_layout::Error)) -> Self {
        Self { store: self.store.telling(tell), ..self }
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The programs beside this one.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }
}
