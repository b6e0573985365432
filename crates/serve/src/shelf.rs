//! The layout as repositories with tags.
//!
//! A layout's index has one list of names. `REPOSITORY:TAG` is the tag of that repository, and a name without a tag is
//! the tag `latest`. In the store a repository without a host is the one below `localhost/`; where there is none and
//! something is read, Docker's of that name, as in all commands on the store.

use std::collections::BTreeSet;
use std::io::Write;

use hoy_layout::{ImageLayout, Lock, NamedImage, Store};
use hoy_oci::{Descriptor, Digest, Document, Index, MediaType, REF_NAME, Reference};

use crate::fault::Fault;
use crate::message::Status;

/// How deep indexes may list indexes.
const MAX_DEPTH: u32 = 4;

/// What is served.
#[derive(Debug, Clone)]
pub struct Shelf {
    layout: ImageLayout,
    store: Option<Store>,
}

/// A manifest or index, and whether it may be changed here.
pub(crate) struct Found {
    pub(crate) descriptor: Descriptor,
    pub(crate) name: Option<String>,
}

impl Shelf {
    /// A layout.
    pub fn layout(layout: ImageLayout) -> Self {
        Self { layout, store: None }
    }

    /// The store.
    pub fn store(store: Store) -> Self {
        Self { layout: store.layout().clone(), store: Some(store) }
    }

    pub(crate) fn files(&self) -> &ImageLayout {
        &self.layout
    }

    pub(crate) fn is_store(&self) -> bool {
        self.store.is_some()
    }

    /// Stores a manifest or index that has this digest.
    pub(crate) fn put(&self, media_type: MediaType, bytes: &[u8], digest: Digest) -> Result<Descriptor, Fault> {
        if digest.is_sha256() {
            return Ok(self.layout.put(media_type.as_str(), bytes)?);
        }
        let mut writer = self.layout.blob_writer()?;
        let cannot = |error| Fault::new(Status::INTERNAL, "UNKNOWN", format!("this registry cannot write it: {error}"));
        writer.write_all(bytes).map_err(cannot)?;
        writer.finish_with(&digest)?;
        Ok(Descriptor { digest, ..Descriptor::of(media_type, bytes) })
    }

    /// Held by whoever adds blobs before a name points to them.
    pub(crate) fn lease(&self) -> Result<Lock, Fault> {
        let path = self.layout.path().join(".lease.lock");
        Ok(self.store.as_ref().map_or_else(|| Lock::shared(&path), Store::lease)?)
    }

    fn images(&self) -> Result<Vec<NamedImage>, Fault> {
        Ok(self.store.as_ref().map_or_else(|| self.layout.images(), Store::images)?)
    }

    /// The repositories on disk that a client's `repository` may be, the one that is written first.
    fn spellings(&self, repository: &str) -> Vec<String> {
        if self.store.is_none() {
            return vec![repository.to_owned()];
        }
        let names = Reference::candidates(repository).unwrap_or_default();
        names.iter().map(Reference::name).collect()
    }

    /// The name that a tag has in the index.
    pub(crate) fn name(&self, repository: &str, tag: &str) -> Result<String, Fault> {
        let repository = self.spellings(repository).into_iter().next().unwrap_or_default();
        let name = format!("{repository}:{tag}");
        match Reference::parse_local(&name) {
            Ok(_) => Ok(name),
            Err(error) => Err(Fault::new(Status::BAD_REQUEST, "MANIFEST_INVALID", error.to_string())),
        }
    }

    /// All repositories, as a client may call them, sorted.
    pub(crate) fn repositories(&self) -> Result<BTreeSet<String>, Fault> {
        let names = self.images()?.into_iter().filter_map(|image| Some(split(&image.name?)?.0.to_owned()));
        let short = |name: String| match name.strip_prefix("localhost/") {
            Some(rest) if self.spellings(rest).first() == Some(&name) => rest.to_owned(),
            _ => name,
        };
        Ok(names.map(short).collect())
    }

    /// The tags of a repository, sorted; none when there is no such repository.
    pub(crate) fn tags(&self, repository: &str) -> Result<Option<BTreeSet<String>>, Fault> {
        let images = self.images()?;
        for spelling in self.spellings(repository) {
            let names = images.iter().filter_map(|image| split(image.name.as_deref()?));
            let tags: BTreeSet<_> = names.filter(|(r, _)| *r == spelling).map(|(_, tag)| tag.to_owned()).collect();
            if !tags.is_empty() {
                return Ok(Some(tags));
            }
        }
        Ok(None)
    }

