//! The runtime alone: a container's life, exit codes, every part of its configuration, and the same bundle under peers.

use std::fs;
use std::io::Read;

use hoy_tests::{Bundle, User, need, receive_at, skip};
use serde_json::{Value, json};

#[test]
fn exit_codes_are_the_programs_own() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    for (script, want) in [("exit 0", 0), ("exit 7", 7), ("sh -c 'kill -9 $$'; exit $?", 137)] {
        bundle.script(script);
        assert_eq!(bundle.hoy(&["run", "a"]).output().status, want, "{script}");
    }
    bundle.set("/process/args", json!(["/no/such"]));
    bundle.hoy(&["run", "a"]).fails(1, &["exec \"/no/such\": no such file or directory"]);
    bundle.set("/process/args", json!(["no-such"]));
    bundle.hoy(&["run", "a"]).fails(1, &["executable file not found in $PATH"]);
    bundle.set("/process/args", json!(["/etc"]));
    bundle.hoy(&["run", "a"]).fails(1, &["permission denied"]);
    assert_eq!(bundle.hoy(&["list", "-q"]).ok(), "");
}

fn life(user: User) {
    let Some(mut bundle) = Bundle::new(user) else { return };
    bundle.script("sleep 1000");
    let pid_file = bundle.path("pid");
    // Options may follow the id.
    bundle.leave(&["create", "a", "--bundle", ".", "--pid-file", "pid"]);
    let state = |bundle: &Bundle| -> Value { serde_json::from_str(&bundle.hoy(&["state", "a"]).ok()).unwrap() };
    let created = state(&bundle);
    assert_eq!(created["status"], "created");
    assert_eq!(fs::read_to_string(pid_file).unwrap(), created["pid"].to_string());
    bundle.hoy(&["create", "a"]).fails(1, &["container \"a\" already exists"]);
    bundle.hoy(&["start", "a"]).ok();
    assert_eq!(state(&bundle)["status"], "running");
    bundle.hoy(&["start", "a"]).fails(1, &["it is running already"]);
    bundle.hoy(&["delete", "a"]).fails(1, &["it is running"]);
    let out = bundle.hoy(&["exec", "a", "sh", "-c", "echo $0 $$; exit 9"]).output();
    assert_eq!((out.status, out.stdout.split(' ').next()), (9, Some("sh")), "{}", out.stderr);
    bundle.hoy(&["exec", "a", "no-such"]).fails(255, &["executable file not found in $PATH"]);
    bundle.hoy(&["kill", "a", "KILL"]).ok();
    let mut tries = 0;
    while state(&bundle)["status"] != "stopped" {
        tries += 1;
        assert!(tries < 500, "the container does not end");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    bundle.hoy(&["exec", "a", "true"]).fails(255, &["container not running"]);
    bundle.hoy(&["kill", "a", "15"]).fails(1, &["container not running"]);
    bundle.hoy(&["delete", "a"]).ok();
    bundle.hoy(&["delete", "a"]).fails(1, &["container \"a\" does not exist"]);
    bundle.hoy(&["delete", "--force", "a"]).ok();
    bundle.hoy(&["state", "a"]).fails(1, &["does not exist"]);
}

#[test]
fn the_life_of_a_container_root() {
    life(User::Root);
}

#[test]
fn the_life_of_a_container_subordinate_ids() {
    life(User::Sub);
}

#[test]
fn the_life_of_a_container_one_id() {
    life(User::One);
}

#[test]
fn a_new_process_with_the_old_pid_is_not_the_container() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    bundle.script("sleep 1000");
    bundle.leave(&["run", "--detach", "a"]);
    let path = bundle.path("../run/state/a/state.json");
    let mut state: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let pid = state["pid"].clone();
    state["pid"] = json!(std::process::id());
    fs::write(&path, state.to_string()).unwrap();
    bundle.hoy(&["kill", "a", "KILL"]).fails(1, &["container not running"]);
    state["pid"] = pid;
    fs::write(&path, state.to_string()).unwrap();
    bundle.hoy(&["delete", "-f", "a"]).ok();
}

#[test]
fn pause_and_resume() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    bundle.script("sleep 1000");
    bundle.leave(&["run", "-d", "a"]);
    bundle.hoy(&["pause", "a"]).ok();
    assert!(bundle.hoy(&["state", "a"]).ok().contains("\"paused\""));
    bundle.hoy(&["exec", "a", "true"]).fails(255, &["it is paused"]);
    bundle.hoy(&["resume", "a"]).ok();
    let pids: Vec<i32> = serde_json::from_str(&bundle.hoy(&["ps", "--format", "json", "a"]).ok()).unwrap();
    assert_eq!(pids.len(), 1);
    bundle.hoy(&["pause", "a"]).ok();
    bundle.hoy(&["delete", "--force", "a"]).ok();
}

