//! `from`: a new working container.

use std::collections::BTreeSet;

use hoy_layout::{ContainerDir, Image, NamedImage, Store};
use hoy_oci::{Digest, Platform, Reference};

use crate::working::image_by_manifest;
use crate::{Error, Result, Tools, Working};

/// When an image is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pull {
    /// When the store has none of that name.
    #[default]
    Missing,
    /// Always.
    Always,
    /// Always where that succeeds; what the store has will do otherwise.
    Newer,
    /// Never.
    Never,
}

/// How a working container is made.
#[derive(Debug, Clone, Default)]
pub struct FromOptions {
    /// Its name; otherwise one made of the image's.
    pub name: Option<String>,
    /// What stands behind the image's name in that.
    pub suffix: Option<String>,
    /// When the image is fetched.
    pub pull: Pull,
    /// Options for `hoy-copy copy`, before the source.
    pub copy_options: Vec<String>,
    /// The image is for this platform, and not for this machine's.
    pub platform: Option<Platform>,
    /// Options of `hoy-storage create` for the ids of its user namespace.
    pub ids: Vec<String>,
}

/// The word for an image with nothing in it.
const SCRATCH: &str = "scratch";
/// Transports that `hoy-copy` reads images from, beside registries and stores.
const TRANSPORTS: [&str; 5] = ["oci", "oci-archive", "docker-archive", "docker-daemon", "dir"];

/// Makes a working container from the image that a person calls `image`, fetching it where needed.
///
/// # Errors
/// Those of `hoy-copy` and `hoy-storage`; [`hoy_layout::Error::NoImage`].
pub fn from(store: &Store, tools: &Tools, image: &str, options: &FromOptions) -> Result<(ContainerDir, String)> {
    let image = in_store(image).unwrap_or(image);
    if image == SCRATCH {
        return create(store, tools, None, options);
    }
    let found = obtain(store, tools, image, options)?;
    match found.name {
        Some(name) => create(store, tools, Some((&name, &name)), options),
        None => {
            let made = create(store, tools, Some((&found.descriptor.digest.hex(), image)), options)?;
            Working::edit(&made.0, |working| {
                working.stands_on_nameless();
                Ok(())
            })?;
            Ok(made)
        }
    }
}

/// Has the image that a person calls `image` in the store, fetching it where needed; returns its id.
///
/// # Errors
/// Those of `hoy-copy`; [`hoy_layout::Error::NoImage`].
pub fn pull(store: &Store, tools: &Tools, image: &str, options: &FromOptions) -> Result<Digest> {
    let found = obtain(store, tools, image, options)?;
    Ok(read(store, &found, options)?.manifest.config.digest)
}

fn read(store: &Store, found: &NamedImage, options: &FromOptions) -> Result<Image> {
    let platform = options.platform.clone().unwrap_or_else(Platform::host);
    Ok(store.layout().image(&found.descriptor, &platform)?)
}

pub(crate) fn obtain(store: &Store, tools: &Tools, image: &str, options: &FromOptions) -> Result<NamedImage> {
    if let Some(name) = in_store(image) {
        return Ok(store.find_image(name)?);
    }
    // A digest alone is no name at a registry.
    if image.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64) {
        return Ok(store.find_image(image)?);
    }
    if split_transport(image).is_some() || options.pull == Pull::Always {
        return Ok(store.find_image(&fetch(store, tools, image, options)?)?);
    }
    if options.pull == Pull::Newer {
        return match (fetch(store, tools, image, options), store.find_image(image)) {
            (Err(_), Ok(found)) if suits(store, &found, options) => Ok(found),
            (fetched, _) => Ok(store.find_image(&fetched?)?),
        };
    }
    match store.find_image(image) {
        Ok(found) if suits(store, &found, options) => Ok(found),
        Err(error) if !error.is_not_found() || options.pull == Pull::Never => Err(error.into()),
        _ => Ok(store.find_image(&fetch(store, tools, image, options)?)?),
    }
}

/// Whether an image is for the platform asked for.
fn suits(store: &Store, found: &NamedImage, options: &FromOptions) -> bool {
    let Some(wanted) = &options.platform else { return true };
    let image = store.layout().image(&found.descriptor, wanted);
    image.is_ok_and(|image| {
        let config = image.config;
        Platform::new(&config.os, &config.architecture, config.variant.as_deref()).satisfies(wanted)
    })
}

