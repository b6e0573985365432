//! Layers that mean harm: refused or contained as root and as ordinary users, in bounded memory and time, and nothing
//! outside of the store is reached.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use hoy_tests::{Run, Sandbox, TarLayer, Tripwire, User, image_of, need};

/// How much memory unpacking may take, in KiB: what DESIGN and the decoders' limits allow, in a debug build.
const PEAK_KIB: u64 = 64 << 10;

/// Runs a program under GNU time; returns its exit code, what it said, and its peak memory in KiB.
fn measured(sandbox: &Sandbox, args: &[&str]) -> (i32, String, u64) {
    let figure = sandbox.path("work/peak");
    let program = hoy_tests::program("hoy-storage");
    let run = sandbox.run("/usr/bin/time").args(["-q", "-f", "%M", "-o"]).arg(&figure).arg(program).args(args);
    let out = run.output();
    let text = fs::read_to_string(&figure).expect("time writes its figure");
    (out.status, out.stderr, text.trim().parse().expect("a number"))
}

fn hostile(user: User) {
    if !user.available() || !need(&["python3", "time"]) {
        return;
    }
    let sandbox = Sandbox::for_user(user);
    let made = Sandbox::for_user(User::Root);
    let outside = Tripwire::new(sandbox.path("outside"));
    // Anybody may change it, so that only not reaching it keeps it as it is.
    Run::new("chmod").args(["-R", "a+rwX"]).arg(outside.path()).ok();
    let outside = Tripwire::new(outside.path().to_owned());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile.py");
    let layers = made.run("python3").arg(script).arg(outside.path()).ok();
    let mut wrong = Vec::new();
    let mut count = 0;
    for (number, line) in layers.lines().enumerate() {
        count += 1;
        let (name, diff_id) = line.split_once(' ').expect("a name and a diff ID");
        let is_refused = name.ends_with(".refused");
        let layout = made.path(&format!("layout-{number}"));
        let blob = fs::read(made.path("work").join(name)).expect("read a layer");
        let diff_id = diff_id.to_owned();
        image_of(&layout, "it", [TarLayer { blob, media_type: "application/vnd.oci.image.layer.v1.tar", diff_id }]);
        sandbox.ok("hoy-copy", &["copy", "-q", &format!("oci:{}:it", layout.display()), "store:it"]);
        let start = Instant::now();
        for (number, command) in
            [["unpack", "it", "tree"].as_slice(), &["create", "--name", "c", "it"]].into_iter().enumerate()
        {
            let (status, said, peak) = measured(&sandbox, command);
            let want = i32::from(is_refused);
            if status != want || said.contains("panicked") || said.lines().count() > 3 {
                wrong.push(format!("{name}: {command:?} ends with {status}: {said}"));
            }
            if peak > PEAK_KIB {
                wrong.push(format!("{name}: {command:?} takes {peak} KiB"));
            }
            // Nothing half done stays.
            let tree = sandbox.path("work/tree");
            let holds = fs::read_dir(&tree).map_or(0, Iterator::count);
            if status != 0 && number == 0 && holds > 0 {
                wrong.push(format!("{name}: {command:?} leaves {holds} names"));
            }
            if let Some(special) = setuid_by_another(&tree, user) {
                wrong.push(format!("{name}: {special}"));
            }
            sandbox.run("hoy-storage").args(["unshare", "--", "rm", "-rf"]).arg(&tree).ok();
        }
        if start.elapsed() > Duration::from_secs(60) {
            wrong.push(format!("{name}: takes {:?}", start.elapsed()));
        }
        sandbox.ok("hoy-storage", &["rm", "--all"]);
        outside.check();
        fs::remove_dir_all(&layout).expect("remove");
    }
    assert!(count > 50, "{count} layers");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    sandbox.ok("hoy-storage", &["rmi", "--all", "--force"]);
    sandbox.ok("hoy-storage", &["prune", "--force", "--all-layers"]);
    assert_eq!(fs::read_dir(sandbox.path("root/layers")).expect("read").count(), 0);
}

/// A setuid file in an ordinary user's tree would be that user's own program for everybody.
fn setuid_by_another(tree: &Path, user: User) -> Option<String> {
    let owner = user.ids().map(|(uid, _)| uid).filter(|_| user == User::One)?;
    let entries = fs::read_dir(tree).ok()?.flatten();
    entries.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?))).find_map(|(path, metadata)| {
        let is_setuid = metadata.is_file() && metadata.mode() & 0o6000 != 0 && metadata.uid() == owner;
        is_setuid.then(|| format!("{} is setuid", path.display()))
    })
}

#[test]
fn hostile_layers_as_root() {
    hostile(User::Root);
}

#[test]
fn hostile_layers_as_user() {
    hostile(User::Sub);
}

#[test]
fn hostile_layers_with_one_id() {
    hostile(User::One);
}
