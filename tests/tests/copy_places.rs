//! How hoy-copy finds its way: rules for registries, mirrors, credential helpers, proxies, addresses of every kind.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use hoy_tests::{Registry, Run, Sandbox, busybox_layout, free_port, need};

const PEERS: &[&str] = &["docker-registry", "umoci", "busybox", "skopeo"];

/// A sandbox with an image in the layout `work/layout`.
fn sandbox() -> Option<Sandbox> {
    need(PEERS).then(|| {
        let sandbox = Sandbox::new();
        busybox_layout(&sandbox.path("work/layout"));
        sandbox
    })
}

const SOURCE: &str = "oci:layout:busybox:latest";

fn push(sandbox: &Sandbox, registry: &str, name: &str) -> String {
    sandbox.ok("hoy-copy", &["-q", "--dest-tls-verify=false", SOURCE, &format!("docker://{registry}/{name}")])
}

/// A run under the rules of `work/registries.conf`, which is written first.
fn under(sandbox: &Sandbox, rules: &str, args: &[&str]) -> Run {
    std::fs::write(sandbox.path("work/registries.conf"), rules).unwrap();
    sandbox.run("hoy-copy").args(["--registries-conf", "registries.conf"]).args(args)
}

#[test]
fn names_are_rewritten_and_registries_blocked() {
    let Some(sandbox) = sandbox() else { return };
    let registry = Registry::start();
    let digest = push(&sandbox, &registry.address(), "inner/team/app:1");
    let rules = format!(
        "[[registry]]\nprefix = 'r.example/team'\nlocation = '{}/inner/team'\ninsecure = true\n\
         [[registry]]\nprefix = '*.bad.example'\nblocked = true\n",
        registry.address()
    );
    let inspect = ["inspect", "--no-tags", "--format", "{{.Digest}}", "docker://r.example/team/app:1"];
    assert_eq!(under(&sandbox, &rules, &inspect).ok(), digest);
    assert_eq!(under(&sandbox, &rules, &["-q", "docker://r.example/team/app:1", "dir:out"]).ok(), digest);
    under(&sandbox, &rules, &["-q", "docker://x.bad.example/a", "dir:no"]).fails(1, &["blocked", "*.bad.example"]);
    under(&sandbox, &rules, &["-q", SOURCE, "docker://x.bad.example/a"]).fails(1, &["blocked"]);
    let wrong = "[[registry]]\nlocation = 'a.x'\nblock = true\n";
    under(&sandbox, wrong, &["inspect", "docker://a.x/a"]).fails(1, &["registries.conf", "line 3", "block"]);
    sandbox.run("hoy-copy").args(["--registries-conf", "none", "inspect", "docker://a.x/a"]).fails(1, &["none"]);
    // The user's own file and what is beside it.
    let conf = sandbox.path("home/.config/containers");
    std::fs::create_dir_all(conf.join("registries.conf.d")).unwrap();
    std::fs::write(conf.join("registries.conf.d/1.conf"), &rules).unwrap();
    assert_eq!(sandbox.ok("hoy-copy", &inspect), digest);
    assert_eq!(
        sandbox
            .run("hoy-copy")
            .env("CONTAINERS_REGISTRIES_CONF", conf.join("registries.conf.d/1.conf"))
            .args(inspect)
            .ok(),
        digest
    );
    // skopeo reads the same rules in the same way.
    let skopeo =
        sandbox.run("skopeo").args(["--registries-conf", conf.join("registries.conf.d/1.conf").to_str().unwrap()]);
    assert_eq!(skopeo.args(inspect).ok(), digest);
}

