//! What is told of a build, to whoever shows it.

use std::time::Duration;

use hoy_oci::{Descriptor, Digest};

use crate::remote::without_credentials;

/// Something that happened. A step is called as in `[stage 2/5]`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// What follows is of the image for this platform, one of several.
    Platform(&'a str),
    /// A step begins; the one of the same stage before it is over.
    Begin {
        /// Its name.
        step: &'a str,
        /// The instruction.
        text: &'a str,
        /// Which of how many stages it is in, from 1 on.
        stage: (usize, usize),
    },
    /// A line of a step's output, or about it.
    Output {
        /// Its name.
        step: &'a str,
        /// The line.
        text: &'a str,
    },
    /// A step that makes layers is done.
    End {
        /// Its name.
        step: &'a str,
        /// Its result was known.
        is_cached: bool,
        /// How long it took.
        took: Duration,
        /// Its layer, where it has one.
        layer: Option<&'a Descriptor>,
    },
    /// There is an image, which has these names.
    Committed {
        /// Its id.
        id: &'a Digest,
        /// Its names.
        names: &'a [String],
    },
    /// A step failed; there is an image of what came before it.
    Stopped {
        /// Its name.
        step: &'a str,
        /// The manifest.
        state: &'a Digest,
    },
    /// A command failed, and these are its last lines.
    Failed(&'a [String]),
    /// Something that a person should know even if nothing else is told.
    Warning(&'a str),
}

/// Who is told, from any thread.
pub struct Report(Box<dyn Fn(Event<'_>) + Send + Sync>);

impl std::fmt::Debug for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Report").finish_non_exhaustive()
    }
}

impl Report {
    /// Tells `hear`. What it hears has no users and passwords of addresses in it.
    pub fn new(hear: Box<dyn Fn(Event<'_>) + Send + Sync>) -> Self {
        Self(hear)
    }

    /// The same, and `hear` is told before.
    pub fn also(self, hear: Box<dyn Fn(Event<'_>) + Send + Sync>) -> Self {
        Self(Box::new(move |event| {
            hear(event);
            (self.0)(event);
        }))
    }

    /// What follows is of the image for this platform, one of several.
    pub fn platform(&self, platform: &str) {
        (self.0)(Event::Platform(platform));
    }

    pub(crate) fn stopped(&self, step: &str, state: &Digest) {
        (self.0)(Event::Stopped { step, state });
    }

    pub(crate) fn warn(&self, text: &str) {
        (self.0)(Event::Warning(text));
    }

    pub(crate) fn begin(&self, step: &str, text: &str, stage: (usize, usize)) {
        (self.0)(Event::Begin { step, text: &without_credentials(text), stage });
    }

    pub(crate) fn line(&self, step: &str, text: &str) {
        (self.0)(Event::Output { step, text });
    }

    pub(crate) fn done(&self, step: &str, is_cached: bool, took: Duration, layer: Option<&Descriptor>) {
        (self.0)(Event::End { step, is_cached, took, layer });
    }

    pub(crate) fn committed(&self, id: &Digest, names: &[String]) {
        (self.0)(Event::Committed { id, names });
    }

    pub(crate) fn failed(&self, lines: &[String]) {
        (self.0)(Event::Failed(lines));
    }
}
