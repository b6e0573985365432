//! Limits of a process: setrlimit(2).

use crate::{Error, Host, Options, Result, Rlimit};

/// Every limit by its name in `--ulimit`.
const NAMES: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// What a container has unless told otherwise: podman-create(1) "--ulimit".
const DEFAULT: [(&str, u64); 2] = [("RLIMIT_NOFILE", 1_048_576), ("RLIMIT_NPROC", 4_194_304)];

/// The limits of the process. One above what this process may set is brought down to it; `warnings` says so where the
/// caller asked for it.
pub(crate) fn rlimits(options: &Options, host: &Host, warnings: &mut Vec<String>) -> Result<Vec<Rlimit>> {
    let mut limits: Vec<Rlimit> = Vec::new();
    let usual = options.defaults.ulimits.iter().map(|text| (text, false));
    for (text, is_asked) in usual.chain(options.ulimit.iter().map(|text| (text, true))) {
        let (limit, lowered) = clamp(parse(text, host)?, host);
        if lowered && is_asked {
            let most = limit.hard;
            warnings.push(format!("--ulimit {text}: this process may not raise the limit, so it stays at {most}"));
        }
        limits.retain(|known| known.kind != limit.kind);
        limits.push(limit);
    }
    for (kind, value) in DEFAULT {
        if limits.iter().all(|limit| limit.kind != kind) {
            limits.push(clamp(Rlimit { kind: kind.to_owned(), hard: value, soft: value }, host).0);
        }
    }
    limits.sort_by(|a, b| a.kind.cmp(&b.kind));
    Ok(limits)
}

fn parse(text: &str, host: &Host) -> Result<Rlimit> {
    let wrong = |reason: &str| Error::option("--ulimit", text, reason);
    let (name, values) = text.split_once('=').ok_or_else(|| wrong("its form is NAME=SOFT or NAME=SOFT:HARD"))?;
    if !NAMES.contains(&name) {
        return Err(wrong("no limit has this name: setrlimit(2)"));
    }
    let kind = format!("RLIMIT_{}", name.to_uppercase());
    if values == "host" {
        return host.limit(&kind).cloned().ok_or_else(|| wrong("the host's limit is not known"));
    }
    let number = |text: &str| match text {
        "-1" | "unlimited" => Ok(u64::MAX),
        text => text.parse().map_err(|_| wrong("a limit is a number, or -1 for none")),
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let limit = Rlimit { kind, soft: number(soft)?, hard: number(hard)? };
    if limit.soft > limit.hard { Err(wrong("the soft limit is above the hard one")) } else { Ok(limit) }
}

fn clamp(mut limit: Rlimit, host: &Host) -> (Rlimit, bool) {
    let most = host.limit(&limit.kind).map_or(u64::MAX, |own| own.hard);
    let lower = !host.can_raise_limits && limit.hard > most;
    if lower {
        limit.hard = most;
        limit.soft = limit.soft.min(most);
    }
    (limit, lower)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Defaults;
    use crate::tests::host;

    #[test]
    fn within_what_is_allowed() {
        let run = |texts: &[&str], can_raise_limits| {
            let options = Options { ulimit: texts.iter().map(|&t| t.to_owned()).collect(), ..Options::default() };
            let mut warnings = Vec::new();
            let limits = rlimits(&options, &Host { can_raise_limits, ..host() }, &mut warnings).unwrap();
            let limits: Vec<String> =
                limits.iter().map(|l| format!("{}={}:{}", &l.kind[7..], l.soft, l.hard)).collect();
            (limits.join(" "), warnings.len())
        };
        assert_eq!(run(&[], true), ("NOFILE=1048576:1048576 NPROC=4194304:4194304".to_owned(), 0));
        assert_eq!(run(&[], false), ("NOFILE=20000:20000 NPROC=96365:96365".to_owned(), 0));
        assert_eq!(
            run(&["nofile=10:90000", "core=0"], false),
            ("CORE=0:0 NOFILE=10:20000 NPROC=96365:96365".to_owned(), 1)
        );
        assert_eq!(run(&["nofile=host"], true), ("NOFILE=1024:20000 NPROC=4194304:4194304".to_owned(), 0));
        let defaults = Defaults { ulimits: vec!["nofile=host".to_owned(), "core=1".to_owned()], ..Defaults::default() };
        let options = Options { defaults, ulimit: vec!["core=2".to_owned()], ..Options::default() };
        let limits = rlimits(&options, &host(), &mut Vec::new()).unwrap();
        let limits: Vec<(&str, u64)> = limits.iter().map(|limit| (&limit.kind[7..], limit.soft)).collect();
        assert_eq!(limits, [("CORE", 2), ("NOFILE", 1024), ("NPROC", 96_365)]);
        for text in ["nofile", "what=1", "nofile=x", "nofile=2:1"] {
            assert!(parse(text, &host()).is_err(), "{text}");
        }
        assert_eq!(parse("memlock=-1", &host()).unwrap().soft, u64::MAX);
    }
}
