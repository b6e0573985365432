//! Trees to layers and back, on a real file system as root.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use hoy_layer::{
    Change, ChangeKind, Device, Diff, DiffOptions, Entry, Flavour, Kind, Limits, Lower, OverlayXattrs, Owners,
    TarWriter, Time, directory_entry, unpack,
};

fn is_root() -> bool {
    let is_root = hoy_sys::rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("skipped: needs root");
    }
    is_root
}

fn options(is_complete: bool, clamp: Option<i64>) -> DiffOptions {
    DiffOptions {
        xattrs: OverlayXattrs::Trusted,
        is_complete,
        clamp,
        stubs: BTreeSet::new(),
        owners: Owners::Same,
        unrepresented: Default::default(),
        on_paper: Default::default(),
    }
}

/// The layer that makes `tree` from `lowers`, highest first.
fn layer(tree: &Path, lowers: &[&Path], options: DiffOptions) -> Vec<u8> {
    let root = File::open(tree).unwrap();
    let lower = Lower::new(lowers.iter().map(|path| File::open(path).unwrap().into()).collect());
    let base = match lowers.first() {
        Some(path) => directory_entry(File::open(path).unwrap().as_fd()).unwrap(),
        None => Entry::new("", Kind::Directory, 0o755),
    };
    Diff::new(root.as_fd(), &lower, &base, options).unwrap().write(Vec::new()).unwrap()
}

fn changes(tree: &Path, lowers: &[&Path], options: DiffOptions) -> Vec<(ChangeKind, String)> {
    let root = File::open(tree).unwrap();
    let lower = Lower::new(lowers.iter().map(|path| File::open(path).unwrap().into()).collect());
    let base = Entry::new("", Kind::Directory, 0o755);
    let diff = Diff::new(root.as_fd(), &lower, &base, options).unwrap();
    diff.changes().into_iter().map(|Change { kind, path }| (kind, path.to_str().unwrap().to_owned())).collect()
}

fn unpacked(layer: &[u8], flavour: Flavour) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    unpack(layer, File::open(dir.path()).unwrap().as_fd(), flavour, Limits::default()).unwrap();
    dir
}

/// A tree with one of everything.
fn odd_tree() -> tempfile::TempDir {
    let mut writer = TarWriter::new(Vec::new());
    let mut add = |path: &str, kind, mode, change: &dyn Fn(&mut Entry)| {
        let mut entry = Entry::new(path, kind, mode);
        entry.mtime = Time { seconds: 981_173_106, nanoseconds: 123_456_789 };
        change(&mut entry);
        writer.append(&entry, &mut &b"text of a file"[..]).unwrap();
    };
    add("d", Kind::Directory, 0o2775, &|e| {
        e.xattrs.insert(b"user.note".to_vec(), b"a\nb\0c".to_vec());
    });
    add("d/file", Kind::File, 0o6711, &|e| (e.size, e.uid, e.gid) = (14, 1000, 3_000_000));
    add("d/hard", Kind::HardLink, 0o644, &|e| e.link = b"d/file".to_vec());
    add("d/capable", Kind::File, 0o755, &|e| {
        let raw = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        e.xattrs.insert(b"security.capability".to_vec(), raw.to_vec());
    });
    add("link", Kind::Symlink, 0o777, &|e| (e.link, e.uid) = (b"/nowhere".to_vec(), 7));
    add("null", Kind::Character(Device { major: 1, minor: 3 }), 0o666, &|_| {});
    add("disk", Kind::Block(Device { major: 259, minor: 70_000 }), 0o660, &|e| e.gid = 6);
    add("fifo", Kind::Fifo, 0o600, &|e| e.mtime = Time { seconds: -5, nanoseconds: 1 });
    add(&"long/".repeat(60), Kind::Directory, 0o700, &|_| {});
    unpacked(&writer.finish().unwrap(), Flavour::Plain)
}

#[test]
fn a_tree_survives_the_way_there_and_back() {
    if !is_root() {
        return;
    }
    let tree = odd_tree();
    let first = layer(tree.path(), &[], options(false, None));
    let again = unpacked(&first, Flavour::Plain);
    assert!(layer(again.path(), &[], options(false, None)) == first, "the same tree gives the same bytes");
    let metadata = |name: &str| fs::symlink_metadata(again.path().join(name)).unwrap();
    let file = metadata("d/file");
    assert_eq!((file.uid(), file.gid(), file.mode() & 0o7777, file.nlink()), (1000, 3_000_000, 0o6711, 2));
    assert_eq!((file.mtime(), file.mtime_nsec()), (981_173_106, 123_456_789));
    assert_eq!((metadata("fifo").mtime(), metadata("link").uid()), (-5, 7));
    assert_eq!(metadata("d").mtime(), 981_173_106, "a directory's time is set last");
    // Another reader understands it.
    let listed = Command::new("tar").args(["--numeric-owner", "-tvf", "-"]).stdin(file_with(&first)).output();
    if let Ok(listed) = listed {
        let text = String::from_utf8(listed.stdout).unwrap();
        for want in ["crw-rw-rw- 0/0             1,3", "hrws--s--x 1000/3000000", "link -> /nowhere", "259,70000"] {
            assert!(text.contains(want), "{want:?} in {text}");
        }
        assert!(listed.status.success());
    }
}

