//! What config.json must not say: each refusal names the field.

use oci_spec::runtime::{Hooks, LinuxNamespaceType as Kind, Process};

use crate::config::Config;
use crate::process::affinity::Affinity;
use crate::process::memory_policy::MemoryPolicy;
use crate::process::scheduling::Scheduling;
use crate::process::{label, personality};
use crate::resources::resctrl;
use crate::{Error, Result, network, sysctl};

/// Checks everything that can be known to be wrong before anything is made.
///
/// # Errors
/// [`Error::Invalid`] for the first field that is wrong.
pub(crate) fn check(config: &Config) -> Result<()> {
    namespaces(config)?;
    if let Some(process) = config.spec.process() {
        check_process(process)?;
    }
    let linux = config.linux();
    linux.personality().as_ref().map_or(Ok(()), personality::check)?;
    linux.memory_policy().as_ref().map(MemoryPolicy::new).transpose()?;
    network::plan(config)?;
    linux.intel_rdt().as_ref().map(|rdt| resctrl::plan(rdt, "")).transpose()?;
    hooks(config)
}

/// Checks what depends on the machine and on who calls; a container that is there is not judged by it again.
///
/// # Errors
/// [`Error::Invalid`] for the first field that cannot be honoured here.
pub(crate) fn check_here(config: &Config) -> Result<()> {
    sysctl::check(config)?;
    if let Some(process) = config.spec.process() {
        label::check_process(process)?;
    }
    label::check_mounts(config.linux())?;
    config.linux().intel_rdt().as_ref().map(|_| resctrl::root()).transpose().map(drop)
}

/// Checks a process, the container's own or one that joins it.
pub(crate) fn check_process(process: &Process) -> Result<()> {
    let user = process.user();
    let gids = user.additional_gids().iter().flatten().map(|gid| ("additionalGids", *gid));
    for (name, id) in [("uid", user.uid()), ("gid", user.gid())].into_iter().chain(gids) {
        // setresuid(2) takes it for "leave it as it is": the program would have the runtime's own.
        if id == u32::MAX {
            return Err(Error::Invalid(format!("process.user.{name} {id} is nobody's id")));
        }
    }
    Scheduling::new(process)?;
    Affinity::new(process)?;
    let limits = process.rlimits().as_deref().unwrap_or_default();
    for (at, limit) in limits.iter().enumerate() {
        if limits.iter().skip(at + 1).any(|other| other.typ() == limit.typ()) {
            return Err(Error::Invalid(format!("process.rlimits has {} twice", limit.typ())));
        }
    }
    Ok(())
}

fn namespaces(config: &Config) -> Result<()> {
    let linux = config.linux();
    let has = |kind| config.namespace(kind).is_some();
    let is_given = |maps: &Option<Vec<_>>| maps.as_ref().is_some_and(|maps| !maps.is_empty());
    let maps = [("uidMappings", is_given(linux.uid_mappings())), ("gidMappings", is_given(linux.gid_mappings()))];
    for (name, given) in maps {
        if given && !has(Kind::User) {
            return Err(Error::Invalid(format!("linux.{name} needs a user namespace")));
        }
        if !given && config.has_new(Kind::User) {
            return Err(Error::Invalid(format!("a new user namespace needs linux.{name}")));
        }
    }
    for clock in linux.time_offsets().iter().flat_map(|offsets| offsets.keys()) {
        if !config.has_new(Kind::Time) {
            return Err(Error::Invalid("linux.timeOffsets needs a new time namespace".to_owned()));
        }
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            let known = "it is neither \"monotonic\" nor \"boottime\"";
            return Err(Error::Invalid(format!("linux.timeOffsets has the clock \"{clock}\": {known}")));
        }
    }
    for namespace in config.namespaces() {
        if let Some(path) = namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty() && path.is_relative())
        {
            return Err(Error::Invalid(format!("path \"{}\" of a namespace is not absolute", path.display())));
        }
    }
    Ok(())
}

fn hooks(config: &Config) -> Result<()> {
    let prestart = config.hooks(crate::init::prestart).iter();
    let hooks = prestart
        .chain(config.hooks(Hooks::create_runtime))
        .chain(config.hooks(Hooks::create_container))
        .chain(config.hooks(Hooks::start_container))
        .chain(config.hooks(Hooks::poststart))
        .chain(config.hooks(Hooks::poststop));
    for hook in hooks {
        if !hook.path().is_absolute() {
            return Err(Error::Invalid(format!("path \"{}\" of a hook is not absolute", hook.path().display())));
        }
        if let Some(timeout) = hook.timeout().filter(|timeout| *timeout <= 0) {
            let path = hook.path().display();
            return Err(Error::Invalid(format!("timeout {timeout} of hook \"{path}\" is not greater than 0")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_names_its_field() {
        let mount = r#"{"type":"mount"}"#;
        let user = r#"{"type":"mount"},{"type":"user"}"#;
        let cases = [
            (mount, r#""uidMappings":[{"containerID":0,"hostID":0,"size":1}]"#, "", "linux.uidMappings"),
            (user, r#""uidMappings":[{"containerID":0,"hostID":0,"size":1}]"#, "", "linux.gidMappings"),
            (mount, r#""timeOffsets":{"boottime":{"secs":1}}"#, "", "linux.timeOffsets"),
            (r#"{"type":"mount"},{"type":"time"}"#, r#""timeOffsets":{"realtime":{"secs":1}}"#, "", "\"realtime\""),
            (r#"{"type":"mount","path":"x"}"#, r#""sysctl":{}"#, "", "path \"x\""),
            (mount, r#""personality":{"domain":"LINUX","flags":["F"]}"#, "", "\"F\""),
            (mount, r#""memoryPolicy":{"mode":"MPOL_BIND"}"#, "", "linux.memoryPolicy"),
            (
                mount,
                r#""sysctl":{}"#,
                r#""process":{"cwd":"/","user":{"uid":4294967295,"gid":0}}"#,
                "process.user.uid 4294967295",
            ),
            (
                mount,
                r#""sysctl":{}"#,
                r#""process":{"cwd":"/","user":{"uid":0,"gid":0,"additionalGids":[1,4294967295]}}"#,
                "process.user.additionalGids 4294967295",
            ),
            (mount, r#""sysctl":{}"#, r#""hooks":{"poststop":[{"path":"x"}]}"#, "of a hook"),
            (mount, r#""sysctl":{}"#, r#""hooks":{"prestart":[{"path":"/x","timeout":0}]}"#, "timeout 0"),
            (
                mount,
                r#""sysctl":{}"#,
                r#""process":{"cwd":"/","user":{"uid":0,"gid":0},"rlimits":[{"type":"RLIMIT_CPU","soft":1,"hard":1},
                {"type":"RLIMIT_CPU","soft":1,"hard":1}]}"#,
                "RLIMIT_CPU twice",
            ),
        ];
        for (namespaces, linux, top, want) in cases {
            let top = if top.is_empty() { String::new() } else { format!("{top},") };
            let json = format!(
                r#"{{"ociVersion":"1.2.0","root":{{"path":"r"}},{top}"linux":{{"namespaces":[{namespaces}],{linux}}}}}"#
            );
            let error = Config::parse(json.into_bytes()).unwrap_err().to_string();
            assert!(error.contains(want), "{want}: {error}");
        }
    }
}
