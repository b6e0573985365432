//! What people's fingers know: where options end, what stands on which stream.

use hoy_tests::{Run, Sandbox, User, busybox_layout, need};

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
fn a_reader_that_goes_away_is_no_failure() {
    let script = "hoy-copy --help | true; exit ${PIPESTATUS:-0}";
    for program in ["hoy", "hoy-build", "hoy-copy", "hoy-runtime", "hoy-spec", "hoy-storage"] {
        let out = Run::new("bash").args(["-c", &script.replace("hoy-copy", program)]).output();
        assert_eq!((out.status, out.stderr.as_str()), (0, ""), "{program}");
    }
}