#[test]
fn mirrors_are_asked_first_and_blob_by_blob() {
    let Some(sandbox) = sandbox() else { return };
    let (home, mirror) = (Registry::start(), Registry::start());
    let digest = push(&sandbox, &home.address(), "app:1");
    assert_eq!(push(&sandbox, &mirror.address(), "copy/app:1"), digest);
    let (home_address, mirror_address) = (home.address(), mirror.address());
    let rules = |more: &str| {
        format!(
            "[[registry]]\nlocation = '{}'\ninsecure = true\n{more}[[registry.mirror]]\nlocation = '{}/copy'\ninsecure = true\n",
            home_address, mirror_address
        )
    };
    let image = format!("docker://{}/app:1", home.address());
    let pull = |rules: &str, image: &str, to: &str| {
        let out = under(&sandbox, rules, &["--debug", "copy", image, to]).output();
        assert_eq!(out.status, 0, "{}", out.stderr);
        assert_eq!(out.stdout.trim(), digest);
        let count = |host: &str, word: &str| {
            out.stderr
                .lines()
                .filter(|line| line.contains(&format!("GET http://{host}")) && line.contains(word))
                .count()
        };
        (count(&mirror_address, "/blobs/"), count(&home_address, "/blobs/"), count(&home_address, "/manifests/"))
    };
    assert_eq!(pull(&rules(""), &image, "dir:one"), (2, 0, 0), "all of it from the mirror");
    // By tag the mirror is not asked, when it is for digests alone.
    let by_digest = rules("mirror-by-digest-only = true\n");
    assert_eq!(pull(&by_digest, &image, "dir:two"), (0, 2, 1));
    let pinned = format!("docker://{}/app@{digest}", home.address());
    assert_eq!(pull(&by_digest, &pinned, "dir:three"), (2, 0, 0));
    // A mirror that has lost a layer: that one alone comes from home.
    let data = mirror.dir().join("data/docker/registry/v2/repositories/copy/app/_layers/sha256");
    let raw = sandbox.ok("hoy-copy", &["inspect", "--raw", SOURCE]);
    let layer = serde_json::from_str::<serde_json::Value>(&raw).unwrap()["layers"][0]["digest"].as_str().unwrap()[7..]
        .to_owned();
    std::fs::remove_dir_all(data.join(&layer)).unwrap();
    let (asked, from_home, manifests) = pull(&rules(""), &image, "dir:four");
    assert!(asked >= 1 && from_home == 1 && manifests == 0, "{asked} {from_home} {manifests}");
    // A mirror that is away.
    drop(mirror);
    let out = under(&sandbox, &rules(""), &["-q", "--retry-times", "0", &image, "dir:five"]).ok();
    assert_eq!(out, digest);
    drop(home);
    let out = under(&sandbox, &rules(""), &["-q", "--retry-times", "0", &image, "dir:six"]).output();
    assert!(out.status == 1 && out.stderr.contains("/app:1"), "{}", out.stderr);
}

#[test]
fn a_mirror_with_wrong_bytes_is_passed_by() {
    let Some(sandbox) = sandbox() else { return };
    let (home, mirror) = (Registry::start(), Registry::start());
    let digest = push(&sandbox, &home.address(), "app:1");
    push(&sandbox, &mirror.address(), "app:1");
    let raw = sandbox.ok("hoy-copy", &["inspect", "--raw", SOURCE]);
    let raw: serde_json::Value = serde_json::from_str(&raw).unwrap();
    let layer = &raw["layers"][0]["digest"].as_str().unwrap()[7..];
    let spoil = |registry: &Registry, size: Option<usize>| {
        let path = format!("data/docker/registry/v2/blobs/sha256/{}/{layer}/data", &layer[..2]);
        let path = registry.dir().join(path);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[100] ^= if size.is_some() { 2 } else { 1 };
        bytes.truncate(size.unwrap_or(bytes.len()));
        std::fs::write(path, bytes).unwrap();
    };
    let [at_home, at_mirror] =
        [home.address(), mirror.address()].map(|at| format!("location = '{at}'\ninsecure = true"));
    let rules = format!("[[registry]]\n{at_home}\n[[registry.mirror]]\n{at_mirror}\n");
    let image = format!("docker://{}/app:1", home.address());
    let third = Registry::start();
    let to_third = format!("docker://{}/app:1", third.address());
    // Wrong from end to end; and wrong at first, with the rest from home.
    for (at, size) in [None, Some(5000)].into_iter().enumerate() {
        spoil(&mirror, size);
        for to in [format!("oci:layout{at}:a"), format!("dir:dir{at}"), to_third.replace("app", &format!("app{at}"))] {
            let out = under(&sandbox, &rules, &["--dest-tls-verify=false", &image, &to]).output();
            assert!(out.status == 0 && out.stdout.trim() == digest, "{to}: {}", out.stderr);
            assert!(out.stderr.contains(&format!("{} has wrong bytes", mirror.address())), "{to}: {}", out.stderr);
            sandbox.ok("hoy-copy", &["validate", "--tls-verify=false", &to]);
        }
    }
    spoil(&home, None);
    under(&sandbox, &rules, &["-q", &image, "oci:none:a"]).fails(1, &[layer]);
    let args = ["inspect", "oci:none:a"];
    sandbox.run("hoy-copy").args(args).fails(1, &["none"]);
}

