//! Sizes, lengths of time and moments as people type them.

use std::time::Duration;

use hoy_oci::Timestamp;

/// A size in bytes: `1048576`, `500MB`, `1.5 GiB`, `10g`; a unit without an `i` is decimal unless it is one letter.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("\"{text}\" is no size: give one as 500MB, 2GiB or 10g");
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let unit = unit.trim().to_ascii_lowercase();
    let base: f64 = if unit.ends_with("ib") || unit.len() == 1 && unit != "b" { 1024.0 } else { 1000.0 };
    let power = match unit.chars().next() {
        None | Some('b') => 0,
        Some(first) => "kmgtpe".find(first).ok_or_else(wrong)? as i32 + 1,
    };
    let is_unit = matches!(unit.get(1.min(unit.len())..), Some("" | "b" | "ib"));
    match is_unit {
        // A store of more than 2^53 bytes may be off by a few.
        true => Ok((number * base.powi(power)) as u64),
        false => Err(wrong()),
    }
}

/// A moment: RFC 3339, a date with or without time, seconds since 1970, or so long before `now`: `24h`, `1h30m`, `10d`.
pub(crate) fn moment(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Ok(parsed) = text.parse() {
        return Some(parsed);
    }
    for end in ["Z", ":00Z", "T00:00:00Z"] {
        if let Ok(parsed) = format!("{}{end}", text.replacen(' ', "T", 1)).parse() {
            return Some(parsed);
        }
    }
    let seconds = text.split('.').next().and_then(|seconds| seconds.parse::<i64>().ok());
    if let Some(seconds) = seconds {
        return Timestamp::from_unix(seconds);
    }
    let seconds = i64::try_from(duration(text)?.as_secs()).ok()?;
    Timestamp::from_unix(now.unix_seconds().checked_sub(seconds)?)
}

/// Numbers with units one after the other, as Go has it, and days.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let at = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(at);
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, more) = after.split_at(end);
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86400.0,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        total = total.checked_add(part)?;
        rest = more;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, want) in
            [("0", 0), ("512", 512), ("1kB", 1000), ("1.5 GiB", 3 << 29), ("2g", 2 << 30), ("3mb", 3_000_000)]
        {
            assert_eq!(size(text), Ok(want), "{text}");
        }
        for wrong in ["", "x", "1x", "-1", "1kk", "1mbb", "1b2"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn moments() {
        let now = Timestamp::from_unix(1_000_000).unwrap();
        let at = |text: &str| moment(text, now).map(|found| found.unix_seconds());
        assert_eq!(at("1h30m"), Some(1_000_000 - 5400));
        assert_eq!(at("10d"), Some(1_000_000 - 864_000));
        assert_eq!(at("86400"), Some(86400));
        assert_eq!(at("1970-01-02"), Some(86400));
        assert_eq!(at("1970-01-02T00:00"), Some(86400));
        assert_eq!(at("1970-01-02 00:00:01"), Some(86401));
        assert_eq!(at("1970-01-02T01:00:00+01:00"), Some(86400));
        for wrong in ["", "h", "1x", "yesterday", "1970-13-01", "1e400h"] {
            assert_eq!(at(wrong), None, "{wrong}");
        }
    }
}
