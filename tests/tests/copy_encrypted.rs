//! Encrypted layers: made by us and read by skopeo, and the reverse; wrong keys, damage, and what has no key.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::path::PathBuf;

use hoy_tests::{Sandbox, TarLayer, User, image_of, need};
use serde_json::Value;

const SOURCE: &str = "oci:layout:x";

/// A user's sandbox with an image of three layers in `work/layout`, and keys: `rsa`, `p256`, `p384` and `p521`, each as
/// `NAME.key` and `NAME.pub`.
struct Place(Sandbox);

impl Place {
    fn new(user: User) -> Option<Self> {
        if !need(&["openssl", "skopeo", "tar"]) || !user.available() {
            return None;
        }
        let place = Self(Sandbox::for_user(user));
        place.sh("mkdir a b c; for d in a b c; do head -c 300000 /dev/urandom | base64 >$d/$d; tar -C $d -cf $d.tar $d; done");
        let layer = |name: &str| TarLayer::plain(std::fs::read(place.work(name)).unwrap());
        let layers = ["a.tar", "b.tar", "c.tar"].map(layer);
        image_of(&place.work("plain"), "x", layers);
        place.hoy(&["--dest-compress-format", "gzip", "oci:plain:x", SOURCE]);
        place.sh("openssl genrsa -out rsa.key 2048; openssl rsa -in rsa.key -pubout -out rsa.pub");
        for (name, curve) in [("p256", "prime256v1"), ("p384", "secp384r1"), ("p521", "secp521r1")] {
            place.sh(&format!(
                "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:{curve} -out {name}.key; openssl pkey -in {name}.key -pubout \
                 -out {name}.pub"
            ));
        }
        Some(place)
    }

    fn work(&self, name: &str) -> PathBuf {
        self.0.path("work").join(name)
    }

    fn sh(&self, script: &str) {
        self.0.ok("sh", &["-ec", script]);
    }

    fn hoy(&self, args: &[&str]) -> String {
        self.0.run("hoy-copy").args(["copy", "-q"]).args(args).ok()
    }

    fn hoy_fails(&self, code: i32, args: &[&str], words: &[&str]) {
        self.0.run("hoy-copy").args(["copy", "-q"]).args(args).fails(code, words);
    }

    fn skopeo(&self, args: &[&str]) {
        self.0.run("skopeo").args(["--insecure-policy", "copy", "-q"]).args(args).ok();
    }

    /// Digest and type of each layer.
    fn layers(&self, image: &str) -> Vec<(String, String)> {
        let manifest: Value = serde_json::from_str(&self.0.ok("hoy-copy", &["inspect", "--raw", image])).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        manifest["layers"].as_array().unwrap().iter().map(|l| (text(&l["digest"]), text(&l["mediaType"]))).collect()
    }

    fn encrypted(&self, image: &str) -> Vec<bool> {
        self.layers(image).iter().map(|(_, media_type)| media_type.ends_with("+gzip+encrypted")).collect()
    }
}

#[test]
fn skopeo_reads_ours_and_we_read_skopeos() {
    for user in [User::Root, User::One] {
        let Some(place) = Place::new(user) else { return };
        let plain = place.layers(SOURCE);
        for name in ["rsa", "p256", "p384", "p521"] {
            let (key, public) = (format!("{name}.key"), format!("jwe:{name}.pub"));
            place.hoy(&["--encryption-key", &public, SOURCE, &format!("oci:ours:{name}")]);
            place.skopeo(&["--encryption-key", &public, SOURCE, &format!("oci:theirs:{name}")]);
            for from in [format!("oci:ours:{name}"), format!("oci:theirs:{name}")] {
                assert_eq!(place.encrypted(&from), [true; 3], "{from}");
                let to = format!("oci:{}:{name}", if from.contains("ours") { "ours-open" } else { "theirs-open" });
                place.skopeo(&["--decryption-key", &key, &from, &to]);
                assert_eq!(place.layers(&to), plain, "{from} by skopeo");
                place.hoy(&["--decryption-key", &key, &from, &format!("{to}-too")]);
                assert_eq!(place.layers(&format!("{to}-too")), plain, "{from} by us");
            }
        }
    }
}

