//! A torn store: each file in turn emptied, halved, deleted, replaced by other bytes. Every command works on the rest and
//! says what is wrong; what can be mended is mended, and the rest is fetched again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use hoy_tests::{Out, Run, Sandbox, User, busybox_store, is_long, need};
use serde_json::Value;

const IMAGES: [&str; 3] = ["one", "two", "three"];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Deed {
    Empty,
    Halve,
    Delete,
    Replace,
}

const DEEDS: [Deed; 4] = [Deed::Empty, Deed::Halve, Deed::Delete, Deed::Replace];

/// A store with three images, the third on top of the second, and the container `kept` of the first; and what is in it.
struct Torn {
    sandbox: Sandbox,
    /// The images that need a file below ROOT.
    users: BTreeMap<PathBuf, BTreeSet<&'static str>>,
}

fn image(layout: &Path, from: &str, name: &str, files: &[(&str, &str)]) {
    let temporary = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = temporary.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match text.strip_prefix("copy of ") {
            Some(original) => drop(fs::copy(original, &path).unwrap()),
            None => fs::write(&path, text).unwrap(),
        }
    }
    let place = |name: &str| format!("{}:{name}", layout.display());
    match from {
        "" => Run::new("umoci").args(["new", "--image", &place(name)]).ok(),
        from => Run::new("umoci").args(["tag", "--image", &place(from), name]).ok(),
    };
    for directory in fs::read_dir(temporary.path()).unwrap().flatten() {
        let at = format!("/{}", directory.file_name().to_str().unwrap());
        Run::new("umoci").args(["insert", "--rootless", "--image", &place(name)]).arg(directory.path()).arg(at).ok();
    }
}

impl Torn {
    fn new(user: User) -> Option<Self> {
        if !user.available() || !need(&["umoci", "busybox"]) {
            return None;
        }
        let sandbox = Sandbox::for_user(user);
        let layout = sandbox.path("layout");
        Run::new("umoci").args(["init", "--layout"]).arg(&layout).ok();
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists()).unwrap();
        let busybox = format!("copy of {busybox}");
        image(&layout, "", "one", &[("bin/sh", busybox.as_str())]);
        image(&layout, "", "two", &[("bin/sh", busybox.as_str()), ("bin/two", "two")]);
        image(&layout, "two", "three", &[("opt/three", "three")]);
        Run::new("chmod").args(["-R", "a+rX"]).arg(&layout).ok();
        for name in IMAGES {
            sandbox.ok("hoy-copy", &["copy", &format!("oci:{}:{name}", layout.display()), &format!("store:{name}")]);
        }
        let id = sandbox.ok("hoy-storage", &["create", "--name", "kept", "one"]);
        let root = sandbox.ok("hoy-storage", &["mount", &id]);
        sandbox.run("sh").args(["-c", "echo mine >\"$0/file\"", &root]).ok();
        for name in ["two", "three"] {
            let id = sandbox.ok("hoy-storage", &["create", name]);
            sandbox.ok("hoy-storage", &["rm", &id]);
        }
        // The index before its last change has all names.
        sandbox.ok("hoy-storage", &["tag", "one", "last"]);
        sandbox.ok("hoy-storage", &["check", "--deep"]);
        sandbox.quiet();
        Run::new("cp").arg("-a").arg(sandbox.path("root")).arg(sandbox.path("golden")).ok();
        let users = users(&sandbox);
        Some(Self { sandbox, users })
    }

    fn storage(&self, args: &[&str]) -> Out {
        let out = self.sandbox.run("hoy-storage").args(args).output();
        assert!(out.status != 101 && !out.stderr.contains("panicked"), "{args:?}: {}", out.stderr);
        out
    }

    fn reset(&self) {
        self.sandbox.quiet();
        let script = "rm -rf \"$0\" && cp -a \"$1\" \"$0\"";
        Run::new("sh").args(["-c", script]).arg(self.sandbox.path("root")).arg(self.sandbox.path("golden")).ok();
    }

    /// Every file of the store that has something in it, by its path below ROOT.
    fn files(&self) -> Vec<PathBuf> {
        let golden = self.sandbox.path("golden");
        let list = Run::new("find").arg(&golden).args(["-type", "f", "-size", "+0", "-printf", "%P\\n"]).ok();
        let mut files: Vec<PathBuf> = list.lines().map(PathBuf::from).collect();
        files.sort();
        files
    }

    /// Damages a file without changing its owner or mode.
    fn tear(&self, file: &Path, deed: Deed) {
        let path = self.sandbox.path("root").join(file);
        let bytes = fs::read(&path).unwrap();
        // What overwrites a file in place leaves its other names.
        let write = |bytes: &[u8]| fs::write(&path, bytes).unwrap();
        match deed {
            Deed::Empty => write(b""),
            Deed::Halve => write(&bytes[..bytes.len() / 2]),
            Deed::Delete => fs::remove_file(&path).unwrap(),
            Deed::Replace => {
                write(&bytes.iter().zip(1_u32..).map(|(b, at)| b ^ (at * 7 + 1) as u8).collect::<Vec<_>>())
            }
        }
    }
}

