//! The whole way: registry → store → running container → changed image → registry, for root and for ordinary users.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use hoy_tests::{Registry, Run, Sandbox, User, busybox_layout, debian_layout, listing, need, program};

const PEERS: &[&str] = &["debootstrap", "umoci", "skopeo", "docker-registry", "setcap", "setfattr"];

fn cache() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// Pushes the image `name` of a layout to a registry with skopeo, and returns its name there.
fn push(layout: &Path, name: &str, registry: &Registry) -> String {
    let target = format!("docker://{}/{name}", registry.address());
    let source = format!("oci:{}:{name}", layout.display());
    Run::new("skopeo").args(["copy", "-q", "--dest-tls-verify=false", &source, &target]).ok();
    target
}

fn pull(sandbox: &Sandbox, source: &str, name: &str) -> String {
    sandbox.ok("hoy-copy", &["copy", "--src-tls-verify=false", source, &format!("store:{name}")])
}

/// Runs a program on a terminal, types `input`, and returns its exit code and what the screen showed.
fn on_a_terminal(mut run: Run, input: &str) -> (Option<i32>, String) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let slave = || fs::OpenOptions::new().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let mut child = run.command().stdin(slave()).stdout(slave()).stderr(slave()).spawn().unwrap();
    drop(run);
    let mut master = fs::File::from(master);
    master.write_all(input.as_bytes()).unwrap();
    let mut reader = master.try_clone().unwrap();
    let screen = std::thread::spawn(move || {
        let mut screen = Vec::new();
        // Reading fails once the last one with the terminal open has gone.
        reader.read_to_end(&mut screen).map(drop).unwrap_or_default();
        String::from_utf8_lossy(&screen).into_owned()
    });
    let status = child.wait().unwrap();
    (status.code(), screen.join().unwrap())
}

