//! `hoy-build sbom`: what it lists is what the package managers themselves list, and it is the same whoever asks.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use hoy_tests::{Run, Sandbox, User, need, skip};
use serde_json::Value;

/// An image `it` of a tree that `fill` makes.
fn image_of(user: User, fill: impl FnOnce(&Path)) -> Option<Sandbox> {
    if !user.available() {
        return None;
    }
    let sandbox = Sandbox::for_user(user);
    let tree = sandbox.path("work/tree");
    fs::create_dir_all(&tree).unwrap();
    fill(&tree);
    fs::write(sandbox.path("work/Containerfile"), "FROM scratch\nCOPY tree /\n").unwrap();
    Run::new("chmod").args(["-R", "a+rX"]).arg(sandbox.path("work")).ok();
    sandbox.ok("hoy-build", &["build", "-q", "-t", "it", "."]);
    Some(sandbox)
}

/// The package URLs of a list in SPDX's form that begin so.
fn purls(text: &str, start: &str) -> BTreeSet<String> {
    let list: Value = serde_json::from_str(text).unwrap();
    let packages = list["packages"].as_array().unwrap().iter();
    let purls = packages.map(|package| package["externalRefs"][0]["referenceLocator"].as_str().unwrap());
    purls.filter(|purl| purl.starts_with(start)).map(str::to_owned).collect()
}

/// Lines of a program's answer, each made a package URL of its two words.
fn named(answer: &str, purl: impl Fn(&str, &str) -> String) -> BTreeSet<String> {
    let words = answer.lines().filter_map(|line| line.split_once(' '));
    words.map(|(name, version)| purl(name, version)).collect()
}

#[test]
fn debian_and_python_as_they_say_themselves() {
    if !need(&["dpkg-query", "python3"]) {
        return;
    }
    let packages = "/usr/lib/python3/dist-packages";
    let image = |user| {
        image_of(user, |tree| {
            let script = format!(
                "mkdir -p var/lib/dpkg usr/lib/python3 etc && cp /var/lib/dpkg/status var/lib/dpkg && cp /etc/os-release etc && \
                 for d in {packages}/*.dist-info {packages}/*.egg-info; do \
                 [ ! -e $d ] || (mkdir -p .$(dirname $d) && cp -a $d ./$d); done"
            );
            Run::new("sh").args(["-ec", &script]).dir(tree).ok();
        })
    };
    let Some(sandbox) = image(User::Root) else { return };
    let text = sandbox.ok("hoy-build", &["sbom", "it"]);
    let answer = Run::new("dpkg-query").args(["-W", "-f", "${db:Status-Abbrev}${Package} ${Version}\\n"]).ok();
    let installed: String = answer.lines().filter_map(|l| l.strip_prefix("ii ")).map(|l| format!("{l}\n")).collect();
    let short = |purl: &str| purl.split('?').next().unwrap().to_owned();
    let found: BTreeSet<_> = purls(&text, "pkg:deb/").iter().map(|purl| short(purl)).collect();
    let escaped = |text: &str| text.replace('+', "%2B");
    let want = named(&installed, |name, version| format!("pkg:deb/debian/{}@{}", escaped(name), escaped(version)));
    assert!(want.len() > 100 && found == want, "{found:?}\n{want:?}");
    let script = "import importlib.metadata as m, sys\n\
                  for d in m.distributions(path=[sys.argv[1]]): print(d.metadata['Name'], d.version)";
    let answer = Run::new("python3").args(["-c", script, packages]).ok();
    let want = named(&answer, |name, version| {
        format!("pkg:pypi/{}@{}", name.to_lowercase().replace('_', "-"), escaped(version))
    });
    assert_eq!(purls(&text, "pkg:pypi/"), want);
    // Nothing of this machine, and the same again, from elsewhere too and for another user.
    assert!(!text.contains(sandbox.path("").to_str().unwrap()), "{text}");
    let again = |args: &[&str]| sandbox.ok("hoy-build", &[&["sbom"], args].concat());
    assert_eq!(again(&["store:localhost/it:latest"]), text);
    let layout = format!("oci:{}:it", sandbox.path("work/layout").display());
    sandbox.ok("hoy-copy", &["copy", "-q", "store:it", &layout]);
    assert_eq!(purls(&again(&[&layout]), "pkg:deb/"), purls(&text, "pkg:deb/"));
    assert!(!again(&[&layout]).contains("work/layout"));
    for user in [User::Sub, User::One] {
        let Some(other) = image(user) else { continue };
        assert_eq!(other.ok("hoy-build", &["sbom", "it"]), text, "{user:?}");
    }
}