/// The transport and the rest of a name, where it has one.
pub fn split_transport(image: &str) -> Option<(&str, &str)> {
    let (transport, rest) = image.split_once(':')?;
    let is_one = match transport {
        "docker" => rest.starts_with("//"),
        // Another store than this one.
        "store" | "containers-storage" => rest.starts_with('['),
        other => TRANSPORTS.contains(&other),
    };
    is_one.then_some((transport, rest))
}

/// The name in the store that `store:NAME`, or `containers-storage:NAME` in others' words, is.
pub fn in_store(image: &str) -> Option<&str> {
    let name = ["store:", "containers-storage:"].into_iter().find_map(|prefix| image.strip_prefix(prefix))?;
    (!name.starts_with('[')).then_some(name)
}

/// The store's name for an image fetched from `image`, as far as its text tells; archives may say more. A directory and
/// what has no name in an archive get none.
pub fn store_name(image: &str) -> Option<String> {
    let reference = match split_transport(image) {
        None => Reference::parse(image).ok()?.or_latest(),
        Some(("docker", rest)) => Reference::parse(rest.trim_start_matches('/')).ok()?.or_latest(),
        Some(("dir", _)) => return None,
        // An image's id.
        Some(("docker-daemon", rest)) if rest.starts_with("sha256:") => return None,
        Some(("docker-daemon", rest)) => Reference::parse(rest).ok()?.or_latest(),
        Some(("oci", rest)) => {
            let (path, name) = rest.split_once(':').unwrap_or((rest, ""));
            let parts = path.split('/').filter(|part| !part.is_empty() && *part != "." && *part != "..");
            let parts: Vec<&str> = parts.collect();
            // Where there is a name it tells enough, and no path gets into what is built on it.
            let known = if name.is_empty() { parts.as_slice() } else { parts.split_at(parts.len().checked_sub(1)?).1 };
            let named = Reference::parse_local(&format!("localhost/{}", known.join("/").to_lowercase())).ok()?;
            name.rsplit(':').next().and_then(|tag| named.with_tag(tag).ok()).unwrap_or(named)
        }
        Some(("docker-archive", rest)) => Reference::parse(rest.split_once(':')?.1).ok()?.or_latest(),
        Some(("oci-archive", rest)) => Reference::parse_local(rest.split_once(':')?.1).ok()?,
        Some((_, rest)) => Reference::parse_local(rest.split_once(']')?.1).ok()?,
    };
    Some(reference.to_string())
}

/// Fetches an image and says by what the store finds it.
fn fetch(store: &Store, tools: &Tools, image: &str, options: &FromOptions) -> Result<String> {
    let is_remote = split_transport(image).is_none_or(|(transport, _)| transport == "docker");
    if options.pull == Pull::Never && is_remote {
        return Err(Error::Refused(format!("\"{image}\" would have to be fetched, and --pull-never forbids it")));
    }
    let is_quiet = options.copy_options.iter().any(|option| option == "--quiet");
    if split_transport(image).is_some() {
        if is_remote && !is_quiet {
            Tools::say(&format!("Trying to pull {}...", image.trim_start_matches("docker://")));
        }
        let name = store_name(image).or_else(|| named_in_archive(tools, image));
        return copy(store, tools, image, name.as_deref(), options);
    }
    let mut failures = Vec::new();
    for name in meanings(store, tools, image)? {
        if !is_quiet {
            Tools::say(&format!("Trying to pull {name}..."));
        }
        match copy(store, tools, &format!("docker://{name}"), Some(&name), options) {
            Ok(found) => return Ok(found),
            Err(error) => failures.push(error),
        }
    }
    let texts: Vec<String> = failures.iter().map(ToString::to_string).collect();
    match (failures.pop(), texts.as_slice()) {
        (Some(only), [_]) => Err(only),
        _ => Err(Error::Refused(format!("\"{image}\" is a short name, and no registry has it: {}", texts.join("; ")))),
    }
}

/// What a name without a transport may mean, in full: what the store has, or what registries.conf(5) says of a short one.
fn meanings(store: &Store, tools: &Tools, image: &str) -> Result<Vec<String>> {
    let candidates = Reference::candidates(image)?;
    let [first, .., _] = candidates.as_slice() else {
        return Ok(candidates.iter().map(ToString::to_string).collect());
    };
    let own = first.to_string();
    if has(store, &own)? {
        return Ok(vec![own]);
    }
    Ok(tools.copy(["names", image])?.lines().map(str::to_owned).collect())
}

