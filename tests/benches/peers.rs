//! Time and memory beside Debian's tools: one run, alternating, medians and their ratio.

use std::fs;
use std::path::Path;

use hoy_tests::{Registry, Run, Sandbox, debian_layout, has, is_long};

use fresh::renew;
use measure::{heading, timed};
use row::{Row, bench};

mod fresh;
mod measure;
mod row;

const ROUNDS: usize = 7;

/// Lists of so many images and of as many containers, each of an image of its own.
fn lists(ours: &Sandbox, theirs: &Sandbox, peer_store: &str, place: &Path) {
    let count = if is_long() { 1000 } else { 100 };
    let podman = format!("podman {peer_store}");
    let fill = |sandbox: &Sandbox, import: &str, create: &str| {
        let script = format!(
            "for n in $(seq {count}); do echo $n >n; tar cf - n | {import} - many$n && {create} || exit; done >/dev/null"
        );
        sandbox.run("sh").args(["-c", &script]).ok();
    };
    fill(ours, "hoy-storage import", "hoy-storage create many$n");
    ours.ok("hoy-storage", &["umount", "--all"]);
    fill(theirs, &format!("{podman} import -q"), &format!("{podman} create --network none many$n true"));
    let row = |what: &str, command: &'static str, peer_command: &'static str| {
        let work = format!("list of {count} {what}");
        let theirs = || timed(theirs, &format!("{podman} {peer_command}"));
        let row =
            Row { work: &work, peer: "podman", ours: Box::new(|| timed(ours, command)), theirs: Box::new(theirs) };
        bench(&row, ROUNDS, place);
    };
    row("images", "hoy-storage images", "images");
    row("containers", "hoy-storage containers", "ps --all");
}

/// A Containerfile of ten steps: everything known, nothing known, and a single RUN of a command that does nothing.
fn builds<'a>(ours: &'a Sandbox, theirs: &'a Sandbox, base: &'a str, peer_store: &'a str) -> Vec<Row<'a>> {
    let steps = "COPY a /a\nRUN true\nENV A=b\nCOPY b /dir/b\nRUN echo x > /x\nLABEL l=m\nWORKDIR /w\nCOPY a b /both/\nCMD [\"/a\"]\n";
    let run = "RUN true\n";
    for (sandbox, base) in [(ours, "debian:12"), (theirs, base)] {
        let work = sandbox.path("work");
        for (name, text) in
            [("a", "a".to_owned()), ("b", "b".to_owned()), ("ten", steps.to_owned()), ("one", run.to_owned())]
        {
            let is_file = matches!(name, "ten" | "one");
            let text = if is_file { format!("FROM {base}\n{text}") } else { text };
            fs::write(work.join(name), text).expect("write a Containerfile");
        }
    }
    let row = move |work, options: &'static str| Row {
        work,
        peer: "buildah",
        ours: Box::new(move || timed(ours, &format!("hoy-build build -q {options} ."))),
        theirs: Box::new(move || {
            timed(theirs, &format!("buildah {peer_store} bud -q --layers --isolation chroot {options} ."))
        }),
    };
    vec![
        row("build of ten steps, all cached", "-t built -f ten"),
        row("the same, nothing cached", "--no-cache -t built -f ten"),
        row("build of one RUN of true, not cached", "--no-cache -t built -f one"),
    ]
}