/// Which images need a blob or an unpacked layer, read from the documents themselves.
fn users(sandbox: &Sandbox) -> BTreeMap<PathBuf, BTreeSet<&'static str>> {
    let root = sandbox.path("golden");
    let json = |path: PathBuf| -> Value { serde_json::from_slice(&fs::read(root.join(path)).unwrap()).unwrap() };
    let hex = |digest: &Value| digest.as_str().unwrap().strip_prefix("sha256:").unwrap().to_owned();
    let blob = |digest: &Value| Path::new("blobs/sha256").join(hex(digest));
    let index = json("index.json".into());
    let mut users: BTreeMap<PathBuf, BTreeSet<&'static str>> = BTreeMap::new();
    for name in IMAGES {
        let full = format!("localhost/{name}:latest");
        let is_it = |entry: &&Value| entry["annotations"]["org.opencontainers.image.ref.name"] == full.as_str();
        let entry = index["manifests"].as_array().unwrap().iter().find(is_it).unwrap();
        let manifest = json(blob(&entry["digest"]));
        let config = json(blob(&manifest["config"]["digest"]));
        let mut needed = vec![blob(&entry["digest"]), blob(&manifest["config"]["digest"])];
        needed.extend(manifest["layers"].as_array().unwrap().iter().map(|layer| blob(&layer["digest"])));
        let diff_ids = config["rootfs"]["diff_ids"].as_array().unwrap();
        needed.extend(diff_ids.iter().map(|id| Path::new("layers").join(hex(id))));
        for path in needed {
            users.entry(path).or_default().insert(name);
        }
    }
    users
}

/// What is expected of a torn file.
#[derive(Debug, PartialEq)]
enum Kind {
    /// Nothing depends on it, or nobody can know what was in it.
    Nothing,
    /// It is mended as soon as somebody looks.
    Marker,
    Index,
    OldIndex,
    Blob,
    LayerRecord,
    LayerFile,
    Record,
    Copy,
}

fn kind(file: &Path, deed: Deed) -> Kind {
    let parts: Vec<&str> = file.iter().map(|part| part.to_str().unwrap()).collect();
    match parts.as_slice() {
        ["oci-layout"] => Kind::Marker,
        ["index.json"] => Kind::Index,
        ["index.json.old"] if deed != Deed::Delete => Kind::OldIndex,
        ["blobs", "sha256", _] => Kind::Blob,
        ["layers", name] if name.ends_with(".json") => Kind::LayerRecord,
        ["layers", _, ..] => Kind::LayerFile,
        ["containers", _, "storage.json"] => Kind::Record,
        ["containers", _, ".storage.json"] if deed != Deed::Delete => Kind::Copy,
        _ => Kind::Nothing,
    }
}

/// What a file stands for among [`Torn::users`].
fn owner(file: &Path) -> PathBuf {
    match file.starts_with("layers") {
        true => file.iter().take(2).collect::<PathBuf>().with_extension(""),
        false => file.to_owned(),
    }
}

