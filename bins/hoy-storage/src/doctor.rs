//! `doctor`: what can be done here, and what to do about the rest.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use hoy_cli::{Context, Result, Stdout, table};
use hoy_layout::{Roots, Store};
use hoy_storage::doctor::{Finding, Health, examine, of_container};
use hoy_storage::namespace::Standing;
use hoy_sys::rustix::process::geteuid;
use serde_json::{Value, json};

use crate::args;
use crate::enter::SELF;
use crate::open::{Place, explain};

pub(crate) fn doctor(place: &Place, args: &args::Doctor) -> Result<ExitCode> {
    let store = place.store()?;
    let mut found = examine(&store, geteuid().as_raw()).map_err(explain)?;
    found.push(trial(&store)?);
    let is_ordinary = Standing::of_this_process() == Standing::Ordinary;
    found.extend(programs(if is_ordinary { &["newuidmap", "newgidmap"] } else { &[] }, Health::Limited, "uidmap"));
    found.extend(programs(&["hoy-runtime", "hoy-copy", "hoy-spec"], Health::Missing, "hoy"));
    if is_ordinary && std::env::var_os("XDG_RUNTIME_DIR").is_none_or(|dir| dir.is_empty()) {
        let what = format!("XDG_RUNTIME_DIR is not set: \"{}\" is used", place.roots.runroot.display());
        found.push(Finding::lack("session", Health::Limited, what, "log in through PAM, or set it"));
    }
    let row = |f: &Finding| json!({"Area": f.area, "State": f.health.as_str(), "What": f.what, "Remedy": f.remedy});
    let rows: Vec<Value> = found.iter().map(row).collect();
    let columns = [("Area", "AREA"), ("State", "STATE"), ("What", "WHAT"), ("Remedy", "REMEDY")];
    Stdout::new().write_all(table::list(args.format.as_deref(), false, &columns, &rows)?.as_bytes())?;
    let is_missing = found.iter().any(|finding| finding.health == Health::Missing);
    Ok(if is_missing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Makes an empty container in a store of its own, on the same file system, and takes both away again.
fn trial(store: &Store) -> Result<Finding> {
    let place = store.root().join(format!(".doctor-{}", std::process::id()));
    let roots = Roots { root: place.join("root"), runroot: place.join("run"), additional: Vec::new() };
    let run = |words: &[&str]| {
        let mut command = Command::new(SELF);
        command.args(words).envs(roots.environment());
        command.output().context(|| "try to make a container")
    };
    let made = run(&["create", "--volatile", "scratch"])?;
    let finding = if made.status.success() {
        let containers = Store::open_or_create(&roots)?.all_containers()?;
        let container = containers.first().map(|dir| dir.container()).transpose()?;
        container.as_ref().map_or_else(|| Finding::good("overlay", "a container could be made"), of_container)
    } else {
        let said = String::from_utf8_lossy(&made.stderr);
        let said = said.lines().next().unwrap_or_default().trim_start_matches("hoy-storage: ").to_owned();
        Finding::lack("overlay", Health::Missing, said, "see the rows above")
    };
    run(&["rm", "--all", "--force"])?;
    std::fs::remove_dir_all(&place).context(|| format!("remove \"{}\"", place.display()))?;
    Ok(finding)
}

/// The programs of a package that are neither beside this one nor in PATH.
fn programs(names: &[&str], health: Health, package: &str) -> Vec<Finding> {
    let own = std::fs::read_link(SELF).unwrap_or_default();
    let beside = own.parent().map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories: Vec<PathBuf> = beside.into_iter().chain(std::env::split_paths(&path)).collect();
    let lacks = names.iter().filter(|name| !directories.iter().any(|dir| dir.join(name).is_file()));
    lacks
        .map(|name| {
            let remedy = format!("install the package {package}");
            Finding::lack("programs", health, format!("{name} is not in PATH"), remedy)
        })
        .collect()
}
