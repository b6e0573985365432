//! The runtime against hostile images and configurations: the rows of this field's known vulnerabilities.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, symlink};

use hoy_tests::{Bundle, Run, User, program};
use serde_json::json;

/// CVE-2024-21626: a working directory that a leaked descriptor leads out to.
#[test]
fn no_working_directory_through_a_descriptor() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    for fd in 0..24 {
        bundle.set("/process/cwd", json!(format!("/proc/self/fd/{fd}")));
        bundle.hoy(&["run", "a"]).fails(1, &["enter working directory"]);
    }
    bundle.set("/process/cwd", json!("/"));
    bundle.script("sleep 100");
    bundle.leave(&["run", "-d", "a"]);
    for fd in 3..12 {
        let cwd = format!("/proc/self/fd/{fd}");
        bundle.hoy(&["exec", "--cwd", &cwd, "a", "true"]).fails(255, &["enter working directory"]);
    }
    bundle.hoy(&["delete", "-f", "a"]).ok();
}

/// CVE-2019-19921, CVE-2023-27561, CVE-2025-62161: /proc or /sys of the image is a symlink.
#[test]
fn proc_and_sys_are_themselves_or_nothing() {
    for name in ["proc", "sys"] {
        for target in ["../../victim", "/bin", "/etc"] {
            let Some(bundle) = Bundle::new(User::Root) else { return };
            fs::create_dir(bundle.path("victim")).unwrap();
            symlink(target, bundle.path("rootfs").join(name)).unwrap();
            bundle.hoy(&["run", "a"]).fails(1, &[&format!("open \"/{name}\" in the container")]);
            assert_eq!(fs::read_dir(bundle.path("victim")).unwrap().count(), 0);
        }
    }
}

/// CVE-2026-41579, CVE-2026-47766: /dev of the image is a symlink out of it.
#[test]
fn devices_are_made_inside() {
    for with_mounts in [true, false] {
        for relative in [true, false] {
            let Some(mut bundle) = Bundle::new(User::Root) else { return };
            let victim = bundle.path("victim");
            fs::create_dir(&victim).unwrap();
            fs::write(victim.join("ptmx"), "mine").unwrap();
            let target = if relative { "../../../../../../victim".into() } else { victim.clone() };
            symlink(target, bundle.path("rootfs/dev")).unwrap();
            if !with_mounts {
                let mounts = bundle.config["mounts"].as_array_mut().unwrap();
                mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
            }
            bundle.script("true");
            bundle.hoy(&["run", "a"]).output();
            let names: Vec<_> = fs::read_dir(&victim).unwrap().map(|e| e.unwrap().file_name()).collect();
            assert_eq!(names, ["ptmx"]);
            assert_eq!(fs::read_to_string(victim.join("ptmx")).unwrap(), "mine");
        }
    }
}

/// CVE-2018-, -2021- and 2024-class: targets of mounts through symlinks of the image.
#[test]
fn mounts_stay_inside() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    let victim = bundle.path("victim");
    fs::create_dir(&victim).unwrap();
    symlink(&victim, bundle.path("rootfs/absolute")).unwrap();
    symlink("../../victim", bundle.path("rootfs/relative")).unwrap();
    for destination in ["/absolute/a", "/relative/b", "/x/../../../../victim/c"] {
        bundle.push("/mounts", json!({"destination": destination, "type": "tmpfs", "source": "tmpfs"}));
        bundle.push(
            "/mounts",
            json!({"destination": format!("{destination}-file"), "source": "/etc/hostname", "options": ["bind"]}),
        );
    }
    bundle.hoy(&["run", "a"]).output();
    assert_eq!(fs::read_dir(&victim).unwrap().count(), 0);
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(victim.to_str().unwrap()), "{mounts}");
}

/// CVE-2021-30465, CVE-2024-45310: the target of a mount is exchanged with a symlink all the while.
#[test]
fn mounts_stay_inside_while_somebody_renames() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    let victim = bundle.path("victim");
    let shared = bundle.path("rootfs/shared");
    fs::create_dir(&victim).unwrap();
    fs::create_dir_all(shared.join("target")).unwrap();
    symlink(&victim, shared.join("link")).unwrap();
    symlink("/../../../../../../../../../", shared.join("up")).unwrap();
    bundle.push("/mounts", json!({"destination": "/shared/target/new/dir", "type": "tmpfs", "source": "tmpfs"}));
    bundle.push("/mounts", json!({"destination": "/shared/target", "type": "tmpfs", "source": "tmpfs"}));
    bundle.script("true");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            use rustix::fs::{CWD, RenameFlags, renameat_with};
            while !stop.load(Ordering::Relaxed) {
                for other in ["link", "up"] {
                    let (one, two) = (shared.join("target"), shared.join(other));
                    renameat_with(CWD, &one, CWD, &two, RenameFlags::EXCHANGE).unwrap();
                    renameat_with(CWD, &one, CWD, &two, RenameFlags::EXCHANGE).unwrap();
                }
            }
        });
        for _ in 0..60 {
            // It may fail; it may not lead out.
            bundle.hoy(&["run", "a"]).output();
            assert_eq!(fs::read_dir(&victim).unwrap().count(), 0);
            assert!(!std::path::Path::new("/new").exists());
        }
        stop.store(true, Ordering::Relaxed);
    });
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(victim.to_str().unwrap()), "{mounts}");
    assert_eq!(bundle.hoy(&["list", "-q"]).ok(), "");
}

