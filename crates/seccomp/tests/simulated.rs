//! Compiled profiles run by an interpreter of classic BPF, as the kernel would run them.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod interpreter;

use hoy_seccomp::{Error, Instruction, compile};
use interpreter::run;
use oci_spec::runtime::LinuxSeccomp;

const X86_64: u32 = 0xc000_003e;
const X86: u32 = 0x4000_0003;
const AARCH64: u32 = 0xc000_00b7;
const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const KILL: u32 = 0;

fn profile(json: &str) -> LinuxSeccomp {
    serde_json::from_str(json).unwrap()
}

fn one_condition(arg: &str) -> Vec<Instruction> {
    let json = format!(
        r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{{"names":["personality"],"action":"SCMP_ACT_ERRNO",
        "errnoRet":7,"args":[{arg}]}}]}}"#
    );
    compile(&profile(&json), "x86_64").unwrap().program
}

#[test]
fn every_operator_on_every_edge() {
    type Operator = (&'static str, fn(u64, u64) -> bool);
    let operators: &[Operator] = &[
        ("NE", |a, b| a != b),
        ("LT", |a, b| a < b),
        ("LE", |a, b| a <= b),
        ("EQ", |a, b| a == b),
        ("GE", |a, b| a >= b),
        ("GT", |a, b| a > b),
    ];
    let edges =
        [0, 1, 2, 0xffff_fffe, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0001, 0x2_0000_0000, u64::MAX - 1, u64::MAX];
    for (name, holds) in operators {
        for value in edges {
            for index in 0..6 {
                let arg = format!(r#"{{"index":{index},"value":{value},"op":"SCMP_CMP_{name}"}}"#);
                let program = one_condition(&arg);
                for given in edges {
                    let mut args = [5; 6];
                    args[index] = given;
                    let want = if holds(given, value) { ERRNO | 7 } else { ALLOW };
                    assert_eq!(run(&program, X86_64, 135, args), want, "{given:#x} {name} {value:#x}");
                    assert_eq!(run(&program, X86_64, 136, args), ALLOW);
                }
            }
        }
    }
}

#[test]
fn masked_equality() {
    let program =
        one_condition(r#"{"index":0,"value":18446744069414584575,"valueTwo":4294967297,"op":"SCMP_CMP_MASKED_EQ"}"#);
    // The mask is 0xffffffff_000000ff, what is wanted 0x1_00000001.
    for (given, holds) in [(0x1_0000_0001, true), (0x1_ffff_ff01, true), (0x1, false), (0x1_0000_0002, false)] {
        assert_eq!(run(&program, X86_64, 135, [given, 0, 0, 0, 0, 0]) == ERRNO | 7, holds, "{given:#x}");
    }
}

#[test]
fn conditions_of_one_rule_are_all_needed_and_of_one_argument_are_alternatives() {
    let both = one_condition(r#"{"index":0,"value":1,"op":"SCMP_CMP_EQ"},{"index":1,"value":2,"op":"SCMP_CMP_EQ"}"#);
    let either = one_condition(r#"{"index":0,"value":1,"op":"SCMP_CMP_EQ"},{"index":0,"value":2,"op":"SCMP_CMP_EQ"}"#);
    for (args, want_both, want_either) in
        [([1, 2], true, true), ([1, 3], false, true), ([2, 2], false, true), ([3, 2], false, false)]
    {
        let args = [args[0], args[1], 0, 0, 0, 0];
        assert_eq!(run(&both, X86_64, 135, args) != ALLOW, want_both, "{args:?}");
        assert_eq!(run(&either, X86_64, 135, args) != ALLOW, want_either, "{args:?}");
    }
}

#[test]
fn every_action_and_its_number() {
    let cases = [
        ("KILL", "", 0),
        ("KILL_THREAD", "", 0),
        ("KILL_PROCESS", "", 0x8000_0000),
        ("TRAP", "", 0x0003_0000),
        ("ERRNO", "", ERRNO | 1),
        ("ERRNO", r#","errnoRet":38"#, ERRNO | 38),
        ("TRACE", r#","errnoRet":9"#, 0x7ff0_0009),
        ("LOG", "", 0x7ffc_0000),
        ("NOTIFY", "", 0x7fc0_0000),
    ];
    for (action, more, want) in cases {
        let json = format!(
            r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{{"names":["getpid"],"action":"SCMP_ACT_{action}"{more}}}]}}"#
        );
        let compiled = compile(&profile(&json), "x86_64").unwrap();
        assert_eq!(run(&compiled.program, X86_64, 39, [0; 6]), want, "{action}");
        assert_eq!(compiled.notifies, action == "NOTIFY");
    }
}

#[test]
fn architectures() {
    let json = r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,
        "architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86","SCMP_ARCH_S390X"ARCH],
        "syscalls":[{"names":["getpid","socketcall","no_such_call"],"action":"SCMP_ACT_ALLOW"}]}"#;
    let without = compile(&profile(&json.replace("ARCH]", "]")), "x86_64").unwrap().program;
    let x32 = compile(&profile(&json.replace("ARCH]", ",\"SCMP_ARCH_X32\"]")), "x86_64").unwrap().program;
    let arm = compile(&profile(&json.replace("ARCH]", ",\"SCMP_ARCH_ARM\"]")), "aarch64").unwrap().program;
    let x32_getpid = 0x4000_0000 | 39;
    for (program, arch, number, want) in [
        (&without, X86_64, 39, ALLOW),
        (&without, X86_64, 20, ERRNO | 38),
        (&without, X86, 20, ALLOW),
        (&without, X86, 102, ALLOW),
        (&without, X86, 39, ERRNO | 38),
        (&without, X86_64, x32_getpid, KILL),
        (&without, X86_64, u32::MAX, KILL),
        (&without, AARCH64, 172, KILL),
        (&x32, X86_64, x32_getpid, ALLOW),
        (&x32, X86_64, 0x4000_0000 | 40, ERRNO | 38),
        (&x32, X86_64, 39, ALLOW),
        (&arm, AARCH64, 172, ALLOW),
        (&arm, 0x4000_0028, 20, ALLOW),
        (&arm, X86_64, 39, KILL),
    ] {
        assert_eq!(run(program, arch, number, [0; 6]), want, "{arch:#x} {number:#x}");
    }
}

#[test]
fn a_rule_without_conditions_is_stronger() {
    let json = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
        {"names":["clone"],"action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":5,"op":"SCMP_CMP_EQ"}]},
        {"names":["clone"],"action":"SCMP_ACT_KILL_PROCESS"}]}"#;
    let program = compile(&profile(json), "x86_64").unwrap().program;
    assert_eq!(run(&program, X86_64, 56, [5, 0, 0, 0, 0, 0]), 0x8000_0000);
}

