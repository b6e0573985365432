//! Commands that make and move images.

use std::path::Path;
use std::process::ExitCode;

use hoy_build::{Addition, Clamp, CommitOptions, Committed, Format, FromOptions, Working, split_transport};
use hoy_cli::{Context as _, Error, Result, print_line};
use hoy_layout::Store;
use hoy_oci::{Digest, Platform, Reference, RegistrySources, Timestamp};
use serde_json::Value;

use crate::args::{CommitArgs, PullArgs, PushArgs};
use crate::build::Made;
use crate::build::output::write_metadata;
use crate::context::{Context, warn};
use crate::working::{platform, pull_policy};

pub(crate) fn commit(context: &Context, args: CommitArgs) -> Result<ExitCode> {
    let doing = || format!("commit \"{}\"", args.container);
    let store = context.store()?;
    let (dir, working) = Working::find(&store, &args.container).context(doing)?;
    let destination = args.image.as_deref().filter(|image| split_transport(image).is_some());
    if destination.is_none() && !args.access.options("dest").is_empty() {
        let text = "--authfile, --cert-dir, --creds, --retry and --tls-verify are for an image that is sent somewhere";
        return Err(Error::msg(text).with_hint("name it as docker://HOST/NAME, or push it afterwards"));
    }
    let name = match &args.image {
        Some(image) if destination.is_none() => Some(local_name(image)?),
        _ => None,
    };
    destination.map_or(Ok(()), check_registry)?;
    check_signable(args.sending.sign_by.as_ref(), args.image.is_some())?;
    args.sbom.check()?;
    let files: Vec<Addition> =
        args.add_file.iter().map(|text| Addition::read(text)).collect::<std::result::Result<_, _>>()?;
    let is_done_later = !files.is_empty() || args.sbom.is_in_image();
    let options = CommitOptions {
        name: name.clone().filter(|_| !is_done_later),
        format: match (args.format, &working.format) {
            (Some(format), _) => format,
            (None, recorded) => recorded.as_deref().map_or(Ok(Format::Oci), str::parse)?,
        },
        clamp: clamp(&args, &working)?,
        compress: !args.disable_compression,
        squash: args.squash,
        omit_history: args.omit_history,
        said: args.said.said(),
        changes: args.change.clone(),
        config: args.config.as_deref().map(configuration).transpose()?,
    };
    let lease = store.lease()?;
    let mut made = hoy_build::commit(&store, &context.tools, &dir, &working, &options).context(doing)?;
    made.warnings.iter().for_each(|warning| warn(warning));
    let plain = (made.manifest.digest, made.is_new_and_nameless);
    let added = add(context, &store, &args, files, &plain.0).context(doing);
    // An image that nobody asked for does not stay.
    if plain.1 && !matches!(added, Ok(None)) {
        store.layout().remove_digest(&plain.0)?;
    }
    if let Some(more) = added? {
        made = more;
        if let Some(name) = &name {
            store.layout().set_name(name, &made.manifest)?;
            made.is_new_and_nameless = false;
        }
    }
    drop(lease);
    args.blobs.keep(&store, &made.manifest.digest)?;
    if let Some(destination) = destination {
        send(context, &store, &made, &args, destination)?;
    }
    let names: Vec<String> = name.into_iter().collect();
    sign(context, &names, args.sending.sign_by.as_ref())?;
    if let Some(list) = &args.manifest {
        let list = local_name(list)?;
        hoy_build::index(&store, std::slice::from_ref(&made.manifest), &[list], true, options.format)?;
    }
    if let Some(file) = &args.metadata_file {
        let config = &working.config;
        let platform = Platform::new(&config.os, &config.architecture, config.variant.as_deref());
        let (id, manifest) = (made.id, made.manifest.clone());
        let made = Made { id, images: vec![(platform, manifest.clone())], manifest, names };
        write_metadata(file, &made)?;
    }
    match &args.iidfile {
        Some(file) => {
            std::fs::write(file, made.id.to_string()).context(|| format!("write \"{}\"", file.display()))?;
        }
        None => print_line(made.id.hex())?,
    }
    if args.rm {
        context.tools.storage(["rm", dir.id().as_str()]).context(|| format!("remove \"{}\"", args.container))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Puts files into the image of this digest, and writes what it consists of; none where it stays as it is.
fn add(
    context: &Context,
    store: &Store,
    args: &CommitArgs,
    mut files: Vec<Addition>,
    image: &Digest,
) -> Result<Option<Committed>> {
    files.extend(args.sbom.files(context, image)?);
    if files.is_empty() {
        return Ok(None);
    }
    Ok(Some(hoy_build::add_files(store.layout(), image, files, !args.disable_compression)?))
}

/// Refuses, before anything is done, what would go to a registry that the environment denies.
fn check_registry(destination: &str) -> Result<()> {
    let Some(("docker", name)) = split_transport(destination) else { return Ok(()) };
    let name = Reference::parse(name.trim_start_matches('/')).context(|| format!("use the name \"{name}\""))?;
    match RegistrySources::from_env(|name| std::env::var_os(name))?.check(name.host()) {
        Err(hoy_oci::Error::Registry { host, reason }) => {
            Err(Error::msg(format!("commit to registry at \"{host}\" denied by policy: {reason}")))
        }
        other => Ok(other.map(drop)?),
    }
}

/// Refuses to sign, before anything is done, what gets no name and goes nowhere.
pub(crate) fn check_signable(key: Option<&String>, has_name: bool) -> Result<()> {
    if key.is_none() || has_name {
        return Ok(());
    }
    let error = Error::msg("option --sign-by: a signature is for a name, and the image gets none");
    Err(error.with_hint("give it a name, in build with --tag"))
}

/// Signs an image of the store for each of its names.
pub(crate) fn sign(context: &Context, names: &[String], key: Option<&String>) -> Result<()> {
    let Some(key) = key else { return Ok(()) };
    for name in names {
        // Nothing is moved.
        let image = format!("store:{name}");
        let options = ["copy", "--all", "--quiet", "--insecure-policy", "--sign-by", key];
        context.tools.copy(options.into_iter().chain([image.as_str(), image.as_str()])).context(|| "sign the image")?;
    }
    Ok(())
}

/// Reads a configuration in Docker's JSON.
fn configuration(file: &Path) -> Result<Value> {
    let doing = || format!("read \"{}\"", file.display());
    let bytes = std::fs::read(file).context(doing)?;
    serde_json::from_slice(&bytes).context(doing)
}

/// `store:NAME` and `NAME` are names in the store.
pub(crate) fn local_name(image: &str) -> Result<String> {
    let name = hoy_build::in_store(image).unwrap_or(image);
    Ok(Reference::parse_local(name)?.to_string())
}

fn clamp(args: &CommitArgs, working: &Working) -> Result<Clamp> {
    if let Some(file) = &args.reference_time {
        let changed = file.metadata().and_then(|metadata| metadata.modified());
        let time = Timestamp::from(changed.context(|| format!("look at \"{}\"", file.display()))?);
        let whole = Timestamp::from_unix(time.unix_seconds());
        return Ok(Clamp::At(whole.unwrap_or(Timestamp::EPOCH)));
    }
    if args.omit_timestamp {
        return Ok(Clamp::At(Timestamp::EPOCH));
    }
    let epoch = args.source_date_epoch.clone();
    let base = working.config.created.filter(|_| working.from_manifest.is_some());
    let now = || Timestamp::from(std::time::SystemTime::now());
    Ok(Clamp::choose(args.timestamp.as_deref(), epoch.as_deref(), base, now)?)
}

/// Sends a commit elsewhere; it does not stay in the store unless it was there before.
fn send(context: &Context, store: &Store, made: &Committed, args: &CommitArgs, destination: &str) -> Result<()> {
    let mut command = vec!["copy".to_owned(), "--insecure-policy".to_owned()];
    command.extend(args.access.options("dest"));
    command.extend(args.sending.or(&context.containers_conf()?).options());
    command.extend(args.quiet.then(|| "--quiet".to_owned()));
    command.extend([format!("store:{}", made.manifest.digest.hex()), destination.to_owned()]);
    let sent = context.tools.copy(command).context(|| format!("send the image to \"{destination}\""));
    if made.is_new_and_nameless {
        store.layout().remove_digest(&made.manifest.digest)?;
    }
    sent.map(drop)
}

pub(crate) fn pull(context: &Context, args: PullArgs) -> Result<ExitCode> {
    let pull = pull_policy("--policy", args.policy.as_deref().unwrap_or("missing"))?;
    let mut copy_options = args.access.options("src");
    copy_options.extend(args.receiving.options());
    copy_options.extend(args.quiet.then(|| "--quiet".to_owned()));
    copy_options.extend(args.blobs.option());
    copy_options.extend(args.remove_signatures.then(|| "--remove-signatures".to_owned()));
    let options = FromOptions { pull, copy_options, platform: platform(&args.platform), ..FromOptions::default() };
    let store = context.store()?;
    let images = if args.all_tags { tags(context, &args)? } else { vec![args.image.clone()] };
    for image in images {
        let doing = || format!("pull \"{image}\"");
        let id = hoy_build::pull(&store, &context.tools, &image, &options).context(doing)?;
        args.blobs.keep(&store, &store.find_image(&id.hex())?.descriptor.digest)?;
        print_line(id.hex())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The names of all images in the repository.
fn tags(context: &Context, args: &PullArgs) -> Result<Vec<String>> {
    if let Some((transport, _)) = split_transport(&args.image).filter(|(transport, _)| *transport != "docker") {
        return Err(Error::msg(format!("pulling all tags is not supported for {transport} transport")));
    }
    let doing = || format!("list the tags of \"{}\"", args.image);
    let name = args.image.strip_prefix("docker://").unwrap_or(&args.image);
    let repository = Reference::parse(name).context(doing)?;
    let mut command = vec!["list-tags".to_owned()];
    command.extend(args.access.options(""));
    command.push(format!("docker://{}", repository.name()));
    let listed: Value = serde_json::from_str(&context.tools.copy(command).context(doing)?)?;
    let tags = listed.get("Tags").and_then(Value::as_array).into_iter().flatten();
    Ok(tags.filter_map(|tag| Some(format!("{}:{}", repository.name(), tag.as_str()?))).collect())
}

pub(crate) fn push(context: &Context, args: PushArgs) -> Result<ExitCode> {
    let doing = || format!("push \"{}\"", args.image);
    let store = context.store()?;
    let found = store.find_image(&args.image).context(doing)?;
    let source = found.name.clone().unwrap_or_else(|| found.descriptor.digest.hex());
    let destination = match (&args.destination, &found.name) {
        (Some(destination), name) if split_transport(destination).is_some() => {
            match (split_transport(destination), name) {
                // Such an archive is of images with names.
                (Some(("docker-archive", path)), Some(name)) if !path.contains(':') => format!("{destination}:{name}"),
                _ => destination.clone(),
            }
        }
        (Some(destination), _) => match hoy_build::in_store(destination) {
            Some(name) => format!("store:{}", local_name(name)?),
            None => format!("docker://{destination}"),
        },
        (None, Some(name)) => format!("docker://{name}"),
        (None, None) => return Err(Error::msg(format!("\"{}\" has no name: say where to push it", args.image))),
    };
    // As buildah: the policy is for images that come here.
    let mut command = vec!["copy".to_owned(), "--insecure-policy".to_owned()];
    command.extend(args.access.options("dest"));
    match args.disable_compression {
        true => command.extend(args.sending.options().into_iter().chain(["--dest-decompress".to_owned()])),
        false => command.extend(args.sending.or(&context.containers_conf()?).options()),
    }
    command.extend(args.all.then(|| "--all".to_owned()));
    command.extend(args.quiet.then(|| "--quiet".to_owned()));
    let format = match args.format.as_deref() {
        Some("docker") => Some("v2s2"),
        other => other,
    };
    command.extend(format.map(|format| format!("--format={format}")));
    command.extend(args.digestfile.as_ref().map(|file| format!("--digestfile={file}")));
    command.extend([format!("store:{source}"), destination]);
    context.tools.copy(command).context(doing)?;
    args.blobs.keep(&store, &found.descriptor.digest)?;
    if args.rm {
        context.tools.storage(["rmi", &source]).context(|| format!("remove \"{source}\""))?;
    }
    Ok(ExitCode::SUCCESS)
}
