//! Archives that mean harm, or that readers are known to disagree about (CVE numbers at the rows).

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod raw;

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use hoy_layer::{Archive, Entry, Error, Flavour, Kind, Limits, Report, TarWriter, unpack};
use hoy_oci::Digest;
use hoy_sys::rustix::time::{ClockId, clock_gettime};

use raw::{block, me, padded, pax, sign};

/// A tar with these entries; a file's bytes are the text after its kind.
fn tar(entries: &[(&str, Kind, &str)]) -> Vec<u8> {
    let mut writer = TarWriter::new(Vec::new());
    for (path, kind, text) in entries {
        let mut entry = Entry::new(*path, *kind, if *kind == Kind::Directory { 0o755 } else { 0o644 });
        (entry.uid, entry.gid) = me();
        match kind {
            Kind::File => entry.size = text.len() as u64,
            Kind::Directory => entry.mode = u32::from_str_radix(text, 8).unwrap_or(0o755),
            _ => entry.link = text.as_bytes().to_vec(),
        }
        writer.append(&entry, &mut text.as_bytes()).unwrap();
    }
    writer.finish().unwrap()
}

fn plain(bytes: &[u8], root: &Path) -> Result<Report, Error> {
    unpack(bytes, fs::File::open(root).unwrap().as_fd(), Flavour::Plain, Limits::default())
}

/// A root inside a directory with a secret beside it.
fn place() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::create_dir(dir.path().join("out")).unwrap();
    fs::set_permissions(dir.path().join("out"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(dir.path().join("secret"), "secret").unwrap();
    (dir, root)
}

fn unharmed(dir: &Path) {
    assert_eq!(fs::read_to_string(dir.join("secret")).unwrap(), "secret");
    assert_eq!(fs::read_dir(dir.join("out")).unwrap().count(), 0);
    assert_eq!(fs::metadata(dir.join("out")).unwrap().permissions().mode() & 0o7777, 0o700);
    assert_eq!(fs::metadata(dir.join("secret")).unwrap().permissions().mode() & 0o7777, 0o644);
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["out", "root", "secret"]);
}

use Kind::{Directory, File, HardLink, Symlink};

#[test]
fn nothing_leaves_the_root() {
    for (what, entries, refused) in [
        ("parent", &[("../x", File, "a")][..], Some("../x")),
        ("parent in the middle", &[("a/../../x", File, "a")], Some("a/../../x")),
        ("absolute", &[("/x", File, "a")], None),
        ("hard link out", &[("x", HardLink, "../secret")], Some("\"x\"")),
        ("hard link through a link", &[("l", Symlink, ".."), ("x", HardLink, "l/secret")], Some("\"x\"")),
        ("write through a relative link", &[("l", Symlink, "../out"), ("l/x", File, "a")], Some("")),
        ("write through an absolute link", &[("l", Symlink, "/out"), ("l/x", File, "a")], None),
        ("write through a chain", &[("a", Symlink, "b"), ("b", Symlink, "../../out"), ("a/x", File, "a")], Some("")),
        ("file over a link", &[("l", Symlink, "../secret"), ("l", File, "a")], None),
        // CVE-2021-32760, CVE-2026-33056: chmod through a link.
        ("directory over a link", &[("l", Symlink, "../out"), ("l", Directory, "777")], None),
        ("mkdir through a link", &[("l", Symlink, "../out"), ("l/d", Directory, "777")], Some("")),
        (
            "hard link to a link, then a write",
            &[("l", Symlink, "../secret"), ("m", HardLink, "l"), ("m", File, "a")],
            None,
        ),
        // CVE-2021-29136: the root itself becomes a link.
        ("root as link", &[("/.", Symlink, "../out"), ("x", File, "a")], Some("/")),
        ("root as file", &[("./", File, "")], Some("./")),
        ("root as hard link", &[(".", HardLink, "x")], Some("/")),
        ("whiteout of the parent", &[(".wh...", File, "")], Some(".wh...")),
        ("whiteout of itself", &[("d/.wh..", File, "")], Some("d/.wh..")),
        ("whiteout through a link", &[("l", Symlink, "../"), ("l/.wh.secret", File, "")], None),
        ("opaque through a link", &[("l", Symlink, ".."), ("l/.wh..wh..opq", File, "")], None),
        ("inside a whiteout", &[(".wh.x/y", File, "a")], Some(".wh.x/y")),
    ] {
        let (dir, root) = place();
        let got = plain(&tar(entries), &root);
        unharmed(dir.path());
        match (refused, got) {
            (None, Ok(_)) => {}
            // Links that lead upwards stay inside, where there may be nothing.
            (Some(""), _) => {}
            (Some(name), Err(error)) => assert!(error.to_string().contains(name), "{what}: {error}"),
            (_, got) => panic!("{what}: {got:?}"),
        }
    }
}

