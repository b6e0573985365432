//! COPY beside buildah, and beside what the work takes at the least: reading, framing and hashing the files. Two branches of
//! stages beside the longer of them. What a RUN takes above its command. A cache that travels beside doing its steps, and
//! verify beside building again. Some of it is done once more as an ordinary user with subordinate ids.
//!
//! `HOY_LONG=1` makes the contexts of the size that the goals speak of: 600 MB and 50,000 files.

use std::fs;
use std::path::Path;

use hoy_tests::{Registry, Run, Sandbox, User, busybox_store, has, is_long};

use fresh::renew;
use measure::{Command, beside, heading, measure, median, timed};

mod fresh;
mod measure;

const ROUNDS: usize = 3;
const BUILDAH: &str = "buildah --root p --runroot r bud -q --pull-never";

/// A context of so many files of so many bytes each, no two of them alike, and half of their bytes random.
fn context(directory: &Path, count: usize, bytes: usize) {
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for number in 0..count {
        let below = directory.join("files").join(format!("{}", number / 256));
        fs::create_dir_all(&below).expect("make a directory");
        let random = (0..bytes / 16).flat_map(|_| next().to_le_bytes());
        let content: Vec<u8> = random.chain(std::iter::repeat_n(b'x', bytes - bytes / 16 * 8)).collect();
        fs::write(below.join(format!("{number}")), content).expect("write a file");
    }
    fs::write(directory.join("Containerfile"), "FROM scratch\nCOPY files /files\n").expect("write a file");
}

/// What a row says of whose it is.
fn who(sandbox: &Sandbox) -> &'static str {
    if sandbox.user() == User::Root { "" } else { ", ordinary user" }
}

fn copies(what: &str, ours: &Sandbox, theirs: &Sandbox) {
    let directory = ours.path("work/context").display().to_string();
    let fresh = |script: String| -> Command<'_> {
        Box::new(move || {
            ours.run("hoy-storage").args(["reset", "--force"]).output();
            timed(ours, &script)
        })
    };
    let plain = fresh(format!("hoy-build build -q -D --no-cache {directory}"));
    let packed = fresh(format!("hoy-build build -q --no-cache {directory}"));
    let tar: Command = {
        let script = format!("tar -cf - -C {directory} files | sha256sum");
        Box::new(move || timed(theirs, &script))
    };
    let buildah: Command = {
        let script = format!("{BUILDAH} --no-cache -t it {directory}");
        Box::new(move || {
            theirs.run("sh").args(["-c", "buildah --root p --runroot r rmi -a -f"]).output();
            timed(theirs, &script)
        })
    };
    let peers = [("tar, sha256sum", &tar), ("buildah", &buildah)];
    beside(&format!("COPY of {what}, `-D`"), &plain, &peers, (1, ROUNDS), &ours.path("work"));
    beside(&format!("COPY of {what}, gzip"), &packed, &[("buildah", &buildah)], (1, ROUNDS), &ours.path("work"));
    let cached = format!("hoy-build build -q {directory}");
    ours.run("sh").args(["-c", &cached]).ok();
    let ours_cached: Command = Box::new(|| timed(ours, &cached));
    let theirs_cached = format!("{BUILDAH} --layers -t it {directory}");
    theirs.run("sh").args(["-c", &theirs_cached]).ok();
    let theirs_cached: Command = Box::new(|| timed(theirs, &theirs_cached));
    let peers = [("buildah", &theirs_cached)];
    beside(&format!("the same, cached, {what}"), &ours_cached, &peers, (1, ROUNDS), &ours.path("work"));
}

/// Two stages that wait, one longer than the other, and one that takes from both: beside the longer one alone.
fn branches(ours: &Sandbox) {
    let directory = ours.path("work/branches");
    fs::create_dir_all(&directory).expect("make a directory");
    let text = "FROM busybox AS long\nRUN sleep 1; echo > /long\nRUN sleep 1\nFROM busybox AS short\nRUN sleep 1; echo > /short\n\
                FROM scratch\nCOPY --from=long /long /\nCOPY --from=short /short /\n";
    fs::write(directory.join("Containerfile"), text).expect("write a file");
    let all = format!("hoy-build build -q --no-cache --jobs 2 {}", directory.display());
    let one = format!("hoy-build build -q --no-cache --target long {}", directory.display());
    let both: Command = Box::new(|| timed(ours, &all));
    let longer: Command = Box::new(|| timed(ours, &one));
    beside("two branches", &both, &[("the longer branch", &longer)], (1, ROUNDS), &ours.path("work"));
}

