//! Opening the two ends of a copy.

use std::io::Write;
use std::path::{Path, PathBuf};

use hoy_cli::{Error, Result};
use hoy_layout::{Roots, Store};
use hoy_oci::{Platform, Reference};
use hoy_registry::Retry;
use hoy_transport::{
    DaemonHost, Destination, DirDestination, DirSource, DockerArchiveDestination, DockerArchiveSource,
    DockerDestination, DockerSource, ImageName, LayoutDestination, LayoutSource, OciArchiveDestination,
    OciArchiveSource, Pick, Source, StoreDestination, TarballSource,
};

use crate::access::Access;
use crate::args::Global;

/// The store of whoever runs this, or the one at the places that a name gives.
pub(crate) fn store(global: &Global, root: Option<&Path>, runroot: Option<&Path>) -> Result<Store> {
    let uid = hoy_sys::rustix::process::geteuid().as_raw();
    let env = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let root = root.or(global.root.as_deref());
    let runroot = runroot.or(global.runroot.as_deref());
    let roots = Roots::from_env(env, uid, hoy_sys::user::is_initial_root());
    let mut roots = roots.with(root, runroot, &global.additional_store)?;
    for problem in roots.leave_out_unreadable() {
        writeln!(std::io::stderr(), "hoy-copy: warning: {}", hoy_cli::Error::from(problem))?;
    }
    Ok(Store::open_or_create(&roots)?.telling(|error| hoy_cli::warn_of_damage_once("hoy-copy", error)))
}

/// The platform that images are chosen for.
pub(crate) fn platform(global: &Global) -> Platform {
    let host = Platform::host();
    let architecture = global.override_arch.as_deref().unwrap_or(&host.architecture);
    // The host's variant says nothing about another processor.
    let same = architecture == host.architecture;
    let variant = global.override_variant.as_deref().or(host.variant.as_deref().filter(|_| same));
    Platform::new(global.override_os.as_deref().unwrap_or(&host.os), architecture, variant)
}

/// Where content is kept that comes through a pipe and is needed out of order.
pub(crate) fn spool(global: &Global) -> PathBuf {
    let set = || std::env::var_os("TMPDIR").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    global.tmpdir.clone().or_else(set).unwrap_or_else(|| PathBuf::from("/var/tmp"))
}

/// The Docker daemon that a flag, or the environment, or nobody names.
fn daemon(access: &Access) -> DaemonHost {
    let env = || std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
    let host = access.daemon_host.clone().or_else(env);
    DaemonHost::new(host.as_deref().unwrap_or(DaemonHost::DEFAULT))
}

/// Whether the image goes to standard output.
pub(crate) fn is_stdout(name: &ImageName) -> bool {
    let (ImageName::OciArchive { file, .. } | ImageName::DockerArchive { file, .. }) = name else { return false };
    file == Path::new("-")
}

/// Opens an image for reading.
pub(crate) fn source(global: &Global, name: &ImageName, access: &Access, retry: Retry) -> Result<Box<dyn Source>> {
    Ok(match name {
        ImageName::Docker(reference) => {
            Box::new(DockerSource::at(reference.clone(), access.to_read(global, reference, retry)?))
        }
        ImageName::Ssh { host, reference } => {
            let places = vec![(Access::behind_ssh(global, host), reference.clone())];
            Box::new(DockerSource::at(reference.clone(), places).called(&name.to_string()))
        }
        ImageName::Oci { directory, pick } => {
            Box::new(LayoutSource::open(directory.clone(), pick, access.shared_blob_dir.clone())?)
        }
        ImageName::Store { name, root, runroot } => {
            Box::new(LayoutSource::in_store(&store(global, root.as_deref(), runroot.as_deref())?, name)?)
        }
        ImageName::OciArchive { file, pick } => Box::new(OciArchiveSource::open(file, pick, &spool(global))?),
        ImageName::DockerArchive { file, reference, index } => {
            Box::new(DockerArchiveSource::open(file, reference.as_ref(), *index, &spool(global))?)
        }
        ImageName::Dir(directory) => Box::new(DirSource::open(directory.clone())),
        ImageName::DockerDaemon(name) => Box::new(daemon(access).open(name, &spool(global))?),
        ImageName::Tarball(files) => Box::new(TarballSource::open(files, &platform(global), &spool(global))?),
        other => return Err(Error::msg(format!("{other} cannot be read"))),
    })
}

/// Opens an image for writing.
pub(crate) fn destination(
    global: &Global,
    name: &ImageName,
    access: &Access,
    retry: Retry,
    additional_tags: &[Reference],
    precompute: bool,
) -> Result<Box<dyn Destination>> {
    let usage = |text: &str| Error::msg(text).with_code(2);
    let numbered = || usage("a number names no image to be written: give it a name");
    Ok(match name {
        ImageName::Docker(reference) => {
            let tags = additional_tags.iter().filter_map(|tag| tag.tag().map(str::to_owned)).collect();
            let registry = access.registry(global, reference, retry)?;
            let destination = DockerDestination::new(registry, reference.clone(), tags);
            Box::new(if precompute { destination.with_spool(spool(global)) } else { destination })
        }
        ImageName::Ssh { host, reference } => {
            let registry = Access::behind_ssh(global, host);
            Box::new(DockerDestination::new(registry, reference.clone(), Vec::new()).called(&name.to_string()))
        }
        ImageName::Oci { pick: Pick::At(_), .. } | ImageName::OciArchive { pick: Pick::At(_), .. } => {
            return Err(numbered());
        }
        ImageName::Oci { directory, pick } => {
            Box::new(LayoutDestination::create(directory.clone(), pick.name(), access.shared_blob_dir.clone())?)
        }
        ImageName::Store { name, root, runroot } => {
            let full = if name.is_empty() { None } else { Some(Reference::parse_local(name)?.to_string()) };
            Box::new(StoreDestination::create(&store(global, root.as_deref(), runroot.as_deref())?, full.as_deref())?)
        }
        ImageName::OciArchive { file, pick } => {
            Box::new(OciArchiveDestination::create(file, pick.name(), &spool(global))?)
        }
        ImageName::DockerArchive { index: Some(_), .. } => return Err(numbered()),
        ImageName::DockerArchive { file, reference, .. } => {
            let tags: Vec<Reference> = reference.iter().chain(additional_tags).cloned().collect();
            Box::new(DockerArchiveDestination::create(file, &tags, &spool(global))?)
        }
        ImageName::Dir(directory) => Box::new(DirDestination::create(directory.clone())?),
        ImageName::DockerDaemon(name) => Box::new(daemon(access).create(name, &spool(global))?),
        ImageName::Tarball(_) => return Err(usage("tarball: is for reading")),
        other => return Err(Error::msg(format!("{other} cannot be written"))),
    })
}
