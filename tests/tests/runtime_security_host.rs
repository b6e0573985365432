//! What of the host's kernel a container may reach: devices, control groups, sockets, hooks' surroundings, /proc and /sys.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use hoy_tests::{Bundle, Sandbox, Tripwire, User, need_root};
use serde_json::{Value, json};

/// What `hoy-spec` makes for an image that says nothing.
fn default_config() -> Option<Value> {
    if !need_root() {
        return None;
    }
    let sandbox = Sandbox::new();
    let image = json!({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": []}});
    fs::write(sandbox.path("work/image.json"), image.to_string()).unwrap();
    fs::create_dir(sandbox.path("work/rootfs")).unwrap();
    Some(serde_json::from_str(&sandbox.ok("hoy-spec", &["--rootfs", "rootfs", "image.json"])).unwrap())
}

/// All rights over files and devices, and none over the system.
fn capabilities(names: &[&str]) -> Value {
    let names: Vec<String> = names.iter().map(|name| format!("CAP_{name}")).collect();
    json!({"bounding": names, "effective": names, "permitted": names})
}

/// GHSA-g54h-m393-cpwq: no device is allowed by an empty list, or by none at all.
#[test]
fn devices_are_denied_unless_allowed() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    bundle.set("/process/capabilities", capabilities(&["MKNOD", "DAC_OVERRIDE"]));
    // The kernel's log, the first disk, memory.
    bundle.script(
        "for d in 'c 1 11' 'b 8 0' 'b 254 0' 'c 1 1' 'c 10 229'; do mknod /d $d; for mode in '<' '>' '<>'; do \
        ( eval \"exec 3$mode /d\" ) 2>&1 | grep -q 'not permitted' || echo \"OPENED $d\"; done; rm -f /d; done; \
        cat /dev/null && echo null",
    );
    for devices in [json!([]), Value::Null] {
        bundle.set("/linux/resources/devices", devices);
        let out = bundle.hoy(&["run", "a"]).output();
        assert_eq!(out.stdout, "null\n", "{}", out.stderr);
    }
    bundle.set("/linux/resources", Value::Null);
    assert_eq!(bundle.hoy(&["run", "a"]).output().stdout, "null\n");
    let Some(config) = default_config() else { return };
    bundle.set("/linux/resources", config["linux"]["resources"].clone());
    assert_eq!(bundle.hoy(&["run", "a"]).output().stdout, "null\n");
}

/// GHSA-5g49-rx9x-qfc6: a key of `unified`, or a path of the group, leads to no other file.
#[test]
fn keys_of_control_groups_are_names() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    let victim = bundle.path("victim");
    fs::write(&victim, "mine").unwrap();
    let up = format!("{}{}", "../".repeat(12), victim.display());
    for key in [up.as_str(), "../../x", "/etc/x", "a/b", "..", ".", "", "memory.max/../../../x"] {
        bundle.set("/linux/resources/unified", json!({key: "0"}));
        let out = bundle.hoy(&["run", "a"]).output();
        assert_eq!(out.status, 1, "{key:?}: {}", out.stderr);
        assert!(out.stderr.contains("unified"), "{key:?}: {}", out.stderr);
    }
    bundle.set("/linux/resources", json!({}));
    for path in ["/../../x", "a/../../../x", "../hoy-x"] {
        bundle.set("/linux/cgroupsPath", json!(path));
        bundle.hoy(&["run", "a"]).fails(1, &["has \"..\""]);
    }
    bundle.set("/linux/cgroupsPath", Value::Null);
    bundle.set("/linux/resources", json!({"hugepageLimits": [{"pageSize": "../../x", "limit": 1}]}));
    bundle.hoy(&["run", "a"]).fails(1, &["\"hugetlb.../../x.limit_in_bytes\" is not "]);
    assert_eq!(fs::read_to_string(victim).unwrap(), "mine");
}

/// CVE-2022-0492: no group can be mounted whose release_agent would run on the host, also not in a user namespace that
/// the container makes for itself, or is given.
#[test]
fn release_agents_are_out_of_reach() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    let Some(config) = default_config() else { return };
    let attack = "#!/bin/sh\nmkdir -p /m; for c in cpu memory cpuset pids devices rdma none,name=x; do \
        mount -t cgroup -o $c c /m || continue; { echo x > /m/release_agent; } && echo WRITTEN; umount /m; done; \
        for f in /sys/fs/cgroup/*/release_agent; do { echo x > $f; } && echo WRITTEN; done; echo tried\n";
    fs::write(bundle.path("rootfs/attack"), attack).unwrap();
    fs::set_permissions(bundle.path("rootfs/attack"), fs::Permissions::from_mode(0o755)).unwrap();
    bundle.set("/process/args", json!(["sh", "-c", "/attack; unshare -Urm /attack"]));
    // Without it no user can be root of a namespace.
    bundle.set("/process/capabilities", capabilities(&["DAC_OVERRIDE", "SETFCAP"]));
    assert_eq!(bundle.hoy(&["run", "a"]).output().stdout, "tried\ntried\n");
    bundle.set("/linux/seccomp", config["linux"]["seccomp"].clone());
    bundle.set("/process/capabilities", config["process"]["capabilities"].clone());
    assert_eq!(bundle.hoy(&["run", "a"]).output().stdout.replace("tried\n", ""), "");
    bundle.push("/linux/namespaces", json!({"type": "user"}));
    let map = json!([{"containerID": 0, "hostID": 200_000, "size": 65536}]);
    bundle.set("/linux/uidMappings", map.clone());
    bundle.set("/linux/gidMappings", map);
    bundle.set("/linux/seccomp", Value::Null);
    bundle.set("/process/capabilities", capabilities(&["DAC_OVERRIDE", "SETFCAP", "SYS_ADMIN"]));
    assert_eq!(bundle.hoy(&["run", "a"]).output().stdout, "tried\ntried\n");
}

