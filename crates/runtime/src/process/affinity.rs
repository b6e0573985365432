//! On which processors a process that joins a container runs: `process.execCPUAffinity` (runtime-spec 1.2.1).
//!
//! The container's own first process is not meant by it.

use hoy_sys::rustix::thread::{CpuSet, sched_setaffinity};
use oci_spec::runtime::Process;

use crate::error::Doing;
use crate::process::cpu_list;
use crate::{Error, Result};

/// The processors before and after the process is in the container's control group.
#[derive(Debug, Default)]
pub(crate) struct Affinity {
    initial: Option<CpuSet>,
    last: Option<CpuSet>,
}

impl Affinity {
    /// Decides what `process` asks for.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is no list, or one with a processor that no machine has.
    pub(crate) fn new(process: &Process) -> Result<Self> {
        let Some(given) = process.exec_cpu_affinity() else { return Ok(Self::default()) };
        let set = |name: &str, list: &Option<String>| {
            let field = format!("process.execCPUAffinity.{name}");
            list.as_deref().filter(|list| !list.is_empty()).map(|list| set(&field, list)).transpose()
        };
        Ok(Self { initial: set("initial", given.initial())?, last: set("final", given.cpu_affinity_final())? })
    }

    /// The processors at first, as bits, the lowest last.
    pub(crate) fn mask(&self) -> Option<String> {
        let set = self.initial.as_ref()?;
        let last = (0..CpuSet::MAX_CPU).rev().find(|cpu| set.is_set(*cpu))?;
        let digit = |at| (0..4).fold(0_u8, |bits, bit| bits | u8::from(set.is_set(at * 4 + bit)) << bit);
        Some((0..=last / 4).rev().fold("0x".to_owned(), |text, at| format!("{text}{:x}", digit(at))))
    }

    /// Binds this process, before it is moved.
    pub(crate) fn before(&self) -> Result<()> {
        bind(self.initial.as_ref(), "initial")
    }

    /// Binds this process, when it has been moved.
    pub(crate) fn after(&self) -> Result<()> {
        if self.initial.is_none() && self.last.is_none() {
            reset();
        }
        bind(self.last.as_ref(), "final")
    }
}

/// Frees this process from the processors that its caller is bound to: those of its control group are its own.
pub(crate) fn reset() {
    let mut all = CpuSet::new();
    (0..CpuSet::MAX_CPU).for_each(|cpu| all.set(cpu));
    // A filter of the caller's may forbid it; then it stays where the caller is.
    sched_setaffinity(None, &all).unwrap_or_default();
}

fn bind(set: Option<&CpuSet>, name: &str) -> Result<()> {
    let Some(set) = set else { return Ok(()) };
    sched_setaffinity(None, set).doing(|| format!("set process.execCPUAffinity.{name}"))
}

fn set(field: &str, list: &str) -> Result<CpuSet> {
    let mut set = CpuSet::new();
    for cpu in cpu_list::parse(field, list)? {
        if cpu >= CpuSet::MAX_CPU {
            return Err(Error::Invalid(format!("{field} \"{list}\" has processor {cpu}: there are fewer")));
        }
        set.set(cpu);
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_list_binds_to_nothing() {
        let json = r#"{"cwd":"/","user":{"uid":0,"gid":0},"execCPUAffinity":{"initial":"0,2-3"}}"#;
        let affinity = Affinity::new(&serde_json::from_str(json).unwrap()).unwrap();
        assert_eq!(affinity.mask().unwrap(), "0xd");
        let initial = affinity.initial.unwrap();
        assert_eq!((initial.count(), initial.is_set(1), affinity.last.is_none()), (3, false, true));
        assert!(set("f", "1024").is_err());
    }
}