#[test]
fn a_mirror_sees_no_secret_that_is_not_its_own() {
    let Some(sandbox) = sandbox() else { return };
    let home = Registry::start();
    let digest = push(&sandbox, &home.address(), "app:1");
    // It asks for credentials, and writes down all that comes.
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let mirror = listener.local_addr().unwrap().to_string();
    let seen: Arc<Mutex<String>> = Arc::default();
    let log = seen.clone();
    // A password, and a token from a server of its own for what stands at home (CVE-2026-33540).
    let bearer = format!("Bearer realm=\"http://{mirror}/token\",service=\"{}\"", home.address());
    let challenges = ["Basic realm=x".to_owned(), bearer];
    let challenge = Arc::new(Mutex::new(String::new()));
    let asked = challenge.clone();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut reader = BufReader::new(client.try_clone().unwrap());
            let mut line = String::new();
            while reader.read_line(&mut line).unwrap_or_default() > 2 {
                log.lock().unwrap().push_str(&line);
                line.clear();
            }
            let challenge = asked.lock().unwrap();
            let answer = format!(
                "HTTP/1.1 401 No\r\nWWW-Authenticate: {challenge}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            );
            client.write_all(answer.as_bytes()).unwrap_or_default();
        }
    });
    let rules = format!(
        "[[registry]]\nlocation = '{}'\n[[registry.mirror]]\nlocation = '{mirror}'\ninsecure = true\n",
        home.address()
    );
    for (secret, asks) in ["--src-creds=ann:s3cret", "--src-registry-token=s3cret"]
        .iter()
        .flat_map(|s| challenges.iter().map(move |c| (*s, c)))
    {
        challenge.lock().unwrap().clone_from(asks);
        let args = ["-q", "--src-tls-verify=false", secret, &format!("docker://{}/app:1", home.address()), "dir:out"];
        assert_eq!(under(&sandbox, &rules, &args).ok(), digest);
    }
    let seen = seen.lock().unwrap().to_lowercase();
    assert!(seen.contains("get /v2/app/manifests/1") && seen.contains("get /token?"), "{seen}");
    assert!(["authorization", "s3cret", "account=", "ann"].iter().all(|word| !seen.contains(word)), "{seen}");
}

/// Puts a credential helper into `work/bin`.
fn helper(sandbox: &Sandbox, name: &str, script: &str) -> String {
    let bin = sandbox.path("work/bin");
    std::fs::create_dir_all(&bin).unwrap();
    let path = bin.join(format!("docker-credential-{name}"));
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default())
}

