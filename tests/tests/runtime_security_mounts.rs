//! Mounts, devices, masks and the console against images and volumes that lead astray, and that change meanwhile.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use hoy_tests::{Bundle, Tripwire, User, while_exchanging};
use serde_json::{Value, json};

/// Plants the links that a hostile image can have: each leads to `victim` if it is followed on the host.
fn links(bundle: &Bundle, victim: &Tripwire) -> Vec<String> {
    let victim = victim.path().to_str().unwrap();
    let up = format!("{}{}", "../".repeat(12), &victim[1..]);
    let targets =
        [victim, "../../victim", "../../../victim", &up, "/proc/self/root/../../victim", "link0", "./link3/.", "link7"];
    for (at, target) in targets.iter().enumerate() {
        symlink(target, bundle.path("rootfs").join(format!("link{at}"))).unwrap();
    }
    (0..targets.len()).map(|at| format!("/link{at}")).collect()
}

/// Takes the mounts away whose destination begins with `prefix`.
fn without(bundle: &mut Bundle, prefix: &str) {
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with(prefix));
}

/// CVE-2019-18837 and its kin: no mount, device, mask or directory leads out of the root by the image's symlinks.
#[test]
fn no_link_leads_out() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    let victim = Tripwire::new(bundle.path("victim"));
    let config = bundle.config.clone();
    for link in links(&bundle, &victim) {
        let at = |name: &str| format!("{link}{name}");
        let tmpfs = |name: &str| json!({"destination": at(name), "type": "tmpfs", "source": "tmpfs"});
        let bind = |name: &str, source: &str| json!({"destination": at(name), "source": source, "options": ["rbind"]});
        let mut cases: Vec<(&str, Value)> = [
            tmpfs("/made"),
            tmpfs(""),
            json!({"destination": at("/directory"), "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}),
            bind("/file", "/etc/hostname"),
            bind("/made-file", "/etc/hostname"),
            bind("/made/deep/directory", "/etc"),
            json!({"destination": at("/proc"), "type": "proc", "source": "proc"}),
            json!({"destination": at("/cgroup"), "type": "cgroup", "source": "cgroup"}),
        ]
        .map(|mount| ("/mounts/0", mount))
        .into();
        cases.push(("/linux/devices", json!([{"path": at("/device"), "type": "c", "major": 1, "minor": 3}])));
        cases.push(("/linux/maskedPaths", json!([at("/file"), at("/directory")])));
        cases.push(("/linux/readonlyPaths", json!([at("")])));
        cases.push(("/process/cwd", json!(at("/work"))));
        for (pointer, value) in cases {
            bundle.config = config.clone();
            bundle.script("echo > file; echo > directory/new; true");
            if pointer == "/mounts/0" {
                bundle.push("/mounts", value);
            } else {
                bundle.set(pointer, value);
            }
            bundle.hoy(&["run", "a"]).output();
            victim.check();
        }
    }
}

/// CVE-2026-41579, CVE-2026-47766: /dev of the image is a symlink, and one that comes and goes: nothing is made or
/// removed outside.
#[test]
fn devices_are_made_inside() {
    for always in [true, false] {
        for target in ["../../victim", "absolute"] {
            let Some(mut bundle) = Bundle::new(User::Root) else { return };
            let victim = Tripwire::new(bundle.path("victim"));
            fs::write(victim.path().join("ptmx"), "mine").unwrap();
            let victim = Tripwire::new(bundle.path("victim"));
            let target = if target == "absolute" { victim.path() } else { target.as_ref() };
            let dev = bundle.path("rootfs/dev");
            fs::remove_dir_all(&dev).unwrap_or_default();
            let link = if always { dev.clone() } else { bundle.path("rootfs/link") };
            symlink(target, &link).unwrap();
            bundle.script("true");
            for with_mounts in [true, false] {
                if !with_mounts {
                    without(&mut bundle, "/dev");
                    bundle.push("/mounts", json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts"}));
                }
                if always {
                    bundle.hoy(&["run", "a"]).output();
                    victim.check();
                    continue;
                }
                fs::create_dir_all(&dev).unwrap();
                while_exchanging(&[(dev.clone(), link.clone())], || {
                    bundle.hoy(&["run", "a"]).output();
                    victim.check();
                });
            }
        }
    }
}

/// CVE-2021-30465, CVE-2024-45310: two containers share a volume, and the target of a mount, which is there or is still
/// to be made, is exchanged with a symlink all the while.
#[test]
fn mounts_stay_inside_while_somebody_renames() {
    let (Some(mut one), Some(mut other)) = (Bundle::new(User::Root), Bundle::new(User::Root)) else { return };
    // What is mounted is there too, to be found by who follows a link out.
    fs::create_dir_all(one.path("victim/there")).unwrap();
    let victim = Tripwire::new(one.path("victim"));
    let volume = one.path("volume");
    fs::create_dir_all(volume.join("target/there")).unwrap();
    fs::write(volume.join("target/file"), "").unwrap();
    symlink(victim.path(), volume.join("link")).unwrap();
    symlink(format!("{}{}", "../".repeat(14), victim.path().display()), volume.join("up")).unwrap();
    symlink("/", volume.join("root")).unwrap();
    for bundle in [&mut one, &mut other] {
        let mut mount = |destination: &str, kind: &str, source: &str, options: Value| {
            let mount = json!({"destination": destination, "type": kind, "source": source, "options": options});
            bundle.push("/mounts", mount);
        };
        mount("/volume", "bind", volume.to_str().unwrap(), json!(["rbind"]));
        mount("/volume/target/there", "tmpfs", "race-one", json!([]));
        mount("/volume/target/new/directory", "tmpfs", "race-two", json!([]));
        mount("/volume/target/directory", "bind", "/etc", json!(["rbind"]));
        mount("/volume/target/new-file", "bind", "/etc/hostname", json!(["bind"]));
        // Whichever name was met: each was mounted, and where this container sees it.
        bundle.script("grep -c race- /proc/self/mountinfo");
    }
    let target = volume.join("target");
    let pairs = ["link", "up", "root"].map(|name| (target.clone(), volume.join(name)));
    let (mut made, mut refused) = (0, 0);
    let directory = fs::File::open(&target).unwrap();
    let volume = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    let inside = victim.path().strip_prefix("/").unwrap();
    let roots = [&one, &other].map(|bundle| bundle.path("rootfs"));
    let places: Vec<_> = roots.iter().flat_map(|root| [root.clone(), root.join(inside)]).chain([volume]).collect();
    while_exchanging(&pairs, || {
        // To be made again, wherever the name leads now.
        for place in &places {
            fs::remove_dir_all(place.join("new")).unwrap_or_default();
            fs::remove_file(place.join("new-file")).unwrap_or_default();
        }
        let mut beside = other.hoy(&["run", "b"]).spawn();
        let out = one.hoy(&["run", "a"]).output();
        beside.wait().unwrap();
        victim.check();
        if out.status == 0 {
            made += 1;
            assert_eq!(out.stdout, "2\n");
        } else {
            refused += 1;
        }
    });
    assert!(made + refused > 4, "{made} {refused}");
    let names = |path: &str| fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    for name in ["there", "new", "new-file"] {
        assert!(!names("/").iter().any(|found| found == name), "/{name} was made on the host");
    }
    assert_eq!(one.hoy(&["list", "-q"]).ok(), "");
}

/// CVE-2021-43784: a source of more than 64 KiB is refused, and means nothing else than itself.
#[test]
fn a_source_too_long_is_refused() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    let config = bundle.config.clone();
    for size in [4097, 65_535, 65_536, 65_536 + 64, 200_000] {
        let source = format!("/{}", "a".repeat(size));
        for mount in [
            json!({"destination": "/x", "source": source, "options": ["bind"]}),
            json!({"destination": "/x", "type": "tmpfs", "source": source}),
            json!({"destination": source, "type": "tmpfs", "source": "tmpfs"}),
            json!({"destination": "/x", "type": "tmpfs", "source": "tmpfs", "options": [format!("size={source}")]}),
        ] {
            bundle.config = config.clone();
            bundle.push("/mounts", mount);
            let out = bundle.hoy(&["run", "a"]).output();
            assert!(out.status == 1 && out.stderr.starts_with("hoy-runtime: "), "{size}: {}", out.status);
        }
        bundle.config = config.clone();
        bundle.push("/linux/namespaces", json!({"type": "user", "path": source}));
        bundle.hoy(&["run", "a"]).fails(1, &["ame too long"]);
    }
    // Nor what 16 bits of its length would leave of it.
    let wrapped = |path: &str| format!("{path}{}", "a".repeat(65_536));
    bundle.config = config.clone();
    bundle.push("/mounts", json!({"destination": "/x", "source": wrapped("/etc"), "options": ["bind"]}));
    bundle.hoy(&["run", "a"]).fails(1, &["open \"/etcaaa"]);
    bundle.config = config;
    bundle.push("/linux/namespaces", json!({"type": "user", "path": wrapped("/proc/self/ns/user")}));
    bundle.hoy(&["run", "a"]).fails(1, &["ame too long"]);
    assert_eq!(bundle.hoy(&["list", "-q"]).ok(), "");
}

/// CVE-2025-31133, CVE-2025-54867: what masks is the null device, though the image's /dev/null is by turns a symlink.
#[test]
fn masks_are_the_null_device() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    without(&mut bundle, "/dev");
    let dev = bundle.path("rootfs/dev");
    fs::create_dir_all(&dev).unwrap();
    fs::write(bundle.path("rootfs/secret"), "secret").unwrap();
    symlink("/proc/version", dev.join("link")).unwrap();
    // The device itself is made by the runtime; the first run may find nothing there.
    bundle.script("true");
    bundle.hoy(&["run", "a"]).ok();
    bundle.set("/linux/maskedPaths", json!(["/secret", "/proc/uptime"]));
    bundle.script("stat -c %t:%T /secret /proc/uptime; cat /secret /proc/uptime");
    let (mut made, pairs) = (0, [(dev.join("null"), dev.join("link"))]);
    while_exchanging(&pairs, || {
        let out = bundle.hoy(&["run", "a"]).output();
        if out.status == 0 {
            made += 1;
            assert_eq!(out.stdout, "1:3\n1:3\n");
        } else {
            assert!(out.stderr.contains("make device \"/dev/null\""), "{}", out.stderr);
        }
    });
    assert!(made > 0);
}

