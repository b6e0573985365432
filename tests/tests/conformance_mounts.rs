//! Mounts: runtime-spec config.md "Mounts" with every option of its table, config-linux.md "Rootfs Mount Propagation".

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use hoy_tests::{Bundle, Run, User, cannot, runtime_under_test};
use serde_json::{Value, json};

fn bundle() -> Option<Bundle> {
    let mut bundle = Bundle::new(User::Root)?;
    bundle.set("/ociVersion", json!("1.0.2"));
    Some(bundle)
}

/// A directory of the caller's with a file in it, and a tmpfs with another one mounted below.
fn source(bundle: &Bundle) -> String {
    let path = bundle.path("source");
    fs::create_dir_all(path.join("below")).unwrap();
    fs::write(path.join("file"), "file").unwrap();
    Run::new("mount").args(["-t", "tmpfs", "below"]).arg(path.join("below")).ok();
    fs::write(path.join("below/file"), "below").unwrap();
    path.to_str().unwrap().to_owned()
}

/// The options and the tags of the mounts on `point`, and the options of their file systems: fields 6, 7 and the last.
fn look(point: &str) -> String {
    format!("awk '$5 == \"{point}\"' /proc/self/mountinfo | cut -d' ' -f6- | sed 's/ - [^ ]* [^ ]* / | /'")
}

fn has(options: &str, option: &str) -> bool {
    options.split([',', ' ']).any(|word| word == option)
}

#[test]
fn attributes_of_a_new_file_system() {
    let Some(mut bundle) = bundle() else { return };
    let old = cannot(&[
        ("crun", "1.8.1 does not know nosymfollow, and lets nothing be undone"),
        ("runc", "1.1 does not know nosymfollow, lazytime and defaults"),
    ]);
    // Options, what is there then, what is not.
    let cases: &[(&[&str], &[&str], &[&str])] = &[
        (&[], &["rw", "relatime"], &["nosuid", "nodev", "noexec"]),
        (&["defaults"], &["rw"], &["ro"]),
        (&["ro"], &["ro"], &["nosuid"]),
        (&["ro", "rw"], &["rw"], &[]),
        (&["nosuid", "nodev", "noexec"], &["nosuid", "nodev", "noexec"], &["ro"]),
        (&["nosuid", "suid", "nodev", "dev", "noexec", "exec"], &[], &["nosuid", "nodev", "noexec"]),
        (&["noatime"], &["noatime"], &["relatime"]),
        (&["noatime", "atime"], &["relatime"], &["noatime"]),
        (&["relatime"], &["relatime"], &["noatime"]),
        (&["norelatime", "nostrictatime"], &["relatime"], &[]),
        (&["strictatime"], &[], &["relatime", "noatime"]),
        (&["nodiratime"], &["nodiratime"], &[]),
        (&["nodiratime", "diratime"], &[], &["nodiratime"]),
        (&["sync", "dirsync"], &["sync", "dirsync"], &[]),
        (&["sync", "async", "silent", "loud"], &[], &["sync"]),
        (&["size=64k", "mode=711", "nr_inodes=10"], &["size=64k", "mode=711", "nr_inodes=10"], &[]),
        (&["lazytime"], &["lazytime"], &[]),
        (&["lazytime", "nolazytime", "iversion", "noiversion"], &[], &["lazytime"]),
        (&["nosymfollow"], &["nosymfollow"], &[]),
        (&["nosymfollow", "symfollow"], &[], &["nosymfollow"]),
    ];
    for (options, there, absent) in cases {
        let new = |o: &&str| {
            o.contains("symfollow")
                || o.contains("lazytime")
                || matches!(*o, "defaults" | "suid" | "atime" | "diratime" | "async")
        };
        if old && options.iter().any(new) {
            continue;
        }
        let mount = json!({"destination": "/new", "type": "tmpfs", "source": "tmpfs", "options": options});
        bundle.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/new");
        bundle.push("/mounts", mount);
        bundle.script(&look("/new"));
        let out = bundle.tested(&["run", "a"]).ok();
        assert!(there.iter().all(|option| has(&out, option)), "{options:?}: {out}");
        assert!(!absent.iter().any(|option| has(&out, option)), "{options:?}: {out}");
    }
}

