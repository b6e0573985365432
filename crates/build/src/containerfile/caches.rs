//! `--cache-from` and `--cache-to`: what steps made elsewhere, and what they made here for others.
//!
//! A cache claims that a step with these inputs gives this layer; whoever names it trusts whoever wrote it with that.
//! Everything else is checked here: that a layer has the digests and the length that were claimed before it is in the
//! store, and before the claim is among the store's own records.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use hoy_layer::Decompressor;
use hoy_layout::{BlobWriter, ImageLayout, Store, write_volatile_file};
use hoy_oci::{Descriptor, Digest, Hasher, Reference};

use crate::containerfile::claims::{Claims, Step};
use crate::containerfile::report::Report;
use crate::containerfile::scratch::temporary_directory;
use crate::document::NewLayer;
use crate::remote::without_credentials;
use crate::tools::answer;
use crate::{Error, Result, Tools, split_transport};

/// The tag of a cache whose name has none: never that of an image that people run.
const TAG: &str = "cache";
/// So many layers are fetched at once.
const FETCHES: usize = 4;

/// The caches of a build beside the store's own.
#[derive(Debug, Default)]
pub struct Caches {
    sources: Vec<Source>,
    /// Where what was used is sent.
    to: Vec<String>,
    /// Options for `hoy-copy` to read with.
    options: Vec<String>,
    used: Mutex<Claims>,
    /// Layers that are claimed and not here yet, and the records to be kept once they are.
    waiting: Mutex<BTreeMap<Digest, Waiting>>,
    /// A cache did not give what it claims, and is no longer asked.
    has_failed: AtomicBool,
}

#[derive(Debug)]
struct Source {
    place: String,
    claims: OnceLock<Claims>,
    is_out: AtomicBool,
}

#[derive(Debug, Clone)]
struct Waiting {
    source: usize,
    layer: NewLayer,
    records: Vec<(PathBuf, Vec<u8>)>,
}

/// What a cache claims of a step.
pub(crate) struct Claimed<'a> {
    pub(crate) layer: Option<NewLayer>,
    pub(crate) place: &'a str,
    source: usize,
}

impl Caches {
    /// Caches by the names that people give them: see [`place`].
    ///
    /// # Errors
    /// [`Error::Option`] for what is no name.
    pub fn new(from: &[String], to: &[String], options: Vec<String>) -> Result<Self> {
        let source = |text: &String| {
            let place = place("--cache-from", text)?;
            Ok(Source { place, claims: OnceLock::new(), is_out: AtomicBool::new(false) })
        };
        let sources = from.iter().map(source).collect::<Result<_>>()?;
        let to = to.iter().map(|text| place("--cache-to", text)).collect::<Result<_>>()?;
        Ok(Self { sources, to, options, ..Self::default() })
    }

