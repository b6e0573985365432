//! The seccomp filter of a container: compiled or found before its process is made, loaded by it last.

mod cache;

use std::env::consts::ARCH;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::Path;

use hoy_sys::rustix::io::Errno;
use hoy_sys::seccomp::{Instruction, filter_flags, set_filter};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompFilterFlag};

use crate::Result;
use crate::error::Doing;
use crate::filter::cache::Slot;

/// A compiled filter.
#[derive(Debug)]
pub(crate) struct Filter {
    program: Vec<Instruction>,
    flags: u64,
}

impl Filter {
    /// Compiles a profile for this machine, or takes what an earlier run kept of it in the directory `kept`.
    pub(crate) fn new(profile: &LinuxSeccomp, kept: &Path) -> Result<Self> {
        let slot = Slot::open(kept, hoy_seccomp::key(profile, ARCH));
        let (program, notifies) = match slot.as_ref().and_then(Slot::read) {
            Some(found) => found,
            None => {
                let (program, notifies) = compile(profile)?;
                slot.iter().for_each(|slot| slot.write(&program, notifies));
                (program, notifies)
            }
        };
        // runc's default, and what the kernel itself has done since Linux 5.16.
        let mut flags = if profile.flags().is_none() { filter_flags::SPEC_ALLOW } else { 0 };
        for flag in profile.flags().iter().flatten() {
            flags |= match flag {
                LinuxSeccompFilterFlag::SeccompFilterFlagLog => filter_flags::LOG,
                // This process has one thread.
                LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 0,
                LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => filter_flags::SPEC_ALLOW,
                LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => filter_flags::WAIT_KILLABLE_RECV,
            };
        }
        if notifies {
            flags |= filter_flags::NEW_LISTENER;
        } else {
            flags &= !filter_flags::WAIT_KILLABLE_RECV;
        }
        Ok(Self { program, flags })
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

/// As runc says it.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seccomp filter flags: {}", self.flags)
    }
}

fn compile(profile: &LinuxSeccomp) -> Result<(Vec<Instruction>, bool)> {
    let compiled = hoy_seccomp::compile(profile, ARCH)?;
    let instruction = |i: &hoy_seccomp::Instruction| Instruction { code: i.code, jt: i.jt, jf: i.jf, k: i.k };
    Ok((compiled.program.iter().map(instruction).collect(), compiled.notifies))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_those_of_runc() {
        let cases = [
            ("", "4"),
            (r#","flags":[]"#, "0"),
            (r#","flags":["SECCOMP_FILTER_FLAG_TSYNC","SECCOMP_FILTER_FLAG_LOG"]"#, "2"),
            (
                r#","flags":["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],"listenerPath":"/l","syscalls":[
                {"names":["mkdir"],"action":"SCMP_ACT_NOTIFY"}]"#,
                "40",
            ),
        ];
        for (rest, want) in cases {
            let profile = serde_json::from_str(&format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW"{rest}}}"#)).unwrap();
            let filter = Filter::new(&profile, Path::new("/proc/none")).unwrap();
            assert_eq!(filter.to_string(), format!("seccomp filter flags: {want}"), "{rest}");
        }
    }

    #[test]
    fn a_kept_program_is_the_compiled_one() {
        let json = r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,
            "architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86","SCMP_ARCH_X32","SCMP_ARCH_AARCH64"],"syscalls":[
            {"names":["read","write","close","openat"],"action":"SCMP_ACT_ALLOW"},
            {"names":["connect"],"action":"SCMP_ACT_NOTIFY"},
            {"names":["personality"],"action":"SCMP_ACT_ALLOW","args":[
                {"index":0,"value":8,"valueTwo":1,"op":"SCMP_CMP_MASKED_EQ"}]}]}"#;
        let profile: LinuxSeccomp = serde_json::from_str(json).unwrap();
        let temporary = tempfile::tempdir().unwrap();
        let kept = temporary.path().join("@seccomp");
        let first = Filter::new(&profile, &kept).unwrap();
        let found = Slot::open(&kept, hoy_seccomp::key(&profile, ARCH)).unwrap().read().unwrap();
        assert_eq!(found, compile(&profile).unwrap());
        let second = Filter::new(&profile, &kept).unwrap();
        assert_eq!((&second.program, second.flags), (&first.program, first.flags));
        assert_eq!(second.program, found.0);
        // Where nothing can be kept it is compiled all the same.
        let nowhere = Filter::new(&profile, Path::new("/proc/none")).unwrap();
        assert_eq!(nowhere.program, first.program);
    }
}
