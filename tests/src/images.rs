//! Small real images, made from Debian's packages.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use serde_json::json;
use sha2::{Digest, Sha256};

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
    let end = [0; 1024];
    image_of(layout, "many", (0..count).map(|number| TarLayer::plain([entries(number).as_slice(), &end].concat())));
}

/// A layer as it is stored, and the digest of its tar.
#[derive(Debug, Clone)]
pub struct TarLayer {
    /// The bytes of the blob.
    pub blob: Vec<u8>,
    /// What the manifest says of them.
    pub media_type: &'static str,
    /// `sha256:` and the digest of the tar.
    pub diff_id: String,
}

impl TarLayer {
    /// A tar as it is.
    pub fn plain(tar: Vec<u8>) -> Self {
        let diff_id = digest(&tar);
        Self { blob: tar, media_type: "application/vnd.oci.image.layer.v1.tar", diff_id }
    }
}

/// Writes the OCI layout `layout` with the image `name` of these layers, the lowest first.
pub fn image_of(layout: &Path, name: &str, layers: impl IntoIterator<Item = TarLayer>) {
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("make a directory");
    let put = |bytes: &[u8], media_type: &str| {
        let digest = digest(bytes);
        fs::write(blobs.join(&digest[7..]), bytes).expect("write a blob");
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    };
    let (mut descriptors, mut diff_ids) = (Vec::new(), Vec::new());
    for layer in layers {
        descriptors.push(put(&layer.blob, layer.media_type));
        diff_ids.push(layer.diff_id);
    }
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let rootfs = json!({"type": "layers", "diff_ids": diff_ids});
    let config = json!({"architecture": architecture, "os": "linux", "config": {}, "rootfs": rootfs});
    let config = put(config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json");
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": descriptors});
    let mut manifest = put(manifest.to_string().as_bytes(), kind);
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(layout.join("index.json"), index.to_string()).expect("write");
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("write");
    Run::new("chmod").args(["-R", "a+rX"]).arg(layout).ok();
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
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
