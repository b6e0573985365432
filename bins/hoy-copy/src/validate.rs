//! `hoy-copy validate`.

use std::io;

use hoy_cli::{Context, Error, Result, print_line};
use hoy_oci::{Descriptor, Document as Parsed, ImageConfig, Index, Manifest, VerifyingReader};
use hoy_transport::{Document, Source, read_small};

use crate::args::Global;
use crate::look::open;
use crate::look_args::ValidateArgs;

/// Indexes within indexes: more levels than anybody has.
const MAX_DEPTH: usize = 4;

/// Checks an image, or all images of an index; the first thing that is wrong ends it.
pub(crate) fn run(global: &Global, args: ValidateArgs) -> Result<()> {
    let source = open(global, &args.image, args.reach)?;
    let root = source.root()?;
    check(&*source, &root, args.fast, 0).context(|| format!("FAIL: {}", args.image))?;
    print_line(format!("PASS: {}", args.image))
}

fn check(source: &dyn Source, document: &Document, fast: bool, depth: usize) -> Result<()> {
    let digest = document.descriptor.digest;
    match Parsed::parse(&document.descriptor.media_type, &document.bytes).context(|| format!("manifest {digest}"))? {
        Parsed::Manifest(manifest) => image(source, &manifest, fast).context(|| format!("manifest {digest}")),
        Parsed::Index(_) if depth == MAX_DEPTH => Err(Error::msg("it has indexes within indexes without end")),
        Parsed::Index(index) => members(source, &index, fast, depth),
    }
}

fn members(source: &dyn Source, index: &Index, fast: bool, depth: usize) -> Result<()> {
    for member in &index.manifests {
        let bytes = source.manifest(member)?;
        let mut content = VerifyingReader::new(bytes.as_slice(), member);
        io::copy(&mut content, &mut io::sink()).context(|| format!("manifest {}", member.digest))?;
        check(source, &Document { descriptor: member.clone(), bytes }, fast, depth + 1)?;
    }
    Ok(())
}

fn image(source: &dyn Source, manifest: &Manifest, fast: bool) -> Result<()> {
    let config =
        read_small(source, &manifest.config).context(|| format!("configuration {}", manifest.config.digest))?;
    if !manifest.config.media_type.is_image_config() {
        // An artifact: its blobs are what they are.
        return manifest.layers.iter().filter(|_| !fast).try_for_each(|layer| blob(source, layer));
    }
    let config = ImageConfig::parse(&config)?;
    let (layers, diff_ids) = (&manifest.layers, &config.rootfs.diff_ids);
    if layers.len() != diff_ids.len() {
        let text = format!("it has {} layers where its configuration names {}", layers.len(), diff_ids.len());
        return Err(Error::msg(text));
    }
    for (layer, diff_id) in layers.iter().zip(diff_ids).filter(|_| !fast) {
        if hoy_crypt::plain_type(&layer.media_type).is_some() {
            // Nobody sees into it without a key.
            blob(source, layer)?;
            continue;
        }
        let doing = || format!("layer {}", layer.digest);
        let actual = hoy_transport::diff_id(source, layer).context(doing)?;
        if actual != *diff_id {
            return Err(Error::msg(format!("its tar has digest {actual}, wanted diff ID {diff_id}"))).context(doing);
        }
    }
    Ok(())
}

fn blob(source: &dyn Source, blob: &Descriptor) -> Result<()> {
    let mut content = VerifyingReader::new(source.blob(blob, 0)?, blob);
    io::copy(&mut content, &mut io::sink()).context(|| format!("blob {}", blob.digest))?;
    Ok(())
}
