//! `hoy-copy manifest-digest`.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use hoy_cli::{Context, Error, Result, print_line};
use hoy_oci::{Digest, Document, MAX_DOCUMENT_BYTES};

use crate::args::ManifestDigestArgs;

/// Prints the digest that a manifest in a file has.
pub(crate) fn run(args: ManifestDigestArgs) -> Result<()> {
    let doing = || format!("read manifest \"{}\"", args.manifest.display());
    let input: Box<dyn Read> = match args.manifest.as_path() {
        path if path == Path::new("-") => Box::new(std::io::stdin()),
        path => Box::new(File::open(path).context(doing)?),
    };
    let mut bytes = Vec::new();
    input.take(MAX_DOCUMENT_BYTES + 1).read_to_end(&mut bytes).context(doing)?;
    let media_type = Document::guess_media_type(&bytes).context(doing)?;
    if media_type.as_str().starts_with("application/vnd.docker.distribution.manifest.v1+") {
        return Err(Error::from(hoy_registry::Error::Schema1)).context(doing);
    }
    Document::parse(&media_type, &bytes).context(doing)?;
    print_line(Digest::of(&bytes))
}
