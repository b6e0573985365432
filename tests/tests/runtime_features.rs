//! `hoy-runtime features` tells the truth: what it lists is tried (runtime-spec features.md).

use hoy_tests::{Bundle, User};
use serde_json::{Value, json};

fn features(bundle: &Bundle) -> Value {
    serde_json::from_str(&bundle.hoy(&["features"]).ok()).unwrap()
}

fn words(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_version_namespace_and_capability_is_taken() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    let features = features(&bundle);
    let capabilities = &features["linux"]["capabilities"];
    for name in ["bounding", "effective", "permitted"] {
        bundle.set(&format!("/process/capabilities/{name}"), capabilities.clone());
    }
    let namespaces = words(&features["linux"]["namespaces"]);
    let list: Vec<Value> = namespaces.iter().filter(|n| *n != "user").map(|n| json!({"type": n})).collect();
    assert_eq!(namespaces.len(), 8);
    bundle.set("/linux/namespaces", json!(list));
    bundle.script("echo ran");
    for version in ["ociVersionMin", "ociVersionMax"] {
        bundle.set("/ociVersion", features[version].clone());
        let out = bundle.hoy(&["run", "a"]).output();
        assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("ran\n", ""), "{version}");
    }
}

#[test]
fn every_mount_option_is_known() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    let options = words(&features(&bundle)["mountOptions"]);
    assert!(options.len() > 60, "{options:?}");
    std::fs::create_dir(bundle.path("source")).unwrap();
    let before = bundle.config["mounts"].as_array().unwrap().len();
    for (at, option) in options.iter().enumerate() {
        let destination = format!("/at/{at}");
        let mut mount = match option.as_str() {
            "bind" | "rbind" | "idmap" | "ridmap" | "src-nofollow" | "dest-nofollow" | "copy-symlink" => {
                json!({"source": "source", "options": ["bind", option]})
            }
            "remount" => json!({"type": "tmpfs", "options": ["remount"]}),
            _ => json!({"type": "tmpfs", "source": "tmpfs", "options": [option]}),
        };
        mount["destination"] = json!(destination);
        let point = bundle.path("rootfs").join(&destination[1..]);
        std::fs::create_dir_all(point).unwrap();
        match option.as_str() {
            // What maps ids is tried where file systems can: conformance_mounts.
            "idmap" | "ridmap" => continue,
            "remount" => {
                bundle.push("/mounts", json!({"destination": destination, "type": "tmpfs", "source": "tmpfs"}));
            }
            _ => {}
        }
        bundle.push("/mounts", mount);
    }
    // The mount that is mounted again is one.
    let tried = bundle.config["mounts"].as_array().unwrap().len() - before - 1;
    bundle.script("grep -c ' /at/' /proc/self/mountinfo");
    assert_eq!(bundle.hoy(&["run", "a"]).ok(), tried.to_string());
}

#[test]
fn memory_policies_hooks_and_filters_are_taken() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    let features = features(&bundle);
    bundle.script("echo ran");
    let policy = &features["linux"]["memoryPolicy"];
    assert_eq!((words(&policy["modes"]).len(), words(&policy["flags"]).len()), (7, 3));
    for mode in words(&policy["modes"]) {
        let nodes = if ["MPOL_DEFAULT", "MPOL_LOCAL"].contains(&mode.as_str()) { "" } else { "0" };
        bundle.set("/linux/memoryPolicy", json!({"mode": mode, "nodes": nodes}));
        let out = bundle.hoy(&["run", "a"]).output();
        // Known here, and newer than some kernels.
        let is_old = mode == "MPOL_WEIGHTED_INTERLEAVE" && out.stderr.contains("invalid argument");
        assert!(is_old || out.stdout == "ran\n", "{mode}: {}", out.stderr);
    }
    for flag in words(&policy["flags"]) {
        bundle.set("/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "0", "flags": [flag]}));
        assert_eq!(bundle.hoy(&["run", "a"]).ok(), "ran", "{flag}");
    }
    let log = bundle.path("log");
    for kind in words(&features["hooks"]) {
        // A hook of the container's own namespace finds its program there.
        let script = format!("echo {kind} >>{}", if kind == "startContainer" { "/log" } else { log.to_str().unwrap() });
        bundle.config["hooks"][&kind] = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
    }
    let seccomp = &features["linux"]["seccomp"];
    let calls: Vec<Value> = words(&seccomp["operators"])
        .iter()
        .map(|op| json!({"names": ["mknod"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 7, "op": op}]}))
        .collect();
    bundle.set(
        "/linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": seccomp["archs"],
        "flags": seccomp["supportedFlags"], "syscalls": calls}),
    );
    assert_eq!(bundle.hoy(&["run", "a"]).ok(), "ran");
    let ran = std::fs::read_to_string(&log).unwrap();
    assert_eq!(ran, "prestart\ncreateRuntime\ncreateContainer\npoststart\npoststop\n");
    assert_eq!(std::fs::read_to_string(bundle.path("rootfs/log")).unwrap(), "startContainer\n");
}
