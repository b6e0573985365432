//! The copy itself: what is to be moved, and moving it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use hoy_oci::{Descriptor, Digest, Document as Parsed, Index, LayerCompression, Manifest, Platform};
use hoy_registry::Retry;

use hoy_crypt::PrivateKey;

use crate::change::{Change, Encryption, Written, plan};
use crate::convert::convert;
use crate::work::in_parallel;
use crate::{Destination, Document, Error, Format, Incoming, Observer, Outcome, Result, Source, referrers};

/// Indexes within indexes: more levels than anybody has.
const MAX_DEPTH: usize = 4;
/// Why an image stays where it is.
const PRESERVE: &str = "its digest would change, which --preserve-digests forbids";
const SIGNED: &str =
    "its digest would change, which would invalidate its signatures: add --remove-signatures to lose them";

/// What to do about an image index.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum MultiArch {
    /// Take the one image for the platform.
    #[default]
    System,
    /// Take the index and all its images.
    All,
    /// Take the index and its images for these platforms.
    Platforms {
        /// Which images; each must be there.
        wanted: Vec<Platform>,
        /// Take the others out of the index, whose digest changes; else it still lists them (a sparse index).
        strip: bool,
    },
    /// Take the index alone.
    IndexOnly,
}

/// What to do about the compression of layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LayerPolicy {
    /// Leave each as it is; a destination that has no choice changes them all the same.
    #[default]
    Keep,
    /// Leave each as it is, even a plain one of an image that has no manifest of its own.
    Leave,
    /// Compress those that are plain.
    CompressPlain(LayerCompression),
    /// Bring all into this compression, or into none.
    All(LayerCompression),
}

/// How to copy.
#[derive(Debug, Clone)]
pub struct CopyOptions {
    /// Which image of an index.
    pub platform: Platform,
    /// Whether to take one image of an index, or more.
    pub multi_arch: MultiArch,
    /// The manifest's format at the destination; none leaves it as it is.
    pub format: Option<Format>,
    /// The layers' compression at the destination.
    pub layers: LayerPolicy,
    /// Where layers are brought into zstd, have it be zstd:chunked, whose files can be fetched one by one.
    pub chunked: bool,
    /// How hard layers are compressed, in the compressor's own numbers.
    pub level: Option<i32>,
    /// For whom layers are encrypted.
    pub encryption: Option<Encryption>,
    /// What encrypted layers are decrypted with; none leaves them as they are.
    pub decryption: Vec<PrivateKey>,
    /// Copy what refers to the image too: signatures, lists of contents and the like.
    pub with_referrers: bool,
    /// Fail rather than change a digest.
    pub preserve_digests: bool,
    /// What is done about a blob that fails in a way that may pass.
    pub retry: Retry,
    /// How many blobs are on their way at once, where the destination can take so many.
    pub lanes: Option<usize>,
}

impl Default for CopyOptions {
    fn default() -> Self {
        Self {
            platform: Platform::host(),
            multi_arch: MultiArch::System,
            format: None,
            layers: LayerPolicy::Keep,
            chunked: false,
            level: None,
            encryption: None,
            decryption: Vec::new(),
            with_referrers: false,
            preserve_digests: false,
            retry: Retry::default(),
            lanes: None,
        }
    }
}

/// What a copy ended in.
#[derive(Debug, Clone, PartialEq)]
pub struct Copied {
    /// The manifest or index that the destination's name points to.
    pub descriptor: Descriptor,
    /// Every manifest and index that was copied, this one among them, by its digest at the destination.
    pub manifests: Vec<Digest>,
}

/// Copies an image, or several of an index, and gives them the destination's name.
///
/// # Errors
/// Those of the two ends; the destination's name is then as it was.
pub fn copy(
    source: &dyn Source,
    destination: &dyn Destination,
    options: &CopyOptions,
    observer: &dyn Observer,
) -> Result<Copied> {
    let job = Job { source, destination, options, observer, moved: Mutex::default() };
    let root = match options.multi_arch {
        MultiArch::System => select(source, &options.platform)?,
        _ => source.root()?,
    };
    let root = job.copy(root, 0)?;
    let manifests = job.written();
    if options.with_referrers {
        job.copy_referrers(0)?;
    }
    destination.finish(&root)?;
    observer.manifest(&root.descriptor);
    Ok(Copied { descriptor: root.descriptor, manifests })
}