/// A listener gets the descriptor of notifications, and answers them.
#[test]
fn seccomp_notifications_reach_their_listener() {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    let path = bundle.path("listener");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    bundle.set(
        "/linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "listenerMetadata": "mine",
        "syscalls": [{"names": ["sethostname"], "action": "SCMP_ACT_NOTIFY"}]}),
    );
    bundle.script("hostname y; echo $?");
    let receiver = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = vec![0; 65536];
        let mut parts = [std::io::IoSliceMut::new(&mut bytes)];
        let got = recvmsg(&stream, &mut parts, &mut control, RecvFlags::empty()).unwrap();
        let fds = control.drain().filter_map(|m| match m {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds.count()),
            _ => None,
        });
        let count: usize = fds.sum();
        (count, serde_json::from_slice::<serde_json::Value>(&bytes[..got.bytes]).unwrap())
    });
    // The descriptor is dropped without an answer: the call fails with ENOSYS.
    let out = bundle.hoy(&["run", "a"]).output();
    let (count, message) = receiver.join().unwrap();
    assert_eq!((count, &message["metadata"], &message["fds"]), (1, &json!("mine"), &json!(["seccompFd"])));
    assert_eq!(out.stdout, "1\n", "{}", out.stderr);
}

/// CVE-2025-31133: the null device that masks is the host's own, whatever the image has at /dev/null.
#[test]
fn masks_hold_whatever_the_image_has() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    bundle.script(
        "cat /proc/keys /proc/timer_list | wc -c; echo x > /proc/sys/kernel/core_pattern; ls /proc/acpi /sys/firmware",
    );
    let out = bundle.hoy(&["run", "a"]).output();
    assert!(out.stdout.starts_with("0\n"), "{}", out.stdout);
    assert!(out.stderr.contains("Read-only file system"), "{}", out.stderr);
    let before = fs::read("/proc/sys/kernel/core_pattern").unwrap();
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    fs::create_dir_all(bundle.path("rootfs/dev")).unwrap();
    symlink("/proc/sys/kernel/core_pattern", bundle.path("rootfs/dev/null")).unwrap();
    bundle.script("echo x > /proc/keys");
    bundle.hoy(&["run", "a"]).output();
    assert_eq!(fs::read("/proc/sys/kernel/core_pattern").unwrap(), before);
}

/// No descriptor of the caller's reaches the program but those it asked for.
#[test]
fn no_descriptor_leaks() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    let leak = fs::File::open("/etc").unwrap();
    let kept = rustix::io::dup(&leak).unwrap();
    assert!(kept.as_raw_fd() > 2);
    bundle.script("cd /proc/self/fd; for fd in *; do readlink $fd; done | grep -v -e '^pipe:' -e '^/proc/'; true");
    assert_eq!(bundle.hoy(&["run", "a"]).ok(), "");
    bundle.script("sleep 100");
    bundle.leave(&["run", "-d", "a"]);
    let list =
        "cd /proc/self/fd; for fd in *; do readlink $fd; done | grep -v -e '^pipe:' -e '^/proc/' -e '^socket:'; true";
    assert_eq!(bundle.hoy(&["exec", "a", "sh", "-c", list]).ok(), "");
    bundle.hoy(&["delete", "-f", "a"]).ok();
}

/// CVE-2022-29162 and its kin; CVE-2025-27612.
#[test]
fn capabilities_are_what_the_configuration_says() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    bundle.script("grep Cap /proc/self/status | tr -d '\\t' | tr '\\n' ' '; sleep 1000");
    bundle.set("/process/args", json!(["/bin/sleep", "1000"]));
    bundle.leave(&["run", "-d", "a"]);
    let status = |args: &[&str]| {
        let all = [&["exec"], args, &["a", "sh", "-c", "grep Cap /proc/self/status | cut -f2 | tr '\\n' ' '"]].concat();
        bundle.hoy(&all).ok()
    };
    let want = "0000000000000000 0000000020000420 0000000020000420 0000000020000420 0000000000000000";
    assert_eq!(status(&[]), want);
    assert_eq!(status(&["--cap", "CAP_SYS_ADMIN", "--cap", "CAP_KILL"]), want);
    for (user, id) in [("1", "1"), ("1000:5", "1000")] {
        assert_eq!(bundle.hoy(&["exec", "-u", user, "a", "id", "-u"]).ok(), id);
    }
    for user in ["", "-1", "1x", "4294967296", "root", ":1"] {
        bundle.hoy(&["exec", &format!("--user={user}"), "a", "id", "-u"]).fails(255, &["is not UID or UID:GID"]);
    }
    bundle.hoy(&["delete", "-f", "a"]).ok();
    bundle.set("/process/capabilities", json!({"bounding": ["CAP_CHOWN", "CAP_FLY"]}));
    bundle.script("grep CapBnd /proc/self/status");
    let out = bundle.hoy(&["run", "a"]).output();
    assert_eq!(out.stdout, "CapBnd:\t0000000000000001\n");
    assert!(out.stderr.contains("unknown capability \"CAP_FLY\" is left out"), "{}", out.stderr);
}

