//! Commands on working containers as such.

use std::process::ExitCode;

use hoy_build::{FromOptions, Pull, Working, apply};
use hoy_cli::{Context as _, Error, Result, print_line, table};
use hoy_layout::{ContainerDir, Store};
use hoy_oci::Platform;
use serde_json::{Value, json};

use crate::FAILED;
use crate::access::PlatformArgs;
use crate::args::{ConfigArgs, FromArgs, MountArgs, RenameArgs, SomeArgs, UnshareArgs};
use crate::context::{Context, say_earlier};
use crate::onbuild;
use crate::surroundings::network;

pub(crate) fn from(context: &Context, mut args: FromArgs) -> Result<ExitCode> {
    let conf = context.containers_conf()?;
    let own = &mut args.surroundings;
    own.network = own.network.take().or(conf.network());
    own.network.as_deref().map(network).transpose()?;
    own.mounts_file = context.mounts_file.as_deref().map(std::path::absolute).transpose()?;
    own.namespaces = std::mem::take(&mut own.namespaces).or(conf.namespaces());
    let pull = match (args.pull_always, args.pull_never, args.pull.as_deref()) {
        (true, ..) => Pull::Always,
        (_, true, _) => Pull::Never,
        (.., when) => pull_policy("--pull", when.unwrap_or("missing"))?,
    };
    let mut copy_options = args.access.options("src");
    copy_options.extend(args.receiving.options());
    copy_options.extend(args.quiet.then(|| "--quiet".to_owned()));
    copy_options.extend(args.blobs.option());
    let options = FromOptions {
        name: args.name,
        suffix: args.suffix,
        pull,
        copy_options,
        platform: platform(&args.platform),
        ids: args.ids.options()?,
    };
    let store = context.store()?;
    let (dir, name) = match (args.resume, args.image) {
        (Some(id), _) => hoy_build::resume(&store, &context.tools, &id, &options).context(|| "resume a build")?,
        (None, image) => {
            let image = image.unwrap_or_default();
            hoy_build::from(&store, &context.tools, &image, &options)
                .context(|| format!("make a working container from \"{image}\""))?
        }
    };
    if let Some(manifest) = dir.container()?.manifest {
        args.blobs.keep(&store, &manifest)?;
    }
    let format = args.format.map(|format| format.to_string());
    Working::edit(&dir, |working| {
        working.format = format;
        args.surroundings.record(working)
    })?;
    if let Err(error) = onbuild::triggers(context, &dir, args.quiet) {
        // The first failure is the one to be told; this one leaves a container that `rm` names.
        drop(context.tools.storage(["rm", "--force", dir.id().as_str()]));
        return Err(error);
    }
    if let Some(file) = &args.cidfile {
        std::fs::write(file, dir.id().as_str()).context(|| format!("write \"{}\"", file.display()))?;
    }
    print_line(name)?;
    Ok(ExitCode::SUCCESS)
}

/// The policy that a word means.
pub(crate) fn pull_policy(option: &str, when: &str) -> Result<Pull> {
    match when {
        // As buildah: what is there is not asked for again.
        "missing" | "ifmissing" | "notpresent" | "false" => Ok(Pull::Missing),
        "true" | "newer" | "ifnewer" => Ok(Pull::Newer),
        "always" => Ok(Pull::Always),
        "never" => Ok(Pull::Never),
        _ => {
            let error = Error::msg(format!("option {option}: unsupported pull policy \"{when}\""));
            Err(error.with_hint("it is one of missing, newer, always, never"))
        }
    }
}

/// The platform asked for, if it is not simply this machine's.
pub(crate) fn platform(args: &PlatformArgs) -> Option<Platform> {
    if args.platform.is_some() {
        return args.platform.clone();
    }
    if args.arch.is_none() && args.os.is_none() && args.variant.is_none() {
        return None;
    }
    let host = Platform::host();
    let arch = args.arch.as_deref().unwrap_or(&host.architecture);
    let variant = args.variant.as_deref().or(host.variant.as_deref().filter(|_| args.arch.is_none()));
    Some(Platform::new(args.os.as_deref().unwrap_or(&host.os), arch, variant).in_words_of_go())
}

