//! From a registry to a mounted root file system, beside podman, umoci, and what the work takes at the least: inflating and
//! hashing the bytes on all processors, and writing the tree. Then what is done with such an image.
//!
//! `HOY_LONG=1` makes the images of the size that the goals speak of: 1 GiB and 100,000 files.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use hoy_tests::{Registry, Run, Sandbox, TarLayer, has, image_of, is_long, many_files};

use fresh::renew;
use measure::{Command, beside, heading, timed};

mod fresh;
mod measure;

const LAYERS: usize = 8;

/// The others take long; the page cache is warm from making the image.
const ROUNDS: usize = 1;

/// An image of eight layers with files of this machine's /usr, each of about so many bytes, and with the directories that
/// they are in.
fn big(layout: &Path, layer_bytes: u64) {
    let all = Run::new("find").args(["/usr", "-xdev", "-type", "f", "-size", "-8M", "-printf", "%s %p\n"]).ok();
    let mut files: Vec<(&str, &str)> = all.lines().filter_map(|line| line.split_once(' ')).collect();
    files.sort_unstable_by_key(|(_, path)| *path);
    let mut lists = vec![BTreeSet::new()];
    let mut bytes = 0;
    for (size, path) in files {
        if bytes > layer_bytes {
            bytes = 0;
            lists.push(BTreeSet::new());
        }
        bytes += size.parse::<u64>().expect("a size");
        let names = Path::new(path).ancestors().filter(|name| *name != Path::new("/"));
        lists.last_mut().expect("one at least").extend(names.map(|name| format!("{}\n", name.display())));
    }
    let archive = layout.with_extension("tar");
    let tar = |list: BTreeSet<String>| {
        let run = Run::new("tar").args(["--create", "--no-recursion", "--files-from=-", "--file"]).arg(&archive);
        run.stdin(list.into_iter().collect::<String>()).output();
        TarLayer::plain(fs::read(&archive).expect("read the archive"))
    };
    image_of(layout, "it", lists.into_iter().take(LAYERS).map(tar));
}

/// Where everybody works: we in a store of our own, the others in theirs.
struct Place<'a> {
    ours: &'a Sandbox,
    theirs: &'a Sandbox,
}

