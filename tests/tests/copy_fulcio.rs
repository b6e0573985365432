//! Sigstore signatures by certificates of Fulcio and with the word of Rekor's log, of authorities made here by OpenSSL.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hoy_tests::{Authorities, ISSUER, Registry, Run, User, issuer, need, now};
use serde_json::{Value, json};

const NAME: &str = "r.example/app:1";

/// What goes into a signature; each part can be another one.
#[derive(Clone)]
struct Signature {
    payload: Vec<u8>,
    signature: String,
    certificate: Option<String>,
    chain: Option<String>,
    bundle: Option<String>,
}

/// An image that is signed by the present leaf.
struct Place(Authorities);

impl std::ops::Deref for Place {
    type Target = Authorities;

    fn deref(&self) -> &Authorities {
        &self.0
    }
}

impl Place {
    /// A good signature by the present leaf.
    fn signature(&self) -> Signature {
        let payload = json!({"critical": {"identity": {"docker-reference": NAME},
            "image": {"docker-manifest-digest": self.digest}, "type": "cosign container image signature"}, "optional": {}});
        let payload = payload.to_string().into_bytes();
        let signature = self.sign("leaf", &payload);
        let certificate = self.read("leaf.pem");
        let bundle = self.bundle("log", &certificate, &payload, &signature, now() + 60);
        let chain = self.read("between.pem") + &self.read("root.pem");
        Signature { payload, signature, certificate: Some(certificate), chain: Some(chain), bundle: Some(bundle) }
    }

    /// Copies the image, signed so, under the policy.
    fn copy(&self, signature: &Signature) -> Run {
        let mut annotations = json!({"dev.cosignproject.cosign/signature": signature.signature});
        for (name, value) in
            [("certificate", &signature.certificate), ("chain", &signature.chain), ("bundle", &signature.bundle)]
        {
            if let Some(value) = value {
                annotations[format!("dev.sigstore.cosign/{name}")] = value.as_str().into();
            }
        }
        let document = json!({"mimeType": "application/vnd.dev.cosign.simplesigning.v1+json",
            "payload": STANDARD.encode(&signature.payload), "annotations": annotations});
        self.sh("rm -rf signed new");
        self.sandbox.ok("hoy-copy", &["--insecure-policy", "copy", "-q", "oci:layout:busybox:latest", "dir:signed"]);
        std::fs::write(self.work("signed/signature-1"), format!("\0sigstore-json\n{document}")).unwrap();
        self.sandbox.run("hoy-copy").args(["--policy", "policy.json", "copy", "-q", "dir:signed", "dir:new"])
    }

    fn policy(&self, requirement: &Value) {
        let mut requirement = requirement.clone();
        requirement["type"] = "sigstoreSigned".into();
        requirement["signedIdentity"] = json!({"type": "exactReference", "dockerReference": NAME});
        std::fs::write(self.work("policy.json"), json!({"default": [requirement]}).to_string()).unwrap();
    }

    fn fulcio(&self) -> Value {
        json!({"fulcio": {"caPath": self.work("root.pem"), "oidcIssuer": ISSUER, "subjectEmail": "ann@example.org"},
            "rekorPublicKeyPath": self.work("log.pub")})
    }
}

#[test]
fn a_certificate_says_who_signed() {
    for user in [User::Root, User::One] {
        let Some(place) = Authorities::new(user).map(Place) else { return };
        place.leaf("ann@example.org", &issuer(ISSUER, ISSUER));
        place.policy(&place.fulcio());
        let good = place.signature();
        place.copy(&good).ok();
        if user != User::Root {
            continue;
        }
        // The same as data, one of several logs.
        let mut data = place.fulcio();
        data["fulcio"]["caData"] = STANDARD.encode(place.read("root.pem")).into();
        data["fulcio"].as_object_mut().unwrap().remove("caPath");
        data.as_object_mut().unwrap().remove("rekorPublicKeyPath");
        data["rekorPublicKeyDatas"] =
            json!([STANDARD.encode(place.read("other.pub")), STANDARD.encode(place.read("log.pub"))]);
        place.policy(&data);
        place.copy(&good).ok();
        // Everything else fails, for its reason.
        for (field, value, words) in [
            ("oidcIssuer", "https://elsewhere", "its issuer is"),
            ("subjectEmail", "eve@example.org", "it is for \"ann@example.org\""),
            ("caPath", place.work("other.pem").to_str().unwrap(), "certificate is not good"),
            ("caPath", place.work("log.pub").to_str().unwrap(), "no certificate"),
            ("caPath", "/no/file", "/no/file"),
        ] {
            let mut rule = place.fulcio();
            rule["fulcio"][field] = value.into();
            place.policy(&rule);
            place.copy(&good).fails(1, &[words]);
            assert!(!place.work("new").exists());
        }
        let mut rule = place.fulcio();
        rule["rekorPublicKeyPath"] = place.work("other.pub").to_str().unwrap().into();
        place.policy(&rule);
        place.copy(&good).fails(1, &["no trusted log"]);
        place.policy(&place.fulcio());
        broken_signatures(&place, &good);
        broken_certificates(&place);
    }
}

