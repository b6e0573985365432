//! `docker-archive:` — what docker save(1) writes and docker load(1) reads.

use std::collections::HashMap;
use std::fs::Metadata;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hoy_layer::{Compression, Decompressor};
use hoy_oci::{
    Descriptor, Digest, Document as Parsed, Hasher, ImageConfig, Manifest, MediaType, Reference, VerifyingReader,
};
use serde::{Deserialize, Serialize};

use crate::archive::Archive;
use crate::archive_writer::ArchiveWriter;
use crate::{Destination, Document, Error, Format, Incoming, Result, Source};

const LIST: &str = "manifest.json";

/// One image of an archive, as its `manifest.json` has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// An image in an archive of docker save(1). Its manifest is made up here.
#[derive(Debug)]
pub struct DockerArchiveSource {
    archive: Archive,
    document: Document,
    /// Which member has which blob.
    members: HashMap<Digest, String>,
}

/// An image to be in an archive for docker load(1), beside those that it holds.
#[derive(Debug)]
pub struct DockerArchiveDestination {
    writer: Mutex<ArchiveWriter>,
    /// The images that the archive holds.
    items: Vec<Item>,
    /// The archive that is replaced, as it was when it was read.
    before: Option<(PathBuf, Metadata)>,
    tags: Vec<String>,
    name: String,
}

fn items(archive: &Archive) -> Result<Vec<Item>> {
    serde_json::from_slice(&archive.document(LIST)?).map_err(|e| archive.wrong(format!("its {LIST}: {e}")))
}

/// All names in an archive.
///
/// # Errors
/// When it is no such archive.
pub fn docker_archive_names(file: &Path, spool: &Path) -> Result<Vec<String>> {
    let items = items(&Archive::open(file, spool)?)?;
    Ok(items.into_iter().flat_map(|item| item.repo_tags.unwrap_or_default()).collect())
}

impl DockerArchiveSource {
    /// The image that has the name or the place, or the only one. A pipe is kept in `spool` meanwhile.
    ///
    /// # Errors
    /// When it is no such archive, or has no such image.
    pub fn open(file: &Path, reference: Option<&Reference>, index: Option<usize>, spool: &Path) -> Result<Self> {
        Self::of(Archive::open(file, spool)?, reference, index)
    }

    pub(crate) fn of(archive: Archive, reference: Option<&Reference>, index: Option<usize>) -> Result<Self> {
        let item = choose(&archive, reference, index)?;
        let config = archive.document(&item.config)?;
        let wrong = |e| Error::content(archive.path().display())(e);
        let diff_ids = ImageConfig::parse(&config).map_err(wrong)?.rootfs.diff_ids;
        if diff_ids.len() != item.layers.len() {
            let (have, want) = (item.layers.len(), diff_ids.len());
            return Err(archive.wrong(format!("it has {have} layers where its configuration names {want}")));
        }
        let mut members = HashMap::new();
        let config_descriptor = Descriptor::of(MediaType::from(MediaType::DOCKER_CONFIG), &config);
        members.insert(config_descriptor.digest, item.config.clone());
        let mut layers = Vec::new();
        for (name, diff_id) in item.layers.iter().zip(diff_ids) {
            let descriptor = layer(&archive, name, diff_id)?;
            members.insert(descriptor.digest, name.clone());
            layers.push(descriptor);
        }
        let manifest = Manifest::new(MediaType::DOCKER_MANIFEST, config_descriptor, layers);
        let bytes = serde_json::to_vec(&manifest).map_err(|e| archive.wrong(e.to_string()))?;
        let descriptor = Descriptor::of(MediaType::from(MediaType::DOCKER_MANIFEST), &bytes);
        Ok(Self { archive, document: Document { descriptor, bytes }, members })
    }
}

fn choose(archive: &Archive, reference: Option<&Reference>, index: Option<usize>) -> Result<Item> {
    if !archive.has(LIST) {
        let other = if archive.has("index.json") { ": it is an oci-archive" } else { "" };
        return Err(archive.wrong(format!("it has no {LIST}{other}")));
    }
    let items = items(archive)?;
    let count = items.len();
    let has = |item: &Item, wanted: &Reference| {
        let tags = item.repo_tags.iter().flatten();
        tags.filter_map(|tag| Reference::parse(tag).ok()).any(|tag| tag == *wanted)
    };
    let (found, what) = match (reference, index) {
        (Some(wanted), _) => (items.into_iter().find(|item| has(item, wanted)), format!("named \"{wanted}\"")),
        (None, Some(at)) => (items.into_iter().nth(at), format!("number {at}")),
        (None, None) if count > 1 => {
            return Err(archive.wrong(format!("it has {count} images: add the name of one, or its number as @N")));
        }
        (None, None) => (items.into_iter().next(), "at all".to_owned()),
    };
    found.ok_or_else(|| archive.wrong(format!("it has no image {what}")))
}

