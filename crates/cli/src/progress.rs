//! How far things are, on standard error.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar for each of several things on a terminal, and a line for each elsewhere. It can be told from any thread.
pub struct Progress {
    mode: Mode,
    bars: Mutex<HashMap<String, ProgressBar>>,
    /// All of them together, below them.
    total: OnceLock<ProgressBar>,
}

const TEMPLATE: &str = "{msg} [{bar:30}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}";

enum Mode {
    Quiet,
    Lines,
    Bars(MultiProgress),
}

impl Progress {
    /// Bars where standard error is a terminal, lines where it is not, nothing where `quiet`.
    pub fn new(quiet: bool) -> Self {
        let mode = match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Mode::Quiet,
            (false, false) => Mode::Lines,
            (false, true) => Mode::Bars(MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10))),
        };
        Self { mode, bars: Mutex::default(), total: OnceLock::new() }
    }

    fn with_bar(&self, label: &str, act: impl FnOnce(&ProgressBar)) {
        if let Some(bar) = self.bars.lock().unwrap_or_else(PoisonError::into_inner).get(label) {
            act(bar);
        }
    }

    /// So many things of so many bytes together are to come; more may be said later.
    pub fn expect(&self, count: usize, bytes: u64) {
        if let Mode::Bars(all) = &self.mode
            && count > 1
        {
            self.total.get_or_init(|| drawn(all.add(ProgressBar::new(0)), "Total")).inc_length(bytes);
        }
    }

    /// Something of `total` bytes begins; what was begun before begins again.
    pub fn begin(&self, label: &str, total: u64) {
        match &self.mode {
            Mode::Quiet => {}
            Mode::Lines => write_line(label),
            Mode::Bars(all) => {
                let mut bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(bar) = bars.get(label) {
                    self.total.get().inspect(|sum| sum.dec(bar.position()));
                    return bar.set_position(0);
                }
                let bar = ProgressBar::new(total);
                let bar =
                    self.total.get().map_or_else(|| all.add(bar.clone()), |sum| all.insert_before(sum, bar.clone()));
                bars.insert(label.to_owned(), drawn(bar, label));
            }
        }
    }

    /// So many more bytes of it have come.
    pub fn advance(&self, label: &str, bytes: u64) {
        if matches!(self.mode, Mode::Bars(_)) {
            self.with_bar(label, |bar| {
                bar.inc(bytes);
                self.total.get().inspect(|sum| sum.inc(bytes));
            });
        }
    }

    /// It has ended, of which `total` bytes were expected; `note` says how where that is of interest.
    pub fn end(&self, label: &str, total: u64, note: Option<&str>) {
        match (&self.mode, note) {
            (Mode::Quiet, _) | (Mode::Lines, None) => {}
            (Mode::Lines, Some(note)) => write_line(&format!("{label} {note}")),
            (Mode::Bars(all), note) => {
                let style = ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
                let bar = self.bars.lock().unwrap_or_else(PoisonError::into_inner).remove(label);
                // What was there, or came in another way, is done too.
                let rest = total.saturating_sub(bar.as_ref().map_or(0, ProgressBar::position));
                self.total.get().inspect(|sum| sum.inc(rest));
                let bar = bar.unwrap_or_else(|| all.add(ProgressBar::new(0)));
                bar.set_style(style);
                bar.finish_with_message(format!("{label} {}", note.unwrap_or("done")));
            }
        }
    }

    /// Says something that is not the progress of one thing.
    pub fn say(&self, text: &str) {
        match &self.mode {
            Mode::Quiet => {}
            Mode::Lines => write_line(text),
            // Nobody is left to tell when the terminal is gone.
            Mode::Bars(all) => all.println(text).unwrap_or_default(),
        }
    }
}

/// A bar with its name, size and speed.
fn drawn(bar: ProgressBar, label: &str) -> ProgressBar {
    // The template is a constant that the tests have drawn.
    bar.set_style(ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message(label.to_owned());
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

fn write_line(text: &str) {
    // Standard error may be closed, and then there is nobody to tell.
    writeln!(std::io::stderr(), "{text}").unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_valid_and_any_order_is_borne() {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        let progress = Progress { mode: Mode::Bars(all), bars: Mutex::default(), total: OnceLock::new() };
        progress.end("never begun", 7, None);
        progress.expect(2, 10);
        progress.begin("a", 10);
        progress.advance("a", 5);
        // It breaks and begins again.
        progress.begin("a", 10);
        progress.advance("a", 2);
        let total = || progress.total.get().map(|bar| (bar.position(), bar.length()));
        assert_eq!(total(), Some((2, Some(10))));
        progress.expect(2, 5);
        progress.end("a", 10, Some("was there"));
        progress.end("b", 5, None);
        progress.say("x");
        assert_eq!(total(), Some((15, Some(15))));
        for template in [TEMPLATE, "{msg}"] {
            assert!(ProgressStyle::with_template(template).is_ok());
        }
    }
}
