//! Trust: policies and signatures, made by us and checked by skopeo, and the reverse.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::path::PathBuf;

use hoy_tests::{Registry, Run, Sandbox, Web, busybox_layout, need};
use serde_json::{Value, json};

const SOURCE: &str = "oci:layout:busybox:latest";

/// A sandbox with busybox in `work/layout`, a registry, and a user with a GnuPG key.
struct Place {
    sandbox: Sandbox,
    registry: Registry,
    fingerprint: String,
}

impl Place {
    fn new() -> Option<Self> {
        if !need(&["umoci", "busybox", "docker-registry", "skopeo", "gpg", "gpgv", "openssl"]) {
            return None;
        }
        let mut place = Self { sandbox: Sandbox::new(), registry: Registry::start(), fingerprint: String::new() };
        busybox_layout(&place.work("layout"));
        place.fingerprint = place.key("ann@example.org", &[]);
        let address = place.registry.address();
        place.write("registries.d/a.yaml", &format!(
            "docker:\n  {address}:\n    lookaside: file://{0}\n    lookaside-staging: file://{0}\n    sigstore: file://{0}\n    \
             sigstore-staging: file://{0}\n    use-sigstore-attachments: true\n",
            place.work("sigs").display()
        ));
        place.write("passphrase", "s3cret\n");
        Some(place)
    }

    fn work(&self, name: &str) -> PathBuf {
        self.sandbox.path("work").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::create_dir_all(self.work(name).parent().unwrap()).unwrap();
        std::fs::write(self.work(name), text).unwrap();
    }

    /// Makes a key and exports it, armoured, to `work/WHO.asc`; returns its fingerprint.
    fn key(&self, who: &str, more: &[&str]) -> String {
        std::fs::create_dir_all(self.sandbox.path("home/.gnupg")).unwrap();
        let gpg = |args: &[&str]| {
            let run =
                self.sandbox.run("gpg").args(["--batch", "--quiet", "--passphrase", "", "--pinentry-mode", "loopback"]);
            run.args(more).args(args).ok()
        };
        let expiry = if more.is_empty() { "never" } else { "1d" };
        gpg(&["--quick-generate-key", who, "rsa2048", "sign", expiry]);
        gpg(&["--armor", "--output", &format!("{who}.asc"), "--export", who]);
        let listed = gpg(&["--with-colons", "--list-keys", who]);
        listed.lines().find_map(|line| line.strip_prefix("fpr:")).unwrap().trim_matches(':').to_owned()
    }

    /// Makes `work/policy.json` of one requirement for everything.
    fn policy(&self, requirement: &Value) {
        self.write("policy.json", &json!({"default": [requirement]}).to_string());
    }

    fn signed_by(&self, who: &str) -> Value {
        json!({"type": "signedBy", "keyType": "GPGKeys", "keyPath": self.work(&format!("{who}.asc"))})
    }

    fn sigstore(&self, key: &str) -> Value {
        json!({"type": "sigstoreSigned", "keyPath": self.work(key), "signedIdentity": {"type": "matchExact"}})
    }

    fn image(&self, name: &str) -> String {
        format!("docker://{}/{name}", self.registry.address())
    }

    /// Pushes busybox as `name`, by `program`.
    fn push(&self, program: &str, name: &str, more: &[&str]) -> String {
        let run = self.sandbox.run(program).args(["--insecure-policy", "--registries.d", "registries.d", "copy"]);
        run.args(["-q", "--dest-tls-verify=false"]).args(more).args([SOURCE, &self.image(name)]).ok()
    }

    /// Copies `from` under the policy, by `program`, into a new directory.
    fn pull(&self, program: &str, from: &str) -> Run {
        let run = self.sandbox.run(program).args(["--policy", "policy.json", "--registries.d", "registries.d", "copy"]);
        let to = format!("dir:{}", tempfile::tempdir_in(self.work("")).unwrap().keep().display());
        run.args(["-q", "--src-tls-verify=false", "--remove-signatures", from, &to])
    }
}

