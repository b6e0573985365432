//! Devices that vendors describe in files: the Container Device Interface (CDI, SPEC.md of version 1).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use hoy_sys::rustix::fs::{FileType, RawMode, major, minor, stat};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Config, Device, Error, Hook, Host, Mount, Result};

/// Where descriptions are; those of a later directory win.
const DIRECTORIES: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
/// No description is longer.
const MAX_BYTES: u64 = 4 << 20;
/// By which a group of devices can be asked for (Dockerfile reference "RUN --device").
const CLASS: &str = "org.mobyproject.buildkit.device.class";
/// Whether a Containerfile may have it without the builder's word (the same).
const AUTO_ALLOW: &str = "org.mobyproject.buildkit.device.autoallow";

/// A file of them.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Description {
    #[serde(rename = "cdiVersion")]
    _version: String,
    kind: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    devices: Vec<Described>,
    #[serde(default)]
    container_edits: Edits,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Described {
    name: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    container_edits: Edits,
}

/// What a device changes in a configuration (SPEC.md "OCI Edits").
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Edits {
    pub(crate) env: Vec<String>,
    pub(crate) device_nodes: Vec<Node>,
    mounts: Vec<Bound>,
    hooks: Vec<Named>,
    #[serde(rename = "additionalGids", alias = "additionalGIDs")]
    pub(crate) additional_gids: Vec<u32>,
    intel_rdt: Option<Value>,
    net_devices: Vec<Value>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Node {
    path: String,
    host_path: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    major: Option<i64>,
    minor: Option<i64>,
    file_mode: Option<u32>,
    permissions: Option<String>,
    uid: Option<u32>,
    gid: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Bound {
    host_path: String,
    container_path: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    options: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Named {
    hook_name: String,
    path: String,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Vec<String>,
    timeout: Option<u32>,
}

/// A device that is described.
#[derive(Debug, Clone)]
pub struct CdiDevice {
    /// `vendor.com/class=name`.
    pub name: String,
    /// Its groups have this name.
    class: Option<String>,
    /// Whoever describes it lets every build have it.
    pub is_open: bool,
    /// Of its file, and its own.
    edits: [Edits; 2],
    file: PathBuf,
}

impl CdiDevice {
    /// What it changes, in one text.
    pub fn canonical(&self) -> String {
        // There is nothing in it that has no JSON.
        serde_json::to_string(&self.edits).unwrap_or_default()
    }
}

/// The devices that are described on this machine, in the order of their names.
#[derive(Debug, Default)]
pub struct CdiDevices {
    all: BTreeMap<String, CdiDevice>,
    /// Files that could not be read, and names that two files have.
    problems: Vec<String>,
}

/// Whether `text` is the full name of a device, `vendor.com/class=name`, and no path.
pub(crate) fn is_name(text: &str) -> bool {
    text.split_once('=').is_some_and(|(kind, name)| is_kind(kind) && is_word(name))
}

fn is_kind(text: &str) -> bool {
    text.split_once('/').is_some_and(|(vendor, class)| is_word(vendor) && vendor.len() <= 253 && is_word(class))
}

/// Letters and digits, between which there may be `-`, `_`, `.` and, in names, `:`.
fn is_word(text: &str) -> bool {
    let is_end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let all = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':'));
    all && is_end(text.chars().next()) && is_end(text.chars().last())
}

impl CdiDevices {
    /// Reads all descriptions of the directories, or of those of the specification where there are none.
    pub fn read(directories: &[PathBuf]) -> Self {
        let own = || DIRECTORIES.iter().map(PathBuf::from).collect();
        let directories: Vec<PathBuf> = if directories.is_empty() { own() } else { directories.to_vec() };
        let mut devices = Self::default();
        for directory in directories {
            let mut found = BTreeMap::new();
            let mut files: Vec<PathBuf> =
                std::fs::read_dir(&directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
            files.sort();
            for file in files {
                match description(&file) {
                    Ok(None) => {}
                    Ok(Some(description)) => devices.add(&file, description, &mut found),
                    Err(reason) => devices.problems.push(format!("{}: {reason}", file.display())),
                }
            }
            // Which of two is meant in one directory nobody knows.
            devices.all.extend(found.into_iter().filter_map(|(name, device)| Some((name, device?))));
        }
        devices
    }

    fn add(&mut self, file: &Path, description: Description, found: &mut BTreeMap<String, Option<CdiDevice>>) {
        for device in description.devices {
            let name = format!("{}={}", description.kind, device.name);
            if !is_name(&name) {
                self.problems.push(format!("{}: \"{name}\" is no name of a device", file.display()));
                continue;
            }
            let annotation = |name: &str| device.annotations.get(name).or(description.annotations.get(name)).cloned();
            let is_open = annotation(AUTO_ALLOW)
                .is_some_and(|text| matches!(text.as_str(), "1" | "t" | "T" | "true" | "True" | "TRUE"));
            let made = CdiDevice {
                name: name.clone(),
                class: annotation(CLASS),
                is_open,
                edits: [description.container_edits.clone(), device.container_edits],
                file: file.to_owned(),
            };
            match found.get_mut(&name) {
                None => drop(found.insert(name, Some(made))),
                Some(other) => {
                    *other = None;
                    self.problems.push(format!("{}: \"{name}\" is in another file too", file.display()));
                }
            }
        }
    }

    /// The devices that `RUN --device` means: one by its full name, the first of `vendor.com/class`, all of
    /// `vendor.com/class=*`, or those of a class that annotations tell.
    pub fn matching(&self, asked: &str) -> Vec<&CdiDevice> {
        let (kind, name) = asked.split_once('=').unwrap_or((asked, ""));
        let of_kind = || self.all.values().filter(|device| device.name.split('=').next() == Some(kind));
        let found: Vec<&CdiDevice> = match name {
            _ if !is_kind(kind) => Vec::new(),
            "" => of_kind().take(1).collect(),
            "*" => of_kind().collect(),
            _ => self.all.get(asked).into_iter().collect(),
        };
        match found.is_empty() {
            true => self.all.values().filter(|device| device.class.as_deref() == Some(asked)).collect(),
            false => found,
        }
    }

    /// Why there is no such device.
    pub fn missing(&self, asked: &str) -> String {
        let problems: String = self.problems.iter().map(|problem| format!("; {problem}")).collect();
        format!("no description in {} has the device \"{asked}\"{problems}", DIRECTORIES.join(" or "))
    }

    /// What the devices of these full names change, what belongs to a file of several of them once.
    pub(crate) fn edits(&self, names: &[&str]) -> Result<Vec<&Edits>> {
        let mut edits = Vec::new();
        let mut files: Vec<(&Path, &str)> = Vec::new();
        for name in names {
            let device = self.all.get(*name).ok_or_else(|| Error::option("--device", *name, self.missing(name)))?;
            let file = (device.file.as_path(), name.split('=').next().unwrap_or_default());
            let [of_file, own] = &device.edits;
            if !files.contains(&file) {
                files.push(file);
                edits.push(of_file);
            }
            edits.push(own);
            if [of_file, own].iter().any(|edits| edits.intel_rdt.is_some() || !edits.net_devices.is_empty()) {
                let reason = "its description asks for intelRdt or netDevices, which are not there yet";
                return Err(Error::option("--device", *name, reason));
            }
        }
        Ok(edits)
    }
}

/// What a file describes; none for one of another kind.
fn description(file: &Path) -> std::result::Result<Option<Description>, String> {
    let is_json = file.extension().is_some_and(|end| end == "json");
    if !is_json && file.extension().is_none_or(|end| end != "yaml") {
        return Ok(None);
    }
    let mut text = String::new();
    let opened = File::open(file).map_err(|error| error.to_string())?;
    opened.take(MAX_BYTES).read_to_string(&mut text).map_err(|error| error.to_string())?;
    let read: Description = match is_json {
        true => serde_json::from_str(&text).map_err(|error| error.to_string())?,
        false => serde_saphyr::from_str(&text).map_err(|error| error.to_string())?,
    };
    Ok(Some(read))
}

impl Edits {
    /// Mounts; in a user namespace of the container's own the owners of what is bound are those in it.
    pub(crate) fn mounts(&self, is_mapped: bool) -> impl Iterator<Item = Mount> {
        self.mounts.iter().map(move |bound| {
            let mut options = bound.options.clone();
            let is_bind = options.iter().any(|option| matches!(option.as_str(), "bind" | "rbind"));
            let kind = if is_bind { Some("bind".to_owned()) } else { bound.kind.clone() };
            options.extend((is_bind && is_mapped).then(|| "idmap".to_owned()));
            Mount {
                destination: bound.container_path.clone(),
                kind: kind.unwrap_or_default(),
                source: bound.host_path.clone(),
                options,
            }
        })
    }

    /// Sets what is neither a device nor a mount.
    pub(crate) fn apply(&self, config: &mut Config, host: &Host) {
        for entry in &self.env {
            let name = |entry: &str| entry.split('=').next().map(str::to_owned);
            config.process.env.retain(|other| name(other) != name(entry));
            config.process.env.push(entry.clone());
        }
        let groups = &mut config.process.user.additional_gids;
        for gid in self.additional_gids.iter().filter(|gid| **gid != 0 && host.has_gid(**gid) && host.can_set_groups) {
            if !groups.contains(gid) {
                groups.push(*gid);
            }
        }
        for Named { hook_name, path, args, env, timeout } in self.hooks.iter().cloned() {
            config.hooks.entry(hook_name).or_default().push(Hook { path, args, env, timeout });
        }
    }
}

impl Node {
    /// Where it is on this machine.
    pub(crate) fn source(&self) -> &str {
        self.host_path.as_deref().unwrap_or(&self.path)
    }

    /// What may be done with it; nothing is the empty text.
    pub(crate) fn access(&self) -> &str {
        match self.permissions.as_deref().unwrap_or_default() {
            "" => "rwm",
            "none" => "",
            access => access,
        }
    }

    /// The node in the container; what its description leaves out is that of the host's.
    pub(crate) fn device(&self) -> std::result::Result<Device, String> {
        let found = stat(self.source()).map_err(|errno| std::io::Error::from(errno).to_string());
        let stated = match (&self.kind, self.major, self.minor) {
            (Some(kind), Some(major), Some(minor)) => Some((kind.clone(), major, minor)),
            _ => None,
        };
        let (kind, major, minor) = match (stated, &found) {
            (Some(stated), _) => stated,
            (None, Ok(stat)) => {
                let kind = match FileType::from_raw_mode(stat.st_mode as RawMode) {
                    FileType::CharacterDevice => "c",
                    FileType::BlockDevice => "b",
                    FileType::Fifo => "p",
                    _ => return Err(format!("{} is not a device", self.source())),
                };
                (kind.to_owned(), major(stat.st_rdev).into(), minor(stat.st_rdev).into())
            }
            (None, Err(reason)) => return Err(format!("{}: {reason}", self.source())),
        };
        let of_host = found.ok().map(|stat| (stat.st_mode & 0o777, stat.st_uid, stat.st_gid));
        let file_mode = self.file_mode.or(of_host.map(|(mode, ..)| mode));
        Ok(Device { path: self.path.clone(), kind, major, minor, file_mode, uid: self.uid, gid: self.gid })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(files: &[(&str, &str)]) -> CdiDevices {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        CdiDevices::read(&[directory.path().join("first"), directory.path().join("second")])
    }

    /// The patterns of the reference, on descriptions of its example's shape.
    #[test]
    fn names_and_patterns() {
        let yaml = "cdiVersion: 0.6.0\nkind: one.test/device\nannotations:\n  org.mobyproject.buildkit.device.autoallow: 'true'\n\
                    devices:\n  - name: foo\n    containerEdits: {env: [A=foo]}\n  - name: bar\n    annotations:\n      \
                    org.mobyproject.buildkit.device.class: class1\n    containerEdits: {env: [A=bar]}\n";
        let other = r#"{"cdiVersion": "1.0.0", "kind": "two.test/gpu", "devices": [{"name": "0", "containerEdits": {"env": ["B=0"]}}]}"#;
        let later = other.replace("B=0", "B=later");
        let all = devices(&[
            ("first/a.yaml", yaml),
            ("first/b.json", other),
            ("second/b.json", &later),
            ("first/c.json", "{"),
            ("first/README", "no description"),
        ]);
        let names = |asked: &str| all.matching(asked).iter().map(|device| device.name.as_str()).collect::<Vec<_>>();
        for (asked, want) in [
            ("one.test/device", vec!["one.test/device=bar"]),
            ("one.test/device=*", vec!["one.test/device=bar", "one.test/device=foo"]),
            ("one.test/device=foo", vec!["one.test/device=foo"]),
            ("class1", vec!["one.test/device=bar"]),
            ("two.test/gpu=1", vec![]),
            ("/dev/null", vec![]),
        ] {
            assert_eq!(names(asked), want, "{asked}");
        }
        assert!(all.matching("one.test/device=foo")[0].is_open);
        assert!(!all.matching("two.test/gpu")[0].is_open);
        let edits = all.edits(&["two.test/gpu=0"]).unwrap();
        assert_eq!(edits.iter().flat_map(|edits| edits.env.clone()).collect::<Vec<_>>(), ["B=later"]);
        let missing = all.edits(&["two.test/gpu=1"]).unwrap_err().to_string();
        assert!(missing.contains("c.json"), "a file that is no description is named: {missing}");
    }

    /// Two files of one directory cannot both be meant, and unknown wishes are not passed over.
    #[test]
    fn what_cannot_be_understood() {
        let one = r#"{"cdiVersion": "1.0.0", "kind": "a.test/b", "devices": [{"name": "c", "containerEdits": {"env": ["B=0"]}}]}"#;
        let twice = devices(&[("first/a.json", one), ("first/b.json", one)]);
        assert!(twice.missing("a.test/b=c").contains("in another file too"));
        assert!(twice.matching("a.test/b=c").is_empty());
        let unknown = devices(&[("first/a.json", &one.replace("\"env\"", "\"environment\""))]);
        assert!(unknown.missing("a.test/b=c").contains("environment"));
        let rdt = devices(&[("first/a.json", &one.replace("\"env\": [\"B=0\"]", "\"intelRdt\": {}"))]);
        assert!(rdt.edits(&["a.test/b=c"]).unwrap_err().to_string().contains("intelRdt"));
    }

    #[test]
    fn which_names_are_full() {
        for (text, want) in [
            ("vendor.com/class=name", true),
            ("vendor.com/class=0:1", true),
            ("vendor.com/class=*", false),
            ("vendor.com/class", false),
            ("/dev/a=b", false),
            ("/dev/null", false),
            ("a/b=-c", false),
        ] {
            assert_eq!(is_name(text), want, "{text}");
        }
    }
}