pub(crate) fn mount(context: &Context, args: &MountArgs) -> Result<ExitCode> {
    let store = context.store()?;
    let mut mounted: Vec<(String, String)> = Vec::new();
    if args.containers.is_empty() {
        for dir in all(&store)? {
            let path = mount_point(context, &dir)?;
            if !path.is_empty() {
                mounted.push((dir.container()?.name, path));
            }
        }
    }
    for text in &args.containers {
        let doing = || format!("mount \"{text}\"");
        let (dir, _) = Working::find(&store, text).context(doing)?;
        let path = context.tools.mount(dir.id().as_str()).context(doing)?;
        mounted.push((text.clone(), path.display().to_string()));
    }
    if args.json {
        let rows: Vec<Value> =
            mounted.iter().map(|(name, path)| json!({"container": name, "mountPoint": path})).collect();
        print_line(table::json(&Value::from(rows))?)?;
    } else if let ([_], [(_, path)]) = (args.containers.as_slice(), mounted.as_slice()) {
        print_line(path)?;
    } else {
        for (name, path) in mounted {
            print_line(format!("{name} {path}"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a command where an ordinary user's mounts are visible, with containers mounted for it.
pub(crate) fn unshare(context: &Context, args: UnshareArgs) -> Result<ExitCode> {
    if args.mount.is_empty() {
        return context.become_other("hoy-storage", "unshare", &args.command);
    }
    let store = context.store()?;
    let mut command = context.tools.command("hoy-storage");
    command.arg("unshare").args(args.command);
    let mut mounted = Vec::new();
    let mut mount = |text: &str| {
        let (variable, name) = text.split_once('=').unwrap_or((text, text));
        let doing = || format!("mount \"{name}\"");
        let dir = Working::find_directory(&store, name).context(doing)?;
        if variable.is_empty() {
            return Err(Error::msg(format!("option --mount: \"{text}\": the variable has no name")));
        }
        let was_mounted = !mount_point(context, &dir)?.is_empty();
        command.env(variable, context.tools.mount(dir.id().as_str()).context(doing)?);
        mounted.extend((!was_mounted).then_some(dir));
        Ok(())
    };
    let ready = args.mount.iter().try_for_each(|text| mount(text));
    let status = ready.and_then(|()| command.status().context(|| "run \"hoy-storage\""));
    for dir in mounted {
        context.tools.storage(["umount", dir.id().as_str()]).context(|| format!("unmount \"{}\"", dir.id()))?;
    }
    let code = status?.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(FAILED)))
}

/// Where a container's root is mounted; empty where it is not.
pub(crate) fn mount_point(context: &Context, dir: &ContainerDir) -> Result<String> {
    let mounted = context.tools.storage(["mount"])?;
    let mut lines = mounted.lines().filter_map(|line| line.split_once(' '));
    let own = lines.find(|(id, _)| *id == dir.id().as_str());
    Ok(own.map(|(_, path)| path.to_owned()).unwrap_or_default())
}

pub(crate) fn umount(context: &Context, args: &SomeArgs) -> Result<ExitCode> {
    each(context, args, "unmounting", |id| context.tools.storage(["umount", id]).map(drop))
}

pub(crate) fn rm(context: &Context, args: &SomeArgs) -> Result<ExitCode> {
    each(context, args, "removing", |id| context.tools.storage(["rm", id]).map(drop))
}

/// Does something to each container and prints its id; goes on after a failure.
fn each(
    context: &Context,
    args: &SomeArgs,
    doing: &str,
    act: impl Fn(&str) -> hoy_build::Result<()>,
) -> Result<ExitCode> {
    let store = context.store()?;
    let dirs: Vec<(String, hoy_build::Result<ContainerDir>)> = if args.all {
        all(&store)?.into_iter().map(|dir| (dir.id().to_string(), Ok(dir))).collect()
    } else {
        args.containers.iter().map(|text| (text.clone(), Working::find_directory(&store, text))).collect()
    };
    let mut failed = None;
    for (text, dir) in dirs {
        match dir.and_then(|dir| act(dir.id().as_str()).map(|()| dir)) {
            Ok(dir) => print_line(dir.id())?,
            Err(error) => {
                let error = match error {
                    hoy_build::Error::Layout(unknown) if unknown.is_not_found() => {
                        Err(Error::msg(format!("{doing} container {unknown}")))
                    }
                    other => Err(other).context(|| format!("{doing} container \"{text}\"")),
                };
                if let Some(Err(earlier)) = failed.replace(error) {
                    say_earlier(&earlier);
                }
            }
        }
    }
    failed.unwrap_or(Ok(ExitCode::SUCCESS))
}

/// All working containers.
fn all(store: &Store) -> Result<Vec<ContainerDir>> {
    Ok(store.all_containers()?.into_iter().filter(Working::is_in).collect())
}

pub(crate) fn rename(context: &Context, args: &RenameArgs) -> Result<ExitCode> {
    let doing = || format!("rename \"{}\"", args.container);
    let (dir, _) = Working::find(&context.store()?, &args.container).context(doing)?;
    if dir.container()?.name == args.name {
        return Err(Error::msg("renaming a container with the same name as its current name"));
    }
    context.tools.storage(["rename", dir.id().as_str(), &args.name]).context(doing)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn config(context: &Context, args: &ConfigArgs) -> Result<ExitCode> {
    let store = context.store()?;
    let doing = || format!("configure \"{}\"", args.container);
    let (dir, _) = Working::find(&store, &args.container).context(doing)?;
    let environment = |name: &str| std::env::var(name).ok();
    Working::edit(&dir, |working| apply(working, &args.settings, environment, args.history.add_history))
        .context(doing)?;
    Ok(ExitCode::SUCCESS)
}
