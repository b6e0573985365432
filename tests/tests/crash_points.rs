//! Every command that changes a store is killed at each of its system calls: the store is whole afterwards, the command
//! succeeds when it is run again, and prune leaves nothing behind.

use hoy_tests::{Call, Deed, Run, User, Victim, deeds};

/// Kills the program at each call that anybody else could see: between two of those it is in one and the same state.
fn kill_everywhere(victim: &Victim, name: &str, command: &dyn Fn() -> Run, repeated: Option<&str>) {
    let trial = victim.trial(name, command, repeated);
    for deed in [Deed::Kill, Deed::KillAll] {
        let (done, all) = trial.everywhere(&Call::changes, deed, &mut |_| Ok(()));
        eprintln!("{name}: {deed:?} at {done} of {all} system calls");
        assert!(done > 0, "{name} was never killed");
    }
}

#[test]
fn killed_pulls_root() {
    deeds::pulls(User::Root, kill_everywhere);
}

#[test]
fn killed_pulls_subordinate_ids() {
    deeds::pulls(User::Sub, kill_everywhere);
}

#[test]
fn killed_containers_root() {
    deeds::containers(User::Root, kill_everywhere);
}

#[test]
fn killed_containers_subordinate_ids() {
    deeds::containers(User::Sub, kill_everywhere);
}

#[test]
fn killed_images_root() {
    deeds::images(User::Root, kill_everywhere);
}

#[test]
fn killed_images_subordinate_ids() {
    deeds::images(User::Sub, kill_everywhere);
}