    /// What the first cache that knows the step claims of it.
    pub(crate) fn find(&self, tools: &Tools, report: &Report, key: &Digest) -> Option<Claimed<'_>> {
        let known = |(at, source): (usize, &'_ Source)| {
            let step = source.claims(tools, &self.options, report)?.steps.get(key)?.clone();
            Some((at, step))
        };
        let (at, step) = self.usable().find_map(known)?;
        Some(Claimed { layer: step.layer(), place: &self.sources.get(at)?.place, source: at })
    }

    /// The fingerprint that a cache claims.
    pub(crate) fn content(&self, tools: &Tools, report: &Report, name: &Digest) -> Option<Digest> {
        self.usable().find_map(|(_, source)| source.claims(tools, &self.options, report)?.contents.get(name).copied())
    }

    fn usable(&self) -> impl Iterator<Item = (usize, &Source)> {
        self.sources.iter().enumerate().filter(|(_, source)| !source.is_out.load(Ordering::Relaxed))
    }

    /// Believes a claim: its record is kept when its layer is here. False where another claim contradicts it.
    pub(crate) fn accept(&self, claimed: &Claimed<'_>, record: (PathBuf, Vec<u8>)) -> Result<bool> {
        let Some(layer) = &claimed.layer else {
            return Ok(write_volatile_file(&record.0, &record.1).map(|()| true)?);
        };
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Waiting { source: claimed.source, layer: layer.clone(), records: Vec::new() };
        let one = waiting.entry(layer.descriptor.digest).or_insert_with(new);
        let agrees = one.layer == *layer;
        if agrees {
            one.records.push(record);
        }
        Ok(agrees)
    }

    /// Remembers what a step made, or had made before.
    pub(crate) fn remember(&self, key: Digest, layer: Option<&NewLayer>) {
        if !self.to.is_empty() {
            self.used.lock().unwrap_or_else(PoisonError::into_inner).steps.insert(key, Step::of(layer));
        }
    }

    /// Remembers a fingerprint.
    pub(crate) fn remember_content(&self, name: Digest, content: Digest) {
        if !self.to.is_empty() {
            self.used.lock().unwrap_or_else(PoisonError::into_inner).contents.insert(name, content);
        }
    }

    /// Whether any layer is not here yet.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Has those layers here that caches only claimed until now.
    ///
    /// # Errors
    /// [`Error::Refused`] for a cache that does not give what it claims, which is told and no longer asked then.
    pub(crate) fn have(&self, store: &Store, tools: &Tools, report: &Report, layers: &[Descriptor]) -> Result<()> {
        let wanted: Vec<Waiting> = {
            let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            layers.iter().filter_map(|layer| waiting.get(&layer.digest).cloned()).collect()
        };
        let next = Mutex::new(wanted.iter());
        let work = || {
            while let Some(one) = { next.lock().unwrap_or_else(PoisonError::into_inner).next() } {
                self.have_one(store, tools, report, one)?;
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..FETCHES.min(wanted.len())).map(|_| scope.spawn(work)).collect();
            let failed = || Err(Error::Refused("fetching a layer failed".to_owned()));
            let own = work();
            others.into_iter().map(|other| other.join().unwrap_or_else(|_| failed())).fold(own, Result::and)
        })
    }

    fn have_one(&self, store: &Store, tools: &Tools, report: &Report, one: &Waiting) -> Result<()> {
        let digest = one.layer.descriptor.digest;
        let Some(source) = self.sources.get(one.source) else { return Ok(()) };
        if let Err(error) = fetch(store.layout(), tools, &self.options, &source.place, &one.layer) {
            let text = format!(
                "warning: the cache \"{}\" is not used: layer {digest}: {}",
                without_credentials(&source.place),
                crate::error::chain(&error)
            );
            if self.leave_out(one.source) {
                report.warn(&text);
            }
            return Err(error);
        }
        for (path, bytes) in &one.records {
            write_volatile_file(path, bytes)?;
        }
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&digest);
        Ok(())
    }

    /// Forgets what a cache claims; whether that is new.
    fn leave_out(&self, at: usize) -> bool {
        let is_new = self.sources.get(at).is_some_and(|source| !source.is_out.swap(true, Ordering::Relaxed));
        self.has_failed.store(true, Ordering::Relaxed);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let gone: Vec<Digest> = waiting.iter().filter(|(_, one)| one.source == at).map(|(digest, _)| *digest).collect();
        waiting.retain(|digest, _| !gone.contains(digest));
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.steps.retain(|_, step| step.layer().is_none_or(|layer| !gone.contains(&layer.descriptor.digest)));
        is_new
    }

    /// Whether a cache was left out since this was asked last: what was built on its claims has to be built anew.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.swap(false, Ordering::Relaxed)
    }

    /// Sends what was used where it is to go, with these options for `hoy-copy copy`.
    ///
    /// # Errors
    /// Those of `hoy-copy`.
    pub fn export(&self, store: &Store, tools: &Tools, options: &[String], report: &Report) -> Result<()> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let is_there = |place: &String| {
            self.sources.iter().any(|source| source.place == *place && source.claims.get() == Some(&used))
        };
        let to: Vec<&String> = self.to.iter().filter(|place| !is_there(place)).collect();
        if to.is_empty() {
            return Ok(());
        }
        let layers: Vec<Descriptor> = used.layers().into_values().map(|layer| layer.descriptor).collect();
        self.have(store, tools, report, &layers)?;
        let (directory, _lock) = temporary_directory(&store.root().join("build"))?;
        let made = artifact(store.layout(), &directory, &used, &layers);
        let sent = made.and_then(|()| {
            to.iter().try_for_each(|place| {
                let mut args = vec!["copy".to_owned(), "--quiet".to_owned()];
                args.extend(options.iter().cloned());
                args.extend([format!("oci:{}:{TAG}", directory.display()), (*place).clone()]);
                tools.copy(args).map(drop)
            })
        });
        // What stays is a temporary, which prune removes.
        std::fs::remove_dir_all(&directory).unwrap_or_default();
        sent
    }
}