/// CVE-2025-31133: what the caller has at /dev/null is not believed to be that device.
#[test]
fn a_null_device_that_is_none_masks_nothing() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    bundle.set("/linux/maskedPaths", json!(["/proc/uptime"]));
    bundle.script("cat /proc/uptime");
    let script = "mount --bind /proc/version /dev/null; exec \"$@\"";
    let out = bundle.tested_within(&["unshare", "-m", "sh", "-c", script, "sh"], &["run", "a"]).output();
    assert_eq!((out.status, out.stdout.as_str()), (1, ""), "{}", out.stderr);
    assert!(out.stderr.contains("\"/dev/null\" is not the null device"), "{}", out.stderr);
}

/// GHSA-3q8j-pf29-vwv8: a directory that is to be read-only or hidden is resolved once: there is no moment at which
/// what was mounted and what is made read-only are two.
#[test]
fn readonly_and_masked_are_one_step() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    let shared = bundle.path("rootfs/shared");
    for name in ["one/deep", "other/deep", "masked"] {
        fs::create_dir_all(shared.join(name)).unwrap();
    }
    symlink("other", shared.join("link")).unwrap();
    bundle.set("/linux/readonlyPaths", json!(["/shared/one/deep"]));
    bundle.set("/linux/maskedPaths", json!(["/shared/masked"]));
    bundle.script("grep ' /shared/' /proc/self/mountinfo | cut -d ' ' -f 6");
    let pairs = ["other", "link", "masked"].map(|name| (shared.join("one"), shared.join(name)));
    let mut seen = [0; 3];
    while_exchanging(&pairs, || {
        let out = bundle.hoy(&["run", "a"]).output();
        let mounts: Vec<&str> = out.stdout.lines().collect();
        assert!(mounts.len() <= 2, "{mounts:?}");
        assert!(mounts.iter().all(|options| options.starts_with("ro")), "{mounts:?}");
        seen[mounts.len()] += 1;
    });
    assert!(seen[1] + seen[2] > 0, "{seen:?}");
}

