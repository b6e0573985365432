//! The system calls Hoy makes, each behind a safe, typed function.
//!
//! Every `unsafe` block of the workspace is here; what rustix already offers safely is re-exported and not wrapped
//! again. This crate never decides anything: no defaults, no policy, no parsing of other people's files.

pub use rustix;

pub mod bpf;
pub mod capability;
pub mod command;
mod error;
pub mod mount;
pub mod net;
pub mod path;
pub mod process;
pub mod regex;
pub mod relay;
pub mod sched;
pub mod seccomp;
pub mod user;
pub mod userns;

pub use error::{Error, Result, chain, check, words};