#[test]
fn rpm_as_it_says_itself() {
    if !need(&["rpm", "rpmbuild"]) {
        return;
    }
    let count = 40;
    let script = format!(
        "top=$(mktemp -d); trap 'rm -rf $top' EXIT; mkdir -p var/lib/rpm etc; printf 'ID=fedora\\nVERSION_ID=40\\n' >etc/os-release\n\
         for n in $(seq {count}); do printf '%s\\n' \"Name: hello$n\" 'Epoch: 2' 'Version: 1.5' \"Release: $n\" 'Summary: x' 'License: MIT' \
         'BuildArch: noarch' '%description' \"$(head -c 6000 /dev/zero | tr '\\0' x)\" '%files' >$top/x.spec\n\
         HOME=$top rpmbuild -D \"_topdir $top\" --quiet -bb $top/x.spec; done\n\
         rpm --root \"$PWD\" --dbpath /var/lib/rpm --nodeps -i $top/RPMS/noarch/*.rpm\n\
         rpm --root \"$PWD\" --dbpath /var/lib/rpm -qa --qf '%{{NAME}} %{{VERSION}}-%{{RELEASE}}\\n' >answer; rm -f var/lib/rpm/*-shm"
    );
    let mut answer = String::new();
    let sandbox = image_of(User::Root, |tree| {
        Run::new("sh").args(["-ec", &script]).dir(tree).output();
        answer = fs::read_to_string(tree.join("answer")).unwrap_or_default();
    });
    let Some(sandbox) = sandbox else { return };
    if answer.lines().count() != count {
        return skip("rpm installs no packages here");
    }
    let want = named(&answer, |name, version| format!("pkg:rpm/fedora/{name}@{version}?arch=noarch&distro=fedora-40"));
    let found = purls(&sandbox.ok("hoy-build", &["sbom", "it"]), "pkg:rpm/");
    let found: BTreeSet<_> = found.iter().map(|purl| purl.split("&epoch=2").next().unwrap().to_owned()).collect();
    assert_eq!(found, want);
}

