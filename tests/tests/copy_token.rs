//! hoy-copy and Debian's registry with a token server: who asks for what, and who sees which secret.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use hoy_tests::{Registry, Run, Sandbox, busybox_layout, free_port, need};
use serde_json::json;

/// A token server (distribution: "Token Authentication Specification") for user `ann` with password `s3cret`, whose
/// identity token is `long-lived`. It writes down what it is asked.
struct Tokens {
    address: String,
    seen: Arc<Mutex<Vec<String>>>,
}

fn base64url(bytes: &[u8]) -> String {
    let standard = String::from_utf8(Run::new("base64").arg("-w0").stdin(bytes).output().bytes).unwrap();
    standard.trim().trim_end_matches('=').replace('+', "-").replace('/', "_")
}

/// A token that allows `scope`, signed by the key in `dir`.
fn token(dir: &Path, scope: &str) -> String {
    let certificate = Run::new("openssl").dir(dir).args(["x509", "-in", "t.crt", "-outform", "DER"]).output().bytes;
    let certificate = Run::new("base64").arg("-w0").stdin(certificate).ok();
    let header = json!({"typ": "JWT", "alg": "RS256", "x5c": [certificate]});
    let mut access = Vec::new();
    for one in scope.split(' ').filter(|one| !one.is_empty()) {
        let parts: Vec<&str> = one.split(':').collect();
        access.push(json!({"type": parts[0], "name": parts[1], "actions": parts[2].split(',').collect::<Vec<_>>()}));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({"iss": "issuer", "sub": "ann", "aud": "registry", "exp": now + 300, "nbf": now - 60, "iat": now,
        "jti": "1", "access": access});
    let text = format!("{}.{}", base64url(header.to_string().as_bytes()), base64url(claims.to_string().as_bytes()));
    let signed = Run::new("openssl").dir(dir).args(["dgst", "-sha256", "-sign", "t.key"]).stdin(text.clone()).output();
    format!("{text}.{}", base64url(&signed.bytes))
}

fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let hex = [rest.next().unwrap(), rest.next().unwrap()];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap());
            }
            b'+' => bytes.push(b' '),
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).unwrap()
}

impl Tokens {
    fn start(dir: &Path) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let (log, dir) = (seen.clone(), dir.to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let (mut line, mut length, mut authorization) = (String::new(), 0, String::new());
                reader.read_line(&mut line).unwrap();
                loop {
                    let mut header = String::new();
                    if reader.read_line(&mut header).unwrap() <= 2 {
                        break;
                    }
                    let (name, value) = header.split_once(':').unwrap();
                    match name.to_lowercase().as_str() {
                        "content-length" => length = value.trim().parse().unwrap(),
                        "authorization" => authorization = value.trim().to_owned(),
                        _ => {}
                    }
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                let query = line.split(' ').nth(1).unwrap().split_once('?').map_or("", |(_, query)| query);
                let form = String::from_utf8(body).unwrap();
                let all = if form.is_empty() { query } else { &form };
                let values = |name: &str| -> Vec<String> {
                    let pairs = all.split('&').filter_map(|pair| pair.split_once('='));
                    pairs.filter(|(n, _)| *n == name).map(|(_, value)| unescape(value)).collect()
                };
                let scope = values("scope").join(" ");
                log.lock().unwrap().push(format!("{} {authorization} {scope}", line.split(' ').next().unwrap()));
                // "ann:s3cret", or the identity token that stands for it.
                let is_known = authorization == "Basic YW5uOnMzY3JldA==" || values("refresh_token") == ["long-lived"];
                let answer =
                    if is_known { json!({"token": token(&dir, &scope), "expires_in": 300}) } else { json!({}) };
                let status = if is_known { "200 OK" } else { "401 Unauthorized" };
                let text = answer.to_string();
                let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", text.len());
                stream.write_all(format!("{head}{text}").as_bytes()).unwrap_or_default();
            }
        });
        Self { address, seen }
    }
}

