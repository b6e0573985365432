//! Authorities for signatures, made with OpenSSL: of certificates as Fulcio's are, and of a log as Rekor's is.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{Sandbox, User, busybox_layout, need};

/// Who says in certificates who somebody is.
pub const ISSUER: &str = "https://login.example.org";

/// A sandbox with busybox in `work/layout`, an authority `root`, one below it `between`, and a log's key `log`.
#[derive(Debug)]
pub struct Authorities {
    /// Where all of it is.
    pub sandbox: Sandbox,
    /// The digest of busybox's manifest.
    pub digest: String,
}

impl Authorities {
    /// Makes them all; none where the machine lacks something.
    pub fn new(user: User) -> Option<Self> {
        if !need(&["openssl", "umoci", "busybox"]) || !user.available() {
            return None;
        }
        let mut new = Self { sandbox: Sandbox::for_user(user), digest: String::new() };
        busybox_layout(&new.work("layout"));
        new.digest = new.sandbox.ok("hoy-copy", &["digest", "oci:layout:busybox:latest"]);
        for key in ["root", "between", "leaf", "log", "other"] {
            new.sh(&format!(
                "openssl ecparam -name prime256v1 -genkey -noout -out {key}.key; openssl pkey -in {key}.key -pubout -out {key}.pub"
            ));
        }
        let authority = "-addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign";
        for name in ["root", "other"] {
            let subject = format!("-key {name}.key -subj /CN={name} -days 3650 -out {name}.pem");
            new.sh(&format!("openssl req -x509 -new {subject} {authority}"));
        }
        let extensions = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n";
        new.certificate("between", "root", "/CN=between", extensions);
        Some(new)
    }

    /// A path of the work directory.
    pub fn work(&self, name: &str) -> PathBuf {
        self.sandbox.path("work").join(name)
    }

    /// The text of a file of the work directory.
    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.work(name)).expect("read a file of the test")
    }

    /// Runs a script there.
    pub fn sh(&self, script: &str) {
        self.sandbox.ok("sh", &["-ec", script]);
    }

    /// Has `issuer` make the certificate `work/NAME.pem` with these extensions.
    pub fn certificate(&self, name: &str, issuer: &str, subject: &str, extensions: &str) {
        std::fs::write(self.work(&format!("{name}.ext")), extensions).expect("write the extensions");
        self.sh(&format!(
            "openssl req -new -key {name}.key -subj {subject} -out {name}.csr; openssl x509 -req -in {name}.csr -CA {issuer}.pem -CAkey \
             {issuer}.key -CAcreateserial -days 2 -extfile {name}.ext -out {name}.pem"
        ));
    }

    /// What the authority below the root says of a signer.
    pub fn leaf(&self, email: &str, more: &str) {
        let names = if email.is_empty() {
            "subjectAltName=critical,DNS:x.example".to_owned()
        } else {
            format!("subjectAltName=critical,email:{email}")
        };
        self.certificate("leaf", "between", "/", &format!("keyUsage=critical,digitalSignature\n{names}\n{more}"));
    }

    /// A signature by `KEY.key`, in base64.
    pub fn sign(&self, key: &str, text: &[u8]) -> String {
        std::fs::write(self.work("text"), text).expect("write the text");
        self.sh(&format!("openssl dgst -sha256 -sign {key}.key -out raw text"));
        STANDARD.encode(std::fs::read(self.work("raw")).expect("read the signature"))
    }

    /// The log's word that this was put there at `time`.
    pub fn bundle(&self, log: &str, signer: &str, payload: &[u8], signature: &str, time: u64) -> String {
        let hash: String = Sha256::digest(payload).iter().map(|byte| format!("{byte:02x}")).collect();
        let body = json!({"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {
            "data": {"hash": {"algorithm": "sha256", "value": hash}},
            "signature": {"content": signature, "publicKey": {"content": STANDARD.encode(signer)}}}});
        let entry = format!(
            r#"{{"body":"{}","integratedTime":{time},"logID":"c0ffee","logIndex":7}}"#,
            STANDARD.encode(body.to_string())
        );
        let promise = self.sign(log, entry.as_bytes());
        let payload: Value = serde_json::from_str(&entry).expect("it is JSON");
        json!({"SignedEntryTimestamp": promise, "Payload": payload}).to_string()
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("the clock is behind 1970").as_secs()
}

/// The issuer in both of its forms.
pub fn issuer(first: &str, second: &str) -> String {
    let hex: String = first.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "extendedKeyUsage=codeSigning\n1.3.6.1.4.1.57264.1.1=DER:{hex}\n1.3.6.1.4.1.57264.1.8=ASN1:UTF8String:{second}\n"
    )
}
