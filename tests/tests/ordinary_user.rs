//! What other tests hold against peers as root, an ordinary user can do too, with and without subordinate ids.

use std::fs;

use hoy_tests::{Registry, User, busybox_store, need};
use serde_json::json;

/// Saved, loaded, synchronised from a list, signed, verified, watched.
fn sends_and_fetches(user: User) {
    if !need(&["docker-registry"]) {
        return;
    }
    let Some(sandbox) = busybox_store(user) else { return };
    let write = |name: &str, text: &str| fs::write(sandbox.path("work").join(name), text).unwrap();
    let ok = |script: &str| sandbox.run("sh").args(["-ec", script]).ok();
    let id = ok("hoy-storage images -q --no-trunc");
    ok("hoy-storage save -q -o it.tar busybox; hoy-storage rmi --all; hoy-storage load -q -i it.tar");
    assert_eq!(ok("hoy-storage images -q --no-trunc"), id);

    let registry = Registry::start();
    let address = registry.address();
    write("sync.yaml", &format!("{address}:\n  tls-verify: false\n  images:\n    team/app: ['1']\n"));
    ok(&format!("hoy-copy copy -q --dest-tls-verify=false store:busybox docker://{address}/team/app:1"));
    ok("mkdir got; hoy-copy sync --src yaml --dest dir sync.yaml got; test -s got/app:1/manifest.json");

    let events = ok("hoy-copy sync --src yaml --dest dir --progress json:7 sync.yaml again 7>&1 >digests 2>said");
    assert!(events.starts_with(r#"{"event":"image""#), "{events}");
    fs::create_dir_all(sandbox.path("home/.config/containers")).unwrap();
    let aliases = format!("[aliases]\nshort = \"{address}/team/app\"\n");
    fs::write(sandbox.path("home/.config/containers/registries.conf"), aliases).unwrap();
    ok("hoy-copy copy -q --src-tls-verify=false --limit-rate 1G short:1 oci:limited:it");
    ok("hoy-storage tag busybox second; hoy-storage save -q -m -o both.tar busybox second");
    let listed = ok("tar xOf both.tar manifest.json");
    assert!(listed.contains("busybox:latest") && listed.contains("second:latest"), "{listed}");

    write("pass", "s3cret\n");
    ok("mkdir signatures; hoy-copy generate-sigstore-key --output-prefix key --passphrase-file pass");
    ok(
        "hoy-copy generate-sigstore-key --output-prefix other --passphrase-file pass; test \"$(stat -c %a key.key)\" = 600",
    );
    write("signatures/a.yaml", &format!("docker:\n  {address}:\n    use-sigstore-attachments: true\n"));
    let trusting = |key: &str| {
        let path = sandbox.path("work").join(key);
        write("policy.json", &json!({"default": [{"type": "sigstoreSigned", "keyPath": path}]}).to_string());
    };
    let signing = "--sign-by-sigstore-private-key key.key --sign-passphrase-file pass";
    let image = format!("docker://{address}/team/signed:1");
    ok(&format!("hoy-copy --registries.d signatures copy -q --dest-tls-verify=false {signing} store:busybox {image}"));
    let fetch = format!(
        "hoy-copy --policy policy.json --registries.d signatures copy -q --remove-signatures --src-tls-verify=false {image}"
    );
    trusting("key.pub");
    ok(&format!("{fetch} dir:trusted"));
    trusting("other.pub");
    sandbox.run("sh").args(["-c", &format!("{fetch} dir:not")]).fails(1, &["trusted key"]);

    let events = ok("hoy-copy copy --progress json:7 store:busybox oci:watched:it 7>&1 >digest");
    assert!(events.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{events}");
    assert!(events.contains("\"begin\"") && events.contains("\"end\""), "{events}");
}

/// Built from two files, with a name for commands and limits that an ordinary user may set.
fn builds(user: User) {
    let Some(sandbox) = busybox_store(user) else { return };
    fs::write(sandbox.path("work/one"), "FROM busybox\n").unwrap();
    let two = "RUN grep 10.0.0.1 /etc/hosts >/found && grep -c localhost /etc/hosts\n";
    fs::write(sandbox.path("work/two"), two).unwrap();
    let build =
        ["build", "-q", "--add-host", "db:10.0.0.1", "--rewrite-timestamp", "-f", "one", "-f", "two", "-t", "it", "."];
    sandbox.ok("hoy-build", &build);
    assert!(sandbox.ok("hoy", &["run", "--rm", "it", "cat", "/found"]).ends_with("\tdb"));
    let twice = ["build", "-f", "-", "-f", "-", "."];
    sandbox.run("hoy-build").args(twice).fails(2, &["once"]);
    fs::write(sandbox.path("work/three"), "FROM busybox\nRUN echo made >/made; exit 3\n").unwrap();
    let shell = sandbox.run("hoy-build").args(["build", "--on-error", "shell", "-f", "three", "."]);
    shell.stdin("cat /made\n").fails(3, &["failed: this is", "made"]);
}

#[test]
fn builds_with_subordinate_ids() {
    builds(User::Sub);
}

#[test]
fn builds_with_one_id() {
    builds(User::One);
}

#[test]
fn with_subordinate_ids() {
    sends_and_fetches(User::Sub);
}

#[test]
fn with_one_id() {
    sends_and_fetches(User::One);
}

/// Checks of a Containerfile need no privilege, no image and no store.
#[test]
fn a_containerfile_is_checked() {
    for user in [User::Sub, User::One] {
        let Some(sandbox) = busybox_store(user) else { return };
        let check =
            |text: &str| sandbox.run("hoy-build").args(["build", "--check", "-f", "-", "."]).stdin(text).output();
        let found = check("FROM nowhere as b\n");
        assert_eq!(found.status, 1, "{}", found.stderr);
        assert!(found.stderr.contains("FromAsCasing"), "{}", found.stderr);
        assert_eq!(check("FROM nowhere AS b\n").status, 0);
    }
}
