//! The file of `--log`: what engines read when this program has failed, and with `--debug` what it did.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use hoy_cli::{Context, Result};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::args::LogFormat;

/// How grave it is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Level {
    Error,
    Debug,
}

/// Adds one line, one object when the format is JSON, that says `message`.
pub(crate) fn add(path: &Path, format: LogFormat, level: Level, message: &str) -> Result<()> {
    let open = OpenOptions::new().append(true).create(true).open(path);
    let mut file = open.context(|| format!("open log \"{}\"", path.display()))?;
    file.write_all(line(format, level, message, OffsetDateTime::now_utc()).as_bytes())
        .context(|| format!("write log \"{}\"", path.display()))
}

fn line(format: LogFormat, level: Level, message: &str, now: OffsetDateTime) -> String {
    let time = now.replace_nanosecond(0).unwrap_or(now).format(&Rfc3339).unwrap_or_default();
    let level = match level {
        Level::Error => "error",
        Level::Debug => "debug",
    };
    match format {
        LogFormat::Json => format!("{}\n", serde_json::json!({"level": level, "msg": message, "time": time})),
        LogFormat::Text => format!("time=\"{time}\" level={level} msg={message:?}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let json = r#"{"level":"error","msg":"a \"b\"","time":"1970-01-01T00:00:00Z"}"#;
        assert_eq!(line(LogFormat::Json, Level::Error, "a \"b\"", OffsetDateTime::UNIX_EPOCH), format!("{json}\n"));
        let text = "time=\"1970-01-01T00:00:00Z\" level=debug msg=\"a \\\"b\\\"\"\n";
        assert_eq!(line(LogFormat::Text, Level::Debug, "a \"b\"", OffsetDateTime::UNIX_EPOCH), text);
    }
}
