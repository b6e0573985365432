//! Signatures with certificates that Fulcio makes and Rekor logs, and with a key of Sequoia's store. The services are small
//! ones made here, as the public ones' protocols have it; what they do is done with OpenSSL.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hoy_tests::{Asked, Authorities, ISSUER, Registry, Run, User, Web, issuer, need, now};
use serde_json::{Value, json};

const NAME: &str = "r.example/app:1";
const EMAIL: &str = "ann@example.org";

/// How the services misbehave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// The certificate is for another key.
    OtherKey,
    /// The log speaks of another signature.
    OtherEntry,
    /// The log has the entry already.
    Conflict,
    /// Whoever is to log in says no.
    Denied,
    /// The provider says that it is another one.
    OtherIssuer,
    /// The provider sends its clients to plain HTTP elsewhere.
    Elsewhere,
}

struct Place {
    authorities: Arc<Authorities>,
    web: Web,
    fault: Arc<Mutex<Fault>>,
}

type Reply = (&'static str, Vec<String>, Vec<u8>);

fn token() -> String {
    let claims = json!({"iss": ISSUER, "sub": "7", "email": EMAIL, "email_verified": true});
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

fn reply(status: &'static str, document: &Value) -> Reply {
    (status, vec!["Content-Type: application/json".to_owned()], document.to_string().into_bytes())
}

/// Makes a certificate for the key that is sent, as its signature of the address shows that it is the sender's.
fn fulcio(place: &Authorities, asked: &Asked, fault: Fault) -> Reply {
    if asked.header("Authorization") != Some(&format!("Bearer {}", token())) {
        return reply(
            "401 Unauthorized",
            &json!({"code": 16, "message": "There was an error processing the identity token"}),
        );
    }
    let request: Value = serde_json::from_slice(&asked.body).unwrap();
    let bytes = |pointer: &str| STANDARD.decode(request.pointer(pointer).unwrap().as_str().unwrap()).unwrap();
    assert_eq!(request["publicKey"]["algorithm"], "ecdsa");
    std::fs::write(place.work("asked.der"), bytes("/publicKey/content")).unwrap();
    std::fs::write(place.work("proof"), bytes("/signedEmailAddress")).unwrap();
    std::fs::write(place.work("subject"), EMAIL).unwrap();
    place.sh("openssl pkey -pubin -inform DER -in asked.der -pubout -out asked.pub");
    place.sh("openssl dgst -sha256 -verify asked.pub -signature proof subject");
    let key = if fault == Fault::OtherKey { "log.pub" } else { "asked.pub" };
    place.leaf(EMAIL, &issuer(ISSUER, ISSUER));
    place.sh(&format!(
        "openssl x509 -req -in leaf.csr -force_pubkey {key} -CA between.pem -CAkey between.key -days 1 -extfile leaf.ext -out issued.pem"
    ));
    let chain = place.read("issued.pem") + &place.read("between.pem") + &place.read("root.pem");
    ("201 Created", vec!["Content-Type: application/pem-certificate-chain".to_owned()], chain.into_bytes())
}

/// Logs what is sent.
fn rekor(place: &Authorities, asked: &Asked, fault: Fault) -> Reply {
    let entry = if asked.line.starts_with("GET") {
        place.read("logged")
    } else {
        String::from_utf8(asked.body.clone()).unwrap()
    };
    let request: Value = serde_json::from_str(&entry).unwrap();
    assert_eq!((&request["kind"], &request["apiVersion"]), (&json!("hashedrekord"), &json!("0.0.1")));
    if fault == Fault::Conflict && asked.line.starts_with("POST") {
        std::fs::write(place.work("logged"), entry).unwrap();
        let place = "Location: /api/v1/log/entries/24296fb24b8ad77a".to_owned();
        return (
            "409 Conflict",
            vec![place],
            br#"{"code":409,"message":"an equivalent entry already exists"}"#.to_vec(),
        );
    }
    let entry = if fault == Fault::OtherEntry { entry.replace("sha256", "sha512") } else { entry };
    let payload =
        format!(r#"{{"body":"{}","integratedTime":{},"logID":"c0ffee","logIndex":7}}"#, STANDARD.encode(entry), now());
    let mut document: Value = serde_json::from_str(&payload).unwrap();
    document["verification"] =
        json!({"signedEntryTimestamp": place.sign("log", payload.as_bytes()), "inclusionProof": {"treeSize": 8}});
    reply("201 Created", &json!({"24296fb24b8ad77a": document}))
}

/// Gives a token, not to the first who asks.
fn provider(asked: &Asked, at: &str, seen: &AtomicU32, fault: Fault) -> Reply {
    let form = String::from_utf8(asked.body.clone()).unwrap();
    match asked.path() {
        "oidc/.well-known/openid-configuration" => {
            let issuer = if fault == Fault::OtherIssuer { "https://elsewhere" } else { at };
            let token =
                if fault == Fault::Elsewhere { "http://192.0.2.1/token".to_owned() } else { format!("{at}/token") };
            let device = format!("{at}/device");
            reply(
                "200 OK",
                &json!({"issuer": issuer, "device_authorization_endpoint": device, "token_endpoint": token}),
            )
        }
        "oidc/device" => {
            assert!(form.contains("client_id=hoy&client_secret=s%26cret&scope=openid%20email"), "{form}");
            reply(
                "200 OK",
                &json!({"device_code": "d/1", "user_code": "WDJB-MJHT", "interval": 1, "expires_in": 60,
                "verification_uri": "https://login.example.org/device\u{1b}[2J"}),
            )
        }
        _ => {
            assert!(form.contains("device_code=d/1") && form.contains("device_code&"), "{form}");
            match (seen.fetch_add(1, Ordering::Relaxed), fault) {
                (0, _) => reply("400 Bad Request", &json!({"error": "authorization_pending"})),
                (_, Fault::Denied) => {
                    reply("400 Bad Request", &json!({"error": "access_denied", "error_description": "ann said no"}))
                }
                _ => reply("200 OK", &json!({"id_token": token(), "access_token": "a", "token_type": "bearer"})),
            }
        }
    }
}

impl Place {
    fn new(user: User) -> Option<Self> {
        let authorities = Arc::new(Authorities::new(user)?);
        let (fault, place) = (Arc::new(Mutex::new(Fault::None)), Arc::clone(&authorities));
        let (now, seen) = (Arc::clone(&fault), AtomicU32::new(0));
        let web = Web::start(move |asked| {
            let (fault, host) = (*now.lock().unwrap(), asked.header("Host").unwrap().to_owned());
            match asked.path().split('/').next().unwrap() {
                "fulcio" => fulcio(&place, asked, fault),
                "rekor" => rekor(&place, asked, fault),
                _ => provider(asked, &format!("http://{host}/oidc"), &seen, fault),
            }
        });
        let place = Self { authorities, web, fault };
        let rule = json!({"type": "sigstoreSigned", "rekorPublicKeyPath": place.work("log.pub"),
            "fulcio": {"caPath": place.work("root.pem"), "oidcIssuer": ISSUER, "subjectEmail": EMAIL},
            "signedIdentity": {"type": "exactReference", "dockerReference": NAME}});
        std::fs::write(place.work("policy.json"), json!({"default": [rule]}).to_string()).unwrap();
        Some(place)
    }

    fn work(&self, name: &str) -> PathBuf {
        self.authorities.work(name)
    }

    fn params(&self, text: &str) {
        std::fs::write(self.work("params.yaml"), text.replace("WEB", &self.web.address)).unwrap();
    }

    /// A copy that signs.
    fn copy(&self, args: &[&str]) -> Run {
        self.authorities.sh("rm -rf signed new");
        let run = self.authorities.sandbox.run("hoy-copy").args(["--insecure-policy", "copy", "-q"]).args(args);
        run.args(["--sign-identity", NAME, "oci:layout:busybox:latest", "dir:signed"])
    }

    fn is_trusted(&self) {
        let run = self.authorities.sandbox.run("hoy-copy").args(["--policy", "policy.json", "copy", "-q"]);
        run.args(["dir:signed", "dir:new"]).ok();
    }
}

const STATIC: &str =
    "fulcio: {fulcioURL: WEB/fulcio, oidcMode: staticToken, oidcIDToken: TOKEN}\nrekorURL: WEB/rekor/\n";
const DEVICE: &str = "fulcio: {fulcioURL: WEB/fulcio, oidcMode: deviceGrant, oidcIssuerURL: WEB/oidc, oidcClientID: hoy, \
                      oidcClientSecret: 's&cret'}\nrekorURL: WEB/rekor\n";

#[test]
fn a_certificate_is_made_for_a_signature_which_is_logged() {
    for user in [User::Root, User::One] {
        let Some(place) = Place::new(user) else { return };
        place.params(&STATIC.replace("TOKEN", &token()));
        place.copy(&["--sign-by-sigstore", "params.yaml"]).ok();
        place.is_trusted();
        // Nobody but Fulcio is shown the token.
        for asked in place.web.seen() {
            assert_eq!(asked.header("Authorization").is_some(), asked.path().starts_with("fulcio"), "{asked:?}");
        }
        if user != User::Root {
            continue;
        }
        *place.fault.lock().unwrap() = Fault::Conflict;
        place.copy(&["--sign-by-sigstore", "params.yaml"]).ok();
        place.is_trusted();
        for (fault, words) in
            [(Fault::OtherKey, "its certificate is for another key"), (Fault::OtherEntry, "it is for another text")]
        {
            *place.fault.lock().unwrap() = fault;
            place.copy(&["--sign-by-sigstore", "params.yaml"]).fails(1, &[words]);
            assert!(!place.work("signed/signature-1").exists());
        }
        *place.fault.lock().unwrap() = Fault::None;
        let other = token().replace(".c2ln", ".b3Ro");
        place.params(&STATIC.replace("TOKEN", &other));
        let words = ["make a certificate", "401", "error processing the identity token"];
        place.copy(&["--sign-by-sigstore", "params.yaml"]).fails(1, &words);
        assert!(!place.work("signed").exists(), "nothing is copied that cannot be signed");
        // Secrets do not go over plain HTTP to other machines.
        place.params(&STATIC.replace("WEB/fulcio", "http://192.0.2.1").replace("TOKEN", &token()));
        place.copy(&["--sign-by-sigstore", "params.yaml"]).fails(1, &["http://192.0.2.1", "plain HTTP"]);
        place.params("fulcio: {fulcioURL: x, oidcMode: interactive, oidcIssuerURL: y}\nrekorURL: z\n");
        place.copy(&["--sign-by-sigstore", "params.yaml"]).fails(1, &["params.yaml", "interactive", "deviceGrant"]);
        place.params("fulcio: {fulcioURL: x, more: y}\n");
        place.copy(&["--sign-by-sigstore", "params.yaml"]).fails(1, &["params.yaml", "more"]);
    }
}

#[test]
fn somebody_logs_in_elsewhere() {
    let Some(place) = Place::new(User::Root) else { return };
    place.params(DEVICE);
    let run = place.copy(&["--sign-by-sigstore", "params.yaml"]).output();
    let text = "To sign, log in at https://login.example.org/device[2J with the code WDJB-MJHT";
    assert!(run.stderr.contains(text), "{}", run.stderr);
    place.is_trusted();
    for (fault, words) in [
        (Fault::Denied, "access_denied: ann said no"),
        (Fault::OtherIssuer, "it answers for \"https://elsewhere\""),
        (Fault::Elsewhere, "plain HTTP"),
    ] {
        *place.fault.lock().unwrap() = fault;
        place.copy(&["--sign-by-sigstore", "params.yaml"]).fails(1, &[words]);
    }
}

#[test]
fn a_key_of_ones_own_is_logged() {
    let Some(place) = Place::new(User::Root) else { return };
    if !need(&["docker-registry"]) {
        return;
    }
    let hoy = |args: &[&str]| place.authorities.sandbox.ok("hoy-copy", args);
    place.authorities.sh("printf 's3cret\\nmore' > pass");
    hoy(&["generate-sigstore-key", "--output-prefix", "own", "--passphrase-file", "pass"]);
    place.params("privateKeyFile: own.key\nprivateKeyPassphraseFile: pass\nrekorURL: WEB/rekor\n");
    let registry = Registry::start();
    let image = format!("docker://{}/app:1", registry.address());
    std::fs::create_dir(place.work("registries.d")).unwrap();
    let conf = format!("docker:\n  {}:\n    use-sigstore-attachments: true\n", registry.address());
    std::fs::write(place.work("registries.d/a.yaml"), conf).unwrap();
    let all = ["--insecure-policy", "--registries.d", "registries.d", "copy", "-q", "--dest-tls-verify=false"];
    hoy(&[&all[..], &["--sign-by-sigstore", "params.yaml", "oci:layout:busybox:latest", &image]].concat());
    let rule = json!({"type": "sigstoreSigned", "keyPath": place.work("own.pub"), "rekorPublicKeyPath": place.work("log.pub")});
    std::fs::write(place.work("policy.json"), json!({"default": [rule]}).to_string()).unwrap();
    let from = ["--policy", "policy.json", "--registries.d", "registries.d", "copy", "-q", "--src-tls-verify=false"];
    hoy(&[&from[..], &[&image, "dir:new"]].concat());
    // sync signs each of its images.
    let to = format!("{}/all", registry.address());
    let sync = ["--insecure-policy", "--registries.d", "registries.d", "sync", "--src", "docker", "--dest", "docker"];
    let flags = ["--src-tls-verify=false", "--dest-tls-verify=false", "--sign-by-sigstore", "params.yaml"];
    hoy(&[&sync[..], &flags, &["--remove-signatures", image.trim_start_matches("docker://"), &to]].concat());
    hoy(&[&from[..], &[&format!("docker://{to}/app:1"), "dir:synced"]].concat());
}

#[test]
fn sequoias_store_has_the_key() {
    let Some(place) = Place::new(User::One) else { return };
    if !need(&["gpg", "gpgv", "skopeo"]) {
        return;
    }
    // A store is a directory with a file for each key, in OpenPGP's own form, which is what gpg exports.
    let script = "mkdir -m 700 elsewhere; export GNUPGHOME=$PWD/elsewhere; echo s3cret > pass
        g='gpg --batch --quiet --pinentry-mode loopback --passphrase-file pass'
        $g --quick-generate-key ann@example.org ed25519 sign never 2>/dev/null
        f=$(gpg --list-keys --with-colons | sed -n 's/^fpr:*\\([0-9A-F]*\\):/\\1/p' | head -1); echo $f > fingerprint
        mkdir -p sequoia/data/keystore/softkeys
        $g --export-secret-keys > sequoia/data/keystore/softkeys/$f.pgp; gpg --export > key.pub; gpgconf --kill all";
    place.authorities.sh(script);
    let fingerprint = place.authorities.read("fingerprint");
    let sign = |fingerprint: &str, more: &[&str]| {
        let run = place.copy(&[&["--sign-by-sq-fingerprint", fingerprint], more].concat());
        run.env("SEQUOIA_HOME", place.work("sequoia"))
    };
    sign(fingerprint.trim(), &["--sign-passphrase-file", "pass"]).ok();
    let identity = json!({"type": "exactReference", "dockerReference": NAME});
    let rule =
        json!({"type": "signedBy", "keyType": "GPGKeys", "keyPath": place.work("key.pub"), "signedIdentity": identity});
    std::fs::write(place.work("policy.json"), json!({"default": [rule]}).to_string()).unwrap();
    place.is_trusted();
    let from = ["--policy", "policy.json", "copy", "-q", "dir:signed", "dir:by-skopeo"];
    place.authorities.sandbox.ok("skopeo", &from);
    // The user's own keyring has seen nothing of it.
    let listed = place.authorities.sandbox.ok("gpg", &["--list-secret-keys"]);
    assert_eq!(listed, "");
    std::fs::write(place.work("wrong"), "wrong\n").unwrap();
    sign(fingerprint.trim(), &["--sign-passphrase-file", "wrong"]).fails(1, &["gpg does not sign"]);
    let none = "0".repeat(40);
    sign(&none, &[]).fails(1, &["Sequoia's store", &none]);
    sign("../../../../etc/passwd", &[]).fails(2, &["no fingerprint"]);
}