fn main() {
    let peers = ["skopeo", "podman", "buildah", "runc", "docker-registry", "debootstrap", "umoci"];
    if let Some(missing) = peers.iter().find(|peer| !has(peer)) {
        println!("skipped: {missing} is not installed");
        return;
    }
    let layout = debian_layout(Path::new(env!("CARGO_TARGET_TMPDIR")));
    let registry = Registry::start();
    let name = format!("docker://{}/debian:12", registry.address());
    let push = ["copy", "-q", "--dest-tls-verify=false"];
    Run::new("skopeo").args(push).arg(format!("oci:{}:debian:12", layout.display())).arg(&name).ok();
    let (ours, theirs, fresh) = (Sandbox::new(), Sandbox::new(), Sandbox::new());
    let work = fresh.path("work").display().to_string();
    let peer_store = format!("--root {} --runroot {}", theirs.path("root").display(), theirs.path("run").display());
    let plain_name = name.trim_start_matches("docker://");
    let limits = "--network none --ulimit nofile=1000:1000 --ulimit nproc=1000:1000";

    ours.ok("hoy-copy", &["copy", "-q", "--src-tls-verify=false", &name, "store:debian:12"]);
    theirs.run("sh").args(["-c", &format!("podman {peer_store} pull -q --tls-verify=false {plain_name}")]).ok();
    let container = ours.ok("hoy-build", &["from", "debian:12"]);
    let mount = ours.ok("hoy-build", &["mount", &container]);
    fs::write(format!("{mount}/etc/changed"), "x").expect("change one file");
    let their_container =
        theirs.run("sh").args(["-c", &format!("buildah {peer_store} from --pull-never {plain_name}")]).ok();
    let their_mount = theirs.run("sh").args(["-c", &format!("buildah {peer_store} mount {their_container}")]).ok();
    fs::write(format!("{their_mount}/etc/changed"), "x").expect("change one file");

    let empty_layout = || drop(fs::remove_dir_all(fresh.path("work/layout")));
    let rows = [
        Row {
            work: "pull, registry → OCI layout",
            peer: "skopeo",
            ours: Box::new(|| {
                empty_layout();
                timed(&ours, &format!("hoy-copy copy -q --src-tls-verify=false {name} oci:{work}/layout:x"))
            }),
            theirs: Box::new(|| {
                empty_layout();
                timed(&theirs, &format!("skopeo copy -q --src-tls-verify=false {name} oci:{work}/layout:x"))
            }),
        },
        Row {
            work: "pull and unpack, registry → root file system",
            peer: "podman",
            ours: Box::new(|| {
                renew(&fresh, "root");
                timed(
                    &fresh,
                    &format!("hoy-copy copy -q --src-tls-verify=false {name} store:x && hoy-storage create x"),
                )
            }),
            theirs: Box::new(|| {
                renew(&fresh, "work");
                let store = format!("--root {work}/p --runroot {work}/r");
                timed(&theirs, &format!("podman {store} pull -q --tls-verify=false {plain_name}"))
            }),
        },
        Row {
            work: "commit of one changed file",
            peer: "buildah",
            ours: Box::new(|| timed(&ours, &format!("hoy-build commit -q {container} changed"))),
            theirs: Box::new(|| timed(&theirs, &format!("buildah {peer_store} commit -q {their_container} changed"))),
        },
        Row {
            work: "mount of a working container",
            peer: "buildah",
            ours: Box::new(|| {
                ours.ok("hoy-storage", &["umount", &container]);
                timed(&ours, &format!("hoy-build mount {container}"))
            }),
            theirs: Box::new(|| {
                theirs.run("sh").args(["-c", &format!("buildah {peer_store} umount {their_container}")]).ok();
                timed(&theirs, &format!("buildah {peer_store} mount {their_container}"))
            }),
        },
        Row {
            work: "run of true",
            peer: "podman + runc",
            ours: Box::new(|| timed(&ours, "hoy run --rm --network none debian:12 true")),
            theirs: Box::new(|| {
                let podman = format!("podman {peer_store} --cgroup-manager cgroupfs --runtime runc");
                timed(&theirs, &format!("{podman} run --rm {limits} {plain_name} true"))
            }),
        },
    ];
    heading(ROUNDS, &["hoy", "skopeo", "podman", "buildah", "runc"]);
    for row in &rows {
        bench(row, ROUNDS, &fresh.path("work"));
    }
    for row in &builds(&ours, &theirs, plain_name, &peer_store) {
        bench(row, ROUNDS, &fresh.path("work"));
    }
    lists(&ours, &theirs, &peer_store, &fresh.path("work"));
    ours.ok("hoy-storage", &["rm", "--all", "--force"]);
    theirs
        .run("sh")
        .args(["-c", &format!("buildah {peer_store} rm -a >/dev/null; podman {peer_store} rm -a -f >/dev/null; podman {peer_store} rmi -a -f >/dev/null")])
        .output();
}