/// What a RUN takes above its command: ten of them, less a build of none and less the commands.
fn runs(ours: &Sandbox) {
    renew(ours, "work");
    let there = "export HOY_ROOT=$PWD/root HOY_RUNROOT=$PWD/run";
    let image = format!("{there}; hoy-copy copy -q oci:{}:busybox:latest store:busybox", ours.path("layout").display());
    ours.run("sh").args(["-c", &image]).ok();
    let seconds = |script: String| -> f64 {
        let script = format!("{there}; {script}");
        let times = (0..6).map(|_| measure(timed(ours, &script), &ours.path("work")).wall_seconds);
        // The first warms the page cache.
        median(times.skip(1).collect())
    };
    let build = |name: &str, count: usize| {
        let directory = ours.path("work").join(name);
        fs::create_dir_all(&directory).expect("make a directory");
        let text = format!("FROM busybox\n{}", "RUN true\n".repeat(count));
        fs::write(directory.join("Containerfile"), text).expect("write a file");
        seconds(format!("hoy-build build -q --no-cache {}", directory.display()))
    };
    let (ten, none) = (build("ten", 10), build("none", 0));
    let commands =
        seconds("for i in 0 1 2 3 4 5 6 7 8 9; do busybox sh -c true; done".to_owned()) - seconds(":".to_owned());
    let milliseconds = (ten - none - commands) / 10.0 * 1000.0;
    println!(
        "\nA RUN, above its command: {milliseconds:.1} ms (ten: {ten:.3} s, none: {none:.3} s, the commands: {commands:.3} s)."
    );
}

/// A build of six steps in an empty store with a cache that another store filled, beside doing the steps; and `verify`
/// beside building again, which it does.
fn proofs(ours: &Sandbox) {
    let directory = ours.path("work/steps");
    fs::create_dir_all(&directory).expect("make a directory");
    // What compilers and package managers do, as far as anybody can see: time, and files.
    let step = |number: u32| format!("RUN sleep 0.5; head -c 4000000 /dev/urandom >/file{number}\n");
    let text = format!(
        "FROM busybox AS tools\n{}FROM busybox\nCOPY --from=tools /file1 /\nRUN true\n",
        (1..=6).map(step).collect::<String>()
    );
    fs::write(directory.join("Containerfile"), text).expect("write a file");
    let registry = Registry::start();
    let cache = format!("{}/cache", registry.address());
    let options = format!("-q --tls-verify=false {}", directory.display());
    ours.run("sh").args(["-c", &format!("hoy-build build --cache-to {cache} {options}")]).ok();
    let base = format!("oci:{}:busybox:latest", ours.path("layout").display());
    let cold = |script: String| -> Command<'_> {
        let base = base.clone();
        Box::new(move || {
            ours.run("hoy-storage").args(["reset", "--force"]).output();
            ours.ok("hoy-copy", &["copy", "-q", &base, "store:busybox"]);
            timed(ours, &script)
        })
    };
    let known = cold(format!("hoy-build build --cache-from {cache} {options}"));
    let done = cold(format!("hoy-build build {options}"));
    let whose = who(ours);
    beside(
        &format!("six steps, `--cache-from` a registry{whose}"),
        &known,
        &[("the steps", &done)],
        (1, ROUNDS),
        &ours.path("work"),
    );
    let files = ours.path("work/verified");
    context(&files, 1000, 8192);
    Run::new("chmod").args(["-R", "a+rX"]).arg(&files).ok();
    ours.run("sh").args(["-c", &format!("hoy-build build -q -t verified {}", files.display())]).ok();
    let again = format!("hoy-build build -q --no-cache {}", files.display());
    let same = format!("hoy-build verify verified {}", files.display());
    let (again, same): (Command, Command) = (Box::new(|| timed(ours, &again)), Box::new(|| timed(ours, &same)));
    beside(
        &format!("verify of 1000 files{whose}"),
        &same,
        &[("build --no-cache", &again)],
        (1, ROUNDS),
        &ours.path("work"),
    );
}

fn main() {
    if let Some(missing) = ["buildah", "tar", "busybox", "umoci"].iter().find(|peer| !has(peer)) {
        println!("skipped: {missing} is not installed");
        return;
    }
    heading(ROUNDS, &["hoy", "buildah"]);
    let (mebibytes, files) = if is_long() { (600, 50_000) } else { (150, 12_500) };
    for (user, what, count, bytes) in [
        (User::Root, format!("{mebibytes} MiB"), mebibytes, 1 << 20),
        (User::Root, format!("{files} files"), files, 2048),
        (User::Sub, format!("{files} files"), files, 2048),
    ] {
        if !user.available() {
            continue;
        }
        let (ours, theirs) = (Sandbox::for_user(user), Sandbox::for_user(user));
        context(&ours.path("work/context"), count, bytes);
        Run::new("chmod").args(["-R", "a+rX"]).arg(ours.path("work/context")).ok();
        copies(&format!("{what}{}", who(&ours)), &ours, &theirs);
    }
    if has("docker-registry")
        && let Some(ours) = busybox_store(User::Sub)
    {
        proofs(&ours);
    }
    if let Some(ours) = busybox_store(User::Root) {
        branches(&ours);
        if has("docker-registry") {
            proofs(&ours);
        }
        // What is no row comes last.
        runs(&ours);
    }
}
