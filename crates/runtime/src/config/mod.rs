//! Reading config.json (runtime-spec config.md).

pub(crate) mod validate;

use std::fs;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Hook, Hooks, Linux, LinuxNamespace, LinuxNamespaceType, Process, Spec};
use serde_json::Value;

use crate::error::Doing;
use crate::process::memory_policy;
use crate::{Error, Result};

/// A configuration, checked to have what a Linux container needs.
#[derive(Debug, Clone)]
pub struct Config {
    /// The document.
    pub spec: Spec,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What could not be understood and was left out.
    pub warnings: Vec<String>,
    linux: Linux,
}

impl Config {
    /// Reads the document at `path`.
    ///
    /// # Errors
    /// A file that cannot be read, or is no configuration of a Linux container.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).doing(|| format!("read \"{}\"", path.display()))?;
        Self::parse(bytes).map_err(|error| match error {
            Error::Json { source, .. } => Error::Json { what: format!("\"{}\"", path.display()), source },
            other => other,
        })
    }

    /// Reads a document.
    ///
    /// # Errors
    /// [`Error::Json`] for what is no configuration, [`Error::Invalid`] for one that no container can have.
    pub fn parse(bytes: Vec<u8>) -> Result<Self> {
        let json = |source| Error::Json { what: "config.json".to_owned(), source };
        let mut warnings = Vec::new();
        let mut spec: Spec = match serde_json::from_slice(&bytes) {
            Ok(spec) => spec,
            Err(_) => {
                let mut value: Value = serde_json::from_slice(&bytes).map_err(json)?;
                mend_process(value.pointer_mut("/process"), &mut warnings);
                memory_policy::check_words(value.pointer("/linux/memoryPolicy"))?;
                serde_json::from_value(value).map_err(json)?
            }
        };
        if !spec.version().starts_with("1.") {
            return Err(Error::Invalid(format!("ociVersion \"{}\" is not 1.x", spec.version())));
        }
        let linux = spec.linux_mut().take();
        let mut linux = linux.ok_or_else(|| Error::Invalid("config.json has no part \"linux\"".to_owned()))?;
        if let Some(resources) = linux.resources_mut().as_mut().filter(|r| r.pids().is_some_and(|p| p.limit() == 0)) {
            // The reader takes no limit for 0, which is one.
            let value: Value = serde_json::from_slice(&bytes).map_err(json)?;
            if value.pointer("/linux/resources/pids/limit").is_none_or(Value::is_null) {
                resources.set_pids(None);
            }
        }
        let config = Self { spec, bytes, warnings, linux };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        let root = self.spec.root().as_ref();
        if root.is_none_or(|root| root.path().as_os_str().is_empty()) {
            return Err(Error::Invalid("config.json has no root.path".to_owned()));
        }
        let namespaces = self.namespaces();
        for namespace in namespaces {
            if namespaces.iter().filter(|other| other.typ() == namespace.typ()).count() > 1 {
                return Err(Error::Invalid(format!("namespace \"{}\" is listed twice", namespace.typ())));
            }
        }
        let has = |kind| namespaces.iter().any(|n| n.typ() == kind);
        let uts = self.spec.hostname().is_some() || self.spec.domainname().is_some();
        if uts && !has(LinuxNamespaceType::Uts) {
            return Err(Error::Invalid("a hostname or domainname needs a uts namespace".to_owned()));
        }
        validate::check(self)
    }

    /// The `linux` part.
    pub fn linux(&self) -> &Linux {
        &self.linux
    }

    /// The program to run; a container without one can be created but not started.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there is none.
    pub fn process(&self) -> Result<&Process> {
        let process = self.spec.process().as_ref();
        process.ok_or_else(|| Error::Invalid("config.json has no process".to_owned()))
    }

    /// The namespaces listed.
    pub fn namespaces(&self) -> &[LinuxNamespace] {
        self.linux.namespaces().as_deref().unwrap_or_default()
    }

    /// The namespace of that kind, if it is listed.
    pub fn namespace(&self, kind: LinuxNamespaceType) -> Option<&LinuxNamespace> {
        self.namespaces().iter().find(|n| n.typ() == kind)
    }

    /// Whether a new namespace of that kind is asked for.
    pub fn has_new(&self, kind: LinuxNamespaceType) -> bool {
        self.namespace(kind).is_some_and(|n| n.path().as_ref().is_none_or(|p| p.as_os_str().is_empty()))
    }

    /// The hooks of one kind.
    pub fn hooks(&self, kind: fn(&Hooks) -> &Option<Vec<Hook>>) -> &[Hook] {
        self.spec.hooks().as_ref().and_then(|hooks| kind(hooks).as_deref()).unwrap_or_default()
    }

    /// Where the root file system is; `bundle` is where a relative path starts.
    pub fn rootfs(&self, bundle: &Path) -> PathBuf {
        self.spec.root().as_ref().map_or_else(|| bundle.to_owned(), |root| bundle.join(root.path()))
    }

    /// Whether the root file system is to be read-only.
    pub fn is_readonly(&self) -> bool {
        self.spec.root().as_ref().and_then(oci_spec::runtime::Root::readonly).unwrap_or(false)
    }
}

