//! What refers to a manifest (distribution-spec, "Listing Referrers").

use hoy_oci::{Descriptor, Digest, Index, MAX_DOCUMENT_BYTES, MediaType};
use ureq::http::{Method, Uri, header};

use crate::error::Doing;
use crate::http::{Call, read_limited};
use crate::registry::{MAX_PAGES, next_link, pull_scope};
use crate::url::resolve;
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

    /// None when the registry has no such API.
    fn listed_referrers(&self, repository: &str, digest: &Digest) -> Result<Option<Vec<Descriptor>>> {
        let scopes = [pull_scope(repository)];
        let mut uri: Uri = self.uri(&format!("{repository}/referrers/{digest}"))?;
        let mut found = Vec::new();
        for _ in 0..MAX_PAGES {
            let call = Call::new(Method::GET, uri.clone(), &scopes).with_header(header::ACCEPT, MediaType::INDEX);
            let response = self.http().send(self.origin()?, call)?;
            let media_type = response.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
            let is_index = media_type.is_some_and(|text| text.starts_with(MediaType::INDEX));
            // A registry without the API may answer anything else.
            if !response.status().is_success() || !is_index {
                return Ok(None);
            }
            let link = response.headers().get(header::LINK).and_then(|v| v.to_str().ok()).and_then(next_link);
            let next = link.map(|link| resolve(&uri, link)).transpose()?;
            let bytes = read_limited(response, MAX_DOCUMENT_BYTES, "list of referrers")?;
            let page: Index =
                serde_json::from_slice(&bytes).map_err(|_| Error::Protocol("its list of referrers is no index"))?;
            found.extend(page.manifests);
            match next {
                Some(next) if next != uri => uri = next,
                _ => return Ok(Some(found)),
            }
        }
        Err(Error::Protocol("its list of referrers has no end"))
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
    format!("sha256-{}", digest.hex())
}
