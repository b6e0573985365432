//! Layers on top of each other: unpacked, mounted, and held against umoci.

use std::fs;
use std::path::Path;

use hoy_tests::{Run, Sandbox, User, listing, many_files, need};

/// Makes the OCI layout `layout` with an image `multi` of four layers, written by Python's tarfile: whiteouts, opaque
/// directories, changes of kind, hard links into layers below, and directories that no layer names.
const LAYERS: &str = r#"
import gzip, hashlib, io, json, os, sys, tarfile
R, D, S, H = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
layers = [
    [('.', D, ''), ('usr', D, ''), ('usr/lib', D, ''), ('lib', S, 'usr/lib'), ('a', D, ''), ('a/x', R, 'x'), ('a/y', R, 'y'),
     ('b', D, ''), ('b/c', D, ''), ('b/c/d', R, 'd'), ('hl', R, 'target'), ('e', D, ''), ('e/1', R, '1'), ('f', R, 'file'),
     ('g', D, ''), ('g/old', R, 'o'), ('deep', D, ''), ('deep/er', D, '')],
    [('lib/foo', R, 'foo'), ('a/.wh.x', R, ''), ('a/z', R, 'z'), ('b/.wh..wh..opq', R, ''), ('b', D, ''), ('b/new', R, 'n'),
     ('hl2', H, 'hl'), ('.wh.e', R, ''), ('f', D, ''), ('f/in', R, 'i'), ('g', S, 'a')],
    [('e', D, ''), ('e/2', R, '2'), ('usr/lib/bar', R, 'bar'), ('.wh.f', R, ''), ('deep/er/x', R, 'q'), ('hl3', H, 'hl2')],
    [('.wh.lib', R, ''), ('lib', D, ''), ('lib/only', R, 'x')],
]
os.makedirs('layout/blobs/sha256')
def put(data):
    digest = hashlib.sha256(data).hexdigest()
    open('layout/blobs/sha256/' + digest, 'wb').write(data)
    return {'digest': 'sha256:' + digest, 'size': len(data)}
media = 'application/vnd.oci.image.'
blobs, ids = [], []
for number, entries in enumerate(layers):
    out = io.BytesIO()
    tar = tarfile.open(fileobj=out, mode='w', format=tarfile.PAX_FORMAT)
    for name, kind, text in entries:
        info = tarfile.TarInfo(name)
        info.type, info.mtime, info.mode = kind, 1000 + number + len(name) / 8, 0o700 + len(name)
        if kind == R: info.size = len(text)
        if kind in (S, H): info.linkname = text
        tar.addfile(info, io.BytesIO(text.encode()))
    tar.close()
    ids.append('sha256:' + hashlib.sha256(out.getvalue()).hexdigest())
    # A layer of two gzip members is one layer.
    half = len(out.getvalue()) // 2
    data = gzip.compress(out.getvalue()[:half], mtime=0) + gzip.compress(out.getvalue()[half:], mtime=0)
    blobs.append(dict(put(data), mediaType=media + 'layer.v1.tar+gzip'))
config = put(json.dumps({'architecture': 'amd64', 'os': 'linux', 'config': {}, 'rootfs': {'type': 'layers', 'diff_ids': ids}}).encode())
manifest = {'schemaVersion': 2, 'mediaType': media + 'manifest.v1+json', 'config': dict(config, mediaType=media + 'config.v1+json'), 'layers': blobs}
named = dict(put(json.dumps(manifest).encode()), mediaType=manifest['mediaType'], annotations={'org.opencontainers.image.ref.name': 'multi'})
json.dump({'schemaVersion': 2, 'manifests': [named]}, open('layout/index.json', 'w'))
open('layout/oci-layout', 'w').write('{"imageLayoutVersion":"1.0.0"}')
"#;

fn with_layers(user: User) -> Option<Sandbox> {
    if !user.available() || !need(&["python3", "umoci"]) {
        return None;
    }
    let sandbox = Sandbox::for_user(user);
    sandbox.run("python3").args(["-c", LAYERS]).ok();
    let layout = sandbox.path("work/layout");
    sandbox.ok("hoy-copy", &["copy", &format!("oci:{}:multi", layout.display()), "store:multi"]);
    Some(sandbox)
}

/// Without the number of links: overlayfs parts hard links across layers.
fn without_links(lines: Vec<String>) -> Vec<String> {
    let mut lines: Vec<String> = lines
        .iter()
        .map(|line| {
            let mut fields: Vec<&str> = line.split(' ').collect();
            if fields.get(1) == Some(&"f") {
                fields.remove(4);
            }
            fields.join(" ")
        })
        .collect();
    lines.sort();
    lines
}

