//! `history`: the last builds and their steps.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use hoy_build::{PastBuild, PastStep, past_builds};
use hoy_cli::{Context as _, Error, Result, Stdout};
use hoy_oci::Timestamp;

use crate::context::Context;
use crate::timeline::page;

#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// A build, by how its id begins (default: the last ones)
    #[arg(value_name = "ID", default_value = "", hide_default_value = true)]
    id: String,
    /// So many builds
    #[arg(short = 'n', long, value_name = "NUMBER", default_value_t = 10)]
    last: usize,
    /// Print JSON
    #[arg(long, conflicts_with = "html")]
    json: bool,
    /// Write a page with a timeline into this file; - is standard output
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

pub(crate) fn history(context: &Context, args: &HistoryArgs) -> Result<ExitCode> {
    let builds = past_builds(&context.store()?, &args.id, args.last);
    if builds.is_empty() && !args.id.is_empty() {
        return Err(Error::msg(format!("no build has an id that begins with \"{}\"", args.id)));
    }
    let text = match &args.html {
        Some(_) => page(&builds),
        None if args.json => serde_json::to_string_pretty(&builds)? + "\n",
        None => builds.iter().map(listed).collect::<Vec<_>>().join("\n"),
    };
    match args.html.as_deref().filter(|path| *path != Path::new("-")) {
        Some(path) => std::fs::write(path, text).context(|| format!("write \"{}\"", path.display()))?,
        None => Stdout::new().write_all(text.as_bytes())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A build in lines: itself, and its steps.
fn listed(build: &PastBuild) -> String {
    let created = build.created.map(|time| Timestamp::from_unix(time.unix_seconds()).unwrap_or(time).to_string());
    let head = [
        build.id.clone(),
        created.unwrap_or_default(),
        seconds(build.milliseconds),
        build.outcome.clone(),
        build.image.map(|image| image.hex()[..12].to_owned()).unwrap_or_default(),
        name(build),
    ];
    let head = head.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("  ");
    let mut lines = vec![vec![visible(&head)]];
    let steps = build.steps.iter().map(|step| vec![format!("    {}  {} {}", took(step), step.step, step.text)]);
    lines.extend(steps.map(|line| line.iter().map(|text| visible(text)).collect()));
    if build.left_out > 0 {
        lines.push(vec![format!("    and {} further steps", build.left_out)]);
    }
    lines.into_iter().map(|line| format!("{}\n", line.concat())).collect()
}

/// How a build is called by people.
pub(crate) fn name(build: &PastBuild) -> String {
    match build.asked.names.first() {
        Some(name) => name.clone(),
        None => build.asked.file.clone(),
    }
}

pub(crate) fn took(step: &PastStep) -> String {
    if step.cached { " CACHED".to_owned() } else { format!("{:>7}", seconds(step.milliseconds)) }
}

pub(crate) fn seconds(milliseconds: u64) -> String {
    format!("{}.{:02}s", milliseconds / 1000, milliseconds % 1000 / 10)
}

/// A line that does nothing to a terminal, and is one.
pub(crate) fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
