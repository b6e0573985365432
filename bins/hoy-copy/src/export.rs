//! `hoy-copy export`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use hoy_cli::{Context, Result, Stdout};
use hoy_oci::Descriptor;
use hoy_transport::{Edited, NewLayer, Source, flatten};

use crate::args::Global;
use crate::endpoint;
use crate::look::{one_image, open, parse};
use crate::look_args::ExportArgs;

/// Writes what a container of the image would see, as one tar.
pub(crate) fn run(global: &Global, args: ExportArgs) -> Result<()> {
    let source = open(global, &args.image, args.reach)?;
    let document = one_image(global, &*source, args.platform.as_ref())?;
    let layers = parse(&*source, &document)?.layers;
    if args.file == Path::new("-") {
        let mut output = BufWriter::with_capacity(128 << 10, Stdout::new());
        flat(global, &*source, &layers, &mut output)?;
        return Ok(output.flush()?);
    }
    let doing = || format!("write \"{}\"", args.file.display());
    let mut output = BufWriter::with_capacity(128 << 10, File::create(&args.file).context(doing)?);
    flat(global, &*source, &layers, &mut output)?;
    output.flush().context(doing)
}

/// Writes the layers as one tar. Those of a registry are fetched into a file first, as they are read twice.
pub(crate) fn flat(global: &Global, source: &dyn Source, layers: &[Descriptor], output: &mut dyn Write) -> Result<()> {
    if source.repository().is_none() {
        return Ok(flatten(source, layers, output)?);
    }
    let mut near = Edited::new(vec![source], source.root()?);
    for layer in layers {
        near = near.with_layer(NewLayer::fetch(source, layer, &endpoint::spool(global))?);
    }
    Ok(flatten(&near, layers, output)?)
}