fn debian_runs(user: User) {
    if !user.available() || !need(PEERS) {
        return;
    }
    let registry = Registry::start();
    let layout = debian_layout(cache());
    let source = push(&layout, "debian:12", &registry);
    let sandbox = Sandbox::for_user(user);
    let digest = pull(&sandbox, &source, "debian:12");
    let theirs = Run::new("skopeo").args(["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &source]).ok();
    assert_eq!(digest, theirs);

    assert!(sandbox.ok("hoy", &["run", "--rm", "debian:12", "cat", "/etc/os-release"]).contains("bookworm"));
    assert_eq!(sandbox.ok("hoy", &["run", "--rm", "debian:12", "dpkg", "--verify"]), "");
    assert!(sandbox.ok("hoy", &["run", "--rm", "debian:12", "apt-get", "--version"]).contains("amd64"));
    let shell = sandbox.run("hoy").args(["run", "--rm", "-it", "debian:12", "sh"]);
    let (code, screen) = on_a_terminal(shell, "tty; echo answer $((40+2)); exit 7\n");
    assert_eq!(code, Some(7), "{screen}");
    assert!(screen.contains("answer 42") && screen.contains("/dev/pts/"), "{screen}");
    assert_eq!(sandbox.ok("hoy-storage", &["containers", "-q"]), "", "--rm leaves nothing");

    let theirs = tempfile::tempdir_in(cache()).unwrap();
    let image = format!("{}:debian:12", layout.display());
    Run::new("umoci").args(["unpack", "--image", &image]).arg(theirs.path().join("bundle")).ok();
    let mut want = listing(&theirs.path().join("bundle/rootfs"), Run::new);
    let ours = sandbox.path("work/plain");
    sandbox.ok("hoy-storage", &["unpack", "debian:12", ours.to_str().unwrap()]);
    let mut have = listing(&ours, |name| sandbox.run("hoy-storage").args(["unshare", "--", name]));
    if user != User::Root {
        // Only root makes device nodes and owns ids beyond its own; these are recorded, and looked at below.
        let special = |line: &String| {
            !line.contains(" special file ") && !line.contains("override_stat") && !line.contains(":3000000 ")
        };
        let stand_ins: Vec<String> = want
            .iter()
            .filter(|l| !special(l))
            .filter_map(|l| Some(l.split(' ').next()?.trim_start_matches("./").to_owned()))
            .collect();
        want.retain(special);
        have.retain(|line| {
            special(line) && !stand_ins.iter().any(|name| line.split(' ').next().is_some_and(|n| n == name))
        });
    }
    let missing: Vec<_> = want.iter().filter(|line| !have.contains(line)).take(20).collect();
    let extra: Vec<_> = have.iter().filter(|line| !want.contains(line)).take(20).collect();
    assert!(missing.is_empty() && extra.is_empty(), "umoci has {missing:#?}\nhoy-storage has {extra:#?}");
    assert!(want.len() > 5000, "{} files", want.len());
}

#[test]
fn debian_as_root() {
    debian_runs(User::Root);
}

#[test]
fn debian_as_user() {
    debian_runs(User::Sub);
}

/// A small program's sources, with the `install` target that every program has.
fn sources(sandbox: &Sandbox) -> String {
    let dir = sandbox.path("work/src");
    fs::create_dir_all(&dir).unwrap();
    let makefile = "install:\n\tinstall -D -m 755 busybox $(DESTDIR)/bin/busybox\n\tln -sf busybox $(DESTDIR)/bin/sh\n\
                    \tln -sf busybox $(DESTDIR)/bin/cat\n\tinstall -D -m 644 motd $(DESTDIR)/etc/motd\n\tinstall -d -m 1777 $(DESTDIR)/tmp\n";
    fs::write(dir.join("Makefile"), makefile).unwrap();
    fs::write(dir.join("motd"), "made without a daemon\n").unwrap();
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|p| Path::new(p).exists()).unwrap();
    fs::copy(busybox, dir.join("busybox")).unwrap();
    dir.to_str().unwrap().to_owned()
}

/// Builds `app` from nothing through the plain shell, and returns the manifest's digest.
fn build(sandbox: &Sandbox, image: &str) -> String {
    let sources = sources(sandbox);
    let container = sandbox.ok("hoy-build", &["from", "scratch"]);
    let mount = sandbox.ok("hoy-build", &["mount", &container]);
    sandbox.run("make").args(["-s", "-C", &sources, "install"]).arg(format!("DESTDIR={mount}")).ok();
    sandbox.run("cp").arg(format!("{sources}/motd")).arg(format!("{mount}/etc/issue")).ok();
    sandbox.ok(
        "hoy-build",
        &["config", "--cmd", "cat /etc/motd", "--env", "PATH=/bin", "--label", "kind=test", &container],
    );
    let first = sandbox.ok("hoy-build", &["commit", &container, image]);
    let digest = sandbox.ok("hoy-copy", &["inspect", "--format", "{{.Digest}}", &format!("store:{image}")]);
    let second = sandbox.ok("hoy-build", &["commit", &container, image]);
    assert_eq!(first, second, "two commits, one image");
    sandbox.ok("hoy-build", &["rm", &container]);
    digest
}

fn build_and_push(user: User) {
    if !user.available() || !need(&["skopeo", "umoci", "podman", "docker-registry", "make", "busybox"]) {
        return;
    }
    let registry = Registry::start();
    let sandbox = Sandbox::for_user(user);
    let digest = build(&sandbox, "app");
    assert_eq!(sandbox.ok("hoy", &["run", "--rm", "app"]), "made without a daemon");
    let name = format!("docker://{}/app:1", registry.address());
    let pushed = sandbox.ok("hoy-copy", &["copy", "--dest-tls-verify=false", "store:app", &name]);
    assert_eq!(pushed, digest);

    let skopeo = Run::new("skopeo").args(["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &name]).ok();
    assert_eq!(skopeo, digest);
    let peer = Sandbox::new();
    let layout = peer.path("work/layout");
    let target = format!("oci:{}:app", layout.display());
    Run::new("skopeo").args(["copy", "-q", "--src-tls-verify=false", &name, &target]).ok();
    let index: serde_json::Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    assert_eq!(index["manifests"][0]["digest"], digest.as_str());
    let stat = Run::new("umoci").args(["stat", "--json", "--image", &format!("{}:app", layout.display())]).ok();
    assert!(stat.contains("history"), "{stat}");
    let bundle = peer.path("work/bundle");
    Run::new("umoci").args(["unpack", "--image", &format!("{}:app", layout.display())]).arg(&bundle).ok();
    assert_eq!(fs::read_to_string(bundle.join("rootfs/etc/issue")).unwrap(), "made without a daemon\n");

    let podman = |args: &[&str]| {
        let run = Run::new("podman").arg("--root").arg(peer.path("root")).arg("--runroot").arg(peer.path("run"));
        run.args(["--cgroup-manager", "cgroupfs", "--runtime"]).arg(program("hoy-runtime")).args(args).ok()
    };
    let name = name.trim_start_matches("docker://");
    podman(&["pull", "-q", "--tls-verify=false", name]);
    assert_eq!(podman(&["image", "inspect", "--format", "{{.Digest}}", name]), digest);
    let limits = ["--network", "none", "--ulimit", "nofile=1000:1000", "--ulimit", "nproc=1000:1000"];
    let args = [&["run", "--rm"], &limits[..], &[name]].concat();
    assert_eq!(podman(&args), "made without a daemon");
    podman(&["rmi", "-a", "-f"]);
}

#[test]
fn build_and_push_as_root() {
    build_and_push(User::Root);
}

#[test]
fn build_and_push_as_user() {
    build_and_push(User::Sub);
}

#[test]
fn one_digest_for_everybody() {
    let mut digests = Vec::new();
    for user in [User::Root, User::Sub, User::One] {
        if !user.available() || !need(&["make", "busybox"]) {
            return;
        }
        digests.push(build(&Sandbox::for_user(user), "app"));
    }
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "{digests:?}");
}

#[test]
fn one_id_is_enough() {
    if !User::One.available() || !need(&["umoci", "busybox"]) {
        return;
    }
    let sandbox = Sandbox::for_user(User::One);
    let layout = sandbox.path("layout");
    busybox_layout(&layout);
    pull(&sandbox, &format!("oci:{}:busybox:latest", layout.display()), "busybox");
    let owner = ["run", "--rm", "busybox", "sh", "-c", "touch /tmp/f && chown 7:8 /tmp/f && echo done"];
    assert_eq!(sandbox.ok("hoy", &owner), "done");
}

#[test]
fn any_runtime_runs_our_bundle() {
    if !User::Root.available() || !need(&["umoci", "busybox"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let layout = sandbox.path("layout");
    busybox_layout(&layout);
    pull(&sandbox, &format!("oci:{}:busybox:latest", layout.display()), "busybox");
    for runtime in ["runc", "crun"] {
        if !need(&[runtime]) {
            continue;
        }
        let bundle = sandbox.path(&format!("work/{runtime}"));
        fs::create_dir(&bundle).unwrap();
        let id = sandbox.ok("hoy-storage", &["create", "--bundle", bundle.to_str().unwrap(), "busybox"]);
        let config =
            sandbox.ok("hoy-spec", &["--network", "none", "--cgroups", "disabled", "busybox", "--", "echo", "ahoy"]);
        fs::write(bundle.join("config.json"), config).unwrap();
        // Debian's crun refuses this kind of cgroup hierarchy altogether; hide it as a container would.
        let script = format!(
            "umount /sys/fs/cgroup/unified 2>/dev/null; exec {runtime} run --bundle '{}' hoy-test-{runtime}",
            bundle.display()
        );
        assert_eq!(Run::new("unshare").args(["-m", "sh", "-c", &script]).ok(), "ahoy");
        sandbox.ok("hoy-storage", &["rm", &id]);
    }
    assert_eq!(sandbox.ok("hoy", &["run", "--rm", "--runtime", "runc", "busybox", "echo", "ahoy"]), "ahoy");
}

#[test]
fn foreign_tools_read_the_store() {
    if !need(&["umoci", "skopeo", "busybox"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let layout = sandbox.path("layout");
    busybox_layout(&layout);
    let digest = pull(&sandbox, &format!("oci:{}:busybox:latest", layout.display()), "busybox");
    let root = sandbox.path("root");
    let name = format!("oci:{}:localhost/busybox:latest", root.display());
    assert_eq!(Run::new("skopeo").args(["inspect", "--format", "{{.Digest}}", &name]).ok(), digest);
    assert!(Run::new("umoci").args(["ls", "--layout"]).arg(&root).ok().contains("localhost/busybox:latest"));
}
