//! What a compiled program depends on, as bytes: two profiles with one key compile to one program.

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction};

/// The compiler and its tables. A program that another version made is not this one's.
const COMPILER: u64 = fingerprint(&[
    include_bytes!("assemble.rs"),
    include_bytes!("compile.rs"),
    include_bytes!("key.rs"),
    include_bytes!("syscalls/mod.rs"),
    include_bytes!("syscalls/aarch64.rs"),
    include_bytes!("syscalls/arm.rs"),
    include_bytes!("syscalls/riscv64.rs"),
    include_bytes!("syscalls/x32.rs"),
    include_bytes!("syscalls/x86.rs"),
    include_bytes!("syscalls/x86_64.rs"),
]);

/// FNV-1a, 64 bits.
#[allow(clippy::indexing_slicing, reason = "a constant: an index out of range would be an error of the build")]
const fn fingerprint(sources: &[&[u8]]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut at = 0;
    while at < sources.len() {
        let mut byte = 0;
        while byte < sources[at].len() {
            hash = (hash ^ sources[at][byte] as u64).wrapping_mul(0x100_0000_01b3);
            byte += 1;
        }
        at += 1;
    }
    hash
}

/// Everything that the program of `profile` on `machine` depends on, this compiler included.
///
/// Equal keys mean equal programs, so a program may be kept under its key.
pub fn key(profile: &LinuxSeccomp, machine: &str) -> Vec<u8> {
    let mut key = Key(Vec::with_capacity(16 * 1024));
    key.number(COMPILER);
    key.text(machine);
    key.action(profile.default_action(), profile.default_errno_ret());
    let architectures = profile.architectures().as_deref().unwrap_or_default();
    key.number(architectures.len() as u64);
    architectures.iter().for_each(|arch| key.number(*arch as u64));
    let rules = profile.syscalls().as_deref().unwrap_or_default();
    key.number(rules.len() as u64);
    for rule in rules {
        key.action(rule.action(), rule.errno_ret());
        key.number(rule.names().len() as u64);
        rule.names().iter().for_each(|name| key.text(name));
        let args = rule.args().as_deref().unwrap_or_default();
        key.number(args.len() as u64);
        for arg in args {
            key.number(arg.index() as u64);
            key.number(arg.value());
            // Only a masked comparison has a second value, and without one it is zero.
            key.number(arg.value_two().unwrap_or(0));
            key.number(arg.op() as u64);
        }
    }
    key.0
}

/// Numbers of one length, texts after theirs: no two lists of them have the same bytes.
struct Key(Vec<u8>);

impl Key {
    fn number(&mut self, number: u64) {
        self.0.extend(number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend(text.as_bytes());
    }

    fn action(&mut self, action: LinuxSeccompAction, errno: Option<u32>) {
        self.number(action as u64);
        self.number(errno.map_or(u64::MAX, u64::from));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_counts() {
        let json = r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"architectures":["SCMP_ARCH_X86"],
            "syscalls":[{"names":["read","write"],"action":"SCMP_ACT_ALLOW","errnoRet":1,
            "args":[{"index":1,"value":22,"valueTwo":333,"op":"SCMP_CMP_EQ"}]}]}"#;
        let of = |json: &str| key(&serde_json::from_str(json).unwrap(), "x86_64");
        let first = of(json);
        assert_eq!(of(json), first);
        assert_ne!(key(&serde_json::from_str(json).unwrap(), "aarch64"), first);
        let changes = [
            ("ACT_ERRNO", "ACT_KILL"),
            ("38", "39"),
            ("[\"SCMP_ARCH_X86\"]", "[]"),
            ("ARCH_X86", "ARCH_X32"),
            ("\"read\",", "\"rea\",\"d\","),
            ("write", "writ"),
            ("ACT_ALLOW", "ACT_LOG"),
            ("\"errnoRet\":1,", ""),
            ("\"index\":1", "\"index\":2"),
            ("22", "23"),
            ("333", "334"),
            ("CMP_EQ", "CMP_NE"),
        ];
        for (from, to) in changes {
            assert!(json.contains(from), "{from}");
            assert_ne!(of(&json.replace(from, to)), first, "{from} -> {to}");
        }
    }
}
