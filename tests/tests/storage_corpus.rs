//! Odd but valid layers, from every tool that writes some: the trees that come of them are those that umoci and podman
//! make, whoever unpacks them, and what Hoy writes of them reads back as the same bytes.

use std::fs;
use std::path::{Path, PathBuf};

use hoy_tests::{Run, Sandbox, TarLayer, User, image_of, listing, need};

/// A tree with the bytes of its files, without the times of directories when these were made up.
fn tree(dir: &Path, has_times: bool, run: impl Fn(&str) -> Run) -> Vec<String> {
    let script = format!("cd '{}' && find . -type f -exec sha256sum {{}} +", dir.display());
    let sums = run("sh").args(["-c", &script]).ok();
    let mut lines = listing(dir, run);
    if !has_times {
        lines.iter_mut().filter(|line| line.contains(" d ")).for_each(|line| {
            let end = line.rfind(' ').expect("a listing has fields");
            line.truncate(end);
        });
    }
    lines.extend(sums.lines().map(str::to_owned));
    lines.sort();
    lines
}

/// The corpus as OCI layouts, each with the image `it`, and whether every directory has an entry.
fn corpus(root: &Sandbox) -> Vec<(PathBuf, bool)> {
    let work = root.path("work");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus.py");
    root.run("python3").arg(script).ok();
    let mut all = Vec::new();
    for entry in fs::read_dir(&work).expect("read").flatten() {
        if entry.path().is_file() {
            let layout = root.path(&format!("layout-{}", entry.file_name().to_string_lossy()));
            image_of(&layout, "it", [TarLayer::plain(fs::read(entry.path()).expect("read a tar"))]);
            all.push(layout);
        }
    }
    let peers = root.path("work/peers");
    fs::create_dir(&peers).expect("make a directory");
    let script = r#"
        full=$(dirname "$PWD")/full
        umoci init --layout umoci && umoci new --image umoci:it && umoci insert --image umoci:it "$full" /
        umoci unpack --image umoci:it bundle && cd bundle/rootfs && rm d/file && rm -r d/sub && mkdir d/sub && echo new >d/sub/new && chmod 700 empty
        cd ../.. && umoci repack --image umoci:it bundle
        buildah="buildah --root $PWD/b/root --runroot $PWD/b/run --storage-driver vfs"
        id=$($buildah from scratch) && $buildah copy -q $id "$full" / >/dev/null && $buildah commit -q $id one >/dev/null
        id=$($buildah from one) && cd $($buildah mount $id) && rm owned && rm -r d && mkdir d && echo new >d/new && mknod zero c 1 5
        cd "$OLDPWD" && $buildah commit -q $id oci:buildah:it >/dev/null && $buildah umount $id >/dev/null
        podman="podman --root $PWD/p/root --runroot $PWD/p/run --storage-driver vfs"
        $podman import -q ../bsd-ustar it >/dev/null && $podman save -q --format oci-dir -o podman it
        sed -i 's/"org.opencontainers.image.ref.name":"[^"]*"/"org.opencontainers.image.ref.name":"it"/' podman/index.json
        chmod -R a+rX umoci buildah podman"#;
    root.run("sh").args(["-euc", script]).dir(&peers).ok();
    all.extend(["umoci", "buildah", "podman"].map(|name| peers.join(name)));
    all.sort();
    all.into_iter().map(|path| (path.clone(), !path.to_string_lossy().ends_with(".dirless"))).collect()
}

/// What our programs make of the image in `layout`: the container's whole root file system as an archive.
fn exported(sandbox: &Sandbox, layout: &Path) -> Vec<u8> {
    sandbox.ok("hoy-copy", &["copy", "-q", &format!("oci:{}:it", layout.display()), "store:it"]);
    let id = sandbox.ok("hoy-storage", &["create", "it"]);
    assert_eq!(sandbox.ok("hoy-storage", &["diff", &id]), "", "{}", layout.display());
    let tar = sandbox.run("hoy-storage").args(["export", &id]).output();
    assert_eq!(tar.status, 0, "{}: {}", layout.display(), tar.stderr);
    sandbox.ok("hoy-storage", &["rm", &id]);
    tar.bytes
}

