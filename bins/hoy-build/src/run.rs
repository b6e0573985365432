//! `run`: a command in a working container, and what it has besides.

use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use hoy_build::{Isolation, RunOptions, Working};
use hoy_cli::{Context as _, Error, Result, name_and_words};
use hoy_oci::IdMaps;
use hoy_spec::{Options, Users};
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
use crate::volumes::Volumes;

pub(crate) fn run(context: &Context, args: RunArgs) -> Result<ExitCode> {
    let store = context.store()?;
    let (container, command) = name_and_words(args.container_and_command);
    let doing = || format!("run in \"{container}\"");
    let (dir, working) = Working::find(&store, &container).context(doing)?;
    let own = Surroundings::of(&working).context(doing)?;
    let isolation = context.isolation(args.isolation.as_deref().or(own.isolation.as_deref()))?;
    if isolation == Isolation::Oci {
        context.enter_namespaces(dir.id())?;
    }
    let files = Temporary::new(store.root())?;
    let mut mounts = match isolation {
        Isolation::Oci => {
            let network = args.network.as_deref().or(own.network.as_deref());
            let (hostname, container) = (args.hostname.as_deref(), &dir.container()?);
            own.files(files.path(), &Told { hostname, network, container, working: &working })?
        }
        Isolation::Chroot if own.has_files() => {
            return Err(Error::msg("options --add-host and --dns of from cannot be had with --isolation chroot"));
        }
        Isolation::Chroot => Vec::new(),
    };
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
        network: args.network.clone(),
        ..Options::default()
    };
    if own.http_proxy != Some(false) {
        let proxies = hoy_build::PREDEFINED.iter();
        let proxies = proxies.filter_map(|name| Some(format!("{name}={}", std::env::var(name).ok()?)));
        create.env = proxies.chain(std::mem::take(&mut create.env)).collect();
    }
    args.namespaces.or(own.namespaces.clone()).add_to(&mut create);
    let mounts_file = context.mounts_file.clone().or(own.mounts_file.clone());
    let cgroup_parent = own.cgroup_parent.clone().map(|parent| context.cgroup_parent(parent));
    if isolation == Isolation::Chroot && cgroup_parent.is_some() {
        return Err(Error::msg("option --cgroup-parent of from cannot be had with --isolation chroot"));
    }
    own.add_to(&mut create);
    let asked = create.network.take();
    create.network = Some(network(asked.as_deref().unwrap_or("none"))?);
    let (mut runtime, mut runtime_flags) = (args.may.runtime.clone(), args.may.runtime_flags(context));
    create.defaults = context.containers_conf()?.defaults();
    create
        .defaults
        .volumes
        .extend(mounts_conf::volumes(&mounts_conf::read(mounts_file.as_deref())?, files.path()).context(doing)?);
    if isolation == Isolation::Chroot {
        refuse_for_chroot(&create, asked.as_deref(), dir.container()?.id_maps.is_some())?;
        keep_for_chroot(&mut create.defaults);
        let (program, action) = Isolation::IN_ROOT;
        (runtime, runtime_flags) = (program.to_owned(), vec![action.to_owned()]);
    }
    let ids = dir.container()?.id_maps;
    let volumes = Volumes::take(&mut create.volume).context(doing)?;
    let declared = &working.config.config.volumes;
    if volumes.have_new_owners() || !declared.is_empty() {
        let root = context.tools.mount(dir.id().as_str())?;
        let root = File::open(&root).context(|| format!("open \"{}\"", root.display()))?;
        let user = Users::read(root.as_fd())?;
        let user = user.find(create.user.as_deref().unwrap_or(&working.config.config.user))?;
        volumes.give(&user, ids.as_ref()).context(doing)?;
        let make = |volume: &String| make_directories(&root, volume, ids.as_ref());
        declared.keys().try_for_each(make).context(doing)?;
    }
    mounts.extend(volumes.overlays(files.path(), ids.is_some()).context(doing)?);
    let more = RunMounts::take(context, &store, &mut create.mount, (&working, ids.as_ref()), files.path());
    let more = more.context(doing)?;
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
                mkdirat(&parent, name, Mode::from_raw_mode(0o755))
                    .context(|| format!("make \"{}\"", made.display()))?;
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