#[test]
fn links_stay_inside_the_root() {
    let (dir, root) = place();
    let report = plain(&tar(&[("l", Symlink, "/new/deep"), ("l/x", File, "inside")]), &root).unwrap();
    assert_eq!(fs::read_to_string(root.join("new/deep/x")).unwrap(), "inside");
    assert_eq!(report.implicit, [Path::new("new"), Path::new("new/deep")]);
    unharmed(dir.path());
}

#[test]
fn the_last_entry_of_a_name_wins() {
    let (_dir, root) = place();
    let entries = [
        ("a", Directory, "755"),
        ("a/b", File, "old"),
        ("a", File, "new"),
        ("b", File, "old"),
        ("b", Directory, "700"),
        ("b/c", File, "kept"),
        ("b", Directory, "711"),
    ];
    plain(&tar(&entries), &root).unwrap();
    assert_eq!(fs::read_to_string(root.join("a")).unwrap(), "new");
    assert_eq!(fs::read_to_string(root.join("b/c")).unwrap(), "kept");
    assert_eq!(fs::metadata(root.join("b")).unwrap().permissions().mode() & 0o7777, 0o711);
}

#[test]
fn whiteouts_delete_what_is_below_only() {
    let (_dir, root) = place();
    fs::create_dir_all(root.join("d/old")).unwrap();
    fs::write(root.join("d/new"), "old").unwrap();
    fs::write(root.join("gone"), "").unwrap();
    symlink("../secret", root.join("link")).unwrap();
    let entries = [
        ("d/", Directory, "755"),
        ("d/new", File, "new"),
        ("d/.wh..wh..opq", File, ""),
        ("d/.wh.new", File, ""),
        (".wh.gone", File, ""),
        (".wh.link", File, ""),
        (".wh.never", File, ""),
        (".wh..wh.plnk", File, ""),
    ];
    plain(&tar(&entries), &root).unwrap();
    assert_eq!(fs::read_to_string(root.join("d/new")).unwrap(), "new");
    assert_eq!(fs::read_dir(root.join("d")).unwrap().count(), 1);
    assert_eq!(fs::read_dir(&root).unwrap().count(), 1);
}

#[test]
fn the_size_of_pax_wins() {
    // CVE-2025-62518, CVE-2026-33055: an entry hidden in what another reader takes for data.
    let hidden = block("hidden", b'0', 0);
    let bytes = [pax(b'x', b"12 size=512\n"), block("a", b'0', 0).to_vec(), hidden.to_vec(), vec![0; 1024]].concat();
    let (_dir, root) = place();
    plain(&bytes, &root).unwrap();
    assert_eq!(fs::metadata(root.join("a")).unwrap().len(), 512);
    assert!(!root.join("hidden").exists());
}

#[test]
fn doubtful_archives_are_refused() {
    let end = vec![0; 1024];
    let with = |parts: &[&[u8]]| [parts.concat(), end.clone()].concat();
    let file = block("a", b'0', 0);
    let mut checksum = file;
    checksum[0] = b'b';
    let mut big = block("PaxHeaders/x", b'x', 0);
    big[124..136].copy_from_slice(b"77777777777\0");
    sign(&mut big);
    let mut negative = file;
    negative[124..136].fill(0xff);
    sign(&mut negative);
    let mut sparse = block("s", b'S', 0);
    sparse[482] = 1;
    sign(&mut sparse);
    let more = [b"00000000000\x0000000000000\0".repeat(21), vec![1; 8]].concat();
    for (what, bytes) in [
        ("wrong checksum", with(&[&checksum])),
        ("cut in a header", file[..300].to_vec()),
        ("cut in data", block("a", b'0', 5000).to_vec()),
        ("pax without newline", with(&[&pax(b'x', b"11 path=abcd"), &file])),
        ("pax length 0", with(&[&pax(b'x', b"0 path=a\n"), &file])),
        ("pax size no number", with(&[&pax(b'x', b"9 size=-\n"), &file])),
        ("pax NUL in path", with(&[&pax(b'x', b"11 path=a\0\n"), &file])),
        ("pax of a gigabyte", with(&[&big])),
        ("pax at the end", with(&[&pax(b'x', b"9 path=a\n")])),
        ("global path", with(&[&pax(b'g', b"9 path=a\n"), &file])),
        ("negative size", with(&[&negative])),
        ("directory with a size", with(&[&block("d", b'5', 512), &[0; 512]])),
        ("single empty block", with(&[&file, &[0; 512], &file])),
        ("unknown type", with(&[&block("d", b'Z', 0)])),
        // CVE-2025-58183: a sparse map without end.
        ("endless sparse map", with(&[&sparse, &more.repeat(10_000)])),
        (
            "sparse map past the end",
            with(&[
                &pax(b'x', b"25 GNU.sparse.realsize=1\n24 GNU.sparse.map=0,512\n"),
                &block("a", b'0', 512),
                &[0; 512],
            ]),
        ),
    ] {
        let (_dir, root) = place();
        let error = plain(&bytes, &root).unwrap_err();
        assert!(matches!(error, Error::Malformed { .. } | Error::Read(_)), "{what}: {error:?}");
    }
}