#[test]
fn what_a_file_system_does_not_know_is_named() {
    let Some(mut bundle) = bundle() else { return };
    bundle.push(
        "/mounts",
        json!({"destination": "/new", "type": "tmpfs", "source": "tmpfs", "options": ["flavour=mint"]}),
    );
    let out = bundle.tested(&["run", "a"]).output();
    assert_ne!(out.status, 0);
    if runtime_under_test() == "hoy-runtime" {
        assert!(out.stderr.contains("/new") && out.stderr.contains("flavour"), "{}", out.stderr);
    }
}

#[test]
fn a_bind_is_one_mount_or_a_tree() {
    let Some(mut bundle) = bundle() else { return };
    let path = source(&bundle);
    fs::write(bundle.path("one"), "one").unwrap();
    bundle.push("/mounts", json!({"destination": "/bind", "source": path, "options": ["bind", "ro"]}));
    bundle.push("/mounts", json!({"destination": "/tree", "source": path, "options": ["rbind", "ro"]}));
    // A relative source is below the bundle, a relative destination below the root.
    bundle.push("/mounts", json!({"destination": "a/b/one", "type": "none", "source": "one", "options": ["bind"]}));
    bundle.script(
        "cat /bind/file /tree/file /tree/below/file /a/b/one; ls /bind/below; \
         touch /bind/x /tree/x 2>/dev/null && echo WRITTEN; touch /tree/below/x && echo below",
    );
    assert_eq!(bundle.tested(&["run", "a"]).ok(), "filefilebelowonebelow");
}

#[test]
fn attributes_reach_a_whole_tree() {
    if cannot(&[("runc", "1.1 has not all of them"), ("crun", "1.8.1 has not all of them")]) {
        return;
    }
    let Some(mut bundle) = bundle() else { return };
    let path = source(&bundle);
    let cases = [
        ("rro", "ro", true),
        ("rnosuid", "nosuid", true),
        ("rnodev", "nodev", true),
        ("rnoexec", "noexec", true),
        ("rnoatime", "noatime", true),
        ("rnodiratime", "nodiratime", true),
        ("rnosymfollow", "nosymfollow", true),
        ("rrelatime", "relatime", true),
        ("rstrictatime", "relatime", false),
        ("rrw", "ro", false),
        ("rsuid", "nosuid", false),
        ("rdev", "nodev", false),
        ("rexec", "noexec", false),
        ("ratime", "noatime", false),
        ("rnorelatime", "noatime", false),
        ("rnostrictatime", "noatime", false),
        ("rdiratime", "nodiratime", false),
        ("rsymfollow", "nosymfollow", false),
    ];
    for (option, attribute, set) in cases {
        bundle.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/tree");
        // What the option takes away is there first, on both.
        let before = format!("remount,bind,{}", if set { "rw,suid,dev,exec" } else { attribute });
        for point in [path.clone(), format!("{path}/below")] {
            if set || attribute != "relatime" {
                Run::new("mount").args(["--bind", &point, &point]).ok();
                Run::new("mount").args(["-o", &before, &point]).ok();
            }
        }
        bundle.push("/mounts", json!({"destination": "/tree", "source": path, "options": ["rbind", option]}));
        bundle.script(&format!("{}; {}", look("/tree"), look("/tree/below")));
        let out = bundle.tested(&["run", "a"]).ok();
        assert!(out.lines().count() >= 2, "{out}");
        for line in out.lines() {
            let own = line.split(' ').next().unwrap_or_default();
            assert_eq!(has(own, attribute), set, "{option}: {out}");
        }
        Run::new("umount").args(["-R", &path]).output();
        Run::new("umount").args(["-R", &format!("{path}/below")]).output();
        Run::new("mount").args(["-t", "tmpfs", "below", &format!("{path}/below")]).ok();
    }
}

/// A tmpfs of the caller's whose mount, and not whose file system, has `flags`.
fn source_with(bundle: &Bundle, flags: &str) -> String {
    let path = bundle.path("flagged");
    let point = path.to_str().unwrap();
    fs::create_dir_all(&path).unwrap();
    // What it has from before would be kept.
    Run::new("umount").arg(point).output();
    Run::new("mount").args(["-t", "tmpfs", "-o", "rw,suid,dev,exec,strictatime", "flagged", point]).ok();
    for flags in ["diratime,strictatime", flags] {
        Run::new("mount").args(["--bind", "-o", &format!("remount,{flags}"), point]).ok();
    }
    point.to_owned()
}

