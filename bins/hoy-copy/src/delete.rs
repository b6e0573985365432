//! `hoy-copy delete`.

use hoy_cli::{Error, Result};
use hoy_layout::ImageLayout;
use hoy_transport::ImageName;

use crate::args::{DeleteArgs, Global};
use crate::endpoint;

/// Deletes an image, or its name where others share its content.
pub(crate) fn run(global: &Global, args: DeleteArgs) -> Result<()> {
    let name: ImageName = args.image.parse().map_err(|e| Error::from(e).with_code(2))?;
    match &name {
        ImageName::Docker(reference) => {
            let (host, repository) = (reference.host(), reference.repository());
            let access = args.access.access(None);
            let registry = access.registry(host, Some(repository), args.retry.retry_times, global.debug)?;
            let digest = match (reference.digest(), reference.tag()) {
                (Some(digest), _) => *digest,
                (None, tag) => registry.manifest(repository, tag.unwrap_or("latest"))?.descriptor.digest,
            };
            registry.delete_manifest(repository, &digest)?;
        }
        ImageName::Oci { directory, reference } => {
            let layout = ImageLayout::open(directory)?;
            match reference {
                Some(reference) => layout.remove_name(reference).map(drop)?,
                None => {
                    let only = layout.resolve(None)?;
                    layout.remove_digest(&only.digest)?;
                }
            }
        }
        ImageName::Store(text) => {
            let store = endpoint::store(global)?;
            let image = store.find_own_image(text)?;
            match &image.name {
                Some(name) => store.layout().remove_name(name).map(drop)?,
                None => store.layout().remove_digest(&image.descriptor.digest).map(drop)?,
            }
        }
        other => return Err(Error::msg(format!("{other} cannot be deleted; remove the file")).with_code(2)),
    }
    Ok(())
}
