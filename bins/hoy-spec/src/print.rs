//! From the command line to the configuration on standard output.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use hoy_cli::{Context, Error, Result, Stdout};
use hoy_layout::{Image, Roots, Store};
use hoy_oci::{ContainerConfig, IdMapping, IdMaps, ImageConfig};
use hoy_spec::{Host, Request, Users, generate};

use crate::args::Args;

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let (image, layers) = image(args)?;
    let users = match &args.rootfs {
        Some(root) => users_in(root)?,
        None => users_of_layers(&layers)?,
    };
    let host = Host::current();
    let options = &args.options;
    let ids = ids(args)?;
    let mode = options.user_namespace_mode();
    let made = generate(&Request {
        image: &image,
        options,
        command: &args.command,
        users: &users,
        host: &host,
        ids: ids.as_ref(),
        user_namespace: (mode.0 == "ns").then_some(mode.1),
        hostname: "hoy",
        mounts: &[],
    })?;
    for warning in &made.warnings {
        writeln!(std::io::stderr(), "hoy-spec: {warning}")?;
    }
    let mut text = serde_json::to_vec_pretty(&made.config)?;
    text.push(b'\n');
    Stdout::new().write_all(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The image's defaults, and where its layers are unpacked, lowest first.
fn image(args: &Args) -> Result<(ContainerConfig, Vec<PathBuf>)> {
    let name = args.image.as_str();
    if name == "-" || name.ends_with(".json") {
        let mut bytes = Vec::new();
        match name {
            "-" => std::io::stdin().read_to_end(&mut bytes).context(|| "read standard input")?,
            path => File::open(path)
                .and_then(|mut file| file.read_to_end(&mut bytes))
                .context(|| format!("read \"{path}\""))?,
        };
        let config = ImageConfig::parse(&bytes).context(|| format!("read \"{name}\""))?;
        return Ok((config.config, Vec::new()));
    }
    let store = open_store(args)?;
    let (_, Image { config, .. }) = store.image(name)?;
    let layers = config.rootfs.diff_ids.iter().map(|id| store.layer(id)).collect();
    Ok((config.config, layers))
}

/// The ids of a user namespace: those that a container was given, or those that options list.
fn ids(args: &Args) -> Result<Option<IdMaps>> {
    let options = &args.options;
    if let Some(text) = &args.container {
        let store = open_store(args)?;
        return Ok(store.find_container(text)?.container()?.id_maps);
    }
    let has_names = options.subuidname.is_some() || options.subgidname.is_some();
    if has_names || !matches!(options.user_namespace_mode().0, "" | "host" | "private" | "ns") {
        let error = Error::msg("which ids these options mean is decided when the container is made");
        return Err(error.with_hint("give them to \"hoy-storage create\", and name that container with --container"));
    }
    let parse = |texts: &[String]| texts.iter().map(|text| IdMapping::parse(text)).collect::<hoy_oci::Result<Vec<_>>>();
    let (mut uids, mut gids) = (parse(&options.uidmap)?, parse(&options.gidmap)?);
    if uids.is_empty() {
        uids.clone_from(&gids);
    } else if gids.is_empty() {
        gids.clone_from(&uids);
    }
    let maps = IdMaps { uid_mappings: uids, gid_mappings: gids };
    maps.check()?;
    Ok(Some(maps).filter(|maps| !maps.uid_mappings.is_empty()))
}

fn open_store(args: &Args) -> Result<Store> {
    let uid = hoy_sys::rustix::process::getuid().as_raw();
    let env = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let roots = Roots::from_env(env, uid, hoy_sys::user::is_initial_root());
    let mut roots = roots.with(args.root.as_deref(), args.runroot.as_deref(), &args.additional_store)?;
    for problem in roots.leave_out_unreadable() {
        writeln!(std::io::stderr(), "hoy-spec: warning: {}", hoy_cli::Error::from(problem))?;
    }
    Ok(Store::open_or_create(&roots)?)
}

fn users_in(root: &Path) -> Result<Users> {
    let opened = File::open(root).context(|| format!("open \"{}\"", root.display()))?;
    Users::read(opened.as_fd()).context(|| format!("look for users in \"{}\"", root.display()))
}

/// The users of the uppermost layer that has any: without `--rootfs` nothing is mounted.
fn users_of_layers(layers: &[PathBuf]) -> Result<Users> {
    if layers.iter().any(|layer| !layer.is_dir()) {
        let error = Error::msg("the image's users are not known before its layers are unpacked");
        return Err(error.with_hint("name its root file system with --rootfs DIR"));
    }
    let with_users = layers.iter().rev().find(|layer| layer.join("etc/passwd").symlink_metadata().is_ok());
    with_users.map_or(Ok(Users::default()), |layer| users_in(layer))
}