/// Binds a source whose mount has flags: one that is named clears the others, and none is named keeps them.
#[test]
fn a_bind_has_the_named_attributes_of_its_source() {
    if cannot(&[("runc", "1.1 counts no option that clears"), ("crun", "1.8.1 keeps what is not named")]) {
        return;
    }
    let Some(mut bundle) = bundle() else { return };
    // Flags of the source, options, what is there then, what is not.
    type Case = (&'static str, &'static [&'static str], &'static [&'static str], &'static [&'static str]);
    let alone: &[Case] = &[
        ("ro,noexec,nodiratime", &["bind"], &["ro", "noexec", "nodiratime"], &["rw"]),
        ("ro,noexec,nodiratime", &["bind", "dev"], &["rw", "nodiratime"], &["ro", "noexec"]),
        ("ro", &["bind", "nosuid", "rprivate"], &["rw", "nosuid"], &["ro"]),
        ("ro", &["bind", "rw"], &["rw"], &["ro"]),
        ("nosuid,nodev,noexec,noatime", &["bind", "ro"], &["ro", "noatime"], &["nosuid", "nodev", "noexec"]),
        ("nosuid,noatime", &["bind", "suid", "atime"], &["rw", "noatime"], &["nosuid"]),
        ("noatime", &["bind", "relatime"], &["relatime"], &["noatime"]),
        ("noatime", &["bind", "nodiratime"], &["relatime", "nodiratime"], &["noatime"]),
        ("nodiratime", &["bind", "strictatime"], &[], &["nodiratime", "relatime", "noatime"]),
    ];
    let in_user_namespace: &[Case] = &[
        ("ro,noexec,nodiratime", &["bind", "dev"], &["ro", "noexec", "nodiratime"], &["rw"]),
        ("ro", &["bind", "nosuid", "rprivate"], &["ro", "nosuid"], &["rw"]),
        ("nosuid,nodev,noexec,noatime", &["bind", "ro"], &["ro", "nosuid", "nodev", "noexec", "noatime"], &[]),
        ("nosuid,nodev,noatime", &["bind", "ro", "exec"], &["ro", "nosuid", "nodev", "noatime"], &["noexec"]),
        ("noatime", &["bind", "norelatime"], &["noatime"], &["relatime"]),
        ("strictatime", &["bind", "nosuid"], &["nosuid"], &["noatime", "relatime"]),
        ("relatime", &["bind", "relatime"], &["relatime"], &[]),
    ];
    let refused: &[(&str, &str)] = &[
        ("ro", "rw"),
        ("nodev", "dev"),
        ("nosuid", "suid"),
        ("noexec", "exec"),
        ("noatime", "relatime"),
        ("relatime", "strictatime"),
        ("nodiratime", "noatime"),
        ("strictatime", "nodiratime"),
    ];
    let mount = |bundle: &mut Bundle, flags: &str, options: &[&str]| {
        let path = source_with(bundle, flags);
        bundle.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/bind");
        bundle.push("/mounts", json!({"destination": "/bind", "source": path, "options": options}));
        bundle.script(&format!("{} | cut -d' ' -f1", look("/bind")));
        bundle.tested(&["run", "a"]).output()
    };
    for is_user in [false, true] {
        if is_user {
            Run::new("chown").args(["-hR", "200000:300000"]).arg(bundle.path("rootfs")).ok();
            bundle.push("/linux/namespaces", json!({"type": "user"}));
            bundle.set("/linux/uidMappings", maps(0, 200_000, 65536));
            bundle.set("/linux/gidMappings", maps(0, 300_000, 65536));
        }
        for (flags, options, there, absent) in if is_user { in_user_namespace } else { alone } {
            let out = mount(&mut bundle, flags, options);
            let case = format!("{flags} {options:?} {is_user}: {} {}", out.stdout, out.stderr);
            assert_eq!(out.status, 0, "{case}");
            assert!(there.iter().all(|option| has(out.stdout.trim(), option)), "{case}");
            assert!(!absent.iter().any(|option| has(out.stdout.trim(), option)), "{case}");
        }
    }
    for (flags, option) in refused {
        let out = mount(&mut bundle, flags, &["bind", option]);
        assert!(out.status != 0 && out.stderr.contains(flags), "{flags} {option}: {} {}", out.stdout, out.stderr);
    }
}

#[test]
fn propagation_of_a_bind() {
    let Some(mut bundle) = bundle() else { return };
    let path = source(&bundle);
    let cases = [
        ("shared", "shared:"),
        ("rshared", "shared:"),
        ("slave", ""),
        ("rslave", ""),
        ("private", ""),
        ("rprivate", ""),
        ("unbindable", "unbindable"),
    ];
    let old = cannot(&[("crun", "1.8.1 leaves a shared or unbindable bind private")]);
    for (option, want) in cases.into_iter().filter(|(_, want)| !old || want.is_empty()) {
        bundle.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/tree");
        bundle.push("/mounts", json!({"destination": "/tree", "source": path, "options": ["bind", option]}));
        bundle.script(&look("/tree"));
        let out = bundle.tested(&["run", "a"]).ok();
        let tags = out.split(" | ").next().unwrap_or_default().split(' ').nth(1).unwrap_or_default();
        assert!(tags.starts_with(want), "{option}: {out}");
        if option.ends_with("private") {
            assert_eq!(tags, "", "{option}: {out}");
        }
    }
}

#[test]
fn a_slave_sees_what_the_host_mounts() {
    let Some(mut bundle) = bundle() else { return };
    let path = source(&bundle);
    Run::new("mount").args(["--bind", &path, &path]).ok();
    Run::new("mount").args(["--make-rshared", &path]).ok();
    bundle.set("/linux/rootfsPropagation", json!("slave"));
    fs::create_dir(format!("{path}/later")).unwrap();
    for (option, want) in [("rslave", "later"), ("rprivate", "")] {
        bundle.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/tree");
        bundle.push("/mounts", json!({"destination": "/tree", "source": path, "options": ["rbind", option]}));
        bundle.set("/process/args", json!(["/bin/sleep", "1000"]));
        bundle.leave_tested(&["run", "-d", "a"]);
        Run::new("mount").args(["-t", "tmpfs", "later", &format!("{path}/later")]).ok();
        let out =
            bundle.tested(&["exec", "a", "sh", "-c", "grep -o ' /tree/later ' /proc/self/mountinfo | cut -d/ -f3"]);
        assert_eq!(out.output().stdout.trim(), want, "{option}");
        Run::new("umount").arg(format!("{path}/later")).ok();
        bundle.tested(&["delete", "-f", "a"]).ok();
    }
}

#[test]
fn a_new_tmpfs_has_what_was_there() {
    let Some(mut bundle) = bundle() else { return };
    let directory = bundle.path("rootfs/full");
    fs::create_dir_all(directory.join("sub")).unwrap();
    fs::write(directory.join("sub/file"), "text").unwrap();
    fs::set_permissions(directory.join("sub/file"), fs::Permissions::from_mode(0o4711)).unwrap();
    chown(directory.join("sub"), Some(7), Some(8)).unwrap();
    symlink("sub/file", directory.join("link")).unwrap();
    for option in ["rw", "ro"] {
        if option == "ro" && cannot(&[("crun", "1.8.1 copies to a read-only tmpfs and fails")]) {
            continue;
        }
        bundle.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/full");
        let options = ["tmpcopyup", option];
        bundle.push("/mounts", json!({"destination": "/full", "type": "tmpfs", "source": "tmpfs", "options": options}));
        bundle.script(
            "cd /full; cat link; echo; stat -c '%a %u %g' sub/file sub; readlink link; touch new 2>/dev/null; \
             ls; grep -c ' /full .* tmpfs ' /proc/self/mountinfo",
        );
        let new = if option == "rw" { "\nnew" } else { "" };
        let want = format!("text\n4711 0 0\n755 7 8\nsub/file\nlink{new}\nsub\n1");
        assert_eq!(bundle.tested(&["run", "a"]).ok(), want, "{option}");
        assert!(!directory.join("new").exists());
    }
}

fn maps(container: u32, host: u32, size: u32) -> Value {
    json!([{"containerID": container, "hostID": host, "size": size}])
}

/// Whether file systems of this kernel and place can have their ids mapped; where not, the test is recorded as skipped.
fn maps_ids(bundle: &Bundle, path: &str) -> bool {
    let probe = "mount --bind -o X-mount.idmap=0:5:1 \"$1\" /mnt";
    let out = Run::new("unshare").args(["-m", "sh", "-c", probe, "sh", path]).dir(bundle.path("")).output();
    if out.status != 0 && !out.stderr.contains("unknown") {
        hoy_tests::skip(&format!("ids of mounts cannot be mapped here: {}", out.stderr.trim()));
    }
    out.status == 0 || out.stderr.contains("unknown")
}

#[test]
fn ids_are_mapped() {
    if cannot(&[("runc", "1.1 is older than the option"), ("crun", "1.8.1 has another form of it")]) {
        return;
    }
    let Some(mut bundle) = bundle() else { return };
    let path = source(&bundle);
    if !maps_ids(&bundle, &path) {
        return;
    }
    // A tmpfs cannot have its ids mapped before Linux 6.3.
    Run::new("umount").arg(format!("{path}/below")).ok();
    fs::create_dir(bundle.path("other")).unwrap();
    fs::write(bundle.path("other/file"), "other").unwrap();
    Run::new("mount").arg("--bind").arg(bundle.path("other")).arg(format!("{path}/below")).ok();
    for name in ["file", "below/file"] {
        chown(format!("{path}/{name}"), Some(1000), Some(2000)).unwrap();
    }
    let mut mount = json!({"destination": "/tree", "source": path, "options": ["rbind", "ridmap"]});
    mount["uidMappings"] = maps(1000, 5000, 1);
    mount["gidMappings"] = maps(2000, 6000, 1);
    bundle.push("/mounts", mount);
    bundle.script("stat -c '%u %g' /tree/file /tree/below/file");
    assert_eq!(bundle.tested(&["run", "a"]).ok(), "5000 6000\n5000 6000");
    let last = |bundle: &mut Bundle| bundle.config["mounts"].as_array_mut().unwrap().pop().unwrap();
    let mut mount = last(&mut bundle);
    mount["options"] = json!(["rbind", "idmap"]);
    bundle.push("/mounts", mount);
    assert_eq!(bundle.tested(&["run", "a"]).ok(), "5000 6000\n1000 2000");
    // Without maps of its own, and without a user namespace that has some, there is nothing to map by.
    last(&mut bundle);
    bundle.push("/mounts", json!({"destination": "/tree", "source": path, "options": ["bind", "idmap"]}));
    let out = bundle.tested(&["run", "a"]).output();
    assert!(out.status != 0 && out.stderr.contains("idmap"), "{}", out.stderr);
}

#[test]
fn ids_are_mapped_as_those_of_the_container() {
    if cannot(&[("runc", "1.1 is older than the option"), ("crun", "1.8.1 has another form of it")]) {
        return;
    }
    let Some(mut bundle) = bundle() else { return };
    let path = source(&bundle);
    if !maps_ids(&bundle, &path) {
        return;
    }
    chown(format!("{path}/file"), Some(3), Some(4)).unwrap();
    Run::new("chown").args(["-hR", "200000:300000"]).arg(bundle.path("rootfs")).ok();
    bundle.push("/linux/namespaces", json!({"type": "user"}));
    bundle.set("/linux/uidMappings", maps(0, 200_000, 65536));
    bundle.set("/linux/gidMappings", maps(0, 300_000, 65536));
    bundle.push("/mounts", json!({"destination": "/mapped", "source": path, "options": ["bind", "idmap"]}));
    bundle.push("/mounts", json!({"destination": "/plain", "source": path, "options": ["bind"]}));
    bundle.script("stat -c '%u %g' /mapped/file /plain/file");
    assert_eq!(bundle.tested(&["run", "a"]).ok(), "3 4\n65534 65534");
}

/// A later bind shows what an earlier mount has put in its source, also where only the caller may walk.
#[test]
fn a_source_in_the_root_has_what_is_mounted_there() {
    if cannot(&[("runc", "1.1 maps no ids of a mount"), ("crun", "1.8.1 maps ids of the source as it was")]) {
        return;
    }
    let Some(mut bundle) = bundle() else { return };
    let path = source(&bundle);
    fs::create_dir_all(bundle.path("rootfs/part")).unwrap();
    let inner = bundle.path("rootfs/part").to_str().unwrap().to_owned();
    let maps_ids = maps_ids(&bundle, &path);
    // No other user gets there by its path.
    fs::set_permissions(bundle.path(""), fs::Permissions::from_mode(0o700)).unwrap();
    bundle.push("/mounts", json!({"destination": "/part", "source": path, "options": ["bind"]}));
    bundle.push("/mounts", json!({"destination": "/all", "source": inner, "options": ["rbind"]}));
    let mut script = "cat /all/file".to_owned();
    if maps_ids {
        chown(format!("{path}/file"), Some(3), Some(4)).unwrap();
        let mapped = json!({"destination": "/mapped", "source": inner, "options": ["rbind"],
            "uidMappings": maps(0, 200_000, 65536), "gidMappings": maps(0, 300_000, 65536)});
        bundle.push("/mounts", mapped);
        script += "; stat -c ' %u %g' /mapped/file";
    }
    bundle.script(&script);
    let want = |ids: &str| if maps_ids { format!("file{ids}") } else { "file".to_owned() };
    assert_eq!(bundle.tested(&["run", "a"]).ok(), want(" 200003 300004"));
    Run::new("chown").args(["-hR", "200000:300000"]).arg(bundle.path("rootfs")).ok();
    bundle.push("/linux/namespaces", json!({"type": "user"}));
    bundle.set("/linux/uidMappings", maps(0, 200_000, 65536));
    bundle.set("/linux/gidMappings", maps(0, 300_000, 65536));
    assert_eq!(bundle.tested(&["run", "a"]).ok(), want(" 3 4"));
}

/// In a user namespace the control groups are the host's, bound: not those that a bind of /sys has brought.
#[test]
fn control_groups_on_a_bound_sysfs() {
    let Some(mut bundle) = bundle() else { return };
    Run::new("chown").args(["-hR", "200000:300000"]).arg(bundle.path("rootfs")).ok();
    bundle.push("/linux/namespaces", json!({"type": "user"}));
    bundle.set("/linux/uidMappings", maps(0, 200_000, 65536));
    bundle.set("/linux/gidMappings", maps(0, 300_000, 65536));
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| mount["type"] != "sysfs" && mount["type"] != "cgroup");
    bundle.push("/mounts", json!({"destination": "/sys", "source": "/sys", "options": ["rbind"]}));
    bundle.push("/mounts", json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["ro"]}));
    bundle.script("ls /sys/fs/cgroup | wc -l");
    assert_ne!(bundle.tested(&["run", "a"]).ok().trim(), "0");
}

#[test]
fn symlinks_of_either_side() {
    if cannot(&[("runc", "it does not have these options"), ("crun", "1.8.1 has not all of these options")]) {
        return;
    }
    let Some(mut bundle) = bundle() else { return };
    fs::create_dir(bundle.path("source")).unwrap();
    fs::write(bundle.path("source/file"), "host").unwrap();
    symlink("file", bundle.path("source/link")).unwrap();
    symlink("/inside", bundle.path("rootfs/link")).unwrap();
    fs::write(bundle.path("rootfs/inside"), "inside").unwrap();
    let link = bundle.path("source/link");
    // Where the mount is asked for, with which options, and what is there then.
    let cases = [
        ("/link", json!(["bind"]), "link -> /inside; host; host"),
        ("/link", json!(["bind", "dest-nofollow"]), "-; host; inside"),
        ("/link", json!(["bind", "dest-nofollow", "src-nofollow"]), "link -> file; -; inside"),
        ("/copy", json!(["bind", "copy-symlink"]), "copy -> file; -; inside"),
    ];
    for (destination, options, want) in cases {
        bundle.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["source"] != json!(link));
        bundle.push("/mounts", json!({"destination": destination, "source": link, "options": options}));
        let name = destination.trim_start_matches('/');
        bundle.script(&format!(
            "cd /; t=$(readlink {name} 2>/dev/null) && l=\"{name} -> $t\" || l=-; \
             echo \"$l; $(cat {name} 2>/dev/null || echo -); $(cat inside)\""
        ));
        assert_eq!(bundle.tested(&["run", "a"]).ok(), want, "{options}");
        fs::write(bundle.path("rootfs/inside"), "inside").unwrap();
    }
    // The same link is there now; another thing there is an error.
    bundle.script("readlink /copy");
    assert_eq!(bundle.tested(&["run", "a"]).ok(), "file");
    fs::remove_file(bundle.path("rootfs/copy")).unwrap();
    fs::write(bundle.path("rootfs/copy"), "other").unwrap();
    assert_ne!(bundle.tested(&["run", "a"]).output().status, 0);
}