/// What is not bound to this artifact, key, time and log is nobody's signature (CVE-2022-36056, CVE-2026-22703
/// and others of cosign and sigstore-go).
fn broken_signatures(place: &Place, good: &Signature) {
    let at = |time| {
        let certificate = good.certificate.as_deref().unwrap();
        Some(place.bundle("log", certificate, &good.payload, &good.signature, time))
    };
    let entry = |key: &str, value: Value| {
        let mut bundle: Value = serde_json::from_str(good.bundle.as_ref().unwrap()).unwrap();
        bundle["Payload"][key] = value;
        Some(bundle.to_string())
    };
    let of =
        |signer: &str, payload: &[u8], signature: &str| Some(place.bundle("log", signer, payload, signature, now()));
    let certificate = good.certificate.clone().unwrap();
    let forged = place.sign("other", &good.payload);
    for (change, words) in [
        (Signature { bundle: None, ..good.clone() }, "the signature has none"),
        (Signature { bundle: Some("{}".to_owned()), ..good.clone() }, "log's entry"),
        (Signature { bundle: entry("logIndex", 8.into()), ..good.clone() }, "no trusted log"),
        (Signature { bundle: entry("integratedTime", now().into()), ..good.clone() }, "no trusted log"),
        (Signature { bundle: entry("more", 1.into()), ..good.clone() }, "log's entry"),
        (Signature { bundle: at(now() + 9_000_000), ..good.clone() }, "certificate is not good"),
        (Signature { bundle: at(1), ..good.clone() }, "certificate is not good"),
        (
            Signature { bundle: of(&place.read("leaf.pub"), &good.payload, &good.signature), ..good.clone() },
            "another key",
        ),
        (Signature { bundle: of(&certificate, b"{}", &good.signature), ..good.clone() }, "another text"),
        (Signature { bundle: of(&certificate, &good.payload, &forged), ..good.clone() }, "another signature"),
        (Signature { certificate: None, ..good.clone() }, "a certificate"),
        (Signature { certificate: Some("x".to_owned()), ..good.clone() }, "not one certificate"),
        (Signature { certificate: Some(place.read("other.pem")), ..good.clone() }, "another key"),
        (Signature { chain: None, ..good.clone() }, "certificate is not good"),
        (Signature { chain: Some("-----BEGIN CERTIFICATE-----".to_owned()), ..good.clone() }, "chain is damaged"),
        (
            Signature { signature: forged.clone(), bundle: of(&certificate, &good.payload, &forged), ..good.clone() },
            "not a good one",
        ),
    ] {
        place.copy(&change).fails(1, &["Source image rejected", words]);
    }
}

fn broken_certificates(place: &Place) {
    for (email, more, words) in [
        ("ann@example.org", issuer(ISSUER, "https://elsewhere"), "two issuers"),
        ("ann@example.org", "extendedKeyUsage=codeSigning\n".to_owned(), "no issuer"),
        ("", issuer(ISSUER, ISSUER), "it is for \"\""),
        ("ann@example.org.eve.example", issuer(ISSUER, ISSUER), "eve.example"),
        ("ann@example.org", issuer(ISSUER, ISSUER).replace("codeSigning", "serverAuth"), "certificate is not good"),
        ("ann@example.org", issuer(ISSUER, ISSUER).replace("extendedKeyUsage=codeSigning", ""), "for signing"),
        ("ann@example.org", issuer(ISSUER, ISSUER) + "1.2.3.4=critical,DER:0500\n", "certificate is not good"),
        ("ann@example.org", issuer(ISSUER, ISSUER) + "basicConstraints=critical,CA:TRUE\n", "certificate is not good"),
    ] {
        place.leaf(email, &more);
        place.copy(&place.signature()).fails(1, &["Source image rejected", words]);
    }
    place.leaf("ann@example.org", &issuer(ISSUER, ISSUER));
    place.copy(&place.signature()).ok();
}

