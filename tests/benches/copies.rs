//! hoy-copy beside Debian's skopeo, and beside curl that moves the same bytes: one run, alternating, medians.

use std::path::Path;

use hoy_tests::{Registry, Sandbox, debian_layout, has};

use measure::{heading, timed};
use row::{Row, bench};

mod measure;
mod row;

const ROUNDS: usize = 7;

/// A gigabyte in four layers that no compressor makes smaller.
const BIG: &str = "for n in 1 2 3 4; do mkdir -p big$n && head -c 268435456 /dev/urandom >big$n/data && tar cf big$n.tar big$n && rm -r big$n; done";

/// The same bytes by curl, all layers at once, written to disk and hashed.
fn curl(address: &str, digests: &[String]) -> String {
    let one = |digest: &String| {
        let url = format!("http://{address}/v2/big/blobs/{digest}");
        format!("(curl -s {url} | tee big/{} | sha256sum >big/sum-{0}) &", digest.trim_start_matches("sha256:"))
    };
    format!("rm -rf big; mkdir big; {} wait", digests.iter().map(one).collect::<Vec<_>>().join(" "))
}

/// The layers of a layout sent to the registry `TO` at once, and hashed, by curl.
fn curl_back(layout: &Path, digests: &[String]) -> String {
    let one = |digest: &String| {
        let file = layout.join("blobs").join(digest.replace(':', "/"));
        // The whole script stands between single quotes.
        let begin = r#"curl -s -X POST -w "%header{location}" http://TO/v2/pushed/blobs/uploads/"#;
        let kind = r#"-H "Content-Type: application/octet-stream""#;
        format!(
            "(sha256sum {0} >/dev/null & curl -sf {kind} -T {0} \"$({begin})&digest={digest}\"; wait) &",
            file.display()
        )
    };
    let is_there = |digest: &String| format!("&& curl -sfIo /dev/null http://TO/v2/pushed/blobs/{digest}");
    let all = |each: &dyn Fn(&String) -> String| digests.iter().map(each).collect::<Vec<_>>().join(" ");
    format!("{} wait {}", all(&one), all(&is_there))
}

fn main() {
    let peers = ["skopeo", "docker-registry", "debootstrap", "umoci", "curl"];
    if let Some(missing) = peers.iter().find(|peer| !has(peer)) {
        println!("skipped: {missing} is not installed");
        return;
    }
    let debian = format!("oci:{}:debian:12", debian_layout(Path::new(env!("CARGO_TARGET_TMPDIR"))).display());
    let registry = Registry::start();
    let address = registry.address();
    let name = format!("docker://{address}/debian:12");
    let (ours, theirs) = (Sandbox::new(), Sandbox::new());
    let place = ours.path("work");
    ours.ok("hoy-copy", &["copy", "-q", "--dest-tls-verify=false", &debian, &name]);
    ours.run("sh").args(["-c", BIG]).ok();
    let tars: Vec<String> = (1..=4).map(|n| format!("big{n}.tar")).collect();
    let big = format!("docker://{address}/big:1");
    let tarball = format!("tarball:{}", tars.join(":"));
    ours.ok(
        "hoy-copy",
        &["copy", "-q", "--dest-tls-verify=false", "--dest-oci-accept-uncompressed-layers", &tarball, &big],
    );
    ours.run("sh").args(["-c", "rm big*.tar"]).ok();
    let layers = ours.ok("hoy-copy", &["layers", "--tls-verify=false", &big]);
    let digests: Vec<String> = layers.lines().filter_map(|l| l.split_whitespace().next()).map(str::to_owned).collect();
    let by_curl = curl(&address, &digests);
    let by_curl_back = curl_back(&place.join("back"), &digests);

    let pull = |sandbox: &Sandbox, program: &str, image: &str| {
        sandbox.run("sh").args(["-c", "rm -rf layout big"]).ok();
        timed(sandbox, &format!("{program} copy -q --src-tls-verify=false {image} oci:layout:x"))
    };
    // Each push goes to a registry that has nothing; it lives until the next.
    let target = std::cell::RefCell::new(Registry::start());
    let push = |sandbox: &Sandbox, program: &str, image: &str| {
        drop(target.replace(Registry::start()));
        let to = format!("docker://{}/pushed:1", target.borrow().address());
        timed(sandbox, &format!("{program} copy -q --dest-tls-verify=false {image} {to}"))
    };
    // curl has the digests told, and sends what lies there in one piece for each layer.
    let send = |sandbox: &Sandbox| {
        drop(target.replace(Registry::start()));
        timed(sandbox, &by_curl_back.replace("TO", &target.borrow().address()))
    };
    ours.ok("hoy-copy", &["copy", "-q", "--src-tls-verify=false", &big, "oci:back:x"]);
    let back = format!("oci:{}:x", place.join("back").display());
    let many = |sandbox: &Sandbox, command: &str| timed(sandbox, &format!("for n in $(seq 20); do {command}; done"));
    let inspect = format!("inspect --tls-verify=false {name}");
    let tags = format!("list-tags --tls-verify=false docker://{address}/debian");
    let rows = [
        Row {
            work: "pull, 1 GiB in four layers",
            peer: "skopeo",
            ours: Box::new(|| pull(&ours, "hoy-copy", &big)),
            theirs: Box::new(|| pull(&theirs, "skopeo", &big)),
        },
        Row {
            work: "the same",
            peer: "curl, tee, sha256sum",
            ours: Box::new(|| pull(&ours, "hoy-copy", &big)),
            theirs: Box::new(|| {
                theirs.run("sh").args(["-c", "rm -rf layout big"]).ok();
                timed(&theirs, &by_curl)
            }),
        },
        Row {
            work: "push, OCI layout → empty registry",
            peer: "skopeo",
            ours: Box::new(|| push(&ours, "hoy-copy", &debian)),
            theirs: Box::new(|| push(&theirs, "skopeo", &debian)),
        },
        Row {
            work: "push, 1 GiB in four layers → empty registry",
            peer: "skopeo",
            ours: Box::new(|| push(&ours, "hoy-copy", &back)),
            theirs: Box::new(|| push(&theirs, "skopeo", &back)),
        },
        Row {
            work: "the same",
            peer: "curl, sha256sum",
            ours: Box::new(|| push(&ours, "hoy-copy", &back)),
            theirs: Box::new(|| send(&theirs)),
        },
        Row {
            work: "inspect, 20 times",
            peer: "skopeo",
            ours: Box::new(|| many(&ours, &format!("hoy-copy {inspect}"))),
            theirs: Box::new(|| many(&theirs, &format!("skopeo {inspect}"))),
        },
        Row {
            work: "list-tags, 20 times",
            peer: "skopeo",
            ours: Box::new(|| many(&ours, &format!("hoy-copy {tags}"))),
            theirs: Box::new(|| many(&theirs, &format!("skopeo {tags}"))),
        },
    ];
    heading(ROUNDS, &["hoy-copy", "skopeo", "curl"]);
    for row in &rows {
        bench(row, ROUNDS, &place);
    }
}
