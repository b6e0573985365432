//! The OCI image layout (image-spec image-layout.md).

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use hoy_oci::{
    Descriptor, Digest, Document, ImageConfig, Index, MAX_DOCUMENT_BYTES, Manifest, MediaType, Platform, REF_NAME,
    VerifyingReader,
};
use hoy_sys::rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, utimensat};

use crate::atomic::keep_old;
use crate::{BlobWriter, Error, Lock, Result, Written, make_directory, sync, write_file};

pub(crate) const LAYOUT_FILE: &str = "oci-layout";
pub(crate) const INDEX_FILE: &str = "index.json";
pub(crate) const INDEX_BACKUP: &str = "index.json.old";
const INDEX_LOCK: &str = ".index.lock";
/// The longest index.json that is read, in bytes: about a hundred thousand names.
pub(crate) const MAX_INDEX_BYTES: u64 = 32 << 20;

/// A directory in the form of image-spec image-layout.md: any OCI tool reads and writes it.
#[derive(Debug, Clone)]
pub struct ImageLayout {
    path: PathBuf,
    /// Layouts whose blobs are read as if they were here.
    alternates: Vec<PathBuf>,
    /// Who is told of a damaged index that is made again from what is there; without that, damage is an error.
    tell: Option<fn(&Error)>,
}

/// A name of the layout's index and what it points to.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedImage {
    /// The value of `org.opencontainers.image.ref.name`; none for an image without a name.
    pub name: Option<String>,
    /// The manifest or index.
    pub descriptor: Descriptor,
    /// The additional store that it is in; none for one's own.
    pub additional: Option<PathBuf>,
}

/// One image of a layout, read and verified.
#[derive(Debug, Clone)]
pub struct Image {
    /// The manifest's own descriptor.
    pub descriptor: Descriptor,
    /// The manifest.
    pub manifest: Manifest,
    /// The configuration.
    pub config: ImageConfig,
}

