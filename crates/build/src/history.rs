//! The last builds of a store: one small file each below `ROOT/build/history`, which is cache.
//!
//! A record has what was told of a build while it went on: instructions as they are written, without the values of
//! variables and without passwords of addresses.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use hoy_layout::{ContainerDir, Store, make_directory, write_volatile_file};
use hoy_oci::{Digest, Timestamp};
use serde::{Deserialize, Serialize};

use crate::containerfile::Watch;
use crate::from::create;
use crate::{Error, Event, FromOptions, Result, Secret, Tools, Working};

/// The directory below `ROOT/build`.
pub(crate) const HISTORY: &str = "history";
/// So many builds are kept, so many steps of each, and so much of each step's text.
const MAX_BUILDS: usize = 100;
const MAX_STEPS: usize = 1000;
const MAX_TEXT: usize = 160;
/// No record is longer by far.
const MAX_BYTES: u64 = 1 << 20;

/// A build that is over.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PastBuild {
    /// What it is called here: later ones sort after earlier ones.
    pub id: String,
    /// When it began.
    pub created: Option<Timestamp>,
    /// How long it took.
    pub milliseconds: u64,
    /// `done` or `failed`.
    pub outcome: String,
    /// What was made.
    pub image: Option<Digest>,
    /// The image so far where a step failed.
    pub state: Option<Digest>,
    /// What was asked for.
    #[serde(flatten)]
    pub asked: Asked,
    /// Its steps, in the order in which they began.
    pub steps: Vec<PastStep>,
    /// How many there were beyond those.
    pub left_out: usize,
}

/// What a build was asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Asked {
    /// The Containerfile.
    pub file: String,
    /// The stage, where one was named.
    pub target: Option<String>,
    /// The image's names.
    pub names: Vec<String>,
}

/// One step of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PastStep {
    /// As in `[stage 2/5]`.
    pub step: String,
    /// The instruction.
    pub text: String,
    /// When it began, after the build did.
    pub start_milliseconds: u64,
    /// How long it took.
    pub milliseconds: u64,
    /// Its result was known.
    pub cached: bool,
    /// How long its layer is.
    pub layer_bytes: Option<u64>,
}

/// Writes down what is told of one build.
#[derive(Debug)]
pub struct Recorder {
    now: SystemTime,
    begun: Instant,
    build: Mutex<PastBuild>,
    watch: Option<Watch>,
}

impl Recorder {
    /// Of a build that begins, at `now`; an instruction that has one of the secrets in it is not written down.
    ///
    /// # Errors
    /// [`Error::Refused`] for secrets that cannot be looked for.
    pub fn new(asked: Asked, now: SystemTime, secrets: &[Secret]) -> Result<Self> {
        let build = PastBuild { created: Some(Timestamp::from(now)), asked, ..PastBuild::default() };
        Ok(Self { now, begun: Instant::now(), build: Mutex::new(build), watch: Watch::new(secrets)? })
    }

    fn milliseconds(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Hears of what happens.
    pub fn hear(&self, event: Event<'_>) {
        let now = self.milliseconds();
        let mut build = self.build.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Begin { step, text, .. } => {
                build.close(step, now);
                if build.steps.len() >= MAX_STEPS {
                    build.left_out += 1;
                    return;
                }
                // All of it is looked at: its end may be what is cut off.
                let is_secret = self.watch.as_ref().is_some_and(|watch| watch.find(text.as_bytes()).is_some());
                let text = if is_secret { "(a secret is in it)" } else { text };
                let step = PastStep {
                    step: step.to_owned(),
                    text: text.chars().take(MAX_TEXT).collect(),
                    start_milliseconds: now,
                    ..PastStep::default()
                };
                build.steps.push(step);
            }
            Event::End { step, is_cached, took, layer } => {
                if let Some(one) = build.steps.iter_mut().rev().find(|one| one.step == step) {
                    one.milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
                    (one.cached, one.layer_bytes) = (is_cached, layer.map(|layer| layer.size));
                }
            }
            Event::Stopped { step, state } => {
                build.close(step, now);
                build.state = Some(*state);
            }
            _ => {}
        }
    }

