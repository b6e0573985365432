//! `config`: changes of what an image will say about itself.

use clap::Args;
use hoy_oci::Healthcheck;
use serde_json::{Map, Value};

use crate::change::{change_env, change_map, change_set, is_port, nanoseconds};
use crate::words::command;
use crate::{Error, Result, Working};

/// The changes that `config` can make; those left out change nothing.
#[derive(Debug, Clone, Default, Args)]
pub struct Settings {
    /// Set an annotation; NAME- removes it, - removes all
    #[arg(short, long, value_name = "NAME=VALUE", allow_hyphen_values = true)]
    pub annotation: Vec<String>,
    /// Set the processor's architecture
    #[arg(long, value_name = "NAME")]
    pub arch: Option<String>,
    /// Set the author
    #[arg(long, value_name = "TEXT")]
    pub author: Option<String>,
    /// Set the default command, a command line or a JSON array
    #[arg(long, value_name = "COMMAND", allow_hyphen_values = true)]
    pub cmd: Option<String>,
    /// Set the image's comment
    #[arg(long, value_name = "TEXT")]
    pub comment: Option<String>,
    /// Say how the topmost layer came about
    #[arg(long, value_name = "TEXT")]
    pub created_by: Option<String>,
    /// Set the domain name
    #[arg(long, value_name = "NAME")]
    pub domainname: Option<String>,
    /// Set the entry point, a JSON array or a command for the shell
    #[arg(long, value_name = "COMMAND", allow_hyphen_values = true)]
    pub entrypoint: Option<String>,
    /// Set a variable; NAME takes it from here, NAME- removes it, - removes all
    #[arg(short, long, value_name = "NAME=VALUE", allow_hyphen_values = true)]
    pub env: Vec<String>,
    /// Set the health check: "CMD …", "CMD-SHELL …", NONE, or nothing
    #[arg(long, value_name = "COMMAND", allow_hyphen_values = true)]
    pub healthcheck: Option<String>,
    /// Time between health checks
    #[arg(long, value_name = "DURATION")]
    pub healthcheck_interval: Option<String>,
    /// Failed health checks until the container is unhealthy
    #[arg(long, value_name = "NUMBER")]
    pub healthcheck_retries: Option<u64>,
    /// Time in which failed health checks do not count
    #[arg(long, value_name = "DURATION")]
    pub healthcheck_start_period: Option<String>,
    /// Time that a health check may take
    #[arg(long, value_name = "DURATION")]
    pub healthcheck_timeout: Option<String>,
    /// Set a remark on the topmost layer
    #[arg(long, value_name = "TEXT")]
    pub history_comment: Option<String>,
    /// Set the host name
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// Set a label; NAME- removes it, - removes all
    #[arg(short, long, value_name = "NAME=VALUE", allow_hyphen_values = true)]
    pub label: Vec<String>,
    /// Remove a label
    #[arg(long, value_name = "NAME")]
    pub unsetlabel: Vec<String>,
    /// Remove an annotation
    #[arg(long, value_name = "NAME")]
    pub unsetannotation: Vec<String>,
    /// Time between health checks while the container starts
    #[arg(long, value_name = "DURATION")]
    pub healthcheck_start_interval: Option<String>,
    /// Add an instruction for images built on this one; - removes all
    #[arg(long, value_name = "INSTRUCTION", allow_hyphen_values = true)]
    pub onbuild: Vec<String>,
    /// Set the operating system
    #[arg(long, value_name = "NAME")]
    pub os: Option<String>,
    /// Require a feature of the operating system; NAME- removes it, - removes all
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    pub os_feature: Vec<String>,
    /// Set the required version of the operating system
    #[arg(long, value_name = "VERSION")]
    pub os_version: Option<String>,
    /// Expose a port; PORT- removes it, - removes all
    #[arg(short, long, value_name = "PORT[/PROTOCOL]", allow_hyphen_values = true)]
    pub port: Vec<String>,
    /// Set the shell, a command line or a JSON array
    #[arg(long, value_name = "COMMAND", allow_hyphen_values = true)]
    pub shell: Option<String>,
    /// Set the signal that stops a container
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<String>,
    /// Set the user
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Set the processor's variant
    #[arg(long, value_name = "NAME")]
    pub variant: Option<String>,
    /// Mark a directory as a volume; DIR- removes it, - removes all
    #[arg(short, long, value_name = "DIR", allow_hyphen_values = true)]
    pub volume: Vec<String>,
    /// Set the working directory
    #[arg(long, value_name = "DIR")]
    pub workingdir: Option<String>,
}