impl Place {
    /// OpenSSL finds the signature of `work/key.pub` right that is in this layer of an artifact at `ours`.
    fn openssl_agrees(&self, layer: &Value) {
        let blob = self.image(&format!("ours@{}", layer["digest"].as_str().unwrap()));
        self.write("payload", &self.sandbox.ok("hoy-copy", &["blob", "--tls-verify=false", &blob]));
        self.write("base64", layer["annotations"]["dev.cosignproject.cosign/signature"].as_str().unwrap());
        self.sandbox.ok("openssl", &["base64", "-d", "-A", "-in", "base64", "-out", "raw"]);
        self.sandbox.ok("openssl", &["dgst", "-sha256", "-verify", "key.pub", "-signature", "raw", "payload"]);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // gpg leaves its agent behind.
        self.sandbox.run("gpgconf").args(["--kill", "all"]).output();
    }
}

#[test]
fn simple_signatures_both_ways() {
    let Some(place) = Place::new() else { return };
    place.key("eve@example.org", &[]);
    place.policy(&place.signed_by("ann@example.org"));
    for (signs, name) in [("hoy-copy", "ours:1"), ("skopeo", "theirs:1")] {
        place.push(signs, name, &["--sign-by", &place.fingerprint]);
        for checks in ["hoy-copy", "skopeo"] {
            place.pull(checks, &place.image(name)).ok();
        }
    }
    place.push("hoy-copy", "unsigned/a:1", &[]);
    place.pull("hoy-copy", &place.image("unsigned/a:1")).fails(1, &["Source image rejected", "has none"]);
    // Another key, another name, another image.
    place.policy(&place.signed_by("eve@example.org"));
    place.pull("hoy-copy", &place.image("ours:1")).fails(1, &["not a good one by a trusted key"]);
    place.policy(&place.signed_by("ann@example.org"));
    place.push("hoy-copy", "ours:2", &[]);
    place.pull("hoy-copy", &place.image("ours:2")).fails(1, &["Signature for identity", "ours:1 is not accepted"]);
    let mut rule = place.signed_by("ann@example.org");
    rule["signedIdentity"] = json!({"type": "matchRepository"});
    place.policy(&rule);
    place.pull("hoy-copy", &place.image("ours:2")).ok();
    let signature = |name: &str| {
        let path = std::fs::read_dir(place.work("sigs")).unwrap().flatten().map(|e| e.path());
        path.into_iter().find(|p| p.to_string_lossy().contains(&format!("/{name}@"))).unwrap().join("signature-1")
    };
    let mut bytes = std::fs::read(signature("ours")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(signature("ours"), &bytes).unwrap();
    place.pull("hoy-copy", &place.image("ours:1")).fails(1, &["Source image rejected"]);
    std::fs::write(signature("theirs"), "garbage").unwrap();
    place.pull("hoy-copy", &place.image("theirs:1")).fails(1, &["Source image rejected"]);
    // Where signatures cannot be had, or are written nowhere, nothing is copied.
    place.write("registries.d/a.yaml", "docker: {x: {lookasid: y}}");
    place.pull("hoy-copy", &place.image("ours:1")).fails(1, &["a.yaml"]);
    place.write("registries.d/a.yaml", "docker: {}");
    let push = place.sandbox.run("hoy-copy").args(["--registries.d", "registries.d", "copy", "--sign-by", "AB"]);
    push.args([SOURCE, &place.image("never:1")]).fails(1, &["no directory is configured"]);
    let tags = ["list-tags", "--tls-verify=false", &place.image("never")];
    place.sandbox.run("hoy-copy").args(tags).fails(1, &["never"]);
}

#[test]
fn keys_that_have_expired_sign_nothing() {
    let Some(place) = Place::new() else { return };
    let then = ["--faked-system-time", "20200101T000000"];
    let old = place.key("old@example.org", &then);
    place.sandbox.ok("hoy-copy", &["-q", SOURCE, "dir:d"]);
    let digest = place.sandbox.ok("hoy-copy", &["manifest-digest", "d/manifest.json"]);
    let text = json!({"critical": {"type": "atomic container signature", "image": {"docker-manifest-digest": digest},
        "identity": {"docker-reference": "r.x/a:1"}}, "optional": {}});
    place.write("text", &text.to_string());
    // An hour later: the clock of each program begins at the time that it is given.
    let later = ["--faked-system-time", "20200101T010000"];
    let sign = place.sandbox.run("gpg").args(["--batch", "--local-user", &old]).args(later);
    sign.args(["--output", "signature", "--sign", "text"]).ok();
    let verify = [
        "standalone-verify",
        "--public-key-file",
        "old@example.org.asc",
        "d/manifest.json",
        "r.x/a:1",
        "any",
        "signature",
    ];
    place.sandbox.run("hoy-copy").args(verify).fails(1, &["not a good one"]);
}

#[test]
fn files_are_signed_and_verified() {
    let Some(place) = Place::new() else { return };
    place.sandbox.ok("hoy-copy", &["-q", SOURCE, "dir:d"]);
    for (signs, checks) in [("hoy-copy", "skopeo"), ("skopeo", "hoy-copy"), ("hoy-copy", "hoy-copy")] {
        let sign = ["standalone-sign", "-o", "signature", "d/manifest.json", "r.x/a:1", &place.fingerprint];
        place.sandbox.run(signs).args(sign).ok();
        let verify = ["standalone-verify", "d/manifest.json", "r.x/a:1", &place.fingerprint, "signature"];
        let said = place.sandbox.run(checks).args(verify).ok();
        assert!(said.starts_with("Signature verified") && said.contains("sha256:"), "{said}");
    }
    let verify = |args: &[&str]| place.sandbox.run("hoy-copy").arg("standalone-verify").args(args);
    let f = place.fingerprint.as_str();
    verify(&["d/version", "r.x/a:1", f, "signature"]).fails(1, &["another image"]);
    verify(&["d/manifest.json", "r.x/a:2", f, "signature"]).fails(1, &["for the name \"r.x/a:1\""]);
    verify(&["d/manifest.json", "r.x/a:1", f, "d/version"]).fails(1, &["not a good one"]);
    let other = place.key("eve@example.org", &[]);
    verify(&["d/manifest.json", "r.x/a:1", &other, "signature"]).fails(1, &["not a good one"]);
    verify(&["d/manifest.json", "r.x/a:1", "any", "signature"]).fails(2, &["--public-key-file"]);
    verify(&["d/manifest.json", "r.x/a:1", "--help=x", "signature"]).fails(2, &["help"]);
    let any = ["--public-key-file", "ann@example.org.asc", "d/manifest.json", "r.x/a:1", "any", "signature"];
    verify(&any).ok();
}

#[test]
fn a_signature_that_swells_stays_small() {
    let Some(place) = Place::new() else { return };
    place.sandbox.ok("hoy-copy", &["-q", SOURCE, "dir:d"]);
    // A gigabyte of zeros as a compressed message: a few kilobytes.
    let zeros = "head -c 1000000000 /dev/zero | gpg --batch --compress-algo bzip2 --output bomb --store";
    place.sandbox.run("sh").args(["-c", zeros]).ok();
    let watch = format!(
        "#!/bin/sh\nulimit -f >{0}; ulimit -t >>{0}; exec /usr/bin/gpgv \"$@\"\n",
        place.work("limits").display()
    );
    place.write("bin/gpgv", &watch);
    place.sandbox.run("chmod").args(["+x", "bin/gpgv"]).ok();
    let path = format!("{}:{}", place.work("bin").display(), std::env::var("PATH").unwrap());
    let verify = ["standalone-verify", "d/manifest.json", "r.x/a:1", &place.fingerprint, "bomb"];
    place.sandbox.run("hoy-copy").env("PATH", &path).args(verify).fails(1, &["not a good one"]);
    // In units of 512 bytes, and in seconds.
    assert_eq!(std::fs::read_to_string(place.work("limits")).unwrap(), "256\n10\n");
}

#[test]
fn sigstore_signatures() {
    let Some(place) = Place::new() else { return };
    for prefix in ["key", "other"] {
        let generate = ["generate-sigstore-key", "--output-prefix", prefix, "--passphrase-file", "passphrase"];
        place.sandbox.ok("hoy-copy", &generate);
        place.sandbox.run("hoy-copy").args(generate).fails(1, &["exists"]);
    }
    let sign = ["--sign-by-sigstore-private-key", "key.key", "--sign-passphrase-file", "passphrase"];
    place.policy(&place.sigstore("key.pub"));
    let mut digest = String::new();
    for name in ["ours:1", "ours:2"] {
        digest = place.push("hoy-copy", name, &sign);
        place.pull("hoy-copy", &place.image(name)).ok();
    }
    // Both names have their signature at the one image.
    let attached = place.image(&format!("ours:{}.sig", digest.replace(':', "-")));
    let manifest = place.sandbox.ok("hoy-copy", &["manifest", "--tls-verify=false", &attached]);
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 2);
    place.openssl_agrees(&manifest["layers"][0]);
    place.policy(&place.sigstore("other.pub"));
    place.pull("hoy-copy", &place.image("ours:1")).fails(1, &["not a good one by a trusted key"]);
    place.policy(&place.sigstore("key.pub"));
    place.push("hoy-copy", "ours:3", &[]);
    place.pull("hoy-copy", &place.image("ours:3")).fails(1, &["Signature for identity"]);
    place.write("passphrase", "wrong\n");
    let push = place.sandbox.run("hoy-copy").args(["--registries.d", "registries.d", "copy"]).args(sign);
    push.args([SOURCE, &place.image("x:1")]).fails(1, &["passphrase is wrong"]);
    let push = place.sandbox.run("hoy-copy").args(["copy"]).args(sign).args([SOURCE, "oci:x:1"]);
    push.fails(2, &["no place for signatures"]);
    // Without the attachments named, there are none.
    place.write("registries.d/a.yaml", "docker: {}");
    place.pull("hoy-copy", &place.image("ours:1")).fails(1, &["has none"]);
}

