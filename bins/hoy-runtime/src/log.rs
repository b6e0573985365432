//! The file of `--log`: what engines read when this program has failed, and with `--debug` each step.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use hoy_cli::{Context, Result};
use hoy_runtime::Trace;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::args::LogFormat;

/// How grave it is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Level {
    Error,
    Debug,
}

/// Where lines go.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    file: Option<PathBuf>,
    format: LogFormat,
}

impl Log {
    /// Has them go to `file`, or to standard error.
    pub(crate) fn new(file: Option<PathBuf>, format: LogFormat) -> Self {
        Self { file, format }
    }

    /// Whether a file is written.
    pub(crate) fn is_file(&self) -> bool {
        self.file.is_some()
    }

    /// Adds one line, one object when the format is JSON, that says `message`.
    pub(crate) fn say(&self, level: Level, message: &str) -> Result<()> {
        let line = line(self.format, level, message, OffsetDateTime::now_utc());
        let Some(path) = &self.file else {
            // It may be closed, and then there is nobody to tell.
            std::io::stderr().write_all(line.as_bytes()).unwrap_or_default();
            return Ok(());
        };
        let open = OpenOptions::new().append(true).create(true).open(path);
        let mut file = open.context(|| format!("open log \"{}\"", path.display()))?;
        file.write_all(line.as_bytes()).context(|| format!("write log \"{}\"", path.display()))
    }

    /// Has the steps of the work told.
    pub(crate) fn trace(&self) -> Trace {
        let log = self.clone();
        // A log that cannot be written is told of by the command's own first line.
        Trace::new(move |step| log.say(Level::Debug, step).unwrap_or_default())
    }
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
