//! Containers with ids of their own: which they get, that files have them without a copy, and that a layer does not show it.

use std::fs;

use hoy_tests::{Sandbox, User, busybox_store, need, skip};
use serde_json::Value;

const SAYS_COPY: &str = "the kernel maps no ids of mounts here";

/// The maps in the record of a container: container, host and size of each range of user ids.
fn maps(sandbox: &Sandbox, id: &str) -> Vec<[u64; 3]> {
    let record = fs::read_to_string(sandbox.path("root/containers").join(id).join("storage.json")).unwrap();
    let record: Value = serde_json::from_str(&record).unwrap();
    let number = |map: &Value, name: &str| map[name].as_u64().unwrap();
    let all = record["idMaps"]["uidMappings"].as_array().cloned().unwrap_or_default();
    all.iter().map(|map| [number(map, "containerID"), number(map, "hostID"), number(map, "size")]).collect()
}

fn create(sandbox: &Sandbox, options: &[&str]) -> String {
    let made = sandbox.run("hoy-storage").arg("create").args(options).output();
    assert_eq!(made.status, 0, "{}", made.stderr);
    made.stdout.trim().to_owned()
}

/// Whether this kernel maps ids of overlay layers (Linux 5.19).
fn maps_ids(sandbox: &Sandbox) -> bool {
    let made = sandbox.run("hoy-storage").args(["create", "--userns=auto", "busybox"]).output();
    sandbox.ok("hoy-storage", &["rm", made.stdout.trim()]);
    let is_mapped = !made.stderr.contains(SAYS_COPY);
    if !is_mapped {
        skip("this kernel maps no ids of mounts");
    }
    is_mapped
}

#[test]
fn ranges_are_nobody_elses() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let ids: Vec<String> = (0..4).map(|_| create(&sandbox, &["--userns=auto:size=5000", "busybox"])).collect();
    let mut ranges: Vec<[u64; 3]> = ids.iter().flat_map(|id| maps(&sandbox, id)).collect();
    ranges.sort_by_key(|range| range[1]);
    assert!(ranges.iter().all(|range| range[0] == 0 && range[2] == 5000 && range[1] >= 524_288), "{ranges:?}");
    assert!(ranges.windows(2).all(|pair| pair[0][1] + 5000 <= pair[1][1]), "{ranges:?}");
    // What is removed is free again, and given to the next.
    let listed: Value = serde_json::from_str(&sandbox.ok("hoy-storage", &["containers", "--json"])).unwrap();
    assert!(listed.as_array().unwrap().iter().all(|row| row["IdMaps"]["gidMappings"][0]["size"] == 5000), "{listed}");
    let second = maps(&sandbox, &ids[1]);
    sandbox.ok("hoy-storage", &["rm", &ids[1]]);
    assert_eq!(maps(&sandbox, &create(&sandbox, &["--userns=auto:size=5000", "busybox"])), second);
    // A range that somebody was given by hand is taken too, and forced ids are where they were asked for.
    let next = ranges[3][1] + 5000;
    let by_hand = create(&sandbox, &[&format!("--uidmap=0:{next}:10"), "busybox"]);
    let options = "--userns=auto:size=5000,uidmapping=7:42:1,gidmapping=7:43:1";
    let forced = maps(&sandbox, &create(&sandbox, &[options, "busybox"]));
    assert_eq!(maps(&sandbox, &by_hand), [[0, next, 10]]);
    assert_eq!(forced, [[0, next + 10, 7], [8, next + 17, 4992], [7, 42, 1]]);
}

/// Many at once: each gets ids of its own.
#[test]
fn ranges_are_given_one_at_a_time() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do hoy-storage create --userns=auto busybox & done; wait";
    let out = sandbox.run("sh").args(["-c", script]).ok();
    let mut starts: Vec<u64> = out.lines().map(|id| maps(&sandbox, id)[0][1]).collect();
    starts.sort_unstable();
    starts.dedup();
    assert_eq!(starts.len(), 12);
}

