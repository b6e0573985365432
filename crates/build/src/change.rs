//! What a typed word changes in a map, a set or an environment.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::words::expand;
use crate::{Error, Result};

/// `NAME=VALUE`, `NAME` for an empty value, `NAME-` to remove, `-` to remove all.
pub(crate) fn change_map(map: &mut BTreeMap<String, String>, change: &str) {
    match (change.split_once('='), change.strip_suffix('-')) {
        (Some((name, value)), _) => drop(map.insert(name.to_owned(), value.to_owned())),
        (None, Some("")) => map.clear(),
        (None, Some(name)) => drop(map.remove(name)),
        (None, None) => drop(map.insert(change.to_owned(), String::new())),
    }
}

/// `NAME`, `NAME-` to remove, `-` to remove all.
pub(crate) fn change_set(set: &mut BTreeMap<String, Value>, change: &str) {
    match change.strip_suffix('-') {
        Some("") => set.clear(),
        Some(name) => drop(set.remove(name)),
        None => drop(set.insert(change.to_owned(), Value::Object(Map::new()))),
    }
}

/// As [`change_map`]; a name alone takes its value from `environment`, and values may refer to what is set.
///
/// # Errors
/// [`Error::Option`] where there is none.
pub(crate) fn change_env(
    env: &mut Vec<String>,
    change: &str,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<()> {
    let name_of = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let (name, value) = match (change.split_once('='), change.strip_suffix('-')) {
        (None, Some("")) => {
            env.clear();
            return Ok(());
        }
        (None, Some(name)) => {
            env.retain(|entry| name_of(entry) != name);
            return Ok(());
        }
        (None, None) => {
            let none = || {
                Error::Refused(format!("setting env {change:?}: no value given, and no variable here has that name"))
            };
            (change, environment(change).ok_or_else(none)?)
        }
        (Some((name, value)), _) => {
            let known = |wanted: &str| {
                let entry = env.iter().find(|entry| name_of(entry) == wanted)?;
                entry.split_once('=').map(|(_, value)| value.to_owned())
            };
            (name, expand(value, known))
        }
    };
    let entry = format!("{name}={value}");
    match env.iter_mut().find(|known| name_of(known) == name) {
        Some(known) => *known = entry,
        None => env.push(entry),
    }
    Ok(())
}

/// `NUMBER` or `NUMBER-NUMBER`, with `/tcp`, `/udp` or `/sctp`.
pub(crate) fn is_port(text: &str) -> bool {
    let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let number = |n: &str| !n.starts_with('+') && n.parse::<u16>().is_ok();
    matches!(protocol, "tcp" | "udp" | "sctp") && numbers.splitn(2, '-').all(number)
}

/// Go's durations: numbers with units, one after another.
pub(crate) fn nanoseconds(text: &str) -> Option<u64> {
    let mut total = 0_f64;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let (number, after) = rest.split_at(end);
        let unit = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        total += number.parse::<f64>().ok()?
            * match unit {
                "ns" => 1.0,
                "us" | "µs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                _ => return None,
            };
        rest = after;
    }
    // A float becomes the nearest integer there is.
    Some(total as u64)
}

/// A duration as Go writes it: `1h30m`, `24h`, `90s`.
///
/// # Errors
/// [`Error::Option`] for what is none.
pub fn duration(text: &str) -> Result<std::time::Duration> {
    let wrong = || Error::option("--cache-ttl", text, "a duration is like 1h30m or 24h");
    nanoseconds(text).or((text == "0").then_some(0)).map(std::time::Duration::from_nanos).ok_or_else(wrong)
}