#[test]
fn tokens_are_asked_for_with_what_is_needed() {
    if !need(&["docker-registry", "umoci", "busybox", "openssl", "base64", "skopeo"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let args = "req -x509 -newkey rsa:2048 -nodes -keyout t.key -out t.crt -days 2 -subj /CN=issuer";
    Run::new("openssl").dir(dir.path()).args(args.split(' ')).ok();
    let tokens = Tokens::start(dir.path());
    let auth = format!(
        "auth: {{token: {{realm: \"http://{}/token\", service: registry, issuer: issuer, rootcertbundle: {}}}}}",
        tokens.address,
        dir.path().join("t.crt").display()
    );
    let registry = Registry::start_with(&auth, "");
    let sandbox = Sandbox::new();
    busybox_layout(&sandbox.path("layout"));
    let source = format!("oci:{}:busybox:latest", sandbox.path("layout").display());
    let image = format!("docker://{}/team/app:1", registry.address());
    let push = |args: &[&str]| {
        sandbox.run("hoy-copy").args(["--debug", "copy", "--dest-tls-verify=false"]).args(args).args([&source, &image])
    };
    push(&[]).fails(1, &["unauthorized"]);
    let out = push(&["--dest-creds", "ann:s3cret"]).output();
    assert!(out.status == 0 && !out.stderr.contains("s3cret"), "{}", out.stderr);
    // The registry itself was never shown the password, and each scope was asked for once.
    let seen = std::mem::take(&mut *tokens.seen.lock().unwrap());
    let asked: Vec<&String> = seen.iter().filter(|line| line.contains("Basic")).collect();
    assert!(asked.iter().all(|line| line.ends_with("repository:team/app:pull,push")), "{seen:?}");
    assert_eq!(asked.len(), 1, "{seen:?}");
    let inspect = ["inspect", "--tls-verify=false", "--creds", "ann:s3cret", "--format", "{{.Digest}}", &image];
    assert_eq!(sandbox.ok("skopeo", &inspect), out.stdout.trim());
    assert_eq!(sandbox.ok("hoy-copy", &inspect), out.stdout.trim());
    // An identity token, as a credential helper or a login leaves it.
    let text = json!({"auths": {registry.address(): {"identitytoken": "long-lived"}}}).to_string();
    std::fs::write(sandbox.path("work/auth.json"), text).unwrap();
    tokens.seen.lock().unwrap().clear();
    let args = ["digest", "--tls-verify=false", "--authfile", "auth.json", &image];
    assert_eq!(sandbox.ok("hoy-copy", &args), out.stdout.trim());
    assert_eq!(*tokens.seen.lock().unwrap(), ["POST  repository:team/app:pull"]);
    // A token that is given is sent as it is, and nobody is asked for one.
    tokens.seen.lock().unwrap().clear();
    let given = token(dir.path(), "repository:team/app:pull");
    let args = ["digest", "--tls-verify=false", "--registry-token", &given, &image];
    assert_eq!(sandbox.ok("hoy-copy", &args), out.stdout.trim());
    assert!(tokens.seen.lock().unwrap().is_empty());
    let wrong = ["digest", "--tls-verify=false", "--creds", "ann:wrong", &image];
    sandbox.run("hoy-copy").args(wrong).fails(1, &["unauthorized", "hoy-copy login"]);
    let login =
        ["login", "--tls-verify=false", "-u", "ann", "--password-stdin", "--authfile", "new.json", &registry.address()];
    sandbox.run("hoy-copy").args(login).stdin("s3cret\n").ok();
    sandbox.run("hoy-copy").args(login).stdin("wrong\n").fails(1, &["invalid username/password"]);
}

/// A child that does not outlive a test that fails.
struct Server(std::process::Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().unwrap_or_default();
        self.0.wait().map(drop).unwrap_or_default();
    }
}

#[test]
fn a_token_server_with_a_bad_certificate_sees_no_credentials() {
    // CVE-2019-10214: --tls-verify=false is for the registry's host alone.
    if !need(&["docker-registry", "openssl"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let args = "req -x509 -newkey rsa:2048 -nodes -keyout s.key -out s.crt -days 2 -subj /CN=tokens \
                -addext subjectAltName=IP:127.0.0.2 -addext basicConstraints=critical,CA:FALSE";
    Run::new("openssl").dir(dir.path()).args(args.split_whitespace()).ok();
    std::fs::create_dir(dir.path().join("certs")).unwrap();
    std::fs::copy(dir.path().join("s.crt"), dir.path().join("certs/s.crt")).unwrap();
    // It prints what it can decrypt.
    let address = format!("127.0.0.2:{}", free_port());
    let log = std::fs::File::create(dir.path().join("log")).unwrap();
    let child = std::process::Command::new("openssl")
        .args(["s_server", "-quiet", "-cert", "s.crt", "-key", "s.key", "-accept", &address])
        .current_dir(dir.path())
        .stdin(std::process::Stdio::piped())
        .stdout(log)
        .stderr(std::process::Stdio::null())
        .spawn();
    let mut server = Server(child.unwrap());
    let start = std::time::Instant::now();
    while std::net::TcpStream::connect(&address).is_err() {
        assert!(start.elapsed() < std::time::Duration::from_secs(60), "openssl s_server does not answer");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let auth = format!(
        "auth: {{token: {{realm: \"https://{address}/token\", service: registry, issuer: i, rootcertbundle: {}}}}}",
        dir.path().join("s.crt").display()
    );
    let registry = Registry::start_with(&auth, "");
    let sandbox = Sandbox::new();
    let image = format!("docker://{}/a:1", registry.address());
    let digest = |more: &[&str]| {
        let args = ["digest", "--retry-times=0", "--tls-verify=false", "--creds=ann:s3cret"];
        sandbox.run("hoy-copy").args(args).args(more).arg(&image)
    };
    let seen = || std::fs::read_to_string(dir.path().join("log")).unwrap();
    digest(&[]).fails(1, &[&address, "certificate"]);
    assert_eq!(seen(), "");
    // Were its certificate trusted, it would have them.
    server.0.stdin.as_mut().unwrap().write_all(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n").unwrap();
    let certs = dir.path().join("certs").display().to_string();
    digest(&["--cert-dir", &certs]).fails(1, &["unauthorized"]);
    // What it decrypts it prints a little later.
    let has_it = || seen().to_lowercase().contains("authorization: basic");
    let start = std::time::Instant::now();
    while !has_it() && start.elapsed() < std::time::Duration::from_secs(20) {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(has_it(), "{}", seen());
}