impl Torn {
    fn case(&self, file: &Path, deed: Deed) -> Result<(), String> {
        let nobody = BTreeSet::new();
        let touched = self.users.get(&owner(file)).unwrap_or(&nobody);
        let kind = kind(file, deed);
        let path = self.sandbox.path("root").join(file);
        let named = path.to_str().unwrap();
        let hex = file.file_name().unwrap().to_str().unwrap();
        let says = |out: &Out| out.stderr.contains(named) || kind == Kind::Blob && out.stderr.contains(hex);
        let fine = |args: &[&str]| match self.storage(args) {
            out if out.status == 0 => Ok(out),
            out => Err(format!("{args:?} ended with {}: {}", out.status, out.stderr)),
        };
        let fine_or_says = |args: &[&str]| match self.storage(args) {
            out if out.status == 0 || out.status == 1 && says(&out) => Ok(out),
            out => Err(format!("{args:?} ended with {} and names no file: {}", out.status, out.stderr)),
        };
        self.reset();
        self.tear(file, deed);
        // The marker is written anew at once.
        let first = fine(&["containers"])?;
        if kind == Kind::Marker && !says(&first) {
            return Err(format!("is mended in silence: {}", first.stderr));
        }
        if !first.stdout.contains("kept") {
            return Err(format!("the container is gone: {}", first.stdout));
        }
        let images = fine(&["images"])?;
        for name in IMAGES {
            if !images.stdout.contains(&format!("localhost/{name} ")) {
                return Err(format!("{name} is not listed: {}", images.stdout));
            }
        }
        if kind == Kind::Index && !says(&images) {
            return Err(format!("images says nothing of a damaged index: {}", images.stderr));
        }
        self.is_found(file, &kind, touched, &path)?;
        for name in IMAGES {
            let is_touched = touched.contains(name);
            for args in
                [&["tree", name][..], &["history", name], &["tag", name, "new"], &["rmi", "new"], &["create", name]]
            {
                let out = if is_touched { fine_or_says(args)? } else { fine(args)? };
                if args[0] == "create" && out.status == 0 {
                    fine(&["rm", out.stdout.trim()])?;
                }
            }
        }
        let root = self.storage(&["mount", "kept"]);
        let is_readable =
            || self.sandbox.run("cat").arg(format!("{}/file", root.stdout.trim())).output().stdout == "mine\n";
        if root.status != 0 || !file.ends_with("upper/file") && !is_readable() {
            return Err(format!("the container's files are lost: {}", root.stderr));
        }
        fine(&["umount", "kept"])?;
        fine_or_says(&["prune", "--force"])?;
        let other = IMAGES.iter().find(|name| !touched.contains(*name)).unwrap();
        let run = self.sandbox.run("hoy").args(["run", "--rm", other, "/bin/sh", "-c", "echo it runs"]).output();
        if (run.status, run.stdout.as_str()) != (0, "it runs\n") {
            return Err(format!("{other} does not run: {}", run.stderr));
        }
        fine_or_says(&["rmi", "two"])?;
        fine(&["df"])?;
        self.is_mended(&kind, touched)
    }

    /// `check` names the file and exactly the images that it touches, and changes nothing.
    fn is_found(&self, file: &Path, kind: &Kind, touched: &BTreeSet<&str>, path: &Path) -> Result<(), String> {
        let out = self.storage(&["check", "--deep", "--json"]);
        let found: Vec<Value> = serde_json::from_str(&out.stdout).map_err(|e| format!("check: {e}: {}", out.stderr))?;
        let is_missing_record = *kind == Kind::LayerRecord && !path.exists();
        let is_quiet = matches!(kind, Kind::Nothing | Kind::Marker);
        let code = i32::from(!is_quiet && !is_missing_record);
        if out.status != code {
            return Err(format!("check ended with {}, wanted {code}: {}", out.status, out.stdout));
        }
        if is_quiet {
            return if found.is_empty() { Ok(()) } else { Err(format!("check says {found:?}")) };
        }
        let damage = found.iter().find(|damage| Path::new(damage["Path"].as_str().unwrap()) == path);
        let Some(damage) = damage else { return Err(format!("check does not name {}: {found:?}", file.display())) };
        let names: BTreeSet<String> =
            damage["Images"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect();
        let full = |name: &&str| format!("localhost/{name}:latest");
        let mut wanted: BTreeSet<String> = touched.iter().map(full).collect();
        if touched.contains("one") {
            wanted.insert(full(&"last"));
        }
        if names != wanted {
            return Err(format!("check says that it touches {names:?}, wanted {wanted:?}"));
        }
        let has_container = damage["Containers"].as_array().unwrap().iter().any(|name| name == "kept");
        let is_its = touched.contains("one") || matches!(kind, Kind::Record | Kind::Copy);
        match has_container == is_its {
            true => Ok(()),
            false => Err(format!("check is wrong about the container: {damage}")),
        }
    }

    /// `check --repair` mends it, or says what must be fetched again, and then that mends it.
    fn is_mended(&self, kind: &Kind, touched: &BTreeSet<&str>) -> Result<(), String> {
        let repaired = self.storage(&["check", "--deep", "--repair"]);
        // Prune, or whoever needed it, may have mended it before.
        if *kind == Kind::Blob && repaired.status != 0 {
            if !repaired.stderr.contains("fetch blob sha256:") {
                return Err(format!("check does not say what to fetch: {}", repaired.stderr));
            }
            for name in touched {
                let from = format!("oci:{}:{name}", self.sandbox.path("layout").display());
                self.sandbox.ok("hoy-copy", &["copy", &from, &format!("store:{name}")]);
            }
        } else if repaired.status != 0 {
            return Err(format!("check --repair ended with {}: {}", repaired.status, repaired.stderr));
        }
        let clean = self.storage(&["check", "--deep"]);
        match clean.status == 0 && clean.stderr.is_empty() {
            true => Ok(()),
            false => Err(format!("still damaged: {}", clean.stderr)),
        }
    }
}

fn every_file(user: User) {
    let Some(torn) = Torn::new(user) else { return };
    let mut faults = Vec::new();
    let mut count = 0;
    for (number, file) in torn.files().iter().enumerate() {
        for (which, deed) in DEEDS.into_iter().enumerate() {
            if !is_long() && which != number % DEEDS.len() {
                continue;
            }
            count += 1;
            if let Err(fault) = torn.case(file, deed) {
                faults.push(format!("{deed:?} {}: {fault}", file.display()));
            }
        }
    }
    eprintln!("{count} cases");
    assert!(faults.is_empty(), "{} of {count} cases: {faults:#?}", faults.len());
}

#[test]
fn each_file_root() {
    every_file(User::Root);
}

#[test]
fn each_file_subordinate_ids() {
    if is_long() {
        every_file(User::Sub);
    }
}

/// The old index is another file than the index: what tears one in place leaves the other.
#[test]
fn the_old_index_is_a_file_of_its_own() {
    let Some(torn) = Torn::new(User::Root) else { return };
    let inode = |name: &str| fs::metadata(torn.sandbox.path("root").join(name)).unwrap().ino();
    assert_ne!(inode("index.json"), inode("index.json.old"));
}

#[test]
fn a_working_container_without_its_record_hides_no_other() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let ids = ["torn", "whole"].map(|name| {
        sandbox.ok("hoy-build", &["from", "--name", name, "busybox"]);
        sandbox.ok("hoy-build", &["inspect", "--format", "{{.ContainerID}}", name])
    });
    fs::write(sandbox.path("root/containers").join(&ids[0]).join("build.json"), "{").unwrap();
    let out = sandbox.run("hoy-build").arg("containers").output();
    assert_eq!(out.status, 0, "{}", out.stderr);
    assert!(out.stdout.contains("whole") && !out.stdout.contains("torn"), "{}", out.stdout);
    assert!(out.stderr.contains("build.json") && out.stderr.contains("hoy-storage check"), "{}", out.stderr);
    sandbox.ok("hoy-build", &["rm", "torn"]);
}

