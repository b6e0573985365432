//! Filters of system calls: runtime-spec config-linux.md "Seccomp", seccomp(2).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use hoy_tests::{Bundle, Run, User, cannot, skip};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::{Value, json};

const ALL: &[User] = &[User::Root, User::Sub, User::One];

/// Everything is allowed but `rules`.
fn but(rules: Value) -> Value {
    json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules})
}

#[test]
fn every_action() {
    for (user, mut bundle) in Bundle::each(ALL) {
        bundle.script("sh -c 'hostname y 2>/dev/null'; echo $?; grep Seccomp: /proc/self/status");
        // As a shell tells of the end: 159 is SIGSYS; 1 is the failure of hostname(1).
        let cases = [
            ("SCMP_ACT_ERRNO", 1),
            ("SCMP_ACT_TRAP", 159),
            ("SCMP_ACT_KILL", 159),
            ("SCMP_ACT_KILL_THREAD", 159),
            ("SCMP_ACT_KILL_PROCESS", 159),
            // Nobody traces it: the call is not made, and fails.
            ("SCMP_ACT_TRACE", 1),
        ];
        for (action, want) in cases {
            bundle.set("/linux/seccomp", but(json!([{"names": ["sethostname"], "action": action}])));
            for no_new_privileges in [true, false] {
                bundle.set("/process/noNewPrivileges", json!(no_new_privileges));
                let out = bundle.tested(&["run", "a"]).output();
                assert_eq!(out.stdout, format!("{want}\nSeccomp:\t2\n"), "{user:?} {action} {}", out.stderr);
            }
        }
        // What is allowed or only written down happens.
        bundle.set(
            "/process/capabilities",
            json!({"bounding": ["CAP_SYS_ADMIN"], "effective": ["CAP_SYS_ADMIN"],
            "permitted": ["CAP_SYS_ADMIN"]}),
        );
        for action in ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG"] {
            let mut profile = but(json!([{"names": ["sethostname"], "action": action}]));
            if action == "SCMP_ACT_ALLOW" {
                // A rule that says what is so anyway is refused by libseccomp: the default is another one.
                profile = json!({"defaultAction": "SCMP_ACT_LOG", "syscalls": profile["syscalls"]});
            }
            bundle.set("/linux/seccomp", profile);
            let out = bundle.tested(&["run", "a"]).output();
            assert_eq!(out.stdout, "0\nSeccomp:\t2\n", "{user:?} {action} {}", out.stderr);
        }
    }
}

#[test]
fn the_error_is_the_one_that_is_given() {
    for (_, mut bundle) in Bundle::each(&[User::Root]) {
        bundle.script("mkdir /x; true");
        for (errno, want) in [
            (Value::Null, "not permitted"),
            (json!(71), "Protocol error"),
            (json!(13), "denied"),
            (json!(38), "not implemented"),
        ] {
            let mut rule = json!({"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"});
            if !errno.is_null() {
                rule["errnoRet"] = errno;
            }
            bundle.set("/linux/seccomp", but(json!([rule])));
            let out = bundle.tested(&["run", "a"]).output();
            assert!(out.stderr.contains(want) && !bundle.path("rootfs/x").exists(), "{want}: {}", out.stderr);
        }
    }
}

