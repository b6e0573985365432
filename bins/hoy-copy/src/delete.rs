//! `hoy-copy delete`.

use hoy_cli::{Error, Result};
use hoy_layout::ImageLayout;
use hoy_oci::Reference;
use hoy_registry::Registry;
use hoy_transport::{ImageName, Pick};

use crate::access::Access;
use crate::args::{DeleteArgs, Global};
use crate::endpoint;

/// Deletes an image, or its name where others share its content.
pub(crate) fn run(global: &Global, args: DeleteArgs) -> Result<()> {
    let name: ImageName = args.image.parse().map_err(|e| Error::from(e).with_code(2))?;
    // What such a directory shares stays there, as all blobs of a layout do.
    let place = args.place.add_to(Access::default());
    let wrong = [
        ("--shared-blob-dir is for oci:", place.shared_blob_dir.is_some() && !matches!(name, ImageName::Oci { .. })),
        (
            "--daemon-host is for docker-daemon:",
            place.daemon_host.is_some() && !matches!(name, ImageName::DockerDaemon(_)),
        ),
    ];
    if let Some((text, _)) = wrong.into_iter().find(|(_, is_wrong)| *is_wrong) {
        return Err(Error::msg(text).with_code(2));
    }
    match &name {
        ImageName::Docker(reference) => {
            delete(&args.access.access(None).registry(global, reference, args.retry.into())?, reference)?;
        }
        ImageName::Ssh { host, reference } => delete(&Access::behind_ssh(global, host), reference)?,
        ImageName::Oci { directory, pick } => {
            let layout = ImageLayout::open(directory)?;
            match pick {
                Pick::Named(reference) => layout.remove_name(reference).map(drop)?,
                Pick::Only => layout.remove_digest(&layout.resolve(None)?.digest).map(drop)?,
                Pick::At(at) => layout.remove_digest(&layout.entry(*at)?.digest).map(drop)?,
            }
        }
        ImageName::Store { name: text, root, runroot } => {
            let store = endpoint::store(global, root.as_deref(), runroot.as_deref())?;
            let image = store.find_own_image(text)?;
            match &image.name {
                Some(name) => store.layout().remove_name(name).map(drop)?,
                None => store.layout().remove_digest(&image.descriptor.digest).map(drop)?,
            }
        }
        other => return Err(Error::msg(format!("{other} cannot be deleted here")).with_code(2)),
    }
    Ok(())
}

/// Deletes a manifest at a registry.
fn delete(registry: &Registry, reference: &Reference) -> Result<()> {
    let repository = reference.repository();
    let digest = match (reference.digest(), reference.tag()) {
        (Some(digest), _) => *digest,
        (None, tag) => registry.manifest(repository, tag.unwrap_or("latest"))?.descriptor.digest,
    };
    Ok(registry.delete_manifest(repository, &digest)?)
}
