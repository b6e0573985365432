//! Compressed layers and archives of every kind, from the command line.

use std::fs;

use hoy_tests::{Run, Sandbox, TarLayer, User, image_of, need};

/// Makes a docker-archive whose layers are a bzip2 and an xz, that archive as an xz, and an eStargz and a zstd:chunked
/// layer: the same tar in members and frames of their own, with what these formats add.
const MAKE: &str = r#"
import bz2, gzip, hashlib, io, json, lzma, struct, subprocess, tarfile
def tar(entries):
    out = io.BytesIO()
    archive = tarfile.open(fileobj=out, mode='w')
    for name, data in entries:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    archive.close()
    return out.getvalue()
one, two = tar([('one', b'1' * 5000)]), tar([('two', b'2')])
sha = lambda data: hashlib.sha256(data).hexdigest()
config = json.dumps({'architecture': 'amd64', 'os': 'linux', 'config': {},
    'rootfs': {'type': 'layers', 'diff_ids': ['sha256:' + sha(one), 'sha256:' + sha(two)]}}).encode()
manifest = json.dumps([{'Config': 'config.json', 'RepoTags': ['packed:latest'], 'Layers': ['a/layer.tar', 'b/layer.tar']}]).encode()
archive = tar([('a/layer.tar', bz2.compress(one)), ('b/layer.tar', lzma.compress(two)), ('config.json', config), ('manifest.json', manifest)])
open('archive', 'wb').write(archive)
open('archive.xz', 'wb').write(lzma.compress(archive))
open('one.tar.xz', 'wb').write(lzma.compress(one))
open('one.tar.bz2', 'wb').write(bz2.compress(one))
# eStargz: each entry a member, the table of contents the last, and an empty member that says where that one is.
lazy = tar([('.no.prefetch.landmark', b'\x0f'), ('one', b'1' * 5000), ('stargz.index.json', b'{"version":1,"entries":[]}')])
open('estargz.tar', 'wb').write(lazy)
members = b''.join(gzip.compress(lazy[at:at + 1024]) for at in range(0, len(lazy), 1024))
footer = b'\x1f\x8b\x08\x04\0\0\0\0\0\xff' + struct.pack('<H', 26) + b'SG' + struct.pack('<H', 22) + b'%016xSTARGZ' % 7 + b'\x01\0\0\xff\xff' + bytes(8)
open('estargz', 'wb').write(members + footer)
open('chunked.tar', 'wb').write(one)
frame = lambda data: subprocess.run(['zstd', '-c'], input=data, stdout=subprocess.PIPE, check=True).stdout
skippable = lambda data: b'\x50\x2a\x4d\x18' + struct.pack('<I', len(data)) + data
open('chunked', 'wb').write(frame(one[:512]) + skippable(b'between') + frame(one[512:]) + skippable(b'manifest' * 99) + skippable(b'GNUlInUx' * 8))
"#;

fn compressions(user: User) {
    if !user.available() || !need(&["python3", "zstd"]) {
        return;
    }
    let sandbox = Sandbox::for_user(user);
    sandbox.run("python3").args(["-c", MAKE]).ok();
    for (number, archive) in ["archive", "archive.xz"].into_iter().enumerate() {
        sandbox.ok("hoy-copy", &["copy", "-q", &format!("docker-archive:{archive}"), &format!("store:docker{number}")]);
        let tree = sandbox.path(&format!("work/docker{number}"));
        sandbox.run("hoy-storage").args(["unpack", &format!("docker{number}")]).arg(&tree).ok();
        assert_eq!(fs::read(tree.join("one")).unwrap(), [b'1'; 5000]);
        assert_eq!(fs::read(tree.join("two")).unwrap(), b"2");
    }
    for packed in ["one.tar.xz", "one.tar.bz2"] {
        sandbox.ok("hoy-copy", &["copy", "-q", &format!("tarball:{packed}"), "store:tarball"]);
        let container = sandbox.ok("hoy-build", &["from", "tarball"]);
        sandbox.ok("hoy-build", &["add", &container, packed, "/into/"]);
        let root = sandbox.ok("hoy-build", &["mount", &container]);
        let sizes = sandbox.run("sh").args(["-c", &format!("cd {root} && stat -c %s one into/one")]).ok();
        assert_eq!(sizes, "5000\n5000", "{packed}");
        sandbox.ok("hoy-build", &["rm", &container]);
    }
}

#[test]
fn bzip2_and_xz_as_root() {
    compressions(User::Root);
}

#[test]
fn bzip2_and_xz_as_user() {
    compressions(User::Sub);
}

#[test]
fn bzip2_and_xz_with_one_id() {
    compressions(User::One);
}

/// What eStargz adds are entries of its tar, and so files, as podman and umoci have it; what zstd:chunked adds is not.
#[test]
fn lazy_formats_are_read_as_what_they_are() {
    if !User::Root.available() || !need(&["python3", "zstd", "umoci"]) {
        return;
    }
    let sandbox = Sandbox::for_user(User::Root);
    sandbox.run("python3").args(["-c", MAKE]).ok();
    let read = |name: &str| fs::read(sandbox.path("work").join(name)).unwrap();
    let gzip = "application/vnd.oci.image.layer.v1.tar+gzip";
    let zstd = "application/vnd.oci.image.layer.v1.tar+zstd";
    let lazy = ".no.prefetch.landmark\none\nstargz.index.json";
    for (name, media_type, want) in [("estargz", gzip, lazy), ("chunked", zstd, "one")] {
        let layout = sandbox.path(&format!("layout-{name}"));
        let diff_id = TarLayer::plain(read(&format!("{name}.tar"))).diff_id;
        image_of(&layout, "it", [TarLayer { blob: read(name), media_type, diff_id }]);
        sandbox.ok("hoy-copy", &["copy", "-q", &format!("oci:{}:it", layout.display()), "store:it"]);
        let tree = sandbox.path(&format!("work/tree-{name}"));
        sandbox.run("hoy-storage").args(["unpack", "it"]).arg(&tree).ok();
        assert_eq!(Run::new("ls").arg("-A").arg(&tree).ok(), want, "{name}");
        if media_type == gzip {
            let theirs = sandbox.path("work/theirs");
            Run::new("umoci").args(["unpack", "--image", &format!("{}:it", layout.display())]).arg(&theirs).ok();
            assert_eq!(Run::new("ls").arg("-A").arg(theirs.join("rootfs")).ok(), want, "{name} by umoci");
        }
    }
}
