//! `update`: other limits for a container that is there.

use std::fs;
use std::path::Path;

use hoy_cgroup::{Hierarchies, Systemd};
use oci_spec::runtime::LinuxResources;
use serde_json::{Map, Value, json};

use crate::config::Config;
use crate::container::Container;
use crate::error::Doing;
use crate::process::program;
use crate::resources::group::is_users;
use crate::state::Status;
use crate::{Error, Result};

/// Changes the limits of `container` to those in `changes`, a `linux.resources` of the specification with only what
/// changes. Device rules stay as they are. `schemata` are lines for the container's group of Intel RDT.
///
/// The configuration that is kept of the container is changed with them, so that later changes add to these.
///
/// # Errors
/// [`Error::State`] when it has ended, [`Error::Json`] for what are no resources, [`Error::Cgroup`] for a limit that
/// cannot be set.
pub fn update(container: &Container, changes: &Value, schemata: &[&str]) -> Result<()> {
    let _lock = container.lock()?;
    let state = container.state("update")?;
    if container.status(Some(&state)) == Status::Stopped {
        let reason = "container not running".to_owned();
        return Err(Error::State { doing: "update", id: container.id().to_owned(), reason });
    }
    let config = container.config()?;
    write_schemata(&config, &state.id, schemata)?;
    let mut document: Value = serde_json::from_slice(&config.bytes).map_err(no_resources)?;
    let before = document.pointer("/linux/resources").cloned().unwrap_or(Value::Null);
    let after = merge(before.clone(), with_swap(changes.clone()));
    if before.get("devices") != after.get("devices") {
        program::warn("device rules of a running container are not changed");
    }
    let resources: LinuxResources = serde_json::from_value(touched(&after, changes)).map_err(no_resources)?;
    if resources == LinuxResources::default() {
        return Ok(());
    }
    if state.cgroups.is_empty() {
        return Err(Error::Invalid(format!("container \"{}\" has no control group to limit", state.id)));
    }
    if let Some(unit) = &state.systemd_unit {
        // systemd writes what it knows again whenever it likes: it has to know.
        Systemd::connect(is_users())?.update(unit, &resources, Hierarchies::detect()?.is_unified())?;
    }
    for warning in hoy_cgroup::update(&state.cgroups, &resources)? {
        program::warn(&warning);
    }
    if let Some(linux) = document.get_mut("linux").and_then(Value::as_object_mut) {
        let mut after = after;
        if let (Some(after), Some(devices)) = (after.as_object_mut(), before.get("devices")) {
            after.insert("devices".to_owned(), devices.clone());
        }
        linux.insert("resources".to_owned(), after);
    }
    let path = container.dir().join("config.json");
    let temporary = container.dir().join("config.json.tmp");
    fs::write(&temporary, document.to_string())
        .and_then(|()| fs::rename(&temporary, &path))
        .doing(|| format!("write \"{}\"", path.display()))
}

/// Changes the container's share of caches and memory bandwidth: kernel filesystems/resctrl.rst.
fn write_schemata(config: &Config, id: &str, schemata: &[&str]) -> Result<()> {
    if schemata.is_empty() {
        return Ok(());
    }
    let rdt = config.linux().intel_rdt().as_ref();
    let rdt = rdt.ok_or_else(|| Error::Invalid("change schemata: the container has no linux.intelRdt".to_owned()))?;
    let name = rdt.clos_id().as_deref().unwrap_or(id);
    if name.contains('/') || name.starts_with('.') {
        return Err(Error::Invalid(format!("linux.intelRdt.closID \"{name}\" is not the name of a group")));
    }
    let path = Path::new("/sys/fs/resctrl").join(name).join("schemata");
    let lines: String = schemata.iter().map(|line| format!("{line}\n")).collect();
    fs::write(&path, lines).doing(|| format!("write \"{}\"", path.display()))
}

fn no_resources(source: serde_json::Error) -> Error {
    Error::Json { what: "resources".to_owned(), source }
}

/// Who lifts the limit of memory lifts that of memory and swap, which would be below it.
fn with_swap(mut changes: Value) -> Value {
    if let Some(memory) = changes.get_mut("memory").and_then(Value::as_object_mut) {
        let has_swap = memory.get("swap").is_some_and(|swap| !swap.is_null() && *swap != 0);
        if memory.get("limit") == Some(&json!(-1)) && !has_swap {
            memory.insert("swap".to_owned(), json!(-1));
        }
    }
    changes
}

/// `before` with what `changes` has: objects are merged, null and the empty word change nothing.
fn merge(before: Value, changes: Value) -> Value {
    match (before, changes) {
        (before, Value::Null) => before,
        (before, Value::String(text)) if text.is_empty() => before,
        (Value::Object(mut before), Value::Object(changes)) => {
            for (name, change) in changes {
                let old = before.remove(&name).unwrap_or(Value::Null);
                before.insert(name, merge(old, change));
            }
            before.retain(|_, value| !value.is_null());
            Value::Object(before)
        }
        (Value::Null, Value::Object(changes)) => merge(Value::Object(Map::new()), Value::Object(changes)),
        (_, changed) => changed,
    }
}

/// The parts of `after` that `changes` is about, whole: limits of one controller depend on each other.
fn touched(after: &Value, changes: &Value) -> Value {
    let is_changed = |name: &str| name != "devices" && changes.get(name).is_some_and(|change| !change.is_null());
    // No limit of processes is not the limit 0.
    let is_said = |name: &str, part: &Value| name != "pids" || part.get("limit").is_some();
    let parts = after.as_object().into_iter().flatten().filter(|(name, part)| is_changed(name) && is_said(name, part));
    Value::Object(parts.map(|(name, part)| (name.clone(), part.clone())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_add_to_what_was() {
        let before = json!({"memory": {"limit": 1, "swap": 2}, "cpu": {"shares": 5}, "devices": [{"allow": false}]});
        let changes = json!({"memory": {"limit": 3, "reservation": null}, "cpu": {"cpus": ""}, "pids": {"limit": 7}});
        let after = merge(before, changes.clone());
        let devices = json!([{"allow": false}]);
        let memory = json!({"limit": 3, "swap": 2});
        assert_eq!(after, json!({"memory": memory, "cpu": {"shares": 5}, "pids": {"limit": 7}, "devices": devices}));
        assert_eq!(touched(&after, &changes), json!({"memory": memory, "cpu": {"shares": 5}, "pids": {"limit": 7}}));
        assert_eq!(touched(&json!({"pids": {}}), &json!({"pids": {}})), json!({}));
        assert_eq!(merge(Value::Null, json!({"cpu": {"mems": null, "idle": 1}})), json!({"cpu": {"idle": 1}}));
    }

    #[test]
    fn no_limit_of_memory_is_none_of_swap() {
        let cases = [
            (json!({"memory": {"limit": -1}}), json!({"memory": {"limit": -1, "swap": -1}})),
            (json!({"memory": {"limit": -1, "swap": 5}}), json!({"memory": {"limit": -1, "swap": 5}})),
            (json!({"memory": {"limit": 5}}), json!({"memory": {"limit": 5}})),
            (json!({}), json!({})),
        ];
        for (changes, want) in cases {
            assert_eq!(with_swap(changes), want);
        }
    }
}
