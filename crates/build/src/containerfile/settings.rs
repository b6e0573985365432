//! Instructions that change what an image says about itself and make no layer.

use std::path::Path;
use std::time::Duration;

use hoy_containerfile::{CommandLine, Healthcheck, Instruction, Kind, Word};
use hoy_oci::Platform;
use serde_json::{Map, Value};

use crate::change::is_port;
use crate::containerfile::state::State;
use crate::{Error, Result, Working};

/// Carries out instructions on the configuration of a working container.
///
/// # Errors
/// [`Error::Refused`] for what is no such instruction.
pub fn instruct(working: &mut Working, instructions: &[String]) -> Result<()> {
    if instructions.is_empty() {
        return Ok(());
    }
    let config = &working.config;
    let platform = Platform::new(&config.os, &config.architecture, config.variant.as_deref());
    let mut state = State::of(working.clone(), &platform);
    for text in instructions {
        let instruction =
            Instruction::parse(text).map_err(|error| Error::Refused(error.render("--change").trim().to_owned()))?;
        if let Kind::Workdir(word) = &instruction.kind {
            let path = state.text(word)?;
            let old = Path::new(if state.working.config.config.working_dir.is_empty() {
                "/"
            } else {
                &state.working.config.config.working_dir
            });
            state.working.config.config.working_dir = old.join(path).display().to_string();
        } else if !apply(&mut state, &instruction)? {
            let reason = "only CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME and WORKDIR change a configuration";
            return Err(Error::option("--change", text, reason));
        }
    }
    *working = state.working;
    Ok(())
}

/// Carries out one such instruction; false for any other.
pub(crate) fn apply(state: &mut State, instruction: &Instruction) -> Result<bool> {
    match &instruction.kind {
        Kind::Env(pairs) => {
            // All values are those from before the instruction.
            let pairs: Result<Vec<_>> =
                pairs.iter().map(|(name, value)| Ok((state.text(name)?, state.text(value)?))).collect();
            for (name, value) in pairs? {
                state.set_env(&name, &value);
            }
        }
        Kind::Label(pairs) => {
            let pairs: Result<Vec<_>> =
                pairs.iter().map(|(name, value)| Ok((state.text(name)?, state.text(value)?))).collect();
            pairs?.into_iter().for_each(|(name, value)| state.set_label(name, value));
        }
        Kind::Maintainer(word) => state.working.config.author = Some(word.text.clone()),
        Kind::Expose(words) => {
            for word in words {
                for port in state.words(word)? {
                    expose(state, word, &port)?;
                }
            }
        }
        Kind::Volume(words) => {
            for word in words {
                let path = state.text(word)?;
                let empty = Value::Object(Map::new());
                state.working.config.config.volumes.insert(path, empty);
            }
        }
        Kind::User(word) => state.working.config.config.user = state.text(word)?,
        Kind::Cmd(line) => {
            state.working.config.config.cmd = Some(command(state, line));
            state.has_cmd = true;
        }
        Kind::Entrypoint(line) => {
            state.working.config.config.entrypoint = Some(command(state, line));
            if !state.has_cmd {
                state.working.config.config.cmd = None;
            }
        }
        Kind::Shell(words) => {
            state.working.config.config.shell = Some(words.iter().map(|word| word.text.clone()).collect());
        }
        Kind::StopSignal(word) => state.working.config.config.stop_signal = Some(state.text(word)?),
        Kind::Healthcheck(health) => {
            state.working.config.config.healthcheck = Some(healthcheck(health));
        }
        Kind::Onbuild(_, text) => {
            state.working.config.config.on_build.get_or_insert_default().push(text.clone());
        }
        _ => return Ok(false),
    }
    // As written: a variable in it may stand for what nobody is to read.
    state.remember(&instruction.statement.text);
    Ok(true)
}

/// `80`, `80/udp`, `8000-8010`, and `8080:80`, of which the image keeps the last part.
fn expose(state: &mut State, word: &Word, text: &str) -> Result<()> {
    let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let inner = numbers.rsplit(':').next().unwrap_or(numbers);
    let port = format!("{inner}/{}", protocol.to_lowercase());
    if !is_port(&port) {
        let error = hoy_containerfile::Error::Value("EXPOSE".to_owned(), text.to_owned());
        return Err(Error::Language { error, span: word.span });
    }
    let (first, last) = inner.split_once('-').unwrap_or((inner, inner));
    let number = |text: &str| text.parse::<u16>().unwrap_or_default();
    for number in number(first)..=number(last) {
        let key = format!("{number}/{}", protocol.to_lowercase());
        state.working.config.config.exposed_ports.insert(key, Value::Object(Map::new()));
    }
    Ok(())
}

fn command(state: &State, line: &CommandLine) -> Vec<String> {
    state.command(line.words.iter().map(|word| word.text.clone()).collect(), line.is_shell)
}

fn healthcheck(health: &Healthcheck) -> hoy_oci::Healthcheck {
    let mut made = hoy_oci::Healthcheck::default();
    let Some(line) = &health.command else {
        made.test = vec!["NONE".to_owned()];
        return made;
    };
    let words = line.words.iter().map(|word| word.text.clone());
    made.test = std::iter::once(if line.is_shell { "CMD-SHELL" } else { "CMD" }.to_owned()).chain(words).collect();
    for (name, duration) in [
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ] {
        if duration > Duration::ZERO {
            made.other.insert(name.to_owned(), Value::from(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)));
        }
    }
    if health.retries > 0 {
        made.other.insert("Retries".to_owned(), Value::from(health.retries));
    }
    made
}
