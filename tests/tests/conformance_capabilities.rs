//! The five capability sets: runtime-spec config.md "Linux Process", capabilities(7).

use hoy_tests::{Bundle, Run, User, cannot};
use serde_json::{Value, json};

/// The sets of a process as the kernel prints them: inheritable, permitted, effective, bounding, ambient.
const SHOW: &str = "echo $(grep ^Cap /proc/self/status | cut -f 2)";

fn hex(bits: u64) -> String {
    format!("{bits:016x}")
}

/// The capabilities that this machine's root has.
fn available() -> Vec<(u32, String)> {
    let bounding = Run::new("sh").args(["-c", "grep CapBnd /proc/self/status | cut -f 2"]).ok();
    let bits = u64::from_str_radix(&bounding, 16).unwrap();
    let features: Value = serde_json::from_str(&Run::new("hoy-runtime").arg("features").ok()).unwrap();
    let names = features["linux"]["capabilities"].as_array().unwrap().clone();
    let names =
        names.iter().enumerate().map(|(at, name)| (u32::try_from(at).unwrap(), name.as_str().unwrap().to_owned()));
    names.filter(|(at, _)| bits & (1 << at) != 0).collect()
}

#[test]
fn roots_sets() {
    for (user, mut bundle) in Bundle::each(&[User::Root, User::Sub, User::One]) {
        bundle.script(SHOW);
        for names in
            [vec![], vec![(0, "CAP_CHOWN")], vec![(5, "CAP_KILL"), (21, "CAP_SYS_ADMIN"), (10, "CAP_NET_BIND_SERVICE")]]
        {
            let bits = hex(names.iter().fold(0, |bits, (at, _)| bits | 1 << at));
            let names: Vec<&str> = names.iter().map(|(_, name)| *name).collect();
            let sets = json!({"bounding": names, "effective": names, "permitted": names});
            bundle.set("/process/capabilities", sets);
            let none = hex(0);
            let want = format!("{none} {bits} {bits} {bits} {none}");
            assert_eq!(bundle.tested(&["run", "a"]).ok(), want, "{user:?} {names:?}");
        }
    }
}

#[test]
fn every_capability_by_name() {
    for (_, mut bundle) in Bundle::each(&[User::Root]) {
        bundle.script(SHOW);
        let all = available();
        // Each third of them: every one is there once, and is missing twice.
        for third in 0..3 {
            let names: Vec<&(u32, String)> = all.iter().filter(|(at, _)| at % 3 == third).collect();
            let bits = hex(names.iter().fold(0, |bits, (at, _)| bits | 1_u64 << at));
            let names: Vec<&str> = names.iter().map(|(_, name)| name.as_str()).collect();
            bundle.set("/process/capabilities", json!({"bounding": names, "effective": names, "permitted": names}));
            let out = bundle.tested(&["run", "a"]).ok();
            assert_eq!(out.split(' ').nth(3), Some(bits.as_str()), "{names:?}: {out}");
        }
    }
}

#[test]
fn another_user_has_what_is_ambient() {
    for (user, mut bundle) in Bundle::each(&[User::Root, User::Sub]) {
        if user == User::Sub {
            bundle.map_subordinate_ids(user);
        }
        bundle.script(SHOW);
        bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
        let (one, two) = (json!(["CAP_KILL"]), json!(["CAP_KILL", "CAP_NET_RAW"]));
        bundle.set(
            "/process/capabilities",
            json!({"bounding": two, "effective": two, "permitted": two, "inheritable": two, "ambient": one}),
        );
        let (one, two, none) = (hex(1 << 5), hex(1 << 5 | 1 << 13), hex(0));
        assert_eq!(bundle.tested(&["run", "a"]).ok(), format!("{two} {one} {one} {two} {one}"), "{user:?}");
        let two = json!(["CAP_KILL", "CAP_NET_RAW"]);
        bundle.set("/process/capabilities", json!({"bounding": two, "effective": two, "permitted": two}));
        let two = hex(1 << 5 | 1 << 13);
        assert_eq!(bundle.tested(&["run", "a"]).ok(), format!("{none} {none} {none} {two} {none}"), "{user:?}");
    }
}

#[test]
fn what_is_left_out_cannot_be_done() {
    for (user, mut bundle) in Bundle::each(&[User::Root, User::Sub, User::One]) {
        bundle.script("touch /f; chmod 000 /f; cat /f && echo read; chown 0:0 /f && echo chown");
        bundle.set("/process/capabilities", json!({}));
        let out = bundle.tested(&["run", "a"]).output();
        assert!(!out.stdout.contains("read"), "{user:?} {} {}", out.stdout, out.stderr);
        let names = json!(["CAP_DAC_OVERRIDE"]);
        bundle.set("/process/capabilities", json!({"bounding": names, "effective": names, "permitted": names}));
        let out = bundle.tested(&["run", "a"]).output();
        assert!(out.stdout.contains("read"), "{user:?} {} {}", out.stdout, out.stderr);
    }
}

#[test]
fn an_unknown_name_is_no_reason_to_fail() {
    if cannot(&[("crun", "1.8.1 refuses a capability that it does not know")]) {
        return;
    }
    for (_, mut bundle) in Bundle::each(&[User::Root]) {
        bundle.script(SHOW);
        bundle.set("/process/capabilities", json!({"bounding": ["CAP_CHOWN", "CAP_FLY"]}));
        let out = bundle.tested(&["run", "a"]).output();
        assert_eq!(out.stdout.split_whitespace().nth(3), Some(hex(1).as_str()), "{}", out.stderr);
    }
}
