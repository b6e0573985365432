//! Copies every tag of a repository into an OCI layout, and says what moved: `mirror HOST REPOSITORY DIRECTORY`.

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};

use hoy_oci::{Descriptor, Reference};
use hoy_registry::{Options, Registry, Tls};
use hoy_transport::{CopyOptions, DockerSource, LayoutDestination, MultiArch, Observer, Outcome, copy};

/// Counts the bytes that travel.
#[derive(Default)]
struct Counter(AtomicU64);

impl Observer for Counter {
    fn begin(&self, _: &Descriptor) {}

    fn advance(&self, _: &Descriptor, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    fn end(&self, _: &Descriptor, _: Outcome) {}

    fn manifest(&self, _: &Descriptor) {}
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [host, repository, directory] = arguments.as_slice() else {
        return Err("usage: mirror HOST REPOSITORY DIRECTORY".into());
    };
    let mut options = Options::default();
    // On this machine a registry may do without certificates.
    options.tls = Tls { verify: !host.starts_with("127.0.0.1:"), ..Tls::default() };
    let registry = Registry::new(host, options);
    let how = CopyOptions { multi_arch: MultiArch::All, preserve_digests: true, ..CopyOptions::default() };
    for tag in registry.tags(repository)? {
        let reference = Reference::parse(&format!("{host}/{repository}:{tag}"))?;
        let source = DockerSource::new(registry.clone(), reference);
        let destination = LayoutDestination::create(directory.into(), Some(&tag), None)?;
        let counter = Counter::default();
        let copied = copy(&source, &destination, &how, &counter)?;
        println!("{tag} {} {}", copied.descriptor.digest, counter.0.load(Ordering::Relaxed));
    }
    Ok(())
}