fn layered(user: User) {
    let Some(sandbox) = with_layers(user) else { return };
    let inside = |name: &str| sandbox.run("hoy-storage").args(["unshare", "--", name]);
    let ours = sandbox.path("work/ours");
    sandbox.ok("hoy-storage", &["unpack", "multi", ours.to_str().unwrap()]);
    let flat = listing(&ours, inside);
    if user == User::Root {
        let theirs = sandbox.path("work/theirs");
        let image = format!("{}:multi", sandbox.path("work/layout").display());
        Run::new("umoci").args(["unpack", "--image", &image]).arg(&theirs).ok();
        assert_eq!(flat, listing(&theirs.join("rootfs"), Run::new));
    }
    let id = sandbox.ok("hoy-storage", &["create", "multi"]);
    let mount = sandbox.ok("hoy-storage", &["mount", &id]);
    assert_eq!(without_links(listing(Path::new(&mount), |name| sandbox.run(name))), {
        let outside = listing(&ours, |name| sandbox.run(name));
        without_links(outside)
    });
    assert_eq!(sandbox.ok("hoy-storage", &["diff", &id]), "");
    // Everything again from the blobs.
    sandbox.ok("hoy-storage", &["rm", &id]);
    sandbox.ok("hoy-storage", &["prune", "--force", "--all-layers"]);
    assert_eq!(fs::read_dir(sandbox.path("root/layers")).unwrap().count(), 0);
    let id = sandbox.ok("hoy-storage", &["create", "multi"]);
    assert_eq!(sandbox.ok("hoy-storage", &["diff", &id]), "");
    sandbox.ok("hoy-storage", &["rm", &id]);
}

#[test]
fn layers_as_root() {
    layered(User::Root);
}

#[test]
fn layers_as_user() {
    layered(User::Sub);
}

#[test]
fn layers_with_one_id() {
    layered(User::One);
}

/// A layer that was altered after it was unpacked is found, and made again once nothing shows it.
fn altered(user: User) {
    let Some(sandbox) = with_layers(user) else { return };
    let id = sandbox.ok("hoy-storage", &["create", "--name", "c", "multi"]);
    assert_eq!(sandbox.run("hoy-storage").args(["check", "--deep"]).fails(0, &[]), "");
    let layers = sandbox.path("root/layers");
    let list = "find . -type f -size -9c ! -name '*.json' | sort";
    let inside = |script: &str| sandbox.ok("hoy-storage", &["unshare", "--", "sh", "-euc", script]);
    let files = inside(&format!("cd {} && {list}", layers.display()));
    // Some of them are in layers that can only be unpacked over others.
    assert!(files.lines().count() > 10, "{files}");
    inside(&format!("cd {} && {list} | xargs -n1 sh -c 'echo changed >\"$0\"'", layers.display()));
    let found =
        sandbox.run("hoy-storage").args(["check", "--deep"]).fails(1, &["image localhost/multi:latest", "container c"]);
    let mut parts = files.lines().filter_map(|file| file.trim_start_matches("./").split_once('/'));
    assert!(parts.all(|(layer, _)| found.contains(&format!("/{layer}"))), "{files}{found}");
    assert!(found.contains("\"usr/lib/foo\" has 8 bytes, not 3") || found.contains("it lies on layer"), "{found}");
    sandbox.run("hoy-storage").args(["check", "--deep", "--repair"]).fails(1, &["hoy-storage umount c"]);
    sandbox.ok("hoy-storage", &["umount", "c"]);
    sandbox.ok("hoy-storage", &["check", "--deep", "--repair"]);
    assert_eq!(sandbox.run("hoy-storage").args(["check", "--deep"]).fails(0, &[]), "");
    sandbox.ok("hoy-storage", &["mount", "c"]);
    assert_eq!(sandbox.ok("hoy-storage", &["diff", &id]), "");
}

#[test]
fn altered_layers_as_root() {
    altered(User::Root);
}

#[test]
fn altered_layers_as_user() {
    altered(User::Sub);
}

#[test]
fn altered_layers_with_one_id() {
    altered(User::One);
}

/// A layer that is unpacked over others is mounted meanwhile; killed there, nothing stays that prune does not remove.
#[test]
fn killed_while_layers_are_mounted() {
    let Some(sandbox) = with_layers(User::Root) else { return };
    let disk = sandbox.disk_kib("root");
    let mut killed = 0;
    for round in 0..30_u64 {
        let mut child = sandbox.run("hoy-storage").args(["create", "multi"]).spawn();
        std::thread::sleep(std::time::Duration::from_micros(400 * round));
        killed += u32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        let id = sandbox.ok("hoy-storage", &["create", "multi"]);
        assert_eq!(sandbox.ok("hoy-storage", &["diff", &id]), "");
        sandbox.ok("hoy-storage", &["rm", "--all"]);
        sandbox.ok("hoy-storage", &["prune", "--force", "--all-layers"]);
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(sandbox.path("root").to_str().unwrap()), "round {round}: {mounts}");
        assert!(sandbox.disk_kib("root") <= disk + 8, "round {round}");
    }
    assert!(killed > 10, "only {killed} were killed in time");
}