#[test]
fn credential_helpers_are_asked_and_their_failure_is_final() {
    let Some(sandbox) = sandbox() else { return };
    if !need(&["htpasswd"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let htpasswd = dir.path().join("htpasswd");
    Run::new("htpasswd").arg("-Bbc").arg(&htpasswd).args(["ann", "s3cret"]).output();
    let registry = Registry::start_with(&format!("auth: {{htpasswd: {{realm: x, path: {}}}}}", htpasswd.display()), "");
    let image = format!("docker://{}/app:1", registry.address());
    let config = |text: String| std::fs::write(sandbox.path("work/auth.json"), text).unwrap();
    let run = |path: &str| {
        let args = ["-q", "--dest-tls-verify=false", "--authfile", "auth.json", SOURCE, &image];
        sandbox.run("hoy-copy").env("PATH", path).args(args)
    };
    let path =
        helper(&sandbox, "good", r#"test "$1" = get && cat >/dev/null && echo '{"Username":"ann","Secret":"s3cret"}'"#);
    config(format!(r#"{{"credHelpers":{{"{}":"good"}}}}"#, registry.address()));
    run(&path).ok();
    config(r#"{"credsStore":"good"}"#.to_owned());
    run(&path).ok();
    // Nothing is sent to anybody when a helper fails (CVE-2021-41092).
    helper(&sandbox, "bad", "echo 'no way' >&2; exit 1");
    config(format!(r#"{{"credHelpers":{{"{}":"bad"}}}}"#, registry.address()));
    run(&path).fails(1, &["docker-credential-bad"]);
    config(format!(r#"{{"credHelpers":{{"{}":"missing"}}}}"#, registry.address()));
    run(&path).fails(1, &["docker-credential-missing"]);
    // A helper that has nothing says so in words of its own.
    helper(&sandbox, "empty", "echo 'credentials not found in native keychain'; exit 1");
    config(r#"{"credsStore":"empty"}"#.to_owned());
    // It does not even read the question, and whether it ends before that is written must not matter.
    for _ in 0..5 {
        run(&path).fails(1, &["unauthorized"]);
    }
    std::fs::write(sandbox.path("work/registries.conf"), "credential-helpers = ['empty', 'good']\n").unwrap();
    run(&path).args(["--registries-conf", "registries.conf"]).ok();
}

/// A proxy that speaks CONNECT and plain requests, and writes down what it is asked.
fn proxy() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = seen.clone();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let log = log.clone();
            std::thread::spawn(move || {
                // A client may go away at any time.
                pass_on(client.unwrap(), &log).unwrap_or_default();
            });
        }
    });
    (address, seen)
}

fn pass_on(mut client: TcpStream, log: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    log.lock().unwrap().push(line.trim().to_owned());
    let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut header = String::new();
    while reader.read_line(&mut header)? > 2 {
        header.clear();
    }
    let mut server = TcpStream::connect(target)?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    let (mut from, mut to) = (server.try_clone()?, client.try_clone()?);
    std::thread::spawn(move || {
        std::io::copy(&mut from, &mut to).unwrap_or_default();
        to.shutdown(std::net::Shutdown::Write).unwrap_or_default();
    });
    std::io::copy(&mut reader, &mut server)?;
    server.shutdown(std::net::Shutdown::Write)
}

#[test]
fn proxies_are_used_and_passed_by() {
    let Some(sandbox) = sandbox() else { return };
    let registry = Registry::start();
    let digest = push(&sandbox, &registry.address(), "app:1");
    let (address, seen) = proxy();
    let image = format!("docker://{}/app:1", registry.address());
    let inspect = |no_proxy: &str| {
        let args = ["inspect", "--tls-verify=false", "--no-tags", "--format", "{{.Digest}}", &image];
        let run = sandbox.run("hoy-copy").env("HTTPS_PROXY", format!("http://{address}")).env("NO_PROXY", no_proxy);
        assert_eq!(run.env("HTTP_PROXY", format!("http://{address}")).args(args).ok(), digest);
        std::mem::take(&mut *seen.lock().unwrap())
    };
    let asked = inspect("other.example");
    let connect = format!("CONNECT {} ", registry.address());
    assert!(!asked.is_empty() && asked.iter().all(|line| line.starts_with(&connect)), "{asked:?}");
    assert_eq!(inspect("127.0.0.1"), [""; 0]);
}

#[test]
fn registries_live_at_ipv6_addresses_too() {
    let Some(sandbox) = sandbox() else { return };
    if TcpListener::bind(("::1", 0)).is_err() {
        hoy_tests::skip("this machine has no IPv6 loopback address");
        return;
    }
    let registry = Registry::start();
    let port = free_port();
    let listener = TcpListener::bind(("::1", port)).unwrap();
    let target = registry.address();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, mut server) = (client.unwrap(), TcpStream::connect(&target).unwrap());
            let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            std::thread::spawn(move || std::io::copy(&mut client, &mut server));
        }
    });
    let digest = push(&sandbox, &format!("[::1]:{port}"), "six:1");
    let image = format!("docker://{}/six:1", registry.address());
    assert_eq!(sandbox.ok("skopeo", &["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &image]), digest);
}

#[test]
fn sync_brings_all_tags_and_tells_what_failed() {
    let Some(sandbox) = sandbox() else { return };
    let registry = Registry::start();
    for tag in ["1", "2"] {
        push(&sandbox, &registry.address(), &format!("team/app:{tag}"));
    }
    let from = format!("{}/team/app", registry.address());
    let sync = |args: &[&str]| {
        sandbox.run("hoy-copy").args(["sync", "--src-tls-verify=false", "--dest-tls-verify=false"]).args(args)
    };
    let theirs = ["sync", "--src-tls-verify=false", "--src", "docker", "--dest", "dir", &from, "theirs"];
    std::fs::create_dir(sandbox.path("work/theirs")).unwrap();
    sandbox.run("skopeo").args(["--insecure-policy"]).args(theirs).ok();
    sync(&["-s", "docker", "-d", "dir", &from, "ours"]).ok();
    sandbox.ok("diff", &["-r", "theirs", "ours"]);
    let plan = sync(&["-s", "docker", "-d", "dir", "--scoped", "--dry-run", &from, "plan"]).ok();
    assert!(plan.lines().count() == 2 && plan.contains(&format!("dir:plan/{from}:1")), "{plan}");
    assert!(!Path::new(&sandbox.path("work/plan")).exists());
    let to = format!("{}/mirror", registry.address());
    sync(&["-s", "dir", "-d", "docker", "--append-suffix", "-x", "--digestfile", "digests", "ours", &to]).ok();
    let tags = sandbox.ok("hoy-copy", &["list-tags", "--tls-verify=false", &format!("docker://{to}/app")]);
    assert!(tags.contains("1-x") && tags.contains("2-x"), "{tags}");
    assert_eq!(std::fs::read_to_string(sandbox.path("work/digests")).unwrap().lines().count(), 2);
    // One of two is broken: the other is copied, and the exit code says so.
    std::fs::write(sandbox.path("work/ours/app:1/manifest.json"), "{}").unwrap();
    sync(&["-s", "dir", "-d", "docker", "--keep-going", "ours", &to]).fails(3, &["app:1", "1 of 2"]);
    sync(&["-s", "dir", "-d", "docker", "ours", &to]).fails(1, &["app:1"]);
    sync(&["-s", "docker", "-d", "dir", &format!("{}/none", registry.address()), "x"]).fails(1, &["none"]);
}

#[test]
fn short_names_are_aliases_or_looked_for() {
    let Some(sandbox) = sandbox() else { return };
    let (one, two) = (Registry::start(), Registry::start());
    let (first, second) = (one.address(), two.address());
    let digest = push(&sandbox, &second, "team/app:1");
    let search = format!("unqualified-search-registries = [\"{first}\", \"{second}\"]\n");
    let rules = format!("{search}[aliases]\nshort = \"{second}/team/app\"\n");
    let inspect = ["inspect", "--no-tags", "--tls-verify=false", "--format", "{{.Digest}} {{.Name}}"];
    let found = format!("{digest} {second}/team/app");
    for name in ["short:1", "team/app:1", &format!("{second}/team/app:1"), &format!("docker://{second}/team/app:1")] {
        assert_eq!(under(&sandbox, &rules, &[&inspect[..], &[name]].concat()).ok(), found, "{name}");
    }
    let copy = ["copy", "-q", "--src-tls-verify=false", "short:1", "oci:short:x"];
    assert_eq!(under(&sandbox, &rules, &copy).ok(), digest);
    assert!(under(&sandbox, &rules, &["list-tags", "--tls-verify=false", "short"]).ok().contains("\"1\""));
    assert_eq!(under(&sandbox, &rules, &["digest", "--tls-verify=false", "team/app:1"]).ok(), digest);
    // What is nowhere names each place; what is written to goes to one place alone.
    let none = under(&sandbox, &rules, &[&inspect[..], &["none"]].concat());
    none.fails(1, &["short name", &format!("{first}/none:latest"), &format!("{second}/none:latest")]);
    let mutate = ["mutate", "--tls-verify=false", "--label", "a=b", "short:1", "--tag"];
    under(&sandbox, &rules, &[&mutate[..], &["other:1"]].concat()).fails(2, &["short name", &first, &second]);
    under(&sandbox, &rules, &[&mutate[..], &["short:2"]].concat()).ok();
    assert!(
        sandbox
            .ok("hoy-copy", &["list-tags", "--tls-verify=false", &format!("docker://{second}/team/app")])
            .contains("\"2\"")
    );
    // The file in which podman keeps what a person chose wins.
    let cache = sandbox.path("home/.cache/containers");
    std::fs::create_dir_all(&cache).unwrap();
    let chosen = format!("[aliases]\nmine = \"{second}/team/app\"\n");
    std::fs::write(cache.join("short-name-aliases.conf"), chosen).unwrap();
    assert_eq!(sandbox.run("hoy-copy").args(inspect).arg("mine:1").ok(), found);
}

#[test]
fn manifest_digests_and_old_manifests() {
    let Some(sandbox) = sandbox() else { return };
    sandbox.ok("hoy-copy", &["-q", SOURCE, "dir:d"]);
    let ours = sandbox.ok("hoy-copy", &["manifest-digest", "d/manifest.json"]);
    assert_eq!(ours, sandbox.ok("skopeo", &["manifest-digest", "d/manifest.json"]));
    let bytes = std::fs::read(sandbox.path("work/d/manifest.json")).unwrap();
    assert_eq!(sandbox.run("hoy-copy").args(["manifest-digest", "-"]).stdin(bytes).ok(), ours);
    sandbox.run("hoy-copy").args(["manifest-digest", "none"]).fails(1, &["none"]);
    for (text, word) in [
        ("no JSON", "no JSON"),
        (
            r#"{"schemaVersion":1,"fsLayers":[],"mediaType":"application/vnd.docker.distribution.manifest.v1+prettyjws"}"#,
            "schema version 1",
        ),
    ] {
        std::fs::write(sandbox.path("work/no JSON"), text).unwrap();
        sandbox.run("hoy-copy").args(["manifest-digest", "no JSON"]).fails(1, &[word]);
    }
}