#[test]
fn a_mount_is_changed_again() {
    if cannot(&[("runc", "it mounts anew"), ("crun", "1.8.1 mounts anew")]) {
        return;
    }
    let Some(mut bundle) = bundle() else { return };
    let new = json!({"destination": "/new", "type": "tmpfs", "source": "tmpfs", "options": ["size=64k", "nosuid"]});
    bundle.push("/mounts", new);
    bundle.push(
        "/mounts",
        json!({"destination": "/new", "type": "tmpfs", "options": ["remount", "size=128k", "noexec"]}),
    );
    bundle.push("/mounts", json!({"destination": "/new", "options": ["bind", "remount", "ro"]}));
    bundle.script(&look("/new"));
    let out = bundle.tested(&["run", "a"]).ok();
    assert!(["ro", "noexec", "size=128k"].iter().all(|option| has(&out, option)), "{out}");
    assert_eq!(out.lines().count(), 1, "{out}");
}

#[test]
fn propagation_of_the_root() {
    let Some(mut bundle) = bundle() else { return };
    bundle.script(&look("/"));
    let cases = [("shared", "shared:"), ("slave", ""), ("private", ""), ("unbindable", "unbindable")];
    let old = cannot(&[("runc", "1.1 leaves a shared root private, and cannot make one unbindable")]);
    for (value, want) in cases.into_iter().filter(|(_, want)| !old || want.is_empty()) {
        bundle.set("/linux/rootfsPropagation", json!(value));
        let out = bundle.tested(&["run", "a"]).ok();
        let tags = out.split(" | ").next().unwrap_or_default().split(' ').nth(1).unwrap_or_default();
        assert!(tags.starts_with(want), "{value}: {out}");
        if value == "private" {
            assert_eq!(tags, "", "{out}");
        }
    }
    bundle.set("/linux/rootfsPropagation", json!("sideways"));
    if !cannot(&[("crun", "it takes any word for none")]) {
        assert!(bundle.tested(&["run", "a"]).output().stderr.contains("sideways"));
    }
}