#[test]
fn some_layers_for_several_and_compressed_on_the_way() {
    let Some(place) = Place::new(User::Root) else { return };
    let two = "jwe:rsa.pub,jwe:p256.pub";
    place.hoy(&["--encryption-key", two, "--encrypt-layer", "0", "--encrypt-layer=-1", SOURCE, "oci:some:x"]);
    assert_eq!(place.encrypted("oci:some:x"), [true, false, true]);
    for key in ["rsa.key", "p256.key"] {
        place.hoy(&["--decryption-key", key, "oci:some:x", "dir:one"]);
        place.skopeo(&["--decryption-key", key, "oci:some:x", "dir:two"]);
        assert_eq!(place.layers("dir:one"), place.layers(SOURCE));
        assert_eq!(place.layers("dir:two"), place.layers(SOURCE));
    }
    // Skopeo encrypts the same ones.
    place.skopeo(&["--encryption-key", two, "--encrypt-layer", "0", "--encrypt-layer=-1", SOURCE, "oci:same:x"]);
    assert_eq!(place.encrypted("oci:same:x"), [true, false, true]);
    // Compressed, then encrypted; decrypted, then uncompressed, for a place that has no word for either.
    place.hoy(&["--encryption-key", two, "--dest-compress-format", "zstd", SOURCE, "oci:zstd:x"]);
    place.skopeo(&["--decryption-key", "p256.key", "oci:zstd:x", "oci:unzstd:x"]);
    place.hoy(&["--decryption-key", "rsa.key", "oci:zstd:x", "docker-archive:x.tar:localhost/x:1"]);
    let tars = |image: &str| place.layers(image).into_iter().map(|(digest, _)| digest).collect::<Vec<_>>();
    assert_eq!(tars("docker-archive:x.tar"), tars("oci:plain:x"));
    // Whoever has no key can move it all the same, byte for byte.
    assert_eq!(place.hoy(&["oci:some:x", "dir:moved"]), place.0.ok("hoy-copy", &["digest", "oci:some:x"]));
    // Docker's format turns into OCI's, which has a word for it, and not if Docker's is asked for.
    place.hoy(&["--format", "v2s2", SOURCE, "dir:docker"]);
    place.hoy(&["--encryption-key", two, "dir:docker", "dir:sealed"]);
    assert_eq!(place.encrypted("dir:sealed"), [true; 3]);
    place.hoy_fails(
        1,
        &["--encryption-key", two, "--format", "v2s2", SOURCE, "dir:no"],
        &["no layers that are encrypted"],
    );
    place.hoy_fails(1, &["--encryption-key", two, SOURCE, "docker-archive:no.tar"], &["no layers that are encrypted"]);
    place.hoy_fails(1, &["--encryption-key", two, "--preserve-digests", SOURCE, "dir:no"], &["--preserve-digests"]);
}

#[test]
fn locked_keys() {
    let Some(place) = Place::new(User::Root) else { return };
    place.hoy(&["--encryption-key", "jwe:rsa.pub", SOURCE, "oci:sealed:x"]);
    place.sh("openssl rsa -in rsa.key -aes256 -traditional -passout pass:s3cret -out old.key; echo s3cret >word");
    place.sh("openssl pkcs8 -topk8 -in rsa.key -passout pass:s3cret -out new.key");
    place.sh("openssl rsa -in rsa.key -traditional -out pkcs1.key; openssl rsa -in rsa.key -outform DER -out der.key");
    for key in ["old.key:s3cret", "old.key:pass=s3cret", "new.key:file=word", "pkcs1.key", "der.key"] {
        place.hoy(&["--decryption-key", key, "oci:sealed:x", "oci:opened:x"]);
        assert_eq!(place.layers("oci:opened:x"), place.layers(SOURCE), "{key}");
    }
    let script = format!(
        "{} copy -q --decryption-key new.key:fd=7 oci:sealed:x dir:fd 7<word",
        hoy_tests::program("hoy-copy").display()
    );
    place.sh(&script);
    for (key, words) in [
        ("old.key", "is locked"),
        ("new.key", "is locked"),
        ("old.key:no", "password"),
        ("new.key:no", "password"),
        ("word", "no private key"),
        ("rsa.pub", "no private key"),
        ("none.key", "none.key"),
    ] {
        place.hoy_fails(1, &["--decryption-key", key, "oci:sealed:x", "dir:no"], &[words]);
    }
}

