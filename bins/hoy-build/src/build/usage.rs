//! `build --log-rusage`: what each step used, in the words of buildah.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hoy_build::{Event, Report};
use hoy_cli::{Context as _, Result};
use hoy_sys::process::{Usage, usage};

/// Tells it too, and at the end that of the whole build, in the file or on standard error. What steps use that are done at
/// once cannot be told apart.
pub(crate) fn told(report: Report, file: Option<&Path>) -> Result<Report> {
    let out: Box<dyn Write + Send> = match file {
        Some(path) => Box::new(File::create(path).context(|| format!("write \"{}\"", path.display()))?),
        None => Box::new(std::io::stderr()),
    };
    let (whole, since) = (usage().unwrap_or_default(), Instant::now());
    let state = Mutex::new((out, BTreeMap::<String, (Instant, Usage)>::new()));
    Ok(report.also(Box::new(move |event| {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let (out, begun) = &mut *state;
        match event {
            Event::Begin { step, .. } => {
                begun.insert(step.to_owned(), (Instant::now(), usage().unwrap_or_default()));
            }
            Event::End { step, .. } => {
                if let Some((since, before)) = begun.remove(step) {
                    let line = line(&before, &usage().unwrap_or_default(), since.elapsed());
                    // A build does not end because its watcher has.
                    writeln!(out, "{line}").unwrap_or_default();
                }
            }
            Event::Committed { .. } => {
                let line = line(&whole, &usage().unwrap_or_default(), since.elapsed());
                writeln!(out, "{line}").unwrap_or_default();
            }
            _ => {}
        }
    })))
}

fn line(before: &Usage, after: &Usage, elapsed: Duration) -> String {
    let seconds = |before: Duration, after: Duration| format!("{:.3}s", after.saturating_sub(before).as_secs_f64());
    format!(
        "{}(system) {}(user) {:.3}s(elapsed) {} input {} output",
        seconds(before.system, after.system),
        seconds(before.user, after.user),
        elapsed.as_secs_f64(),
        after.blocks_in.saturating_sub(before.blocks_in),
        after.blocks_out.saturating_sub(before.blocks_out),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let before = Usage { system: Duration::from_millis(5), blocks_in: 7, ..Usage::default() };
        let after =
            Usage { system: Duration::from_millis(17), user: Duration::from_millis(1500), blocks_in: 8, blocks_out: 3 };
        let want = "0.012s(system) 1.500s(user) 2.000s(elapsed) 1 input 3 output";
        assert_eq!(line(&before, &after, Duration::from_secs(2)), want);
    }
}
