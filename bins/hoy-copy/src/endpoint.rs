//! Opening the two ends of a copy.

use std::path::PathBuf;

use hoy_cli::Result;
use hoy_layout::{Roots, Store};
use hoy_oci::{Platform, Reference};
use hoy_transport::{
    Destination, DockerDestination, DockerSource, ImageName, LayoutDestination, LayoutSource, Source, StoreDestination,
};

use crate::access::Access;
use crate::args::Global;

/// The store of whoever runs this.
pub(crate) fn store(global: &Global) -> Result<Store> {
    let uid = hoy_sys::rustix::process::geteuid().as_raw();
    let env = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let mut roots = Roots::from_env(env, uid, hoy_sys::user::is_initial_root());
    roots.root = global.root.clone().unwrap_or(roots.root);
    roots.runroot = global.runroot.clone().unwrap_or(roots.runroot);
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
        other => return Err(hoy_cli::Error::msg(format!("{other} cannot be read"))),
    })
}

/// Opens an image for writing.
pub(crate) fn destination(
    global: &Global,
    name: &ImageName,
    access: &Access,
    retries: u32,
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
        other => return Err(hoy_cli::Error::msg(format!("{other} cannot be written"))),
    })
}
