//! Sizes and times as people read them, in the words of podman and Docker.

use std::time::Duration;

/// A size in decimal units and three digits: `4.27 MB`.
pub fn size(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB"];
    // Sizes beyond 2^53 lose digits that are not shown.
    let mut value = bytes as f64;
    let mut unit = "EB";
    for name in units {
        if value < 999.5 {
            unit = name;
            break;
        }
        value /= 1000.0;
    }
    let decimals = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    let digits = format!("{value:.decimals$}");
    let digits = if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { &digits };
    format!("{digits} {unit}")
}

/// A length of time, roughly: `3 hours`, `About a minute`.
pub fn duration(length: Duration) -> String {
    let seconds = length.as_secs();
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match (seconds, minutes, hours) {
        (0, ..) => "Less than a second".to_owned(),
        (1, ..) => "1 second".to_owned(),
        (2..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, 2..60, _) => format!("{minutes} minutes"),
        (_, _, 1) => "About an hour".to_owned(),
        (_, _, 2..48) => format!("{hours} hours"),
        (_, _, 48..336) => format!("{} days", hours / 24),
        (_, _, 336..1440) => format!("{} weeks", hours / 24 / 7),
        (_, _, 1440..17520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// How long ago a moment was, at a moment `now`, both in seconds since the epoch.
pub fn ago(then: i64, now: i64) -> String {
    let seconds = u64::try_from(now.saturating_sub(then)).unwrap_or_default();
    format!("{} ago", duration(Duration::from_secs(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, want) in [
            (0, "0 B"),
            (512, "512 B"),
            (1500, "1.5 kB"),
            (4_270_000, "4.27 MB"),
            (12_345_678, "12.3 MB"),
            (123_456_789, "123 MB"),
            (999_900_000, "1 GB"),
            (100_000_000_000, "100 GB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(size(bytes), want, "{bytes}");
        }
    }

    #[test]
    fn times() {
        for (seconds, want) in [
            (0, "Less than a second ago"),
            (59, "59 seconds ago"),
            (90, "About a minute ago"),
            (3000, "50 minutes ago"),
            (3600, "About an hour ago"),
            (3 * 3600, "3 hours ago"),
            (50 * 3600, "2 days ago"),
            (15 * 86400, "2 weeks ago"),
            (90 * 86400, "3 months ago"),
            (800 * 86400, "2 years ago"),
        ] {
            assert_eq!(ago(1000, 1000 + seconds), want, "{seconds}");
        }
    }
}
