//! A full disk and a broken one: each system call on the store's files fails in turn. The command says what failed,
//! nothing that was acknowledged is lost, and prune leaves nothing behind.

use std::collections::BTreeMap;

use hoy_tests::{Call, Deed, Disturbed, Run, User, Victim, deeds};
use nix::errno::Errno;

fn fail_everywhere(victim: &Victim, name: &str, command: &dyn Fn() -> Run, repeated: Option<&str>) {
    let trial = victim.trial(name, command, repeated);
    let gives_space = matches!(name, "rm" | "rmi" | "prune");
    let (root, work) = (victim.sandbox.path("root"), victim.sandbox.path("work"));
    for (errno, words) in [(Errno::ENOSPC, "no space left on device"), (Errno::EIO, "input/output error")] {
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

#[test]
fn failing_pulls_root() {
    deeds::pulls(User::Root, fail_everywhere);
}

#[test]
fn failing_containers_root() {
    deeds::containers(User::Root, fail_everywhere);
}

#[test]
fn failing_containers_subordinate_ids() {
    deeds::containers(User::Sub, fail_everywhere);
}

#[test]
fn failing_images_root() {
    deeds::images(User::Root, fail_everywhere);
}
