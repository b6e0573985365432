//! Many containers made, run and deleted at once: afterwards the machine is as it was before.

use std::thread;

use hoy_tests::{Bundle, Machine, User};

const LOOPS: usize = 4;

/// How many containers each loop makes.
fn containers() -> usize {
    if std::env::var_os("HOY_LONG").is_some() { 1000 / LOOPS } else { 100 / LOOPS }
}

/// One container's life, of one of four kinds.
fn live(bundle: &Bundle, id: &str, kind: usize) {
    let delete = |args: &[&str]| bundle.hoy(args).arg(id).ok();
    match kind {
        0 => assert_eq!(bundle.hoy(&["run", "--no-new-keyring", id]).output().status, 0),
        1 => {
            bundle.leave(&["create", id]);
            delete(&["delete"]);
        }
        2 => {
            bundle.leave(&["create", id]);
            bundle.hoy(&["start", id]).ok();
            bundle.hoy(&["exec", id, "true"]).output();
            delete(&["delete", "--force"]);
        }
        _ => {
            bundle.leave(&["run", "--detach", "--preserve-fds", "0", id]);
            delete(&["delete", "--force"]);
        }
    }
}

fn many(user: User, name: &str) {
    let id = format!("many-{name}-{}", std::process::id());
    let mut bundles: Vec<Bundle> = (0..LOOPS).map_while(|_| Bundle::new(user)).collect();
    if bundles.len() < LOOPS {
        return;
    }
    for bundle in &mut bundles {
        bundle.script("sleep 0.02 & true");
        // What one of them leaves for the next, its mount points and the directory of states, is there from now on.
        live(bundle, &id, 2);
    }
    let machines = bundles.iter().map(|bundle| Machine::new(&bundle.path(".."), &id));
    let machines: Vec<_> = machines.map(|machine| (machine.look(), machine)).collect();
    thread::scope(|scope| {
        for (number, bundle) in bundles.iter().enumerate() {
            let id = format!("{id}-{number}");
            scope.spawn(move || (0..containers()).for_each(|turn| live(bundle, &id, turn % 4)));
        }
    });
    for (bundle, (before, machine)) in bundles.iter().zip(&machines) {
        assert_eq!(bundle.hoy(&["list", "--quiet"]).ok(), "");
        machine.is_as(before, "many containers");
    }
}

#[test]
fn many_containers_root() {
    many(User::Root, "root");
}

#[test]
fn many_containers_subordinate_ids() {
    many(User::Sub, "sub");
}

#[test]
fn many_containers_one_id() {
    many(User::One, "one");
}
