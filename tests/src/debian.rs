//! A real Debian as an image, and listings of trees to compare.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::Run;

/// The OCI layout of a Debian 12 (debootstrap's minbase) with the image `debian:12`, made once and kept in `cache`.
///
/// Beside Debian's own files it has what a base system lacks: file capabilities, user attributes, hard links across
/// directories, a sparse file, devices, a FIFO, nanoseconds, and a name that is not UTF-8.
///
/// Tests that call it need `debootstrap`, `umoci`, `setcap`, `setfattr` and root.
pub fn debian_layout(cache: &Path) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let guard = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let layout = cache.join("debian-layout");
    if !layout.exists() {
        let temporary = tempfile::Builder::new().prefix("debian-").tempdir_in(cache).expect("make a directory");
        let root = temporary.path().join("root");
        let mirror = Run::new("apt-get").args(["indextargets", "--format", "$(REPO_URI) $(CODENAME)"]).ok();
        let mirror = mirror.lines().find_map(|line| line.strip_suffix(" bookworm")).map(str::to_owned);
        let args = ["--variant=minbase", "bookworm"];
        Run::new("debootstrap").args(args).arg(&root).args(mirror).ok();
        add_rarities(&root);
        let unfinished = temporary.path().join("layout");
        let image = format!("{}:debian:12", unfinished.display());
        Run::new("umoci").args(["init", "--layout"]).arg(&unfinished).ok();
        Run::new("umoci").args(["new", "--image", &image]).ok();
        Run::new("umoci").args(["insert", "--image", &image]).arg(&root).arg("/").ok();
        Run::new("umoci").args(["config", "--image", &image, "--config.cmd", "/bin/bash"]).ok();
        Run::new("umoci").args(["gc", "--layout"]).arg(&unfinished).ok();
        fs::rename(&unfinished, &layout).expect("keep the layout");
    }
    drop(guard);
    layout
}

fn add_rarities(root: &Path) {
    use std::os::unix::ffi::OsStrExt;
    let dir = root.join("opt/rare");
    fs::create_dir_all(&dir).expect("make a directory");
    fs::copy("/bin/true", dir.join("capable")).expect("copy");
    Run::new("setcap").arg("cap_net_raw,cap_net_admin=ep").arg(dir.join("capable")).ok();
    fs::write(dir.join("attributed"), "x").expect("write");
    Run::new("setfattr").args(["-n", "user.note", "-v", "line one\nline two"]).arg(dir.join("attributed")).ok();
    fs::hard_link(dir.join("attributed"), root.join("srv/attributed")).expect("link");
    symlink("../../etc/passwd", dir.join("symlink")).expect("link");
    Run::new("truncate").args(["-s", "64M"]).arg(dir.join("sparse")).ok();
    Run::new("mknod").arg(dir.join("loop7")).args(["b", "7", "300"]).ok();
    Run::new("mkfifo").arg(dir.join("fifo")).ok();
    fs::write(dir.join("x".repeat(200)), "long").expect("write");
    fs::write(dir.join(std::ffi::OsStr::from_bytes(b"caf\xe9")), "latin").expect("write");
    fs::write(dir.join("owned"), "x").expect("write");
    Run::new("chown").arg("1234:3000000").arg(dir.join("owned")).ok();
    Run::new("chmod").arg("6755").arg(dir.join("owned")).ok();
    Run::new("touch").args(["-d", "2001-02-03 04:05:06.123456789"]).arg(dir.join("owned")).ok();
}

/// One line for each file below `dir`, sorted: name, kind, mode, owner, links, size, time, link target, device numbers,
/// attributes. `wrap` is a command that the listing is made under.
pub fn listing(dir: &Path, wrap: impl Fn(&str) -> Run) -> Vec<String> {
    // %s of a directory and %n of one depend on the file system; times of the root on who made it.
    let files = r#"find . -mindepth 1 \( -type d -printf '%P d %m %U:%G %T@\n' \) -o \
        \( -type b -o -type c \) -exec stat -c '%n %F %a %u:%g %t,%T %Y' {} + -o -printf '%P %y %m %U:%G %n %s %T@ %l\n'"#;
    let attributes =
        "getfattr -R -P -h -d -e hex -m '^(user|security)' . 2>/dev/null | awk '/^# file/ {f=$3} /=/ {print f, $0}'";
    let script = format!("cd '{}' && {{ {files}; {attributes}; }}", dir.display());
    let mut lines: Vec<String> = wrap("sh").arg("-c").arg(&script).ok().lines().map(str::to_owned).collect();
    lines.sort();
    lines
}
