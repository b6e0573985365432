//! The rules of the house, held against the tree itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hoy_tests::{Run, workspace};
use serde_json::Value;

/// Who may use whom (ARCHITECTURE.md "The rooms"): a crate, and what stands above it that it may link.
const EDGES: &[(&str, &str)] = &[
    ("hoy-sys", ""),
    ("hoy-oci", ""),
    ("hoy-layout", "hoy-sys hoy-oci"),
    ("hoy-layer", "hoy-sys hoy-oci"),
    ("hoy-registry", "hoy-oci"),
    ("hoy-serve", "hoy-layout hoy-oci hoy-sys"),
    ("hoy-trust", "hoy-oci hoy-sys"),
    ("hoy-crypt", "hoy-oci"),
    ("hoy-transport", "hoy-registry hoy-crypt hoy-layout hoy-layer hoy-oci hoy-sys"),
    ("hoy-storage", "hoy-layout hoy-layer hoy-oci hoy-sys"),
    ("hoy-cgroup", "hoy-sys"),
    ("hoy-seccomp", ""),
    ("hoy-runtime", "hoy-sys hoy-cgroup hoy-seccomp"),
    ("hoy-spec", "hoy-oci hoy-sys"),
    ("hoy-containerfile", ""),
    ("hoy-paper", "hoy-layer hoy-layout hoy-spec hoy-sys"),
    ("hoy-build", "hoy-layout hoy-layer hoy-containerfile hoy-paper hoy-sbom hoy-spec hoy-oci hoy-sys"),
    ("hoy-engine", "hoy-layout hoy-paper hoy-spec hoy-oci hoy-sys"),
    ("hoy-sbom", "hoy-layer hoy-oci"),
    ("hoy-cli", "hoy-sys"),
];

/// What each program may link beside `hoy-cli`, `hoy-oci`, `hoy-sys` and `hoy-layout`: its own rooms, never another's.
const PROGRAMS: &[(&str, &str)] = &[
    ("hoy-copy", "hoy-transport hoy-registry hoy-serve hoy-trust hoy-crypt"),
    ("hoy-storage", "hoy-storage hoy-containerfile"),
    ("hoy-spec", "hoy-spec"),
    ("hoy-runtime", "hoy-runtime"),
    ("hoy-build", "hoy-build hoy-containerfile hoy-spec hoy-sbom"),
    ("hoy", "hoy-engine hoy-spec"),
];

fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let out = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(workspace())
        .output()
        .expect("run cargo metadata");
    serde_json::from_slice(&out.stdout).expect("cargo metadata prints JSON")
}

/// Package → the workspace's packages it links, as cargo sees them; programs under the name of their binary.
fn links() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    let name_of = |package: &Value| {
        let targets = package["targets"].as_array().expect("targets");
        let binary = targets.iter().find(|t| t["kind"][0] == "bin" && package["name"] != "hoy-tests");
        let library = targets.iter().any(|t| t["kind"][0] == "lib");
        match binary {
            Some(binary) if !library => format!("program {}", binary["name"].as_str().expect("a name")),
            _ => package["name"].as_str().expect("a name").to_owned(),
        }
    };
    let own: BTreeSet<&str> = packages.iter().filter_map(|p| p["name"].as_str()).collect();
    let dependencies = |package: &Value| {
        let all = package["dependencies"].as_array().expect("dependencies");
        let linked = all.iter().filter(|d| d["kind"].is_null()).filter_map(|d| d["name"].as_str());
        linked.filter(|name| own.contains(name)).map(str::to_owned).collect()
    };
    packages.iter().map(|package| (name_of(package), dependencies(package))).collect()
}

#[test]
fn every_edge_is_drawn() {
    for (name, linked) in links() {
        let allowed: BTreeSet<String> = match name.strip_prefix("program ") {
            Some(program) => {
                let (_, own) =
                    PROGRAMS.iter().find(|(n, _)| *n == program).unwrap_or_else(|| panic!("{name} is not drawn"));
                let common = ["hoy-cli", "hoy-oci", "hoy-sys", "hoy-layout"];
                common.into_iter().chain(own.split_whitespace()).map(str::to_owned).collect()
            }
            None if name == "hoy-tests" => continue,
            None => {
                let (_, above) =
                    EDGES.iter().find(|(n, _)| *n == name).unwrap_or_else(|| panic!("{name} is not drawn"));
                above.split_whitespace().map(str::to_owned).collect()
            }
        };
        let wrong: Vec<&String> = linked.difference(&allowed).collect();
        assert!(wrong.is_empty(), "{name} links {wrong:?}, which the design does not draw");
    }
}