    /// Keeps the record, and of all records the last ones.
    ///
    /// # Errors
    /// Those of writing it.
    pub fn keep(&self, store: &Store, made: Option<&Digest>) -> Result<()> {
        let mut build = self.build.lock().unwrap_or_else(PoisonError::into_inner).clone();
        build.milliseconds = self.milliseconds();
        build.image = made.copied();
        build.outcome = if made.is_some() { "done" } else { "failed" }.to_owned();
        let since = self.now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        build.id = format!("{:013x}{:04x}", since.as_millis(), std::process::id() & 0xffff);
        let directory = directory(store);
        make_directory(&store.root().join("build"), 0o700)?;
        make_directory(&directory, 0o700)?;
        let bytes = serde_json::to_vec(&build).map_err(|source| Error::Json("record of a build", source))?;
        write_volatile_file(&directory.join(format!("{}.json", build.id)), &bytes)?;
        let files = files(store);
        for old in files.iter().take(files.len().saturating_sub(MAX_BUILDS)) {
            // Another build may have been faster.
            std::fs::remove_file(old).unwrap_or_default();
        }
        Ok(())
    }
}

impl PastBuild {
    /// The step of the same stage that goes on until now is over.
    fn close(&mut self, step: &str, now: u64) {
        let stage = |step: &str| step.split(' ').next().unwrap_or_default().to_owned();
        let last = self.steps.iter_mut().rev().find(|one| stage(&one.step) == stage(step));
        if let Some(one) = last.filter(|one| one.milliseconds == 0 && !one.cached) {
            one.milliseconds = now.saturating_sub(one.start_milliseconds);
        }
    }
}

fn directory(store: &Store) -> PathBuf {
    store.root().join("build").join(HISTORY)
}

/// The records, the oldest first.
fn files(store: &Store) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory(store)).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "json")).collect();
    files.sort();
    files
}

/// The last builds, the latest first, of those whose ids begin with `id`; a record that cannot be read is none.
pub fn past_builds(store: &Store, id: &str, count: usize) -> Vec<PastBuild> {
    let is_meant = |path: &PathBuf| path.file_stem().is_some_and(|stem| stem.to_string_lossy().starts_with(id));
    let is_small = |path: &PathBuf| path.metadata().is_ok_and(|metadata| metadata.len() <= MAX_BYTES);
    let files = files(store).into_iter().rev().filter(is_meant).filter(is_small);
    files.filter_map(|path| serde_json::from_slice(&std::fs::read(path).ok()?).ok()).take(count).collect()
}

/// Makes a working container of the image as it was before the step at which the last build failed, or that which `id`
/// means.
///
/// # Errors
/// [`Error::Refused`] where there is no such build, or its image is gone.
pub fn resume(store: &Store, tools: &Tools, id: &str, options: &FromOptions) -> Result<(ContainerDir, String)> {
    let none = || match id {
        "" => Error::Refused("no build of this store failed after its first step".to_owned()),
        id => Error::Refused(format!("no build whose id begins with \"{id}\" failed after its first step")),
    };
    let state = past_builds(store, id, MAX_BUILDS).into_iter().find_map(|build| build.state).ok_or_else(none)?;
    let gone = |_| Error::Refused("the image of the build that failed was pruned: build again".to_owned());
    let descriptor = store.layout().manifest(&state).ok().flatten().ok_or(()).map_err(gone)?;
    let _lease = store.lease()?;
    let image = store.layout().image(&descriptor, &hoy_oci::Platform::host()).map_err(|_| gone(()))?;
    for layer in &image.manifest.layers {
        store.layout().blob_size(&layer.digest)?.ok_or(()).map_err(gone)?;
    }
    let (dir, name) = create(store, tools, Some((&state.to_string(), "resumed")), options)?;
    if let Some(mut working) = Working::read(&dir)? {
        working.stands_on_nameless();
        working.write(&dir)?;
    }
    Ok((dir, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_is_told_is_bounded() {
        let recorder = Recorder::new(Asked::default(), SystemTime::UNIX_EPOCH, &[]).unwrap();
        let long = "x".repeat(10_000);
        for number in 0..2000 {
            recorder.hear(Event::Begin { step: &format!("[0 {number}/2000]"), text: &long, stage: (1, 1) });
            let took = Duration::from_millis(7);
            let step = format!("[0 {number}/2000]");
            recorder.hear(Event::End { step: &step, is_cached: number % 2 == 0, took, layer: None });
        }
        let build = recorder.build.lock().unwrap();
        assert_eq!((build.steps.len(), build.left_out), (MAX_STEPS, 1000));
        assert!(serde_json::to_vec(&*build).unwrap().len() < 1 << 19);
        assert_eq!((build.steps[3].milliseconds, build.steps[3].cached, build.steps[2].cached), (7, false, true));
    }
}
