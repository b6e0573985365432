//! Steps under way on a terminal: each with its time and its last lines, those that are done above.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How many lines of a step's output are seen.
const LINES: usize = 4;
/// A step under way.
const STEP: &str = "{wide_msg} {elapsed}";
/// A line of its output.
const OUTPUT: &str = "  {wide_msg}";

/// A view of steps on standard error, which is a terminal. It can be told from any thread.
pub struct Steps {
    all: MultiProgress,
    under_way: Mutex<HashMap<String, Step>>,
}

struct Step {
    text: String,
    bar: ProgressBar,
    lines: VecDeque<String>,
    bars: Vec<ProgressBar>,
}

impl Default for Steps {
    fn default() -> Self {
        Self::on(ProgressDrawTarget::stderr_with_hz(10))
    }
}

impl Steps {
    fn on(target: ProgressDrawTarget) -> Self {
        Self { all: MultiProgress::with_draw_target(target), under_way: Mutex::default() }
    }

    fn with<T>(&self, act: impl FnOnce(&mut HashMap<String, Step>) -> T) -> T {
        act(&mut self.under_way.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// `text` begins in the lane `lane`, in which one thing is done at a time; what was done there before is over.
    pub fn begin(&self, lane: &str, text: &str) {
        self.end(lane, "");
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let text: String = text.chars().filter(|c| !c.is_control()).collect();
        let bar = self.bar(&text, STEP);
        bar.enable_steady_tick(Duration::from_millis(100));
        let step = Step { text, bar, lines: VecDeque::new(), bars: Vec::new() };
        self.with(|steps| drop(steps.insert(lane.to_owned(), step)));
    }

    fn bar(&self, text: &str, template: &str) -> ProgressBar {
        let bar = self.all.add(ProgressBar::new_spinner());
        // The templates are constants that the tests have drawn.
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.set_message(text.to_owned());
        bar
    }

    /// A line of what is done in `lane`.
    pub fn output(&self, lane: &str, text: &str) {
        // What a command writes does nothing to the terminal.
        let text: String = text.replace('\t', " ").chars().filter(|c| !c.is_control()).collect();
        self.with(|steps| {
            let Some(step) = steps.get_mut(lane) else { return };
            step.lines.push_back(text);
            if step.lines.len() > LINES {
                step.lines.pop_front();
            } else {
                let last = step.bars.last().unwrap_or(&step.bar);
                let bar = self.all.insert_after(last, ProgressBar::new_spinner());
                bar.set_style(
                    ProgressStyle::with_template(OUTPUT).unwrap_or_else(|_| ProgressStyle::default_spinner()),
                );
                step.bars.push(bar);
            }
            for (bar, line) in step.bars.iter().zip(&step.lines) {
                bar.set_message(line.clone());
            }
        });
    }

    /// What is done in `lane` is over, and `note` says how.
    pub fn end(&self, lane: &str, note: &str) {
        let Some(step) = self.with(|steps| steps.remove(lane)) else { return };
        step.bars.iter().for_each(ProgressBar::finish_and_clear);
        step.bar.finish_and_clear();
        self.say(format!("{} {note}", step.text).trim_end());
    }

    /// A line that stays.
    pub fn say(&self, text: &str) {
        // Nobody is left to tell when the terminal is gone.
        self.all.println(text).unwrap_or_default();
    }

    /// Nothing is under way any more: what had no end is shown as it began.
    pub fn close(&self) {
        let lanes: Vec<String> = self.with(|steps| steps.keys().cloned().collect());
        lanes.iter().for_each(|lane| self.end(lane, ""));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_order_is_borne() {
        let steps = Steps::on(ProgressDrawTarget::hidden());
        steps.output("none", "x");
        steps.end("none", "x");
        steps.begin("a", "RUN  one\n two\u{1b}[2J");
        for line in ["1", "2", "3", "4", "5\u{7}", "6"] {
            steps.output("a", line);
        }
        let seen = steps.with(|steps| {
            (steps["a"].text.clone(), steps["a"].bars.iter().map(ProgressBar::message).collect::<Vec<_>>())
        });
        assert_eq!(seen, ("RUN one two[2J".to_owned(), ["3", "4", "5", "6"].map(str::to_owned).to_vec()));
        steps.begin("a", "RUN next");
        assert!(steps.with(|steps| steps["a"].bars.is_empty()));
        steps.close();
        assert!(steps.with(|steps| steps.is_empty()));
        for template in [STEP, OUTPUT] {
            assert!(ProgressStyle::with_template(template).is_ok());
        }
    }
}