impl Source {
    /// What it claims; none for what cannot be read, which is told once.
    fn claims(&self, tools: &Tools, options: &[String], report: &Report) -> Option<&Claims> {
        let claims = self.claims.get_or_init(|| {
            let mut args = vec!["config".to_owned()];
            args.extend(options.iter().cloned());
            args.push(self.place.clone());
            let read = tools.copy(args).map_err(|error| crate::error::chain(&error));
            read.and_then(|text| Claims::parse(&text)).unwrap_or_else(|error| {
                self.is_out.store(true, Ordering::Relaxed);
                let place = without_credentials(&self.place);
                report.warn(&format!("warning: the cache \"{place}\" is not used: {error}"));
                Claims::default()
            })
        });
        (!self.is_out.load(Ordering::Relaxed)).then_some(claims)
    }
}

/// The artifact as a layout that is its own: nothing of it stays in the store.
fn artifact(store: &ImageLayout, directory: &Path, claims: &Claims, layers: &[Descriptor]) -> Result<()> {
    let layout = ImageLayout::open_or_create(directory)?;
    for layer in layers {
        let (from, to) = (store.blob_file(&layer.digest), layout.blob_path(&layer.digest));
        // A store of somebody else's may be elsewhere, or allow no link.
        if std::fs::hard_link(&from, &to).is_err() {
            std::fs::copy(&from, &to).map_err(Error::io("copy", &from))?;
        }
    }
    claims.put(&layout, TAG)
}

/// Fetches a layer into the store, if it is what it is said to be.
fn fetch(layout: &ImageLayout, tools: &Tools, options: &[String], place: &str, layer: &NewLayer) -> Result<()> {
    let NewLayer { descriptor, diff_id } = layer;
    let reading = |error| Error::io("read", place)(error);
    if layout.blob_size(&descriptor.digest)? == Some(descriptor.size) {
        return check(layout.open_blob(descriptor)?, diff_id).map_err(reading);
    }
    let mut command = tools.command("hoy-copy");
    command.arg("blob").args(options).args([place, &descriptor.digest.to_string()]);
    command
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let mut child = command.spawn().map_err(crate::tools::no_program("hoy-copy"))?;
    let mut writer = layout.blob_writer()?;
    let checked = match child.stdout.take() {
        // One byte too many is seen, and no more of them are read.
        Some(stdout) => check(Tee { input: stdout.take(descriptor.size + 1), writer: &mut writer }, diff_id),
        None => Ok(()),
    };
    let output = child.wait_with_output().map_err(Error::io("wait for", "hoy-copy"))?;
    // A child that failed says why better than the stream that broke.
    answer("hoy-copy", output)?;
    checked.map_err(reading)?;
    Ok(writer.finish_as(descriptor)?)
}

