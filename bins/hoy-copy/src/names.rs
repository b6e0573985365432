//! Image names as people give them. One without a transport is at a registry, and may be short: a name that
//! registries.conf has an alias for, or that is looked for in several registries.

use hoy_cli::{Error, Result, print_line};
use hoy_oci::Reference;
use hoy_registry::{Registries, Retry};
use hoy_transport::{ImageName, TRANSPORTS};

use crate::access::{Access, registries};
use crate::args::{Global, NamesArgs};

/// The image to be read that `text` names. Where several registries may be meant, it is the first that has it.
pub(crate) fn to_read(global: &Global, text: &str, access: &Access, retry: Retry) -> Result<ImageName> {
    let Some(candidates) = candidates(global, text)? else { return full(text) };
    let [first, others @ ..] = candidates.as_slice() else { return full(text) };
    if others.is_empty() {
        return Ok(ImageName::Docker(first.clone().or_latest()));
    }
    let mut failures = Vec::new();
    for candidate in &candidates {
        let candidate = candidate.clone().or_latest();
        match has_image(global, &candidate, access, retry) {
            Ok(()) => return Ok(ImageName::Docker(candidate)),
            Err(error) => failures.push(error.to_string()),
        }
    }
    Err(Error::msg(format!("\"{text}\" is a short name, and no registry has it: {}", failures.join("; "))))
}

/// The image to be written, or deleted, that `text` names.
pub(crate) fn to_write(global: &Global, text: &str) -> Result<ImageName> {
    match candidates(global, text)?.as_deref() {
        None => full(text),
        Some([one]) => Ok(ImageName::Docker(one.clone().or_latest())),
        Some(several) => {
            let names: Vec<String> = several.iter().map(Reference::name).collect();
            let text = format!("\"{text}\" is a short name that may be {}: give one in full", names.join(" or "));
            Err(Error::msg(text).with_code(2))
        }
    }
}

/// The repository at a registry that `text`, without a transport, names; of several that may be meant it is the first.
pub(crate) fn repository(global: &Global, text: &str) -> Result<Reference> {
    let usage = |e: hoy_oci::Error| Error::from(e).with_code(2);
    match candidates(global, text)?.and_then(|all| all.into_iter().next()) {
        Some(first) => Ok(first),
        None => Reference::parse(text.strip_prefix("docker://").unwrap_or(text)).map_err(usage),
    }
}

/// Prints what a name may stand for, in the order in which it is looked for; no registry is asked.
pub(crate) fn print(global: &Global, args: &NamesArgs) -> Result<()> {
    match candidates(global, &args.name)? {
        Some(all) => all.into_iter().try_for_each(|one| print_line(one.or_latest())),
        None => match full(&args.name)? {
            ImageName::Docker(reference) => print_line(reference),
            other => Err(Error::msg(format!("{other} is at no registry")).with_code(2)),
        },
    }
}

fn full(text: &str) -> Result<ImageName> {
    let has_transport = TRANSPORTS.iter().any(|transport| text.starts_with(transport));
    // A path, say: the error is about the transport that it lacks.
    let is_no_name = Reference::parse(text).is_err();
    let full = if has_transport || is_no_name { text.to_owned() } else { format!("docker://{text}") };
    full.parse().map_err(|e| Error::from(e).with_code(2))
}

/// What a short name may mean, in full; none where `text` is none.
fn candidates(global: &Global, text: &str) -> Result<Option<Vec<Reference>>> {
    let has_transport = TRANSPORTS.iter().any(|transport| text.starts_with(transport));
    if has_transport || !is_short(text) || Reference::parse(text).is_err() {
        return Ok(None);
    }
    meanings(&registries(global)?, text).map(Some)
}

/// Whether a name has no registry: its first part has neither a dot nor a colon, and is not this machine.
fn is_short(text: &str) -> bool {
    match text.split_once('/') {
        Some((first, _)) => !first.contains(['.', ':']) && first != "localhost",
        None => true,
    }
}

fn meanings(rules: &Registries, text: &str) -> Result<Vec<Reference>> {
    let parse = |text: String| Reference::parse(&text).map_err(|e| Error::from(e).with_code(2));
    let end = text.find(['@', ':']).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if let Some(alias) = rules.alias(name) {
        return Ok(vec![parse(format!("{alias}{rest}"))?]);
    }
    if rules.search().is_empty() {
        return Ok(vec![parse(text.to_owned())?]);
    }
    rules.search().iter().map(|host| parse(format!("{host}/{text}"))).collect()
}

fn has_image(global: &Global, reference: &Reference, access: &Access, retry: Retry) -> Result<()> {
    let key = reference.digest().map(ToString::to_string).or(reference.tag().map(str::to_owned)).unwrap_or_default();
    let mut failure = None;
    for (registry, at) in access.to_read(global, reference, retry)? {
        match registry.manifest(at.repository(), &key) {
            Ok(_) => return Ok(()),
            Err(error) => failure = Some(error),
        }
    }
    failure.map_or(Ok(()), |error| Err(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_and_others() {
        for (text, want) in [
            ("busybox", true),
            ("team/app:1", true),
            ("app@sha256:0", true),
            ("localhost/app", false),
            ("r.x/app", false),
            ("localhost:5000/app", false),
        ] {
            assert_eq!(is_short(text), want, "{text}");
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("registries.conf");
        let read = |text: &str| {
            std::fs::write(&file, text).unwrap();
            Registries::read(Some(&file), &[]).unwrap()
        };
        let shown = |rules: &Registries, text: &str| {
            meanings(rules, text).unwrap().iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        let rules = read("unqualified-search-registries = [\"a.x\", \"b.x:5000\"]\n[aliases]\napp = \"r.x/team/app\"");
        assert_eq!(shown(&rules, "app:2"), "r.x/team/app:2");
        assert_eq!(shown(&rules, "other/app:2"), "a.x/other/app:2 b.x:5000/other/app:2");
        assert_eq!(shown(&read(""), "app"), "docker.io/library/app");
    }
}
