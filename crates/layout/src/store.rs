//! The store: an OCI layout with a layer cache and containers beside the blobs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use hoy_oci::{Digest, Platform, Reference};

use crate::additional::Additional;
use crate::image_layout::LAYOUT_FILE;
use crate::{ContainerDir, ContainerId, Error, Image, ImageLayout, Lock, NamedImage, Result, Roots, make_directory};

/// The store on disk (hoy-layout(5)).
#[derive(Debug, Clone)]
pub struct Store {
    layout: ImageLayout,
    runroot: PathBuf,
    additional: Vec<Additional>,
    /// What had to be mended to open it.
    mended: Option<PathBuf>,
}

impl Store {
    /// The store at `roots`, made if there is none yet.
    ///
    /// # Errors
    /// [`Error::Io`], among them a runtime directory that belongs to somebody else.
    pub fn open_or_create(roots: &Roots) -> Result<Self> {
        make_private(&roots.root)?;
        make_private(&roots.runroot)?;
        // One that cannot be read is left out: whoever is to hear of it asks the roots.
        let additional: Vec<Additional> =
            roots.additional.iter().filter_map(|path| Additional::open(path).ok()).collect();
        let (layout, mended) = open_or_mend(&roots.root)?;
        let layout =
            layout.telling(|_| {}).with_alternates(additional.iter().map(|other| other.path().to_owned()).collect());
        let store = Self { layout, runroot: roots.runroot.clone(), additional, mended };
        // Setuid files of images are nobody else's to run, even when ROOT was made by somebody who let others in.
        for dir in [store.layers(), store.containers()] {
            make_directory(&dir, 0o700)?;
        }
        Ok(store)
    }

    /// This store, telling of damage that it goes on in spite of.
    #[must_use]
    pub fn telling(self, tell: fn(&Error)) -> Self {
        if let Some(path) = &self.mended {
            tell(&Error::Mended(path.clone()));
        }
        Self { layout: self.layout.telling(tell), ..self }
    }

    /// The image layout that the store is.
    pub fn layout(&self) -> &ImageLayout {
        &self.layout
    }

    /// `ROOT`.
    pub fn root(&self) -> &Path {
        self.layout.path()
    }

    /// `RUNROOT`.
    pub fn runroot(&self) -> &Path {
        &self.runroot
    }

    /// `ROOT/signatures/HEX`: signatures of the manifest with this digest, as files `signature-1` and so on.
    pub fn signatures(&self, manifest: &Digest) -> PathBuf {
        self.root().join("signatures").join(manifest.hex())
    }

    /// `ROOT/layers`: the cache of unpacked layers.
    pub fn layers(&self) -> PathBuf {
        self.root().join("layers")
    }

    /// The directory of an unpacked layer, by diff ID or chain ID; a complete one is an overlay lower directory.
    ///
    /// That of an additional store, where only that has one.
    pub fn layer(&self, id: &Digest) -> PathBuf {
        let own = self.layers().join(id.hex());
        let mut others = self.additional_layers().map(|layers| layers.join(id.hex()));
        if own.is_dir() { own } else { others.find(|path| path.is_dir()).unwrap_or(own) }
    }

    /// The caches of unpacked layers of additional stores, which are never written.
    pub fn additional_layers(&self) -> impl Iterator<Item = PathBuf> {
        self.additional.iter().map(|store| store.path().join("layers"))
    }

    /// The images of this store, then those of additional ones.
    ///
    /// # Errors
    /// As [`ImageLayout::index`].
    pub fn images(&self) -> Result<Vec<NamedImage>> {
        let mut all = self.layout.images()?;
        all.extend(self.additional.iter().flat_map(|store| store.images().iter().cloned()));
        Ok(all)
    }

    /// As [`Store::find_image`], for an image that is to be changed.
    ///
    /// # Errors
    /// [`Error::ReadOnly`] for one that is in an additional store.
    pub fn find_own_image(&self, text: &str) -> Result<NamedImage> {
        let found = self.find_image(text)?;
        match found.additional {
            Some(store) => Err(Error::ReadOnly { image: text.to_owned(), store }),
            None => Ok(found),
        }
    }

