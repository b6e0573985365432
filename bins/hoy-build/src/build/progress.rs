//! How a build is told: to a person on a terminal, in lines, or to a program.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hoy_build::{Event, Report};
use hoy_cli::{Context as _, Error, Result, Steps};
use hoy_oci::Digest;
use serde_json::{Value, json};

use crate::context::warning;

/// How long a command is worth a word that changed nothing.
const LONG: Duration = Duration::from_secs(10);

/// `auto`, `plain`, `tty`, `none` or `json[:FD]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Auto,
    Plain,
    Tty,
    None,
    Json(i32),
}

impl FromStr for Form {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        let fd = |text: &str| text.parse().ok().filter(|fd| *fd >= 2).map(Self::Json);
        match text {
            "auto" => Some(Self::Auto),
            "plain" => Some(Self::Plain),
            "tty" => Some(Self::Tty),
            "none" | "quiet" => Some(Self::None),
            "json" | "rawjson" => Some(Self::Json(2)),
            text => text.strip_prefix("json:").and_then(fd),
        }
        // Standard output has the result.
        .ok_or("want auto, plain, tty, none, json, or json:FD with a descriptor from 2 on")
    }
}

impl Form {
    /// What is meant here: a shell in a step that failed needs the terminal for itself.
    pub(crate) fn chosen(self, is_quiet: bool, may_have_shell: bool) -> Self {
        let is_terminal = std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        match self {
            _ if is_quiet => Self::None,
            Self::Auto if is_terminal && !may_have_shell => Self::Tty,
            Self::Auto => Self::Plain,
            other => other,
        }
    }

    /// Whether a child must not write to the terminal too.
    pub(crate) fn is_alone(self) -> bool {
        !matches!(self, Self::Plain)
    }
}

/// Tells in the form that was asked for, of an image that was to have the name `asked`; what is returned puts the terminal in order when it is dropped.
pub(crate) fn report(form: Form, asked: Option<String>) -> Result<(Report, Option<View>)> {
    Ok(match form {
        Form::Json(fd) => (json(fd)?, None),
        Form::Tty => {
            let view = View(Arc::new(Steps::default()));
            let steps = Arc::clone(&view.0);
            (Report::new(Box::new(move |event| show(&steps, event))), Some(view))
        }
        Form::None => (Report::new(Box::new(failures)), None),
        Form::Auto | Form::Plain => (lines(asked), None),
    })
}

/// The view on a terminal.
pub(crate) struct View(Arc<Steps>);

impl Drop for View {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The stage in a step's name: one thing at a time is done there.
fn lane(step: &str) -> &str {
    step.split(' ').next().unwrap_or(step)
}

fn show(steps: &Steps, event: Event<'_>) {
    match event {
        Event::Begin { step, text, .. } => steps.begin(lane(step), &format!("{step} {text}")),
        Event::Output { step, text } => steps.output(lane(step), text),
        Event::End { step, is_cached: true, .. } => steps.end(lane(step), "CACHED"),
        Event::End { step, took, layer, .. } => {
            let size = layer.map(|layer| format!(", {} bytes", layer.size)).unwrap_or_default();
            steps.end(lane(step), &format!("{:.2}s{size}", took.as_secs_f64()));
        }
        Event::Failed(lines) => lines.iter().for_each(|line| steps.say(&visible(line))),
        Event::Warning(text) => steps.say(&warning(text)),
        _ => {}
    }
}

/// A line that does nothing to the terminal.
fn visible(line: &str) -> String {
    line.chars().filter(|c| *c == '\t' || !c.is_control()).collect()
}

fn say(text: &str) {
    // Nobody is left to tell when standard error is closed.
    writeln!(std::io::stderr(), "{text}").unwrap_or_default();
}

/// What is told when nothing else is.
fn failures(event: Event<'_>) {
    match event {
        Event::Warning(text) => say(&warning(text)),
        Event::Failed(lines) => say(&lines.join("\n")),
        _ => {}
    }
}

/// What somebody who reads the lines knows.
#[derive(Debug, Default)]
struct Told {
    /// The step that the last headline named: lines without a name are its own.
    step: String,
    /// The platform that is built for, where there are several.
    platform: Option<String>,
}

/// Tells in buildah's words, which people's scripts look for.
fn lines(asked: Option<String>) -> Report {
    let told = Mutex::new(Told::default());
    Report::new(Box::new(move |event| {
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Platform(platform) => told.platform = Some(format!("[{platform}] ")),
            Event::Begin { step, .. } => step.clone_into(&mut told.step),
            _ => {}
        }
        if let Some(text) = plain(event, &told.step, asked.as_deref()) {
            say(&format!("{}{text}", told.platform.as_deref().unwrap_or_default()));
        }
    }))
}