/// What a container changes gives the same layer with ids of its own and without.
#[test]
fn a_layer_does_not_show_it() {
    let change = "rm /etc/group; echo new >/etc/new; chown 7:8 /etc/new; mkdir -p /srv/a; chmod 4755 /etc/new; \
        chown 1000:1000 /home/app; ln /etc/new /srv/hard; ln -s x /srv/link; touch -d @1 /etc/new /srv/a /srv /etc";
    for user in [User::Root, User::Sub] {
        let Some(sandbox) = busybox_store(user) else { return };
        let layer = |options: &[&str]| {
            let out = sandbox
                .run("hoy")
                .args(["run", "--name", "c"])
                .args(options)
                .args(["busybox", "sh", "-ec", change])
                .output();
            assert_eq!(out.status, 0, "{options:?}: {}", out.stderr);
            let is_said = user != User::Root && !options.is_empty();
            assert_eq!(out.stderr.contains(SAYS_COPY), is_said, "{}", out.stderr);
            let sum =
                |command: &str| sandbox.run("sh").args(["-c", &format!("hoy-storage {command} | sha256sum")]).ok();
            let both = [
                sum("diff --tar --clamp 0 c"),
                sum("export c | tar tf - | sort"),
                sum("export c | tar tvf - --numeric-owner | awk '{print $1, $2, $6}' | sort"),
            ];
            sandbox.ok("hoy", &["rm", "c"]);
            both
        };
        let plain = layer(&[]);
        assert_eq!(layer(&["--userns=auto:size=2000"]), plain, "{user:?}");
        assert_eq!(layer(&["--uidmap=0:5000:2000", "--gidmap=0:6000:2000"]), plain, "{user:?}");
    }
}

/// Files belong to the ids of the container in the mount, and to those of the image on disk.
#[test]
fn nothing_is_copied() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    if !maps_ids(&sandbox) {
        return;
    }
    let id = create(&sandbox, &["--userns=auto", "busybox"]);
    let start = maps(&sandbox, &id)[0][1];
    let root = sandbox.ok("hoy-storage", &["mount", &id]);
    let owner = |path: &str| sandbox.run("stat").args(["-c", "%u", path]).ok();
    assert_eq!(owner(&format!("{root}/bin/busybox")), start.to_string());
    assert!(sandbox.disk_kib(&format!("root/containers/{id}/upper")) < 20);
    let out = sandbox.ok(
        "hoy",
        &[
            "run",
            "--name",
            "own",
            "--userns=auto",
            "busybox",
            "sh",
            "-c",
            "echo x >/new; id -u; stat -c %u /etc/hosts /new /bin/busybox",
        ],
    );
    assert_eq!(out, "0\n0\n0\n0");
    let own = sandbox.ok("hoy", &["ps", "-aq", "--no-trunc"]);
    assert_eq!(owner(&format!("{}/new", sandbox.path(&format!("root/containers/{own}/upper")).display())), "0");
}

#[test]
fn keep_id_and_the_like() {
    for user in [User::Sub, User::One] {
        let Some(sandbox) = busybox_store(user) else { return };
        let (uid, gid) = user.ids().unwrap();
        let run = |options: &[&str], script: &str| {
            sandbox.run("hoy").args(["run", "--rm"]).args(options).args(["busybox", "sh", "-c", script]).output()
        };
        let kept = run(&["--userns=keep-id"], "id -u; id -g");
        assert_eq!(kept.stdout, format!("{uid}\n{gid}\n"), "{}", kept.stderr);
        assert_eq!(run(&["--userns=keep-id:uid=200,gid=210"], "id -u; id -g").stdout, "200\n210\n");
        // A file of the caller's is the caller's there too.
        let volume = format!("{}:/mine", sandbox.path("work").display());
        assert_eq!(
            run(&["--userns=keep-id", "-v", &volume], "touch /mine/made; stat -c %u /mine/made").stdout,
            format!("{uid}\n")
        );
        assert_eq!(sandbox.run("stat").args(["-c", "%u"]).arg(sandbox.path("work/made")).ok(), uid.to_string());
        let (auto, nomap) = (run(&["--userns=auto"], "id -u"), run(&["--userns=nomap"], "cat /proc/self/uid_map"));
        if user == User::One {
            for refused in [auto, nomap] {
                assert!(refused.status == 125 && refused.stderr.contains("has one id only"), "{}", refused.stderr);
            }
            continue;
        }
        assert!(auto.stderr.contains(SAYS_COPY) && auto.stdout == "0\n", "{}", auto.stderr);
        assert_eq!(nomap.stdout.split_whitespace().collect::<Vec<_>>(), ["0", "1", "65536"]);
        // The same ids as without: no copy. The kernel wants the range cut where the user's own meet.
        let same = run(&["--uidmap=0:0:100"], "cat /proc/self/uid_map");
        assert_eq!(same.stdout.split_whitespace().collect::<Vec<_>>(), ["0", "0", "1", "1", "1", "99"]);
        assert_eq!(same.stderr, "");
        let all = sandbox.run("hoy-storage").args(["create", "--userns=keep-id", "busybox"]).output();
        assert_eq!(all.status, 0);
        sandbox
            .run("hoy-storage")
            .args(["create", "--userns=auto", "busybox"])
            .fails(1, &["too few are left", "/etc/subuid"]);
    }
}

