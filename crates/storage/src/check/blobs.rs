//! Blobs: every one has the digest that is its name, and every one that is needed is there.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use hoy_oci::{Descriptor, Digest, Document, Hasher, Platform};

use super::users::Users;
use super::{Check, Damage, DamageKind, with_causes};
use crate::{Error, Result};

impl Check<'_> {
    /// Reads every blob.
    pub(super) fn blobs(&mut self, users: &Users) -> Result<()> {
        let layout = self.store.layout();
        for digest in layout.blobs()? {
            let path = layout.blob_path(&digest);
            let problem = match hash(&path) {
                Ok(Some(actual)) if actual == digest => continue,
                // Removed by somebody meanwhile.
                Ok(None) => continue,
                Ok(Some(actual)) => format!("its digest is {actual}"),
                Err(error) => with_causes(&error),
            };
            let mut damage = Damage::new(DamageKind::Torn, &path, problem);
            (damage.images, damage.containers) = users.of_blob(&digest);
            damage.remedy = Some(fetch(&digest, &damage.images));
            let names = damage.images.clone();
            self.add(damage, || {
                std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
                Ok(match (layout.blob_file(&digest) != path, names.is_empty()) {
                    (true, _) => Ok("removed: an additional store has it".to_owned()),
                    (_, true) => Ok("removed: no image needs it".to_owned()),
                    _ => Err(format!("removed: {}", fetch(&digest, &names))),
                })
            });
        }
        Ok(())
    }

    /// Looks whether every name leads to an image with all its parts.
    pub(super) fn images(&mut self, users: &Users) {
        let mut missing: BTreeSet<Digest> = BTreeSet::new();
        for (name, entry, reach) in &users.images {
            let found = self.store.layout().image(entry, &Platform::host());
            for document in reach.blobs.iter().copied().chain([entry.digest]) {
                missing.extend(self.parts_missing(&document, entry));
            }
            match found {
                Ok(_) | Err(hoy_layout::Error::NoPlatform { .. }) => {}
                Err(hoy_layout::Error::NoBlob { digest, .. }) => drop(missing.insert(digest)),
                // What it is made of is looked for above; it has no configuration of an image.
                Err(_) if self.is_artifact(entry) => {}
                Err(error) => {
                    let is_known = self.found.iter().any(|damage| damage.images.contains(name));
                    if !is_known {
                        let path = self.store.layout().blob_file(&entry.digest);
                        let mut damage = Damage::new(DamageKind::Torn, &path, with_causes(&error));
                        damage.images = vec![name.clone()];
                        damage.remedy = Some(fetch(&entry.digest, &damage.images));
                        self.found.push(damage);
                    }
                }
            }
        }
        for digest in missing {
            let path = self.store.layout().blob_path(&digest);
            // What was removed because it was torn is told of already.
            if self.found.iter().any(|damage| damage.path == path) {
                continue;
            }
            let mut damage = Damage::new(DamageKind::Missing, &path, "blob is missing");
            (damage.images, damage.containers) = users.of_blob(&digest);
            damage.remedy = Some(fetch(&digest, &damage.images));
            self.found.push(damage);
        }
    }

    /// Whether a name leads to something whole that is no image, as lists and statements that refer to one are.
    fn is_artifact(&self, entry: &Descriptor) -> bool {
        let Ok(bytes) = self.store.layout().read_document(entry) else { return false };
        let document = Document::parse(&entry.media_type, &bytes);
        matches!(document, Ok(Document::Manifest(manifest)) if !manifest.config.media_type.is_image_config())
    }

    /// The parts of a manifest that are not there. A manifest that is itself not there has none: an index may be here with
    /// only some of its members.
    fn parts_missing(&self, digest: &Digest, entry: &Descriptor) -> Vec<Digest> {
        let layout = self.store.layout();
        let is_there = |digest: &Digest| layout.blob_size(digest).is_ok_and(|size| size.is_some());
        if *digest == entry.digest && !is_there(digest) {
            return vec![*digest];
        }
        let path = layout.blob_file(digest);
        let is_small = std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() <= hoy_oci::MAX_DOCUMENT_BYTES);
        let bytes = if is_small { std::fs::read(&path).unwrap_or_default() } else { Vec::new() };
        let Ok(media_type) = Document::guess_media_type(&bytes) else { return Vec::new() };
        let Ok(Document::Manifest(manifest)) = Document::parse(&media_type, &bytes) else { return Vec::new() };
        let parts = [manifest.config].into_iter().chain(manifest.layers).map(|part| part.digest);
        parts.filter(|part| !is_there(part)).collect()
    }
}

fn fetch(digest: &Digest, images: &[String]) -> String {
    match images.first() {
        Some(name) => format!("fetch blob {digest} again: pull \"{name}\""),
        None => "prune removes it".to_owned(),
    }
}

/// The digest of a file's bytes; none when it is not there.
fn hash(path: &Path) -> Result<Option<Digest>> {
    let mut file = match File::open(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(Error::io("open", path))?,
    };
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(Some(hasher.finish())),
            Ok(count) => hasher.update(buffer.get(..count).unwrap_or_default()),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::io("read", path)(e)),
        }
    }
}