impl Place<'_> {
    fn peer(&self, script: String) -> Command<'_> {
        Box::new(move || timed(self.theirs, &script))
    }

    fn beside(&self, work: &str, ours: &Command, peers: &[(&str, &Command)], rounds: (usize, usize)) {
        beside(work, ours, peers, rounds, &self.ours.path("work"));
    }

    /// The image `name` of the registry, whose uncompressed layers are in `plain`. Both have it afterwards.
    fn unpack(&self, what: &str, name: &str, plain: &Path) {
        let work = self.theirs.path("work").display().to_string();
        let pull = format!("hoy-copy copy -q --src-tls-verify=false docker://{name} store:it && hoy-storage create it");
        let ours: Command = Box::new(|| {
            renew(self.ours, "root");
            timed(self.ours, &pull)
        });
        let blobs = format!("find {work}/layout/blobs/sha256 {}/blobs/sha256 -type f -size +4k", plain.display());
        let inflate = format!("find {work}/layout/blobs/sha256 -type f -size +4k | xargs -P 2 -n 1 gzip -dc");
        let podman = format!(
            "{PODMAN} pull -q --tls-verify=false {name} | xargs -I ID {PODMAN} tag ID it && {PODMAN} image mount it"
        );
        let podman: Command = Box::new(move || {
            renew(self.theirs, "work");
            timed(self.theirs, &podman)
        });
        let umoci = format!(
            "skopeo copy -q --src-tls-verify=false docker://{name} oci:layout:it && umoci unpack --image layout:it tree"
        );
        let peers = [
            ("podman", podman),
            ("skopeo + umoci", self.peer(umoci)),
            ("gzip -dc, two at once", self.peer(inflate)),
            ("sha256sum, two at once", self.peer(format!("{blobs} | xargs -P 2 -n 1 sha256sum"))),
            ("cp -a", self.peer("cp -a tree/rootfs copied".to_owned())),
        ];
        let peers = peers.each_ref().map(|(peer, command)| (*peer, command));
        self.beside(&format!("registry → mounted root file system, {what}"), &ours, &peers, (0, ROUNDS));
    }

    /// Each commit is of another content than the last. Everybody is on the machine's own file system: one in a file waits
    /// for both.
    fn commit(&self, what: &str, name: &str) {
        self.ours.quiet();
        self.theirs.quiet();
        self.ours.ok("hoy-copy", &["copy", "-q", "--src-tls-verify=false", &format!("docker://{name}"), "store:it"]);
        let pull = format!("{PODMAN} pull -q --tls-verify=false {name} | xargs -I ID {PODMAN} tag ID it");
        self.theirs.run("sh").args(["-c", &pull]).ok();
        let id = self.ours.ok("hoy-build", &["from", "it"]);
        let mount = self.ours.ok("hoy-build", &["mount", &id]);
        let ours: Command = Box::new(|| {
            fs::write(format!("{mount}/changed"), format!("{:?}", std::time::Instant::now())).expect("change a file");
            timed(self.ours, &format!("hoy-build commit -q {id} changed"))
        });
        let buildah = "buildah --root p --runroot r";
        let theirs = |script: &str| self.theirs.run("sh").args(["-c", script]).ok();
        let their_id = theirs(&format!("{buildah} from --pull-never localhost/it"));
        let their_mount = theirs(&format!("{buildah} mount {their_id}"));
        let change = format!("date +%N >{their_mount}/changed");
        let commit = format!("{buildah} commit -q {their_id} changed");
        let peer: Command = Box::new(|| {
            theirs(&change);
            timed(self.theirs, &commit)
        });
        self.beside(&format!("commit of one changed file, {what}"), &ours, &[("buildah", &peer)], (1, 7));
        theirs(&format!("{buildah} rm {their_id}"));
    }

    /// A container with ids of its own: the first of this image, and another.
    fn own_ids(&self, what: &str) {
        let ours: Command = Box::new(|| timed(self.ours, "hoy-storage create --userns=auto it"));
        let peer = self.peer(format!("{PODMAN} create --pull=never --userns=auto it true"));
        self.beside(&format!("container with `--userns=auto`, {what}, the first"), &ours, &[("podman", &peer)], (0, 1));
        self.beside("the same, another", &ours, &[("podman", &peer)], (0, 1));
        self.theirs.run("sh").args(["-c", &format!("{PODMAN} rm -a -f")]).output();
    }
}

const PODMAN: &str = "podman --root p --runroot r";

fn main() {
    if let Some(missing) = ["skopeo", "podman", "buildah", "docker-registry", "umoci"].iter().find(|peer| !has(peer)) {
        println!("skipped: {missing} is not installed");
        return;
    }
    let (mebibytes, files) = if is_long() { (1024, 100_000) } else { (256, 25_000) };
    let (registry, ours, theirs) = (Registry::start(), Sandbox::new(), Sandbox::new());
    let place = Place { ours: &ours, theirs: &theirs };
    heading(ROUNDS, &["hoy", "skopeo", "podman", "buildah", "umoci"]);
    let plain = ours.path("plain");
    let publish = |tag: &str| {
        let name = format!("{}/{tag}:1", registry.address());
        let copy = ["copy", "-q", "--dest-tls-verify=false"];
        Run::new("skopeo")
            .args(copy)
            .arg(format!("oci:{}:{tag}", plain.display()))
            .arg(format!("docker://{name}"))
            .ok();
        name
    };
    let what = format!("{mebibytes} MiB in eight layers");
    big(&plain, (mebibytes << 20) / LAYERS as u64);
    let name = publish("it");
    place.unpack(&what, &name, &plain);
    place.commit(&what, &name);
    fs::remove_dir_all(&plain).expect("remove");

    let what = format!("{files} files");
    many_files(&plain, files);
    place.unpack(&what, &publish("many"), &plain);
    place.own_ids(&what);
}
