//! Images are made where nothing is allowed, as in a restricted pod: an ordinary user without capabilities, without a way to
//! more of them, without user namespaces, on a read-only root. What needs no RUN needs no privilege.

use std::fs;

use hoy_tests::{Run, Sandbox, User, busybox_store, program_dir};

/// Both ways to an image, and their digests.
const MAKE: &str = r#"
export PATH=/hoy:/bin HOME=/tmp
test "$(id -u)" != 0 && ! unshare -U true 2>/tmp/why && grep -q '^CapBnd:.*0000000000000000$' /proc/self/status || exit 9
hoy-copy copy -q oci:/layout:busybox:latest store:busybox >/dev/null
hoy-build build -q -t built /context >/dev/null
tar -c -C /context . | hoy-build build -q -t piped - >/dev/null
c=$(hoy-build from busybox)
hoy-build copy --quiet --chown=5:6 $c /context/file /file >/dev/null
hoy-build config --env COLOUR=red --label a=b $c
hoy-build commit -q --rm $c committed >/dev/null
hoy-copy copy -q store:committed oci-archive:/tmp/committed.tar:it >/dev/null
hoy-storage prune --force >/dev/null && hoy-storage check
for image in built committed piped; do hoy-copy inspect --format '{{.Digest}}' store:$image; done
"#;

/// No namespaces and no mounts.
const PROFILE: &str = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
    {"names": ["unshare", "setns", "mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
    {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
    {"names": ["clone"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
     "args": [{"index": 0, "value": 268435456, "valueTwo": 268435456, "op": "SCMP_CMP_MASKED_EQ"}]}]}"#;

#[test]
fn nothing_is_allowed() {
    let Some(base) = busybox_store(User::Root) else { return };
    let context = base.path("work/context");
    fs::create_dir(&context).unwrap();
    fs::write(context.join("file"), "text").unwrap();
    let text = "FROM busybox\nCOPY --chown=5:6 file /file\nENV COLOUR=red\nLABEL a=b\nWORKDIR /srv\n";
    fs::write(context.join("Containerfile"), text).unwrap();
    Run::new("chmod").args(["-R", "a+rX"]).arg(base.path("")).ok();
    let layout = base.path("layout");
    let here = Sandbox::new();
    here.ok("hoy-copy", &["copy", "-q", &format!("oci:{}:busybox:latest", layout.display()), "store:busybox"]);
    here.ok("hoy-build", &["build", "-q", "-t", "built", &context.display().to_string()]);
    let want = here.ok("hoy-copy", &["inspect", "--format", "{{.Digest}}", "store:built"]);
    let volumes = [(program_dir(), "/hoy"), (&context, "/context"), (&layout, "/layout")]
        .map(|(from, to)| format!("{}:{to}:ro", from.display()));
    let volumes: Vec<&str> = volumes.iter().flat_map(|volume| ["-v", volume.as_str()]).collect();
    fs::write(base.path("profile"), PROFILE).unwrap();
    let seccomp = format!("seccomp={}", base.path("profile").display());
    let restricted = ["--user", "1000:1000", "--cap-drop", "all", "--security-opt", "no-new-privileges"];
    let restricted = [&restricted[..], &["--security-opt", &seccomp]].concat();
    let place = ["--read-only", "--tmpfs", "/tmp:rw,mode=1777", "--network", "none"];
    let args = [&["run", "--rm"], &restricted[..], &place, &volumes, &["busybox", "sh", "-ec", MAKE]].concat();
    let said = base.ok("hoy", &args);
    let digests: Vec<&str> = said.lines().collect();
    assert_eq!(digests.len(), 3, "{said}");
    assert_eq!([digests[0], digests[2]], [want.as_str(); 2]);
}
