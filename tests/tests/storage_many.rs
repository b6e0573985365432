//! Many processes at work on one store at once: nobody sees an error that is not his own, and the store is whole in the end.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use hoy_tests::{Out, Run, Sandbox, User, busybox_store, is_long};

/// What a command may say when another one was faster.
const FASTER: &[(&str, &[&str])] = &[
    ("rm", &["container not known"]),
    ("umount", &["container not known", "is in use"]),
    ("mount", &["container not known"]),
    ("diff", &["container not known"]),
    ("export", &["container not known"]),
    ("rename", &["container not known", "in use by container"]),
    ("create", &["image not known", "in use by container"]),
    ("history", &["image not known"]),
    ("tree", &["image not known"]),
    ("tag", &["image not known"]),
    ("untag", &["image not known"]),
    ("rmi", &["image not known", "is in use by container"]),
    ("unpack", &["image not known"]),
    // Somebody removes the container before its working record is in it.
    ("from", &["image not known", "container not known", "/containers/"]),
    ("commit", &["container not known", "no working container"]),
];

/// Numbers that look random and are the same in every run: xorshift.
struct Dice(u64);

impl Dice {
    fn below(&mut self, count: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 8) % count
    }

    fn image(&mut self) -> String {
        ["busybox", "busybox", "second", "a", "b", "c"][self.below(6) as usize].to_owned()
    }

    fn container(&mut self) -> String {
        format!("c{}", self.below(6))
    }
}

/// A command by chance: the program and its arguments.
fn command(dice: &mut Dice, sandbox: &Sandbox, place: &str) -> (&'static str, Vec<String>) {
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    let layout = |name: &str| format!("oci:{}:{name}", sandbox.path("layout").display());
    let (image, container, other) = (dice.image(), dice.container(), dice.container());
    let storage = match dice.below(24) {
        0..=3 => words(&["create", "--name", &container, &image]),
        4 | 5 => words(&["rm", &container]),
        6 => words(&["rm", "--force", "--all"]),
        7 => words(&["images"]),
        8 => words(&["containers"]),
        9 => words(&["mount", &container]),
        10 => words(&["umount", &container]),
        11 => words(&["diff", &container]),
        12 => words(&["rename", &container, &other]),
        13 => words(&["tag", &image, &dice.image()]),
        14 => words(&["rmi", &image]),
        15 => words(&["history", &image]),
        16 => words(&["prune", "--force"]),
        17 => words(&["prune", "--force", "--all-layers"]),
        18 => words(&["check"]),
        19 => words(&["df"]),
        20 => words(&["tree", &image]),
        21 => words(&["unpack", &image, place]),
        22 => {
            let (from, to) = [("busybox:latest", "busybox"), ("second", "second")][dice.below(2) as usize];
            return ("hoy-copy", words(&["copy", "-q", &layout(from), &format!("store:{to}")]));
        }
        _ => return ("hoy-build", words(&["from", "--pull-never", &image])),
    };
    ("hoy-storage", storage)
}

/// Whether it went well, or another command was faster.
fn is_fine(args: &[String], out: &Out) -> bool {
    // "rm --force" and the like may meet what is just being mounted; everything else has no excuse.
    let excuses = FASTER.iter().find(|(name, _)| args.first().is_some_and(|arg| arg == name));
    let is_excused = |line: &str| excuses.is_some_and(|(_, says)| says.iter().any(|words| line.contains(words)));
    let is_known = |line: &str| {
        is_excused(line)
            || line.starts_with("hint:")
            || line.contains("waiting for")
            || line.contains("could not be set")
    };
    match out.status {
        0 => out.stderr.lines().all(is_known),
        1 | 125 => out.stderr.lines().all(is_known) && out.stderr.lines().any(is_excused),
        _ => false,
    }
}

fn many(user: User, processes: u64) {
    let Some(sandbox) = busybox_store(user) else { return };
    let layout = sandbox.path("layout");
    let place = |name: &str| format!("{}:{name}", layout.display());
    std::fs::create_dir(sandbox.path("extra")).unwrap();
    std::fs::write(sandbox.path("extra/file"), "extra").unwrap();
    Run::new("umoci").args(["tag", "--image", &place("busybox:latest"), "second"]).ok();
    Run::new("umoci")
        .args(["insert", "--rootless", "--image", &place("second")])
        .arg(sandbox.path("extra"))
        .arg("/extra")
        .ok();
    Run::new("chmod").args(["-R", "a+rX"]).arg(&layout).ok();
    let (end, most) = if is_long() { (Duration::from_secs(180), 100) } else { (Duration::from_secs(6), 1000) };
    let (start, done, failed) = (Instant::now(), AtomicU32::new(0), AtomicU32::new(0));
    let work = |number: u64| {
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ (number + 1).wrapping_mul(0x2545_f491_4f6c_dd1d));
        for round in 0..most {
            if start.elapsed() > end {
                break;
            }
            let directory = sandbox.path(&format!("work/{number}-{round}"));
            let (program, args) = command(&mut dice, &sandbox, directory.to_str().unwrap());
            let out = sandbox.run(program).args(&args).output();
            done.fetch_add(1, Ordering::Relaxed);
            if !is_fine(&args, &out) {
                failed.fetch_add(1, Ordering::Relaxed);
                eprintln!("{program} {args:?} ended with {}: {}", out.status, out.stderr);
            }
        }
    };
    std::thread::scope(|scope| (0..processes).for_each(|number| drop(scope.spawn(move || work(number)))));
    eprintln!("{user:?}: {} commands of {processes} processes in {:?}", done.load(Ordering::Relaxed), start.elapsed());
    assert_eq!(failed.load(Ordering::Relaxed), 0);
    // The store is whole, and still of use.
    let clean = |args: &[&str]| assert_eq!(sandbox.run("hoy-storage").args(args).fails(0, &[]), "");
    clean(&["check", "--deep"]);
    sandbox.ok("hoy-storage", &["rm", "--force", "--all"]);
    sandbox.ok("hoy-copy", &["copy", "-q", &format!("oci:{}:second", layout.display()), "store:second"]);
    sandbox.ok("hoy-storage", &["prune", "--force"]);
    clean(&["check", "--deep"]);
    assert_eq!(sandbox.ok("hoy", &["run", "--rm", "second", "cat", "/extra/file"]), "extra");
    sandbox.ok("hoy-storage", &["prune", "--force", "--all"]);
    for directory in ["root/blobs/sha256", "root/layers"] {
        let left: Vec<_> =
            std::fs::read_dir(sandbox.path(directory)).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(left.is_empty(), "{directory}: {left:?}");
    }
}

/// Root and two users, each with a store, at once.
#[test]
fn many_processes_on_one_store() {
    let users = [User::Root, User::Sub, User::One];
    let share = |user| {
        if is_long() {
            32
        } else if user == User::Root {
            8
        } else {
            4
        }
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = users.into_iter().map(|user| (user, scope.spawn(move || many(user, share(user))))).collect();
        for (user, running) in all {
            assert!(running.join().is_ok(), "{user:?}");
        }
    });
}
