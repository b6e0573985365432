//! What refers to a manifest (distribution-spec, "Listing Referrers").

use hoy_oci::{Descriptor, Digest, Index, MediaType};

use crate::error::Doing;
use crate::registry::pull_scope;
use crate::{Error, Registry, Result};

impl Registry {
    /// The manifests whose subject is `digest`, by the referrers API or, where the registry has none, by its tag schema.
    ///
    /// # Errors
    /// Those of the request.
    pub fn referrers(&self, repository: &str, digest: &Digest) -> Result<Vec<Descriptor>> {
        let find = || match self.listed_referrers(repository, digest)? {
            Some(found) => Ok(found),
            None => Ok(self.referrers_by_tag(repository, digest)?.map_or_else(Vec::new, |index| index.manifests)),
        };
        find().doing(|| format!("list referrers of \"{}/{repository}@{digest}\"", self.host()))
    }

    /// Lists `referrer` under the tag that stands in for the referrers API; others that are there stay.
    ///
    /// # Errors
    /// Those of the requests.
    pub fn list_referrer_by_tag(&self, repository: &str, subject: &Digest, referrer: &Descriptor) -> Result<()> {
        let mut index = self.referrers_by_tag(repository, subject)?.unwrap_or_else(|| Index::new(Vec::new()));
        if index.member(&referrer.digest).is_some() {
            return Ok(());
        }
        index.manifests.push(referrer.clone());
        let bytes = serde_json::to_vec(&index).map_err(|_| Error::Protocol("its list of referrers is no index"))?;
        self.put_manifest(repository, &tag(subject), &MediaType::from(MediaType::INDEX), &bytes).map(drop)
    }

    /// None when the registry has no such API; then it may answer anything else.
    fn listed_referrers(&self, repository: &str, digest: &Digest) -> Result<Option<Vec<Descriptor>>> {
        let scopes = [pull_scope(repository)];
        let path = format!("{repository}/referrers/{digest}");
        let Some(pages) = self.pages(&path, &scopes, Some(MediaType::INDEX), "list of referrers")? else {
            return Ok(None);
        };
        let members = |page: &Vec<u8>| Some(serde_json::from_slice::<Index>(page).ok()?.manifests);
        let found: Option<Vec<_>> = pages.iter().map(members).collect();
        Ok(Some(found.ok_or(Error::Protocol("its list of referrers is no index"))?.concat()))
    }

    fn referrers_by_tag(&self, repository: &str, digest: &Digest) -> Result<Option<Index>> {
        let fetched = match self.manifest(repository, &tag(digest)) {
            Err(error) if error.is_not_found() => return Ok(None),
            other => other?,
        };
        // The tag may hold something else, which is nobody's list.
        Ok(serde_json::from_slice(&fetched.bytes).ok().filter(|_| fetched.descriptor.media_type.is_index()))
    }
}

/// The tag that stands for the referrers of a manifest (distribution-spec, "Referrers Tag Schema").
fn tag(digest: &Digest) -> String {
    let hex: String = digest.hex().chars().take(64).collect();
    format!("{}-{hex}", digest.algorithm())
}