/// A profile as long as real ones: every number is compared with what its own rules say.
#[test]
fn a_long_profile() {
    let allowed = ["read", "write", "openat", "close", "fstat", "mmap", "execve", "exit_group", "clone3", "statx"];
    let mut rules = vec![format!(r#"{{"names":{allowed:?},"action":"SCMP_ACT_ALLOW"}}"#)];
    for (name, value) in [("socket", 40), ("personality", 8), ("clone", 2_114_060_288), ("prctl", 1), ("ioctl", 9)] {
        for index in 0..3 {
            for step in 0..20 {
                let value = value + step;
                rules.push(format!(
                    r#"{{"names":["{name}"],"action":"SCMP_ACT_ALLOW","args":[{{"index":{index},"value":{value},"op":"SCMP_CMP_EQ"}}]}}"#
                ));
            }
        }
    }
    let json = format!(r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{}]}}"#, rules.join(","));
    let program = compile(&profile(&json), "x86_64").unwrap().program;
    let numbers = [0, 1, 257, 3, 5, 9, 59, 231, 435, 332];
    for number in 0..600 {
        let other = if number > 435 { ERRNO | 38 } else { ERRNO | 1 };
        let want = if numbers.contains(&number) { ALLOW } else { other };
        assert_eq!(run(&program, X86_64, number, [0; 6]), want, "{number}");
    }
    for (number, arg) in [(41, 59), (135, 8), (56, 2_114_060_290), (157, 20), (16, 28)] {
        assert_eq!(run(&program, X86_64, number, [0, 0, arg, 0, 0, 0]), ALLOW, "{number}");
        assert_eq!(run(&program, X86_64, number, [0, 0, arg + 40, 0, 0, 0]), ERRNO | 1, "{number}");
    }
}