#[test]
fn keys_and_signatures_of_openssl() {
    let Some(place) = Place::new() else { return };
    place.sandbox.ok("hoy-copy", &["-q", SOURCE, "dir:d"]);
    let digest = place.sandbox.ok("hoy-copy", &["digest", "dir:d"]);
    let text = json!({"critical": {"type": "cosign container image signature", "image": {"docker-manifest-digest": digest},
        "identity": {"docker-reference": "r.x/a:1"}}, "optional": null});
    place.write("payload", &text.to_string());
    let openssl = |line: &str| place.sandbox.run("openssl").args(line.split(' ')).ok();
    for kind in ["EC -pkeyopt ec_paramgen_curve:P-256", "EC -pkeyopt ec_paramgen_curve:P-384", "RSA", "ED25519"] {
        openssl(&format!("genpkey -algorithm {kind} -out private"));
        openssl("pkey -in private -pubout -out public");
        match kind {
            "ED25519" => openssl("pkeyutl -sign -inkey private -rawin -in payload -out raw"),
            _ => openssl("dgst -sha256 -sign private -out raw payload"),
        };
        let signature = openssl("base64 -A -in raw");
        let document = json!({"mimeType": "application/vnd.dev.cosign.simplesigning.v1+json",
            "payload": openssl("base64 -A -in payload"), "annotations": {"dev.cosignproject.cosign/signature": signature}});
        place.write("d/signature-1", &format!("\0sigstore-json\n{document}"));
        let mut rule = place.sigstore("public");
        rule["signedIdentity"] = json!({"type": "exactRepository", "dockerRepository": "r.x/a"});
        place.policy(&rule);
        place.pull("hoy-copy", "dir:d").ok();
        place.write("d/signature-1", &format!("\0sigstore-json\n{}", document.to_string().replace("ey", "ez")));
        place.pull("hoy-copy", "dir:d").fails(1, &["Source image rejected"]);
    }
}

