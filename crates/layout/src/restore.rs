//! An index made again from what is left of it: the one before the last change, and the blobs.

use std::collections::HashSet;

use hoy_oci::{Descriptor, Digest, Document, Index, MediaType};

use crate::image_layout::{INDEX_BACKUP, read_index};
use crate::{Error, ImageLayout, Result};

impl ImageLayout {
    /// Every blob of the layout itself, sorted.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn blobs(&self) -> Result<Vec<Digest>> {
        let path = self.path().join("blobs/sha256");
        let mut all = Vec::new();
        for entry in std::fs::read_dir(&path).map_err(Error::io("read", &path))? {
            let name = entry.map_err(Error::io("read", &path))?.file_name();
            all.extend(name.to_str().and_then(|name| Digest::from_hex(name).ok()));
        }
        all.sort();
        Ok(all)
    }

    /// The index as it was before its last change, and, without names, every other manifest that is there and whole;
    /// and whether the names could be had.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn restored_index(&self) -> Result<(Index, bool)> {
        let old = match read_index(self.path().join(INDEX_BACKUP)) {
            Err(error) if error.is_damage() => None,
            other => Some(other?),
        };
        let has_names = old.is_some();
        let mut index = old.unwrap_or_else(|| Index::new(Vec::new()));
        let mut members: HashSet<Digest> = index.manifests.iter().map(|entry| entry.digest).collect();
        let mut found = Vec::new();
        for digest in self.blobs()? {
            let Some((descriptor, document)) = self.as_document(digest)? else { continue };
            if let Document::Index(index) = document {
                members.extend(index.manifests.iter().map(|member| member.digest));
            }
            found.push(descriptor);
        }
        found.retain(|descriptor| !members.contains(&descriptor.digest));
        index.manifests.extend(found);
        Ok((index, has_names))
    }

    /// A blob that is a manifest or an index, and whole.
    fn as_document(&self, digest: Digest) -> Result<Option<(Descriptor, Document)>> {
        let size = self.blob_size(&digest)?.unwrap_or_default();
        let mut descriptor = Descriptor::new(MediaType::from(MediaType::MANIFEST), digest, size);
        let Ok(bytes) = self.read_document(&descriptor) else { return Ok(None) };
        let Ok(media_type) = Document::guess_media_type(&bytes) else { return Ok(None) };
        let document = Document::parse(&media_type, &bytes).ok();
        descriptor.media_type = media_type;
        Ok(document.map(|document| (descriptor, document)))
    }

    /// Writes the index anew from what is left when it is damaged; whether it was, and whether names were kept.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn restore_index(&self) -> Result<Option<bool>> {
        let lock = self.lock_index()?;
        match self.index() {
            Err(error) if error.is_damage() => {
                let (index, has_names) = self.restored_index()?;
                self.write_index(&index)?;
                drop(lock);
                Ok(Some(has_names))
            }
            other => other.map(|_| None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_index_hides_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let strict = ImageLayout::open_or_create(dir.path().join("layout")).unwrap();
        let layout = strict.clone().telling(|_| {});
        let put = |text: &str| {
            let config = layout.put(MediaType::CONFIG, text.as_bytes()).unwrap();
            let manifest = hoy_oci::Manifest::new(MediaType::MANIFEST, config, Vec::new());
            layout.put(MediaType::MANIFEST, &serde_json::to_vec(&manifest).unwrap()).unwrap()
        };
        let (one, two) = (put("{}"), put("{ }"));
        layout.set_name("one", &one).unwrap();
        layout.set_name("two", &two).unwrap();
        for torn in [Some("{\"schemaVersion\":2,"), Some(""), None] {
            let file = dir.path().join("layout/index.json");
            match torn {
                Some(text) => std::fs::write(&file, text).unwrap(),
                None => std::fs::remove_file(&file).unwrap(),
            }
            assert!(strict.images().unwrap_err().is_damage());
            let all = layout.images().unwrap();
            assert_eq!(all.len(), 2, "{all:?}");
            assert_eq!(layout.resolve(Some("one")).unwrap().digest, one.digest);
            assert!(all.iter().any(|image| image.name.is_none() && image.descriptor.digest == two.digest));
        }
        // Whoever changes it mends it, and the last good one stays where it is.
        layout.set_name("two", &two).unwrap();
        assert_eq!(strict.images().unwrap().len(), 2);
        assert_eq!(read_index(dir.path().join("layout").join(INDEX_BACKUP)).unwrap().manifests.len(), 1);
        assert_eq!(layout.restore_index().unwrap(), None);
    }
}