impl ImageLayout {
    /// The existing layout at `path`.
    ///
    /// # Errors
    /// [`Error::NotALayout`] without a valid `oci-layout` file.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let marker = path.join(LAYOUT_FILE);
        let text = match std::fs::read(&marker) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(Error::NotALayout(path)),
            other => other.map_err(Error::io("read", &marker))?,
        };
        let version = serde_json::from_slice::<serde_json::Value>(&text).ok();
        match version.as_ref().and_then(|v| v.get("imageLayoutVersion")).and_then(|v| v.as_str()) {
            Some(version) if version.starts_with("1.") => Ok(Self { path, alternates: Vec::new(), tell: None }),
            _ => Err(Error::NotALayout(path)),
        }
    }

    /// The layout at `path`, made if there is none yet.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::NotALayout`] for a directory with other things in it.
    pub fn open_or_create(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        match Self::open(&path) {
            Err(Error::NotALayout(path)) if !path.join(LAYOUT_FILE).exists() => Self::create(path),
            other => other,
        }
    }

    /// Makes what is missing of a layout: its directory, an empty index, the file that marks it.
    pub(crate) fn create(path: PathBuf) -> Result<Self> {
        let blobs = path.join("blobs/sha256");
        make_directory(&blobs, 0o755)?;
        let layout = Self { path, alternates: Vec::new(), tell: None };
        let lock = layout.lock_index()?;
        let index = layout.path.join(INDEX_FILE);
        // One that cannot be looked at is there.
        if !index.try_exists().map_err(Error::io("look at", &index))? {
            layout.write_index(&Index::new(Vec::new()))?;
        }
        // The marker comes last: a directory that has it is whole.
        write_file(&layout.path.join(LAYOUT_FILE), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        drop(lock);
        Ok(layout)
    }

    /// The layout's directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// This layout, reading blobs that it does not have from others, which are never written.
    pub(crate) fn with_alternates(self, alternates: Vec<PathBuf>) -> Self {
        Self { alternates, ..self }
    }

    /// This layout, going on with what is left of a damaged index after telling of the damage.
    pub(crate) fn telling(self, tell: fn(&Error)) -> Self {
        Self { tell: Some(tell), ..self }
    }

    /// The file that holds the blob, here or in an additional store; the one here where none does.
    pub fn blob_file(&self, digest: &Digest) -> PathBuf {
        let own = self.blob_path(digest);
        if self.alternates.is_empty() || own.exists() {
            return own;
        }
        let others = self.alternates.iter().map(|other| other.join("blobs").join(digest.path()));
        others.into_iter().find(|path| path.is_file()).unwrap_or(own)
    }

    /// The file that holds, or would hold, this layout's own copy of the blob.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path.join("blobs").join(digest.path())
    }

    /// The length of a blob in bytes; none when it is not there.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let path = self.blob_file(digest);
        match std::fs::symlink_metadata(&path) {
            Ok(metadata) => Ok(metadata.is_file().then_some(metadata.len())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("look at", &path)(e)),
        }
    }

    /// A blob's bytes, checked against the descriptor as they are read.
    ///
    /// # Errors
    /// [`Error::NoBlob`], [`Error::Io`]; and from `read`, wrong content as `InvalidData`.
    pub fn open_blob(&self, descriptor: &Descriptor) -> Result<VerifyingReader<File>> {
        let path = self.blob_file(&descriptor.digest);
        match File::open(&path) {
            Ok(file) => Ok(VerifyingReader::new(file, descriptor)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                Err(Error::NoBlob { digest: descriptor.digest, layout: self.path.clone() })
            }
            Err(e) => Err(Error::io("open", &path)(e)),
        }
    }

    /// Remembers that the image with this manifest is used now: the time of that blob's file.
    pub fn touch(&self, manifest: &Digest) {
        let at = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
        let times = Timestamps { last_access: at(UTIME_OMIT), last_modification: at(UTIME_NOW) };
        // It serves to choose what to remove first when space is short: an image that cannot be marked is used all the same.
        utimensat(CWD, self.blob_path(manifest), &times, AtFlags::empty()).unwrap_or_default();
    }

    /// When the image with this manifest was last pulled, made, named, mounted, or made a container from.
    pub fn last_used(&self, manifest: &Digest) -> Option<std::time::SystemTime> {
        std::fs::metadata(self.blob_path(manifest)).and_then(|metadata| metadata.modified()).ok()
    }

    /// All of a small blob, verified: a manifest, an index, a configuration.
    ///
    /// # Errors
    /// As [`ImageLayout::open_blob`], and [`Error::Content`] over 4 MiB or for wrong content.
    pub fn read_document(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let wrong = |source| Error::Content { doing: format!("read blob {}", descriptor.digest), source };
        if descriptor.size > MAX_DOCUMENT_BYTES {
            let (size, limit) = (descriptor.size, MAX_DOCUMENT_BYTES);
            return Err(wrong(hoy_oci::Error::TooLarge { kind: "document", size, limit }));
        }
        // Room for one byte more, so that the end is seen by the first read after the last.
        let mut bytes = Vec::with_capacity(usize::try_from(descriptor.size).unwrap_or(0) + 1);
        let path = self.blob_path(&descriptor.digest);
        self.open_blob(descriptor)?.read_to_end(&mut bytes).map_err(Error::io("read", &path))?;
        Ok(bytes)
    }

    /// A new blob.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn blob_writer(&self) -> Result<BlobWriter> {
        BlobWriter::create_in(self.path.join("blobs/sha256"))
    }

    /// The blob that `expected` describes, as [`BlobWriter::resume_in`] has it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn resume_blob(&self, expected: &Descriptor) -> Result<Option<BlobWriter>> {
        BlobWriter::resume_in(self.path.join("blobs/sha256"), expected)
    }

    /// Begins a blob as [`BlobWriter::begin_upload_in`] has it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn begin_upload(&self) -> Result<String> {
        BlobWriter::begin_upload_in(&self.path.join("blobs/sha256"))
    }

    /// How far such a blob has come, as [`BlobWriter::upload_size_in`] has it.
    pub fn upload_size(&self, id: &str) -> Option<u64> {
        BlobWriter::upload_size_in(&self.path.join("blobs/sha256"), id)
    }

    /// Takes such a blob up, as [`BlobWriter::resume_upload_in`] has it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn resume_upload(&self, id: &str, known: Option<Written>) -> Result<Option<BlobWriter>> {
        BlobWriter::resume_upload_in(self.path.join("blobs/sha256"), id, known)
    }

    /// Stores `bytes` and returns their descriptor.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn put(&self, media_type: &str, bytes: &[u8]) -> Result<Descriptor> {
        let descriptor = Descriptor::of(MediaType::from(media_type), bytes);
        if self.blob_size(&descriptor.digest)? != Some(descriptor.size) {
            let mut writer = self.blob_writer()?;
            std::io::Write::write_all(&mut writer, bytes)
                .map_err(Error::io("write", &self.blob_path(&descriptor.digest)))?;
            writer.finish_as(&descriptor)?;
        }
        Ok(descriptor)
    }

    /// The index: one descriptor for each name.
    ///
    /// # Errors
    /// [`Error::Damaged`] naming the file when it is no index.
    pub fn index(&self) -> Result<Index> {
        read_index(self.path.join(INDEX_FILE))
    }

    /// The index, and whether it is as it was written: where it is damaged and this layout goes on all the same, it is
    /// what is left of it.
    fn present_index(&self) -> Result<(Index, bool)> {
        match (self.index(), self.tell) {
            (Err(error), Some(tell)) if error.is_damage() => {
                let restored = self.restored_index()?.0;
                tell(&error);
                Ok((restored, false))
            }
            (other, _) => Ok((other?, true)),
        }
    }

    /// Changes the index under its lock. The old file stays beside it as `index.json.old`, unless it is damaged.
    ///
    /// # Errors
    /// Those of `change`, and then nothing is written; [`Error::Io`], [`Error::Damaged`].
    pub fn edit_index<T, E: From<Error>>(
        &self,
        change: impl FnOnce(&mut Index) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let lock = self.lock_index()?;
        let (mut index, is_whole) = self.present_index()?;
        let before = index.clone();
        let result = change(&mut index)?;
        if index != before {
            if is_whole {
                keep_old(&self.path.join(INDEX_FILE), &self.path.join(INDEX_BACKUP))?;
            }
            self.write_index(&index)?;
        }
        drop(lock);
        Ok(result)
    }

    /// Takes every entry out of the index, whatever state it is in; none is kept beside it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn forget_all(&self) -> Result<()> {
        let lock = self.lock_index()?;
        self.write_index(&Index::new(Vec::new()))?;
        let old = self.path.join(INDEX_BACKUP);
        match std::fs::remove_file(&old) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io("remove", &old)(e)),
            _ => drop(lock),
        }
        Ok(())
    }

    pub(crate) fn lock_index(&self) -> Result<Lock> {
        Lock::exclusive(&self.path.join(INDEX_LOCK))
    }

    pub(crate) fn write_index(&self, index: &Index) -> Result<()> {
        let path = self.path.join(INDEX_FILE);
        let bytes = serde_json::to_vec(index).map_err(|source| Error::Damaged { path: path.clone(), source })?;
        // The names of all blobs at once, before anything leads to them; an index of nothing leads to none, and others may
        // have no need of such a directory.
        let leads_nowhere = index.manifests.is_empty();
        match if leads_nowhere { Ok(()) } else { sync(&self.path.join("blobs/sha256")) } {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
        write_file(&path, &bytes)
    }

    /// Gives `descriptor` the name `name`, taking it from whatever had it.
    ///
    /// What had it stays in the index without a name when no other entry points to it, so that nothing is lost.
    ///
    /// # Errors
    /// As [`ImageLayout::edit_index`].
    pub fn set_name(&self, name: &str, descriptor: &Descriptor) -> Result<()> {
        self.touch(&descriptor.digest);
        self.edit_index(|index| {
            let mut named = descriptor.clone();
            named.annotations.insert(REF_NAME.to_owned(), name.to_owned());
            let replaced = index.manifests.iter().position(|m| m.ref_name() == Some(name));
            let old = replaced.map(|at| index.manifests.remove(at));
            index.manifests.retain(|m| m.ref_name().is_some() || m.digest != descriptor.digest);
            index.manifests.push(named);
            if let Some(mut old) = old {
                old.annotations.remove(REF_NAME);
                if index.member(&old.digest).is_none() {
                    index.manifests.push(old);
                }
            }
            Ok(())
        })
    }

    /// Takes a name out of the index; returns what it pointed to. The image itself stays only while other names have it.
    ///
    /// # Errors
    /// [`Error::NoImage`], and as [`ImageLayout::edit_index`].
    pub fn remove_name(&self, name: &str) -> Result<Descriptor> {
        self.edit_index(|index| {
            let at = index.manifests.iter().position(|m| m.ref_name() == Some(name));
            at.map(|at| index.manifests.remove(at)).ok_or_else(|| self.no_image(name))
        })
    }

    /// Takes every entry of this digest out of the index, names and all; returns how many there were.
    ///
    /// # Errors
    /// As [`ImageLayout::edit_index`].
    pub fn remove_digest(&self, digest: &Digest) -> Result<usize> {
        self.edit_index(|index| {
            let before = index.manifests.len();
            index.manifests.retain(|m| m.digest != *digest);
            Ok(before - index.manifests.len())
        })
    }

    /// All entries of the index, in its order.
    ///
    /// # Errors
    /// As [`ImageLayout::index`].
    pub fn images(&self) -> Result<Vec<NamedImage>> {
        let entries = self.present_index()?.0.manifests.into_iter();
        Ok(entries
            .map(|d| NamedImage { name: d.ref_name().map(str::to_owned), descriptor: d, additional: None })
            .collect())
    }

    /// The entry at place `at` of the index, from 0.
    ///
    /// # Errors
    /// [`Error::NoImage`], and as [`ImageLayout::index`].
    pub fn entry(&self, at: usize) -> Result<Descriptor> {
        self.present_index()?.0.manifests.into_iter().nth(at).ok_or_else(|| self.no_image(&format!("@{at}")))
    }

    /// What exactly this name points to; without a name, the layout's only entry.
    ///
    /// # Errors
    /// [`Error::NoImage`], [`Error::WhichImage`], and as [`ImageLayout::index`].
    pub fn resolve(&self, name: Option<&str>) -> Result<Descriptor> {
        let index = self.present_index()?.0;
        match name {
            Some(name) => {
                index.manifests.into_iter().find(|m| m.ref_name() == Some(name)).ok_or_else(|| self.no_image(name))
            }
            None => match <[Descriptor; 1]>::try_from(index.manifests) {
                Ok([only]) => Ok(only),
                Err(all) => Err(Error::WhichImage { layout: self.path.clone(), count: all.len() }),
            },
        }
    }

    /// Describes the document with this digest, whether anything leads to it or not; none where there is no such blob.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Content`] for a blob that is no manifest and no index.
    pub fn manifest(&self, digest: &Digest) -> Result<Option<Descriptor>> {
        let Some(size) = self.blob_size(digest)? else { return Ok(None) };
        let mut descriptor = Descriptor::new(MediaType::from(MediaType::MANIFEST), *digest, size);
        // The media type is in the document; what it is read as is checked against it.
        let media_type = Document::guess_media_type(&self.read_document(&descriptor)?);
        let wrong = |source| Error::Content { doing: format!("read {digest}"), source };
        descriptor.media_type = media_type.map_err(wrong)?;
        Ok(Some(descriptor))
    }

    /// Reads the image that `descriptor` points to; of an index, the member for `platform`.
    ///
    /// # Errors
    /// [`Error::NoPlatform`], [`Error::Content`], and as [`ImageLayout::read_document`].
    pub fn image(&self, descriptor: &Descriptor, platform: &Platform) -> Result<Image> {
        let wrong = |d: &Descriptor| {
            let doing = format!("read {}", d.digest);
            move |source| Error::Content { doing, source }
        };
        let mut descriptor = descriptor.clone();
        // An index may list indexes; a few levels are more than anybody has.
        for _ in 0..4 {
            let bytes = self.read_document(&descriptor)?;
            match Document::parse(&descriptor.media_type, &bytes).map_err(wrong(&descriptor))? {
                Document::Manifest(manifest) => {
                    let config = self.read_document(&manifest.config)?;
                    let config = ImageConfig::parse(&config).map_err(wrong(&manifest.config))?;
                    return Ok(Image { descriptor, manifest, config });
                }
                Document::Index(index) => {
                    let name = descriptor.ref_name().map_or_else(|| descriptor.digest.to_string(), str::to_owned);
                    let missing = Error::NoPlatform { name, platform: platform.to_string() };
                    descriptor = index.select(platform).ok_or(missing)?.clone();
                }
            }
        }
        Err(Error::NoPlatform { name: descriptor.digest.to_string(), platform: platform.to_string() })
    }

    fn no_image(&self, name: &str) -> Error {
        Error::NoImage { name: name.to_owned(), layout: self.path.clone() }
    }
}

