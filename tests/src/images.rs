//! Small real images, made from Debian's packages.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::{Run, Sandbox, User, need};

/// Makes a root file system of Debian's static busybox at `dir`, with users and the usual directories.
pub fn busybox_root(dir: &Path) {
    for name in ["bin", "etc", "tmp", "root", "home/app", "usr/bin", "var"] {
        fs::create_dir_all(dir.join(name)).expect("make a directory");
    }
    fs::set_permissions(dir.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("open tmp");
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|p| Path::new(p).exists()).expect("busybox");
    fs::copy(busybox, dir.join("bin/busybox")).expect("copy busybox");
    let applets = Run::new("busybox").arg("--list").ok();
    for applet in applets.lines().filter(|name| *name != "busybox") {
        symlink("busybox", dir.join("bin").join(applet)).expect("link an applet");
    }
    fs::write(dir.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:App:/home/app:/bin/sh\n")
        .expect("write");
    fs::write(dir.join("etc/group"), "root:x:0:\napp:x:1000:\nstaff:x:50:app\n").expect("write");
    fs::write(dir.join("etc/os-release"), "NAME=busybox\nID=busybox\n").expect("write");
}

/// Makes the OCI layout `dir` with the image `busybox:latest`, by tar and umoci.
///
/// Tests that call it need `umoci` and `busybox`.
pub fn busybox_layout(dir: &Path) {
    let image = format!("{}:busybox:latest", dir.display());
    let temporary = tempfile::tempdir().expect("make a directory");
    busybox_root(&temporary.path().join("root"));
    Run::new("umoci").args(["init", "--layout"]).arg(dir).ok();
    Run::new("umoci").args(["new", "--image", &image]).ok();
    Run::new("umoci")
        .args(["insert", "--rootless", "--image", &image])
        .arg(temporary.path().join("root"))
        .arg("/")
        .ok();
    let config = ["config", "--image", &image, "--config.cmd", "/bin/sh", "--config.env", "PATH=/bin:/usr/bin"];
    Run::new("umoci").args(config).args(["--created", "2024-01-01T00:00:00Z"]).ok();
    // umoci writes its index for its own user alone.
    Run::new("chmod").args(["-R", "a+rX"]).arg(dir).ok();
}

/// A sandbox of `user` with the image `busybox` in its store, and the layout it came from as `layout`; none, and the
/// test recorded as skipped, where the machine cannot make it.
pub fn busybox_store(user: User) -> Option<Sandbox> {
    if !user.available() || !need(&["umoci", "busybox"]) {
        return None;
    }
    let sandbox = Sandbox::for_user(user);
    let layout = sandbox.path("layout");
    busybox_layout(&layout);
    Run::new("chmod").args(["-R", "a+rX"]).arg(&layout).ok();
    sandbox.ok("hoy-copy", &["copy", &format!("oci:{}:busybox:latest", layout.display()), "store:busybox"]);
    Some(sandbox)
}
