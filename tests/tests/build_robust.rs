//! `hoy-build build` killed at any moment, ended by a person, many at once, on a full disk: the next build gives the same
//! image as ever, and nothing is left.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt;
use std::time::{Duration, Instant};

use hoy_tests::{Run, Sandbox, User, busybox_store, is_long, need, need_root, skip};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// Every phase of a build: reading a base, copying, running, taking what changed, two stages at once.
const PHASES: &str = "FROM busybox AS one\nCOPY many /many\nRUN --mount=type=cache,target=/cache \
    i=0; while test $i -lt 40; do echo $i > /file$i; i=$((i + 1)); done; sleep 0.1\n\
    FROM busybox AS two\nRUN --mount=type=secret,id=s cat /many/* /etc/passwd > /out 2>/dev/null; sleep 0.2; test -s /out\n\
    FROM busybox\nCOPY --from=one /many /file7 /from/\nCOPY --from=two /out /\n\
    RUN --mount=type=bind,from=one,target=/one cat /one/file* > /all\nLABEL a=b\n";

fn context(sandbox: &Sandbox) {
    let dir = sandbox.path("work");
    fs::create_dir(dir.join("many")).unwrap();
    for number in 0..200 {
        fs::write(dir.join(format!("many/{number}")), format!("{number}\n").repeat(50)).unwrap();
    }
    fs::write(sandbox.path("home/secret"), "never to be seen").unwrap();
    fs::write(dir.join("Containerfile"), PHASES).unwrap();
    Run::new("chmod").args(["-R", "a+rX"]).arg(&dir).arg(sandbox.path("home")).ok();
}

fn build(sandbox: &Sandbox, name: &str) -> Run {
    let secret = format!("id=s,src={}", sandbox.path("home/secret").display());
    sandbox.run("hoy-build").args(["build", "--jobs", "2", "--secret", &secret, "-t", name, "."])
}

fn digest(sandbox: &Sandbox, image: &str) -> String {
    sandbox.ok("hoy-copy", &["inspect", "--format", "{{.Digest}}", &format!("store:{image}")])
}

/// What a build may leave: containers, its own directories, programs.
fn left(sandbox: &Sandbox) -> BTreeSet<String> {
    let names = |dir: &str, is_left: fn(&str) -> bool| -> Vec<String> {
        let entries = fs::read_dir(sandbox.path(dir)).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| is_left(name)).collect()
    };
    let mut found: BTreeSet<String> = names("root/containers", |name| name.len() == 64).into_iter().collect();
    found.extend(names("root/build", |name| name.starts_with(".tmp")));
    found.extend(names("run/runtime", |name| name.len() == 64));
    let place = sandbox.path("root").display().to_string();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let mounts = fs::read_to_string(process.path().join("mountinfo")).unwrap_or_default();
        if mounts.lines().any(|line| line.split(' ').nth(4) == Some("/") && line.contains(&place)) {
            found.insert(format!("process {}", process.path().display()));
        }
    }
    found
}

/// How a build is ended: it alone, or with all it started.
fn end(child: &mut std::process::Child, round: u32) {
    let pid = Pid::from_child(child);
    match round % 3 {
        0 => kill_process(pid, Signal::KILL),
        1 => kill_process_group(pid, Signal::KILL),
        _ => kill_process_group(pid, Signal::INT),
    }
    .unwrap_or_default();
    child.wait().unwrap();
}

#[test]
fn ended_at_any_moment() {
    for user in [User::Root, User::Sub, User::One] {
        let Some(sandbox) = busybox_store(user) else { return };
        context(&sandbox);
        let start = Instant::now();
        build(&sandbox, "whole").ok();
        let whole = start.elapsed();
        let want = digest(&sandbox, "whole");
        let forget = || {
            sandbox.run("hoy-storage").args(["rmi", "--force", "whole"]).output();
            sandbox.ok("hoy-build", &["prune", "--all"]);
            let layout = format!("oci:{}:busybox:latest", sandbox.path("layout").display());
            sandbox.ok("hoy-copy", &["copy", "-q", &layout, "store:busybox"]);
        };
        forget();
        let empty = sandbox.disk_kib("root");
        let rounds = match user {
            _ if is_long() => 150,
            User::Root => 6,
            _ => 3,
        };
        for round in 0..rounds {
            let mut run = build(&sandbox, "whole");
            run.command().process_group(0);
            let mut child = run.spawn();
            // A fixed sequence that visits early, middle and late moments alike (golden ratio).
            std::thread::sleep(whole.mul_f64((f64::from(round) * 0.618_034).fract()));
            end(&mut child, round);
            let start = Instant::now();
            loop {
                sandbox.ok("hoy-build", &["prune"]);
                let left = left(&sandbox);
                if left.is_empty() {
                    break;
                }
                // Programs that were killed with it may be on their way out.
                assert!(start.elapsed() < Duration::from_secs(20), "{user:?}, round {round}: {left:?}");
                std::thread::sleep(Duration::from_millis(50));
            }
            sandbox.ok("hoy-storage", &["check"]);
            if round % 3 == 2 || is_long() {
                // What the ended ones remembered is right.
                build(&sandbox, "whole").ok();
                assert_eq!(digest(&sandbox, "whole"), want, "{user:?}, round {round}");
                forget();
                let now = sandbox.disk_kib("root");
                assert!(now <= empty + 64, "{user:?}, round {round}: {now} KiB, at first {empty}");
            }
        }
    }
}