/// Where mounts cannot be mapped, containers of the same ids share one copy of the image, which is made once.
#[test]
fn a_copy_is_made_once() {
    let Some(sandbox) = busybox_store(User::Sub) else { return };
    let run = || sandbox.run("hoy").args(["run", "--rm", "--userns=keep-id", "busybox", "touch", "/tmp/new"]).output();
    let (first, second) = (run(), run());
    assert!(first.status == 0 && first.stderr.contains(SAYS_COPY), "{}", first.stderr);
    assert_eq!((second.status, second.stderr.as_str()), (0, ""));
    let copies = || {
        fs::read_dir(sandbox.path("root/layers"))
            .unwrap()
            .flatten()
            .filter(|e| e.file_name().to_string_lossy().starts_with("flat-"))
    };
    assert_eq!(copies().count(), 2, "a directory and its record");
    // It is a cache: it can go while nobody needs it, and comes again when a container does.
    let id = create(&sandbox, &["--userns=keep-id", "busybox"]);
    let root = sandbox.ok("hoy-storage", &["mount", &id]);
    sandbox.run("hoy-storage").args(["unshare", "sh", "-c", "touch $1/tmp/new", "-", &root]).ok();
    sandbox.ok("hoy-storage", &["umount", &id]);
    sandbox.ok("hoy-storage", &["unshare", "sh", "-c", "rm -r $HOY_ROOT/layers/flat-*"]);
    sandbox.ok("hoy-storage", &["mount", &id]);
    assert_eq!(sandbox.ok("hoy-storage", &["diff", &id]), "C /tmp\nA /tmp/new");
    sandbox.ok("hoy-storage", &["rm", &id]);
    sandbox.ok("hoy-storage", &["prune", "--force"]);
    assert_eq!(copies().count(), 0);
    sandbox.ok("hoy-storage", &["create", "--userns=keep-id", "scratch"]);
}

/// A further process, and a container that shares the user namespace of another.
#[test]
fn exec_and_sharing() {
    for user in [User::Root, User::Sub] {
        let Some(sandbox) = busybox_store(user) else { return };
        // An ordinary user's containers see each other where both are in the namespaces of the holder.
        create(&sandbox, &["busybox"]);
        let mut first =
            sandbox.run("hoy").args(["run", "--name", "first", "--userns=auto", "busybox", "sleep", "100"]).spawn();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        let map = |args: &[&str]| sandbox.run("hoy").args(args).output();
        let exec = ["exec", "first", "cat", "/proc/self/uid_map"];
        let mut own = map(&exec);
        while own.status != 0 && std::time::Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(50));
            own = map(&exec);
        }
        assert_eq!(own.status, 0, "{}", own.stderr);
        let shared = map(&[
            "run",
            "--rm",
            "--userns=container:first",
            "busybox",
            "sh",
            "-c",
            "cat /proc/self/uid_map; readlink /proc/self/ns/user >&2; touch /new",
        ]);
        assert_eq!((shared.status, &shared.stdout), (0, &own.stdout), "{}", shared.stderr);
        let namespace = map(&["exec", "first", "readlink", "/proc/self/ns/user"]).stdout;
        assert!(shared.stderr.contains(namespace.trim()), "{} {namespace}", shared.stderr);
        let inspected = sandbox.ok(
            "hoy",
            &["inspect", "--format", "{{.HostConfig.UsernsMode}} {{.HostConfig.IDMappings.UidMap}}", "first"],
        );
        assert!(inspected.starts_with("private [0:"), "{inspected}");
        sandbox.ok("hoy", &["rm", "-f", "first"]);
        first.wait().unwrap();
    }
}