/// What a layer's member is. Newer archives may hold compressed layers; the digest of one is found by reading it.
fn layer(archive: &Archive, name: &str, diff_id: Digest) -> Result<Descriptor> {
    let (mut section, size) = archive.section(name)?;
    let plain = |size| Ok(Descriptor::new(MediaType::from(MediaType::DOCKER_LAYER), diff_id, size));
    let media_type = match compression(archive, name)? {
        Compression::None => return plain(size),
        Compression::Gzip => MediaType::DOCKER_LAYER_GZIP,
        Compression::Zstd => MediaType::LAYER_ZSTD,
        // No image may have these; they are handed on uncompressed.
        Compression::Bzip2 | Compression::Xz => {
            let counted =
                Decompressor::detect(section).and_then(|mut layer| std::io::copy(&mut layer, &mut std::io::sink()));
            return plain(counted.map_err(Error::io("read", archive.path()))?);
        }
    };
    let mut hasher = Hasher::new();
    std::io::copy(&mut section, &mut hasher).map_err(Error::io("read", archive.path()))?;
    Ok(Descriptor::new(MediaType::from(media_type), hasher.finish(), size))
}

fn compression(archive: &Archive, name: &str) -> Result<Compression> {
    let mut start = Vec::new();
    archive.section(name)?.0.take(10).read_to_end(&mut start).map_err(Error::io("read", archive.path()))?;
    Ok(Compression::of(&start))
}

impl Source for DockerArchiveSource {
    fn name(&self) -> String {
        format!("\"docker-archive:{}\"", self.archive.path().display())
    }

    fn root(&self) -> Result<Document> {
        Ok(self.document.clone())
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        Err(self.archive.wrong(format!("it has no manifest {}", descriptor.digest)))
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send + '_>> {
        let missing = || self.archive.wrong(format!("it has no blob {}", descriptor.digest));
        let name = self.members.get(&descriptor.digest).ok_or_else(missing)?;
        let is_as_it_is = descriptor.media_type.as_str() != MediaType::DOCKER_LAYER;
        if is_as_it_is || compression(&self.archive, name)? == Compression::None {
            return Ok(Box::new(self.archive.section_from(name, offset)?));
        }
        let section = self.archive.section(name)?.0;
        let unpacked = Decompressor::detect(section).and_then(|mut layer| {
            std::io::copy(&mut layer.by_ref().take(offset), &mut std::io::sink())?;
            Ok(layer)
        });
        Ok(Box::new(unpacked.map_err(Error::io("read", self.archive.path()))?))
    }

    fn is_synthetic(&self) -> bool {
        true
    }
}

impl DockerArchiveDestination {
    /// An archive that will be at `file`, with these names for the image; `-` is standard output. An archive that is there
    /// is replaced in the end by one that holds its images too.
    ///
    /// # Errors
    /// When nothing can be added to what is there, or no file can be made.
    pub fn create(file: &Path, tags: &[Reference], spool: &Path) -> Result<Self> {
        let before = std::fs::metadata(file).ok().filter(|m| m.is_file() && m.len() > 0);
        let mut writer = ArchiveWriter::create(file, spool)?;
        let mut items = Vec::new();
        if before.is_some() {
            let cannot = |reason: &str| Error::Archive { path: file.to_owned(), reason: reason.to_owned() };
            if tags.is_empty() {
                return Err(cannot("it exists: give the image a name to add it, or remove the archive first"));
            }
            let mut start = Vec::new();
            let opened = std::fs::File::open(file).map(|archive| archive.take(10).read_to_end(&mut start));
            opened.and_then(|read| read).map_err(Error::io("read", file))?;
            if Compression::of(&start) != Compression::None {
                return Err(cannot("it is compressed, so that nothing can be added: unpack it first"));
            }
            items = carry_over(&Archive::open(file, spool)?, &mut writer)?;
            // A name belongs to the image that got it last.
            let is_taken = |tag: &String| Reference::parse(tag).is_ok_and(|tag| tags.contains(&tag));
            items
                .iter_mut()
                .filter_map(|item| item.repo_tags.as_mut())
                .for_each(|old| old.retain(|tag| !is_taken(tag)));
        }
        let tags = tags.iter().map(Reference::to_string).collect();
        let before = before.map(|metadata| (file.to_owned(), metadata));
        let name = format!("\"docker-archive:{}\"", file.display());
        Ok(Self { writer: Mutex::new(writer), items, before, tags, name })
    }

