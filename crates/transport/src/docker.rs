//! `docker:` — a registry, and the mirrors that may have the image too.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use hoy_oci::{Descriptor, Digest, Hasher, MediaType, Reference};
use hoy_registry::Registry;

use crate::{Destination, Document, Error, Incoming, Repository, Result, Source};

/// An image at a registry.
#[derive(Debug)]
pub struct DockerSource {
    reference: Reference,
    /// What people call it, in quotes.
    name: String,
    /// Where it may be had, in the order in which they are asked.
    places: Vec<(Registry, Reference)>,
    /// The place that had the image's manifest.
    best: AtomicUsize,
    /// Which places gave each blob, or parts of it, and which of them had it wrong.
    givers: Mutex<HashMap<Digest, Givers>>,
}

#[derive(Debug, Default)]
struct Givers {
    asked: BTreeSet<usize>,
    wrong: BTreeSet<usize>,
}

/// An image to be at a registry.
#[derive(Debug, Clone)]
pub struct DockerDestination {
    registry: Registry,
    reference: Reference,
    /// What people call it, in quotes.
    name: String,
    tags: Vec<String>,
    /// Where a blob of unknown digest is kept until it is known whether it must be sent.
    spool: Option<PathBuf>,
}

/// What a manifest is asked for by: the digest if there is one, which pins it.
fn key(reference: &Reference) -> String {
    let digest = reference.digest().map(Digest::to_string);
    digest.or_else(|| reference.tag().map(str::to_owned)).unwrap_or_else(|| "latest".to_owned())
}

impl DockerSource {
    /// The image `reference` at its registry.
    pub fn new(registry: Registry, reference: Reference) -> Self {
        Self::at(reference.clone(), vec![(registry, reference)])
    }

    /// The image `reference`, which is asked of each of `places` in this order, every manifest and every blob of it; each
    /// is a registry and the image's name there. The last one is where it belongs.
    pub fn at(reference: Reference, places: Vec<(Registry, Reference)>) -> Self {
        Self {
            name: format!("\"{reference}\""),
            reference,
            places,
            best: AtomicUsize::new(0),
            givers: Mutex::default(),
        }
    }

    /// The registry that the image belongs to, unless it has another name there.
    pub fn home(&self) -> Option<&Registry> {
        let (registry, reference) = self.places.last()?;
        (*reference == self.reference).then_some(registry)
    }

    /// The same under another name for people.
    #[must_use]
    pub fn called(self, name: &str) -> Self {
        Self { name: format!("\"{name}\""), ..self }
    }

    /// The places, the one that had the manifest first.
    fn places(&self) -> impl Iterator<Item = (usize, &(Registry, Reference))> {
        let best = self.best.load(Ordering::Relaxed);
        let first = self.places.get(best).map(|place| (best, place));
        first.into_iter().chain(self.places.iter().enumerate().filter(move |(at, _)| *at != best))
    }

    fn with_givers<T>(&self, blob: &Digest, act: impl FnOnce(&mut Givers) -> T) -> T {
        act(self.givers.lock().unwrap_or_else(PoisonError::into_inner).entry(*blob).or_default())
    }

    /// What the first place gives that has it, and which one that is; the error is that of the registry itself.
    fn first<T>(&self, ask: impl Fn(&Registry, &Reference) -> hoy_registry::Result<T>) -> Result<(usize, T)> {
        self.first_but(&BTreeSet::new(), ask)
    }

    /// The same without some places.
    fn first_but<T>(
        &self,
        without: &BTreeSet<usize>,
        ask: impl Fn(&Registry, &Reference) -> hoy_registry::Result<T>,
    ) -> Result<(usize, T)> {
        let mut failure = None;
        for (at, (registry, reference)) in self.places().filter(|(at, _)| !without.contains(at)) {
            match ask(registry, reference) {
                Ok(found) => return Ok((at, found)),
                Err(error) if at + 1 == self.places.len() => failure = Some(error),
                Err(error) => drop(failure.get_or_insert(error)),
            }
        }
        Err(failure.map_or(Error::Stopped, Error::Registry))
    }
}

