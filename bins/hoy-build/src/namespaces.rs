//! Which namespaces commands share with the host, of those that a mode alone says.

use clap::Args;
use hoy_spec::Options;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Namespaces {
    /// host or private (default private)
    #[arg(long, value_name = "MODE")]
    pub(crate) pid: Option<String>,
    /// host or private (default private)
    #[arg(long, value_name = "MODE")]
    pub(crate) ipc: Option<String>,
    /// host or private (default private)
    #[arg(long, value_name = "MODE")]
    pub(crate) uts: Option<String>,
    /// host or private (default private)
    #[arg(long, value_name = "MODE")]
    pub(crate) cgroupns: Option<String>,
}

impl Namespaces {
    /// What these leave open the others say.
    #[must_use]
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            pid: self.pid.or(other.pid),
            ipc: self.ipc.or(other.ipc),
            uts: self.uts.or(other.uts),
            cgroupns: self.cgroupns.or(other.cgroupns),
        }
    }

    /// Adds them to what a command is to have.
    pub(crate) fn add_to(self, options: &mut Options) {
        (options.pid, options.ipc, options.uts, options.cgroupns) = (self.pid, self.ipc, self.uts, self.cgroupns);
    }
}