    /// `ROOT/containers`.
    pub fn containers(&self) -> PathBuf {
        self.root().join("containers")
    }

    /// Held (shared) by whoever adds blobs before a name points to them, and (exclusively) by prune.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn lease(&self) -> Result<Lock> {
        Lock::shared(&self.lease_path())
    }

    /// Waits until nobody holds a lease.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn exclude_leases(&self) -> Result<Lock> {
        Lock::exclusive(&self.lease_path())
    }

    /// As [`Store::exclude_leases`], without waiting: none while somebody holds a lease.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn try_exclude_leases(&self) -> Result<Option<Lock>> {
        Lock::try_exclusive(&self.lease_path())
    }

    fn lease_path(&self) -> PathBuf {
        self.root().join(".lease.lock")
    }

    /// The directory that the container with this id has or would have.
    pub fn container_dir(&self, id: ContainerId) -> ContainerDir {
        ContainerDir::new(&self.containers(), id)
    }

    /// All containers, oldest name first; directories that are not whole are left out.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn all_containers(&self) -> Result<Vec<ContainerDir>> {
        let path = self.containers();
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&path).map_err(Error::io("read", &path))? {
            let name = entry.map_err(Error::io("read", &path))?.file_name();
            let Some(id) = name.to_str().and_then(|text| text.parse::<ContainerId>().ok()) else { continue };
            let dir = self.container_dir(id);
            if dir.is_whole()? {
                found.push(dir);
            }
        }
        found.sort_by(|a, b| a.id().cmp(b.id()));
        Ok(found)
    }

    /// The container with this id, unique id prefix, or name.
    ///
    /// # Errors
    /// [`Error::NoContainer`], [`Error::WhichContainer`], [`Error::Io`], [`Error::Damaged`], also when none has the name and
    /// not all records can be read.
    pub fn find_container(&self, text: &str) -> Result<ContainerDir> {
        let all = self.all_containers()?;
        if let Some(dir) = all.iter().find(|dir| dir.id().as_str() == text) {
            return Ok(dir.clone());
        }
        let mut unreadable = None;
        for dir in &all {
            match dir.container() {
                Ok(container) if container.name == text => return Ok(dir.clone()),
                // One that was removed meanwhile is not it.
                Err(error) if !error.is_not_found() => unreadable = Some(error),
                _ => {}
            }
        }
        let mut matching = all.iter().filter(|dir| !text.is_empty() && dir.id().as_str().starts_with(text));
        match (matching.next(), matching.next()) {
            (Some(only), None) => Ok(only.clone()),
            (Some(_), Some(_)) => Err(Error::WhichContainer(text.to_owned())),
            (None, _) => Err(unreadable.unwrap_or_else(|| Error::NoContainer(text.to_owned()))),
        }
    }

    /// The image that a person calls `text`: a name as in [`Reference::candidates`], `NAME@DIGEST`, or the digest of its
    /// manifest or configuration (an image id) or a unique prefix of at least three digits of one.
    ///
    /// # Errors
    /// [`Error::NoImage`], [`Error::Content`] for a text that is no name.
    pub fn find_image(&self, text: &str) -> Result<NamedImage> {
        let images = self.images()?;
        let by_name = |name: &str| images.iter().find(|image| image.name.as_deref() == Some(name));
        // A name that another tool put there may have any form.
        if let Some(image) = by_name(text) {
            return Ok(image.clone());
        }
        let none = || Error::NoImage { name: text.to_owned(), layout: self.root().to_owned() };
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        if hex.len() >= 3 && hex.bytes().all(|c| c.is_ascii_hexdigit()) {
            let mut found: Vec<&NamedImage> = Vec::new();
            for image in &images {
                let is_new = found.iter().all(|other| other.descriptor.digest != image.descriptor.digest);
                if is_new && self.has_id(image, hex) {
                    found.push(image);
                }
            }
            // An index of one image leads to that image's id too: the image itself is meant.
            let ids: BTreeSet<Option<Digest>> = found.iter().map(|image| self.id(image)).collect();
            let is_one = found.len() == 1 || (ids.len() == 1 && !ids.contains(&None));
            let image = found.iter().find(|image| !image.descriptor.media_type.is_index());
            if let (true, Some(image)) = (is_one, image.or(found.first())) {
                return Ok((*image).clone());
            }
        }
        let wrong = |source| Error::Content { doing: format!("find image \"{text}\""), source };
        for candidate in Reference::candidates(text).map_err(wrong)? {
            let found = match candidate.digest() {
                None => by_name(&candidate.to_string()),
                Some(digest) => images.iter().find(|image| image.descriptor.digest == *digest),
            };
            if let Some(image) = found {
                return Ok(image.clone());
            }
        }
        Err(none())
    }

    fn has_id(&self, image: &NamedImage, prefix: &str) -> bool {
        image.descriptor.digest.hex().starts_with(prefix) || self.id(image).is_some_and(|d| d.hex().starts_with(prefix))
    }

    /// The digest of its configuration for this machine's platform.
    fn id(&self, image: &NamedImage) -> Option<Digest> {
        Some(self.layout.image(&image.descriptor, &Platform::host()).ok()?.manifest.config.digest)
    }

    /// Reads the image that a person calls `text`, for this machine's platform.
    ///
    /// `sha256:` and a manifest's whole digest also mean one that no name leads to, as in the midst of a build.
    ///
    /// # Errors
    /// As [`Store::find_image`] and [`ImageLayout::image`].
    pub fn image(&self, text: &str) -> Result<(NamedImage, Image)> {
        loop {
            let named = match (self.find_image(text), text.parse()) {
                (Err(error), Ok(digest)) if error.is_not_found() => {
                    let descriptor = self.layout.manifest(&digest)?.ok_or(error)?;
                    let image = self.layout.image(&descriptor, &Platform::host())?;
                    return Ok((NamedImage { name: None, descriptor, additional: None }, image));
                }
                (found, _) => found?,
            };
            match self.layout.image(&named.descriptor, &Platform::host()) {
                // Somebody has removed it, or given its name to another, since its name was read.
                Err(_) if !self.has_entry(&named)? => {}
                other => return Ok((named, other?)),
            }
        }
    }

    /// Whether an image is still in the index, or an additional store, as it was when it was read.
    ///
    /// # Errors
    /// As [`ImageLayout::index`].
    pub fn has_entry(&self, image: &NamedImage) -> Result<bool> {
        Ok(image.additional.is_some() || self.layout.images()?.contains(image))
    }
}

