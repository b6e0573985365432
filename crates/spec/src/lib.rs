//! From an image's configuration and podman's `create` options to a runtime `config.json`.
//!
//! [`Options`] is what was typed, [`Host`] what the machine allows, [`generate`] the plan; nothing here runs, mounts or
//! changes anything, and an image's own files are read inside its root alone.

mod capability;
mod cdi;
mod config;
mod defaults;
mod device;
mod env;
mod error;
mod exec;
mod generate;
mod hooks;
mod host;
mod mounts;
mod options;
mod resources;
mod rlimit;
mod seccomp;
mod syscalls;
mod user;
mod volume;

pub use cdi::{CdiDevice, CdiDevices};
pub use config::{
    CapabilitySets, Config, Cpu, Device, DeviceRule, Hook, Linux, Memory, Mount, Namespace, OCI_VERSION, Pids, Process,
    ProcessUser, Resources, Rlimit, Root, Seccomp, SyscallArg, SyscallRule,
};
pub use defaults::Defaults;
pub use error::{Error, Result};
pub use exec::exec_process;
pub use generate::{Generated, Request, generate};
pub use host::Host;
pub use options::Options;
pub use user::{User, Users};

#[cfg(test)]
mod tests;