/// Copies an artifact that refers to `subject`, an image that the destination has.
///
/// # Errors
/// Those of the two ends.
pub fn attach(
    source: &dyn Source,
    destination: &dyn Destination,
    subject: &Digest,
    options: &CopyOptions,
    observer: &dyn Observer,
) -> Result<Copied> {
    let job = Job { source, destination, options, observer, moved: Mutex::default() };
    let root = job.copy(source.root()?, 0)?;
    destination.put_referrer(&root, subject)?;
    observer.manifest(&root.descriptor);
    Ok(Copied { descriptor: root.descriptor, manifests: job.written() })
}

/// The manifest of the image for `platform`, which may be the root itself.
///
/// # Errors
/// [`Error::NoPlatform`], and those of the source.
pub fn select(source: &dyn Source, platform: &Platform) -> Result<Document> {
    select_from(source, source.root()?, platform)
}

/// The manifest of the image for `platform`, where the source's root, `document`, was read already.
///
/// # Errors
/// As [`select`].
pub fn select_from(source: &dyn Source, mut document: Document, platform: &Platform) -> Result<Document> {
    for _ in 0..MAX_DEPTH {
        match parse(source, &document)? {
            Parsed::Manifest(_) => return Ok(document),
            Parsed::Index(index) => {
                let mut descriptor =
                    index.select(platform).ok_or_else(|| no_platform(source, &index, platform))?.clone();
                descriptor.platform = None;
                descriptor.annotations.clear();
                let bytes = read_manifest(source, &descriptor)?;
                document = Document { descriptor, bytes };
            }
        }
    }
    Err(no_platform(source, &Index::new(Vec::new()), platform))
}

fn no_platform(source: &dyn Source, index: &Index, platform: &Platform) -> Error {
    let available = index.manifests.iter().filter_map(|m| m.platform.as_ref()).map(Platform::to_string);
    let mut available: Vec<String> = available.collect();
    available.dedup();
    let available = if available.is_empty() { "none".to_owned() } else { available.join(", ") };
    let Platform { architecture, os, variant, .. } = platform;
    // skopeo's words: scripts look for them.
    let platform =
        format!("architecture {architecture}, variant \"{}\", OS {os}", variant.as_deref().unwrap_or_default());
    Error::NoPlatform { name: source.name(), platform, available }
}

fn parse(source: &dyn Source, document: &Document) -> Result<Parsed> {
    Parsed::parse(&document.descriptor.media_type, &document.bytes).map_err(Error::content(source.name()))
}

/// A member of an index, checked against what the index says of it.
fn read_manifest(source: &dyn Source, descriptor: &Descriptor) -> Result<Vec<u8>> {
    let bytes = source.manifest(descriptor)?;
    let (digest, size) = (descriptor.digest, bytes.len() as u64);
    let wrong = if size != descriptor.size {
        Some(hoy_oci::Error::SizeMismatch { expected: digest, size: descriptor.size, actual: size })
    } else {
        let actual = digest.again(&bytes);
        (actual != digest).then_some(hoy_oci::Error::DigestMismatch { expected: digest, actual })
    };
    wrong.map_or(Ok(bytes), |source_error| Err(Error::content(source.name())(source_error)))
}

struct Job<'a> {
    source: &'a dyn Source,
    destination: &'a dyn Destination,
    options: &'a CopyOptions,
    observer: &'a dyn Observer,
    /// What each manifest was called at the source, and is at the destination.
    moved: Mutex<Vec<(Digest, Digest)>>,
}

