//! `hoy run`, `exec`, `ps`, `inspect` and `rm` as a person uses them, for root and for ordinary users.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use hoy_tests::{Run, Sandbox, User, busybox_store, need};
use rustix::process::{Pid, Signal, kill_process};

/// `hoy run --rm … busybox sh -c SCRIPT`: what it printed, however the script's last command ended.
fn sh(sandbox: &Sandbox, options: &[&str], script: &str) -> String {
    let script = format!("{script}\ntrue");
    sandbox.run("hoy").args(["run", "--rm"]).args(options).args(["busybox", "sh", "-c", &script]).ok()
}

/// Starts a container and waits until it says `ready`.
fn start(sandbox: &Sandbox, options: &[&str], script: &str) -> (Child, std::path::PathBuf) {
    let said = sandbox.path("work/said");
    let file = fs::File::create(&said).unwrap();
    let mut run = sandbox.run("hoy").arg("run").args(options).args(["busybox", "sh", "-c", script]);
    let child = run.command().stdin(Stdio::null()).stdout(file).stderr(Stdio::inherit()).spawn().unwrap();
    wait_until("the container is ready", || fs::read_to_string(&said).unwrap().contains("ready"));
    (child, said)
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(30), "{what}: not within 30 seconds");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn codes_and_streams(user: User) {
    let Some(sandbox) = busybox_store(user) else { return };
    let run = |args: &[&str]| sandbox.run("hoy").args(["run", "--rm"]).args(args.iter().copied());
    assert_eq!(run(&["busybox", "sh", "-c", "exit 7"]).output().status, 7);
    assert_eq!(run(&["busybox", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"]).output().status, 137);
    let both = run(&["busybox", "sh", "-c", "echo out; echo err >&2"]).output();
    assert_eq!((both.stdout.as_str(), both.stderr.as_str()), ("out\n", "err\n"));
    assert_eq!(run(&["-i", "busybox", "cat"]).stdin("typed").ok(), "typed");
    assert_eq!(run(&["busybox", "cat"]).stdin("typed").ok(), "", "without -i there is no input");
    assert_eq!(run(&["--entrypoint", "echo", "busybox", "a", "b"]).ok(), "a b");
    assert_eq!(run(&["--entrypoint", r#"["echo","x"]"#, "busybox", "y"]).ok(), "x y");
    assert_eq!(sandbox.ok("hoy-storage", &["containers", "-q"]), "");
}

#[test]
fn root_codes_and_streams() {
    codes_and_streams(User::Root);
}

#[test]
fn subordinate_ids_codes_and_streams() {
    codes_and_streams(User::Sub);
}

#[test]
fn one_id_codes_and_streams() {
    codes_and_streams(User::One);
}

#[test]
fn root_the_process_is_as_asked() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let run = |options: &[&str], script: &str| sh(&sandbox, options, script);
    assert_eq!(run(&[], "id -u; id -g; pwd; echo $HOME; umask"), "0\n0\n/\n/root\n0022");
    assert_eq!(run(&["-u", "app"], "id -un; id -G; echo $HOME"), "app\n1000 50\n/home/app");
    assert_eq!(run(&["-u", "7:8", "--group-add", "staff"], "id -u; id -G"), "7\n8 50");
    assert_eq!(run(&["-w", "/home/app"], "pwd"), "/home/app");
    assert_eq!(
        run(
            &["-e", "A=1", "-e", "NONE_SUCH", "--hostname", "box"],
            "echo $A $HOSTNAME $(hostname); env | grep -c NONE"
        ),
        "1 box box\n0"
    );
    assert_eq!(run(&["--umask", "077", "--oom-score-adj", "500"], "umask; cat /proc/self/oom_score_adj"), "0077\n500");
    assert_eq!(run(&["--ulimit", "nofile=100:200"], "ulimit -n; ulimit -Hn"), "100\n200");
    if need(&["catatonit"]) {
        assert!(run(&["--init"], "cat /proc/1/cmdline").starts_with("/run/hoy-init"));
    }
    let status = |options: &[&str], field: &str| {
        run(options, &format!("grep ^{field}: /proc/self/status")).split_whitespace().last().unwrap().to_owned()
    };
    assert_eq!(status(&[], "CapEff"), "00000000800405fb");
    assert_eq!(status(&[], "CapInh"), "0000000000000000");
    assert_eq!(status(&["-u", "1000"], "CapEff"), "0000000000000000");
    assert_eq!(status(&["--cap-drop", "ALL", "--cap-add", "chown"], "CapBnd"), "0000000000000001");
    assert_eq!(status(&["-u", "1000", "--cap-add", "net_raw"], "CapEff"), "0000000000002000");
    assert_eq!(status(&["--security-opt", "no-new-privileges"], "NoNewPrivs"), "1");
    assert_eq!((status(&[], "Seccomp"), status(&["--privileged"], "Seccomp")), ("2".to_owned(), "0".to_owned()));
}

#[test]
fn root_files_are_as_asked() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let shared = sandbox.path("work/shared");
    fs::create_dir(&shared).unwrap();
    let volume = format!("{}:/data/deep", shared.display());
    assert_eq!(sh(&sandbox, &["-v", &volume], "echo hello > /data/deep/f && cat /data/deep/f"), "hello");
    assert_eq!(fs::read_to_string(shared.join("f")).unwrap(), "hello\n");
    let mount = format!("type=bind,source={},target=/data,ro", shared.display());
    assert_eq!(sh(&sandbox, &["--mount", &mount], "echo x 2>/dev/null > /data/f || cat /data/f"), "hello");
    assert_eq!(
        sh(&sandbox, &["--tmpfs", "/data:size=64k"], "df -k /data | tail -1 | awk '{print $1, $2}'"),
        "tmpfs 64"
    );
    let script = "touch /x 2>/dev/null || echo no; touch /tmp/x && echo yes; touch /etc/hosts 2>/dev/null || echo no";
    assert_eq!(sh(&sandbox, &["--read-only"], script), "no\nyes\nno");
    assert_eq!(sh(&sandbox, &["--read-only", "--read-only-tmpfs=false"], "touch /tmp/x 2>/dev/null || echo no"), "no");
    assert_eq!(sh(&sandbox, &[], "cat /proc/kcore /proc/interrupts /proc/timer_list 2>/dev/null | wc -c"), "0");
    assert_eq!(sh(&sandbox, &[], "ls /sys/firmware /sys/dev/block | grep -v : | grep -c ."), "0".to_owned());
}

#[test]
fn root_limits_are_seen() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let memory = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null";
    assert_eq!(sh(&sandbox, &["--memory", "64m"], memory), (64 << 20).to_string());
    let pids = "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null";
    assert_eq!(sh(&sandbox, &["--pids-limit", "55"], pids), "55");
    assert_eq!(sh(&sandbox, &[], pids), "2048");
    let cpu = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max 2>/dev/null";
    assert!(sh(&sandbox, &["--cpus", "0.5"], cpu).starts_with("50000"));
    let none = sandbox.run("hoy").args(["run", "--rm", "--cgroups", "disabled", "-m", "64m", "busybox", "true"]);
    none.fails(125, &["--memory", "--cgroups"]);
}

fn life_of_a_container(user: User, runtime: &str) {
    let Some(sandbox) = busybox_store(user) else { return };
    if !runtime.starts_with("hoy") && !need(&[runtime]) {
        return;
    }
    let script = "trap 'echo asked; exit 9' TERM; echo ready; while :; do sleep 0.1; done";
    let (mut child, said) = start(&sandbox, &["--runtime", runtime, "--name", "one", "--label", "a=b"], script);
    let hoy = |args: &[&str]| sandbox.run("hoy").args(args.iter().copied());
    let state = |name: &str| hoy(&["inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", name]).ok();

    let row = hoy(&["ps", "--format", "{{.Names}} {{.Image}} {{.State}} {{.Labels.a}}"]).ok();
    assert_eq!(row, "one localhost/busybox:latest running b");
    assert_eq!(hoy(&["ps", "-q", "--filter", "name=two"]).ok(), "");
    assert_eq!(hoy(&["ps", "-q", "--filter", "ancestor=busybox", "--filter", "label=a"]).ok().len(), 12);
    assert_eq!(hoy(&["exec", "one", "sh", "-c", "id -u; exit 4"]).output().status, 4);
    assert_eq!(
        hoy(&["exec", "-i", "-e", "A=1", "-w", "/etc", "one", "sh", "-c", "pwd; echo $A; cat"]).stdin("x").ok(),
        "/etc\n1\nx"
    );
    if user != User::One {
        let bob =
            hoy(&["exec", "-u", "app", "one", "sh", "-c", "id -u; echo $HOME; grep ^CapEff /proc/self/status"]).ok();
        assert_eq!(bob, "1000\n/home/app\nCapEff:\t0000000000000000");
    }
    if need(&["script"]) {
        let command = format!("{} exec -it one tty", hoy_tests::program("hoy").display());
        let screen = sandbox.run("script").args(["-qec", &command, "/dev/null"]).ok();
        assert!(screen.contains("/dev/pts/"), "{screen}");
    }
    hoy(&["exec", "one", "no-such-program"]).fails(127, &["no-such-program"]);
    hoy(&["rm", "one"]).fails(2, &["one", "running"]);
    hoy(&["run", "--name", "one", "busybox", "true"]).fails(125, &["one", "--replace"]);

    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(9));
    assert!(fs::read_to_string(said).unwrap().contains("asked"));
    assert_eq!(state("one"), "exited 9");
    assert!(hoy(&["ps", "-a"]).ok().contains("Exited (9)"));
    hoy(&["exec", "one", "true"]).fails(125, &["one", "not running"]);
    assert_eq!(hoy(&["run", "--name", "one", "--replace", "busybox", "echo", "again"]).ok(), "again");
    assert_eq!(state("one"), "exited 0");
    assert_eq!(hoy(&["rm", "one"]).ok().len(), 64);
    hoy(&["rm", "one"]).fails(1, &["one"]);
    assert_eq!(hoy(&["rm", "--ignore", "one"]).ok(), "");
    assert_eq!(sandbox.ok("hoy-storage", &["containers", "-q"]), "");
}

#[test]
fn root_life_of_a_container() {
    life_of_a_container(User::Root, "hoy-runtime");
}

#[test]
fn root_life_of_a_container_of_runc() {
    life_of_a_container(User::Root, "runc");
}

#[test]
fn subordinate_ids_life_of_a_container() {
    life_of_a_container(User::Sub, "hoy-runtime");
}

#[test]
fn one_id_life_of_a_container() {
    life_of_a_container(User::One, "hoy-runtime");
}

/// What a command says of owners is in the layer, whoever runs it: also of one that is run beside it.
#[test]
fn owners_are_alike_for_root_and_ordinary_users() {
    let script = "mkdir -p /srv/a/b && cd /srv && echo x > a/b/f && ln -s f a/b/l && mkfifo a/p && chown -R 33:34 a && chmod 4755 a/b/f; \
        chown 0:5 /etc/passwd; touch /srv/late; echo ready; while test ! -e /srv/done; do sleep 0.05; done";
    let layer = |user| {
        let sandbox = busybox_store(user)?;
        let (mut child, _) = start(&sandbox, &["--name", "own"], script);
        sandbox.ok("hoy", &["exec", "own", "chown", "-h", "7:8", "/srv/late", "/srv/a/b/l"]);
        // The container may end before touch does, and it with that.
        sandbox.run("hoy").args(["exec", "own", "touch", "/srv/done"]).output();
        assert!(child.wait().unwrap().success(), "{user:?}");
        let tar = sandbox.run("hoy-storage").args(["diff", "--tar", "--clamp", "0", "own"]).output().bytes;
        Some(Run::new("tar").args(["-tv", "--numeric-owner"]).stdin(tar).ok())
    };
    let Some(of_root) = layer(User::Root) else { return };
    assert!(of_root.contains("33/34") && of_root.contains("7/8") && of_root.contains("0/5"), "{of_root}");
    for user in [User::Sub, User::One] {
        let Some(of_user) = layer(user) else { continue };
        assert_eq!(of_user, of_root, "{user:?}");
    }
}

fn the_watcher_is_killed(user: User) {
    let Some(sandbox) = busybox_store(user) else { return };
    let (mut child, _) = start(&sandbox, &["--rm", "--name", "one"], "echo ready; sleep 1000");
    child.kill().unwrap();
    child.wait().unwrap();
    let hoy = |args: &[&str]| sandbox.run("hoy").args(args.iter().copied()).output();
    let beside = hoy(&["exec", "one", "true"]);
    match user {
        // Its processes wait for answers of whoever was killed.
        User::One => assert!(beside.status == 125 && beside.stderr.contains("was killed"), "{}", beside.stderr),
        _ => assert_eq!(beside.status, 0, "{}", beside.stderr),
    }
    let listed = hoy(&["ps", "-a", "--format", "{{.Names}}"]);
    assert_eq!((listed.status, listed.stdout.as_str()), (0, "one\n"));
    assert_eq!(hoy(&["run", "--rm", "busybox", "true"]).status, 0, "the next command works");
    assert_eq!(hoy(&["rm", "--force", "--ignore", "one"]).status, 0);
    assert_eq!(sandbox.ok("hoy-storage", &["containers", "-q"]), "");
}

#[test]
fn root_the_watcher_is_killed() {
    the_watcher_is_killed(User::Root);
}

#[test]
fn one_id_the_watcher_is_killed() {
    the_watcher_is_killed(User::One);
}

#[test]
fn subordinate_ids_the_watcher_is_killed() {
    the_watcher_is_killed(User::Sub);
}

#[test]
fn root_descriptors_and_notification_reach_the_container() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let notify = sandbox.path("work/notify.sock");
    let _receiver = std::os::unix::net::UnixDatagram::bind(&notify).unwrap();
    let file = sandbox.path("work/handed");
    fs::write(&file, "handed on").unwrap();
    let handed = third_descriptor(&file);
    let script = "env | grep -E '^(LISTEN_|NOTIFY_)' | sort; cat <&3; test -S $NOTIFY_SOCKET && echo socket; ls /proc/self/fd | wc -l";
    let mut run =
        sandbox.run("bash").args(["-c", "exec 3<&\"$0\"; LISTEN_PID=$$ exec \"$@\"", &handed.as_raw_fd().to_string()]);
    run = run.arg(hoy_tests::program("hoy")).args(["run", "--rm", "busybox", "sh", "-c", script]);
    let said = run.env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", "web").env("NOTIFY_SOCKET", &notify).ok();
    let want = "LISTEN_FDNAMES=web\nLISTEN_FDS=1\nLISTEN_PID=1\nNOTIFY_SOCKET=/run/host/notify\nhanded onsocket\n5";
    assert_eq!(said, want, "0, 1, 2, 3 and the directory itself");
    let elsewhere = sandbox.run("hoy").args(["run", "--rm", "busybox", "ls", "/proc/self/fd"]);
    assert_eq!(elsewhere.env("LISTEN_FDS", "1").env("LISTEN_PID", "1").ok().lines().count(), 4);
    let closed = sandbox.run("hoy").args(["run", "--rm", "--preserve-fds", "700", "busybox", "true"]);
    closed.fails(125, &["--preserve-fds"]);
}

/// A descriptor on `path` that children inherit.
fn third_descriptor(path: &Path) -> OwnedFd {
    let file = fs::File::open(path).unwrap();
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
    file.into()
}

#[test]
fn root_words_that_are_no_command() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let hoy = |args: &[&str]| sandbox.run("hoy").args(args.iter().copied());
    hoy(&["rnu"]).fails(125, &["hoy-rnu", "hoy run"]);
    hoy(&["run", "-d", "busybox"]).fails(125, &["--detach", "hoy-monitor"]);
    hoy(&["run", "--network", "bridge", "busybox", "true"]).fails(125, &["--network", "none"]);
    hoy(&["run", "elsewhere", "true"]).fails(125, &["elsewhere", "hoy pull docker.io/library/elsewhere"]);
    hoy(&["run", "--name", "../x", "busybox", "true"]).fails(125, &["../x"]);
    hoy(&["pull", "debian"]).fails(125, &["debian", "docker.io/library/debian"]);
    hoy(&["inspect", "elsewhere"]).fails(125, &["elsewhere"]);
    assert!(hoy(&["images"]).ok().contains("localhost/busybox"));
    assert_eq!(hoy(&["storage", "containers", "-q"]).ok(), "");
    let id = hoy(&["inspect", "--type", "image", "-f", "{{.Id}}", "busybox"]).ok();
    assert_eq!(hoy(&["run", "--rm", &id[..12], "echo", "by id"]).ok(), "by id");
    assert_eq!(sandbox.ok("hoy-storage", &["containers", "-q"]), "", "nothing is left of what could not start");
}

#[test]
fn root_cidfile_and_rmi() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let cidfile = sandbox.path("work/cid");
    let path = cidfile.to_str().unwrap();
    sandbox.run("hoy").args(["run", "--cidfile", path, "busybox", "true"]).ok();
    let id = fs::read_to_string(&cidfile).unwrap();
    assert_eq!(sandbox.ok("hoy", &["ps", "-aq", "--no-trunc"]), id);
    sandbox.run("hoy").args(["run", "--rm", "--cidfile", path, "busybox", "true"]).fails(125, &[path]);
    assert_eq!(sandbox.ok("hoy", &["rm", "--all"]), id);
    sandbox.ok("hoy", &["run", "--rmi", "busybox", "true"]);
    assert_eq!(sandbox.ok("hoy-storage", &["images", "-q"]), "");
}