/// Makes the changes; `environment` is asked for variables without a value. With `add_history` they are remembered.
///
/// # Errors
/// [`Error::Option`]; some changes may have been made then.
pub fn apply(
    working: &mut Working,
    settings: &Settings,
    environment: impl Fn(&str) -> Option<String>,
    add_history: bool,
) -> Result<()> {
    let before = working.history.len();
    apply_platform(working, settings);
    apply_image(working, settings)?;
    apply_process(working, settings, environment)?;
    apply_health(working, settings)?;
    settings.unsetlabel.iter().for_each(|name| drop(working.config.config.labels.remove(name)));
    settings.unsetannotation.iter().for_each(|name| drop(working.annotations.remove(name)));
    if !add_history {
        working.history.truncate(before);
    }
    Ok(())
}

fn apply_platform(working: &mut Working, settings: &Settings) {
    let config = &mut working.config;
    if let Some(arch) = &settings.arch {
        config.architecture.clone_from(arch);
    }
    if let Some(os) = &settings.os {
        config.os.clone_from(os);
    }
    if let Some(variant) = &settings.variant {
        config.variant = Some(variant.clone()).filter(|v| !v.is_empty());
    }
    set_other(&mut config.other, "os.version", &settings.os_version);
    change_os_features(config, &settings.os_feature);
}

/// Each is added, or with `-` behind its name taken away; `-` alone takes all away.
pub(crate) fn change_os_features(config: &mut hoy_oci::ImageConfig, changes: &[String]) {
    for feature in changes {
        let known = config.other.entry("os.features").or_insert_with(|| Value::Array(Vec::new()));
        let Value::Array(features) = known else { continue };
        match feature.strip_suffix('-') {
            Some("") => features.clear(),
            Some(name) => features.retain(|f| f != name),
            None if features.iter().any(|f| f == feature.as_str()) => {}
            None => features.push(Value::from(feature.as_str())),
        }
        if features.is_empty() {
            config.other.remove("os.features");
        }
    }
}

fn apply_image(working: &mut Working, settings: &Settings) -> Result<()> {
    for annotation in &settings.annotation {
        change_map(&mut working.annotations, annotation);
    }
    if let Some(author) = &settings.author {
        working.config.author = Some(author.clone()).filter(|a| !a.is_empty());
    }
    if let Some(text) = &settings.created_by {
        working.created_by = Some(text.clone()).filter(|t| !t.is_empty());
    }
    if let Some(text) = &settings.history_comment {
        working.history_comment = Some(text.clone()).filter(|t| !t.is_empty());
    }
    set_other(&mut working.config.other, "comment", &settings.comment);
    set_other(&mut working.config.config.other, "Hostname", &settings.hostname);
    set_other(&mut working.config.config.other, "Domainname", &settings.domainname);
    for label in &settings.label {
        change_map(&mut working.config.config.labels, label);
        remember(working, "LABEL", label);
    }
    for port in &settings.port {
        let number = port.strip_suffix('-').unwrap_or(port);
        if port != "-" && !is_port(number) {
            return Err(Error::option("--port", port, "a port is NUMBER or NUMBER-NUMBER, and /tcp, /udp or /sctp"));
        }
        change_set(&mut working.config.config.exposed_ports, port);
        remember(working, "EXPOSE", port);
    }
    for volume in &settings.volume {
        change_set(&mut working.config.config.volumes, volume);
        remember(working, "VOLUME", volume);
    }
    for instruction in &settings.onbuild {
        let known = &mut working.config.config.on_build;
        match instruction.as_str() {
            "-" | "" => *known = None,
            text => known.get_or_insert_default().push(text.to_owned()),
        }
        remember(working, "ONBUILD", instruction);
    }
    Ok(())
}

