//! Commands that make and move images.

use std::process::ExitCode;

use hoy_build::{Clamp, CommitOptions, Committed, FromOptions, Pull, Working, split_transport};
use hoy_cli::{Context as _, Error, Result, print_line};
use hoy_layout::Store;
use hoy_oci::{Reference, Timestamp};

use crate::args::{CommitArgs, PullArgs, PushArgs};
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
    let options = CommitOptions {
        name,
        format: args.format,
        clamp: clamp(&args, &working)?,
        compress: !args.disable_compression,
        squash: args.squash,
        omit_history: args.omit_history,
        unsetenv: args.unsetenv.clone(),
    };
    let made = hoy_build::commit(&store, &context.tools, &dir, &working, &options).context(doing)?;
    made.warnings.iter().for_each(|warning| warn(warning));
    if let Some(destination) = destination {
        send(context, &store, &made, &args, destination)?;
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

/// `store:NAME` and `NAME` are names in the store.
pub(crate) fn local_name(image: &str) -> Result<String> {
    let name = image.strip_prefix("store:").unwrap_or(image);
    Ok(Reference::parse_local(name).context(|| format!("use the name \"{name}\""))?.to_string())
}

fn clamp(args: &CommitArgs, working: &Working) -> Result<Clamp> {
    if args.omit_timestamp {
        return Ok(Clamp::At(Timestamp::EPOCH));
    }
    let epoch = std::env::var("SOURCE_DATE_EPOCH").ok();
    let base = working.config.created.filter(|_| working.from_manifest.is_some());
    let now = || Timestamp::from(std::time::SystemTime::now());
    Ok(Clamp::choose(args.timestamp.as_deref(), epoch.as_deref(), base, now)?)
}

/// Sends a commit elsewhere; it does not stay in the store unless it was there before.
fn send(context: &Context, store: &Store, made: &Committed, args: &CommitArgs, destination: &str) -> Result<()> {
    let mut command = vec!["copy".to_owned()];
    command.extend(args.access.options("dest"));
    command.extend(args.quiet.then(|| "--quiet".to_owned()));
    command.extend([format!("store:{}", made.manifest.digest.hex()), destination.to_owned()]);
    let sent = context.tools.copy(command).context(|| format!("send the image to \"{destination}\""));
    if made.is_new_and_nameless {
        store.layout().remove_digest(&made.manifest.digest)?;
    }
    sent.map(drop)
}

pub(crate) fn pull(context: &Context, args: PullArgs) -> Result<ExitCode> {
    let pull = args.policy.as_deref().map_or(Ok(Pull::Always), |when| pull_policy("--policy", when))?;
    let mut copy_options = args.access.options("src");
    copy_options.extend(args.quiet.then(|| "--quiet".to_owned()));
    let options = FromOptions { name: None, pull, copy_options, platform: platform(&args.platform), ids: Vec::new() };
    let store = context.store()?;
    let id = hoy_build::pull(&store, &context.tools, &args.image, &options)
        .context(|| format!("pull \"{}\"", args.image))?;
    print_line(id.hex())?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn push(context: &Context, args: PushArgs) -> Result<ExitCode> {
    let doing = || format!("push \"{}\"", args.image);
    let store = context.store()?;
    let found = store.find_image(&args.image).context(doing)?;
    let source = found.name.clone().unwrap_or_else(|| found.descriptor.digest.hex());
    let destination = match (&args.destination, &found.name) {
        (Some(destination), _) if split_transport(destination).is_some() => destination.clone(),
        (Some(destination), _) => format!("docker://{destination}"),
        (None, Some(name)) => format!("docker://{name}"),
        (None, None) => return Err(Error::msg(format!("\"{}\" has no name: say where to push it", args.image))),
    };
    let mut command = vec!["copy".to_owned()];
    command.extend(args.access.options("dest"));
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
    if args.rm {
        context.tools.storage(["rmi", &source]).context(|| format!("remove \"{source}\""))?;
    }
    Ok(ExitCode::SUCCESS)
}