fn plain(event: Event<'_>, headline: &str, asked: Option<&str>) -> Option<String> {
    // Stages are built at once.
    let prefix = |step: &str| if step == headline { String::new() } else { format!("{step} ") };
    Some(match event {
        Event::Warning(text) => warning(text),
        Event::Begin { step, text, stage: (at, stages) } => {
            let step = step.trim_end_matches(']').rsplit(' ').next().unwrap_or(step);
            let stage = if stages == 1 { String::new() } else { format!("[{at}/{stages}] ") };
            format!("{stage}STEP {step}: {text}")
        }
        Event::Output { step, text } => format!("{}{text}", prefix(step)),
        Event::End { step, is_cached: true, layer, .. } => {
            let layer = layer.map(|layer| format!(" {}", layer.digest.hex())).unwrap_or_default();
            format!("{}--> Using cache{layer}", prefix(step))
        }
        // Nothing is to be said of what changed nothing and took no time.
        Event::End { layer: None, took, .. } if took < LONG => return None,
        Event::End { step, took, layer, .. } => {
            let layer = layer.map(|layer| format!("{}, {} bytes, ", short(&layer.digest), layer.size));
            format!("{}--> {}{:.2}s", prefix(step), layer.unwrap_or_default(), took.as_secs_f64())
        }
        Event::Committed { id, names } => {
            let name = asked.map(|name| format!(" {name}")).unwrap_or_default();
            let tagged = names.iter().map(|name| format!("\nSuccessfully tagged {name}"));
            format!("COMMIT{name}\n--> {}{}", short(id), tagged.collect::<String>())
        }
        _ => return None,
    })
}

/// As much of a digest as buildah shows.
fn short(digest: &Digest) -> String {
    digest.hex().chars().take(11).collect()
}

fn json(fd: i32) -> Result<Report> {
    let out: Box<dyn Write + Send> = if fd == 2 {
        Box::new(std::io::stderr())
    } else {
        let opened = hoy_sys::process::inherited_fd(fd).map_err(Error::from);
        Box::new(File::from(opened.context(|| format!("use descriptor {fd} of --progress"))?))
    };
    let out = Mutex::new(Some(out));
    Ok(Report::new(Box::new(move |event| {
        let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
        // A build does not end because its watcher has.
        *out = out.take().and_then(|mut out| writeln!(out, "{}", object(event)).is_ok().then_some(out));
    })))
}

fn object(event: Event<'_>) -> Value {
    match event {
        Event::Begin { step, text, .. } => json!({"event": "begin", "step": step, "text": text}),
        Event::Output { step, text } => json!({"event": "output", "step": step, "text": text}),
        Event::End { step, is_cached, took, layer } => {
            let (seconds, layer_bytes) = (took.as_secs_f64(), layer.map(|layer| layer.size));
            json!({"event": "end", "step": step, "cached": is_cached, "seconds": seconds, "layer": layer_bytes})
        }
        Event::Stopped { step, state } => json!({"event": "stopped", "step": step, "state": state}),
        Event::Failed(lines) => json!({"event": "failed", "text": lines.join("\n")}),
        Event::Warning(text) => json!({"event": "warning", "text": text}),
        Event::Platform(platform) => json!({"event": "platform", "platform": platform}),
        Event::Committed { id, names } => json!({"event": "committed", "id": id, "names": names}),
        _ => Value::Null,
    }
}
