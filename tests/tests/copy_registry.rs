//! hoy-copy and a registry that wants credentials and has a certificate.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::path::Path;

use hoy_tests::{Registry, Run, Sandbox, User, busybox_layout, need};

/// Makes an authority, a server's certificate signed by it (`s`), and two that signed themselves (`self`, and
/// `strange`, which is for another host).
fn certificates(dir: &Path) {
    let openssl = |line: &str| {
        Run::new("openssl").dir(dir).args(line.split(' ')).ok();
    };
    let names = "subjectAltName=DNS:localhost,IP:127.0.0.1";
    std::fs::write(dir.join("ext"), format!("{names}\nbasicConstraints=CA:FALSE\n")).unwrap();
    openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=authority");
    openssl("req -newkey rsa:2048 -nodes -keyout s.key -out s.csr -subj /CN=localhost");
    openssl("x509 -req -in s.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out s.crt -days 2 -extfile ext");
    openssl(&format!(
        "req -x509 -newkey rsa:2048 -nodes -keyout self.key -out self.crt -days 2 -subj /CN=localhost -addext {names}"
    ));
    let strange = "-addext subjectAltName=DNS:example.org";
    openssl(&format!(
        "req -x509 -newkey rsa:2048 -nodes -keyout strange.key -out strange.crt -days 2 -subj /CN=localhost {strange}"
    ));
    for (folder, certificate) in
        [("trusted", "ca.crt"), ("trusted-self", "self.crt"), ("trusted-strange", "strange.crt")]
    {
        std::fs::create_dir(dir.join(folder)).unwrap();
        std::fs::copy(dir.join(certificate), dir.join(folder).join("ca.crt")).unwrap();
    }
}

/// A registry over HTTPS with the certificate `name` that knows user `ann` with password `s3cret`.
fn registry(dir: &Path, name: &str) -> Registry {
    let htpasswd = dir.join("htpasswd");
    Run::new("htpasswd").arg("-Bbc").arg(&htpasswd).args(["ann", "s3cret"]).output();
    let auth = format!("auth: {{htpasswd: {{realm: test, path: {}}}}}", htpasswd.display());
    let file = |end: &str| dir.join(format!("{name}.{end}")).display().to_string();
    Registry::start_with(&auth, &format!("  tls: {{certificate: {}, key: {}}}", file("crt"), file("key")))
}

fn ready() -> bool {
    need(&["docker-registry", "skopeo", "umoci", "openssl", "htpasswd", "busybox"])
}

fn a_login_lasts(user: User) {
    if !ready() || (user != User::Root && !user.available()) {
        return;
    }
    let sandbox = Sandbox::for_user(user);
    let dir = tempfile::Builder::new().prefix("hoy-test-").tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    certificates(dir.path());
    busybox_layout(&sandbox.path("layout"));
    let registry = registry(dir.path(), "s");
    let address = registry.address().replace("127.0.0.1", "localhost");
    let certs = dir.path().join("trusted").display().to_string();
    let source = format!("oci:{}:busybox:latest", sandbox.path("layout").display());
    let image = format!("docker://{address}/a/b:1");
    let hint = format!("hoy-copy login {address}");

    let push = || sandbox.run("hoy-copy").args(["-q", "--dest-cert-dir", &certs, &source, &image]);
    push().fails(1, &["unauthorized", &hint]);
    let login = |password: &str| {
        let args = ["login", "--cert-dir", &certs, "-u", "ann", "--password-stdin", &address];
        sandbox.run("hoy-copy").args(args).stdin(format!("{password}\n"))
    };
    let said = login("wr0ng").fails(1, &[&address]);
    assert!(!said.contains("wr0ng"));
    assert_eq!(login("s3cret").ok(), "Login Succeeded!");
    assert_eq!(sandbox.ok("hoy-copy", &["login", "--get-login", &address]), "ann");
    let digest = push().ok();
    // skopeo reads the credentials that we wrote, and the image.
    let inspect = ["inspect", "--cert-dir", &certs, "--format", "{{.Digest}}", &image];
    assert_eq!(sandbox.ok("skopeo", &inspect), digest);
    assert_eq!(sandbox.ok("hoy-copy", &inspect), digest);
    // To look at an image takes its manifest, its configuration and the tags, after one answer that asks who it is.
    let asked = sandbox.run("hoy-copy").args(["--debug", "inspect", "--cert-dir", &certs, &image]).output().stderr;
    assert_eq!(asked.lines().filter(|line| line.starts_with("debug: GET")).count(), 4, "{asked}");
    let tags = ["list-tags", "--cert-dir", &certs, &format!("docker://{address}/a/b")];
    assert_eq!(sandbox.ok("hoy-copy", &tags), sandbox.ok("skopeo", &tags));
    // A copy within a registry moves no layer.
    let other = format!("docker://{address}/c:1");
    let mount = ["--debug", "--src-cert-dir", &certs, "--dest-cert-dir", &certs, &image, &other];
    let out = sandbox.run("hoy-copy").args(mount).output();
    assert!(out.status == 0 && out.stderr.contains("mounted") && !out.stderr.contains("s3cret"), "{}", out.stderr);
    assert!(!out.stderr.lines().any(|line| line.contains("PUT") && line.contains("/blobs/")), "{}", out.stderr);
    sandbox.ok("hoy-copy", &["delete", "--cert-dir", &certs, &image]);
    sandbox.run("hoy-copy").args(inspect).fails(1, &["no such image"]);
    assert!(sandbox.ok("hoy-copy", &["logout", &address]).contains(&address));
    sandbox.run("hoy-copy").args(["logout", &address]).fails(1, &["not logged into"]);
    push().fails(1, &["unauthorized"]);
}