/// A tree that an unpack makes is whole or not there, whenever that is killed, and the next one leaves nothing beside it.
#[test]
fn killed_while_a_tree_is_made() {
    let Some(sandbox) = with_layers(User::Root) else { return };
    let tree = sandbox.path("work/trees/tree");
    let unpack = || sandbox.run("hoy-storage").arg("unpack").arg("multi").arg(&tree);
    unpack().ok();
    let whole = listing(&tree, Run::new);
    let mut killed = 0;
    for round in 0..30_u64 {
        fs::remove_dir_all(&tree).unwrap();
        let mut child = unpack().spawn();
        std::thread::sleep(std::time::Duration::from_micros(200 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        if !tree.exists() {
            killed += 1;
            unpack().ok();
        }
        assert_eq!(listing(&tree, Run::new), whole, "round {round}");
        assert_eq!(fs::read_dir(sandbox.path("work/trees")).unwrap().count(), 1, "round {round}");
    }
    assert!(killed > 10, "only {killed} were killed in time");
    unpack().fails(1, &["tree", "is not empty"]);
}

/// The same changes made by every kind of user give the same layer, byte for byte.
#[test]
fn one_layer_whoever_makes_it() {
    let mut all = Vec::new();
    for user in [User::Root, User::Sub, User::One] {
        let Some(sandbox) = with_layers(user) else { continue };
        let id = sandbox.ok("hoy-storage", &["create", "multi"]);
        let mount = sandbox.ok("hoy-storage", &["mount", &id]);
        let script = "cd \"$1\" && rm a/z && mkdir -p new/dir && echo text >new/dir/file && ln new/dir/file hard && \
            ln -s target link && rm -r b && mkdir b && echo b >b/only && chmod 4755 hl && mkfifo fifo";
        // In the plain shell of the user, with no help.
        sandbox.run("sh").args(["-euc", script, "-", &mount]).ok();
        let tar = sandbox.path("work/layer.tar");
        let write = format!("hoy-storage diff --tar --clamp 7 {id} >'{}'", tar.display());
        sandbox.run("sh").args(["-euc", &write]).ok();
        all.push((user, fs::read(&tar).unwrap(), sandbox.ok("hoy-storage", &["diff", &id])));
        sandbox.ok("hoy-storage", &["rm", &id]);
    }
    for pair in all.windows(2) {
        assert_eq!(pair[0].2, pair[1].2, "{:?} and {:?}", pair[0].0, pair[1].0);
        assert!(pair[0].1 == pair[1].1, "{:?} and {:?}", pair[0].0, pair[1].0);
    }
}

/// Several at once want the same layer: one unpacks it, and when that one dies another takes over.
#[test]
fn who_waits_for_a_layer_takes_over() {
    if !User::Root.available() {
        return;
    }
    let sandbox = Sandbox::for_user(User::Root);
    let layout = sandbox.path("many");
    many_files(&layout, 4000);
    sandbox.ok("hoy-copy", &["copy", "-q", &format!("oci:{}:many", layout.display()), "store:many"]);
    let layers = sandbox.path("root/layers");
    let names = || fs::read_dir(&layers).map_or(0, Iterator::count);
    let create = || sandbox.run("hoy-storage").args(["create", "many"]).spawn();
    let mut first = create();
    while names() == 0 {
        assert!(first.try_wait().unwrap().is_none(), "the first is done before it was seen to begin");
    }
    let mut waiting = [create(), create(), create()];
    std::thread::sleep(std::time::Duration::from_millis(30));
    // Only the first has a directory that it fills.
    assert_eq!(names(), 1);
    assert!(first.try_wait().unwrap().is_none(), "the first was faster than the others could come");
    first.kill().unwrap();
    first.wait().unwrap();
    for child in &mut waiting {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(sandbox.ok("hoy-storage", &["containers", "-q"]).lines().count(), 3);
    for id in sandbox.ok("hoy-storage", &["containers", "-q"]).lines() {
        assert_eq!(sandbox.ok("hoy-storage", &["diff", id]), "");
    }
    sandbox.ok("hoy-storage", &["rm", "--all"]);
    sandbox.ok("hoy-storage", &["prune", "--force", "--all-layers"]);
    assert_eq!(names(), 0);
}
