//! Looking for damage, and undoing what can be undone.

use std::collections::BTreeSet;
use std::io::Read;

use hoy_layout::{ImageLayout, Store};
use hoy_oci::{Descriptor, Digest, Document, Index, MediaType, Platform, VerifyingReader};

use crate::reach::Reachable;
use crate::{Cache, Error, Result, container};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// What, with its name.
    pub what: String,
    /// What was done about it.
    pub repair: Option<String>,
}

/// Reads everything that is truth and compares it with its digests. With `repair`: brings a damaged index back, and
/// removes damaged blobs so that the next pull fetches them.
///
/// # Errors
/// [`Error::Io`] when the store cannot be read at all.
pub fn check(store: &Store, xattrs: hoy_layer::OverlayXattrs, repair: bool) -> Result<Vec<Damage>> {
    let _lease = store.lease()?;
    let mut damages = Vec::new();
    let index = match store.layout().index() {
        Ok(index) => index,
        Err(error) => {
            let what = with_causes(&error);
            if !repair {
                let hint = "\"hoy-storage check --repair\" brings the last good one back";
                damages.push(Damage { what: format!("{what}: {hint}"), repair: None });
                return blobs(store, &[], false, damages);
            }
            let (index, how) = restore_index(store.layout())?;
            damages.push(Damage { what, repair: Some(how) });
            index
        }
    };
    let damages = images(store, &index, damages);
    let damages = containers(store, xattrs, damages)?;
    blobs(store, &index.manifests, repair, damages)
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// The old index if that can be read; else an index of every manifest that is there, without names.
fn restore_index(layout: &ImageLayout) -> Result<(Index, String)> {
    let path = layout.path().join("index.json");
    let old = std::fs::read(layout.path().join("index.json.old")).ok();
    let (index, how) = match old.and_then(|bytes| serde_json::from_slice::<Index>(&bytes).ok()) {
        Some(index) => (index, "brought back from index.json.old"),
        None => (index_of_blobs(layout)?, "made anew from the manifests that are there; their names are lost"),
    };
    let bytes = serde_json::to_vec(&index).map_err(|e| Error::io("write", &path)(std::io::Error::other(e)))?;
    hoy_layout::write_file(&path, &bytes)?;
    Ok((index, how.to_owned()))
}

fn index_of_blobs(layout: &ImageLayout) -> Result<Index> {
    let mut found: Vec<Descriptor> = Vec::new();
    let mut members = BTreeSet::new();
    for digest in all_blobs(layout)? {
        let size = layout.blob_size(&digest)?.unwrap_or_default();
        let mut descriptor = Descriptor::new(MediaType::from(MediaType::MANIFEST), digest, size);
        let Ok(bytes) = layout.read_document(&descriptor) else { continue };
        let Ok(media_type) = Document::guess_media_type(&bytes) else { continue };
        match Document::parse(&media_type, &bytes) {
            Ok(Document::Index(index)) => members.extend(index.manifests.iter().map(|member| member.digest)),
            Ok(Document::Manifest(_)) => {}
            Err(_) => continue,
        }
        descriptor.media_type = media_type;
        found.push(descriptor);
    }
    found.retain(|descriptor| !members.contains(&descriptor.digest));
    Ok(Index::new(found))
}

fn all_blobs(layout: &ImageLayout) -> Result<Vec<Digest>> {
    let path = layout.path().join("blobs/sha256");
    let mut all = Vec::new();
    for entry in std::fs::read_dir(&path).map_err(Error::io("read", &path))? {
        let name = entry.map_err(Error::io("read", &path))?.file_name();
        all.extend(name.to_str().and_then(|name| Digest::from_hex(name).ok()));
    }
    all.sort();
    Ok(all)
}

/// Each name leads to a whole image. Of an index only this machine's member must be there.
fn images(store: &Store, index: &Index, mut damages: Vec<Damage>) -> Vec<Damage> {
    for entry in &index.manifests {
        let name = entry.ref_name().map_or_else(|| entry.digest.to_string(), str::to_owned);
        let mut add = |text: String| damages.push(Damage { what: format!("image \"{name}\": {text}"), repair: None });
        match store.layout().image(entry, &Platform::host()) {
            // Another machine's image, or something that is no image.
            Err(hoy_layout::Error::NoPlatform { .. }) => {}
            Err(error) => add(with_causes(&error)),
            Ok(image) => {
                for layer in &image.manifest.layers {
                    match store.layout().blob_size(&layer.digest) {
                        Ok(Some(size)) if size == layer.size => {}
                        Ok(Some(size)) => {
                            add(format!("layer {} has {size} bytes, wanted {}", layer.digest, layer.size))
                        }
                        _ => add(format!("layer {} is missing", layer.digest)),
                    }
                }
            }
        }
    }
    damages
}

fn containers(store: &Store, xattrs: hoy_layer::OverlayXattrs, mut damages: Vec<Damage>) -> Result<Vec<Damage>> {
    let cache = Cache::new(store, xattrs)?;
    for dir in store.all_containers()? {
        let mut add = |text: String| {
            damages.push(Damage { what: format!("container {}: {text}", dir.id().short()), repair: None });
        };
        match dir.container() {
            Err(error) => add(with_causes(&error)),
            Ok(record) => {
                let lost = record.layers.iter().find(|name| cache.usable(name).is_none());
                if let Some(lost) = lost
                    && let Err(error) = container::image_of(store, &record)
                {
                    add(format!("layer {lost} is gone, and with it the image: {}", with_causes(&error)));
                }
            }
        }
        if !dir.upper().is_dir() {
            add("its upper directory is missing".to_owned());
        }
    }
    Ok(damages)
}

/// Every blob has the digest that is its name.
fn blobs(store: &Store, roots: &[Descriptor], repair: bool, mut damages: Vec<Damage>) -> Result<Vec<Damage>> {
    let layout = store.layout();
    for digest in all_blobs(layout)? {
        let size = layout.blob_size(&digest)?.unwrap_or_default();
        let descriptor = Descriptor::new(MediaType::from("application/octet-stream"), digest, size);
        let Err(error) =
            layout.open_blob(&descriptor).map_err(Error::from).and_then(|blob| read_all(layout, &digest, blob))
        else {
            continue;
        };
        let mut own = Reachable::default();
        let users = roots.iter().filter(|root| {
            own = Reachable::default();
            own.follow(store, [*root]).unwrap_or_default();
            own.blobs.contains(&digest)
        });
        let names: Vec<String> = users.filter_map(|root| root.ref_name().map(str::to_owned)).collect();
        let of = if names.is_empty() { String::new() } else { format!(" of {}", names.join(", ")) };
        let repair = match repair {
            true => {
                let path = layout.blob_path(&digest);
                std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
                Some("removed; pull the image again".to_owned())
            }
            false => None,
        };
        damages.push(Damage { what: format!("blob {digest}{of}: {}", with_causes(&error)), repair });
    }
    Ok(damages)
}

fn read_all(layout: &ImageLayout, digest: &Digest, mut blob: VerifyingReader<std::fs::File>) -> Result<()> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        match blob.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(e) => return Err(Error::io("read", &layout.blob_path(digest))(e)),
        }
    }
}