/// `hoy-spec` takes the ids from options, or from a container that has some.
#[test]
fn in_a_configuration() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let id = create(&sandbox, &["--userns=auto:size=3000", "--name", "own", "busybox"]);
    let spec = |args: &[&str]| -> Value {
        serde_json::from_str(&sandbox.run("hoy-spec").args(args).args(["busybox", "true"]).ok()).unwrap()
    };
    let config = spec(&["--container", "own"]);
    let host = maps(&sandbox, &id)[0][1];
    let map = &config["linux"]["uidMappings"][0];
    assert_eq!(
        (map["containerID"].as_u64(), map["hostID"].as_u64(), map["size"].as_u64()),
        (Some(0), Some(host), Some(3000))
    );
    assert_eq!(config["linux"]["namespaces"][0]["type"], "user");
    let config = spec(&["--uidmap=0:100000:10", "--gidmap=0:200000:20"]);
    assert_eq!(config["linux"]["gidMappings"][0]["hostID"], 200_000);
    assert!(spec(&[])["linux"].get("uidMappings").is_none());
    sandbox.run("hoy-spec").args(["--userns=auto", "busybox"]).fails(1, &["--container"]);
    sandbox.run("hoy-spec").args(["--uidmap=0:1:0", "busybox"]).fails(1, &["at least one id"]);
    sandbox.run("hoy-spec").args(["--uidmap=0:100000:10", "--user=50", "busybox"]).fails(1, &["user id 50"]);
}

#[test]
fn wrong_options() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    for (options, words) in [
        (&["--userns=bogus"][..], "there are auto, keep-id"),
        (&["--userns=auto:size=0"], "number of ids"),
        (&["--userns=auto:colour=red"], "size, uidmapping, gidmapping"),
        (&["--userns=auto", "--uidmap=0:1:1"], "one or the other"),
        (&["--userns=keep-id"], "ordinary users"),
        (&["--userns=private"], "--uidmap"),
        (&["--userns=container:nobody"], "nobody"),
        (&["--uidmap=0:x:1"], "three numbers"),
        (&["--uidmap=+0:1:1"], "\"+\" is podman's"),
        (&["--uidmap=u0:1:1"], "\"u\" is podman's"),
        (&["--uidmap=0:1:1", "--gidmap=g0:1:1"], "\"g\" is podman's"),
        (&["--uidmap=0:1:5", "--uidmap=3:100:5"], "another range"),
        (&["--uidmap=0:4294967290:10"], "4294967295"),
        (&["--subuidname=nobody-has-this"], "/etc/subuid"),
    ] {
        sandbox.run("hoy-storage").arg("create").args(options).arg("busybox").fails(1, &[words]);
    }
    assert_eq!(sandbox.ok("hoy-storage", &["containers", "-q"]), "", "nothing is left of what failed");
    let id = create(&sandbox, &["--subuidname=hoyuser", "busybox"]);
    assert_eq!(maps(&sandbox, &id)[0][0], 0);
}

/// In a user namespace of somebody else's making, which has none of the container's ids, a refused mount says so.
#[test]
fn a_mount_in_a_foreign_namespace() {
    let Some(sandbox) = busybox_store(User::Sub).filter(|_| need(&["unshare"])) else { return };
    let first = create(&sandbox, &["--userns=auto", "busybox"]);
    let id = create(&sandbox, &[&format!("--userns=container:{first}"), "busybox"]);
    sandbox.ok("hoy-storage", &["umount", "--all"]);
    let mount = sandbox.run("unshare").args(["--user", "--map-root-user", "hoy-storage", "mount", &id]);
    mount.fails(1, &["mount an overlay", "hint: ", "hoy-storage unshare"]);
    sandbox.ok("hoy-storage", &["mount", &id]);
}

/// Where mounts cannot be mapped, in a user namespace on an ordinary file system, an owner that the ids lack is named.
#[test]
fn an_owner_that_the_ids_lack() {
    let Some(sandbox) = busybox_store(User::Sub).filter(|_| need(&["umoci"])) else { return };
    let script = "c=$(hoy-build from busybox); m=$(hoy-storage mount $c); touch $m/far; \
        hoy-storage unshare chown 3000:3000 $m/far; hoy-build commit -q $c far";
    sandbox.run("sh").args(["-ec", script]).ok();
    sandbox
        .run("hoy-storage")
        .args(["create", "--userns=auto:size=2000", "far"])
        .fails(1, &["far\" belongs to 3000:3000", "more ids"]);
    assert_eq!(sandbox.ok("hoy-storage", &["containers", "-q"]).lines().count(), 1);
    create(&sandbox, &["--userns=auto:size=4000", "far"]);
}

