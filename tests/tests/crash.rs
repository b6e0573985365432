//! kill -9 at random moments: nothing that was acknowledged is lost, nothing stays that cannot be reclaimed.

use std::fs;
use std::time::{Duration, Instant};

use hoy_tests::{Registry, Run, Sandbox, User, busybox_layout, need};

/// How often each command is killed.
fn rounds() -> u32 {
    if std::env::var_os("HOY_LONG").is_some() { 200 } else { 30 }
}

/// A registry with an image of several megabytes in it, so that there is something to interrupt.
fn registry_with_image(sandbox: &Sandbox) -> (Registry, String) {
    let registry = Registry::start();
    let layout = sandbox.path("layout");
    busybox_layout(&layout);
    let image = format!("{}:busybox:latest", layout.display());
    for layer in 0..3 {
        let dir = sandbox.path(&format!("payload{layer}"));
        fs::create_dir_all(dir.join("many")).unwrap();
        Run::new("sh").arg("-c").arg(format!("head -c 6000000 /dev/urandom >'{}/big'", dir.display())).ok();
        for file in 0..200 {
            fs::write(dir.join(format!("many/{file}")), file.to_string()).unwrap();
        }
        Run::new("umoci").args(["insert", "--image", &image]).arg(&dir).arg(format!("/payload{layer}")).ok();
    }
    let name = format!("docker://{}/busybox:latest", registry.address());
    Run::new("skopeo").args(["copy", "-q", "--dest-tls-verify=false", &format!("oci:{image}"), &name]).ok();
    (registry, name)
}

/// The whole process group of a run is killed after `delay`; when it had finished before, how long it took.
fn kill_after(mut run: Run, delay: Duration) -> Option<Duration> {
    use std::os::unix::process::CommandExt;
    run.command().process_group(0);
    let mut child = run.spawn();
    let start = Instant::now();
    while start.elapsed() < delay {
        if child.try_wait().unwrap().is_some() {
            return Some(start.elapsed());
        }
        std::thread::sleep(Duration::from_micros(300));
    }
    let group = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
    child.wait().unwrap();
    None
}

/// Kills `command` at moments spread over the time it takes undisturbed, running `after` each time.
fn kill_often(command: impl Fn() -> Run, before: impl Fn(), after: impl Fn()) {
    before();
    let start = Instant::now();
    command().ok();
    let mut whole = start.elapsed();
    after();
    let mut killed = 0;
    for round in 0..rounds() {
        before();
        // A fixed sequence that visits early, middle and late moments alike (golden ratio).
        let part = (f64::from(round) * 0.618_034).fract();
        match kill_after(command(), whole.mul_f64(part)) {
            None => killed += 1,
            // The machine was busier before.
            Some(shorter) => whole = whole.min(shorter),
        }
        after();
    }
    assert!(killed * 3 > rounds(), "only {killed} of {} were killed in time", rounds());
}

fn prune(sandbox: &Sandbox) -> u64 {
    sandbox.ok("hoy-storage", &["prune", "--force"]);
    sandbox.disk_kib("root")
}

fn is_whole(sandbox: &Sandbox) {
    sandbox.ok("hoy-storage", &["check"]);
}

#[test]
fn killed_pull() {
    if !User::Root.available() || !need(&["umoci", "skopeo", "docker-registry", "busybox"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let (_registry, name) = registry_with_image(&sandbox);
    let pull = |target: &str| sandbox.run("hoy-copy").args(["copy", "--src-tls-verify=false", &name, target]);
    pull("store:kept").ok();
    let kept = prune(&sandbox);
    sandbox.ok("hoy-storage", &["rmi", "--force", "kept"]);
    let empty = || {
        sandbox.run("hoy-storage").args(["rmi", "--force", "again"]).output();
        prune(&sandbox);
    };
    kill_often(|| pull("store:again"), empty, || is_whole(&sandbox));
    pull("store:again").ok();
    assert!(prune(&sandbox) <= kept + 64, "{} KiB, wanted {kept}", sandbox.disk_kib("root"));
    assert_eq!(sandbox.ok("hoy", &["run", "--rm", "again", "echo", "whole"]), "whole");
}

fn killed_container(user: User) {
    if !user.available() || !need(&["umoci", "skopeo", "docker-registry", "busybox"]) {
        return;
    }
    let sandbox = Sandbox::for_user(user);
    let (_registry, name) = registry_with_image(&sandbox);
    sandbox.ok("hoy-copy", &["copy", "--src-tls-verify=false", &name, "store:kept"]);
    let without_layers = prune(&sandbox);
    let run = || sandbox.run("hoy").args(["run", "--rm", "kept", "true"]);
    run().ok();
    let with_layers = sandbox.disk_kib("root");

    // Unpacking: the layer cache is emptied each time.
    let remove_all = || drop(sandbox.ok("hoy", &["rm", "--all", "--force"]));
    let cold = || {
        remove_all();
        sandbox.ok("hoy-storage", &["prune", "--force", "--all-layers"]);
    };
    kill_often(run, cold, || is_whole(&sandbox));
    // Running: the layers are there.
    run().ok();
    kill_often(run, || (), || is_whole(&sandbox));
    run().ok();
    remove_all();
    prune(&sandbox);
    let now = sandbox.disk_kib("root");
    assert!(now <= with_layers + 64, "{now} KiB, wanted {with_layers} ({without_layers} without layers)");
}

#[test]
fn killed_unpack_and_run_as_root() {
    killed_container(User::Root);
}

#[test]
fn killed_unpack_and_run_as_user() {
    killed_container(User::Sub);
}

#[test]
fn killed_commit() {
    if !User::Root.available() || !need(&["umoci", "busybox"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let layout = sandbox.path("layout");
    busybox_layout(&layout);
    sandbox.ok("hoy-copy", &["copy", &format!("oci:{}:busybox:latest", layout.display()), "store:base"]);
    let container = sandbox.ok("hoy-build", &["from", "base"]);
    let mount = sandbox.ok("hoy-build", &["mount", &container]);
    Run::new("sh").arg("-c").arg(format!("head -c 20000000 /dev/urandom >'{mount}/big'")).ok();
    let commit = || sandbox.run("hoy-build").args(["commit", &container, "made"]);
    let again = || drop(sandbox.run("hoy-storage").args(["rmi", "--force", "made"]).output());
    kill_often(commit, again, || is_whole(&sandbox));
    let first = commit().ok();
    assert_eq!(first, commit().ok());
    sandbox.ok("hoy-build", &["rm", &container]);
    let with_image = prune(&sandbox);
    assert_eq!(sandbox.ok("hoy", &["run", "--rm", "made", "wc", "-c", "/big"]), "20000000 /big");
    sandbox.ok("hoy-storage", &["rmi", "--force", "made"]);
    assert!(prune(&sandbox) + 19_000 < with_image, "removing the image gives its space back");
}