#[test]
fn directories_keep_signatures() {
    let Some(place) = Place::new() else { return };
    let generate = ["generate-sigstore-key", "--output-prefix", "key", "--passphrase-file", "passphrase"];
    place.sandbox.ok("hoy-copy", &generate);
    let mut rule = place.signed_by("ann@example.org");
    rule["signedIdentity"] = json!({"type": "exactReference", "dockerReference": "r.x/a:1"});
    let copy = ["-q", "--sign-identity", "r.x/a:1", "--sign-by", &place.fingerprint];
    let both = ["--sign-by-sigstore-private-key", "key.key", "--sign-passphrase-file", "passphrase"];
    place.sandbox.run("hoy-copy").arg("copy").args(copy).args([SOURCE, "dir:d"]).ok();
    place.policy(&rule);
    for checks in ["hoy-copy", "skopeo"] {
        place.pull(checks, "dir:d").ok();
    }
    place
        .sandbox
        .run("hoy-copy")
        .args(["copy", "-q", "--sign-identity", "r.x/a:1"])
        .args(both)
        .args(["dir:d", "dir:e"])
        .ok();
    let mut sigstore = place.sigstore("key.pub");
    sigstore["signedIdentity"] = rule["signedIdentity"].clone();
    place.policy(&sigstore);
    place.pull("hoy-copy", "dir:e").ok();
    place.pull("hoy-copy", "dir:d").fails(1, &["has none"]);
    place.sandbox.run("hoy-copy").args(["copy", "--sign-by", "AB", SOURCE, "dir:f"]).fails(2, &["--sign-identity"]);
    // What is written over leaves no signature behind, of the image or of what an index listed; other files stay.
    let member = format!("e/{}.signature-1", "0".repeat(64));
    for name in [member.as_str(), "e/signature-x", "e/my.signature-1"] {
        place.write(name, "old");
    }
    assert!(place.sandbox.path("work/e/signature-2").exists());
    place.sandbox.ok("hoy-copy", &["-q", SOURCE, "dir:e"]);
    let mut left: Vec<_> =
        std::fs::read_dir(place.sandbox.path("work/e")).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.retain(|name| name.to_string_lossy().contains("signature"));
    left.sort();
    assert_eq!(left, ["my.signature-1", "signature-x"]);
}