impl Job<'_> {
    /// Copies what `document` refers to; returns it as it is to be written.
    fn copy(&self, document: Document, depth: usize) -> Result<Document> {
        let before = document.descriptor.digest;
        let written = match parse(self.source, &document)? {
            Parsed::Manifest(manifest) => self.copy_image(document, manifest),
            Parsed::Index(_) if self.options.multi_arch == MultiArch::IndexOnly => Ok(document),
            Parsed::Index(_) if depth >= MAX_DEPTH => Err(self.cannot("it has indexes within indexes without end")),
            Parsed::Index(index) => self.copy_index(document, index, depth),
        }?;
        self.moved.lock().unwrap_or_else(PoisonError::into_inner).push((before, written.descriptor.digest));
        Ok(written)
    }

    /// The manifests that were copied, as they are at the destination.
    fn written(&self) -> Vec<Digest> {
        self.moved.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(_, after)| *after).collect()
    }

    /// Copies what refers to all manifests that were copied, and what refers to that.
    fn copy_referrers(&self, depth: usize) -> Result<()> {
        let moved = std::mem::take(&mut *self.moved.lock().unwrap_or_else(PoisonError::into_inner));
        // An artifact is copied as it is: it has no platform and no layers to be converted.
        let options = CopyOptions {
            multi_arch: MultiArch::All,
            format: None,
            layers: LayerPolicy::Keep,
            encryption: None,
            decryption: Vec::new(),
            ..self.options.clone()
        };
        let job = Job { options: &options, moved: Mutex::default(), ..*self };
        for (before, after) in moved {
            for referrer in self.source.referrers(&before)? {
                if before != after {
                    return Err(
                        self.cannot("what refers to it names a digest that changes: leave out --with-referrers")
                    );
                }
                let bytes = read_manifest(self.source, &referrer)?;
                if referrers::subject(&bytes).is_none_or(|subject| subject.digest != before) {
                    return Err(self.cannot(format!("{} is listed as its referrer and is not", referrer.digest)));
                }
                let written = job.copy(Document { descriptor: referrer, bytes }, 0)?;
                self.destination.put_referrer(&written, &after)?;
                self.observer.manifest(&written.descriptor);
            }
        }
        let is_done = job.moved.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        match depth {
            _ if is_done => Ok(()),
            MAX_DEPTH.. => Err(self.cannot("it has referrers of referrers without end")),
            depth => job.copy_referrers(depth + 1),
        }
    }

    /// Whether a member of an index is to be copied, and whether the index is to list those that are not.
    fn chosen(&self, index: &Index) -> Result<(Vec<Digest>, bool)> {
        let MultiArch::Platforms { wanted, strip } = &self.options.multi_arch else {
            return Ok((index.manifests.iter().map(|m| m.digest).collect(), false));
        };
        let one = |platform: &Platform| {
            let member = index.select(platform).map(|m| m.digest);
            member.ok_or_else(|| no_platform(self.source, index, platform))
        };
        Ok((wanted.iter().map(one).collect::<Result<_>>()?, *strip))
    }

    fn copy_index(&self, document: Document, mut index: Index, depth: usize) -> Result<Document> {
        let (chosen, strip) = self.chosen(&index)?;
        self.takes_all(index.manifests.iter().chain([&document.descriptor]))?;
        let mut changed = false;
        if strip {
            let before = index.manifests.len();
            index.manifests.retain(|m| chosen.contains(&m.digest));
            changed = before != index.manifests.len();
        }
        let wanted = self.format().map(Format::index).unwrap_or_else(|| document.descriptor.media_type.clone());
        if changed || wanted != document.descriptor.media_type {
            self.may_change(&document.descriptor.digest)?;
        }
        for member in index.manifests.iter_mut().filter(|m| chosen.contains(&m.digest)) {
            let bytes = read_manifest(self.source, member)?;
            let written = self.copy(Document { descriptor: member.clone(), bytes }, depth + 1)?;
            self.destination.put_manifest(&written)?;
            self.observer.manifest(&written.descriptor);
            let new = written.descriptor;
            changed |= new.digest != member.digest;
            (member.media_type, member.digest, member.size) = (new.media_type, new.digest, new.size);
        }
        if !changed && wanted == document.descriptor.media_type {
            return Ok(document);
        }
        self.may_change(&document.descriptor.digest)?;
        index.media_type = Some(wanted.clone());
        self.rewritten(&wanted, serde_json::to_vec(&index))
    }

    fn copy_image(&self, document: Document, manifest: Manifest) -> Result<Document> {
        let own = Format::of(&document.descriptor.media_type);
        let changes = plan(&manifest, self.source, self.destination, self.options)?;
        let mut format = self.format().unwrap_or(own);
        if changes.values().any(Change::needs_oci) && format != Format::Oci {
            if self.destination.format().or(self.options.format).is_some() {
                return Err(self.cannot("Docker's format has no layers that are encrypted or compressed with zstd"));
            }
            format = Format::Oci;
        }
        // What cannot be written is found out before anything is moved.
        let mut planned = manifest.clone();
        let change_of = |layer: &Descriptor| changes.get(&layer.digest);
        for layer in &mut planned.layers {
            if let Some(change) = change_of(layer) {
                change.describe(layer, own);
            }
        }
        if format != own {
            planned = convert(planned, format).map_err(|reason| self.cannot(reason))?;
        }
        for layer in &mut planned.layers {
            if let Some(change) = change_of(layer) {
                change.seal(layer);
            }
        }
        let stays = changes.is_empty() && planned == manifest;
        if !stays {
            self.may_change(&document.descriptor.digest)?;
        }
        let moved =
            manifest.layers.iter().filter(|layer| !changes.contains_key(&layer.digest)).chain([&manifest.config]);
        self.takes_all(moved.chain(stays.then_some(&document.descriptor)))?;
        let mut seen = HashSet::new();
        let all = manifest.layers.iter().chain([&manifest.config]);
        let blobs: Vec<&Descriptor> = all.filter(|blob| seen.insert(blob.digest)).collect();
        self.observer.expect(&blobs);
        // Compressing is parallel in itself and needs memory for it.
        let lanes = self.options.lanes.unwrap_or(usize::MAX).clamp(1, self.destination.lanes());
        let is_compressing = changes.values().any(|change| change.compress.is_some());
        let lanes = if is_compressing { lanes.min(2) } else { lanes };
        let written = in_parallel(&blobs, lanes, |blob, stop| self.copy_blob(blob, changes.get(&blob.digest), stop))?;
        if stays {
            return Ok(document);
        }
        let written: HashMap<Digest, Written> = blobs.iter().map(|blob| blob.digest).zip(written).collect();
        for layer in &mut planned.layers {
            if let Some(new) = written.get(&layer.digest) {
                (layer.digest, layer.size) = (new.digest, new.size);
                layer.annotations.extend(new.annotations.clone());
            }
        }
        let media_type = planned.media_type.clone().unwrap_or(document.descriptor.media_type);
        self.rewritten(&media_type, serde_json::to_vec(&planned))
    }

    /// Whether the destination has a place for all of these.
    fn takes_all<'b>(&self, mut all: impl Iterator<Item = &'b Descriptor>) -> Result<()> {
        match all.find(|one| !self.destination.takes(&one.digest)) {
            Some(strange) => {
                let (name, digest) = (self.destination.name(), strange.digest);
                Err(self.cannot(format!("{name} has no place for {digest}, as its digests are those of SHA-256")))
            }
            None => Ok(()),
        }
    }

    /// Whether the manifest of this digest may get another one.
    fn may_change(&self, digest: &Digest) -> Result<()> {
        if self.options.preserve_digests {
            return Err(self.cannot(PRESERVE));
        }
        if self.source.is_signed(digest)? { Err(self.cannot(SIGNED)) } else { Ok(()) }
    }

    fn rewritten(&self, media_type: &hoy_oci::MediaType, bytes: serde_json::Result<Vec<u8>>) -> Result<Document> {
        let bytes = bytes.map_err(|e| self.cannot(e.to_string()))?;
        Ok(Document { descriptor: Descriptor::of(media_type.clone(), &bytes), bytes })
    }

    /// The format that must come out.
    fn format(&self) -> Option<Format> {
        let natural = || self.destination.natural_format().filter(|_| self.source.is_synthetic());
        self.destination.format().or(self.options.format).or_else(natural)
    }

    fn cannot(&self, reason: impl Into<String>) -> Error {
        Error::Convert { name: self.source.name(), reason: reason.into() }
    }

    /// Copies a blob, changing it if there is a change; returns what is at the destination.
    fn copy_blob(&self, blob: &Descriptor, change: Option<&Change>, stop: &AtomicBool) -> Result<Written> {
        let mut attempt = 0;
        loop {
            let result = match change {
                None => self.try_blob(blob, stop).map(|outcome| (outcome, as_it_is(blob))),
                Some(change) => self.try_change(blob, change, stop),
            };
            let failure = match result {
                Ok((outcome, written)) => {
                    self.observer.end(blob, outcome);
                    return Ok(written);
                }
                Err(error) => error,
            };
            if failure.is_wrong_content()
                && let Some(place) = self.source.distrust(blob)
            {
                self.observer.warn(&format!("{place} has wrong bytes for blob {}: it is asked elsewhere", blob.digest));
                continue;
            }
            attempt += 1;
            if attempt > self.options.retry.times || !failure.is_temporary() || stop.load(Ordering::Relaxed) {
                // A registry's error names the blob and where it is.
                if matches!(&failure, Error::Registry(error) if !error.is_about_content()) {
                    return Err(failure);
                }
                let (digest, from) = (blob.digest, self.source.name());
                return Err(Error::Blob { digest, from, source: Box::new(failure) });
            }
            std::thread::sleep(self.options.retry.wait(attempt));
        }
    }

    fn try_change(&self, blob: &Descriptor, change: &Change, stop: &AtomicBool) -> Result<(Outcome, Written)> {
        if let Some(digest) = change.outcome() {
            // Encryption keeps the size.
            let plain = Descriptor { digest, ..blob.clone() };
            if self.destination.has_blob(&plain)? {
                return Ok((Outcome::Present, as_it_is(&plain)));
            }
        }
        let arriving = Arriving { job: self, blob, stop };
        let written = change.write(Box::new(arriving.verified()?), self.destination, self.options)?;
        Ok((Outcome::Copied, written))
    }

    fn try_blob(&self, blob: &Descriptor, stop: &AtomicBool) -> Result<Outcome> {
        if self.destination.has_blob(blob)? {
            return Ok(Outcome::Present);
        }
        if let Some(repository) = self.source.repository()
            && self.destination.mount_blob(blob, &repository)?
        {
            return Ok(Outcome::Mounted);
        }
        match self.destination.put_blob(&Arriving { job: self, blob, stop }) {
            Ok(true) => Ok(Outcome::Copied),
            Ok(false) => Ok(Outcome::Present),
            // The addresses in `urls` are for whoever runs the image; this program does not go there (CVE-2020-15157).
            Err(e) if e.is_not_found() && !blob.urls.is_empty() && self.destination.may_lack_foreign_layers() => {
                Ok(Outcome::Foreign)
            }
            Err(error) => Err(error),
        }
    }
}

/// A blob that arrives unchanged.
fn as_it_is(blob: &Descriptor) -> Written {
    Written { digest: blob.digest, size: blob.size, annotations: BTreeMap::new() }
}

/// A blob of the source, watched as it is read.
struct Arriving<'a> {
    job: &'a Job<'a>,
    blob: &'a Descriptor,
    stop: &'a AtomicBool,
}

impl Incoming for Arriving<'_> {
    fn descriptor(&self) -> &Descriptor {
        self.blob
    }

    fn open(&self, offset: u64) -> Result<Box<dyn Read + '_>> {
        let observer = self.job.observer;
        observer.begin(self.blob);
        observer.advance(self.blob, offset);
        let content = self.job.source.blob(self.blob, offset)?;
        Ok(Box::new(Watched { content, blob: self.blob, stop: self.stop, observer }))
    }
}

/// Content that tells how much of it has come, and ends when another thread has failed.
struct Watched<'a, R> {
    content: R,
    blob: &'a Descriptor,
    stop: &'a AtomicBool,
    observer: &'a dyn Observer,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other(Error::Stopped));
        }
        let count = self.content.read(buffer)?;
        self.observer.advance(self.blob, count as u64);
        Ok(count)
    }
}
