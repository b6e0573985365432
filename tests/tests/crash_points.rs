//! Every command that changes a store is killed at each of its system calls: the store is whole afterwards, the command
//! succeeds when it is run again, and prune leaves nothing behind.

use hoy_tests::{Call, Deed, Registry, Run, User, Victim, need};

/// Kills the program at each call that anybody else could see: between two of those it is in one and the same state.
fn kill_everywhere(victim: &Victim, name: &str, command: &dyn Fn() -> Run, repeated: Option<&str>) {
    let trial = victim.trial(name, command, repeated);
    for deed in [Deed::Kill, Deed::KillAll] {
        let (done, all) = trial.everywhere(&Call::changes, deed, &mut |_| Ok(()));
        eprintln!("{name}: {deed:?} at {done} of {all} system calls");
        assert!(done > 0, "{name} was never killed");
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
    kill_everywhere(&victim, "pull from a layout", &|| copy(victim.source("new")), None);
    let registry = Registry::start();
    let name = format!("docker://{}/new:latest", registry.address());
    Run::new("skopeo").args(["copy", "-q", "--dest-tls-verify=false", &victim.source("new"), &name]).ok();
    kill_everywhere(&victim, "pull from a registry", &|| copy(name.clone()), None);
}

#[test]
fn killed_pulls_root() {
    pulls(User::Root);
}

#[test]
fn killed_pulls_subordinate_ids() {
    pulls(User::Sub);
}

/// A victim with both images in the store, none of the second's layers unpacked.
fn with_both(user: User) -> Option<Victim> {
    let victim = Victim::new(user)?;
    victim.sandbox.ok("hoy-copy", &["copy", &victim.source("new"), "store:new"]);
    victim.keep();
    Some(victim)
}

fn containers(user: User) {
    let Some(victim) = with_both(user) else { return };
    let storage = |args: &[&str]| victim.sandbox.run("hoy-storage").args(args);
    kill_everywhere(&victim, "create", &|| storage(&["create", "new"]), None);
    victim.reset();
    victim.sandbox.ok("hoy-storage", &["create", "--name", "second", "new"]);
    victim.keep();
    kill_everywhere(&victim, "create again", &|| storage(&["create", "new"]), None);
    kill_everywhere(&victim, "mount", &|| storage(&["mount", "second"]), None);
    kill_everywhere(&victim, "rename", &|| storage(&["rename", "second", "other"]), Some("\"second\""));
    kill_everywhere(&victim, "rm", &|| storage(&["rm", "second"]), Some("\"second\""));
}

#[test]
fn killed_containers_root() {
    containers(User::Root);
}

#[test]
fn killed_containers_subordinate_ids() {
    containers(User::Sub);
}

fn images(user: User) {
    let Some(victim) = with_both(user) else { return };
    let storage = |args: &[&str]| victim.sandbox.run("hoy-storage").args(args);
    kill_everywhere(&victim, "tag", &|| storage(&["tag", "new", "other"]), None);
    kill_everywhere(&victim, "rmi", &|| storage(&["rmi", "new"]), Some("no image is named"));
    kill_everywhere(&victim, "commit", &|| victim.sandbox.run("hoy-build").args(["commit", "old", "made"]), None);
    // What prune finds: an image without a name, an unneeded layer, and what killed commands left.
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
    kill_everywhere(&victim, "prune", &|| storage(&["prune", "--all", "--force"]), None);
}

#[test]
fn killed_images_root() {
    images(User::Root);
}

#[test]
fn killed_images_subordinate_ids() {
    images(User::Sub);
}
