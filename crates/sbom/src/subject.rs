//! What a document is about, and the names that it gets from that.

use hoy_oci::{Digest, Timestamp};
use serde_json::Value;

use crate::package::escape;

/// An image, and what a document says of its own making.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The image's name, if it has one that means something elsewhere.
    pub name: Option<String>,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// Since when it has been so: a document of the same image is the same whenever it is made.
    pub created: Timestamp,
    /// The program that writes the document, and its version.
    pub tool: (String, String),
}

impl Subject {
    /// When it was made, in whole seconds, as documents want it.
    pub(crate) fn moment(&self) -> String {
        Timestamp::from_unix(self.created.unix_seconds()).unwrap_or(Timestamp::EPOCH).to_string()
    }

    /// What it is called in documents.
    pub(crate) fn title(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.manifest.to_string())
    }

    /// The image's package URL (purl-spec, "oci").
    pub(crate) fn purl(&self) -> String {
        let Some(name) = &self.name else { return format!("pkg:oci/image@{}", escape(&self.manifest.to_string())) };
        let without_digest = name.split('@').next().unwrap_or_default();
        let (repository, tag) = match without_digest.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
            _ => (without_digest, None),
        };
        let last = repository.rsplit('/').next().unwrap_or_default().to_lowercase();
        let mut text = format!(
            "pkg:oci/{}@{}?repository_url={}",
            escape(&last),
            escape(&self.manifest.to_string()),
            escape(repository)
        );
        if let Some(tag) = tag {
            text += &format!("&tag={}", escape(tag));
        }
        text
    }

    /// `document` without what is not known, and with a name under `key` that no other one has: a UUID (RFC 9562,
    /// version 8) that comes from what it says.
    pub(crate) fn document(&self, key: &str, mut document: Value) -> Value {
        strip(&mut document);
        let hex = Digest::of(document.to_string().as_bytes()).hex();
        let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
        let uuid = format!("{}-{}-8{}-8{}-{}", part(0, 8), part(8, 12), part(12, 15), part(15, 18), part(18, 30));
        if let Some(fields) = document.as_object_mut() {
            fields.insert(key.to_owned(), format!("urn:uuid:{uuid}").into());
        }
        document
    }
}

/// A text that says something.
pub(crate) fn known(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// Takes out of every object what is null.
fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_have_names_everywhere() {
        let purl = |name: Option<&str>| {
            let name = name.map(str::to_owned);
            let tool = ("x".to_owned(), "1".to_owned());
            let purl = Subject { name, manifest: Digest::of(b""), created: Timestamp::EPOCH, tool }.purl();
            purl.replace(&Digest::of(b"").to_string(), "D")
        };
        for (name, want) in [
            (Some("example.org:5000/a/B:1"), "pkg:oci/b@D?repository_url=example.org:5000%2Fa%2FB&tag=1"),
            (Some("example.org:5000/a"), "pkg:oci/a@D?repository_url=example.org:5000%2Fa"),
            (Some("a@sha256:00"), "pkg:oci/a@D?repository_url=a"),
            (None, "pkg:oci/image@D"),
        ] {
            assert_eq!(purl(name), want);
        }
    }
}