/// A list is kept beside its image, once however often it is made, and comes back as it was.
#[test]
fn kept_beside_the_image() {
    for user in [User::Root, User::Sub, User::One] {
        let fill = |tree: &Path| {
            let module = tree.join("app/node_modules/@a/b");
            fs::create_dir_all(&module).unwrap();
            fs::write(module.join("package.json"), r#"{"name":"@a/b","version":"1.0.0","license":"MIT"}"#).unwrap();
        };
        let Some(sandbox) = image_of(user, fill) else { continue };
        let attach = || sandbox.ok("hoy-build", &["sbom", "--format", "cyclonedx-json", "--attach", "it"]);
        let digest = attach();
        assert_eq!(attach(), digest);
        let found = sandbox.ok("hoy-copy", &["discover", "store:localhost/it:latest"]);
        assert!(found.contains(&digest) && found.contains("application/vnd.cyclonedx+json"), "{found}");
        let file = sandbox.path("work/list.json").display().to_string();
        sandbox.ok("hoy-build", &["sbom", "--format=cyclonedx-json", "--output", &file, "it"]);
        sandbox.ok("hoy-copy", &["pull", &format!("store:localhost/it@{digest}"), "-o", "pulled"]);
        assert_eq!(fs::read(sandbox.path("work/pulled/sbom.cdx.json")).unwrap(), fs::read(&file).unwrap());
        let list: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        assert_eq!(list["components"][0]["purl"], "pkg:npm/%40a/b@1.0.0");
        assert_eq!(list["components"][0]["licenses"][0]["license"]["name"], "MIT");
        assert_eq!(list["metadata"]["component"]["name"], "localhost/it:latest");
    }
}

/// What cannot be read is told, and is in the list.
#[test]
fn damage_is_named() {
    let fill = |tree: &Path| {
        for (path, text) in [("var/lib/rpm/rpmdb.sqlite", "x"), ("a/node_modules/b/package.json", "{")] {
            fs::create_dir_all(tree.join(path).parent().unwrap()).unwrap();
            fs::write(tree.join(path), text).unwrap();
        }
    };
    let Some(sandbox) = image_of(User::Root, fill) else { return };
    let says = [
        "\"/var/lib/rpm/rpmdb.sqlite\" is not read: the database is damaged",
        "package.json\" is not read: it is no package's JSON",
    ];
    let text = sandbox.run("hoy-build").args(["sbom", "it", "-o", "list"]).fails(0, &says);
    assert_eq!(text.lines().count(), 2, "{text}");
    let list = fs::read_to_string(sandbox.path("work/list")).unwrap();
    assert!(list.contains("not read: /a/node_modules/b/package.json: it is no package's JSON"), "{list}");
    sandbox.run("hoy-build").args(["sbom", "none"]).fails(125, &["none"]);
    sandbox.run("hoy-build").args(["sbom", "--format", "xml", "it"]).fails(125, &["spdx-json, cyclonedx-json"]);
}

/// `--sbom` of build and commit: the list on disk is that in the image, one for every user, and files of commit are there.
#[test]
fn written_while_the_image_is_made() {
    let fill = |tree: &Path| {
        let module = tree.join("app/node_modules/b");
        fs::create_dir_all(&module).unwrap();
        fs::write(module.join("package.json"), r#"{"name":"b","version":"1.0.0"}"#).unwrap();
        std::os::unix::fs::symlink("app", tree.join("link")).unwrap();
    };
    let mut made = BTreeSet::new();
    for user in [User::Root, User::Sub, User::One] {
        let Some(sandbox) = image_of(user, fill) else { continue };
        let lists = ["--sbom=syft-spdx", "--sbom-output=list", "--sbom-purl-output=purls"];
        let inside = ["--sbom-image-output=/info/list", "--sbom-image-purl-output", "/link/purls"];
        let id = sandbox.ok("hoy-build", &[&["build", "-q", "-t", "a"], &lists[..], &inside, &["."]].concat());
        let again = sandbox.ok("hoy-build", &[&["build", "-q", "-t", "a"], &lists[..], &inside, &["."]].concat());
        assert_eq!(id, again);
        sandbox.ok("hoy-storage", &["unpack", "a", "out"]);
        let read = |path: &str| fs::read_to_string(sandbox.path("work").join(path)).unwrap();
        assert_eq!(purls(&read("list"), "pkg:npm").into_iter().collect::<Vec<_>>(), ["pkg:npm/b@1.0.0"]);
        assert_eq!(read("purls"), "{\"image_contents\":{\"dependencies\":[\"pkg:npm/b@1.0.0\"]}}\n");
        assert_eq!((read("out/info/list"), read("out/app/purls")), (read("list"), read("purls")));
        let images = sandbox.ok("hoy-build", &["images", "--noheading"]);
        assert_eq!(images.lines().count(), 2, "only what was asked for stays: {images}");
        let container = sandbox.ok("hoy-build", &["from", "it"]);
        let trivy = ["--sbom", "trivy", "--sbom-merge-strategy=cat", "--sbom-image-output", "/list"];
        let file = ["--add-file", "Containerfile:/link/new/file"];
        sandbox.ok("hoy-build", &[&["commit", "-q"], &trivy[..], &file, &[&container, "b"]].concat());
        sandbox.ok("hoy-storage", &["unpack", "b", "both"]);
        assert!(read("both/list").contains("CycloneDX"));
        assert_eq!(read("both/app/new/file"), read("Containerfile"));
        let config = sandbox.ok("hoy-copy", &["inspect", "--config", "--raw", "store:b"]);
        assert!(config.contains("in /link/new/file /list"), "{config}");
        let digest = |name: &str| sandbox.ok("hoy-copy", &["digest", &format!("store:{name}")]);
        made.insert([digest("a"), digest("b")]);
        for (args, says) in [
            (vec!["--sbom", "syft"], "goes nowhere"),
            (vec!["--sbom", "other"], "syft-spdx"),
            (vec!["--sbom-output", "x"], "--sbom"),
            (vec!["--sbom-scanner-image", "x"], "no image of a scanner is run"),
            (vec!["--squash", "--add-file", "Containerfile:/x"], "--squash"),
            (vec!["--add-file", "none"], "none"),
            (vec!["--add-file", "Containerfile:/x/"], "SOURCE[:PATH]"),
            (vec!["--add-file", "tree:/x"], "no file"),
            (vec!["--add-file", "Containerfile:/app"], "is a directory"),
        ] {
            sandbox.run("hoy-build").arg("commit").args(&args).args([container.as_str(), "c"]).fails(125, &[says]);
        }
        assert_eq!(sandbox.ok("hoy-build", &["images", "--noheading"]).lines().count(), 3, "nothing half done stays");
    }
    assert!(made.len() <= 1, "one image for every user: {made:?}");
}
