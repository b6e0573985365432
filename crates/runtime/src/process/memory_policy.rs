//! On which memory nodes pages are made: `linux.memoryPolicy` (runtime-spec config-linux.md "Memory policy").

use hoy_sys::sched::set_mempolicy;
use oci_spec::runtime::{LinuxMemoryPolicy, MemoryPolicyFlagType as Flag, MemoryPolicyModeType as Mode};

use crate::error::Doing;
use crate::process::cpu_list;
use crate::{Error, Result};

/// The modes, each with its number in linux/mempolicy.h.
const MODES: [(Mode, u32); 7] = [
    (Mode::MpolDefault, 0),
    (Mode::MpolPreferred, 1),
    (Mode::MpolBind, 2),
    (Mode::MpolInterleave, 3),
    (Mode::MpolLocal, 4),
    (Mode::MpolPreferredMany, 5),
    (Mode::MpolWeightedInterleave, 6),
];

/// The flags, each with its bit.
const FLAGS: [(Flag, u32); 3] =
    [(Flag::MpolFStaticNodes, 1 << 15), (Flag::MpolFRelativeNodes, 1 << 14), (Flag::MpolFNumaBalancing, 1 << 13)];

/// The names of every mode, for `features`.
pub(crate) fn modes() -> Vec<String> {
    MODES.iter().map(|(mode, _)| mode.to_string()).collect()
}

/// The names of every flag, for `features`.
pub(crate) fn flags() -> Vec<String> {
    FLAGS.iter().map(|(flag, _)| flag.to_string()).collect()
}

/// A memory policy, decided.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MemoryPolicy {
    mode: u32,
    nodes: Vec<u64>,
    text: String,
}

impl MemoryPolicy {
    /// Decides what `policy` means.
    ///
    /// # Errors
    /// [`Error::Invalid`] for nodes that are no list or do not go with the mode.
    pub(crate) fn new(policy: &LinuxMemoryPolicy) -> Result<Self> {
        let mode = policy.mode();
        let list = policy.nodes().as_deref().filter(|list| !list.is_empty());
        let has_nodes = list.is_some();
        let reason = match mode {
            Mode::MpolDefault | Mode::MpolLocal if has_nodes => Some("takes no nodes"),
            Mode::MpolDefault | Mode::MpolLocal | Mode::MpolPreferred => None,
            _ if !has_nodes => Some("needs nodes"),
            _ => None,
        };
        if let Some(reason) = reason {
            return Err(Error::Invalid(format!("linux.memoryPolicy: {mode} {reason}")));
        }
        let mut nodes = Vec::new();
        for node in list.map(|list| cpu_list::parse("linux.memoryPolicy.nodes", list)).transpose()?.iter().flatten() {
            nodes.resize(nodes.len().max(node / 64 + 1), 0_u64);
            nodes.iter_mut().skip(node / 64).take(1).for_each(|word| *word |= 1 << (node % 64));
        }
        let bit = |flag: &Flag| FLAGS.iter().find(|(known, _)| known == flag).map_or(0, |(_, bit)| *bit);
        let flags = policy.flags().iter().flatten().fold(0, |all, flag| all | bit(flag));
        let number = MODES.iter().find(|(known, _)| *known == mode).map_or(0, |(_, number)| *number);
        let text = format!("{mode} on nodes \"{}\"", list.unwrap_or_default());
        Ok(Self { mode: number | flags, nodes, text })
    }

    /// Sets it for this process and those it becomes or makes.
    pub(crate) fn apply(&self) -> Result<()> {
        set_mempolicy(self.mode, &self.nodes).doing(|| format!("set linux.memoryPolicy to {}", self.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(json: &str) -> Result<MemoryPolicy> {
        MemoryPolicy::new(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn modes_flags_and_nodes() {
        let policy = decided(r#"{"mode":"MPOL_BIND","nodes":"0,64-65","flags":["MPOL_F_STATIC_NODES"]}"#).unwrap();
        assert_eq!((policy.mode, policy.nodes), (2 | 1 << 15, vec![1, 3]));
        let policy = decided(r#"{"mode":"MPOL_WEIGHTED_INTERLEAVE","nodes":"1"}"#).unwrap();
        assert_eq!((policy.mode, policy.nodes), (6, vec![2]));
        assert_eq!(decided(r#"{"mode":"MPOL_PREFERRED"}"#).unwrap().nodes, Vec::<u64>::new());
        for bad in [
            r#"{"mode":"MPOL_BIND"}"#,
            r#"{"mode":"MPOL_LOCAL","nodes":"0"}"#,
            r#"{"mode":"MPOL_BIND","nodes":"a"}"#,
            r#"{"mode":"MPOL_INTERLEAVE","nodes":""}"#,
        ] {
            assert!(decided(bad).unwrap_err().to_string().contains("linux.memoryPolicy"), "{bad}");
        }
    }
}
