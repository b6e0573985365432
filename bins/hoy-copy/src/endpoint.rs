//! Opening the two ends of a copy.

use std::io::Write;
use std::path::{Path, PathBuf};

use hoy_cli::{Error, Result};
use hoy_layout::{Roots, Store};
use hoy_oci::{Platform, Reference};
use hoy_transport::{
    Destination, DirDestination, DirSource, DockerArchiveDestination, DockerArchiveSource, DockerDestination,
    DockerSource, ImageName, LayoutDestination, LayoutSource, OciArchiveDestination, OciArchiveSource, Source,
    StoreDestination,
};

use crate::access::Access;
use crate::args::Global;

/// The store of whoever runs this.
pub(crate) fn store(global: &Global) -> Result<Store> {
    let uid = hoy_sys::rustix::process::geteuid().as_raw();
    let env = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let roots = Roots::from_env(env, uid, hoy_sys::user::is_initial_root());
    let mut roots = roots.with(global.root.as_deref(), global.runroot.as_deref(), &global.additional_store)?;
    for problem in roots.leave_out_unreadable() {
        writeln!(std::io::stderr(), "hoy-copy: warning: {}", hoy_cli::Error::from(problem))?;
    }
    Ok(Store::open_or_create(&roots)?)
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
pub(crate) fn spool() -> PathBuf {
    let set = std::env::var_os("TMPDIR").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    set.unwrap_or_else(|| PathBuf::from("/var/tmp"))
}

/// Whether the image goes to standard output.
pub(crate) fn is_stdout(name: &ImageName) -> bool {
    let (ImageName::OciArchive { file, .. } | ImageName::DockerArchive { file, .. }) = name else { return false };
    file == Path::new("-")
}

/// Opens an image for reading.
pub(crate) fn source(global: &Global, name: &ImageName, access: &Access, retries: u32) -> Result<Box<dyn Source>> {
    Ok(match name {
        ImageName::Docker(reference) => {
            let registry = access.registry(reference.host(), Some(reference.repository()), retries, global.debug)?;
            Box::new(DockerSource::new(registry, reference.clone()))
        }
        ImageName::Oci { directory, reference } => {
            Box::new(LayoutSource::open(directory.clone(), reference.as_deref())?)
        }
        ImageName::Store(name) => Box::new(LayoutSource::in_store(&store(global)?, name)?),
        ImageName::OciArchive { file, reference } => {
            Box::new(OciArchiveSource::open(file, reference.as_deref(), &spool())?)
        }
        ImageName::DockerArchive { file, reference, index } => {
            Box::new(DockerArchiveSource::open(file, reference.as_ref(), *index, &spool())?)
        }
        ImageName::Dir(directory) => Box::new(DirSource::open(directory.clone())),
        other => return Err(Error::msg(format!("{other} cannot be read"))),
    })
}

/// Opens an image for writing.
pub(crate) fn destination(
    global: &Global,
    name: &ImageName,
    access: &Access,
    retries: u32,
    additional_tags: &[Reference],
) -> Result<Box<dyn Destination>> {
    Ok(match name {
        ImageName::Docker(reference) => {
            let registry = access.registry(reference.host(), Some(reference.repository()), retries, global.debug)?;
            Box::new(DockerDestination::new(registry, reference.clone()))
        }
        ImageName::Oci { directory, reference } => {
            Box::new(LayoutDestination::create(directory.clone(), reference.as_deref())?)
        }
        ImageName::Store(name) => {
            let full = Reference::parse_local(name)?.to_string();
            Box::new(StoreDestination::create(&store(global)?, &full)?)
        }
        ImageName::OciArchive { file, reference } => {
            Box::new(OciArchiveDestination::create(file, reference.as_deref(), &spool())?)
        }
        ImageName::DockerArchive { index: Some(_), .. } => {
            return Err(Error::msg("a number names no image to be written: give it a name").with_code(2));
        }
        ImageName::DockerArchive { file, reference, .. } => {
            let tags: Vec<Reference> = reference.iter().chain(additional_tags).cloned().collect();
            Box::new(DockerArchiveDestination::create(file, &tags, &spool())?)
        }
        ImageName::Dir(directory) => Box::new(DirDestination::create(directory.clone())?),
        other => return Err(Error::msg(format!("{other} cannot be written"))),
    })
}