#[test]
fn many_at_once() {
    for user in [User::Root, User::Sub] {
        let Some(sandbox) = busybox_store(user) else { return };
        context(&sandbox);
        build(&sandbox, "alone").ok();
        let want = digest(&sandbox, "alone");
        sandbox.ok("hoy-storage", &["rmi", "alone"]);
        sandbox.ok("hoy-build", &["prune", "--all"]);
        let layout = format!("oci:{}:busybox:latest", sandbox.path("layout").display());
        sandbox.ok("hoy-copy", &["copy", "-q", &layout, "store:busybox"]);
        std::thread::scope(|scope| {
            for number in 0..8 {
                let sandbox = &sandbox;
                scope.spawn(move || {
                    build(sandbox, &format!("image{number}")).ok();
                    // Others are at it: nothing that they need goes.
                    sandbox.ok("hoy-build", &["prune"]);
                });
            }
        });
        for number in 0..8 {
            assert_eq!(digest(&sandbox, &format!("image{number}")), want, "{user:?}");
        }
        assert_eq!(left(&sandbox), BTreeSet::new(), "{user:?}");
        sandbox.ok("hoy-storage", &["check"]);
    }
}

#[test]
fn a_full_disk() {
    for user in [User::Root, User::Sub] {
        if !need_root() || !need(&["mke2fs"]) {
            return;
        }
        let Some(other) = busybox_store(user) else { return };
        let sandbox = Sandbox::for_user(user);
        let (disk, root) = (sandbox.path("disk.img"), sandbox.path("root"));
        Run::new("mke2fs").args(["-q", "-t", "ext4", "-b", "4096", "-m", "0"]).arg(&disk).arg("24M").ok();
        if Run::new("mount").args(["-o", "loop"]).args([&disk, &root]).output().status != 0 {
            return skip("no file can be mounted here");
        }
        if let Some((uid, gid)) = user.ids() {
            std::os::unix::fs::chown(&root, Some(uid), Some(gid)).unwrap();
        }
        let layout = format!("oci:{}:busybox:latest", other.path("layout").display());
        sandbox.ok("hoy-copy", &["copy", &layout, "store:busybox"]);
        let dir = sandbox.path("work");
        Run::new("sh").args(["-c", "head -c 30000000 /dev/urandom > big; chmod a+r big"]).dir(&dir).ok();
        let noise = "head -c 30000000 /dev/urandom > /noise";
        for text in [
            "FROM busybox\nRUN echo a > /a\nCOPY big /big\n".to_owned(),
            format!("FROM busybox\nRUN echo a > /a\nRUN {noise}\n"),
            format!(
                "FROM busybox\nRUN echo a > /a\nRUN --mount=type=cache,target=/c cd /c && head -c 30000000 /dev/zero > x\nRUN {noise}\n"
            ),
            "FROM busybox\nRUN --mount=type=bind,source=big,target=/big test -s /big\n".to_owned(),
        ] {
            fs::write(dir.join("Containerfile"), &text).unwrap();
            let told = sandbox.run("hoy-build").args(["build", "."]).output();
            assert_ne!(told.status, 0, "{text}");
            // A command has its own words for it.
            let words = ["no space left on device", "exit status"];
            assert!(words.iter().any(|word| told.stderr.contains(word)), "{text}: {}", told.stderr);
            assert_eq!(left(&sandbox), BTreeSet::new(), "{text}");
            sandbox.ok("hoy-storage", &["check"]);
        }
        sandbox.ok("hoy-build", &["prune", "--all"]);
        sandbox.ok("hoy-copy", &["copy", &layout, "store:busybox"]);
        fs::write(dir.join("Containerfile"), "FROM busybox\nRUN echo a > /a\n").unwrap();
        sandbox.ok("hoy-build", &["build", "-t", "fits", "."]);
        assert_eq!(sandbox.ok("hoy", &["run", "--rm", "fits", "cat", "/a"]), "a");
    }
}