/// CVE-2023-25809: without a cgroup namespace nothing can be written to the host's groups out of a user namespace. The
/// machine's own root has his container's group, and asks for it.
#[test]
fn control_groups_of_the_host_are_read_only() {
    for (user, mapped) in [(User::Root, false), (User::Root, true), (User::Sub, true), (User::One, true)] {
        let Some(mut bundle) = Bundle::new(user) else { return };
        if user == User::Root && mapped {
            let map = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
            bundle.push("/linux/namespaces", json!({"type": "user"}));
            bundle.set("/linux/uidMappings", map.clone());
            bundle.set("/linux/gidMappings", map);
        }
        let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "cgroup");
        for mount in bundle.config["mounts"].as_array_mut().unwrap() {
            if mount["type"] == "cgroup" {
                mount["options"] = json!(["rw"]);
            }
        }
        bundle.script(
            "cd /sys/fs/cgroup; [ -e cgroup.procs ] && mkdir x && echo MADE; for d in */; do mkdir $d/x && echo MADE; \
            done; true",
        );
        let out = bundle.hoy(&["run", "a"]).output();
        if !mapped {
            assert!(out.stdout.contains("MADE"), "{} {}", out.stdout, out.stderr);
            continue;
        }
        assert!(!out.stdout.contains("MADE"), "{user:?} {} {}", out.stdout, out.stderr);
        assert!(out.stderr.contains("ead-only"), "{user:?} {} {}", out.stdout, out.stderr);
    }
}

/// Run inside a container by the test below, which is this same program: which families of sockets can be made.
#[test]
fn inside_sockets() {
    use rustix::net::{AddressFamily, SocketType, socket};
    if std::env::var_os("HOY_TEST_INSIDE").is_none() {
        return;
    }
    for (name, family) in [("inet", 2), ("alg", 38), ("vsock", 40)] {
        let made = socket(AddressFamily::from_raw(family), SocketType::SEQPACKET, None)
            .or_else(|_| socket(AddressFamily::from_raw(family), SocketType::STREAM, None));
        println!("{name}={}", made.map_or_else(|errno| errno.raw_os_error(), |_| 0));
    }
}

/// CVE-2026-31431: sockets of AF_ALG and AF_VSOCK are not for containers, by the default profile.
#[test]
fn no_sockets_of_the_kernels_own() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    let Some(config) = default_config() else { return };
    let this = std::env::current_exe().unwrap();
    bundle.push("/mounts", json!({"destination": "/probe", "source": this, "options": ["bind", "ro"]}));
    bundle.push("/process/env", json!("HOY_TEST_INSIDE=1"));
    bundle.set("/process/args", json!(["/probe", "--exact", "inside_sockets", "--nocapture", "--test-threads=1"]));
    let answers = |bundle: &Bundle| -> Vec<i32> {
        let out = bundle.hoy(&["run", "a"]).ok();
        out.lines().filter_map(|line| line.split_once('=')?.1.parse().ok()).collect()
    };
    let free = answers(&bundle);
    assert_eq!((free.len(), free[0]), (3, 0), "{free:?}");
    bundle.set("/linux/seccomp", config["linux"]["seccomp"].clone());
    let held = answers(&bundle);
    assert_eq!((held.len(), held[0]), (3, 0), "{held:?}");
    // The profile's own answer, which is not the one of a kernel that does not know the family.
    let refused = config["linux"]["seccomp"]["defaultErrnoRet"].as_i64().and_then(|n| i32::try_from(n).ok()).unwrap();
    assert!(refused != 97 && held[1..] == [refused, refused], "{free:?} {held:?}");
}