/// Reads a layer to its end; its uncompressed bytes have the digest `diff_id`.
fn check(input: impl Read, diff_id: &Digest) -> std::io::Result<()> {
    let mut hasher = Hasher::new();
    std::io::copy(&mut Decompressor::detect(input)?, &mut hasher)?;
    match hasher.finish() {
        found if found == *diff_id => Ok(()),
        found => Err(std::io::Error::other(format!("its diff ID is {found}, and not {diff_id}"))),
    }
}

/// What is read is written too.
struct Tee<'a, R> {
    input: R,
    writer: &'a mut BlobWriter,
}

impl<R: Read> Read for Tee<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.writer.write_all(buffer.get(..count).unwrap_or_default())?;
        Ok(count)
    }
}

/// Where a cache is, in the words of `hoy-copy`: `TRANSPORT:DETAILS`, a name at a registry, or as BuildKit writes it
/// `type=registry,ref=NAME` and `type=local,dest=DIR` or `src=DIR`. Without a tag it has a tag of its own.
fn place(option: &'static str, text: &str) -> Result<String> {
    let wrong = |reason: &str| Error::option(option, without_credentials(text), reason);
    let text = match text.strip_prefix("type=") {
        None => text.to_owned(),
        Some(rest) => {
            let mut parts = rest.split(',');
            let kind = parts.next().unwrap_or_default();
            let fields: Vec<(&str, &str)> = parts.map(|part| part.split_once('=').unwrap_or((part, ""))).collect();
            let place = match (kind, fields.iter().find(|(name, _)| matches!(*name, "ref" | "dest" | "src"))) {
                ("registry", Some(("ref", name))) => format!("docker://{name}"),
                ("local", Some(("dest" | "src", directory))) => format!("oci:{directory}"),
                _ => return Err(wrong("want type=registry,ref=NAME or type=local,dest=DIR (src=DIR to read)")),
            };
            let is_known = |(name, value): &(&str, &str)| {
                matches!(*name, "ref" | "dest" | "src") || (*name, *value) == ("mode", "max")
            };
            match fields.iter().find(|field| !is_known(field)) {
                Some((name, _)) => {
                    return Err(wrong(&format!("\"{name}\" is not supported: all steps are kept, as gzip")));
                }
                None => place,
            }
        }
    };
    let registry = |name: &str| -> Result<String> {
        let name = Reference::parse(name)?;
        let name = if name.tag().is_none() && name.digest().is_none() { name.with_tag(TAG)? } else { name };
        Ok(format!("docker://{name}"))
    };
    match split_transport(&text) {
        None => registry(&text),
        Some(("docker", rest)) => registry(rest.trim_start_matches('/')),
        Some(("oci" | "oci-archive", "")) => Err(wrong("it names no directory")),
        Some(("oci" | "oci-archive", rest)) if !rest.contains(':') => Ok(format!("{text}:{TAG}")),
        Some(("docker-archive", _)) => Err(wrong("such an archive has images alone: use oci-archive or oci")),
        Some(_) => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        for (text, want) in [
            ("127.0.0.1:5000/a/b", Some("docker://127.0.0.1:5000/a/b:cache")),
            ("127.0.0.1:5000/a:x", Some("docker://127.0.0.1:5000/a:x")),
            ("docker://127.0.0.1:5000/a", Some("docker://127.0.0.1:5000/a:cache")),
            ("oci:/d", Some("oci:/d:cache")),
            ("oci:/d:t", Some("oci:/d:t")),
            ("dir:/d", Some("dir:/d")),
            ("type=local,dest=/d,mode=max", Some("oci:/d:cache")),
            ("type=registry,ref=127.0.0.1:5000/a:x", Some("docker://127.0.0.1:5000/a:x")),
            ("type=registry,ref=127.0.0.1:5000/a:x,mode=min", None),
            ("type=local,dest=/d,compression=zstd", None),
            ("type=gha", None),
            ("type=inline", None),
            ("docker-archive:x.tar", None),
            ("oci:", None),
            ("A B", None),
        ] {
            assert_eq!(place("--cache-to", text).ok().as_deref(), want, "{text}");
        }
    }
}
