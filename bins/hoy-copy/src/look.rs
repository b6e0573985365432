//! `hoy-copy digest`, `manifest`, `config`, `layers`, `blob`, `catalog`: one thing of an image, and nothing else.

use std::io::{Read, Write};

use hoy_cli::{Error, Result, Stdout, print_line};
use hoy_oci::{Descriptor, Document as Parsed, Manifest, MediaType, Platform, Reference, VerifyingReader};
use hoy_transport::{Document, ImageName, Source, read_small, select};

use crate::access::Access;
use crate::args::Global;
use crate::inspect::write_bytes;
use crate::look_args::{BlobArgs, CatalogArgs, LookArgs, Reach};
use crate::{endpoint, names};

impl Reach {
    /// How it is reached, and how often that is tried.
    pub(crate) fn split(self) -> (Access, hoy_registry::Retry) {
        (self.place.add_to(self.access.access(None)), self.retry.into())
    }
}

/// Opens an image for reading.
pub(crate) fn open(global: &Global, image: &str, reach: Reach) -> Result<Box<dyn Source>> {
    let (access, retry) = reach.split();
    endpoint::source(global, &names::to_read(global, image, &access, retry)?, &access, retry)
}

/// The manifest for a platform, or what the name points to.
pub(crate) fn document(source: &dyn Source, platform: Option<&Platform>) -> Result<Document> {
    Ok(match platform {
        Some(platform) => select(source, platform)?,
        None => source.root()?,
    })
}

/// The manifest of one image: for the platform asked for, or this machine's.
pub(crate) fn one_image(global: &Global, source: &dyn Source, platform: Option<&Platform>) -> Result<Document> {
    Ok(select(source, platform.unwrap_or(&endpoint::platform(global)))?)
}

/// A document as a manifest of one image.
pub(crate) fn parse(source: &dyn Source, document: &Document) -> Result<Manifest> {
    match Parsed::parse(&document.descriptor.media_type, &document.bytes)? {
        Parsed::Manifest(manifest) => Ok(manifest),
        Parsed::Index(_) => Err(Error::msg(format!("{} is an index of indexes", source.name()))),
    }
}

pub(crate) fn digest(global: &Global, args: LookArgs) -> Result<()> {
    let source = open(global, &args.image, args.reach)?;
    print_line(document(&*source, args.platform.as_ref())?.descriptor.digest)
}

pub(crate) fn manifest(global: &Global, args: LookArgs) -> Result<()> {
    let source = open(global, &args.image, args.reach)?;
    write_bytes(&document(&*source, args.platform.as_ref())?.bytes)
}

pub(crate) fn config(global: &Global, args: LookArgs) -> Result<()> {
    let source = open(global, &args.image, args.reach)?;
    let manifest = parse(&*source, &one_image(global, &*source, args.platform.as_ref())?)?;
    write_bytes(&read_small(&*source, &manifest.config)?)
}

pub(crate) fn layers(global: &Global, args: LookArgs) -> Result<()> {
    let source = open(global, &args.image, args.reach)?;
    let manifest = parse(&*source, &one_image(global, &*source, args.platform.as_ref())?)?;
    let mut lines = manifest.layers.iter().map(|layer| format!("{} {} {}", layer.digest, layer.size, layer.media_type));
    lines.try_for_each(print_line)
}

pub(crate) fn blob(global: &Global, args: BlobArgs) -> Result<()> {
    let (access, retry) = args.reach.split();
    let name = names::to_read(global, &args.image, &access, retry)?;
    if let (ImageName::Docker(reference), None) = (&name, args.digest)
        && let Some(digest) = reference.digest()
    {
        let registry = access.registry(global, reference, retry)?;
        let size = registry.blob_size(reference.repository(), digest)?;
        let size = size.ok_or_else(|| Error::msg(format!("\"{reference}\": the registry has no such blob")))?;
        let descriptor = Descriptor::new(MediaType::from("application/octet-stream"), *digest, size);
        return pour(VerifyingReader::new(registry.blob(reference.repository(), &descriptor, 0)?, &descriptor));
    }
    let Some(digest) = args.digest else {
        return Err(Error::msg("which blob: repository@digest, or an image and a digest").with_code(2));
    };
    let source = endpoint::source(global, &name, &access, retry)?;
    let manifest = parse(&*source, &one_image(global, &*source, None)?)?;
    let found = manifest.layers.iter().chain([&manifest.config]).find(|blob| blob.digest == digest);
    let found = found.ok_or_else(|| Error::msg(format!("{} has no blob {digest}", source.name())))?;
    pour(VerifyingReader::new(source.blob(found, 0)?, found))
}

fn pour(mut content: impl Read) -> Result<()> {
    let mut stdout = Stdout::new();
    std::io::copy(&mut content, &mut stdout)?;
    Ok(stdout.flush()?)
}

pub(crate) fn catalog(global: &Global, args: CatalogArgs) -> Result<()> {
    let host = args.registry.trim_end_matches('/');
    let any = Reference::parse(&format!("{host}/any")).map_err(|e| Error::from(e).with_code(2))?;
    let registry = args.access.access(None).registry(global, &any, args.retry.into())?;
    let prefix = if args.full_ref { format!("{host}/") } else { String::new() };
    registry.catalog()?.iter().try_for_each(|name| print_line(format!("{prefix}{name}")))
}