#[test]
fn a_log_has_a_keys_signature_which_travels_with_it() {
    let Some(place) = Authorities::new(User::Root).map(Place) else { return };
    if !need(&["docker-registry"]) {
        return;
    }
    place.leaf("ann@example.org", &issuer(ISSUER, ISSUER));
    let logged = place.signature();
    let key = place.read("leaf.pub");
    let bundle = place.bundle("log", &key, &logged.payload, &logged.signature, 1);
    let by_key = Signature { certificate: None, chain: None, bundle: Some(bundle), ..logged.clone() };
    place.policy(&json!({"keyPath": place.work("leaf.pub"), "rekorPublicKeyPath": place.work("log.pub")}));
    place.copy(&by_key).ok();
    place.copy(&Signature { bundle: None, ..by_key.clone() }).fails(1, &["the signature has none"]);
    place.copy(&logged).fails(1, &["another key"]);
    // All of the signature goes to a registry and comes back.
    let registry = Registry::start();
    let image = format!("docker://{}/app:1", registry.address());
    std::fs::create_dir(place.work("registries.d")).unwrap();
    let conf = format!("docker:\n  {}:\n    use-sigstore-attachments: true\n", registry.address());
    std::fs::write(place.work("registries.d/a.yaml"), conf).unwrap();
    let copy = |args: &[&str]| {
        let run = place.sandbox.run("hoy-copy").args(["--registries.d", "registries.d"]);
        run.args(args).args(["-q", "--src-tls-verify=false", "--dest-tls-verify=false"])
    };
    place.policy(&place.fulcio());
    place.copy(&logged).ok();
    let before = place.read("new/signature-1");
    copy(&["--policy", "policy.json", "copy", "dir:new", &image]).ok();
    copy(&["--policy", "policy.json", "copy", &image, "dir:back"]).ok();
    assert_eq!(place.read("back/signature-1"), before);
}

#[test]
fn a_certificate_of_any_authority_says_who_signed() {
    let Some(place) = Authorities::new(User::Root).map(Place) else { return };
    let names = "keyUsage=critical,digitalSignature\nsubjectAltName=email:ann@example.org,DNS:build.example.org\n";
    place.certificate("leaf", "between", "/CN=ann", names);
    let good = Signature { bundle: None, ..place.signature() };
    let pki = |more: &Value| {
        let mut pki = json!({"caRootsPath": place.work("root.pem"), "subjectEmail": "ann@example.org"});
        for (name, value) in more.as_object().unwrap() {
            pki[name] = value.clone();
        }
        pki.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        place.policy(&json!({"pki": pki}));
    };
    let data = |name: &str| STANDARD.encode(place.read(name));
    for more in [
        json!({}),
        json!({"subjectHostname": "build.example.org"}),
        json!({"subjectEmail": null, "subjectHostname": "build.example.org"}),
        json!({"caRootsPath": null, "caRootsData": data("root.pem")}),
        json!({"caIntermediatesPath": place.work("other.pem")}),
    ] {
        pki(&more);
        place.copy(&good).ok();
    }
    // What is between may be the policy's to say.
    let alone = Signature { chain: None, ..good.clone() };
    for more in
        [json!({"caIntermediatesPath": place.work("between.pem")}), json!({"caIntermediatesData": data("between.pem")})]
    {
        pki(&more);
        place.copy(&alone).ok();
    }
    for (more, words) in [
        (json!({"subjectEmail": "eve@example.org"}), "it is for \"ann@example.org\""),
        (json!({"subjectHostname": "example.org"}), "certificate is not good"),
        (json!({"subjectHostname": "a b"}), "no host name"),
        (json!({"caRootsPath": place.work("other.pem")}), "certificate is not good"),
        (json!({"caRootsPath": place.work("log.pub")}), "no certificate"),
        (json!({"caIntermediatesPath": "/no/file"}), "/no/file"),
        (json!({"caIntermediatesData": "eA=="}), "no certificate"),
    ] {
        pki(&more);
        place.copy(&good).fails(1, &["Source image rejected", words]);
    }
    pki(&json!({}));
    place.copy(&alone).fails(1, &["certificate is not good"]);
    let forged = place.sign("other", &good.payload);
    place.copy(&Signature { signature: forged, ..good.clone() }).fails(1, &["not a good one"]);
    // A certificate for another purpose, and one that holds no more.
    place.certificate("leaf", "between", "/CN=ann", &format!("{names}extendedKeyUsage=serverAuth\n"));
    place.copy(&Signature { bundle: None, ..place.signature() }).fails(1, &["certificate is not good"]);
    std::fs::write(place.work("leaf.ext"), names).unwrap();
    place.sh(
        "openssl x509 -req -in leaf.csr -CA between.pem -CAkey between.key -days 0 -extfile leaf.ext -out leaf.pem; sleep 1.1",
    );
    place.copy(&Signature { bundle: None, ..place.signature() }).fails(1, &["certificate is not good", "Expired"]);
}
