//! Hooks of files: programs of the host that run at points of a container's life (oci-hooks(5), schema 1.0.0).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use regex::Regex;
use serde::Deserialize;

use crate::config::{Config, Hook};
use crate::{Error, Result};

/// Longer files describe no hook.
const MAX_FILE_BYTES: u64 = 1 << 20;
const STAGES: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Described {
    version: String,
    hook: Hook,
    when: When,
    stages: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct When {
    always: Option<bool>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    commands: Vec<String>,
    has_bind_mounts: Option<bool>,
}

/// Gives a configuration the hooks of these directories that are for it; of two files of one name that in the later
/// directory counts, and the order is that of the names.
///
/// # Errors
/// [`Error::Read`], [`Error::Json`], [`Error::Option`] for a hook that is none.
pub(crate) fn add(directories: &[PathBuf], config: &mut Config, has_bind_mounts: bool) -> Result<()> {
    let mut files = BTreeMap::new();
    for directory in directories {
        for entry in std::fs::read_dir(directory).map_err(Error::read(directory))? {
            let path = entry.map_err(Error::read(directory))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
            if name.ends_with(".json") {
                files.insert(name, path);
            }
        }
    }
    for path in files.values() {
        let described = read(path)?;
        if described.when.is_met(config, has_bind_mounts).map_err(wrong(path))? {
            for stage in described.stages {
                config.hooks.entry(stage).or_default().push(described.hook.clone());
            }
        }
    }
    Ok(())
}

fn wrong(path: &Path) -> impl Fn(String) -> Error + '_ {
    move |reason| Error::option("--hooks-dir", path.display().to_string(), reason)
}

fn read(path: &Path) -> Result<Described> {
    let mut text = Vec::new();
    let file = File::open(path).map_err(Error::read(path))?;
    file.take(MAX_FILE_BYTES).read_to_end(&mut text).map_err(Error::read(path))?;
    let json = |source| Error::Json { path: path.to_owned(), source };
    let described: Described = serde_json::from_slice(&text).map_err(json)?;
    let wrong = wrong(path);
    if described.version != "1.0.0" {
        return Err(wrong(format!("its version is {}, and not 1.0.0", described.version)));
    }
    if let Some(stage) = described.stages.iter().find(|stage| !STAGES.contains(&stage.as_str())) {
        return Err(wrong(format!("there is no stage {stage}: there are {}", STAGES.join(", "))));
    }
    if described.stages.is_empty() {
        return Err(wrong("it has no stage".to_owned()));
    }
    let program = Path::new(&described.hook.path);
    if !program.is_absolute() || !program.is_file() {
        return Err(wrong(format!("\"{}\" is no program by its whole path", program.display())));
    }
    Ok(described)
}

impl When {
    /// All that is said is so, and something is said.
    fn is_met(&self, config: &Config, has_bind_mounts: bool) -> std::result::Result<bool, String> {
        let pattern = |text: &str| Regex::new(text).map_err(|_| format!("\"{text}\" is no regular expression"));
        let mut met = Vec::new();
        met.extend(self.always);
        met.extend(self.has_bind_mounts.map(|wanted| wanted && has_bind_mounts));
        if !self.commands.is_empty() {
            let command = config.process.args.first().map(String::as_str).unwrap_or_default();
            let patterns =
                self.commands.iter().map(|text| pattern(text)).collect::<std::result::Result<Vec<_>, _>>()?;
            met.push(patterns.iter().any(|pattern| pattern.is_match(command)));
        }
        for (name, value) in &self.annotations {
            let (name, value) = (pattern(name)?, pattern(value)?);
            met.push(config.annotations.iter().any(|(n, v)| name.is_match(n) && value.is_match(v)));
        }
        Ok(!met.is_empty() && met.into_iter().all(|is_so| is_so))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions() {
        let mut config = Config::default();
        config.process.args = vec!["/bin/sh".to_owned(), "-c".to_owned()];
        config.annotations.insert("a.b".to_owned(), "yes".to_owned());
        for (when, binds, want) in [
            (r#"{}"#, false, false),
            (r#"{"always":true}"#, false, true),
            (r#"{"always":false,"commands":["sh"]}"#, false, false),
            (r#"{"commands":["/sh$"]}"#, false, true),
            (r#"{"commands":["^sh$"]}"#, false, false),
            (r#"{"hasBindMounts":true}"#, false, false),
            (r#"{"hasBindMounts":true}"#, true, true),
            (r#"{"annotations":{"^a\\.b$":"^y"}}"#, false, true),
            (r#"{"annotations":{"^a\\.b$":"^n"},"always":true}"#, false, false),
        ] {
            let read: When = serde_json::from_str(when).unwrap();
            assert_eq!(read.is_met(&config, binds), Ok(want), "{when}");
        }
        let read: When = serde_json::from_str(r#"{"commands":["("]}"#).unwrap();
        assert!(read.is_met(&config, false).unwrap_err().contains("no regular expression"));
    }
}
