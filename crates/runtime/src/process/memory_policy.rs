//! On which memory nodes pages are made: `linux.memoryPolicy` (runtime-spec config-linux.md "Memory policy").

use hoy_sys::sched::set_mempolicy;
use oci_spec::runtime::{LinuxMemoryPolicy, MemoryPolicyFlagType as Flag, MemoryPolicyModeType as Mode};
use serde_json::Value;

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

/// Checks that mode and flags of `policy`, as it was written, are words that mean something.
///
/// # Errors
/// [`Error::Invalid`] in runc's words, which people search for.
pub(crate) fn check_words(policy: Option<&Value>) -> Result<()> {
    let Some(policy) = policy.filter(|policy| !policy.is_null()) else { return Ok(()) };
    let invalid =
        |what: &str, word: &str| Error::Invalid(format!("linux.memoryPolicy: invalid memory policy {what} \"{word}\""));
    let mode = policy.get("mode").and_then(Value::as_str).unwrap_or_default();
    if !modes().iter().any(|known| known == mode) {
        return Err(invalid("mode", mode));
    }
    let known = flags();
    let mut words = policy.get("flags").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    words.find(|word| !known.iter().any(|known| known == word)).map_or(Ok(()), |word| Err(invalid("flag", word)))
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
        let numbers = list.map(|list| cpu_list::parse("linux.memoryPolicy.nodes", list)).transpose();
        let numbers = numbers.map_err(|error| Error::Invalid(format!("invalid memory policy node: {error}")))?;
        let count = numbers.as_ref().map_or(0, Vec::len);
        let reason = match mode {
            Mode::MpolDefault | Mode::MpolLocal if has_nodes => Some(format!("mode requires 0 nodes but got {count}")),
            Mode::MpolDefault | Mode::MpolLocal | Mode::MpolPreferred => None,
            _ if !has_nodes => Some("mode needs nodes".to_owned()),
            _ => None,
        };
        if let Some(reason) = reason {
            return Err(Error::Invalid(format!("linux.memoryPolicy: {mode} {reason}")));
        }
        let mut nodes = Vec::new();
        for node in numbers.iter().flatten() {
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
    use serde_json::json;

    use super::*;

    fn decided(json: &str) -> Result<MemoryPolicy> {
        MemoryPolicy::new(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn words_that_mean_nothing() {
        let cases = [
            (json!({}), "linux.memoryPolicy: invalid memory policy mode \"\""),
            (json!({"mode": "INTERLEAVE"}), "linux.memoryPolicy: invalid memory policy mode \"INTERLEAVE\""),
            (
                json!({"mode": "MPOL_BIND", "flags": ["MPOL_F_STATIC_NODES", "b"]}),
                "linux.memoryPolicy: invalid memory policy flag \"b\"",
            ),
        ];
        for (policy, want) in cases {
            assert_eq!(check_words(Some(&policy)).unwrap_err().to_string(), want);
        }
        check_words(Some(&json!({"mode": "MPOL_BIND", "flags": ["MPOL_F_STATIC_NODES"]}))).unwrap();
        check_words(None).unwrap();
        check_words(Some(&Value::Null)).unwrap();
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
