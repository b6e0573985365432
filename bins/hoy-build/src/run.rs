//! `run`: a command in a working container, and what it has besides.

use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use hoy_build::{Isolation, RunOptions, Volumes, Working};
use hoy_cli::{Context as _, Error, Result, name_and_words};
use hoy_layout::ContainerDir;
use hoy_oci::IdMaps;
use hoy_spec::Options;
use hoy_sys::path::open_in_root;
use hoy_sys::rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid, chownat, mkdirat};
use hoy_sys::rustix::io::Errno;

use crate::args::RunArgs;
use crate::build::input::Temporary;
use crate::context::{Context, warn};
use crate::isolation::{keep_for_chroot, refuse_for_chroot};
use crate::mounts_conf;
use crate::run_mounts::RunMounts;
use crate::surroundings::{Surroundings, Told, network};

pub(crate) fn run(context: &Context, mut args: RunArgs) -> Result<ExitCode> {
    let store = context.store()?;
    let (container, command) = name_and_words(std::mem::take(&mut args.container_and_command));
    let doing = || format!("run in \"{container}\"");
    if command.is_empty() {
        let error = Error::msg("command must be specified").with_hint("it is never the image's own Entrypoint and Cmd");
        return Err(error).context(doing);
    }
    let (dir, working) = Working::find(&store, &container).context(doing)?;
    let mut own = Surroundings::of(&working).context(doing)?;
    own.network = args.network.clone().or(own.network);
    let isolation = context.isolation(args.isolation.as_deref().or(own.isolation.as_deref()))?;
    if isolation == Isolation::Oci {
        context.enter_namespaces(dir.id())?;
    }
    let (files, container) = (Temporary::new(store.root())?, dir.container()?);
    let ids = container.id_maps.as_ref();
    let cgroup_parent = own.cgroup_parent.clone().map(|parent| context.cgroup_parent(parent));
    let mut create = options(&args, &own)?;
    create.defaults = context.containers_conf()?.defaults();
    let (mut runtime, mut runtime_flags) = (args.may.runtime.clone(), args.may.runtime_flags(context));
    let mut mounts = Vec::new();
    if isolation == Isolation::Chroot {
        if own.has_files() || cgroup_parent.is_some() {
            let text = "options --add-host, --dns and --cgroup-parent of from cannot be had with --isolation chroot";
            return Err(Error::msg(text));
        }
        refuse_for_chroot(&create, own.network.as_deref(), ids.is_some())?;
        keep_for_chroot(&mut create.defaults);
        let (program, action) = Isolation::IN_ROOT;
        (runtime, runtime_flags) = (program.to_owned(), vec![action.to_owned()]);
    } else {
        let hostname = args.hostname.as_deref();
        mounts = own.files(files.path(), &Told { hostname, container: &container, working: &working })?;
        let shown = mounts_conf::read(context.mounts_file.as_deref().or(own.mounts_file.as_deref()))?;
        create.defaults.volumes.extend(mounts_conf::volumes(&shown, files.path()).context(doing)?);
    }
    let volumes = Volumes::take(&mut create.volume).context(doing)?;
    prepare(context, &dir, &working, &volumes, (create.user.as_deref(), ids)).context(doing)?;
    mounts.extend(volumes.overlays(files.path(), ids.is_some()).context(doing)?);
    let more = RunMounts::take(context, &store, &mut create.mount, (&working, ids), files.path()).context(doing)?;
    mounts.extend(more.mounts.iter().cloned());
    let options =
        RunOptions { create, runtime, runtime_flags, mounts, cgroup_parent, no_hosts: false, bundles: None, isolation };
    let ended = hoy_build::run(&store, &context.tools, &dir, &working, &command, &options, warn).context(doing);
    more.close(context)?;
    let code = ended?;
    if args.history.add_history && code == 0 {
        let step = format!("/bin/sh -c {}", command.join(" "));
        Working::edit(&dir, |working| {
            working.created_by = Some(step);
            Ok(())
        })?;
    }
    let is_valid = args.valid_exit_codes.contains(&code);
    Ok(ExitCode::from(if is_valid { 0 } else { code }))
}

/// What the command is to have, by this command line and by that of `from`.
fn options(args: &RunArgs, own: &Surroundings) -> Result<Options> {
    let mut create = Options {
        env: args.env.clone(),
        user: args.user.clone(),
        workdir: args.workingdir.clone(),
        tty: args.tty.unwrap_or_else(|| std::io::stdin().is_terminal()),
        is_build: true,
        cap_add: args.may.cap_add.clone(),
        cap_drop: args.may.cap_drop.clone(),
        volume: args.may.volume.clone(),
        mount: args.mount.clone(),
        device: args.may.device.clone(),
        cdi_directories: args.may.cdi_config_dir.clone(),
        hostname: args.hostname.clone(),
        ..Options::default()
    };
    if own.http_proxy != Some(false) {
        let proxies = hoy_build::PREDEFINED.iter();
        let proxies = proxies.filter_map(|name| Some(format!("{name}={}", std::env::var(name).ok()?)));
        create.env = proxies.chain(std::mem::take(&mut create.env)).collect();
    }
    args.namespaces.clone().or(own.namespaces.clone()).add_to(&mut create);
    own.clone().add_to(&mut create);
    create.network = Some(network(own.network.as_deref().unwrap_or("none"))?);
    Ok(create)
}

/// Gives away what has new owners, and makes the directories that the image calls volumes.
fn prepare(
    context: &Context,
    dir: &ContainerDir,
    working: &Working,
    volumes: &Volumes,
    (user, ids): (Option<&str>, Option<&IdMaps>),
) -> Result<()> {
    let config = &working.config.config;
    if !volumes.have_new_owners() && config.volumes.is_empty() {
        return Ok(());
    }
    let root = context.tools.mount(dir.id().as_str())?;
    let root = File::open(&root).context(|| format!("open \"{}\"", root.display()))?;
    if volumes.have_new_owners() {
        volumes.give(root.as_fd(), user.unwrap_or(&config.user), ids)?;
    }
    config.volumes.keys().try_for_each(|volume| make_directories(&root, volume, ids))
}

/// Makes the directory that the image calls a volume, and those above it, as far as they are missing.
fn make_directories(root: &File, volume: &str, ids: Option<&IdMaps>) -> Result<()> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let mut made = PathBuf::from("/");
    for part in Path::new(volume).components() {
        let name = match part {
            Component::Normal(name) => name,
            Component::ParentDir => return Ok(()),
            _ => continue,
        };
        let parent = open_in_root(root, &made, flags | OFlags::DIRECTORY, Mode::empty())?;
        made.push(name);
        match open_in_root(root, &made, flags, Mode::empty()) {
            Err(error) if error.errno == Errno::NOENT => {
                match mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
                    // A link that leads nowhere stays as it is.
                    Err(Errno::EXIST) => return Ok(()),
                    made_it => made_it.context(|| format!("make \"{}\"", made.display()))?,
                }
                if let Some((uid, gid)) = ids.and_then(|ids| ids.host_uid(0).zip(ids.host_gid(0))) {
                    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
                    chownat(&parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
                }
            }
            found => drop(found?),
        }
    }
    Ok(())
}