/// The layout at `root`; where the file that marks it is torn or gone it is written again, as it says nothing else.
fn open_or_mend(root: &Path) -> Result<(ImageLayout, Option<PathBuf>)> {
    let is_store = || root.join("index.json").exists() || root.join("index.json.old").exists();
    let marker = root.join(LAYOUT_FILE);
    let is_json = |bytes: Vec<u8>| serde_json::from_slice::<serde_json::Value>(&bytes).is_ok();
    match ImageLayout::open(root) {
        Err(Error::NotALayout(path)) if is_store() && !std::fs::read(&marker).is_ok_and(is_json) => {
            Ok((ImageLayout::create(path)?, Some(marker)))
        }
        Err(Error::NotALayout(_)) => Ok((ImageLayout::open_or_create(root)?, None)),
        other => Ok((other?, None)),
    }
}

/// Makes a directory that only its owner can enter; refuses one that somebody else owns.
fn make_private(path: &Path) -> Result<()> {
    make_directory(path, 0o700)?;
    let metadata = std::fs::symlink_metadata(path).map_err(Error::io("look at", path))?;
    let owner = std::os::unix::fs::MetadataExt::uid(&metadata);
    let me = hoy_sys::rustix::process::geteuid().as_raw();
    if owner != me && me != 0 {
        let text = format!("it belongs to user {owner}, not to {me}");
        return Err(Error::io("use", path)(std::io::Error::new(std::io::ErrorKind::PermissionDenied, text)));
    }
    Ok(())
}