/// The profile that images get by default, turned: what it does not list has another error.
#[test]
fn the_error_of_what_is_not_listed() {
    for (_, mut bundle) in Bundle::each(&[User::Root]) {
        let image = json!({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": []}});
        fs::write(bundle.path("image.json"), image.to_string()).unwrap();
        let text = Run::new("hoy-spec").args(["--rootfs", "rootfs", "image.json"]).dir(bundle.path("")).ok();
        let mut profile = serde_json::from_str::<Value>(&text).unwrap()["linux"]["seccomp"].clone();
        for rule in profile["syscalls"].as_array_mut().unwrap() {
            rule["names"].as_array_mut().unwrap().retain(|name| name != "mkdir" && name != "mkdirat");
        }
        profile["syscalls"]
            .as_array_mut()
            .unwrap()
            .retain(|rule| rule["names"].as_array().is_some_and(|n| !n.is_empty()));
        bundle.script("mkdir /x; echo $?");
        for (errno, want) in [(71, "Protocol error"), (38, "not implemented"), (1, "not permitted")] {
            profile["defaultErrnoRet"] = json!(errno);
            bundle.set("/linux/seccomp", profile.clone());
            let out = bundle.tested(&["run", "a"]).output();
            assert!(out.stderr.contains(want) && out.stdout == "1\n", "{want}: {} {}", out.stdout, out.stderr);
        }
    }
}

/// chmod(2) has the mode as its second argument, fchmodat(2) as its third.
fn chmod(conditions: &[Value]) -> Value {
    let rules = [("chmod", 1), ("fchmodat", 2), ("fchmodat2", 2)].map(|(name, index)| {
        let at = |condition: &Value| {
            let mut condition = condition.clone();
            condition["index"] = json!(index);
            condition
        };
        let args: Vec<Value> = conditions.iter().map(at).collect();
        json!({"names": [name], "action": "SCMP_ACT_ERRNO", "args": args})
    });
    but(json!(rules))
}

#[test]
fn every_operator() {
    for (_, mut bundle) in Bundle::each(&[User::Root]) {
        fs::write(bundle.path("rootfs/f"), "").unwrap();
        bundle.script("for m in 600 644 755; do chmod $m /f 2>/dev/null && echo $m; done; true");
        let (low, middle) = (0o600, 0o644);
        let cases = [
            (json!({"op": "SCMP_CMP_EQ", "value": middle}), "600 755"),
            (json!({"op": "SCMP_CMP_NE", "value": middle}), "644"),
            (json!({"op": "SCMP_CMP_LT", "value": middle}), "644 755"),
            (json!({"op": "SCMP_CMP_LE", "value": middle}), "755"),
            (json!({"op": "SCMP_CMP_GT", "value": middle}), "600 644"),
            (json!({"op": "SCMP_CMP_GE", "value": middle}), "600"),
            (json!({"op": "SCMP_CMP_MASKED_EQ", "value": 0o111, "valueTwo": 0o111}), "600 644"),
            (json!({"op": "SCMP_CMP_MASKED_EQ", "value": 0o077, "valueTwo": 0}), "644 755"),
            (json!({"op": "SCMP_CMP_GT", "value": low}), "600"),
            // The kernel compares 64 bits: what differs above the lower 32 is another value.
            (json!({"op": "SCMP_CMP_EQ", "value": (1_u64 << 32) | 0o644}), "600 644 755"),
            (json!({"op": "SCMP_CMP_LT", "value": 1_u64 << 32}), ""),
            (json!({"op": "SCMP_CMP_GE", "value": 1_u64 << 63}), "600 644 755"),
        ];
        for (condition, want) in cases {
            bundle.set("/linux/seccomp", chmod(std::slice::from_ref(&condition)));
            let out = bundle.tested(&["run", "a"]).output();
            let allowed: Vec<&str> = out.stdout.split_whitespace().collect();
            assert_eq!(allowed.join(" "), want, "{condition} {}", out.stderr);
        }
    }
}

/// All conditions of a rule must hold; of several rules one.
#[test]
fn conditions_and_rules_together() {
    for (_, mut bundle) in Bundle::each(&[User::Root]) {
        bundle.script(
            "for s in HUP USR1 USR2; do sh -c \"trap '' $s; kill -$s \\$\\$\" 2>/dev/null && echo $s; done; true",
        );
        // kill(2): the process, the signal.
        let rule =
            |args: Value| json!({"names": ["kill", "tgkill", "tkill"], "action": "SCMP_ACT_ERRNO", "args": args});
        let signal = |number: u32| json!({"index": 1, "op": "SCMP_CMP_EQ", "value": number});
        let more = |than: u32| json!({"index": 0, "op": "SCMP_CMP_GT", "value": than});
        for (rules, want) in [
            (json!([rule(json!([signal(1), more(0)]))]), "USR1 USR2"),
            (json!([rule(json!([signal(1), more(1_000_000)]))]), "HUP USR1 USR2"),
            (json!([rule(json!([signal(1)])), rule(json!([signal(12)]))]), "USR1"),
        ] {
            bundle.set("/linux/seccomp", but(rules.clone()));
            let out = bundle.tested(&["run", "a"]).output();
            let allowed: Vec<&str> = out.stdout.split_whitespace().collect();
            assert_eq!(allowed.join(" "), want, "{rules} {}", out.stderr);
        }
    }
}

#[test]
fn flags() {
    for (_, mut bundle) in Bundle::each(&[User::Root]) {
        bundle.script("mkdir /x; grep Seccomp: /proc/self/status");
        for flags in [
            json!([]),
            json!(["SECCOMP_FILTER_FLAG_LOG"]),
            json!(["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]),
            json!(["SECCOMP_FILTER_FLAG_TSYNC"]),
            json!(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]),
        ] {
            if flags != json!([]) && cannot(&[("runc", "Debian's 1.1.5 supports no flags")]) {
                return;
            }
            let mut profile = but(json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 71}]));
            profile["flags"] = flags.clone();
            bundle.set("/linux/seccomp", profile);
            let out = bundle.tested(&["run", "a"]).output();
            assert!(out.stdout == "Seccomp:\t2\n" && out.stderr.contains("Protocol"), "{flags} {}", out.stderr);
        }
    }
}