    /// The list of images with the one that `item` is; one that was there has further names then.
    fn list(&self, item: Item) -> Vec<Item> {
        let mut items = self.items.clone();
        match items.iter_mut().find(|old| (&old.config, &old.layers) == (&item.config, &item.layers)) {
            Some(old) => old.repo_tags.get_or_insert_default().extend(item.repo_tags.unwrap_or_default()),
            None => items.push(item),
        }
        items
    }

    fn writer(&self) -> MutexGuard<'_, ArchiveWriter> {
        // There is one lane, so nobody else can have died within.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes what the images of `archive` consist of; members that are called by a digest are what it says, so that nothing
/// else passes for a part of another image.
fn carry_over(archive: &Archive, writer: &mut ArchiveWriter) -> Result<Vec<Item>> {
    if archive.has("index.json") {
        return Err(archive.wrong("it is an oci-archive too, so that no image can be added to one part of it"));
    }
    if !archive.has(LIST) {
        return Err(archive.wrong(format!("it exists and has no {LIST}: remove it first")));
    }
    let items = items(archive)?;
    for name in items.iter().flat_map(|item| item.layers.iter().chain([&item.config])) {
        if writer.size(name).is_some() {
            continue;
        }
        if name == LIST {
            return Err(archive.wrong(format!("its {LIST} names itself")));
        }
        let (section, size) = archive.section(name)?;
        let stem = name.strip_suffix(".tar").or(name.strip_suffix(".json"));
        match stem.and_then(|stem| format!("sha256:{stem}").parse::<Digest>().ok()) {
            Some(digest) => {
                let wanted = Descriptor::new(MediaType::from(MediaType::DOCKER_LAYER), digest, size);
                let copied = writer.put(name, size, &mut VerifyingReader::new(section, &wanted));
                copied.map_err(|e| archive.wrong(format!("its member \"{name}\" is damaged: {e}")))?;
            }
            None => writer.put(name, size, &mut { section })?,
        }
    }
    Ok(items)
}

fn layer_name(digest: &Digest) -> String {
    format!("{}.tar", digest.hex())
}

fn config_name(digest: &Digest) -> String {
    format!("{}.json", digest.hex())
}

fn member_name(descriptor: &Descriptor) -> String {
    if descriptor.media_type.is_image_config() {
        config_name(&descriptor.digest)
    } else {
        layer_name(&descriptor.digest)
    }
}

impl Destination for DockerArchiveDestination {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn lanes(&self) -> usize {
        1
    }

    fn format(&self) -> Option<Format> {
        Some(Format::V2s2)
    }

    fn wants_plain_layers(&self) -> bool {
        true
    }

    fn takes(&self, digest: &Digest) -> bool {
        digest.is_sha256()
    }

    fn has_blob(&self, descriptor: &Descriptor) -> Result<bool> {
        Ok(self.writer().size(&member_name(descriptor)) == Some(descriptor.size))
    }

    fn put_blob(&self, blob: &dyn Incoming) -> Result<bool> {
        let descriptor = blob.descriptor();
        self.writer().put(&member_name(descriptor), descriptor.size, &mut blob.verified()?)?;
        Ok(true)
    }

    fn put_new_blob(&self, content: &mut dyn Read) -> Result<(Digest, u64)> {
        self.writer().put_new(content, layer_name)
    }

    fn put_manifest(&self, _: &Document) -> Result<()> {
        let reason = "a docker-archive holds one image, no index: leave out --all".to_owned();
        Err(Error::Convert { name: self.name(), reason })
    }

    fn finish(&self, root: &Document) -> Result<()> {
        let parsed = Parsed::parse(&root.descriptor.media_type, &root.bytes).map_err(Error::content(self.name()))?;
        let Parsed::Manifest(manifest) = parsed else { return self.put_manifest(root) };
        let item = Item {
            config: config_name(&manifest.config.digest),
            repo_tags: Some(self.tags.clone()),
            layers: manifest.layers.iter().map(|layer| layer_name(&layer.digest)).collect(),
        };
        let list = serde_json::to_vec(&self.list(item));
        let list = list.map_err(|e| Error::Convert { name: self.name(), reason: e.to_string() })?;
        let mut writer = self.writer();
        writer.put_bytes(LIST, &list)?;
        if let Some((path, before)) = &self.before {
            let now = std::fs::metadata(path).map_err(Error::io("read", path))?;
            if (now.ino(), now.len(), now.mtime_nsec()) != (before.ino(), before.len(), before.mtime_nsec()) {
                let reason = "another program changed it meanwhile: try again".to_owned();
                return Err(Error::Archive { path: path.clone(), reason });
            }
        }
        writer.finish()
    }
}
