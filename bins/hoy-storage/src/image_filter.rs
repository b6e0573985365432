//! `--filter` of the list of images, as podman has it.

use hoy_cli::Result;
use hoy_layout::Store;
use hoy_oci::{Reference, Timestamp};
use hoy_storage::ImageSummary;

use crate::filter::{label, split, time, wrong};
use crate::open::explain_layout;

/// One condition.
enum Look {
    Before(Timestamp),
    Since(Timestamp),
    Label(String, Option<String>, bool),
    Dangling(bool),
    ReadOnly(bool),
    Intermediate(bool),
    Manifest(bool),
    Containers(bool),
    Id(String),
    Digest(String),
}

/// All conditions: each must be true, and one of the patterns of names if there are any.
pub(crate) struct Looks {
    all: Vec<Look>,
    patterns: Vec<String>,
    /// The layers of images, for which each is asked whether it lies below another.
    stacks: Vec<Vec<hoy_oci::Digest>>,
}

fn flag(text: &str, value: &str) -> Result<bool> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(wrong(text, "is neither true nor false")),
    }
}

/// When the image that a filter names was made.
fn made(store: &Store, text: &str, value: &str) -> Result<Timestamp> {
    let (_, image) = store.image(value).map_err(explain_layout)?;
    image.config.created.ok_or_else(|| wrong(text, "names an image that does not say when it was made"))
}

fn layers(image: &ImageSummary) -> &[hoy_oci::Digest] {
    image.image.as_ref().map(|image| image.config.rootfs.diff_ids.as_slice()).unwrap_or_default()
}

impl Looks {
    pub(crate) fn of(texts: &[String], store: &Store, images: &[ImageSummary]) -> Result<Self> {
        let mut looks = Self { all: Vec::new(), patterns: Vec::new(), stacks: Vec::new() };
        for text in texts {
            let (key, value, is_not) = split(text)?;
            let look = match (key, is_not) {
                ("reference", false) => {
                    looks.patterns.push(value.to_owned());
                    continue;
                }
                ("label", is_not) => {
                    let (key, value) = label(value);
                    Look::Label(key, value, !is_not)
                }
                ("before", false) => Look::Before(made(store, text, value)?),
                ("since" | "after", false) => Look::Since(made(store, text, value)?),
                ("until", false) => Look::Before(time(text, value)?),
                ("dangling", false) => Look::Dangling(flag(text, value)?),
                ("readonly", false) => Look::ReadOnly(flag(text, value)?),
                ("intermediate", false) => Look::Intermediate(flag(text, value)?),
                ("manifest", false) => Look::Manifest(flag(text, value)?),
                ("containers", false) => Look::Containers(flag(text, value)?),
                ("id", false) => Look::Id(value.trim_start_matches("sha256:").to_owned()),
                ("digest", false) => Look::Digest(value.to_owned()),
                _ => {
                    let known = "is none of after, before, containers, dangling, digest, id, intermediate, label, \
                                 label!, manifest, readonly, reference, since, until";
                    return Err(wrong(text, known));
                }
            };
            looks.all.push(look);
        }
        if looks.all.iter().any(|look| matches!(look, Look::Intermediate(_))) {
            looks.stacks = images.iter().map(|image| layers(image).to_vec()).collect();
        }
        Ok(looks)
    }

    pub(crate) fn accepts(&self, image: &ImageSummary, containers: usize) -> bool {
        let config = image.image.as_ref().map(|image| &image.config);
        let created = config.and_then(|config| config.created);
        self.all.iter().all(|look| match look {
            Look::Before(time) => created.is_some_and(|created| created < *time),
            Look::Since(time) => created.is_some_and(|created| created > *time),
            Look::Label(key, value, wanted) => {
                let found = config.and_then(|config| config.config.labels.get(key));
                *wanted == found.is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
            }
            Look::Dangling(wanted) => *wanted == image.names.is_empty(),
            Look::ReadOnly(wanted) => *wanted == image.additional.is_some(),
            Look::Intermediate(wanted) => *wanted == self.is_intermediate(image),
            Look::Manifest(wanted) => *wanted == image.descriptor.media_type.is_index(),
            Look::Containers(wanted) => *wanted == (containers > 0),
            Look::Id(prefix) => image.id().hex().starts_with(prefix),
            Look::Digest(prefix) => image.descriptor.digest.to_string().starts_with(prefix),
        })
    }

    /// One without a name on which another lies.
    fn is_intermediate(&self, image: &ImageSummary) -> bool {
        let own = layers(image);
        let lies_on = |other: &Vec<hoy_oci::Digest>| other.len() > own.len() && other.starts_with(own);
        image.names.is_empty() && self.stacks.iter().any(lies_on)
    }

    pub(crate) fn accepts_name(&self, name: Option<&String>) -> bool {
        let fits = |pattern: &String| name.is_some_and(|name| is_matched(pattern, name));
        self.patterns.is_empty() || self.patterns.iter().any(fits)
    }
}

/// Whether the pattern fits the full name, or what is left of it without registry, directories or tag.
pub(crate) fn is_matched(pattern: &str, name: &str) -> bool {
    let mut forms = vec![name.to_owned()];
    if let Ok(reference) = name.parse::<Reference>() {
        let tag = reference.tag().map(|tag| format!(":{tag}")).unwrap_or_default();
        let repository = reference.repository();
        let last = repository.rsplit('/').next().unwrap_or(repository);
        for form in [&reference.name(), repository, last] {
            forms.extend([form.to_owned(), format!("{form}{tag}")]);
        }
    }
    forms.iter().any(|form| fits(pattern.as_bytes(), form.as_bytes()))
}

/// Go's path.Match: `*` and `?` stand for anything but a slash, `[a-z]` and `[^a-z]` for one character.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, rest) => rest.is_none(),
        (Some((b'*', rest)), first) => {
            let next = || first.is_some_and(|(c, after)| *c != b'/' && fits(pattern, after));
            fits(rest, text) || next()
        }
        (Some((b'[', rest)), Some((c, after))) => match class(rest, *c) {
            Some((is_in, rest)) => is_in && fits(rest, after),
            None => false,
        },
        (Some((b'?', rest)), Some((c, after))) => *c != b'/' && fits(rest, after),
        (Some((b'\\', [escaped, rest @ ..])), Some((c, after))) => c == escaped && fits(rest, after),
        (Some((plain, rest)), Some((c, after))) => plain == c && fits(rest, after),
        (Some(_), None) => false,
    }
}

/// Whether a character is in a class, and what follows the class; none for one that does not end.
fn class(pattern: &[u8], c: u8) -> Option<(bool, &[u8])> {
    let (is_not, mut rest) = match pattern.split_first() {
        Some((b'^', rest)) => (true, rest),
        _ => (false, pattern),
    };
    let mut is_in = false;
    loop {
        match rest {
            [b']', after @ ..] => return Some((is_in != is_not, after)),
            [low, b'-', high, after @ ..] if *high != b']' => {
                is_in |= (*low..=*high).contains(&c);
                rest = after;
            }
            [one, after @ ..] => {
                is_in |= *one == c;
                rest = after;
            }
            [] => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let name = "docker.io/library/debian:12";
        for pattern in
            ["debian", "debian:12", "deb*", "library/*", "docker.io/*/debian", "d?bian:1[0-9]", "debian:1[^a]"]
        {
            assert!(is_matched(pattern, name), "{pattern}");
        }
        for pattern in ["", "*:13", "docker.io/*", "ebian", "debian:1[^2]", "debian:1[2", "library"] {
            assert!(!is_matched(pattern, name), "{pattern}");
        }
    }
}