fn has(store: &Store, name: &str) -> Result<bool> {
    Ok(store.images()?.iter().any(|image| image.name.as_deref() == Some(name)))
}

/// The name in the store of an image that is there, and that a person calls `image`; none where it has none.
pub(crate) fn own_name(store: &Store, tools: &Tools, image: &str) -> Result<Option<String>> {
    let image = in_store(image).unwrap_or(image);
    if split_transport(image).is_some() {
        return Ok(store_name(image));
    }
    let Ok(candidates) = Reference::candidates(image) else { return Ok(None) };
    for name in candidates.iter().map(ToString::to_string) {
        if has(store, &name)? {
            return Ok(Some(name));
        }
    }
    for name in meanings(store, tools, image)? {
        if has(store, &name)? {
            return Ok(Some(name));
        }
    }
    // A digest is no name, and an id none either.
    Ok(store_name(image).filter(|_| image.contains('@')))
}

/// Brings an image into the store; what it is found by there is its name, or its digest where it gets none.
fn copy(store: &Store, tools: &Tools, source: &str, name: Option<&str>, options: &FromOptions) -> Result<String> {
    let mut args = vec!["copy".to_owned()];
    if let Some(platform) = &options.platform {
        args.push(format!("--override-os={}", platform.os));
        args.push(format!("--override-arch={}", platform.architecture));
        args.extend(platform.variant.as_ref().map(|variant| format!("--override-variant={variant}")));
    }
    args.extend(options.copy_options.iter().cloned());
    args.extend([source.to_owned(), format!("store:{}", name.unwrap_or("@"))]);
    let before = name.and_then(|name| store.layout().resolve(Some(name)).ok());
    let digest = tools.copy(args).map_err(|error| match error {
        // As buildah says it, and scripts look for it.
        Error::Program { program, message, code } => {
            let begins = name.map(|name| format!("read manifest of \"{name}\": ")).unwrap_or_default();
            let message = match message.strip_prefix(&begins).filter(|_| !begins.is_empty()) {
                Some(why) => format!("initializing source {source}: {why}"),
                None => message,
            };
            Error::Program { program, message, code }
        }
        other => other,
    })?;
    let found = store.find_image(name.unwrap_or(&digest))?;
    let layers = read(store, &found, options)?.manifest.layers;
    if let Some(layer) = layers.iter().find(|layer| layer.media_type.as_str().ends_with("+encrypted")) {
        match (name, before) {
            (Some(name), Some(before)) => store.layout().set_name(name, &before)?,
            (Some(name), None) => drop(store.layout().remove_name(name)?),
            (None, _) => drop(store.layout().remove_digest(&found.descriptor.digest)?),
        }
        let why = "missing private key needed for decryption: give it with --decryption-key";
        return Err(Error::Refused(format!("decrypting layer {}: {why}", layer.digest)));
    }
    Ok(name.map_or(digest, str::to_owned))
}

/// The name that an image has in an archive, where the person says none.
fn named_in_archive(tools: &Tools, image: &str) -> Option<String> {
    let (transport, rest) = split_transport(image)?;
    // What comes through a pipe comes once.
    if !transport.ends_with("-archive") || rest.contains(':') || rest == "-" {
        return None;
    }
    let listed: serde_json::Value = serde_json::from_str(&tools.copy(["list-tags", image]).ok()?).ok()?;
    let name = listed.get("Tags")?.get(0)?.as_str()?;
    Some(Reference::parse_local(name).ok()?.to_string())
}

/// Makes a container of an image of the store; from what stands behind it in `image` comes the container's own name.
pub(crate) fn create(
    store: &Store,
    tools: &Tools,
    image: Option<(&str, &str)>,
    options: &FromOptions,
) -> Result<(ContainerDir, String)> {
    let (mut taken, mut has_failed) = (BTreeSet::new(), false);
    // Another process may take a name between the look and the creation.
    for _ in 0..32 {
        for dir in store.all_containers()? {
            taken.extend(dir.container().map(|container| container.name));
        }
        let name = options.name.clone().unwrap_or_else(|| {
            let suffix = options.suffix.as_deref().unwrap_or("working-container");
            free_name(image.map(|(_, name)| name), suffix, &taken)
        });
        let args = ["create", "--name", &name].into_iter().chain(options.ids.iter().map(String::as_str));
        match tools.storage(args.chain([image.map_or(SCRATCH, |(image, _)| image)])) {
            Ok(id) => return record(store, tools, id.trim(), options).map(|dir| (dir, name)),
            Err(error) if options.name.is_some() => return Err(error),
            // It may be free again, and why it failed does not tell: what fails for another reason fails twice.
            Err(error) if !is_taken(store, &name)? => match has_failed {
                true => return Err(error),
                false => has_failed = true,
            },
            Err(_) => {}
        }
    }
    Err(Error::Refused("no free name for a container was found: give one with --name".to_owned()))
}

