//! `--blob-cache`: the blobs of an image in a directory beside the store, where another one finds them.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use hoy_layout::{ImageLayout, Store};
use hoy_oci::{Descriptor, Digest, Document};

use crate::{Error, Result};

/// Has `directory` hold the blobs of the image or index whose manifest has this digest, under the names that buildah has
/// for them. What is there already stays as it is.
///
/// Whoever takes a blob from there checks it, so that one that a crash tore does no harm.
///
/// # Errors
/// Those of reading the image and of writing there.
pub fn keep_blobs(store: &Store, manifest: &Digest, directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory).map_err(Error::io("create", directory))?;
    let lease = store.lease()?;
    let missing = || hoy_layout::Error::NoBlob { digest: *manifest, layout: store.root().to_owned() };
    let mut open = vec![store.layout().manifest(manifest)?.ok_or_else(missing)?];
    while let Some(descriptor) = open.pop() {
        keep(store.layout(), &descriptor, directory)?;
        match Document::parse(&descriptor.media_type, &store.layout().read_document(&descriptor)?)? {
            Document::Index(index) => open.extend(index.manifests),
            Document::Manifest(manifest) => {
                let blobs = manifest.layers.iter().chain([&manifest.config]);
                blobs.into_iter().try_for_each(|blob| keep(store.layout(), blob, directory))?;
            }
        }
    }
    drop(lease);
    Ok(())
}

fn keep(layout: &ImageLayout, blob: &Descriptor, directory: &Path) -> Result<()> {
    let end = if blob.media_type.is_image_config() { ".config" } else { "" };
    let path = directory.join(format!("{}{end}", blob.digest));
    if path.exists() {
        return Ok(());
    }
    let mut from = layout.open_blob(blob)?;
    // Its name is nobody's to foresee: the directory may be one where others write too.
    let to = tempfile::Builder::new().permissions(Permissions::from_mode(0o644)).tempfile_in(directory);
    let mut to = to.map_err(Error::io("create a file in", directory))?;
    std::io::copy(&mut from, &mut to).map_err(Error::io("write", to.path()))?;
    to.persist(&path).map(drop).map_err(|failed| Error::io("create", &path)(failed.error))
}