#[test]
fn what_is_unknown() {
    for (_, mut bundle) in Bundle::each(&[User::Root]) {
        bundle.script("mkdir /x; true");
        // A call of another kernel is passed over.
        let names = json!(["no_such_call", "mkdir", "mkdirat", "another_of_2199"]);
        bundle.set("/linux/seccomp", but(json!([{"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": 71}])));
        let out = bundle.tested(&["run", "a"]).output();
        assert!(out.stderr.contains("Protocol error"), "{}", out.stderr);
        // An action, an operator, an architecture or a flag that is not known is an error.
        let rule = json!([{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]);
        let strange = json!([{"index": 0, "op": "SCMP_CMP_ABOUT", "value": 1}]);
        for profile in [
            json!({"defaultAction": "SCMP_ACT_FORGIVE"}),
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_X"}]}),
            json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_PDP11"], "syscalls": rule}),
            json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_X"], "syscalls": rule}),
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "args": strange}]}),
        ] {
            bundle.set("/linux/seccomp", profile.clone());
            assert_ne!(bundle.tested(&["run", "a"]).output().status, 0, "{profile}");
        }
    }
}

/// A program of 32 bits: mkdir(2), then exit(2) with its error number.
#[cfg(target_arch = "x86_64")]
fn program_of_32_bits() -> Vec<u8> {
    let base = 0x0804_8000_u32;
    let code: Vec<u8> = [
        &[0xb8, 39, 0, 0, 0, 0xbb][..],
        &(base + 0x74).to_le_bytes(),
        &[0xb9, 0xff, 1, 0, 0, 0xcd, 0x80, 0xf7, 0xd8, 0x89, 0xc3, 0xb8, 1, 0, 0, 0, 0xcd, 0x80],
    ]
    .concat();
    let size = 0x74 + 4_u32;
    let header: [u32; 9] = [0x0003_0002, 1, base + 0x54, 52, 0, 0, 0x0020_0034, 1, 0];
    let segment: [u32; 8] = [1, 0, base, base, size, size, 5, 0x1000];
    let mut file = vec![0x7f, b'E', b'L', b'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    file.extend(header.iter().chain(&segment).flat_map(|word| word.to_le_bytes()));
    file.resize(0x54, 0);
    file.extend(code);
    file.resize(0x74, 0);
    file.extend(b"/x\0\0");
    file
}

/// Calls by another architecture's numbers are judged by that architecture's names, and end the process where it is
/// not listed.
#[cfg(target_arch = "x86_64")]
#[test]
fn other_architectures() {
    for (_, mut bundle) in Bundle::each(&[User::Root]) {
        let path = bundle.path("rootfs/small");
        fs::write(&path, program_of_32_bits()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        // /x is there already: the error of the call itself is 17.
        fs::create_dir(bundle.path("rootfs/x")).unwrap();
        bundle.script("/small; echo $?; mkdir /y 2>&1 | grep -c Protocol");
        bundle.set("/linux/seccomp", Value::Null);
        let free = bundle.tested(&["run", "a"]).output();
        if free.stdout != "17\n0\n" {
            return skip(&format!("this kernel runs no programs of 32 bits: {}", free.stdout.trim()));
        }
        fs::remove_dir(bundle.path("rootfs/y")).unwrap();
        let rule = json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 71}]);
        for (architectures, want) in [
            (json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]), "71\n1\n"),
            (json!(["SCMP_ARCH_X86_64"]), "159\n1\n"),
            (json!([]), "159\n1\n"),
        ] {
            let mut profile = but(rule.clone());
            profile["architectures"] = architectures.clone();
            bundle.set("/linux/seccomp", profile);
            let out = bundle.tested(&["run", "a"]).output();
            assert_eq!(out.stdout, want, "{architectures} {}", out.stderr);
        }
    }
}