#[test]
fn a_login_lasts_until_logout() {
    a_login_lasts(User::Root);
}

#[test]
fn a_login_lasts_until_logout_rootless() {
    a_login_lasts(User::Sub);
}

#[test]
fn certificates_are_checked() {
    if !ready() {
        return;
    }
    let sandbox = Sandbox::new();
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    let signed = registry(dir.path(), "s");
    let name = format!("docker://{}/x", signed.address());
    let list = |args: &[&str], name: &str| {
        sandbox.run("hoy-copy").args(["list-tags", "--creds", "ann:s3cret"]).args(args).arg(name)
    };
    let certs = |folder: &str| dir.path().join(folder).display().to_string();
    list(&[], &name).fails(1, &[&signed.address(), "certificate", "--cert-dir"]);
    // Trusted, there is no such repository.
    list(&["--cert-dir", &certs("trusted")], &name).fails(1, &["no such repository"]);
    list(&["--tls-verify=false"], &name).fails(1, &["no such repository"]);
    let own = registry(dir.path(), "self");
    let name = format!("docker://{}/x", own.address());
    // One that calls itself an authority is a server's own where it was given itself, and for its own names alone.
    list(&["--cert-dir", &certs("trusted-self")], &name).fails(1, &["no such repository"]);
    let bundle = dir.path().join("self.crt").display().to_string();
    list(&[], &name).env("SSL_CERT_FILE", &bundle).fails(1, &["authority", "CA:TRUE"]);
    list(&["--cert-dir", &certs("trusted")], &name).fails(1, &["certificate"]);
    let strange = registry(dir.path(), "strange");
    let name = format!("docker://{}/x", strange.address());
    list(&["--cert-dir", &certs("trusted-strange")], &name).fails(1, &["certificate", "not valid for name"]);
    let plain = Registry::start();
    list(&[], &format!("docker://{}/x", plain.address())).fails(1, &["HTTPS", "--tls-verify=false"]);
}

#[test]
fn what_is_there_is_not_sent() {
    if !need(&["docker-registry", "skopeo", "umoci", "busybox"]) {
        return;
    }
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    busybox_layout(&sandbox.path("layout"));
    let source = format!("oci:{}:busybox:latest", sandbox.path("layout").display());
    let image = format!("docker://{}/a:1", registry.address());
    let push = |image: &str| {
        let digest_file = sandbox.path("work/digest");
        let args = ["--debug", "--dest-tls-verify=false", "--digestfile", digest_file.to_str().unwrap()];
        let out = sandbox.run("hoy-copy").args(args).args([&source, image]).output();
        assert_eq!(std::fs::read_to_string(digest_file).unwrap(), out.stdout.trim());
        out.stderr
    };
    assert!(push(&image).contains("POST http"));
    let again = push(&image);
    assert!(!again.contains("POST") && again.contains("already exists"), "{again}");
    // A pinned digest gets that image and no other.
    let digest = sandbox.ok("hoy-copy", &["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &image]);
    let pinned = format!("docker://{}/a@{digest}", registry.address());
    assert_eq!(sandbox.ok("hoy-copy", &["-q", "--src-tls-verify=false", &pinned, "store:pinned"]), digest);
    let other = format!("docker://{}/a@sha256:{}", registry.address(), "0".repeat(64));
    let args = ["-q", "--src-tls-verify=false", &other, "store:other"];
    sandbox.run("hoy-copy").args(args).fails(1, &["no such image"]);
    sandbox.run("hoy-copy").args(["inspect", "store:other"]).fails(1, &["other"]);
}