impl Source for DockerSource {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn root(&self) -> Result<Document> {
        let ask =
            |registry: &Registry, reference: &Reference| registry.manifest(reference.repository(), &key(reference));
        let (at, fetched) = self.first(ask)?;
        // Who has the image is likely to have its blobs.
        self.best.store(at, Ordering::Relaxed);
        Ok(Document { descriptor: fetched.descriptor, bytes: fetched.bytes })
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let digest = descriptor.digest.to_string();
        Ok(self.first(|registry, reference| registry.manifest(reference.repository(), &digest))?.1.bytes)
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send + '_>> {
        let wrong = self.with_givers(&descriptor.digest, |givers| givers.wrong.clone());
        let ask =
            |registry: &Registry, reference: &Reference| registry.blob(reference.repository(), descriptor, offset);
        let (at, body) = self.first_but(&wrong, ask)?;
        if self.places.len() == 1 {
            return Ok(Box::new(body));
        }
        self.with_givers(&descriptor.digest, |givers| givers.asked.insert(at));
        let reader = Box::new(body);
        let (descriptor, left) = (descriptor.clone(), self.places.len());
        Ok(Box::new(AnyPlace { source: self, descriptor, reader, at, offset, left }))
    }

    fn distrust(&self, descriptor: &Descriptor) -> Option<String> {
        // The registry itself comes last, and its word is final.
        let mirrors = 0..self.places.len().saturating_sub(1);
        let wrong = self.with_givers(&descriptor.digest, |givers| {
            let new: Vec<usize> = givers.asked.iter().filter(|at| mirrors.contains(at)).copied().collect();
            givers.asked.clear();
            givers.wrong.extend(&new);
            new
        });
        let names: Vec<&str> =
            wrong.iter().filter_map(|at| self.places.get(*at)).map(|(registry, _)| registry.host()).collect();
        (!names.is_empty()).then(|| names.join(" or "))
    }

    fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>> {
        Ok(self.first(|registry, reference| registry.referrers(reference.repository(), subject))?.1)
    }

    fn repository(&self) -> Option<Repository> {
        let (host, name) = (self.reference.host().to_owned(), self.reference.repository().to_owned());
        Some(Repository { host, name })
    }
}

/// A blob that goes on at another place where one breaks down.
struct AnyPlace<'a> {
    source: &'a DockerSource,
    descriptor: Descriptor,
    reader: Box<dyn Read + Send + 'a>,
    /// The place that the reader reads from.
    at: usize,
    offset: u64,
    /// How many more breakdowns there may be.
    left: usize,
}

impl Read for AnyPlace<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let failure = match self.reader.read(buffer) {
                Ok(0) if self.offset < self.descriptor.size && !buffer.is_empty() => None,
                Ok(count) => {
                    self.offset += count as u64;
                    return Ok(count);
                }
                Err(error) => Some(error),
            };
            self.left = self.left.saturating_sub(1);
            let wrong = self.source.with_givers(&self.descriptor.digest, |givers| givers.wrong.clone());
            let others = self.source.places.iter().enumerate();
            let mut others = others.filter(|(at, _)| *at != self.at && !wrong.contains(at));
            let next = others.find_map(|(at, (registry, reference))| {
                let reader = registry.blob(reference.repository(), &self.descriptor, self.offset).ok()?;
                Some((at, reader))
            });
            match (next, failure) {
                (Some((at, reader)), _) if self.left > 0 => {
                    self.source.with_givers(&self.descriptor.digest, |givers| givers.asked.insert(at));
                    (self.at, self.reader) = (at, Box::new(reader));
                }
                (_, Some(error)) => return Err(error),
                // Whoever verifies has the better words for a blob that is short.
                (_, None) => return Ok(0),
            }
        }
    }
}

impl DockerDestination {
    /// The image `reference` at its registry, which gets the further `tags` too.
    pub fn new(registry: Registry, reference: Reference, tags: Vec<String>) -> Self {
        Self { registry, name: format!("\"{reference}\""), reference, tags, spool: None }
    }

    /// The same under another name for people.
    #[must_use]
    pub fn called(self, name: &str) -> Self {
        Self { name: format!("\"{name}\""), ..self }
    }

    /// Keeps what is compressed on the way in `spool` first, and sends it only if the registry lacks it.
    #[must_use]
    pub fn with_spool(self, spool: PathBuf) -> Self {
        Self { spool: Some(spool), ..self }
    }
}