#[test]
fn every_drawn_program_exists() {
    let links = links();
    for (program, _) in PROGRAMS {
        assert!(links.contains_key(&format!("program {program}")), "{program} is drawn and not there");
    }
}

/// All files below `dir` with this extension, `target` left out.
fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("read a directory").flatten() {
        let path = entry.path();
        if path.is_dir() && entry.file_name() != "target" {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found
}

fn sources() -> impl Iterator<Item = (PathBuf, String)> {
    let dirs = ["crates", "bins", "tests"].map(|dir| workspace().join(dir));
    dirs.into_iter().flat_map(|dir| files(&dir, "rs")).map(|path| {
        let text = fs::read_to_string(&path).expect("read a source");
        (path, text)
    })
}

#[test]
fn files_are_short() {
    let mut long = Vec::new();
    for (path, text) in sources() {
        let limit = if path.ends_with("src/main.rs") { 60 } else { 800 };
        let lines = text.lines().count();
        if lines > limit {
            long.push(format!("{}: {lines} lines, limit {limit}", path.display()));
        }
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn each_crate_says_its_duty_and_its_limit() {
    for crate_dir in fs::read_dir(workspace().join("crates")).expect("read crates").flatten() {
        let path = crate_dir.path().join("src/lib.rs");
        let text = fs::read_to_string(&path).expect("read lib.rs");
        let doc: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
        let says_limit = ["never", "nothing", "no ", "Nothing"].iter().any(|word| doc.contains(word));
        assert!(
            doc.len() > 60 && says_limit,
            "{}: one sentence for what it is, one for what it never does",
            path.display()
        );
    }
}

#[test]
fn few_packages() {
    let lock = fs::read_to_string(workspace().join("Cargo.lock")).expect("read Cargo.lock");
    let count = lock.lines().filter(|line| *line == "[[package]]").count();
    // Some forty of them are the keys that layers are encrypted for: RSA and three curves, in Rust.
    assert!(count < 240, "{count} packages");
}

/// The options and commands that an mdoc page names: the words of `Fl`, and of `Cm`, `Ic`, `Nm` and `Ar`. In mdoc(7) a macro
/// holds until the next one, or the end of its line: `.Fl b , -bundle Ar dir` names -b and --bundle.
fn named_in(page: &str) -> (BTreeSet<&str>, BTreeSet<&str>) {
    let (mut flags, mut commands) = (BTreeSet::new(), BTreeSet::new());
    for line in page.lines().filter_map(|line| line.strip_prefix('.')) {
        let mut macro_name = "";
        for word in line.split_whitespace().map(|word| word.trim_end_matches([',', ';'])) {
            let is_macro = word.len() == 2 && word.starts_with(|c: char| c.is_ascii_uppercase());
            match macro_name {
                _ if is_macro => macro_name = word,
                "Fl" => drop(flags.insert(word.split('=').next().unwrap_or(word))),
                "Cm" | "Ic" | "Nm" | "Ar" => drop(commands.insert(word)),
                _ => {}
            }
        }
    }
    (flags, commands)
}

#[test]
fn each_page_has_each_option() {
    for (program, _) in PROGRAMS {
        let page = fs::read_to_string(workspace().join(format!("man/{program}.1")))
            .unwrap_or_else(|e| panic!("{program}.1: {e}"));
        let (flags, commands) = named_in(&page);
        let mut missing = BTreeSet::new();
        for line in Run::new(program).arg("--describe").ok().lines() {
            let Some((_, word)) = line.rsplit_once(' ') else { continue };
            let is_there = word.strip_prefix('-').map_or_else(|| commands.contains(word), |flag| flags.contains(flag));
            if !is_there {
                missing.insert(line.to_owned());
            }
        }
        assert!(missing.is_empty(), "man/{program}.1 lacks {missing:#?}");
    }
}

#[test]
fn pages_are_valid_mdoc() {
    if !hoy_tests::need(&["mandoc"]) {
        return;
    }
    for page in files(&workspace().join("man"), "1").into_iter().chain(files(&workspace().join("man"), "5")) {
        let out = Run::new("mandoc").args(["-T", "lint", "-W", "warning"]).arg(&page).output();
        assert_eq!(out.status, 0, "{}", out.stdout);
    }
}

#[test]
fn completions_are_made() {
    for (program, _) in PROGRAMS {
        for shell in ["bash", "zsh", "fish"] {
            assert!(Run::new(program).args(["--completion", shell]).ok().contains(program), "{program} {shell}");
        }
    }
}
