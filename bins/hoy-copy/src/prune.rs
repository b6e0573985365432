//! `hoy-copy sync --prune`: what the destination has and the source has not.

use std::collections::{BTreeMap, BTreeSet};

use hoy_cli::{Error, Result};
use hoy_oci::{Digest, Reference};
use hoy_registry::{Registry, Retry};
use hoy_transport::ImageName;

use crate::access::Access;
use crate::args::Global;

/// A manifest that only spare tags have.
pub(crate) struct Spare {
    registry: Registry,
    repository: Reference,
    digest: Digest,
    tags: Vec<String>,
}

impl Spare {
    /// It and its tags, as a person reads them.
    pub(crate) fn name(&self) -> String {
        format!("docker://{}@{} ({})", self.repository, self.digest, self.tags.join(", "))
    }

    /// Deletes the manifest, and with it the tags.
    pub(crate) fn delete(&self) -> Result<()> {
        Ok(self.registry.delete_manifest(self.repository.repository(), &self.digest)?)
    }
}

/// What may be deleted in the repositories of `wanted`. A tag goes with its manifest, so all tags of one must be spare:
/// else nothing is deleted at all. Tags that are referrers' or signatures' own are left alone.
pub(crate) fn spare<'a>(
    global: &Global,
    wanted: impl Iterator<Item = &'a ImageName>,
    access: &Access,
    retry: Retry,
) -> Result<Vec<Spare>> {
    let mut repositories: BTreeMap<String, (Reference, BTreeSet<String>)> = BTreeMap::new();
    for name in wanted {
        let ImageName::Docker(reference) = name else { continue };
        let of = repositories.entry(reference.name()).or_insert_with(|| (reference.clone(), BTreeSet::new()));
        of.1.extend(reference.tag().map(str::to_owned));
    }
    let mut all = Vec::new();
    for (name, (reference, wanted)) in repositories {
        let registry = access.registry(global, &reference, retry)?;
        let digest = |tag: &str| Ok::<_, Error>(registry.manifest(reference.repository(), tag)?.descriptor.digest);
        let tags = registry.tags(reference.repository())?;
        let (kept, spare): (Vec<_>, Vec<_>) = tags.into_iter().partition(|tag| wanted.contains(tag) || is_derived(tag));
        if spare.is_empty() {
            continue;
        }
        let kept: BTreeMap<Digest, String> =
            kept.into_iter().map(|tag| Ok((digest(&tag)?, tag))).collect::<Result<_>>()?;
        let mut manifests: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
        for tag in spare {
            manifests.entry(digest(&tag)?).or_default().push(tag);
        }
        for (digest, tags) in manifests {
            if let Some(other) = kept.get(&digest) {
                let text = format!(
                    "delete \"{name}:{}\": the tag \"{other}\" has the same image, and would go too",
                    tags.join(", ")
                );
                return Err(Error::msg(text));
            }
            let repository = Reference::parse(&name)?;
            all.push(Spare { registry: registry.clone(), repository, digest, tags });
        }
    }
    Ok(all)
}

/// Whether a tag belongs to a digest, as the fall-back for referrers and cosign's signatures do.
fn is_derived(tag: &str) -> bool {
    let hex = tag.strip_prefix("sha256-").map(|rest| rest.split('.').next().unwrap_or_default());
    hex.is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|c| c.is_ascii_hexdigit()))
}