#[test]
fn signatures_are_read_from_a_web_server() {
    let Some(place) = Place::new() else { return };
    place.push("hoy-copy", "ours:1", &["--sign-by", &place.fingerprint]);
    place.policy(&place.signed_by("ann@example.org"));
    let address = place.registry.address();
    let read_at = |base: &str| {
        let keys = format!("lookaside: {base}, sigstore: {base}");
        place.write("registries.d/a.yaml", &format!("docker: {{\"{address}\": {{{keys}}}}}"));
    };
    read_at(&Web::files(place.work("sigs")).address);
    for checks in ["hoy-copy", "skopeo"] {
        place.pull(checks, &place.image("ours:1")).ok();
    }
    read_at(&Web::files(place.work("layout")).address);
    place.pull("hoy-copy", &place.image("ours:1")).fails(1, &["Source image rejected", "has none"]);
    read_at(&format!("http://127.0.0.1:{}", hoy_tests::free_port()));
    place.pull("hoy-copy", &place.image("ours:1")).fails(1, &["signatures cannot be had"]);
}

#[test]
fn signatures_come_along() {
    let Some(place) = Place::new() else { return };
    let usual = ["--registries.d", "registries.d", "copy", "--src-tls-verify=false", "--dest-tls-verify=false"];
    let copy =
        |more: &[&str], from: &str, to: &str| place.sandbox.run("hoy-copy").args(usual).args(more).args([from, to]);
    let generate = ["generate-sigstore-key", "--output-prefix", "key", "--passphrase-file", "passphrase"];
    place.sandbox.ok("hoy-copy", &generate);
    let sigstore = ["--sign-by-sigstore-private-key", "key.key", "--sign-passphrase-file", "passphrase"];
    // A key may be named by its address, as gpg has it.
    place.push("hoy-copy", "ours:1", &["--sign-by", "ann@example.org"]);
    place.push("hoy-copy", "ours:1", &sigstore);
    let (from, other) = (place.image("ours:1"), place.image("other:1"));
    let listed = |name: &str| {
        let names = std::fs::read_dir(place.work(name)).unwrap().flatten().map(|e| e.file_name());
        names.filter(|name| name.to_string_lossy().starts_with("signature-")).count()
    };
    for _ in 0..2 {
        copy(&[], &from, "dir:d").ok();
        assert_eq!(listed("d"), 2, "one of each kind, and none twice");
        copy(&[], "dir:d", &other).ok();
    }
    let identity = json!({"type": "exactReference", "dockerReference": from.trim_start_matches("docker://")});
    // Debian's skopeo checks no sigstore signatures.
    let (simple, sigstore) = (place.signed_by("ann@example.org"), place.sigstore("key.pub"));
    for (mut rule, checks) in [(simple.clone(), "hoy-copy"), (simple, "skopeo"), (sigstore, "hoy-copy")] {
        rule["signedIdentity"] = identity.clone();
        place.policy(&rule);
        place.pull(checks, "dir:d").ok();
        place.pull(checks, &other).ok();
    }
    copy(&["--remove-signatures"], &from, "dir:bare").ok();
    assert_eq!(listed("bare"), 0);
    let said = copy(&[], &from, "oci:o:x").output();
    assert!(said.status == 0 && said.stderr.contains("2 signatures stay behind"), "{}", said.stderr);
}

