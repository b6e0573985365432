//! What refers to an image: OCI artifacts with a subject (image-spec manifest.md, "subject").

use hoy_oci::Descriptor;
use serde::Deserialize;

#[derive(Deserialize)]
struct WithSubject {
    subject: Option<Descriptor>,
}

/// The subject of a manifest or index, if it has one.
pub(crate) fn subject(bytes: &[u8]) -> Option<Descriptor> {
    serde_json::from_slice::<WithSubject>(bytes).ok()?.subject
}