fn file_with(bytes: &[u8]) -> File {
    use std::io::{Seek, Write};
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

#[test]
fn whiteouts_as_overlayfs_has_them() {
    if !is_root() {
        return;
    }
    let mut writer = TarWriter::new(Vec::new());
    for (path, kind) in [
        ("gone/.wh.file", Kind::File),
        ("all/", Kind::Directory),
        ("all/.wh..wh..opq", Kind::File),
        ("again/.wh.dir", Kind::File),
        ("again/dir", Kind::Directory),
    ] {
        writer.append(&Entry::new(path, kind, 0o755), &mut std::io::empty()).unwrap();
    }
    let upper = unpacked(&writer.finish().unwrap(), Flavour::Overlay(OverlayXattrs::Trusted));
    let whiteout = fs::symlink_metadata(upper.path().join("gone/file")).unwrap();
    assert_eq!((whiteout.rdev(), whiteout.mode() & 0o170_000), (0, 0o020_000));
    let lower = tempfile::tempdir().unwrap();
    for file in ["gone/file", "gone/kept", "all/one", "again/dir/hidden"] {
        fs::create_dir_all(lower.path().join(file).parent().unwrap()).unwrap();
        fs::write(lower.path().join(file), "").unwrap();
    }
    use ChangeKind::{Changed, Deleted};
    let want = [
        (Changed, "again"),
        (Changed, "again/dir"),
        (Deleted, "again/dir/hidden"),
        (Changed, "all"),
        (Deleted, "all/one"),
        (Changed, "gone"),
        (Deleted, "gone/file"),
    ];
    let got = changes(upper.path(), &[lower.path()], options(false, None));
    assert_eq!(got, want.map(|(kind, path)| (kind, path.to_owned())));
    // Applied to the lower tree, the layer deletes the same.
    let layer = layer(upper.path(), &[lower.path()], options(false, None));
    unpack(layer.as_slice(), File::open(lower.path()).unwrap().as_fd(), Flavour::Plain, Limits::default()).unwrap();
    let rest: Vec<bool> = ["gone/file", "gone/kept", "all/one", "again/dir/hidden", "again/dir"]
        .iter()
        .map(|name| lower.path().join(name).exists())
        .collect();
    assert_eq!(rest, [false, true, false, false, true]);
}

#[test]
fn what_did_not_change_is_not_written() {
    if !is_root() {
        return;
    }
    let lower = odd_tree();
    let same = odd_tree();
    // As overlayfs copies up: everything equal, only the directories' times are new.
    fs::write(same.path().join("d/new"), "").unwrap();
    fs::remove_file(same.path().join("d/new")).unwrap();
    let tree = tempfile::tempdir().unwrap();
    fs::set_permissions(tree.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let empty = layer(tree.path(), &[lower.path()], options(false, None));
    assert_eq!(empty, [0; 1024]);
    let complete = changes(same.path(), &[lower.path()], options(true, None));
    assert_eq!(complete, []);
    fs::remove_file(same.path().join("fifo")).unwrap();
    fs::write(same.path().join("d/capable"), "longer").unwrap();
    use ChangeKind::{Changed, Deleted};
    let want = [(Changed, "d"), (Changed, "d/capable"), (Deleted, "fifo")];
    let got = changes(same.path(), &[lower.path()], options(true, None));
    assert_eq!(got, want.map(|(kind, path)| (kind, path.to_owned())));
}

#[test]
fn stubs_and_times() {
    if !is_root() {
        return;
    }
    let tree = tempfile::tempdir().unwrap();
    fs::set_permissions(tree.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for dir in ["proc", "etc", "run/secrets", "kept/stub"] {
        fs::create_dir_all(tree.path().join(dir)).unwrap();
    }
    fs::write(tree.path().join("etc/resolv.conf"), "").unwrap();
    fs::write(tree.path().join("run/secrets/used"), "written").unwrap();
    fs::write(tree.path().join("kept/file"), "").unwrap();
    symlink("x", tree.path().join("link")).unwrap();
    let mut stubbed = options(false, Some(5));
    stubbed.stubs = ["proc", "etc/resolv.conf", "run/secrets", "kept/stub"].map(|s| s.as_bytes().to_vec()).into();
    let names: Vec<String> = changes(tree.path(), &[], stubbed.clone()).into_iter().map(|(_, path)| path).collect();
    assert_eq!(names, ["kept", "kept/file", "link", "run", "run/secrets", "run/secrets/used"]);
    let clamped = layer(tree.path(), &[], stubbed);
    let again = unpacked(&clamped, Flavour::Plain);
    for name in ["kept", "kept/file", "link", "run/secrets/used"] {
        assert_eq!(fs::symlink_metadata(again.path().join(name)).unwrap().mtime(), 5, "{name}");
    }
}