/// CVE-2019-5736: the runtime's own file cannot be written from inside.
#[test]
fn the_runtime_is_out_of_reach() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    let before = Run::new("sha256sum").arg(program("hoy-runtime")).ok();
    fs::write(bundle.path("rootfs/again"), "#!/proc/self/exe\n").unwrap();
    fs::set_permissions(bundle.path("rootfs/again"), fs::Permissions::from_mode(0o755)).unwrap();
    let all: Vec<String> = ["CHOWN", "DAC_OVERRIDE", "SYS_PTRACE", "SYS_ADMIN"].map(|c| format!("CAP_{c}")).to_vec();
    bundle.set("/process/capabilities", json!({"bounding": all, "effective": all, "permitted": all}));
    bundle.set("/process/args", json!(["/bin/sleep", "1000"]));
    bundle.leave(&["run", "-d", "a"]);
    // The runtime runs inside, started again by its own name; its file is opened for writing through /proc.
    let attack = "/again exec --help >/dev/null 2>&1 & p=$!; i=0; while [ $i -lt 50 ]; do \
        echo x 2>/dev/null > /proc/$p/exe && echo WRITTEN; i=$((i+1)); done; true";
    let out = bundle.hoy(&["exec", "a", "sh", "-c", attack]).output();
    assert!(!out.stdout.contains("WRITTEN"), "{}", out.stdout);
    bundle.hoy(&["exec", "a", "/proc/self/exe", "--version"]).output();
    bundle.hoy(&["delete", "-f", "a"]).ok();
    assert_eq!(Run::new("sha256sum").arg(program("hoy-runtime")).ok(), before);
}

/// GHSA-g54h: no device is allowed by an empty list.
#[test]
fn devices_are_denied_unless_allowed() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    bundle.set("/linux/resources/devices", json!([]));
    let all = json!(["CAP_MKNOD", "CAP_DAC_OVERRIDE"]);
    bundle.set("/process/capabilities", json!({"bounding": all, "effective": all, "permitted": all}));
    bundle.script("mknod /kmsg c 1 11 && cat /kmsg > /dev/null; echo $?; cat /dev/null && echo null");
    let out = bundle.hoy(&["run", "a"]).output();
    assert!(out.stdout.ends_with("null\n") && !out.stdout.starts_with("0\n"), "{} {}", out.stdout, out.stderr);
    assert!(out.stderr.contains("ermi"), "{}", out.stderr);
}

#[test]
fn seccomp_filters_what_the_profile_says() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    bundle.set("/process/noNewPrivileges", json!(false));
    let calls = json!([
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 71},
        {"names": ["sethostname"], "action": "SCMP_ACT_KILL_PROCESS"}
    ]);
    bundle.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": calls}));
    bundle.script("mkdir /x; sh -c 'hostname y'; echo $?; grep Seccomp: /proc/self/status");
    for no_new_privileges in [true, false] {
        bundle.set("/process/noNewPrivileges", json!(no_new_privileges));
        let out = bundle.hoy(&["run", "a"]).output();
        assert!(out.stderr.contains("Protocol error"), "{}", out.stderr);
        assert_eq!(out.stdout, "159\nSeccomp:\t2\n");
    }
}

/// CVE-2023-25809: without a cgroup namespace an ordinary user's container cannot write to the host's groups.
#[test]
fn control_groups_of_the_host_are_read_only() {
    let Some(mut bundle) = Bundle::new(User::Sub) else { return };
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "cgroup");
    for mount in bundle.config["mounts"].as_array_mut().unwrap() {
        if mount["type"] == "cgroup" {
            mount["options"] = json!(["rw"]);
        }
    }
    // The one hierarchy of v2, or each of v1.
    bundle.script("cd /sys/fs/cgroup; for f in cgroup.procs */cgroup.procs; do [ ! -e $f ] || ! mkdir ${f%cgroup.procs}x || echo MADE; done");
    let out = bundle.hoy(&["run", "a"]).output();
    assert!(!out.stdout.contains("MADE") && out.stderr.contains("ead-only"), "{} {}", out.stdout, out.stderr);
}

#[test]
fn limits_that_may_not_be_raised_are_clamped() {
    let Some(mut bundle) = Bundle::new(User::One) else { return };
    bundle.set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "hard": 99_999_999, "soft": 99_999_999}]));
    let out = bundle.hoy(&["run", "a"]).output();
    assert_eq!(out.status, 0, "{}", out.stderr);
    assert_eq!(out.stderr.matches("RLIMIT_NOFILE may not be raised").count(), 1, "{}", out.stderr);
}