#[test]
fn a_policy_that_is_not_understood_stops_everything() {
    let Some(place) = Place::new() else { return };
    for (policy, want) in [
        ("", "read trust policy"),
        ("{", "read trust policy"),
        (r#"{"default":[]}"#, "means nothing"),
        (r#"{"default":[{"type":"reject"}]}"#, "is rejected by policy"),
        (r#"{"default":[{"type":"new"}]}"#, "read trust policy"),
        (r#"{"default":[{"type":"insecureAcceptAnything","more":1}]}"#, "read trust policy"),
        (r#"{"default":[{"type":"insecureAcceptAnything"}],"default":[]}"#, "read trust policy"),
        (r#"{"default":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/none"}]}"#, "/none"),
        (r#"{"default":[{"type":"sigstoreSigned","fulcio":{}}]}"#, "read trust policy"),
        (r#"{"default":[{"type":"sigstoreSigned","pki":{}}]}"#, "read trust policy"),
        (
            r#"{"default":[{"type":"insecureAcceptAnything"}],"transports":{"oci":{"":[{"type":"reject"}]}}}"#,
            "rejected by policy",
        ),
    ] {
        place.write("policy.json", policy);
        place.pull("hoy-copy", SOURCE).fails(1, &[want]);
    }
    place.policy(&json!({"type": "insecureAcceptAnything"}));
    place.pull("hoy-copy", SOURCE).ok();
    let signed = ["--policy", "policy.json", "copy", "--require-signed", SOURCE, "dir:x"];
    place.sandbox.run("hoy-copy").args(signed).fails(1, &["--require-signed"]);
    let before = ["--require-signed", "--policy", "policy.json", "copy", SOURCE, "dir:x"];
    place.sandbox.run("hoy-copy").args(before).fails(1, &["--require-signed"]);
    let both = ["--require-signed", "--insecure-policy", "copy", SOURCE, "dir:x"];
    place.sandbox.run("hoy-copy").args(both).fails(2, &["--insecure-policy"]);
}

#[test]
fn what_would_lose_signatures_is_not_done() {
    let Some(place) = Place::new() else { return };
    place.push("hoy-copy", "ours:1", &["--sign-by", &place.fingerprint]);
    let from = place.image("ours:1");
    let copy = |args: &[&str], to: &str| {
        let run = place.sandbox.run("hoy-copy").args(["--insecure-policy", "--registries.d", "registries.d", "copy"]);
        run.args(["-q", "--src-tls-verify=false"]).args(args).args([&from, to])
    };
    place.sandbox.ok("sh", &["-ec", "openssl genrsa -out rsa.key 2048; openssl rsa -in rsa.key -pubout -out rsa.pub"]);
    for args in [
        &["--format", "v2s2"][..],
        &["--dest-compress-format", "zstd"],
        &["--dest-decompress"],
        &["--encryption-key", "jwe:rsa.pub"],
    ] {
        copy(args, "dir:changed").fails(1, &["would invalidate its signatures", "--remove-signatures"]);
        assert!(!place.work("changed/manifest.json").exists(), "{args:?}");
        copy(&[args, &["--remove-signatures"]].concat(), "dir:changed").ok();
        std::fs::remove_dir_all(place.work("changed")).unwrap();
    }
    // What needs another form has no place for signatures either.
    copy(&[], "docker-archive:x.tar").fails(1, &["would invalidate its signatures"]);
    // What is asked for and is so already changes nothing.
    copy(&["--format", "oci", "--dest-compress-format", "gzip"], "dir:same").ok();
    assert!(place.work("same/signature-1").exists());
}

#[test]
fn signatures_of_an_indexs_members_come_along() {
    let Some(place) = Place::new() else { return };
    let hoy = |args: &[&str]| {
        let run = place.sandbox.run("hoy-copy").args(["--insecure-policy", "--registries.d", "registries.d"]);
        run.args(args).ok()
    };
    let digest = place.push("hoy-copy", "ours:a", &["--sign-by", &place.fingerprint]);
    let image = place.image("ours:a");
    hoy(&["index", "create", "--tls-verify=false", &place.image("ours:multi"), &image]);
    let member = format!("{}.signature-1", digest.trim_start_matches("sha256:"));
    let all = ["-q", "--all", "--src-tls-verify=false", "--dest-tls-verify=false"];
    hoy(&[&["copy"], &all[..], &[&place.image("ours:multi"), "dir:ours"]].concat());
    let skopeo = place.sandbox.run("skopeo").args(["--insecure-policy", "--registries.d", "registries.d", "copy"]);
    skopeo.args(all).args([&place.image("ours:multi"), "dir:theirs"]).ok();
    let read = |name: &str| std::fs::read(place.work(name).join(&member)).unwrap();
    assert_eq!(read("ours"), read("theirs"));
    assert!(!place.work("ours/signature-1").exists(), "the index itself is not signed");
    // From there to a registry and back, where the image is wanted signed.
    hoy(&[&["copy"], &all[..], &["dir:theirs", &place.image("back:multi")]].concat());
    let mut rule = place.signed_by("ann@example.org");
    rule["signedIdentity"] =
        json!({"type": "exactRepository", "dockerRepository": place.image("ours")["docker://".len()..]});
    place.policy(&rule);
    place.pull("hoy-copy", &place.image("back:multi")).ok();
    place.pull("hoy-copy", "dir:ours").ok();
    place.sandbox.ok("rm", &[&format!("ours/{member}")]);
    place.pull("hoy-copy", "dir:ours").fails(1, &["has none"]);
    // An index may change of which a member alone is signed, and the member stays as it is.
    let one = ["-q", "--multi-arch", "index-only", "--src-tls-verify=false", "--format", "oci"];
    hoy(&[&["copy"], &one[..], &[&place.image("ours:multi"), "dir:index"]].concat());
}