/// The trees are umoci's and podman's; our own archive of one is read and written again as the same bytes.
fn as_peers_have_it(sandbox: &Sandbox, layout: &Path, has_times: bool) -> (Vec<u8>, String) {
    let name = layout.file_name().expect("a name").to_string_lossy().into_owned();
    let tar = exported(sandbox, layout);
    let again = sandbox.path(&format!("again-{name}"));
    image_of(&again, "it", [TarLayer::plain(tar.clone())]);
    assert!(exported(sandbox, &again) == tar, "{name}: another archive of the same tree");
    fs::remove_dir_all(&again).expect("remove");

    if name.ends_with(".alone") {
        return (tar, String::new());
    }
    let image = format!("{}:it", layout.display());
    sandbox.ok("hoy-copy", &["copy", "-q", &format!("oci:{image}"), "store:it"]);
    let [ours, theirs] = ["ours", "theirs"].map(|who| sandbox.path(&format!("{who}-{name}")));
    sandbox.run("hoy-storage").args(["unpack", "it"]).arg(&ours).ok();
    let tree_of_ours = tree(&ours, has_times, Run::new);
    let umoci = Run::new("umoci").args(["unpack", "--image", &image]).arg(&theirs).output();
    let mut different = match umoci.status {
        0 => {
            differences(&tree_of_ours, &tree(&theirs.join("rootfs"), has_times, Run::new), &format!("{name} by umoci"))
        }
        _ => format!("{name}: {}", umoci.stderr),
    };
    let [store, run] = ["root", "run"].map(|part| sandbox.path(&format!("podman-{part}")).display().to_string());
    let place = format!("containers-storage:[overlay@{store}+{run}]localhost/it");
    let copied = Run::new("skopeo").args(["copy", "-q", &format!("oci:{image}"), &place]).output();
    if copied.status == 0 {
        let podman = || Run::new("podman").args(["--root", &store, "--runroot", &run, "--storage-driver", "overlay"]);
        let mount = podman().args(["image", "mount", "it"]).ok();
        let tree_of_theirs = tree(Path::new(&mount), has_times, Run::new);
        // Layers on top of each other part hard links, and count those of the layers below.
        let [ours, theirs] = [&tree_of_ours, &tree_of_theirs].map(|tree| without_links(tree));
        different += &differences(&ours, &theirs, &format!("{name} by podman"));
        podman().args(["image", "umount", "it"]).ok();
        podman().args(["rmi", "-f", "it"]).ok();
    } else if !copied.stderr.contains("of file paths not supported") {
        different += &format!("{name}: {}", copied.stderr);
    }
    for dir in [ours, theirs] {
        fs::remove_dir_all(dir).unwrap_or_default();
    }
    (tar, different)
}

/// Without the number of links, which follows the owner of what is no directory and no device.
fn without_links(tree: &[String]) -> Vec<String> {
    let number = |line: &String| {
        let fields: Vec<&str> = line.split(' ').collect();
        let at =
            fields.windows(2).position(|pair| matches!(pair[0], "f" | "l" | "p") && pair[1].parse::<u32>().is_ok());
        let kept = |index: &usize| at.is_none_or(|at| *index != at + 3);
        (0..fields.len()).filter(kept).map(|index| fields[index]).collect::<Vec<_>>().join(" ")
    };
    tree.iter().map(number).collect()
}

/// The lines that only one side has, or nothing.
fn differences(ours: &[String], theirs: &[String], what: &str) -> String {
    let only = |a: &[String], b: &[String], sign| -> String {
        a.iter().filter(|line| !b.contains(line)).map(|line| format!("{what}: {sign} {line}\n")).collect()
    };
    only(ours, theirs, '+') + &only(theirs, ours, '-')
}

#[test]
fn trees_of_every_tool() {
    let peers = ["python3", "bsdtar", "umoci", "podman", "buildah", "skopeo", "setcap", "setfattr"];
    if !User::Root.available() || !need(&peers) {
        return;
    }
    let root = Sandbox::for_user(User::Root);
    let corpus = corpus(&root);
    assert!(corpus.len() > 25, "{} layers", corpus.len());
    let others: Vec<Sandbox> =
        [User::Sub, User::One].into_iter().filter(|user| user.available()).map(Sandbox::for_user).collect();
    std::thread::scope(|scope| {
        let theirs: Vec<_> = others
            .iter()
            .map(|sandbox| {
                scope.spawn(|| corpus.iter().map(|(layout, _)| exported(sandbox, layout)).collect::<Vec<_>>())
            })
            .collect();
        let (want, different): (Vec<_>, Vec<_>) =
            corpus.iter().map(|(layout, has_times)| as_peers_have_it(&root, layout, *has_times)).unzip();
        let mut different = different.concat();
        for (sandbox, theirs) in others.iter().zip(theirs) {
            let theirs = theirs.join().expect("the other user's archives");
            for (((layout, _), want), got) in corpus.iter().zip(&want).zip(theirs) {
                let at = want.iter().zip(&got).position(|(a, b)| a != b);
                if *want != got {
                    let (layout, user) = (layout.display(), sandbox.user());
                    different += &format!("{layout}: {user:?} exports other bytes from {at:?} on\n");
                }
            }
        }
        assert!(different.is_empty(), "{different}");
    });
}