#[test]
fn what_cannot_be_opened_leaves_nothing() {
    let Some(place) = Place::new(User::Root) else { return };
    place.hoy(&["--encryption-key", "jwe:rsa.pub", SOURCE, "dir:sealed"]);
    let fails = |from: &str, key: &str, words: &[&str]| {
        place.hoy_fails(1, &["--decryption-key", key, from, "oci:new:x"], words);
        let new = std::fs::read_to_string(place.work("new/index.json")).unwrap_or_default();
        assert!(!new.contains("ref.name"), "{new}");
    };
    fails("dir:sealed", "p256.key", &["decrypting layer sha256:", "none of the private keys"]);
    place.sh("openssl genrsa -out other.key 2048");
    fails("dir:sealed", "other.key", &["none of the private keys"]);
    let manifest: Value = serde_json::from_slice(&std::fs::read(place.work("sealed/manifest.json")).unwrap()).unwrap();
    let damage = |change: &dyn Fn(&mut Value), words: &[&str]| {
        let mut manifest = manifest.clone();
        change(&mut manifest["layers"][1]["annotations"]);
        place.sh("rm -rf bad; cp -r sealed bad");
        std::fs::write(place.work("bad/manifest.json"), manifest.to_string()).unwrap();
        fails("dir:bad", "rsa.key", words);
        let blobs = place.work("new/blobs/sha256");
        let plain = &place.layers(SOURCE)[1].0["sha256:".len()..];
        assert!(!blobs.join(plain).exists(), "the layer is there");
    };
    let (keys, public) = ("org.opencontainers.image.enc.keys.jwe", "org.opencontainers.image.enc.pubopts");
    let hmac = manifest["layers"][0]["annotations"][public].clone();
    damage(&|annotations| annotations[public] = hmac.clone(), &["HMAC"]);
    damage(&|annotations| annotations[public] = "e30=".into(), &["is damaged"]);
    damage(&|annotations| annotations[public] = "%".into(), &["is damaged"]);
    damage(&|annotations| annotations[keys] = "e30=".into(), &["is damaged"]);
    damage(&|annotations| annotations[keys] = "".into(), &["is damaged"]);
    damage(&|annotations| *annotations = serde_json::json!({}), &["has no key"]);
    let pgp = serde_json::json!({"org.opencontainers.image.enc.keys.pgp": "e30="});
    damage(&|annotations| *annotations = pgp.clone(), &["wrapped by pgp"]);
    // Nothing is unpacked, run or exported of what is encrypted.
    place.hoy(&["dir:sealed", "store:sealed"]);
    place.0.run("hoy-storage").args(["unpack", "sealed", "tree"]).fails(1, &["+encrypted"]);
    place.0.run("hoy-copy").args(["export", "store:sealed", "flat.tar"]).fails(1, &["is encrypted"]);
    place.0.ok("hoy-copy", &["validate", "store:sealed"]);
    // Nor does it come in the way of what is there, or stay.
    place.hoy(&[SOURCE, "store:localhost/sealed:x"]);
    let before = place.0.ok("hoy-build", &["images"]);
    place.hoy(&["dir:sealed", "oci:sealed:x"]);
    for command in ["pull", "from"] {
        let with = |key: &[&str], words: &[&str]| {
            place.0.run("hoy-build").args([command, "-q"]).args(key).arg("oci:sealed:x").fails(125, words);
        };
        with(&[], &["decrypting layer sha256:", ": missing private key needed for decryption: "]);
        let why = "no suitable key unwrapper found or none of the private keys could be used for decryption";
        with(&["--decryption-key", "other.key"], &["decrypting layer sha256:", why]);
        assert_eq!(place.0.ok("hoy-build", &["images"]), before);
    }
    place.hoy_fails(1, &["dir:sealed", "docker-archive:no.tar"], &["--decryption-key"]);
    place.hoy_fails(1, &["--format", "v2s2", "dir:sealed", "dir:no"], &["--decryption-key"]);
}

#[test]
fn what_is_asked_for_wrongly() {
    let Some(place) = Place::new(User::Root) else { return };
    for (key, words) in [
        ("pkcs7:x.pem", "pkcs7"),
        ("pkcs11:x.yaml", "pkcs11"),
        ("pgp:ann@example.org", "pgp"),
        ("provider:x", "provider"),
        ("rsa.pub", "jwe:FILE"),
    ] {
        place.hoy_fails(2, &["--encryption-key", key, SOURCE, "dir:no"], &[words]);
    }
    place.hoy_fails(2, &["--decryption-key", "provider:x", SOURCE, "dir:no"], &["provider"]);
    place.hoy_fails(2, &["--encrypt-layer", "0", SOURCE, "dir:no"], &["--encryption-key"]);
    let both = ["--encryption-key", "jwe:rsa.pub", "--decryption-key", "rsa.key", SOURCE, "dir:no"];
    place.hoy_fails(2, &both, &["cannot be used with"]);
    place.hoy_fails(1, &["--encryption-key", "jwe:rsa.key", SOURCE, "dir:no"], &["private key"]);
    place.hoy_fails(1, &["--encryption-key", "jwe:a.tar", SOURCE, "dir:no"], &["no public key"]);
    place.hoy_fails(1, &["--encryption-key", "jwe:none", SOURCE, "dir:no"], &["none"]);
    for number in ["3", "-4"] {
        let layer = format!("--encrypt-layer={number}");
        place.hoy_fails(1, &["--encryption-key", "jwe:rsa.pub", &layer, SOURCE, "dir:no"], &["there is no layer"]);
    }
    place.hoy(&["--encryption-key", "jwe:rsa.pub", "--encrypt-layer=1", SOURCE, "dir:one"]);
    let again = ["--encryption-key", "jwe:rsa.pub", "--encrypt-layer=1", "dir:one", "dir:no"];
    place.hoy_fails(1, &again, &["encrypted already"]);
    assert!(!place.work("no/manifest.json").exists());
}