/// CVE-2025-52565: /dev/console is the terminal that was made, not what the image has at its name.
#[test]
fn the_console_is_the_terminal() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    without(&mut bundle, "/dev");
    bundle.push(
        "/mounts",
        json!({"destination": "/terminals", "type": "devpts", "source": "devpts",
        "options": ["newinstance", "ptmxmode=0666", "mode=0620"]}),
    );
    let pts = bundle.path("rootfs/dev/pts");
    fs::create_dir_all(&pts).unwrap();
    symlink("/terminals/ptmx", pts.join("ptmx")).unwrap();
    for number in 0..4 {
        symlink("/proc/version", pts.join(number.to_string())).unwrap();
    }
    bundle.set("/process/terminal", json!(true));
    bundle.script("stat -L -c %t /dev/console; stat -L -c %t /proc/self/fd/0; grep -c Linux /proc/version");
    let out = bundle.hoy(&["run", "a"]).output();
    assert_eq!((out.stdout.replace('\r', "").as_str(), out.status), ("88\n88\n1\n", 0), "{}", out.stderr);
    // The target is exchanged meanwhile.
    let victim = Tripwire::new(bundle.path("victim"));
    let dev = bundle.path("rootfs/dev");
    fs::write(dev.join("console"), "").unwrap();
    symlink(victim.path().join("file"), dev.join("link")).unwrap();
    symlink(victim.path().join("new"), dev.join("new")).unwrap();
    let pairs = ["link", "new"].map(|name| (dev.join("console"), dev.join(name)));
    while_exchanging(&pairs, || {
        bundle.hoy(&["run", "a"]).output();
        victim.check();
    });
    // What is no terminal master is not taken for one.
    for target in ["/proc/self/mem", "/bin/busybox", "/dev/zero"] {
        fs::remove_file(pts.join("ptmx")).unwrap();
        symlink(target, pts.join("ptmx")).unwrap();
        bundle.hoy(&["run", "a"]).fails(1, &["/dev/pts/ptmx"]);
    }
}