#[test]
fn an_archive_may_just_stop() {
    let file = block("a", b'0', 3);
    for rest in [&b"abc"[..], &padded(b"abc"), &[padded(b"abc"), vec![0; 512]].concat()] {
        let (_dir, root) = place();
        plain(&[file.as_slice(), rest].concat(), &root).unwrap();
        assert_eq!(fs::read(root.join("a")).unwrap(), b"abc");
    }
}

#[test]
fn sparse_files_of_all_four_kinds() {
    let data = padded(&[b'x'; 512]);
    let map = b"GNU.sparse.map=512,512\n";
    let mut old = block("s", b'S', 512);
    old[386..410].copy_from_slice(b"00000001000\x0000000001000\0");
    old[483..495].copy_from_slice(b"00000002000\0");
    old[257..265].copy_from_slice(b"ustar  \0");
    sign(&mut old);
    let size = b"27 GNU.sparse.realsize=1024\n";
    let size = [b"28".as_slice(), &size[2..]].concat();
    let named = [size.as_slice(), b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n21 GNU.sparse.name=s\n"].concat();
    let zero = [size.as_slice(), b"25 GNU.sparse.offset=512\n27 GNU.sparse.numbytes=512\n"].concat();
    let one = [size.as_slice(), format!("{} ", map.len() + 3).as_bytes(), map].concat();
    let archives = [
        ("old", [old.to_vec(), data.clone()].concat()),
        ("0.0", [pax(b'x', &zero), block("s", b'0', 512).to_vec(), data.clone()].concat()),
        ("0.1", [pax(b'x', &one), block("s", b'0', 512).to_vec(), data.clone()].concat()),
        ("1.0", [pax(b'x', &named), block("x", b'0', 1024).to_vec(), padded(b"1\n512\n512\n"), data.clone()].concat()),
    ];
    for (what, bytes) in archives {
        let (_dir, root) = place();
        plain(&bytes, &root).unwrap_or_else(|e| panic!("{what}: {e:?}"));
        let want = [vec![0; 512], vec![b'x'; 512]].concat();
        assert!(fs::read(root.join("s")).unwrap() == want, "{what}");
    }
}

#[test]
fn the_report_says_what_it_read() {
    let bytes = tar(&[("a/b", File, "text")]);
    let (_dir, root) = place();
    let report = plain(&bytes, &root).unwrap();
    assert_eq!((report.diff_id, report.size, report.entries), (Digest::of(&bytes), bytes.len() as u64, 1));
    assert_eq!(report.implicit, [Path::new("a")]);
    let limit = |limits| unpack(bytes.as_slice(), fs::File::open(&root).unwrap().as_fd(), Flavour::Plain, limits);
    assert!(matches!(limit(Limits { bytes: 3, entries: 9 }), Err(Error::Limit { what: "bytes", .. })));
    assert!(matches!(limit(Limits { bytes: 9, entries: 0 }), Err(Error::Limit { what: "entries", .. })));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2000))]

    /// Any bytes: an answer, in bounded memory, and no panic. Headers are signed so that more than the checksum is met.
    #[test]
    fn random_bytes(
        mut blocks in proptest::collection::vec(proptest::array::uniform32(0_u8..), 1..24),
        kinds in proptest::collection::vec(0_usize..20, 8),
        size in 0_u64..2000,
    ) {
        let mut bytes = Vec::new();
        for (noise, kind) in blocks.iter_mut().zip(kinds.iter().cycle()) {
            let mut header = block("a", b"0123456xgLKSV70x0xS0"[*kind], size);
            let at = usize::from(noise[0]) * 2;
            for (to, from) in header.iter_mut().skip(at).zip(&noise[1..1 + usize::from(noise[1]) % 31]) {
                *to = *from;
            }
            sign(&mut header);
            bytes.extend_from_slice(&header);
            if noise[2] % 2 == 0 {
                bytes.extend_from_slice(&padded(&noise[3..]));
            }
        }
        let mut archive = Archive::new(bytes.as_slice());
        while let Ok(Some(_)) = archive.next_entry() {}
    }
}