/// Inside a container with every privilege over its own ids: a file system that it mounted itself can be mapped.
#[test]
fn in_a_container() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let script = "export HOY_ROOT=/s/root HOY_RUNROOT=/s/run PATH=/programs:/bin; hoy-copy copy -q oci:/layout:busybox:latest store:busybox; \
        hoy run --rm busybox id -u; hoy run --rm --userns=auto busybox cat /proc/self/uid_map; hoy-storage mount --image busybox";
    let programs = format!("{}:/programs", hoy_tests::program_dir().display());
    let layout = format!("{}:/layout", sandbox.path("layout").display());
    for (userns, map) in [("--userns=host", ["0", "524288", "65536"]), ("--userns=auto", ["0", "1", "1024"])] {
        let run = ["run", "--rm", "--privileged", userns, "--tmpfs", "/s", "-v", &programs, "-v", &layout];
        let out = sandbox.run("hoy").args(run).args(["busybox", "sh", "-ec", script]).output();
        assert_eq!(out.status, 0, "{userns}: {}", out.stderr);
        let words: Vec<&str> = out.stdout.split_whitespace().skip(1).collect();
        assert_eq!((words[0], &words[1..4]), ("0", &map[..]), "{userns}");
        assert!(words[4].ends_with("/rootfs"), "{userns}");
        // Linux 6.3 maps ids on a tmpfs of a user namespace.
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let number = |at: usize| release.split(['.', '-']).nth(at).and_then(|n| n.parse::<u32>().ok()).unwrap_or(0);
        if (number(0), number(1)) >= (6, 3) {
            assert_eq!(out.stderr, "", "{userns}: nothing is copied");
        }
    }
}

/// CVE-2024-9676: the image's list of users, which says how many ids are needed, is read inside the image and never waits.
#[test]
fn a_hostile_list_of_users() {
    let Some(sandbox) = busybox_store(User::Sub) else { return };
    let host = sandbox.path("work/host");
    fs::write(&host, "far:x:50000:50000::/:/bin/sh\n").unwrap();
    let link = format!("ln -s {} etc/passwd", host.display());
    let outside = format!("rm -r etc && ln -s {} etc", sandbox.path("work/etc").display());
    fs::create_dir(sandbox.path("work/etc")).unwrap();
    fs::copy(&host, sandbox.path("work/etc/passwd")).unwrap();
    let huge = "yes root:x:40000:0::/:/bin/sh | head -c 3000000 >etc/passwd";
    for (name, change) in
        [("link", link.as_str()), ("outside", &outside), ("fifo", "mkfifo etc/passwd"), ("huge", huge)]
    {
        let script = format!(
            "c=$(hoy-build from busybox); cd $(hoy-storage mount $c); rm etc/passwd; {change}; \
            cd /; hoy-build commit -q $c {name}"
        );
        sandbox.run("sh").args(["-ec", &script]).ok();
        let made = sandbox.run("timeout").args(["20", "hoy-storage", "create", "--userns=auto", name]).output();
        // One that is too long is no list of users, or read as far as it may be.
        let sizes = if name == "huge" { [1024, 40_001] } else { [1024, 1024] };
        assert_eq!(made.status, 0, "{name}: {}", made.stderr);
        assert!(sizes.contains(&maps(&sandbox, made.stdout.trim())[0][2]), "{name}");
        sandbox.ok("hoy-storage", &["rm", made.stdout.trim()]);
    }
    // A list of users that is one counts.
    let script = format!(
        "c=$(hoy-build from busybox); cp {} $(hoy-storage mount $c)/etc/passwd; hoy-build commit -q $c far",
        host.display()
    );
    sandbox.run("sh").args(["-ec", &script]).ok();
    let made = sandbox.run("hoy-storage").args(["create", "--userns=auto", "far"]).ok();
    assert_eq!(maps(&sandbox, &made)[0][2], 50_001);
}
