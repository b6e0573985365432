//! `hoy-copy sync`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use hoy_cli::{Context, Error, Progress, Result, print_line};
use hoy_oci::Reference;
use hoy_transport::{CopyOptions, ImageName, MultiArch};

use crate::access::Access;
use crate::args::Global;
use crate::copy::{Watcher, format};
use crate::sign::Signer;
use crate::signing_args::Signing;
use crate::sync_args::{SyncArgs, SyncDestination, SyncSource};
use crate::{endpoint, policy};

/// The exit code when some images were copied and others could not be.
const PARTLY: u8 = 3;

/// One image to be copied.
#[derive(Debug, PartialEq)]
struct Step {
    from: ImageName,
    to: ImageName,
}

/// Copies several images; the plan is made before the first is moved.
pub(crate) fn run(global: &Global, args: SyncArgs) -> Result<ExitCode> {
    if let Some(flag) = args.signing.unknown() {
        return Err(Error::msg(format!("{flag}: this version cannot do that")));
    }
    let from = args.src_access.access(args.authfile.clone());
    let to = args.dest_access.access(args.authfile);
    let retry = args.retry.into();
    let sources = match args.src {
        SyncSource::Docker => at_registry(global, &args.source, &from, retry)?,
        SyncSource::Dir => in_directory(Path::new(&args.source))?,
    };
    let mut plan = Vec::new();
    for (from, name) in sources {
        let name = if args.scoped { name.as_str() } else { name.rsplit('/').next().unwrap_or(&name) };
        let place = format!("{}/{name}{}", args.destination.trim_end_matches('/'), args.append_suffix);
        let to = match args.dest {
            SyncDestination::Docker => ImageName::Docker(Reference::parse(&place)?.or_latest()),
            SyncDestination::Dir => ImageName::Dir(PathBuf::from(place)),
        };
        plan.push(Step { from, to });
    }
    if args.dry_run {
        plan.iter().try_for_each(|step| print_line(format!("{} {}", step.from, step.to)))?;
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
    let mut digests = args.digestfile.map(|path| (String::new(), path));
    let (mut done, mut failed) = (0, Vec::new());
    for step in &plan {
        match copy(global, step, (&from, &to), &options, &args.signing) {
            Ok(digest) => {
                done += 1;
                print_line(format!("{digest} {}", step.to))?;
                if let Some((text, path)) = &mut digests {
                    text.push_str(&format!("{digest} {}\n", step.to));
                    std::fs::write(&*path, &*text).context(|| format!("write \"{}\"", path.display()))?;
                }
            }
            Err(error) if args.keep_going => {
                // Standard error may be closed, and then there is nobody to tell.
                writeln!(std::io::stderr(), "hoy-copy: {}: {error}", step.from).unwrap_or_default();
                failed.push(step.from.to_string());
            }
            Err(error) => return Err(error),
        }
    }
    match failed.len() {
        0 => Ok(ExitCode::SUCCESS),
        count => {
            let code = if done > 0 { PARTLY } else { 1 };
            Err(Error::msg(format!("{count} of {} images were not copied", plan.len())).with_code(code))
        }
    }
}

fn copy(
    global: &Global,
    step: &Step,
    access: (&Access, &Access),
    options: &CopyOptions,
    signing: &Signing,
) -> Result<String> {
    let signer = Signer::new(global, signing, &step.to)?;
    let source = policy::open(global, &step.from, access.0, options.retry, (&options.multi_arch, signing))?;
    if let ImageName::Dir(path) = &step.to {
        std::fs::create_dir_all(path).context(|| format!("create \"{}\"", path.display()))?;
    }
    let destination = endpoint::destination(global, &step.to, access.1, options.retry, &[], false)?;
    let copied = hoy_transport::copy(&*source, &*destination, options, &Watcher(Progress::new(false)))?;
    if let Some(signer) = signer {
        signer.sign(global, &step.to, &copied.descriptor.digest, access.1, options.retry)?;
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