#[test]
fn options_of_any_length() {
    let Some(mut bundle) = bundle() else { return };
    // A name of 200 bytes twice is more than the newer interface of the kernel takes.
    let lower = bundle.path(&format!("{0}/{0}", "d".repeat(200)));
    for directory in [lower.clone(), bundle.path("upper"), bundle.path("work")] {
        fs::create_dir_all(directory).unwrap();
    }
    fs::write(lower.join("file"), "below").unwrap();
    let option = |name: &str, path: &std::path::Path| format!("{name}={}", path.display());
    let options = json!([
        option("lowerdir", &lower),
        option("upperdir", &bundle.path("upper")),
        option("workdir", &bundle.path("work")),
        "nosuid"
    ]);
    bundle.push("/mounts", json!({"destination": "/over", "type": "overlay", "source": "overlay", "options": options}));
    bundle.script(&format!("cat /over/file; echo; touch /over/new; {} | cut -d, -f1-2", look("/over")));
    assert_eq!(bundle.tested(&["run", "a"]).ok(), "below\nrw,nosuid");
    assert!(bundle.path("upper/new").exists());
}

#[test]
fn a_root_that_is_read_only() {
    let Some(mut bundle) = bundle() else { return };
    bundle.set("/root/readonly", json!(true));
    bundle.script("touch /x 2>/dev/null && echo WRITTEN; touch /dev/shm/x && echo yes");
    assert_eq!(bundle.tested(&["run", "a"]).ok(), "yes");
}