/// Somebody exchanges a directory for a link that leads out while files are written below it (CVE-2025-47290).
#[test]
fn a_name_that_changes_meanwhile_leads_nowhere() {
    use hoy_sys::rustix::fs::{CWD, RenameFlags, renameat_with};
    use std::sync::atomic::{AtomicBool, Ordering};

    let (dir, root) = place();
    let names: Vec<String> = (0..100).map(|number| format!("d/{number}")).collect();
    let mut entries = vec![("d", Directory, "755")];
    entries.extend(names.iter().map(|name| (name.as_str(), File, "text")));
    entries.extend([("d/hard", HardLink, "d/0"), ("d", Directory, "777")]);
    let bytes = tar(&entries);
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                renameat_with(CWD, root.join("d"), CWD, root.join("link"), RenameFlags::EXCHANGE).unwrap_or_default();
            }
        });
        for _ in 0..100 {
            // An earlier attempt may have put a directory where the link was.
            for name in ["d", "link"] {
                let path = root.join(name);
                fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path)).unwrap_or_default();
            }
            symlink(dir.path().join("out"), root.join("link")).unwrap_or_default();
            // Whether it succeeds depends on the moment; where it writes does not.
            drop(plain(&bytes, &root));
        }
        is_done.store(true, Ordering::Relaxed);
    });
    unharmed(dir.path());
}

/// Each entry is looked for among all others: many of them must not cost the square of that.
#[test]
fn a_crowd_costs_what_it_is() {
    const MANY: usize = 4_000;
    let (_dir, root) = place();
    let mut entries: Vec<(String, Kind, &str)> = Vec::new();
    let mut crowd = |entry: &dyn Fn(usize) -> (String, Kind)| {
        entries.extend((0..MANY).map(entry).map(|(path, kind)| (path, kind, "")));
    };
    crowd(&|n| (format!("d/{n}"), File));
    crowd(&|n| (format!("e/{n}"), Directory));
    crowd(&|n| (format!(".wh.x{n}"), File));
    crowd(&|n| ("x".to_owned(), if n % 2 == 0 { Directory } else { File }));
    crowd(&|n| (format!("i{n}/f"), File));
    crowd(&|n| (format!("i{n}"), Directory));
    crowd(&|_| ("d/.wh..wh..opq".to_owned(), File));
    let entries: Vec<_> = entries.iter().map(|(path, kind, text)| (path.as_str(), *kind, *text)).collect();
    let archive = tar(&entries);
    // This thread's own work, whatever else the machine does.
    let worked = || clock_gettime(ClockId::ThreadCPUTime).tv_sec;
    let start = worked();
    let report = plain(&archive, &root).unwrap();
    let seconds = worked() - start;
    assert_eq!(report.entries, 7 * MANY as u64);
    assert_eq!(fs::read_dir(root.join("d")).unwrap().count(), MANY);
    assert_eq!(report.implicit, [Path::new("d"), Path::new("e")]);
    assert!(seconds < 12, "it takes {seconds} s");
}

/// What a second opaque marker finds was brought by the layer, unless a link leads elsewhere by then.
#[test]
fn opaque_again_behind_another_link() {
    let (_dir, root) = place();
    for name in ["a", "b"] {
        fs::create_dir(root.join(name)).unwrap();
        fs::write(root.join(name).join("old"), "").unwrap();
    }
    let entries = [
        ("l", Symlink, "a"),
        ("l/.wh..wh..opq", File, ""),
        ("l/new", File, ""),
        ("l/.wh..wh..opq", File, ""),
        ("l", Symlink, "b"),
        ("l/.wh..wh..opq", File, ""),
    ];
    plain(&tar(&entries), &root).unwrap();
    let names = |dir: &str| fs::read_dir(root.join(dir)).unwrap().map(|e| e.unwrap().file_name()).collect::<Vec<_>>();
    assert_eq!((names("a"), names("b")), (vec!["new".into()], vec![]));
}
