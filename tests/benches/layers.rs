//! From a registry to a mounted root file system, beside podman, umoci, and what the work takes at the least: inflating and
//! hashing the bytes on all processors, and writing the tree.

use std::fs;
use std::path::Path;

use hoy_tests::{Registry, Run, Sandbox, TarLayer, has, image_of, many_files};

use measure::{Row, bench, empty, heading, timed};

mod measure;

const ROUNDS: usize = 3;
const LAYERS: usize = 8;
const LAYER_BYTES: u64 = 140 << 20;

/// An image of eight layers with files of this machine's /usr, one of whose layers has at most so many bytes.
fn big(layout: &Path) {
    let all = Run::new("find").args(["/usr", "-xdev", "-type", "f", "-size", "-8M", "-printf", "%s %p\n"]).ok();
    let mut lines: Vec<&str> = all.lines().collect();
    lines.sort_unstable_by_key(|line| line.split_once(' ').map(|(_, path)| path));
    let mut lists = vec![String::new()];
    let mut bytes = 0;
    for (size, path) in lines.iter().filter_map(|line| line.split_once(' ')) {
        bytes += size.parse::<u64>().expect("a size");
        if bytes > LAYER_BYTES {
            bytes = 0;
            lists.push(String::new());
        }
        *lists.last_mut().expect("one at least") += &format!("{path}\n");
    }
    let tar = |list: String| {
        let run = Run::new("tar").args(["--create", "--files-from=-", "--no-recursion"]).stdin(list);
        TarLayer::plain(run.output().bytes)
    };
    image_of(layout, "it", lists.into_iter().take(LAYERS).map(tar));
}

/// Makes the image `it` or `many` in a layout.
type Make = fn(&Path);

fn main() {
    if let Some(missing) = ["skopeo", "podman", "docker-registry", "umoci"].iter().find(|peer| !has(peer)) {
        println!("skipped: {missing} is not installed");
        return;
    }
    let (registry, fresh, theirs) = (Registry::start(), Sandbox::new(), Sandbox::new());
    heading(ROUNDS, &["hoy", "skopeo", "podman", "umoci"]);
    let images: [(&str, Make); 2] = [("eight layers", big), ("100,000 files", |layout| many_files(layout, 100_000))];
    for (what, make) in images {
        let plain = fresh.path("plain");
        make(&plain);
        let name = format!("{}/it:{}", registry.address(), LAYERS);
        let tag = if what == "eight layers" { "it" } else { "many" };
        let push = ["copy", "-q", "--dest-tls-verify=false"];
        Run::new("skopeo")
            .args(push)
            .arg(format!("oci:{}:{tag}", plain.display()))
            .arg(format!("docker://{name}"))
            .ok();
        let work = theirs.path("work").display().to_string();
        let pull = format!("skopeo copy -q --src-tls-verify=false docker://{name} oci:{work}/oci:it");
        theirs.run("sh").args(["-c", &format!("{pull} && umoci unpack --image {work}/oci:it {work}/tree")]).ok();
        let ours = || {
            empty(&fresh);
            timed(
                &fresh,
                &format!("hoy-copy copy -q --src-tls-verify=false docker://{name} store:x && hoy-storage create x"),
            )
        };
        let row = |peer, clean: &'static str, script: String| {
            let theirs = &theirs;
            let theirs_timed = move || {
                theirs.run("sh").args(["-c", clean]).output();
                timed(theirs, &script)
            };
            Row { work: what, peer, ours: Box::new(ours), theirs: Box::new(theirs_timed) }
        };
        let podman = "podman --root p --runroot r";
        let blobs = format!("find {work}/oci/blobs/sha256 {}/blobs/sha256 -type f", plain.display());
        let rows = [
            row(
                "podman",
                "podman --root p --runroot r rmi -a -f; rm -rf p r",
                format!("{podman} pull -q --tls-verify=false {name} | xargs {podman} image mount"),
            ),
            row(
                "skopeo + umoci",
                "rm -rf layout tree2",
                "skopeo copy -q --src-tls-verify=false docker://NAME oci:layout:it && umoci unpack --image layout:it tree2"
                    .replace("NAME", &name),
            ),
            row(
                "gzip -dc, two at once",
                "true",
                format!("find {work}/oci/blobs/sha256 -type f -size +4k | xargs -P 2 -n 1 gzip -dc"),
            ),
            row("sha256sum, two at once", "true", format!("{blobs} | xargs -P 2 -n 1 sha256sum")),
            row("cp -a", "rm -rf copied", "cp -a tree/rootfs copied".to_owned()),
        ];
        for row in &rows {
            bench(row, ROUNDS, &fresh.path("work"));
        }
        drop(rows);
        theirs.run("sh").args(["-c", "podman --root p --runroot r rmi -a -f; rm -rf *"]).output();
        fs::remove_dir_all(&plain).expect("remove");
    }
    empty(&fresh);
}