#[test]
fn every_part_of_the_configuration() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    bundle.push("/linux/namespaces", json!({"type": "time"}));
    bundle.set("/linux/timeOffsets", json!({"boottime": {"secs": 1_000_000, "nanosecs": 0}}));
    bundle.set("/hostname", json!("name"));
    bundle.set("/domainname", json!("domain"));
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000, "additionalGids": [50], "umask": 0o27}));
    bundle.set("/process/cwd", json!("/home/app"));
    bundle.set("/process/oomScoreAdj", json!(321));
    bundle.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1", "kernel.shmmax": "12345"}));
    bundle.push("/process/rlimits", json!({"type": "RLIMIT_CORE", "hard": 5000, "soft": 4000}));
    bundle.set(
        "/linux/devices",
        json!([{"path": "/dev/mine", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640,
        "uid": 1000, "gid": 50}]),
    );
    bundle.script(
        "id; pwd; echo $HOME; hostname; cat /proc/sys/kernel/domainname /proc/self/oom_score_adj \
         /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmax; umask; grep 'core file' /proc/self/limits; \
         stat -c '%a %u %g %t:%T' /dev/mine; cut -d. -f1 /proc/uptime; ip link 2>&1 | grep -o 'LOOPBACK,UP'",
    );
    let out = bundle.hoy(&["run", "a"]).ok();
    let lines: Vec<&str> = out.lines().collect();
    let want = [
        "uid=1000(app) gid=1000(app) groups=50(staff),1000(app)",
        "/home/app",
        "/home/app",
        "name",
        "domain",
        "321",
        "1",
        "12345",
        "0027",
    ];
    let groups = lines[0].replace("groups=50(staff)", "groups=50(staff),1000(app)");
    assert!(lines[0] == want[0] || groups == want[0], "{out}");
    assert_eq!(lines[1..9], want[1..], "{out}");
    let core: Vec<&str> = lines[9].split_whitespace().collect();
    assert_eq!(core[4..6], ["4000", "5000"], "{out}");
    assert_eq!(lines[10], "640 1000 50 1:5", "{out}");
    assert!(lines[11].parse::<u64>().unwrap() > 1_000_000, "{out}");
    assert_eq!(lines[12], "LOOPBACK,UP", "{out}");
}

#[test]
fn mounts_and_their_options() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    let source = bundle.path("source");
    fs::create_dir_all(source.join("below")).unwrap();
    fs::write(source.join("file"), "content").unwrap();
    let source = source.to_str().unwrap();
    bundle.push(
        "/mounts",
        json!({"destination": "/ro", "source": source, "options": ["rbind", "ro", "nosuid", "noexec"]}),
    );
    bundle.push("/mounts", json!({"destination": "/relative", "source": "source", "options": ["bind"]}));
    bundle.push(
        "/mounts",
        json!({"destination": "/a/new/file", "source": format!("{source}/file"), "options": ["bind"]}),
    );
    bundle.push(
        "/mounts",
        json!({"destination": "/etc", "type": "tmpfs", "options": ["tmpcopyup", "size=1m", "noatime"]}),
    );
    bundle.script(
        "cat /a/new/file /relative/file; touch /ro/x; grep -E ' (/ro|/etc) ' /proc/mounts | cut -d' ' -f2,4; \
         grep -c app /etc/passwd",
    );
    let out = bundle.hoy(&["run", "a"]).output();
    assert!(out.stderr.contains("Read-only file system"), "{}", out.stderr);
    assert!(out.stdout.starts_with("contentcontent/ro ro,nosuid,noexec,relatime"), "{}", out.stdout);
    assert!(out.stdout.contains("/etc rw,noatime,size=1024k"), "{}", out.stdout);
    assert!(out.stdout.ends_with("1\n"), "{}", out.stdout);
}

#[test]
fn control_groups() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    let name = format!("/hoy-test-{}/a", std::process::id());
    bundle.set("/linux/cgroupsPath", json!(name));
    bundle.set("/linux/resources/pids", json!({"limit": 33}));
    bundle.set("/linux/resources/memory", json!({"limit": 104_857_600}));
    bundle.script(
        "cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>/dev/null; \
        cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null",
    );
    let out = bundle.hoy(&["run", "a"]).output();
    if out.stderr.contains("limit:") {
        return hoy_tests::skip(&format!("no controllers here: {}", out.stderr));
    }
    assert_eq!(out.stdout, "33\n104857600\n", "{}", out.stderr);
    for mount in fs::read_dir("/sys/fs/cgroup").unwrap().map(|entry| entry.unwrap().path()) {
        assert!(!mount.join(&name[1..]).exists(), "{} is left in {}", name, mount.display());
        // The group above is this test's too; where it was not made there is nothing to remove.
        fs::remove_dir(mount.join(&name[1..name.len() - 2])).unwrap_or_default();
    }
    bundle.set("/linux/resources", json!({"unified": {"../../x.y": "1"}}));
    bundle.hoy(&["run", "a"]).fails(1, &["../../x.y"]);
}