#[test]
fn a_call_newer_than_every_named_one_is_not_implemented() {
    let of = |default: &str, names: &str| {
        let rules = format!(r#"[{{"names":["no_such_call"{names}],"action":"SCMP_ACT_ALLOW"}}]"#);
        let archs = r#"["SCMP_ARCH_X86","SCMP_ARCH_X32"]"#;
        let json = format!(r#"{{"defaultAction":"SCMP_ACT_{default},"architectures":{archs},"syscalls":{rules}}}"#);
        compile(&profile(&json), "x86_64").unwrap().program
    };
    let (named, none) = (r#","getpid","socketcall""#, "");
    let newer = ERRNO | 38;
    let x32 = 0x4000_0000;
    for (default, other) in [("ERRNO\"", ERRNO | 1), ("KILL_PROCESS\"", 0x8000_0000), ("TRAP\"", 0x0003_0000)] {
        let program = of(default, named);
        for (arch, number, want) in [
            (X86_64, 0, other),
            (X86_64, 38, other),
            (X86_64, 39, ALLOW),
            (X86_64, 40, newer),
            (X86_64, x32 - 1, newer),
            (X86_64, x32, other),
            (X86_64, x32 | 39, ALLOW),
            (X86_64, x32 | 40, newer),
            (X86, 101, other),
            (X86, 102, ALLOW),
            (X86, 103, newer),
        ] {
            assert_eq!(run(&program, arch, number, [0; 6]), want, "{default} {arch:#x} {number:#x}");
        }
        // Nothing is known to be newer: the number 0 is none in runc.
        for names in [none, r#","read""#] {
            assert_eq!(run(&of(default, names), X86_64, 40, [0; 6]), other, "{default}{names}");
        }
    }
    // What is permitted anyway is, and one error number that is asked for is the one.
    for (default, want) in [("LOG\"", 0x7ffc_0000), ("TRACE\"", 0x7ff0_0001), ("KILL\",\"defaultErrnoRet\":38", KILL)] {
        assert_eq!(run(&of(default, named), X86_64, 40, [0; 6]), want, "{default}");
    }
    // A name counts whatever its rule says.
    let json = r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["statx"],"action":"SCMP_ACT_ERRNO"}]}"#;
    let program = compile(&profile(json), "x86_64").unwrap().program;
    assert_eq!([332, 333].map(|number| run(&program, X86_64, number, [0; 6])), [ERRNO | 1, newer]);
}

#[test]
fn what_no_filter_can_do() {
    let bad = |json: &str, machine: &str| matches!(compile(&profile(json), machine), Err(Error::Invalid(_)));
    assert!(bad(r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#, "vax"));
    assert!(bad(r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#, "x86_64"));
    let arg = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["x"],"action":"SCMP_ACT_LOG",
        "args":[{"index":6,"value":1,"op":"SCMP_CMP_EQ"}]}]}"#;
    assert!(bad(arg, "x86_64"));
}

#[test]
fn an_error_number_is_no_other_action() {
    for json in [
        r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":2147418112}"#,
        r#"{"defaultAction":"SCMP_ACT_KILL","syscalls":[{"names":["read"],"action":"SCMP_ACT_ERRNO","errnoRet":65536}]}"#,
    ] {
        assert!(matches!(compile(&profile(json), "x86_64"), Err(Error::Invalid(_))), "{json}");
    }
}
