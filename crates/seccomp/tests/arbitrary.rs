//! Profiles of any kind: what their programs decide is what the profile says, read rule by rule.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod interpreter;

use hoy_seccomp::{Error, compile};
use interpreter::run;
use oci_spec::runtime::LinuxSeccomp;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

const X86_64: u32 = 0xc000_003e;
const X86: u32 = 0x4000_0003;
const AARCH64: u32 = 0xc000_00b7;
const X32_BIT: u32 = 0x4000_0000;

/// Name, number on x86_64, number on x86.
const CALLS: &[(&str, u32, u32)] =
    &[("read", 0, 3), ("open", 2, 5), ("getpid", 39, 20), ("personality", 135, 136), ("clone3", 435, 435)];

const EDGES: &[u64] = &[0, 1, 2, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0001, u64::MAX - 1, u64::MAX];

#[derive(Debug, Clone)]
struct Condition {
    index: usize,
    value: u64,
    value_two: u64,
    op: &'static str,
}

impl Condition {
    fn holds(&self, args: [u64; 6]) -> bool {
        let (given, value) = (args[self.index], self.value);
        match self.op {
            "NE" => given != value,
            "LT" => given < value,
            "LE" => given <= value,
            "EQ" => given == value,
            "GE" => given >= value,
            "GT" => given > value,
            _ => given & value == self.value_two & value,
        }
    }
}

#[derive(Debug, Clone)]
struct Rule {
    names: Vec<&'static str>,
    action: (&'static str, u32),
    conditions: Vec<Condition>,
}

impl Rule {
    fn holds(&self, args: [u64; 6]) -> bool {
        let indices: std::collections::BTreeSet<usize> = self.conditions.iter().map(|c| c.index).collect();
        if indices.len() < self.conditions.len() {
            self.conditions.iter().any(|condition| condition.holds(args))
        } else {
            self.conditions.iter().all(|condition| condition.holds(args))
        }
    }
}

#[derive(Debug, Clone)]
struct Profile {
    default: (&'static str, u32),
    has_x86: bool,
    has_x32: bool,
    rules: Vec<Rule>,
}

impl Profile {
    fn parsed(&self) -> LinuxSeccomp {
        let mut architectures = vec!["SCMP_ARCH_X86_64"];
        architectures.extend(self.has_x86.then_some("SCMP_ARCH_X86"));
        architectures.extend(self.has_x32.then_some("SCMP_ARCH_X32"));
        let condition = |c: &Condition| json!({"index": c.index, "value": c.value, "valueTwo": c.value_two, "op": format!("SCMP_CMP_{}", c.op)});
        let rule = |rule: &Rule| {
            let args: Vec<_> = rule.conditions.iter().map(condition).collect();
            json!({"names": rule.names, "action": format!("SCMP_ACT_{}", rule.action.0), "args": args})
        };
        let rules: Vec<_> = self.rules.iter().map(rule).collect();
        let default = format!("SCMP_ACT_{}", self.default.0);
        let whole = json!({"defaultAction": default, "architectures": architectures, "syscalls": rules});
        serde_json::from_value(whole).unwrap()
    }

    /// What a call gets, by reading the rules.
    fn decide(&self, arch: u32, number: u32, args: [u64; 6]) -> u32 {
        let name = match arch {
            X86_64 if number & X32_BIT != 0 && !self.has_x32 => return 0,
            X86_64 => {
                let number = number & !X32_BIT;
                CALLS.iter().find(|call| call.1 == number)
            }
            X86 if self.has_x86 => CALLS.iter().find(|call| call.2 == number),
            _ => return 0,
        };
        let named = CALLS.iter().filter(|call| self.rules.iter().any(|rule| rule.names.contains(&call.0)));
        let mark = if arch == X86 { 0 } else { number & X32_BIT };
        let last = named.map(|call| mark | if arch == X86 { call.2 } else { call.1 }).max().unwrap_or(0);
        if last > 0 && number > last && !matches!(self.default.0, "ALLOW" | "LOG") {
            return 0x0005_0000 | 38;
        }
        let Some((name, ..)) = name else { return self.default.1 };
        let rules = || self.rules.iter().filter(|rule| rule.action.1 != self.default.1 && rule.names.contains(name));
        let always = rules().find(|rule| rule.conditions.is_empty());
        always.or_else(|| rules().find(|rule| rule.holds(args))).map_or(self.default.1, |rule| rule.action.1)
    }
}

fn action() -> impl Strategy<Value = (&'static str, u32)> {
    select(vec![
        ("ALLOW", 0x7fff_0000),
        ("ERRNO", 0x0005_0001),
        ("KILL", 0),
        ("KILL_PROCESS", 0x8000_0000),
        ("LOG", 0x7ffc_0000),
        ("TRAP", 0x0003_0000),
    ])
}

fn condition() -> impl Strategy<Value = Condition> {
    let op = select(vec!["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"]);
    let value = || prop_oneof![3 => select(EDGES.to_vec()), 1 => any::<u64>()];
    (0..6_usize, value(), value(), op).prop_map(|(index, value, value_two, op)| Condition {
        index,
        value,
        value_two,
        op,
    })
}

fn profile() -> impl Strategy<Value = Profile> {
    let names = prop::collection::vec(select(CALLS.to_vec()).prop_map(|call| call.0), 0..4);
    let conditions = prop::collection::vec(condition(), 0..4);
    let rule = (names, action(), conditions);
    let rule = rule.prop_map(|(names, action, conditions)| Rule { names, action, conditions });
    let rules = prop::collection::vec(rule, 0..30);
    (action(), any::<bool>(), any::<bool>(), rules).prop_map(|(default, has_x86, has_x32, rules)| Profile {
        default,
        has_x86,
        has_x32,
        rules,
    })
}

proptest! {
    #![proptest_config(hoy_tests::cases(200))]

    #[test]
    fn a_program_decides_as_its_profile_reads(
        profile in profile(), args in prop::collection::vec(prop::array::uniform6(select(EDGES.to_vec())), 8)
    ) {
        let program = compile(&profile.parsed(), "x86_64").unwrap().program;
        for (name, number, number_x86) in CALLS {
            let calls = [(X86_64, *number), (X86_64, number | X32_BIT), (X86, *number_x86), (AARCH64, *number)];
            for (arch, number) in calls {
                for args in &args {
                    let want = profile.decide(arch, number, *args);
                    prop_assert_eq!(run(&program, arch, number, *args), want, "{} {:#x} {:?}", name, arch, args);
                }
            }
        }
        for (arch, number) in [(X86_64, 1), (X86_64, u32::MAX), (X86, 9999), (0, 0)] {
            let want = profile.decide(arch, number, [0; 6]);
            prop_assert_eq!(run(&program, arch, number, [0; 6]), want, "{:#x} {}", arch, number);
        }
    }

    #[test]
    fn a_long_profile_is_refused_or_compiled(times in 1_usize..60, value: u64) {
        let arg = |n: usize| json!({"index": n % 6, "value": value.wrapping_add(n as u64), "op": "SCMP_CMP_GT"});
        let rules: Vec<_> = (0..times * times)
            .map(|n| json!({"names": [CALLS[n % CALLS.len()].0], "action": "SCMP_ACT_ERRNO", "args": [arg(n), arg(n + 1)]}))
            .collect();
        let parsed = serde_json::from_value(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules})).unwrap();
        match compile(&parsed, "x86_64") {
            Ok(compiled) => prop_assert!(compiled.program.len() <= 4096),
            Err(Error::TooLong(length)) => prop_assert!(length > 4096),
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
}
