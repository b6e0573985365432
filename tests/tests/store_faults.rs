//! A full disk and a broken one: each system call on the store's files fails in turn. The command says what failed,
//! nothing that was acknowledged is lost, and prune leaves nothing behind.

use std::collections::BTreeMap;

use hoy_tests::{Call, Deed, Disturbed, Registry, Run, User, Victim, need};
use nix::errno::Errno;

fn fail_everywhere(victim: &Victim, name: &str, command: &dyn Fn() -> Run, repeated: Option<&str>) {
    let trial = victim.trial(name, command, repeated);
    let gives_space = matches!(name, "rm" | "rmi" | "prune");
    let (root, work) = (victim.sandbox.path("root"), victim.sandbox.path("work"));
    for (errno, words) in [(Errno::ENOSPC, "No space left on device"), (Errno::EIO, "Input/output error")] {
        let counts = |call: &Call| {
            let can_fail = if errno == Errno::ENOSPC { call.needs_space() } else { call.name().is_some() };
            can_fail && call.is_below(&[&root, &work])
        };
        let mut unheeded: BTreeMap<String, u32> = BTreeMap::new();
        let mut look = |run: &Disturbed| match run.seen.status {
            // What gives space back needs none in the end; that it did its work is looked at like everything else.
            0 if run.seen.was_write && !(errno == Errno::ENOSPC && gives_space) => Err("unheeded".to_owned()),
            0 => {
                let at = run.seen.done_at.as_deref().and_then(|at| at.split(' ').next()).unwrap_or_default();
                *unheeded.entry(at.to_owned()).or_default() += 1;
                Ok(())
            }
            // 125 is what buildah fails with.
            1 | 125 if run.stderr.contains(words) && (run.stderr.contains('"') || run.stderr.contains("sha256:")) => {
                Ok(())
            }
            status => Err(format!("exit code {status}, and it says not what failed")),
        };
        let (done, all) = trial.everywhere(&counts, Deed::Fail(errno), &mut look);
        eprintln!("{name}: {errno} at {done} of {all} system calls; without consequence: {unheeded:?}");
        assert!(done > 0 || all == 0, "{name} never failed");
    }
}

fn pulls(user: User) {
    if !need(&["skopeo", "docker-registry"]) {
        return;
    }
    let Some(victim) = Victim::new(user) else { return };
    victim.keep();
    let copy =
        |from: String| victim.sandbox.run("hoy-copy").args(["copy", "--src-tls-verify=false", &from, "store:new"]);
    fail_everywhere(&victim, "pull from a layout", &|| copy(victim.source("new")), None);
    let registry = Registry::start();
    let name = format!("docker://{}/new:latest", registry.address());
    Run::new("skopeo").args(["copy", "-q", "--dest-tls-verify=false", &victim.source("new"), &name]).ok();
    fail_everywhere(&victim, "pull from a registry", &|| copy(name.clone()), None);
}

#[test]
fn failing_pulls_root() {
    pulls(User::Root);
}

fn with_both(user: User) -> Option<Victim> {
    let victim = Victim::new(user)?;
    victim.sandbox.ok("hoy-copy", &["copy", &victim.source("new"), "store:new"]);
    victim.keep();
    Some(victim)
}

fn containers(user: User) {
    let Some(victim) = with_both(user) else { return };
    let storage = |args: &[&str]| victim.sandbox.run("hoy-storage").args(args);
    fail_everywhere(&victim, "create", &|| storage(&["create", "new"]), None);
    fail_everywhere(&victim, "unpack", &|| storage(&["unpack", "new", "tree"]), None);
    victim.reset();
    victim.sandbox.ok("hoy-storage", &["create", "--name", "second", "new"]);
    victim.keep();
    fail_everywhere(&victim, "mount", &|| storage(&["mount", "second"]), None);
    fail_everywhere(&victim, "rename", &|| storage(&["rename", "second", "other"]), Some("\"second\""));
    fail_everywhere(&victim, "rm", &|| storage(&["rm", "second"]), Some("\"second\""));
}

#[test]
fn failing_containers_root() {
    containers(User::Root);
}

#[test]
fn failing_containers_subordinate_ids() {
    containers(User::Sub);
}

#[test]
fn failing_images_root() {
    let Some(victim) = with_both(User::Root) else { return };
    let storage = |args: &[&str]| victim.sandbox.run("hoy-storage").args(args);
    fail_everywhere(&victim, "tag", &|| storage(&["tag", "new", "other"]), None);
    fail_everywhere(&victim, "rmi", &|| storage(&["rmi", "new"]), Some("no image is named"));
    fail_everywhere(&victim, "commit", &|| victim.sandbox.run("hoy-build").args(["commit", "old", "made"]), None);
    victim.reset();
    victim.sandbox.ok("hoy-storage", &["create", "--name", "second", "new"]);
    victim.sandbox.ok("hoy-storage", &["rm", "--force", "second"]);
    victim
        .sandbox
        .run("sh")
        .args(["-c", "cd \"$HOY_ROOT\" && : >.tmp-1 && mkdir layers/.tmp-2 && : >layers/.tmp-2/a"])
        .ok();
    victim.sandbox.ok("hoy-storage", &["untag", "new"]);
    victim.keep();
    fail_everywhere(&victim, "prune", &|| storage(&["prune", "--all", "--force"]), None);
}