/// Changes in `process` what is right and the reader of configurations does not take.
///
/// A capability of a newer kernel is no reason to fail: it is left out, with a warning.
pub(crate) fn mend_process(process: Option<&mut Value>, warnings: &mut Vec<String>) {
    let Some(process) = process else { return };
    let sets = process.get_mut("capabilities").and_then(Value::as_object_mut);
    for names in sets.into_iter().flat_map(serde_json::Map::values_mut).filter_map(Value::as_array_mut) {
        names.retain(|name| {
            let known = name.as_str().is_some_and(|name| crate::process::capability::number(name).is_some());
            let warning = format!("unknown capability {name} is left out");
            if !known && !warnings.contains(&warning) {
                warnings.push(warning);
            }
            known
        });
    }
    for flag in process.pointer_mut("/scheduler/flags").and_then(Value::as_array_mut).into_iter().flatten() {
        match flag.as_str() {
            Some("SCHED_FLAG_DL_OVERRUN") => *flag = "SCHED_FLAG_D_L_OVERRUN".into(),
            Some("SCHED_FLAG_RESET_ON_FORK") => *flag = "SCHED_RESET_ON_FORK".into(),
            _ => {}
        }
    }
    if let Some(affinity) = process.get_mut("execCPUAffinity").and_then(Value::as_object_mut) {
        // An empty list is as good as none.
        affinity.retain(|_, list| list.as_str() != Some(""));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Config> {
        Config::parse(json.as_bytes().to_vec())
    }

    #[test]
    fn refuses_what_no_container_can_have() {
        let cases = [
            (r"{", "read config.json"),
            (r#"{"ociVersion":"2.0.0"}"#, "ociVersion \"2.0.0\" is not 1.x"),
            (r#"{"ociVersion":"1.0.2"}"#, "config.json has no part \"linux\""),
            (r#"{"ociVersion":"1.0.2","linux":{}}"#, "config.json has no root.path"),
            (
                r#"{"ociVersion":"1.0.2","root":{"path":"r"},"hostname":"h","linux":{"namespaces":[{"type":"mount"}]}}"#,
                "needs a uts namespace",
            ),
            (
                r#"{"ociVersion":"1.0.2","root":{"path":"r"},"linux":{"namespaces":[{"type":"mount"},{"type":"mount"}]}}"#,
                "is listed twice",
            ),
        ];
        for (json, want) in cases {
            let error = parse(json).unwrap_err().to_string();
            assert!(error.contains(want), "{json}: {error}");
        }
    }

    #[test]
    fn what_the_reader_does_not_take_is_mended() {
        let json = r#"{"ociVersion":"1.9.0-rc.1","root":{"path":"r"},"process":{"args":["a"],"cwd":"/",
            "user":{"uid":0,"gid":0},"execCPUAffinity":{"initial":"","final":"0"},
            "scheduler":{"policy":"SCHED_DEADLINE","flags":["SCHED_FLAG_DL_OVERRUN","SCHED_FLAG_RESET_ON_FORK"]}},
            "linux":{"namespaces":[{"type":"mount"}]}}"#;
        let config = parse(json).unwrap();
        assert!(config.warnings.is_empty());
        assert_eq!(config.process().unwrap().exec_cpu_affinity().as_ref().unwrap().initial(), &None);
        let unknown = json.replace("SCHED_DEADLINE", "SCHED_FAIR");
        let error = parse(&unknown).unwrap_err();
        assert!(error.chain().contains("SCHED_FAIR"), "{}", error.chain());
    }

    #[test]
    fn no_limit_of_processes_is_not_zero() {
        for (pids, want) in [(r#"{}"#, None), (r#"{"limit":0}"#, Some(0)), (r#"{"limit":7}"#, Some(7))] {
            let json =
                format!(r#"{{"ociVersion":"1.3.0","root":{{"path":"r"}},"linux":{{"resources":{{"pids":{pids}}}}}}}"#);
            let config = parse(&json).unwrap();
            let pids = config.linux().resources().as_ref().unwrap().pids();
            assert_eq!(pids.map(|pids| pids.limit()), want, "{json}");
        }
    }

    #[test]
    fn an_unknown_capability_is_a_warning() {
        let json = r#"{"ociVersion":"1.2.0","root":{"path":"r"},"process":{"args":["a"],"cwd":"/","user":{"uid":0,"gid":0},
            "capabilities":{"bounding":["CAP_CHOWN","CAP_FLY"]}},"linux":{"namespaces":[{"type":"mount"}]}}"#;
        let config = parse(json).unwrap();
        assert_eq!(config.warnings, ["unknown capability \"CAP_FLY\" is left out"]);
        let bounding = config.process().unwrap().capabilities().clone().unwrap().bounding().clone().unwrap();
        assert_eq!(bounding.len(), 1);
    }
}