impl Destination for DockerDestination {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn wants_compressed_layers(&self) -> bool {
        true
    }

    fn may_lack_foreign_layers(&self) -> bool {
        true
    }

    fn has_blob(&self, descriptor: &Descriptor) -> Result<bool> {
        let size = self.registry.blob_size(self.reference.repository(), &descriptor.digest)?;
        Ok(size == Some(descriptor.size))
    }

    fn mount_blob(&self, descriptor: &Descriptor, from: &Repository) -> Result<bool> {
        let here = self.reference.repository();
        if from.host != self.reference.host() || from.name == here {
            return Ok(false);
        }
        Ok(self.registry.mount_blob(here, &descriptor.digest, &from.name)?)
    }

    fn put_blob(&self, blob: &dyn Incoming) -> Result<bool> {
        // The source's own error says more than that of the request that lacked its content.
        let mut failure = None;
        let mut open = |offset| {
            let content = match offset {
                0 => blob.verified().map(|content| Box::new(content) as Box<dyn Read>),
                offset => blob.open(offset),
            };
            content.map_err(|error| {
                failure = Some(error);
                io::Error::other("the source does not give it")
            })
        };
        let sent = self.registry.put_blob(self.reference.repository(), blob.descriptor(), &mut open);
        match failure {
            Some(error) => Err(error),
            None => Ok(sent.map(|()| true)?),
        }
    }

    fn put_new_blob(&self, content: &mut dyn Read) -> Result<(Digest, u64)> {
        let repository = self.reference.repository();
        let Some(spool) = &self.spool else { return Ok(self.registry.put_new_blob(repository, content)?) };
        let mut file = tempfile::tempfile_in(spool).map_err(Error::io("make a temporary file in", spool))?;
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; 128 << 10];
        loop {
            let count = content.read(&mut buffer).map_err(Error::Read)?;
            let bytes = buffer.get(..count).unwrap_or_default();
            if bytes.is_empty() {
                break;
            }
            hasher.update(bytes);
            io::Write::write_all(&mut file, bytes).map_err(Error::io("write a temporary file in", spool))?;
        }
        let size = file.stream_position().map_err(Error::io("write a temporary file in", spool))?;
        let descriptor = Descriptor::new(MediaType::from(MediaType::LAYER), hasher.finish(), size);
        if !self.has_blob(&descriptor)? {
            let mut open = |offset| {
                let mut again = file.try_clone()?;
                again.seek(SeekFrom::Start(offset))?;
                Ok(Box::new(again) as Box<dyn Read>)
            };
            self.registry.put_blob(repository, &descriptor, &mut open)?;
        }
        Ok((descriptor.digest, size))
    }

    fn put_manifest(&self, document: &Document) -> Result<()> {
        let digest = document.descriptor.digest.to_string();
        self.put(&digest, document).map(drop)
    }

    fn put_referrer(&self, document: &Document, subject: &Digest) -> Result<()> {
        let is_listed = self.put(&document.descriptor.digest.to_string(), document)?;
        if !is_listed {
            self.registry.list_referrer_by_tag(self.reference.repository(), subject, &document.descriptor)?;
        }
        Ok(())
    }

    fn finish(&self, root: &Document) -> Result<()> {
        let pinned = self.reference.digest().filter(|digest| **digest != root.descriptor.digest);
        if let Some(expected) = pinned {
            let source = hoy_oci::Error::DigestMismatch { expected: *expected, actual: root.descriptor.digest };
            return Err(Error::Content { doing: format!("write {}", self.name()), source });
        }
        let key = self.reference.tag().map_or_else(|| root.descriptor.digest.to_string(), str::to_owned);
        self.put(&key, root)?;
        self.tags.iter().try_for_each(|tag| self.put(tag, root).map(drop))
    }
}

impl DockerDestination {
    /// True when the registry has listed it as a referrer.
    fn put(&self, key: &str, document: &Document) -> Result<bool> {
        let media_type = &document.descriptor.media_type;
        Ok(self.registry.put_manifest(self.reference.repository(), key, media_type, &document.bytes)?)
    }
}