    /// What a tag points to.
    pub(crate) fn tagged(&self, repository: &str, tag: &str) -> Result<Option<Found>, Fault> {
        let images = self.images()?;
        for spelling in self.spellings(repository) {
            let full = format!("{spelling}:{tag}");
            let named = |wanted: &str| images.iter().find(|image| image.name.as_deref() == Some(wanted));
            let found = named(&full).or_else(|| named(&spelling).filter(|_| tag == "latest"));
            if let Some(image) = found {
                return Ok(Some(Found { descriptor: image.descriptor.clone(), name: image.name.clone() }));
            }
        }
        Ok(None)
    }

    /// The manifest or index of this digest, if one of the repository's names, or an entry without a name, leads to it.
    pub(crate) fn pinned(&self, repository: &str, digest: &Digest) -> Result<Option<Descriptor>, Fault> {
        let roots = self.roots(repository)?;
        if let Some(found) = roots.iter().find(|descriptor| descriptor.digest == *digest) {
            return Ok(Some(found.clone()));
        }
        Ok(roots.iter().find_map(|root| self.member(root, digest, 0)))
    }

    /// The entries of the index that belong to the repository, and those without a name, which belong to all.
    pub(crate) fn roots(&self, repository: &str) -> Result<Vec<Descriptor>, Fault> {
        let spellings = self.spellings(repository);
        let is_here = |image: &NamedImage| match image.name.as_deref() {
            Some(name) => split(name).is_some_and(|(own, _)| spellings.iter().any(|spelling| spelling == own)),
            None => true,
        };
        Ok(self.images()?.into_iter().filter(is_here).map(|image| image.descriptor).collect())
    }

    /// What an index, or one that it lists, says of a digest.
    fn member(&self, of: &Descriptor, digest: &Digest, depth: u32) -> Option<Descriptor> {
        let members = self.members(of)?.manifests;
        let found = members.iter().find(|member| member.digest == *digest).cloned();
        found.or_else(|| members.iter().filter(|_| depth < MAX_DEPTH).find_map(|m| self.member(m, digest, depth + 1)))
    }

    /// The index that a descriptor points to, if it is one and can be read.
    fn members(&self, descriptor: &Descriptor) -> Option<Index> {
        if !descriptor.media_type.is_index() {
            return None;
        }
        let bytes = self.layout.read_document(descriptor).ok()?;
        match Document::parse(&descriptor.media_type, &bytes) {
            Ok(Document::Index(index)) => Some(index),
            _ => None,
        }
    }

    /// Has a tag point to a manifest or index that is there, or the index list it without a name.
    pub(crate) fn list(&self, descriptor: &Descriptor, name: Option<&str>) -> Result<(), Fault> {
        match name {
            Some(name) => self.layout.set_name(name, descriptor)?,
            None => self.layout.edit_index::<_, hoy_layout::Error>(|index| {
                if index.member(&descriptor.digest).is_none() {
                    index.manifests.push(descriptor.clone());
                }
                Ok(())
            })?,
        }
        // Members came before their index and were listed so that they are not lost; now that leads to them. What refers
        // to an image is found by its own entry alone.
        let Some(members) = self.members(descriptor) else { return Ok(()) };
        let is_spare = |entry: &Descriptor| {
            entry.ref_name().is_none()
                && members.member(&entry.digest).is_some()
                && self.layout.read_document(entry).is_ok_and(|bytes| subject(&bytes).is_none())
        };
        Ok(self.layout.edit_index::<_, hoy_layout::Error>(|index| {
            index.manifests.retain(|entry| !is_spare(entry));
            Ok(())
        })?)
    }

    /// Takes a name away and leaves what it pointed to in the index, as the digest may still be asked for.
    pub(crate) fn untag(&self, name: &str) -> Result<(), Fault> {
        Ok(self.layout.edit_index::<_, hoy_layout::Error>(|index| {
            let Some(at) = index.manifests.iter().position(|entry| entry.ref_name() == Some(name)) else {
                return Ok(());
            };
            let mut old = index.manifests.remove(at);
            old.annotations.remove(REF_NAME);
            if index.member(&old.digest).is_none() {
                index.manifests.push(old);
            }
            Ok(())
        })?)
    }

