//! What every test across programs stands on: the built programs, users to run them as, a place to work in, real peers.
//!
//! Nothing here is mocked: programs, kernel, registry and foreign tools are the real ones. What the machine lacks is
//! skipped with its reason, and counted.

mod authorities;
mod broken;
mod bundle;
mod calls;
mod containerfiles;
mod debian;
pub mod deeds;
mod git;
mod images;
mod leftovers;
mod program;
mod race;
mod registry;
mod run;
mod sandbox;
mod served;
mod skip;
mod socket;
mod traced;
mod user;
mod victim;
mod vm;
mod web;

pub use authorities::{Authorities, ISSUER, issuer, now};
pub use broken::{broken, cases, damaged, full_config};
pub use bundle::{Bundle, cannot, runtime_under_test};
pub use calls::Call;
pub use containerfiles::{CASES, Case, Peer, write_context};
pub use debian::{debian_layout, listing};
pub use git::Repository;
pub use images::{TarLayer, busybox_layout, busybox_root, busybox_store, image_of, many_files, many_layers};
pub use leftovers::Machine;
pub use program::{program, program_dir, workspace};
pub use race::{Tripwire, is_long, while_exchanging};
pub use registry::{Registry, free_port};
pub use run::{Out, Run, steps};
pub use sandbox::Sandbox;
pub use served::Served;
pub use skip::{has, need, need_root, need_shared, skip};
pub use socket::receive_at;
pub use traced::{At, Deed, Plan, Seen, traced, traced_by};
pub use user::User;
pub use victim::{Disturbed, Trial, Victim};
pub use vm::{in_user_unit, need_vm};
pub use web::{Asked, Web};
