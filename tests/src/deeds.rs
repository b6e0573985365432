//! Every command that changes a store, each on a store of its own that it finds as it needs it.

use crate::{Registry, Run, User, Victim, need};

/// What is to happen to a command: the store, its name, how it is run, and what it says when it is run again though its
/// work is done.
pub type Ordeal = fn(&Victim, &str, &dyn Fn() -> Run, Option<&str>);

/// Pulls of an image.
pub fn pulls(user: User, ordeal: Ordeal) {
    if !need(&["skopeo", "docker-registry"]) {
        return;
    }
    let Some(victim) = Victim::new(user) else { return };
    victim.keep();
    let copy =
        |from: String| victim.sandbox.run("hoy-copy").args(["copy", "--src-tls-verify=false", &from, "store:new"]);
    ordeal(&victim, "pull from a layout", &|| copy(victim.source("new")), None);
    let registry = Registry::start();
    let name = format!("docker://{}/new:latest", registry.address());
    Run::new("skopeo").args(["copy", "-q", "--dest-tls-verify=false", &victim.source("new"), &name]).ok();
    ordeal(&victim, "pull from a registry", &|| copy(name.clone()), None);
}

/// A victim with both images in the store, none of the second's layers unpacked.
fn with_both(user: User) -> Option<Victim> {
    let victim = Victim::new(user)?;
    victim.sandbox.ok("hoy-copy", &["copy", &victim.source("new"), "store:new"]);
    victim.keep();
    Some(victim)
}

/// What is done with containers.
pub fn containers(user: User, ordeal: Ordeal) {
    let Some(victim) = with_both(user) else { return };
    let storage = |args: &[&str]| victim.sandbox.run("hoy-storage").args(args);
    ordeal(&victim, "create", &|| storage(&["create", "new"]), None);
    ordeal(&victim, "unpack", &|| storage(&["unpack", "new", "tree"]), Some("is not empty"));
    victim.reset();
    victim.sandbox.ok("hoy-storage", &["create", "--name", "second", "new"]);
    victim.keep();
    ordeal(&victim, "create again", &|| storage(&["create", "new"]), None);
    ordeal(&victim, "mount", &|| storage(&["mount", "second"]), None);
    ordeal(&victim, "rename", &|| storage(&["rename", "second", "other"]), Some("\"second\""));
    ordeal(&victim, "rm", &|| storage(&["rm", "second"]), Some("\"second\""));
}

/// What is done with images.
pub fn images(user: User, ordeal: Ordeal) {
    let Some(victim) = with_both(user) else { return };
    let storage = |args: &[&str]| victim.sandbox.run("hoy-storage").args(args);
    ordeal(&victim, "tag", &|| storage(&["tag", "new", "other"]), None);
    ordeal(&victim, "rmi", &|| storage(&["rmi", "new"]), Some("image not known"));
    ordeal(&victim, "commit", &|| victim.sandbox.run("hoy-build").args(["commit", "old", "made"]), None);
    // What prune finds: an image without a name, an unneeded layer, and what killed commands left.
    victim.reset();
    victim.sandbox.ok("hoy-storage", &["create", "--name", "second", "new"]);
    victim.sandbox.ok("hoy-storage", &["rm", "--force", "second"]);
    let left = "cd \"$HOY_ROOT\" && : >.tmp-1 && mkdir layers/.tmp-2 && : >layers/.tmp-2/a";
    victim.sandbox.run("sh").args(["-c", left]).ok();
    victim.sandbox.ok("hoy-storage", &["untag", "new"]);
    victim.keep();
    ordeal(&victim, "prune", &|| storage(&["prune", "--all", "--force"]), None);
}
