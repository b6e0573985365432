//! What people's fingers know: where options end, what stands on which stream.

use hoy_tests::{Sandbox, User, busybox_layout, need};

#[test]
fn options_end_at_the_name() {
    if !User::Root.available() || !need(&["umoci", "busybox"]) {
        return;
    }
    let sandbox = Sandbox::new();
    busybox_layout(&sandbox.path("layout"));
    let source = format!("oci:{}:busybox:latest", sandbox.path("layout").display());
    sandbox.ok("hoy-copy", &["copy", &source, "store:busybox"]);
    let run =
        |words: &[&str]| sandbox.ok("hoy", &[&["run", "--rm", "--entrypoint", "echo", "busybox"], words].concat());
    assert_eq!(run(&["--help"]), "--help");
    assert_eq!(run(&["-it", "--rm"]), "-it --rm");
    assert_eq!(run(&["--", "x"]), "x");
    let container = sandbox.ok("hoy-build", &["from", "busybox"]);
    assert_eq!(sandbox.ok("hoy-build", &["run", &container, "--", "echo", "--help"]), "--help");
    assert_eq!(sandbox.ok("hoy-build", &["run", &container, "echo", "--help"]), "--help");
    sandbox.ok("hoy-build", &["rm", &container]);
}

#[test]
fn scripts_find_skopeo() {
    let sandbox = Sandbox::new();
    let version = |name: &str| sandbox.run("bash").args(["-c", &format!("exec -a {name} hoy-copy --version")]).ok();
    assert!(version("/usr/bin/skopeo").starts_with("skopeo version 1."));
    assert!(version("hoy-copy").starts_with("hoy-copy "));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let sandbox = Sandbox::new();
    for command in ["hoy ps", "hoy-build containers", "hoy-runtime features", "hoy-storage images"] {
        // The reader has gone for sure when the first line is written.
        let script = format!("(sleep 0.2; exec {command}) | true; exit ${{PIPESTATUS[0]}}");
        let out = sandbox.run("bash").args(["-c", &script]).output();
        assert_eq!((out.status, out.stderr.as_str()), (0, ""), "{command}");
        assert!(!sandbox.run("sh").args(["-c", command]).ok().is_empty(), "{command} has something to write");
    }
}