/// CVE-2025-23266, CVE-2025-23267: a hook with the host's rights has no variable of the image's or of the caller's, and
/// works in the bundle, which is the caller's. (startContainer hooks have the program's rights, and its environment.)
#[test]
fn hooks_have_an_empty_environment() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    let kinds = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];
    let seen = bundle.path("seen");
    for kind in kinds {
        // The shell itself sets these.
        let script = format!(
            "{{ echo {kind} $(pwd) $(env | grep -v -e ^PWD= -e ^_= -e ^SHLVL= -e ^OLDPWD= -e ^PATH=/sbin:); }} >> {}",
            seen.display()
        );
        let hook = |env: Value| json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": env});
        bundle.set("/hooks", bundle.config.get("hooks").cloned().unwrap_or(json!({})));
        bundle.set(&format!("/hooks/{kind}"), json!([hook(Value::Null), hook(json!(["MINE=1"]))]));
    }
    bundle.push("/process/env", json!("LD_PRELOAD=/proc/self/cwd/evil.so"));
    bundle.push("/process/env", json!("LD_LIBRARY_PATH=/proc/self/cwd"));
    bundle.set("/process/cwd", json!("/bin"));
    bundle.script("true");
    let status = bundle.hoy(&["run", "a"]).env("LD_AUDIT", "/evil.so").env("SECRET", "x").spawn().wait().unwrap();
    assert!(status.success());
    let here = bundle.path("");
    let here = here.to_str().unwrap().trim_end_matches('/');
    let want: String = kinds.iter().map(|kind| format!("{kind} {here}\n{kind} {here} MINE=1\n")).collect();
    assert_eq!(fs::read_to_string(seen).unwrap(), want);
}

/// CVE-2025-24965, CVE-2026-24834 and its kin: no annotation changes what is done, and no file of a handler of its name
/// is looked for or written.
#[test]
fn annotations_are_only_words() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    let victim = Tripwire::new(bundle.path("victim"));
    for name in [".krun_config.json", ".krun_vm.json", "config.json"] {
        symlink(victim.path().join("new"), bundle.path("rootfs").join(name)).unwrap();
    }
    let annotations = [
        ("run.oci.handler", "krun"),
        ("run.oci.delegate-cgroup", "../../x"),
        ("run.oci.seccomp_fail_unknown_syscall", "1"),
        ("run.oci.seccomp.receiver", "/no/such/socket"),
        ("run.oci.hooks.stdout", "/dev/full"),
        ("run.oci.keep_original_groups", "1"),
        ("run.oci.pidfd_receiver", "/no/such/socket"),
        ("run.oci.mount_context_type", "x"),
        ("io.katacontainers.config.hypervisor.virtio_fs_extra_args", "[\"-o\", \"x\"]"),
        ("nvidia.cdi.k8s.io/x", "nvidia.com/gpu=all"),
        ("cdi.k8s.io/x", "vendor.com/device=all"),
    ];
    bundle.script("id; grep -c . /proc/self/mountinfo; grep -E '^(Cap|Seccomp|NoNew)' /proc/self/status; ls -A / /dev");
    let plain = bundle.hoy(&["run", "a"]).ok();
    bundle.set("/annotations", annotations.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect());
    assert_eq!(bundle.hoy(&["run", "a"]).ok(), plain);
    victim.check();
}

/// CVE-2018-10892, CVE-2020-8694, GHSA-7ww5, GHSA-6fw5, GHSA-jq35: what /proc and /sys say about the machine is hidden.
#[test]
fn the_machine_is_hidden() {
    let Some(config) = default_config() else { return };
    let has = |list: &str, path: &str| config["linux"][list].as_array().unwrap().iter().any(|found| found == path);
    let masked = [
        "/proc/acpi",
        "/proc/asound",
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/sys/devices/virtual/powercap",
        "/sys/firmware",
        "/sys/fs/selinux",
    ];
    for path in masked {
        assert!(has("maskedPaths", path), "{path}");
    }
    for path in ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"] {
        assert!(has("readonlyPaths", path), "{path}");
    }
    for entry in fs::read_dir("/sys/devices/system/cpu").unwrap() {
        let throttle = entry.unwrap().path().join("thermal_throttle");
        assert!(!throttle.exists() || has("maskedPaths", throttle.to_str().unwrap()), "{}", throttle.display());
    }
    // And what is listed is so in a container.
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    for list in ["maskedPaths", "readonlyPaths"] {
        bundle.set(&format!("/linux/{list}"), config["linux"][list].clone());
    }
    bundle.set("/process/capabilities", capabilities(&["DAC_OVERRIDE", "FOWNER"]));
    bundle.script(&format!(
        "for p in {}; do [ -d $p ] && ls -A $p; [ -f $p ] && echo $p; [ -c $p ] && cat $p; done; \
        echo x > /proc/sys/kernel/core_pattern; for f in /proc/irq/*; do mkdir $f/x; done",
        masked.join(" ")
    ));
    let out = bundle.hoy(&["run", "a"]).output();
    assert_eq!(out.stdout, "", "{}", out.stderr);
    assert!(out.stderr.contains("core_pattern: Read-only file system"), "{}", out.stderr);
}
