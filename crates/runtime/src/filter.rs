//! The seccomp filter of a container: compiled before its process is made, loaded by it last.

use std::os::fd::OwnedFd;

use hoy_sys::rustix::io::Errno;
use hoy_sys::seccomp::{Instruction, filter_flags, set_filter};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompFilterFlag};

use crate::Result;
use crate::error::Doing;

/// A compiled filter.
#[derive(Debug)]
pub(crate) struct Filter {
    program: Vec<Instruction>,
    flags: u64,
}

impl Filter {
    /// Compiles a profile for this machine.
    pub(crate) fn new(profile: &LinuxSeccomp) -> Result<Self> {
        let compiled = hoy_seccomp::compile(profile, std::env::consts::ARCH)?;
        let instruction = |i: &hoy_seccomp::Instruction| Instruction { code: i.code, jt: i.jt, jf: i.jf, k: i.k };
        let mut flags = 0;
        for flag in profile.flags().iter().flatten() {
            flags |= match flag {
                LinuxSeccompFilterFlag::SeccompFilterFlagLog => filter_flags::LOG,
                // This process has one thread.
                LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 0,
                LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => filter_flags::SPEC_ALLOW,
                LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => filter_flags::WAIT_KILLABLE_RECV,
            };
        }
        if compiled.notifies {
            flags |= filter_flags::NEW_LISTENER;
        } else {
            flags &= !filter_flags::WAIT_KILLABLE_RECV;
        }
        Ok(Self { program: compiled.program.iter().map(instruction).collect(), flags })
    }

    /// Loads it; gives the descriptor of notifications when the profile has any.
    pub(crate) fn load(&self) -> Result<Option<OwnedFd>> {
        let optional = filter_flags::LOG | filter_flags::SPEC_ALLOW | filter_flags::WAIT_KILLABLE_RECV;
        match set_filter(&self.program, self.flags) {
            // An older kernel does not know a flag, and filters as well without.
            Err(error) if error.errno == Errno::INVAL && self.flags & optional != 0 => {
                set_filter(&self.program, self.flags & !optional)
            }
            other => other,
        }
        .doing(|| "load the seccomp filter")
    }
}