/// The index in the file at `path`.
pub(crate) fn read_index(path: PathBuf) -> Result<Index> {
    let mut bytes = Vec::new();
    let file = File::open(&path).map_err(Error::io("open", &path))?;
    file.take(MAX_INDEX_BYTES).read_to_end(&mut bytes).map_err(Error::io("read", &path))?;
    serde_json::from_slice(&bytes).map_err(|source| Error::Damaged { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> (tempfile::TempDir, ImageLayout) {
        let dir = tempfile::tempdir().unwrap();
        let layout = ImageLayout::open_or_create(dir.path().join("layout")).unwrap();
        (dir, layout)
    }

    #[test]
    fn names_move_and_nothing_is_lost() {
        let (_dir, layout) = layout();
        let one = layout.put(MediaType::MANIFEST, b"{}").unwrap();
        let two = layout.put(MediaType::MANIFEST, b"{ }").unwrap();
        layout.set_name("a", &one).unwrap();
        layout.set_name("a", &two).unwrap();
        assert_eq!(layout.resolve(Some("a")).unwrap().digest, two.digest);
        assert_eq!(layout.images().unwrap().iter().filter(|i| i.descriptor.digest == one.digest).count(), 1);
        layout.set_name("b", &one).unwrap();
        assert_eq!(layout.images().unwrap().len(), 2, "the unnamed entry got a name again");
        assert!(layout.path().join(INDEX_BACKUP).exists());
        layout.remove_name("a").unwrap();
        assert!(layout.remove_name("a").unwrap_err().is_not_found());
    }

    #[test]
    fn a_wrong_blob_never_shows() {
        let (_dir, layout) = layout();
        let wanted = Descriptor::of(MediaType::from("x/y"), b"good");
        let mut writer = layout.blob_writer().unwrap();
        std::io::Write::write_all(&mut writer, b"evil").unwrap();
        assert!(matches!(writer.finish_as(&wanted), Err(Error::Content { .. })));
        assert_eq!(layout.blob_size(&wanted.digest).unwrap(), None);
        assert_eq!(std::fs::read_dir(layout.path().join("blobs/sha256")).unwrap().count(), 0);
    }

    #[test]
    fn damage_is_named() {
        let (_dir, layout) = layout();
        std::fs::write(layout.path().join(INDEX_FILE), b"{\"schemaVersion\":2,").unwrap();
        assert!(layout.images().unwrap_err().to_string().contains("index.json\" is damaged"));
        assert!(matches!(ImageLayout::open("/proc").unwrap_err(), Error::NotALayout(_)));
    }
}