/// A command that goes on with what is left of the index says so, whichever program it is of, and says it once.
#[test]
fn each_program_tells_of_a_damaged_index() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let id = sandbox.ok("hoy-build", &["from", "busybox"]);
    // The index before this knows the image too.
    sandbox.ok("hoy-storage", &["tag", "busybox", "again"]);
    let layout = format!("oci:{}:copied", sandbox.path("layout").display());
    let commands = [
        ("hoy-storage", vec!["images"]),
        ("hoy-copy", vec!["copy", "-q", "store:busybox", &layout]),
        ("hoy-build", vec!["commit", "-q", &id, "made"]),
        ("hoy", vec!["inspect", "busybox"]),
    ];
    for (program, args) in commands {
        fs::write(sandbox.path("root/index.json"), "{").unwrap();
        let out = sandbox.run(program).args(&args).output();
        let said: Vec<&str> = out.stderr.lines().filter(|line| line.starts_with(&format!("{program}: "))).collect();
        let is_told =
            said.len() == 1 && said[0].contains("index.json\" is damaged") && said[0].contains("storage check");
        assert!(is_told, "{program} {args:?}: {out:?}");
    }
}

/// A layer whose record is lost is looked at again, and not replaced below a container that runs on it.
#[test]
fn a_layer_that_lost_its_record_stays_below_its_containers() {
    for deed in [Deed::Halve, Deed::Delete] {
        let Some(sandbox) = busybox_store(User::Root) else { return };
        let id = sandbox.ok("hoy-storage", &["create", "busybox"]);
        let mounted = PathBuf::from(sandbox.ok("hoy-storage", &["mount", &id]));
        let layers: Vec<PathBuf> =
            fs::read_dir(sandbox.path("root/layers")).unwrap().map(|entry| entry.unwrap().path()).collect();
        let layer = layers.iter().find(|path| path.is_dir()).unwrap();
        let inode = fs::metadata(layer).unwrap().ino();
        let record = layer.with_extension("json");
        match deed {
            Deed::Delete => fs::remove_file(&record).unwrap(),
            _ => fs::write(&record, "{").unwrap(),
        }
        sandbox.ok("hoy-storage", &["create", "busybox"]);
        assert_eq!(fs::metadata(layer).unwrap().ino(), inode, "it was unpacked again");
        assert!(mounted.join("bin/busybox").exists());
        // One that is not the same any more is unpacked again, when nothing tells that it was whole.
        fs::remove_file(layer.join("etc/passwd")).unwrap();
        fs::write(&record, "{").unwrap();
        sandbox.ok("hoy-storage", &["create", "busybox"]);
        assert!(layer.join("etc/passwd").exists() && record.exists());
        sandbox.ok("hoy-storage", &["check", "--deep"]);
    }
}