#[test]
fn an_ordinary_user_is_told_which_limit_he_cannot_set() {
    let Some(mut bundle) = Bundle::new(User::One) else { return };
    bundle.set("/linux/resources", json!({"pids": {"limit": 9}}));
    bundle.hoy(&["run", "a"]).fails(1, &["set pids limit"]);
}

#[test]
fn hooks_run_in_order_with_the_state() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    let log = bundle.path("hooks");
    let hook = |name: &str| {
        let script = format!("read state; echo {name} $state >> {}", log.display());
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}])
    };
    let kinds = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];
    let hooks: serde_json::Map<_, _> = kinds.iter().map(|kind| ((*kind).to_owned(), hook(kind))).collect();
    bundle.set("/hooks", Value::Object(hooks));
    bundle.set("/hooks/startContainer", json!([{"path": "/bin/sh", "args": ["sh", "-c", "echo inside $(hostname)"]}]));
    assert_eq!(bundle.hoy(&["run", "a"]).fails(0, &[]), "");
    let told = fs::read_to_string(&log).unwrap();
    let first: Vec<&str> = told.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(first, kinds, "{told}");
    assert!(told.lines().all(|line| line.contains(r#""id":"a""#)), "{told}");
    bundle.set("/hooks", json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "exit 3"]}]}));
    bundle.hoy(&["run", "a"]).fails(1, &["createRuntime hook #0: \"/bin/sh\" failed: exit status: 3"]);
    bundle.set("/hooks", json!({"prestart": [{"path": "/bin/sleep", "args": ["sleep", "99"], "timeout": 1}]}));
    bundle.hoy(&["run", "a"]).fails(1, &["did not end within 1 s"]);
    assert_eq!(bundle.hoy(&["list", "-q"]).ok(), "");
}

#[test]
fn the_log_has_one_object() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    bundle.set("/process/args", json!(["/no/such"]));
    bundle.hoy(&["--log", "log", "--log-format", "json", "run", "a"]).fails(1, &[]);
    let log: Value = serde_json::from_slice(&fs::read(bundle.path("log")).unwrap()).unwrap();
    assert_eq!(log["level"], "error");
    assert!(log["msg"].as_str().unwrap().contains("/no/such") && log["time"].is_string(), "{log}");
    // What was done is an object before it, and on standard error only where there is no log.
    let told = bundle.hoy(&["--debug", "--log", "more", "--log-format", "json", "state", "none"]).fails(1, &[]);
    assert!(!told.contains("debug"), "{told}");
    let text = fs::read_to_string(bundle.path("more")).unwrap();
    let levels = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["level"].clone());
    assert_eq!(levels.collect::<Vec<_>>(), ["debug", "debug", "error"]);
    bundle.hoy(&["--debug", "state", "none"]).fails(1, &["level=debug msg=\"State"]);
}

#[test]
fn a_terminal_for_who_asks() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    bundle.set("/process/terminal", json!(true));
    bundle.set("/process/consoleSize", json!({"height": 31, "width": 77}));
    bundle.script("tty; test -c /dev/console && exit 5");
    bundle.hoy(&["create", "a"]).fails(1, &["needs --console-socket"]);
    let console = receive_at(&bundle.path("console"));
    let receiver = std::thread::spawn(move || {
        let mut master = fs::File::from(console.join().unwrap().1);
        let size = rustix::termios::tcgetwinsize(&master).unwrap();
        assert_eq!((size.ws_row, size.ws_col), (31, 77));
        let mut screen = Vec::new();
        // The end of a terminal is an error.
        master.read_to_end(&mut screen).map(drop).unwrap_or_default();
        String::from_utf8_lossy(&screen).into_owned()
    });
    bundle.leave(&["create", "--console-socket", "console", "a"]);
    bundle.hoy(&["start", "a"]).ok();
    assert_eq!(receiver.join().unwrap(), "/dev/pts/0\r\n");
    bundle.hoy(&["delete", "-f", "a"]).ok();
}

#[test]
fn peers_run_the_same_bundle() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    bundle.set("/ociVersion", json!("1.0.2"));
    // crun makes /dev/core even where the kernel has no /proc/kcore.
    bundle.script(
        "id; pwd; env | sort; hostname; ls /dev | grep -vx core | sort; grep -E 'Cap|NoNew' /proc/self/status; umask",
    );
    let ours = bundle.hoy(&["run", "a"]).ok();
    for peer in ["runc", "crun"].into_iter().filter(|peer| need(&[peer])) {
        let out = bundle.runtime(peer, &["run", "a"]).output();
        // Debian's crun knows either version of control groups, and not both at once.
        if peer == "crun" && out.status != 0 && out.stderr.contains("cgroup") {
            skip(&format!("crun does not run on this machine's control groups: {}", out.stderr.trim()));
            continue;
        }
        assert_eq!((out.status, out.stdout.trim()), (0, ours.as_str()), "{peer}: {}", out.stderr);
    }
}