#[test]
fn another_program_is_held_too() {
    for (user, mut bundle) in Bundle::each(ALL) {
        let rule = json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 71}]);
        bundle.set("/linux/seccomp", but(rule));
        bundle.script("sleep 1000");
        bundle.leave_tested(&["run", "-d", "a"]);
        let out = bundle.tested(&["exec", "a", "mkdir", "/x"]).output();
        assert!(out.stderr.contains("Protocol error"), "{user:?} {}", out.stderr);
        bundle.tested(&["delete", "--force", "a"]).ok();
    }
}

#[test]
fn notifications_reach_their_listener() {
    for (user, mut bundle) in Bundle::each(&[User::Root, User::One]) {
        let path = bundle.path("listener");
        let listener = UnixListener::bind(&path).unwrap();
        let (uid, gid) = user.ids().unwrap();
        std::os::unix::fs::chown(&path, Some(uid), Some(gid)).unwrap();
        bundle.set(
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "listenerMetadata": "mine",
                "syscalls": [{"names": ["sethostname"], "action": "SCMP_ACT_NOTIFY"}]}),
        );
        bundle.set("/annotations", json!({"org.example.key": "value"}));
        bundle.script("hostname y 2>/dev/null; echo $?");
        let receiver = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut bytes = vec![0; 65536];
            let mut parts = [std::io::IoSliceMut::new(&mut bytes)];
            let got = recvmsg(&stream, &mut parts, &mut control, RecvFlags::empty()).unwrap();
            // Each descriptor is dropped without an answer: the call then fails.
            let count: usize = control
                .drain()
                .map(|message| if let RecvAncillaryMessage::ScmRights(fds) = message { fds.count() } else { 0 })
                .sum();
            (count, serde_json::from_slice::<Value>(&bytes[..got.bytes]).unwrap())
        });
        let out = bundle.tested(&["run", "a"]).output();
        assert_eq!(out.stdout, "1\n", "{user:?} {}", out.stderr);
        let (count, message) = receiver.join().unwrap();
        assert_eq!(
            (count, &message["metadata"], &message["fds"]),
            (1, &json!("mine"), &json!(["seccompFd"])),
            "{user:?}"
        );
        assert!(message["pid"].as_i64().is_some_and(|pid| pid > 1), "{message}");
        assert_eq!(
            (&message["state"]["id"], &message["state"]["annotations"]["org.example.key"]),
            (&json!("a"), &json!("value"))
        );
        // Debian's crun says 0.2.0.
        assert!(message["ociVersion"].is_string(), "{message}");
    }
}

#[test]
fn a_listener_that_is_not_there_is_an_error() {
    if cannot(&[("crun", "1.8.1 begins the program though nobody listens")]) {
        return;
    }
    for (_, mut bundle) in Bundle::each(&[User::Root]) {
        let rule = json!([{"names": ["sethostname"], "action": "SCMP_ACT_NOTIFY"}]);
        let missing = json!("/no/such/listener");
        bundle.script("echo program");
        for path in [missing, Value::Null] {
            let mut profile = but(rule.clone());
            if !path.is_null() {
                profile["listenerPath"] = path;
            }
            bundle.set("/linux/seccomp", profile);
            let out = bundle.tested(&["run", "a"]).output();
            assert!(out.status != 0 && out.stdout.is_empty(), "{} {}", out.stdout, out.stderr);
        }
    }
}
