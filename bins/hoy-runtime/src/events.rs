//! `events`: lines of JSON.

use std::time::Duration;

use clap::Args;
use hoy_cli::{Result, print_line};
use hoy_runtime::container::Container;
use hoy_runtime::{stats, watch};

#[derive(Debug, Args)]
pub(crate) struct Events {
    /// Time between two reports, as 5s, 500ms or 1m30s
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    interval: Duration,
    /// Report once, now, and end
    #[arg(long)]
    stats: bool,
    /// The container
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

/// Prints what happens in the container, until it ends.
pub(crate) fn print(container: &Container, args: &Events) -> Result<()> {
    if args.stats {
        return print_line(stats(container)?);
    }
    watch(container, args.interval, |event| print_line(event))
}

/// A time as Go writes it: decimal numbers with units, one after the other.
fn duration(text: &str) -> std::result::Result<Duration, String> {
    let wrong = || format!("\"{text}\" is not a time like 5s, 500ms or 1m30s");
    let (mut rest, mut seconds) = (text, 0.0);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, after) = rest.split_at(end);
        let units = [("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9), ("h", 3600.0), ("m", 60.0), ("s", 1.0)];
        let (unit, factor) = units.iter().find(|(unit, _)| after.starts_with(unit)).ok_or_else(wrong)?;
        seconds += number.parse::<f64>().map_err(|_| wrong())? * factor;
        rest = after.strip_prefix(unit).ok_or_else(wrong)?;
    }
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let cases = [
            ("5s", Some(5000)),
            ("500ms", Some(500)),
            ("1m30s", Some(90_000)),
            ("1.5h", Some(5_400_000)),
            ("0s", None),
            ("5", None),
            ("s", None),
            ("-5s", None),
            ("", None),
        ];
        for (text, want) in cases {
            assert_eq!(duration(text).ok(), want.map(Duration::from_millis), "{text:?}");
        }
    }
}
