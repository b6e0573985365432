//! `hoy-copy serve`: a layout or the store as a registry, for us, for skopeo, podman and curl.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use hoy_tests::{Run, Sandbox, Served, User, busybox_layout, need};
use serde_json::{Value, json};

const SOURCE: &str = "oci:layout:busybox:latest";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// One answer: status, head, body.
struct Answer(u16, String, Vec<u8>);

impl Answer {
    fn field(&self, name: &str) -> Option<&str> {
        let named = |line: &&str| line.split(':').next().unwrap().eq_ignore_ascii_case(name);
        self.1.lines().find(named).map(|line| line.split_once(':').unwrap().1.trim())
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.2).unwrap()
    }
}

/// Sends bytes as they are and reads to the end of the connection.
fn raw(address: &str, bytes: &[u8]) -> Answer {
    let mut connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // A server that has seen enough does not read on.
    connection.write_all(bytes).unwrap_or_default();
    let mut all = Vec::new();
    connection.read_to_end(&mut all).unwrap_or_default();
    let end = all.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or(all.len());
    let head = String::from_utf8_lossy(&all[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    Answer(status, head, all[(end + 4).min(all.len())..].to_vec())
}

fn ask(address: &str, method: &str, path: &str, fields: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
    for (name, value) in fields {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() || method == "PUT" || method == "POST" || method == "PATCH" {
        request.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    let mut request = (request + "\r\n").into_bytes();
    request.extend(body);
    raw(address, &request)
}

fn digest(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    let hash = sha2::Sha256::digest(bytes);
    format!("sha256:{}", hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn put_blob(address: &str, repository: &str, bytes: &[u8]) -> String {
    let digest = digest(bytes);
    let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
    assert_eq!(ask(address, "POST", &path, &[], bytes).0, 201);
    digest
}

/// Puts a small manifest and returns its digest; with a subject where one is given.
fn put_manifest(address: &str, repository: &str, tag: &str, subject: Option<&str>) -> String {
    let config = put_blob(address, repository, tag.as_bytes());
    let mut manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": format!("x/{tag}"),
        "config": {"mediaType": "x/config", "digest": config, "size": tag.len()}, "layers": [],
        "annotations": {"who": tag}});
    if let Some(subject) = subject {
        manifest["subject"] = json!({"mediaType": MANIFEST, "digest": subject, "size": 2});
    }
    let bytes = manifest.to_string().into_bytes();
    let digest = digest(&bytes);
    let reference = if subject.is_some() { &digest } else { tag };
    let path = format!("/v2/{repository}/manifests/{reference}");
    let answer = ask(address, "PUT", &path, &[("Content-Type", MANIFEST)], &bytes);
    assert_eq!(answer.0, 201, "{}", String::from_utf8_lossy(&answer.2));
    assert_eq!(answer.field("OCI-Subject"), subject);
    assert_eq!(answer.field("Docker-Content-Digest"), Some(digest.as_str()));
    digest
}

fn images_go_there_and_back(user: User, what: &str) {
    if !need(&["umoci", "busybox", "skopeo"]) || (user != User::Root && !user.available()) {
        return;
    }
    let sandbox = Sandbox::for_user(user);
    busybox_layout(&sandbox.path("layout"));
    let source = format!("oci:{}:busybox:latest", sandbox.path("layout").display());
    let wanted = sandbox.ok("hoy-copy", &["digest", &source]);
    let served = Served::start(&sandbox, &[what]);
    let image = |name: &str| format!("docker://{}/{name}", served.address());
    let ours = ["copy", "-q", "--dest-tls-verify=false", &source, &image("team/ours:1")];
    assert_eq!(sandbox.ok("hoy-copy", &ours), wanted);
    sandbox.ok("skopeo", &["--insecure-policy", "copy", "--dest-tls-verify=false", &source, &image("theirs:2")]);
    sandbox.ok("skopeo", &["--insecure-policy", "copy", "--dest-tls-verify=false", &source, &image("theirs:3")]);
    for name in ["team/ours:1", "theirs:2", &format!("theirs@{wanted}")] {
        let inspect = ["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &image(name)];
        assert_eq!(sandbox.ok("skopeo", &inspect), wanted, "{name}");
        assert_eq!(sandbox.ok("hoy-copy", &inspect), wanted, "{name}");
    }
    let tags = ["list-tags", "--tls-verify=false", &image("theirs")];
    assert_eq!(sandbox.ok("skopeo", &tags), sandbox.ok("hoy-copy", &tags));
    assert!(sandbox.ok("skopeo", &tags).contains("\"2\",\n        \"3\""));
    let catalog = ["catalog", "--tls-verify=false", &served.address()];
    assert_eq!(sandbox.ok("hoy-copy", &catalog), "team/ours\ntheirs");
    let back = ["--insecure-policy", "copy", "--src-tls-verify=false", &image("team/ours:1"), "oci:back:x"];
    sandbox.ok("skopeo", &back);
    assert_eq!(sandbox.ok("hoy-copy", &["digest", "oci:back:x"]), wanted);
    // skopeo deletes by digest: all tags of that repository go, and no other's.
    sandbox.ok("skopeo", &["delete", "--tls-verify=false", &image("theirs:2")]);
    sandbox.run("hoy-copy").args(["digest", "--tls-verify=false", &image("theirs:3")]).fails(1, &["no such image"]);
    sandbox.ok("hoy-copy", &["digest", "--tls-verify=false", &image("team/ours:1")]);
}

#[test]
fn a_layout_is_a_registry() {
    images_go_there_and_back(User::Root, "oci:served");
}

#[test]
fn the_store_is_a_registry_for_a_user() {
    images_go_there_and_back(User::Sub, "store:");
    images_go_there_and_back(User::One, "store:");
}

#[test]
fn names_in_the_store() {
    if !need(&["umoci", "busybox"]) {
        return;
    }
    let sandbox = Sandbox::new();
    busybox_layout(&sandbox.path("work/layout"));
    let wanted = sandbox.ok("hoy-copy", &[SOURCE, "store:docker.io/library/debian:12"]);
    sandbox.ok("hoy-copy", &[SOURCE, "store:app"]);
    sandbox.ok("hoy-copy", &[SOURCE, "store:r.x:5000/a/b:1"]);
    let served = Served::start(&sandbox, &[]);
    let tags = |name: &str| ask(&served.address(), "GET", &format!("/v2/{name}/tags/list"), &[], &[]);
    for (name, want) in [
        ("app", "latest"),
        ("localhost/app", "latest"),
        ("debian", "12"),
        ("library/debian", "12"),
        ("docker.io/library/debian", "12"),
        ("r.x:5000/a/b", "1"),
    ] {
        assert_eq!(tags(name).json()["tags"], json!([want]), "{name}");
    }
    let catalog = ask(&served.address(), "GET", "/v2/_catalog", &[], &[]).json();
    assert_eq!(catalog["repositories"], json!(["app", "docker.io/library/debian", "r.x:5000/a/b"]));
    let image = format!("docker://{}/new/one:1", served.address());
    sandbox.ok("hoy-copy", &["copy", "--dest-tls-verify=false", SOURCE, &image]);
    assert_eq!(sandbox.ok("hoy-copy", &["digest", "store:localhost/new/one:1"]), wanted);
    let blob = ask(&served.address(), "DELETE", &format!("/v2/app/blobs/{wanted}"), &[], &[]);
    assert_eq!((blob.0, blob.json()["errors"][0]["code"].clone()), (405, json!("UNSUPPORTED")));
}

#[test]
fn podman_pushes_and_pulls() {
    if !hoy_tests::need_root() || !need(&["podman", "umoci", "busybox"]) {
        return;
    }
    let sandbox = Sandbox::new();
    busybox_layout(&sandbox.path("work/layout"));
    let served = Served::start(&sandbox, &["oci:usb"]);
    let root = sandbox.path("podman");
    let podman = |args: &[&str]| {
        let place = [("--root", root.join("r")), ("--runroot", root.join("x"))];
        let run = place.into_iter().fold(sandbox.run("podman"), |run, (flag, path)| run.arg(flag).arg(path));
        run.args(["--storage-driver", "vfs"]).args(args).ok()
    };
    sandbox.ok("hoy-copy", &["-q", SOURCE, "docker-archive:a.tar:r.x/pod:1"]);
    podman(&["load", "-q", "-i", "a.tar"]);
    let id = podman(&["images", "-q", "--no-trunc", "r.x/pod:1"]);
    let image = format!("{}/pod/man:1", served.address());
    podman(&["push", "-q", "--tls-verify=false", "r.x/pod:1", &image]);
    podman(&["rmi", "-f", "r.x/pod:1"]);
    assert_eq!(podman(&["pull", "-q", "--tls-verify=false", &image]), id.trim_start_matches("sha256:"));
    assert!(sandbox.ok("hoy-copy", &["validate", "oci:usb:pod/man:1"]).starts_with("PASS"));
}

#[test]
fn uploads_go_on() {
    let sandbox = Sandbox::new();
    let served = Served::start(&sandbox, &["oci:l"]);
    let at = served.address();
    let begin = |at: &str| ask(at, "POST", "/v2/a/blobs/uploads/", &[], &[]).field("Location").unwrap().to_owned();
    let bytes: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
    let name = digest(&bytes);
    let upload = begin(&at);
    let patch = |range: &str, part: &[u8]| ask(&at, "PATCH", &upload, &[("Content-Range", range)], part);
    assert_eq!(patch("0-99999", &bytes[..100_000]).field("Range"), Some("0-99999"));
    assert_eq!(patch("5-9", &bytes[5..10]).0, 416);
    assert_eq!(patch("100000-100009", b"too short").0, 400);
    // A part that breaks off counts as far as it came; the rest comes over another connection, to another process.
    let head = format!("PATCH {upload} HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\n");
    let mut broken = TcpStream::connect(&at).unwrap();
    broken.write_all(&[head.as_bytes(), &bytes[100_000..120_000]].concat()).unwrap();
    broken.shutdown(std::net::Shutdown::Write).unwrap();
    broken.read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(ask(&at, "GET", &upload, &[], &[]).field("Range"), Some("0-119999"));
    drop(served);
    let served = Served::start(&sandbox, &["oci:l"]);
    let at = served.address();
    let chunked = [b"11170\r\n".to_vec(), bytes[120_000..190_000].to_vec(), b"\r\n0\r\n\r\n".to_vec()].concat();
    let head = format!(
        "PATCH {upload} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    let answer = raw(&at, &[head.as_bytes(), &chunked].concat());
    assert!(answer.0 == 100 && String::from_utf8_lossy(&answer.2).starts_with("HTTP/1.1 202"));
    let end =
        ask(&at, "PUT", &format!("{upload}?digest={name}"), &[("Content-Range", "190000-299999")], &bytes[190_000..]);
    assert_eq!((end.0, end.field("Location")), (201, Some(format!("/v2/a/blobs/{name}").as_str())));
    assert_eq!(ask(&at, "GET", &format!("/v2/a/blobs/{name}"), &[], &[]).2, bytes);
    let part = ask(&at, "GET", &format!("/v2/a/blobs/{name}"), &[("Range", "bytes=299990-")], &[]);
    assert_eq!((part.0, part.2.as_slice()), (206, &bytes[299_990..]));
    assert_eq!(ask(&at, "GET", &format!("/v2/a/blobs/{name}"), &[("Range", "bytes=300000-")], &[]).0, 416);
    let head = ask(&at, "HEAD", &format!("/v2/a/blobs/{name}"), &[], &[]);
    assert_eq!((head.0, head.field("Content-Length"), head.2.len()), (200, Some("300000"), 0));

    let listed = || std::fs::read_dir(sandbox.path("work/l/blobs/sha256")).unwrap().count();
    let before = listed();
    let wrong = begin(&at);
    let answer = ask(&at, "PUT", &format!("{wrong}?digest={name}"), &[], b"something else");
    assert_eq!((answer.0, answer.json()["errors"][0]["code"].clone()), (400, json!("DIGEST_INVALID")));
    assert_eq!(ask(&at, "GET", &wrong, &[], &[]).0, 404);
    let unwanted = begin(&at);
    assert_eq!(ask(&at, "DELETE", &unwanted, &[], &[]).0, 204);
    assert_eq!(ask(&at, "GET", &unwanted, &[], &[]).0, 404);
    assert_eq!(listed(), before, "nothing is left");
    // A blob of another repository is there for all, and can be asked for by its name.
    let mount = format!("/v2/b/blobs/uploads/?mount={name}&from=a");
    assert_eq!(ask(&at, "POST", &mount, &[], &[]).field("Location"), Some(format!("/v2/b/blobs/{name}").as_str()));
    let none = format!("/v2/b/blobs/uploads/?mount={}&from=a", digest(b"none"));
    assert_eq!(ask(&at, "POST", &none, &[], &[]).0, 202);
    assert_eq!(ask(&at, "DELETE", &format!("/v2/a/blobs/{name}"), &[], &[]).0, 202);
    assert_eq!(ask(&at, "GET", &format!("/v2/a/blobs/{name}"), &[], &[]).0, 404);
}

/// CVE-2023-2253 (a page of any length), CVE-2026-41888 (what is deleted is gone).
#[test]
fn lists_deletes_and_referrers() {
    let sandbox = Sandbox::new();
    let served = Served::start(&sandbox, &["oci:l"]);
    let at = served.address();
    let get = |path: &str| ask(&at, "GET", path, &[], &[]);
    for tag in ["c", "a", "b"] {
        put_manifest(&at, "r/one", tag, None);
    }
    put_manifest(&at, "s", "x", None);
    let page = get("/v2/r/one/tags/list?n=2");
    assert_eq!(page.json(), json!({"name": "r/one", "tags": ["a", "b"]}));
    let link = page.field("Link").unwrap();
    let next = link.strip_prefix('<').and_then(|l| l.strip_suffix(">; rel=\"next\"")).unwrap();
    let last = get(next);
    assert_eq!((last.json()["tags"].clone(), last.field("Link")), (json!(["c"]), None));
    assert_eq!(get("/v2/r/one/tags/list?n=0").json()["tags"], json!([]));
    assert_eq!(
        (get("/v2/_catalog?n=18446744073709551615").0, get("/v2/_catalog?n=99999999999999999999").0),
        (200, 400)
    );
    let page = get("/v2/_catalog?n=1");
    assert_eq!(
        (page.json(), page.field("Link")),
        (json!({"repositories": ["r/one"]}), Some("</v2/_catalog?n=1&last=r%2Fone>; rel=\"next\""))
    );
    assert_eq!(get("/v2/none/tags/list").json()["errors"][0]["code"], "NAME_UNKNOWN");

    let image = put_manifest(&at, "r/one", "a", None);
    let sbom = put_manifest(&at, "r/one", "sbom", Some(&image));
    let signature = put_manifest(&at, "r/one", "sig", Some(&image));
    let all = get(&format!("/v2/r/one/referrers/{image}"));
    assert_eq!(all.field("Content-Type"), Some(INDEX));
    let found: Vec<Value> = all.json()["manifests"].as_array().unwrap().clone();
    assert_eq!(found.iter().map(|d| d["digest"].as_str().unwrap()).collect::<Vec<_>>(), [&sbom, &signature]);
    assert_eq!((&found[0]["artifactType"], &found[0]["annotations"]), (&json!("x/sbom"), &json!({"who": "sbom"})));
    let some = get(&format!("/v2/r/one/referrers/{image}?artifactType=x%2Fsig"));
    assert_eq!(some.field("OCI-Filters-Applied"), Some("artifactType"));
    assert_eq!(some.json()["manifests"][0]["digest"], json!(signature));
    let none = get(&format!("/v2/r/one/referrers/{}", digest(b"none")));
    assert_eq!((none.0, none.json()["manifests"].clone()), (200, json!([])));

    // A tag goes alone; then the manifest, and with it what only it had.
    let by_digest = format!("/v2/r/one/manifests/{image}");
    let delete = |path: &str| ask(&at, "DELETE", path, &[], &[]).0;
    let config = digest(b"a");
    assert_eq!(delete(&format!("/v2/r/one/blobs/{config}")), 405, "it is needed");
    assert_eq!(get(&format!("/v2/s/manifests/{image}")).0, 404, "another repository's");
    assert_eq!(delete("/v2/r/one/manifests/a"), 202);
    assert_eq!((get("/v2/r/one/manifests/a").0, get(&by_digest).0), (404, 200));
    assert_eq!((delete(&by_digest), get(&by_digest).0, delete(&by_digest)), (202, 404, 404));
    assert_eq!(delete(&format!("/v2/r/one/blobs/{config}")), 202);
}

#[test]
fn digests_of_sha512_and_several_tags_at_once() {
    use sha2::Digest as _;
    let sandbox = Sandbox::new();
    let served = Served::start(&sandbox, &["oci:served"]);
    let at = served.address();
    let long = |bytes: &[u8]| {
        let hash = sha2::Sha512::digest(bytes);
        format!("sha512:{}", hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    };
    let blob = long(b"text");
    let begun = ask(&at, "POST", "/v2/a/blobs/uploads/?digest-algorithm=sha512", &[], b"");
    assert_eq!(begun.0, 202);
    let upload = begun.field("Location").unwrap().to_owned();
    assert_eq!(ask(&at, "PATCH", &upload, &[], b"te").0, 202);
    assert_eq!(ask(&at, "PUT", &format!("{upload}?digest={blob}"), &[], b"xt").0, 201);
    assert_eq!(ask(&at, "GET", &format!("/v2/a/blobs/{blob}"), &[], b"").2, b"text");
    assert_eq!(ask(&at, "POST", &format!("/v2/a/blobs/uploads/?digest={blob}"), &[], b"other").0, 400);
    assert_eq!(ask(&at, "POST", "/v2/a/blobs/uploads/?digest-algorithm=md5", &[], b"").0, 400);
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "layers": [],
        "config": {"mediaType": "x/config", "digest": blob, "size": 4}});
    let manifest = manifest.to_string().into_bytes();
    let name = long(&manifest);
    let put = |more: &str| {
        ask(&at, "PUT", &format!("/v2/a/manifests/{name}{more}"), &[("Content-Type", MANIFEST)], &manifest)
    };
    let answer = put("?tag=1&tag=latest");
    assert_eq!((answer.0, answer.field("OCI-Tag")), (201, Some("1, latest")));
    for reference in [name.as_str(), "1", "latest"] {
        let got = ask(&at, "GET", &format!("/v2/a/manifests/{reference}"), &[], b"");
        assert_eq!(
            (got.0, got.field("Docker-Content-Digest"), got.2.as_slice()),
            (200, Some(name.as_str()), &*manifest)
        );
    }
    assert_eq!(put("?tag=a/b").0, 400);
    assert_eq!(put(&"&tag=x".repeat(70).replacen('&', "?", 1)).0, 414);
    let path = format!("/v2/a/manifests/{}", long(b"x"));
    assert_eq!(ask(&at, "PUT", &path, &[("Content-Type", MANIFEST)], &manifest).0, 400);
    // The store has no place for such.
    let served = Served::start(&sandbox, &["store:"]);
    assert_eq!(ask(&served.address(), "POST", &format!("/v2/a/blobs/uploads/?digest={blob}"), &[], b"text").0, 400);
}

#[test]
fn bad_requests_are_answered() {
    let sandbox = Sandbox::new();
    let served = Served::start(&sandbox, &["oci:l", "--timeout", "1s"]);
    let at = served.address();
    let close = "Host: x\r\nConnection: close\r\n";
    let long = format!("GET /v2/ HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(100_000));
    let many = format!("GET /v2/ HTTP/1.1\r\n{}\r\n", "X: a\r\n".repeat(100));
    for (request, want) in [
        ("GARBAGE\r\n\r\n", 400),
        ("GET /v2/ HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("GET /v2/ HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
        ("GET /v2/ HTTP/1.1\r\nContent-Length: -5\r\n\r\n", 400),
        ("GET /v2/ HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (&long, 431),
        (&many, 431),
        (&format!("GET /v2/ HTTP/1.1\r\n{close}\r\n"), 200),
        (&format!("GET / HTTP/1.1\r\n{close}\r\n"), 404),
        (&format!("GET /v2/../../../etc/passwd HTTP/1.1\r\n{close}\r\n"), 404),
        (&format!("GET /v2/a/blobs/uploads/..%2F..%2Findex.json HTTP/1.1\r\n{close}\r\n"), 404),
        (&format!("GET /v2/A/manifests/x HTTP/1.1\r\n{close}\r\n"), 400),
        (&format!("GET /v2/a/blobs/sha256:zz HTTP/1.1\r\n{close}\r\n"), 400),
        (&format!("PUT /v2/a/manifests/..%2Fx HTTP/1.1\r\n{close}Content-Length: 2\r\n\r\n{{}}"), 404),
        (&format!("PUT /v2/a/manifests/-x HTTP/1.1\r\n{close}Content-Length: 2\r\n\r\n{{}}"), 400),
        (&format!("PUT /v2/a/manifests/x HTTP/1.1\r\n{close}Content-Length: 2\r\n\r\n{{}}"), 400),
        (&format!("PUT /v2/a/manifests/x HTTP/1.1\r\n{close}Content-Length: 9999999999\r\n\r\n{{}}"), 413),
        (&format!("PATCH /v2/a/tags/list HTTP/1.1\r\n{close}\r\n"), 405),
    ] {
        assert_eq!(raw(&at, request.as_bytes()).0, want, "{}", request.lines().next().unwrap());
    }
    let manifest =
        json!({"schemaVersion": 2, "config": {"mediaType": "x/y", "digest": digest(b"none"), "size": 4}, "layers": []});
    let answer = ask(&at, "PUT", "/v2/a/manifests/x", &[("Content-Type", MANIFEST)], manifest.to_string().as_bytes());
    assert_eq!((answer.0, answer.json()["errors"][0]["code"].clone()), (404, json!("MANIFEST_BLOB_UNKNOWN")));
    // Who is silent, or drips, is left.
    for silent in ["", "GET /v2/ HT", "POST /v2/a/blobs/uploads/ HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc"] {
        let start = std::time::Instant::now();
        raw(&at, silent.as_bytes());
        assert!(start.elapsed() < Duration::from_secs(10), "{silent}");
    }
    let mut dripping = TcpStream::connect(&at).unwrap();
    let start = std::time::Instant::now();
    while dripping.write_all(b"G").is_ok() {
        assert!(start.elapsed() < Duration::from_secs(20), "it may drip for ever");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn it_stays_small_ends_alone_and_can_be_read_only() {
    let sandbox = Sandbox::new();
    let mut served = Served::start(&sandbox, &["oci:l", "--timeout", "1s"]);
    let bytes = vec![7; 60 << 20];
    let blob = put_blob(&served.address(), "a", &bytes);
    assert_eq!(ask(&served.address(), "GET", &format!("/v2/a/blobs/{blob}"), &[], &[]).2.len(), bytes.len());
    assert!(served.peak_kib() < 16 << 10, "{} KiB", served.peak_kib());
    assert!(served.ends_within(Duration::from_secs(20)), "nobody is there");

    let served = Served::start(&sandbox, &["oci:l", "--read-only"]);
    assert_eq!(ask(&served.address(), "HEAD", &format!("/v2/a/blobs/{blob}"), &[], &[]).0, 200);
    for (method, path) in [("POST", "blobs/uploads/"), ("DELETE", &format!("blobs/{blob}")), ("PUT", "manifests/x")] {
        assert_eq!(ask(&served.address(), method, &format!("/v2/a/{path}"), &[], &[]).0, 403, "{method} {path}");
    }
    sandbox.run("hoy-copy").args(["serve", "docker://a"]).fails(2, &["oci:DIRECTORY"]);
    sandbox.run("hoy-copy").args(["serve", "oci:l:name"]).fails(2, &["leave the image's name out"]);
    sandbox.run("hoy-copy").args(["serve", "oci:none", "--read-only"]).fails(1, &["none"]);
}

#[test]
fn inetd_and_a_pipe() {
    let sandbox = Sandbox::new();
    let request = "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\nGET /v2/x/tags/list HTTP/1.1\r\nHost: x\r\n\r\n";
    let out = sandbox.run("hoy-copy").args(["serve", "oci:l"]).stdin(request).ok();
    assert_eq!(out.matches("HTTP/1.1 ").count(), 2, "{out}");
    assert!(out.starts_with("HTTP/1.1 200") && out.contains("HTTP/1.1 404"), "{out}");
    if !need(&["systemd-socket-activate", "curl"]) {
        return;
    }
    // systemd passes a listening socket, or with --accept each connection.
    for accept in [None, Some("--accept")] {
        let port = hoy_tests::free_port().to_string();
        let mut run = sandbox.run("systemd-socket-activate").arg(format!("--listen=127.0.0.1:{port}"));
        run = run.args(accept).arg(hoy_tests::program("hoy-copy")).args(["serve", "oci:l"]);
        let mut server = run.spawn();
        let url = format!("http://127.0.0.1:{port}/v2/");
        let curl = ["-sS", "--retry", "20", "--retry-connrefused", "--retry-delay", "1", &url];
        let answer = Run::new("curl").args(curl).output();
        server.kill().unwrap();
        server.wait().unwrap();
        assert_eq!(answer.stdout, "{}", "{accept:?}: {}", answer.stderr);
    }
}