fn is_taken(store: &Store, name: &str) -> Result<bool> {
    Ok(store.all_containers()?.iter().any(|dir| dir.container().is_ok_and(|c| c.name == name)))
}

/// Writes the record of a container just made; without one it is removed again.
fn record(store: &Store, tools: &Tools, id: &str, options: &FromOptions) -> Result<ContainerDir> {
    let write = || {
        let dir = store.container_dir(id.parse()?);
        let container = dir.container()?;
        let working = match container.manifest {
            None => Working::from_scratch(&options.platform.clone().unwrap_or_else(Platform::host)),
            Some(manifest) => {
                let image = image_by_manifest(store.layout(), &manifest)?;
                Working::from_image(&container.image.unwrap_or_default(), &image)
            }
        };
        working.write(&dir)?;
        Ok(dir)
    };
    write().map_err(|error: Error| match tools.storage(["rm", "--force", id]) {
        // The first failure is the one to be told; this one leaves a container that `rm` names.
        Ok(_) | Err(_) => error,
    })
}

/// `debian-working-container`, and a number where that is taken.
fn free_name(image: Option<&str>, suffix: &str, taken: &BTreeSet<String>) -> String {
    let stem = image.map(|image| {
        let hex = image.strip_prefix("sha256:").unwrap_or(image);
        let is_id = hex.bytes().all(|c| c.is_ascii_hexdigit());
        let (stem, most) = match split_transport(image) {
            // There is no name.
            Some((transport, _)) => (transport, 32),
            None if is_id => (hex, 12),
            None => {
                let last = image.rsplit('/').next().unwrap_or(image);
                (last.split(['@', ':']).next().unwrap_or(last), 32)
            }
        };
        format!("{}-", stem.get(..most.min(stem.len())).unwrap_or(stem))
    });
    let name = format!("{}{suffix}", stem.unwrap_or_default());
    if !taken.contains(&name) {
        return name;
    }
    let mut numbered = (1_u64..).map(|number| format!("{name}-{number}"));
    numbered.find(|name| !taken.contains(name)).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let taken = BTreeSet::from(["a-working-container".to_owned(), "working-container".to_owned()]);
        for (image, want) in [
            (Some("docker.io/library/debian:12"), "debian-working-container"),
            (Some("localhost/a:latest"), "a-working-container-1"),
            (Some("dir:/tmp/x"), "dir-working-container"),
            (Some("oci-archive:x.tar"), "oci-archive-working-container"),
            (Some("sha256:0123456789abcdef"), "0123456789ab-working-container"),
            (Some("127.0.0.1:5000/b/c@sha256:00"), "c-working-container"),
            (None, "working-container-1"),
        ] {
            assert_eq!(free_name(image, "working-container", &taken), want);
        }
        for (image, want) in [
            ("busybox", Some("docker.io/library/busybox:latest")),
            ("docker://127.0.0.1:5000/a:1", Some("127.0.0.1:5000/a:1")),
            ("oci:/tmp/./Layout", Some("localhost/tmp/layout:latest")),
            ("oci:layout:v1", Some("localhost/layout:v1")),
            ("oci:/tmp/layout:r.x/app:v1", Some("localhost/layout:v1")),
            ("oci-archive:/tmp/App.tar:app", Some("localhost/app:latest")),
            ("oci-archive:/tmp/App.tar", None),
            ("docker-archive:x.tar:localhost/app:2", Some("localhost/app:2")),
            ("docker-archive:x.tar:@2", None),
            ("docker-daemon:app:2", Some("docker.io/library/app:2")),
            ("docker-daemon:sha256:0123", None),
            ("dir:/tmp/d/", None),
            ("containers-storage:[vfs@/a+/b]app", Some("localhost/app:latest")),
            ("oci:", None),
        ] {
            assert_eq!(store_name(image).as_deref(), want, "{image}");
        }
        assert_eq!(split_transport("docker:latest"), None);
        assert_eq!(split_transport("localhost:5000/a"), None);
    }
}