    /// Takes all of the repository's entries of this digest, and one without a name, out of the index; false when
    /// there is none.
    pub(crate) fn forget(&self, repository: &str, digest: &Digest) -> Result<bool, Fault> {
        let spellings = self.spellings(repository);
        Ok(self.layout.edit_index::<_, hoy_layout::Error>(|index| {
            let before = index.manifests.len();
            index.manifests.retain(|entry| {
                let is_here = entry
                    .ref_name()
                    .is_none_or(|name| split(name).is_some_and(|(own, _)| spellings.iter().any(|s| s == own)));
                entry.digest != *digest || !is_here
            });
            Ok(index.manifests.len() < before)
        })?)
    }

    /// Whether a manifest or index of the layout has the blob; so it is said to be where one cannot be read.
    pub(crate) fn is_used(&self, digest: &Digest) -> Result<bool, Fault> {
        let mut left: Vec<(Descriptor, u32)> = self.images()?.into_iter().map(|i| (i.descriptor, 0)).collect();
        while let Some((descriptor, depth)) = left.pop() {
            if descriptor.digest == *digest {
                return Ok(true);
            }
            if self.layout.blob_size(&descriptor.digest)?.is_none() {
                continue;
            }
            let document = self.layout.read_document(&descriptor).ok();
            match document.and_then(|bytes| Document::parse(&descriptor.media_type, &bytes).ok()) {
                Some(Document::Index(index)) if depth < MAX_DEPTH => {
                    left.extend(index.manifests.into_iter().map(|member| (member, depth + 1)));
                }
                Some(Document::Manifest(manifest)) => {
                    if manifest.config.digest == *digest || manifest.layers.iter().any(|l| l.digest == *digest) {
                        return Ok(true);
                    }
                }
                _ => return Ok(true),
            }
        }
        Ok(false)
    }
}

/// The subject of a manifest or index, if it has one.
pub(crate) fn subject(bytes: &[u8]) -> Option<Digest> {
    let document: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    document.get("subject")?.get("digest")?.as_str()?.parse().ok()
}

/// Repository and tag of a name in an index; none for a name that is neither.
fn split(name: &str) -> Option<(&str, &str)> {
    let parsed = Reference::parse_local(name).ok().filter(|parsed| parsed.digest().is_none())?;
    let slash = name.rfind('/').map_or(0, |at| at + 1);
    match name.get(slash..)?.find(':') {
        Some(colon) if parsed.tag().is_some() => Some((name.get(..slash + colon)?, name.get(slash + colon + 1..)?)),
        _ => Some((name, "latest")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_repositories_with_tags() {
        for (name, want) in [
            ("busybox:1.36", Some(("busybox", "1.36"))),
            ("busybox", Some(("busybox", "latest"))),
            ("docker.io/library/debian:12", Some(("docker.io/library/debian", "12"))),
            ("127.0.0.1:5000/a/b", Some(("127.0.0.1:5000/a/b", "latest"))),
            ("v1.0", Some(("v1.0", "latest"))),
            ("Any Thing", None),
            ("a@b", None),
        ] {
            assert_eq!(split(name), want, "{name}");
        }
    }

    #[test]
    fn an_index_takes_its_members_in() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::layout(ImageLayout::open_or_create(dir.path().join("l")).unwrap());
        let config = shelf.files().put("application/vnd.oci.image.config.v1+json", b"{}").unwrap();
        let manifest = serde_json::json!({"schemaVersion": 2, "config": config, "layers": []}).to_string();
        let manifest = shelf.files().put(MediaType::MANIFEST, manifest.as_bytes()).unwrap();
        shelf.list(&manifest, None).unwrap();
        assert!(shelf.pinned("a", &manifest.digest).unwrap().is_some());
        let index = serde_json::json!({"schemaVersion": 2, "manifests": [manifest]}).to_string();
        let index = shelf.files().put(MediaType::INDEX, index.as_bytes()).unwrap();
        shelf.list(&index, Some("a:1")).unwrap();
        assert_eq!(shelf.files().images().unwrap().len(), 1);
        assert!(shelf.pinned("a", &manifest.digest).unwrap().is_some());
        assert!(shelf.pinned("b", &manifest.digest).unwrap().is_none(), "another repository's");
        assert!(shelf.is_used(&config.digest).unwrap() && !shelf.is_used(&Digest::of(b"x")).unwrap());
        shelf.untag("a:1").unwrap();
        assert_eq!(shelf.tags("a").unwrap(), None);
        assert!(shelf.pinned("a", &index.digest).unwrap().is_some());
        assert!(shelf.forget("a", &index.digest).unwrap() && !shelf.forget("a", &index.digest).unwrap());
        assert!(shelf.pinned("a", &index.digest).unwrap().is_none());
    }
}
