//! Names of signals (signal(7), x86 and ARM numbers).

use hoy_cli::{Error, Result};

const NAMES: &[&str] = &[
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

/// The number of a signal given by name, with or without `SIG`, or by number.
pub(crate) fn parse(text: &str) -> Result<i32> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let numbered = || name.parse::<i32>().ok().filter(|n| (0..=64).contains(n) && !name.starts_with('+'));
    let named = || NAMES.iter().position(|known| *known == name).and_then(|at| i32::try_from(at + 1).ok());
    let alias = || match name {
        "IOT" => Some(6),
        "CLD" => Some(17),
        "POLL" => Some(29),
        _ => None,
    };
    let realtime = || {
        let from = |prefix, base, sign| {
            let rest: &str = name.strip_prefix(prefix)?;
            let offset = if rest.is_empty() { 0 } else { rest.get(1..)?.parse::<i32>().ok()? };
            Some(base + sign * offset).filter(|n| (34..=64).contains(n))
        };
        from("RTMIN", 34, 1).or_else(|| from("RTMAX", 64, -1))
    };
    let found = numbered().or_else(named).or_else(alias).or_else(realtime);
    found.ok_or_else(|| Error::msg(format!("unknown signal \"{text}\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        let cases = [
            ("KILL", Some(9)),
            ("sigterm", Some(15)),
            ("15", Some(15)),
            ("SYS", Some(31)),
            ("RTMIN+3", Some(37)),
            ("SIGRTMAX-1", Some(63)),
            ("0", Some(0)),
            ("65", None),
            ("-1", None),
            ("NONE", None),
            ("", None),
        ];
        for (text, want) in cases {
            assert_eq!(parse(text).ok(), want, "{text:?}");
        }
    }
}
