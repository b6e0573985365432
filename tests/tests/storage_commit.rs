//! What a file system cannot take of an image comes back in what is committed and sent on: every user makes the same images.

use std::fs;

use hoy_tests::{Sandbox, TarLayer, User, image_of, need};
use serde_json::Value;

/// A tar with what an ordinary user cannot have on disk: devices, other owners of links and pipes, attributes.
const MAKE: &str = r#"
import sys, tarfile
archive = tarfile.open(fileobj=sys.stdout.buffer, mode='w|', format=tarfile.PAX_FORMAT)
def add(name, kind=tarfile.REGTYPE, **fields):
    info = tarfile.TarInfo(name)
    info.type, info.mtime, info.uid, info.gid = kind, 1000, 33, 44
    for field in fields:
        setattr(info, field, fields[field])
    archive.addfile(info)
add('.', tarfile.DIRTYPE, uid=0, gid=0, mode=0o755)
add('dir', tarfile.DIRTYPE, mode=0o2751)
add('dir/file', mode=0o4640, pax_headers={'SCHILY.xattr.user.of': 'it'})
add('dir/device', tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)
add('dir/link', tarfile.SYMTYPE, linkname='nowhere')
add('dir/pipe', tarfile.FIFOTYPE)
add('hard', tarfile.LNKTYPE, linkname='dir/file')
archive.close()
"#;

fn layers(sandbox: &Sandbox, name: &str) -> Vec<Value> {
    let manifest = sandbox.ok("hoy-copy", &["inspect", "--raw", &format!("store:{name}")]);
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    manifest["layers"].as_array().unwrap().iter().map(|layer| layer["digest"].clone()).collect()
}

/// The digests of what was committed, changed and squashed, after it was sent on.
fn committed(user: User) -> Option<Vec<String>> {
    if !user.available() || !need(&["python3"]) {
        return None;
    }
    let sandbox = Sandbox::for_user(user);
    let tar = sandbox.run("python3").args(["-c", MAKE]).output().bytes;
    let layout = sandbox.path("layout");
    image_of(&layout, "odd", [TarLayer::plain(tar)]);
    sandbox.ok("hoy-copy", &["copy", "-q", &format!("oci:{}:odd", layout.display()), "store:odd"]);

    sandbox.ok("hoy-build", &["from", "--name", "work", "odd"]);
    sandbox.ok("hoy-build", &["commit", "work", "same"]);
    assert_eq!(
        layers(&sandbox, "same"),
        layers(&sandbox, "odd"),
        "{user:?}: nothing changed, and there is another layer"
    );

    fs::write(sandbox.path("work/new"), "new\n").unwrap();
    let copy = ["copy", "--chown", "33:44", "--chmod", "0640", "work", "new", "/dir/new"];
    sandbox.ok("hoy-build", &copy);
    sandbox.ok("hoy-build", &["commit", "work", "changed"]);
    sandbox.ok("hoy-build", &["commit", "--squash", "work", "squashed"]);
    assert_eq!((layers(&sandbox, "changed").len(), layers(&sandbox, "squashed").len()), (2, 1));
    // The squashed one is read like any other: unpacked again, nothing of it is lost.
    sandbox.ok("hoy-build", &["from", "--name", "again", "squashed"]);
    sandbox.ok("hoy-build", &["commit", "--squash", "again", "again"]);
    assert_eq!(layers(&sandbox, "again"), layers(&sandbox, "squashed"), "{user:?}: squashed again");

    let send = |name: &str| {
        let target = format!("oci:{}:{name}", sandbox.path("work/sent").display());
        sandbox.ok("hoy-copy", &["copy", "-q", &format!("store:{name}"), &target]);
        sandbox.ok("hoy-copy", &["inspect", "--format", "{{.Digest}}", &target])
    };
    Some(["same", "changed", "squashed"].map(send).into())
}

#[test]
fn everybody_commits_the_same() {
    let Some(root) = committed(User::Root) else { return };
    for user in [User::Sub, User::One] {
        if let Some(theirs) = committed(user) {
            assert_eq!(theirs, root, "{user:?}");
        }
    }
}
