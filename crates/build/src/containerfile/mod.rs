//! Images from Containerfiles: stages as a graph, steps as layers, and a cache of what steps made before.

mod build;
mod builder;
mod cache;
mod context;
mod device;
mod interrupt;
mod keeper;
mod layer;
mod merge;
mod mounts;
mod names;
mod origin;
mod platforms;
mod prune;
mod remote;
mod report;
mod run;
mod scratch;
mod secrets;
mod settings;
mod standing;
mod state;
mod step;
mod transfer;

pub use build::{Built, build, environment_of, needs_mounts, plan};
pub use builder::{BuildOptions, NamedContext, Squash};
pub use context::Context;
pub use keeper::keep;
pub use mounts::is_socket;
pub use platforms::{has_commands, index, platforms};
pub use prune::prune_builds;
pub use report::{Event, Report};
pub use run::PREDEFINED;
pub use scratch::temporary_directory;
pub use secrets::Secret;
pub(crate) use secrets::{Leak, Watch};
