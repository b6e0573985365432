//! Small real images, made from Debian's packages.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use serde_json::json;

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

/// Writes the OCI layout `layout` with the image `many` of `count` layers, each with a file of its own and with `top`,
/// which the next replaces; the number of the layer is in both.
pub fn many_layers(layout: &Path, count: usize) {
    let files = |number: usize| {
        let text = number.to_string();
        [tar_entry("top", &text), tar_entry(&format!("file{number}"), &text)].concat()
    };
    layers_of(layout, count, files);
}

/// Writes the OCI layout `layout` with the image `many` of one layer with `count` files.
pub fn many_files(layout: &Path, count: usize) {
    let file = |number: usize| tar_entry(&format!("{}/{number}", number % 500), &number.to_string());
    layers_of(layout, 1, |_| (0..count).flat_map(file).collect());
}

/// The image `many` of `count` layers, each with the entries that `entries` gives for its number.
fn layers_of(layout: &Path, count: usize, entries: impl Fn(usize) -> Vec<u8>) {
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("make a directory");
    let names: Vec<String> = (0..count).map(|number| format!("layer{number}")).collect();
    for (number, name) in names.iter().enumerate() {
        let mut archive = entries(number);
        archive.resize(archive.len() + 1024, 0);
        fs::write(blobs.join(name), archive).expect("write a layer");
    }
    let layers = by_digest(&blobs, &names, "application/vnd.oci.image.layer.v1.tar");
    let diff_ids: Vec<_> = layers.iter().map(|layer| layer["digest"].clone()).collect();
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let rootfs = json!({"type": "layers", "diff_ids": diff_ids});
    let config = json!({"architecture": architecture, "os": "linux", "config": {}, "rootfs": rootfs});
    fs::write(blobs.join("config"), config.to_string()).expect("write");
    let config = by_digest(&blobs, &["config".to_owned()], "application/vnd.oci.image.config.v1+json").remove(0);
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers});
    fs::write(blobs.join("manifest"), manifest.to_string()).expect("write");
    let mut manifest = by_digest(&blobs, &["manifest".to_owned()], kind).remove(0);
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "many"});
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(layout.join("index.json"), index.to_string()).expect("write");
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("write");
    Run::new("chmod").args(["-R", "a+rX"]).arg(layout).ok();
}

/// A regular file in an archive of the ustar format.
fn tar_entry(name: &str, text: &str) -> Vec<u8> {
    let mut header =
        format!("{name:\0<100}0000644\x000000000\x000000000\0{:011o}\0{:011o}\0", text.len(), 0).into_bytes();
    header.extend(b"        0");
    header.resize(257, 0);
    header.extend(b"ustar\x0000");
    header.resize(512, 0);
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header.extend(text.as_bytes());
    header.resize(1024, 0);
    header
}

/// Gives files of `directory` their digests for names; returns their descriptors.
fn by_digest(directory: &Path, names: &[String], media_type: &str) -> Vec<serde_json::Value> {
    let lines = Run::new("sha256sum").args(names).dir(directory).ok();
    let digests = lines.lines().map(|line| line.split(' ').next().expect("a digest"));
    let describe = |(name, digest): (&String, &str)| {
        let size = fs::metadata(directory.join(name)).expect("it was written").len();
        fs::rename(directory.join(name), directory.join(digest)).expect("rename");
        json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size})
    };
    names.iter().zip(digests).map(describe).collect()
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
