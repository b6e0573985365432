//! `hoy-copy sync`.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use hoy_cli::{Context, Error, Result, print_line};
use hoy_oci::Reference;
use hoy_transport::{CopyOptions, ImageName, MultiArch, Observer};

use crate::access::Access;
use crate::args::Global;
use crate::copy::{carry, format};
use crate::keys::Keys;
use crate::progress::{Events, Watcher};
use crate::rate::Rate;
use crate::sign::Signer;
use crate::signatures::Found;
use crate::signing_args::Signing;
use crate::sync_args::{SyncArgs, SyncDestination, SyncSource};
use crate::sync_file::{Wanted, Which};
use crate::{endpoint, policy, prune, rate, sync_file};

/// The exit code when some images were copied and others could not be.
const PARTLY: u8 = 3;

/// One image to be copied.
struct Step {
    from: ImageName,
    to: ImageName,
    /// How the source is reached.
    access: Access,
}

/// What there is to copy: images, what each is called, and how its place is reached; and what could not be found out.
#[derive(Default)]
struct Sources {
    images: Vec<(ImageName, String, Access)>,
    failed: Vec<String>,
}

/// Copies several images; the plan is made before the first is moved.
pub(crate) fn run(global: &Global, args: SyncArgs) -> Result<ExitCode> {
    if args.prune && args.dest != SyncDestination::Docker {
        return Err(Error::msg("--prune is for a destination that is a registry").with_code(2));
    }
    let from = args.src_access.access(args.authfile.clone());
    let to = args.dest_access.access(args.authfile);
    let retry = args.retry.into();
    let with = |images: Vec<(ImageName, String)>| {
        let images = images.into_iter().map(|(image, name)| (image, name, from.clone())).collect();
        Sources { images, failed: Vec::new() }
    };
    let Sources { images, mut failed } = match args.src {
        SyncSource::Docker => with(at_registry(global, &args.source, &from, retry)?),
        SyncSource::Dir => with(in_directory(Path::new(&args.source))?),
        SyncSource::Yaml => in_file(global, Path::new(&args.source), &from, retry, args.keep_going)?,
    };
    let sources = images.iter().map(|(image, ..)| repository(image)).collect::<BTreeSet<_>>().len();
    let mut plan = Vec::new();
    for (from, name, access) in images {
        let name = if args.scoped { name.as_str() } else { name.rsplit('/').next().unwrap_or(&name) };
        let place = format!("{}/{name}{}", args.destination.trim_end_matches('/'), args.append_suffix);
        let to = match args.dest {
            SyncDestination::Docker => ImageName::Docker(Reference::parse(&place)?.or_latest()),
            SyncDestination::Dir => ImageName::Dir(PathBuf::from(place)),
        };
        plan.push(Step { from, to, access });
    }
    if args.dry_run {
        for step in &plan {
            print_line(format!("{} {}", step.from, step.to))?;
            say(&format!("Would have copied image from=\"{}\" to=\"{}\"", step.from, step.to));
        }
        say(&format!("Would have synced {} images from {sources} sources", plan.len()));
        if args.prune && failed.is_empty() {
            let spare = prune::spare(global, plan.iter().map(|step| &step.to), &to, retry)?;
            spare.iter().try_for_each(|spare| print_line(format!("delete {}", spare.name())))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let options = CopyOptions {
        platform: endpoint::platform(global),
        multi_arch: if args.all { MultiArch::All } else { MultiArch::System },
        format: args.format.map(format),
        preserve_digests: args.preserve_digests,
        retry,
        ..CopyOptions::default()
    };
    let events = args.progress.map(Events::open).transpose()?;
    let (signing, rate) = (&args.signing, args.limit_rate.as_ref());
    let keys = Keys::open(global, signing)?;
    let way = Way { to: &to, options: &options, signing, keys: &keys, rate, events: events.as_ref() };
    let mut digests = args.digestfile.map(|path| (String::new(), path));
    let mut done = 0;
    for step in &plan {
        match copy(global, step, &way) {
            Ok(digest) => {
                done += 1;
                print_line(format!("{digest} {}", step.to))?;
                if let Some((text, path)) = &mut digests {
                    text.push_str(&format!("{digest} {}\n", step.to));
                    std::fs::write(&*path, &*text).context(|| format!("write \"{}\"", path.display()))?;
                }
            }
            Err(error) if args.keep_going => {
                tell(&step.from.to_string(), &error);
                failed.push(step.from.to_string());
            }
            Err(error) => return Err(error),
        }
    }
    match failed.len() {
        // What could not be copied might be what a tag that seems spare is.
        0 if args.prune => {
            for spare in prune::spare(global, plan.iter().map(|step| &step.to), &to, retry)? {
                spare.delete()?;
                print_line(format!("deleted {}", spare.name()))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        0 => Ok(ExitCode::SUCCESS),
        count => {
            let code = if done > 0 { PARTLY } else { 1 };
            Err(Error::msg(format!("{count} of {} images were not copied", done + count)).with_code(code))
        }
    }
}

/// What holds for all images.
struct Way<'a> {
    to: &'a Access,
    options: &'a CopyOptions,
    signing: &'a Signing,
    keys: &'a Keys,
    rate: Option<&'a Rate>,
    events: Option<&'a Events>,
}

fn copy(global: &Global, step: &Step, way: &Way<'_>) -> Result<String> {
    let Way { to, options, signing, keys, .. } = *way;
    let watcher;
    let observer: &dyn Observer = match way.events {
        Some(events) => {
            events.image(&step.from.to_string(), &step.to.to_string());
            events
        }
        None => {
            watcher = Watcher::of_copy(false);
            &watcher
        }
    };
    let signer = Signer::new(global, signing, &step.to)?;
    let source = policy::open(global, &step.from, &step.access, options.retry, (&options.multi_arch, signing))?;
    if let ImageName::Dir(path) = &step.to {
        std::fs::create_dir_all(path).context(|| format!("create \"{}\"", path.display()))?;
    }
    let destination = endpoint::destination(global, &step.to, to, options.retry, &[], false)?;
    let source = rate::limit(source, way.rate);
    let copied = hoy_transport::copy(&*source, &*destination, options, observer)?;
    if !signing.remove_signatures {
        let found = Found { global, from: &step.from, access: &step.access, retry: options.retry };
        carry(&found, &step.to, to, &copied, observer)?;
    }
    if let Some(signer) = signer {
        signer.sign(global, keys, (&step.to, &copied.descriptor.digest), to, options.retry)?;
    }
    Ok(copied.descriptor.digest.to_string())
}

/// The image, or all tags of the repository, and the name of each.
fn at_registry(
    global: &Global,
    text: &str,
    access: &Access,
    retry: hoy_registry::Retry,
) -> Result<Vec<(ImageName, String)>> {
    let reference = Reference::parse(text).map_err(|e| Error::from(e).with_code(2))?;
    let named = |reference: Reference| {
        let name = reference.to_string();
        (ImageName::Docker(reference), name)
    };
    if reference.tag().is_some() || reference.digest().is_some() {
        return Ok(vec![named(reference)]);
    }
    let tags = access.registry(global, &reference, retry)?.tags(reference.repository())?;
    if tags.is_empty() {
        return Err(Error::msg(format!("\"{reference}\" has no tags")));
    }
    tags.iter().map(|tag| Ok(named(reference.with_tag(tag)?))).collect()
}

/// What sync counts as one source: a repository, or an image that is in none.
fn repository(image: &ImageName) -> String {
    match image {
        ImageName::Docker(reference) => reference.name(),
        other => other.to_string(),
    }
}

/// Tells a person, in skopeo's words. Standard error may be closed, and then there is nobody to tell.
fn say(text: &str) {
    writeln!(std::io::stderr(), "{text}").unwrap_or_default();
}

/// Standard error may be closed, and then there is nobody to tell.
fn tell(what: &str, error: &Error) {
    writeln!(std::io::stderr(), "hoy-copy: {what}: {error}").unwrap_or_default();
}

/// What a file lists. A repository whose tags cannot be read counts as one image that cannot be copied.
fn in_file(
    global: &Global,
    path: &Path,
    access: &Access,
    retry: hoy_registry::Retry,
    keep_going: bool,
) -> Result<Sources> {
    let mut found = Sources::default();
    for wanted in sync_file::read(path, access)? {
        match in_repository(global, &wanted, retry) {
            Ok(images) => found.images.extend(images.into_iter().map(|(i, name)| (i, name, wanted.access.clone()))),
            Err(error) if keep_going => {
                tell(&wanted.repository, &error);
                found.failed.push(wanted.repository);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// The images of a repository that a file wants.
fn in_repository(global: &Global, wanted: &Wanted, retry: hoy_registry::Retry) -> Result<Vec<(ImageName, String)>> {
    let one = |tag: &String| {
        let separator = if tag.contains(':') { '@' } else { ':' };
        let name = format!("{}{separator}{tag}", wanted.repository);
        let reference = Reference::parse(&name).map_err(|e| Error::from(e).with_code(2))?;
        let name = reference.to_string();
        Ok((ImageName::Docker(reference), name))
    };
    if let Which::These(tags) = &wanted.which {
        return tags.iter().map(one).collect();
    }
    let reference = Reference::parse(&wanted.repository).map_err(|e| Error::from(e).with_code(2))?;
    let tags = wanted.access.registry(global, &reference, retry)?.tags(reference.repository())?;
    tags.iter().filter(|tag| wanted.which.has(tag)).map(one).collect()
}

/// All images below a directory, and the path of each from there.
fn in_directory(top: &Path) -> Result<Vec<(ImageName, String)>> {
    let mut found = Vec::new();
    let mut left = vec![top.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(&directory).context(|| format!("read \"{}\"", directory.display()))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                left.push(entry.path());
            } else if entry.file_name() == "manifest.json" {
                let name = directory.strip_prefix(top).unwrap_or(&directory).to_string_lossy().into_owned();
                let last = || directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let name = if name.is_empty() { last() } else { name };
                found.push((ImageName::Dir(directory.clone()), name));
            }
        }
    }
    if found.is_empty() {
        return Err(Error::msg(format!("\"{}\" has no image in it", top.display())));
    }
    found.sort_by(|(_, a), (_, b)| a.cmp(b));
    Ok(found)
}
