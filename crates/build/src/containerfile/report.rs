//! What a person sees of a build: on standard error, a line for each step and each line of output.

use std::io::Write;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use crate::remote::without_credentials;

/// Where a build tells what it does.
pub struct Report {
    out: Mutex<Box<dyn Write + Send>>,
    is_quiet: bool,
}

impl std::fmt::Debug for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Report").field("is_quiet", &self.is_quiet).finish_non_exhaustive()
    }
}

impl Report {
    /// Tells `out`; where it is quiet, only what failed.
    pub fn new(out: Box<dyn Write + Send>, is_quiet: bool) -> Self {
        Self { out: Mutex::new(out), is_quiet }
    }

    /// Something that a person should know even if nothing else is told.
    pub(crate) fn warn(&self, text: &str) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody is left to tell when it is closed.
        writeln!(out, "hoy-build: {text}").unwrap_or_default();
    }

    /// A line of a step.
    pub(crate) fn line(&self, step: &str, text: &str) {
        if self.is_quiet {
            return;
        }
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(out, "{step} {}", without_credentials(text)).unwrap_or_default();
    }

    /// How a step ended.
    pub(crate) fn done(&self, step: &str, found: bool, took: Duration, layer: Option<u64>) {
        let size = layer.map(|bytes| format!(", layer of {bytes} bytes")).unwrap_or_default();
        match found {
            true => self.line(step, "CACHED"),
            false => self.line(step, &format!("DONE {:.2}s{size}", took.as_secs_f64())),
        }
    }

    /// The last lines of a command that failed, where they were not told before.
    pub(crate) fn failed(&self, lines: &[String]) {
        if self.is_quiet {
            let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
            lines.iter().for_each(|line| writeln!(out, "{line}").unwrap_or_default());
        }
    }
}
