//! How far a copy is, for people and for programs.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hoy_cli::{Context, Error, Progress, Result};
use hoy_oci::{Descriptor, Digest};
use hoy_transport::{Observer, Outcome};
use serde_json::{Value, json};

/// How long a blob is silent after it has told how much of it came.
const PAUSE: Duration = Duration::from_millis(200);

/// Tells a person what happens to each blob, in skopeo's words.
pub(crate) struct Watcher(Progress);

impl Watcher {
    pub(crate) fn new(quiet: bool) -> Self {
        Self(Progress::new(quiet))
    }

    /// One for a copy, which the trust policy may stop before the first blob.
    pub(crate) fn of_copy(quiet: bool) -> Self {
        let watcher = Self::new(quiet);
        watcher.0.say("Getting image source signatures");
        watcher
    }
}

fn label(blob: &Descriptor) -> String {
    // Configurations of artifacts are named likewise.
    let is_config = blob.media_type.is_image_config() || blob.media_type.as_str().contains(".config.");
    let kind = if is_config { "config" } else { "blob" };
    format!("Copying {kind} {}", blob.digest)
}

impl Observer for Watcher {
    fn expect(&self, blobs: &[&Descriptor]) {
        self.0.expect(blobs.len(), blobs.iter().fold(0, |sum, blob| sum.saturating_add(blob.size)));
    }

    fn begin(&self, blob: &Descriptor) {
        self.0.begin(&label(blob), blob.size);
    }

    fn advance(&self, blob: &Descriptor, bytes: u64) {
        self.0.advance(&label(blob), bytes);
    }

    fn end(&self, blob: &Descriptor, outcome: Outcome) {
        let note = match outcome {
            Outcome::Present => Some("skipped: already exists"),
            Outcome::Mounted => Some("mounted from another repository"),
            Outcome::Foreign => Some("left out: it is to be fetched elsewhere"),
            _ => None,
        };
        self.0.end(&label(blob), blob.size, note);
    }

    fn manifest(&self, manifest: &Descriptor) {
        let what = if manifest.media_type.is_index() { "manifest list" } else { "manifest" };
        self.0.say(&format!("Writing {what} to image destination"));
    }

    fn warn(&self, text: &str) {
        self.0.say(&format!("warning: {text}"));
    }
}

/// `json[:FD]`: where events go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target(i32);

impl FromStr for Target {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        let fd = match text.strip_prefix("json").map(|rest| rest.strip_prefix(':').ok_or(rest)) {
            Some(Err("")) => Some(2),
            Some(Ok(number)) => number.parse().ok().filter(|fd| *fd >= 2),
            _ => None,
        };
        // Standard input and output carry images.
        fd.map(Self).ok_or("want json, or json:FD with a descriptor from 2 on")
    }
}

/// Tells a program what happens: one JSON object a line.
pub(crate) struct Events(Mutex<Stream>);

struct Stream {
    /// None once nobody reads: a copy does not end because its watcher has.
    out: Option<Box<dyn Write + Send>>,
    /// How much of each blob has come, and when that was last told.
    under_way: HashMap<Digest, (u64, Instant)>,
}

impl Stream {
    fn tell(&mut self, event: &Value) {
        self.out = self.out.take().and_then(|mut out| writeln!(out, "{event}").is_ok().then_some(out));
    }
}

impl Events {
    /// # Errors
    /// When the descriptor is not open.
    pub(crate) fn open(Target(fd): Target) -> Result<Self> {
        let out: Box<dyn Write + Send> = if fd == 2 {
            Box::new(std::io::stderr())
        } else {
            let opened = hoy_sys::process::inherited_fd(fd).map_err(|e| Error::from(e).with_code(2));
            Box::new(File::from(opened.context(|| format!("use descriptor {fd} of --progress"))?))
        };
        Ok(Self(Mutex::new(Stream { out: Some(out), under_way: HashMap::new() })))
    }

    /// The image `from` is to be copied to `to` next.
    pub(crate) fn image(&self, from: &str, to: &str) {
        self.with(|stream| stream.tell(&json!({"event": "image", "from": from, "to": to})));
    }

    fn with(&self, act: impl FnOnce(&mut Stream)) {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Observer for Events {
    fn expect(&self, blobs: &[&Descriptor]) {
        let size = blobs.iter().fold(0_u64, |sum, blob| sum.saturating_add(blob.size));
        self.with(|stream| stream.tell(&json!({"event": "expect", "blobs": blobs.len(), "size": size})));
    }

    fn begin(&self, blob: &Descriptor) {
        self.with(|stream| {
            stream.under_way.insert(blob.digest, (0, Instant::now()));
            stream.tell(&event("begin", blob));
        });
    }

    fn advance(&self, blob: &Descriptor, bytes: u64) {
        self.with(|stream| {
            let Some((done, told)) = stream.under_way.get_mut(&blob.digest) else { return };
            *done += bytes;
            if told.elapsed() < PAUSE {
                return;
            }
            *told = Instant::now();
            let done = *done;
            stream
                .tell(&json!({"event": "advance", "digest": blob.digest.to_string(), "size": blob.size, "done": done}));
        });
    }

    fn end(&self, blob: &Descriptor, outcome: Outcome) {
        let outcome = match outcome {
            Outcome::Present => "present",
            Outcome::Mounted => "mounted",
            Outcome::Foreign => "foreign",
            _ => "copied",
        };
        self.with(|stream| {
            stream.under_way.remove(&blob.digest);
            stream.tell(&json!({"event": "end", "digest": blob.digest.to_string(), "outcome": outcome}));
        });
    }

    fn manifest(&self, manifest: &Descriptor) {
        self.with(|stream| stream.tell(&event("manifest", manifest)));
    }

    fn warn(&self, text: &str) {
        self.with(|stream| stream.tell(&json!({"event": "warning", "text": text})));
    }
}

fn event(name: &str, of: &Descriptor) -> Value {
    json!({"event": name, "digest": of.digest.to_string(), "mediaType": of.media_type.as_str(), "size": of.size})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        let read = |text: &str| text.parse::<Target>().ok().map(|target| target.0);
        for (text, want) in
            [("json", Some(2)), ("json:9", Some(9)), ("json:1", None), ("json:", None), ("jsonl", None), ("bars", None)]
        {
            assert_eq!(read(text), want, "{text}");
        }
    }
}