fn apply_process(
    working: &mut Working,
    settings: &Settings,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<()> {
    for env in &settings.env {
        change_env(&mut working.config.config.env, env, &environment)?;
        remember(working, "ENV", env);
    }
    if let Some(text) = &settings.entrypoint {
        let words = match text.trim_start().starts_with('[') {
            true => words("--entrypoint", text)?,
            false if text.is_empty() => None,
            false => Some(vec!["/bin/sh".to_owned(), "-c".to_owned(), text.clone()]),
        };
        working.config.config.entrypoint = words;
        remember(working, "ENTRYPOINT", text);
    }
    if let Some(text) = &settings.cmd {
        working.config.config.cmd = words("--cmd", text)?;
        remember(working, "CMD", text);
    }
    if let Some(text) = &settings.shell {
        working.config.config.shell = words("--shell", text)?;
        remember(working, "SHELL", text);
    }
    if let Some(signal) = &settings.stop_signal {
        working.config.config.stop_signal = Some(signal.clone()).filter(|s| !s.is_empty());
        remember(working, "STOPSIGNAL", signal);
    }
    if let Some(user) = &settings.user {
        working.config.config.user.clone_from(user);
        remember(working, "USER", user);
    }
    if let Some(dir) = &settings.workingdir {
        working.config.config.working_dir.clone_from(dir);
        remember(working, "WORKDIR", dir);
    }
    Ok(())
}

fn apply_health(working: &mut Working, settings: &Settings) -> Result<()> {
    if let Some(text) = &settings.healthcheck {
        let test = match text.trim().split_once(char::is_whitespace) {
            Some(("CMD-SHELL", line)) => vec!["CMD-SHELL".to_owned(), line.trim().to_owned()],
            _ => words("--healthcheck", text)?.unwrap_or_default(),
        };
        match test.first().map(String::as_str) {
            None => working.config.config.healthcheck = None,
            Some("NONE" | "CMD" | "CMD-SHELL") => {
                working.config.config.healthcheck.get_or_insert_default().test = test;
            }
            Some(_) => {
                let reason = "it begins with CMD, CMD-SHELL or NONE";
                return Err(Error::option("--healthcheck", text, reason));
            }
        }
    }
    for (option, key, value) in [
        ("--healthcheck-interval", "Interval", &settings.healthcheck_interval),
        ("--healthcheck-start-period", "StartPeriod", &settings.healthcheck_start_period),
        ("--healthcheck-start-interval", "StartInterval", &settings.healthcheck_start_interval),
        ("--healthcheck-timeout", "Timeout", &settings.healthcheck_timeout),
    ] {
        let Some(text) = value else { continue };
        let nanoseconds = nanoseconds(text)
            .ok_or_else(|| unread(option, text, &format!("time: invalid duration {text:?}: one is like 1m30s")))?;
        health(working).insert(key.to_owned(), Value::from(nanoseconds));
    }
    if let Some(retries) = settings.healthcheck_retries {
        health(working).insert("Retries".to_owned(), Value::from(retries));
    }
    if let Some(text) = &settings.healthcheck {
        let retries = settings.healthcheck_retries.map(|retries| retries.to_string());
        let flags = [
            ("interval", &settings.healthcheck_interval),
            ("retries", &retries),
            ("start-interval", &settings.healthcheck_start_interval),
            ("start-period", &settings.healthcheck_start_period),
            ("timeout", &settings.healthcheck_timeout),
        ];
        let flags = flags.iter().filter_map(|(name, value)| Some(format!("--{name}={} ", value.as_ref()?)));
        remember(working, "HEALTHCHECK", &format!("{}{text}", flags.collect::<String>()));
    }
    Ok(())
}

fn health(working: &mut Working) -> &mut Map<String, Value> {
    let health: &mut Healthcheck = working.config.config.healthcheck.get_or_insert_default();
    &mut health.other
}

/// The form in which builders remember instructions that have no layer.
fn remember(working: &mut Working, instruction: &str, argument: &str) {
    working.remember(format!("/bin/sh -c #(nop) {instruction} {argument}"));
}

fn unread(option: &str, text: &str, reason: &str) -> Error {
    Error::Refused(format!("parsing {option} {text:?}: {reason}"))
}

fn words(option: &'static str, text: &str) -> Result<Option<Vec<String>>> {
    let words = command(text)
        .ok_or_else(|| unread(option, text, "invalid command line string: its quotes or brackets do not match"))?;
    Ok(Some(words).filter(|words| !words.is_empty()))
}

fn set_other(other: &mut Map<String, Value>, key: &str, value: &Option<String>) {
    match value.as_deref() {
        None => {}
        Some("") => drop(other.remove(key)),
        Some(text) => drop(other.insert(key.to_owned(), Value::from(text))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use hoy_oci::Platform;
    use serde_json::json;

    fn changed(args: &[&str]) -> Result<Working> {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            settings: Settings,
        }
        let line: Line = clap::Parser::try_parse_from(std::iter::once(&"config").chain(args)).unwrap();
        let mut working = Working::from_scratch(&Platform::new("linux", "amd64", None));
        working.config.config.env = vec!["PATH=/bin".to_owned(), "OLD=1".to_owned()];
        let host = |name: &str| (name == "TERM").then(|| "vt100".to_owned());
        apply(&mut working, &line.settings, host, true)?;
        Ok(working)
    }

    #[test]
    fn each_change() {
        for (args, want) in [
            (
                vec!["--env", "PATH=$PATH:/x", "-e", "OLD-", "-e", "TERM"],
                json!({"Env": ["PATH=/bin:/x", "TERM=vt100"]}),
            ),
            (vec!["-e", "-"], json!({})),
            (
                vec!["-e-", "--cmd", "echo 'a b'", "--entrypoint", "[\"/x\", \"y\"]"],
                json!({"Cmd": ["echo", "a b"], "Entrypoint": ["/x", "y"]}),
            ),
            (vec!["-e-", "--entrypoint", "run me", "--cmd", ""], json!({"Entrypoint": ["/bin/sh", "-c", "run me"]})),
            (
                vec!["-e-", "--cmd", "[\"a\"]", "--user", "u:g", "--workingdir", "/w"],
                json!({"Cmd": ["a"], "User": "u:g", "WorkingDir": "/w"}),
            ),
            (vec!["-e-", "--port", "80", "--port", "53/udp", "--port", "80-"], json!({"ExposedPorts": {"53/udp": {}}})),
            (vec!["-e-", "-v", "/data", "-v", "/x", "-v", "/x-"], json!({"Volumes": {"/data": {}}})),
            (
                vec!["-e-", "--label", "a=b=c", "--label", "d", "--label", "e=1", "--label", "e-"],
                json!({"Labels": {"a": "b=c", "d": ""}}),
            ),
            (
                vec!["-e-", "--shell", "/bin/bash -c", "--stop-signal", "TERM", "--onbuild", "RUN x"],
                json!({"Shell": ["/bin/bash", "-c"], "StopSignal": "TERM", "OnBuild": ["RUN x"]}),
            ),
            (
                vec![
                    "-e-",
                    "--healthcheck",
                    "CMD-SHELL a && b",
                    "--healthcheck-interval",
                    "1m30s",
                    "--healthcheck-retries",
                    "3",
                ],
                json!({"Healthcheck": {"Test": ["CMD-SHELL", "a && b"], "Interval": 90_000_000_000_u64, "Retries": 3}}),
            ),
            (vec!["-e-", "--healthcheck", "CMD a 'b c'"], json!({"Healthcheck": {"Test": ["CMD", "a", "b c"]}})),
            (vec!["-e-", "--hostname", "h", "--domainname", "d"], json!({"Hostname": "h", "Domainname": "d"})),
        ] {
            assert_eq!(serde_json::to_value(changed(&args).unwrap().config.config).unwrap(), want, "{args:?}");
        }
        let working =
            changed(&["--arch", "arm64", "--annotation", "a=b", "--author", "me", "--os-feature", "x"]).unwrap();
        assert_eq!(working.annotations, BTreeMap::from([("a".to_owned(), "b".to_owned())]));
        assert_eq!(working.config.other, json!({"os.features": ["x"]}).as_object().unwrap().clone());
        assert!(working.history.is_empty(), "no instruction says these");
        let history = changed(&["--label", "a=b"]).unwrap().history;
        assert_eq!(history[0].created_by.as_deref(), Some("/bin/sh -c #(nop) LABEL a=b"));
        assert!(history[0].empty_layer);
    }

    #[test]
    fn refusals_name_the_option() {
        for (args, want) in [
            (["--port", "x"], "--port"),
            (["--env", "NOPE"], "setting env \"NOPE\""),
            (["--port", "70000"], "--port"),
            (["--cmd", "'open"], "--cmd"),
            (["--entrypoint", "[1]"], "--entrypoint"),
            (["--healthcheck", "curl"], "--healthcheck"),
            (["--healthcheck-timeout", "5"], "--healthcheck-timeout"),
        ] {
            assert!(changed(&args).unwrap_err().to_string().contains(want), "{args:?}");
        }
    }
}
