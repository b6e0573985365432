//! `hoy-copy copy`.

use std::io;

use hoy_cli::{Context, Error, Progress, Result, print_line};
use hoy_oci::{Descriptor, LayerCompression, Reference};
use hoy_transport::{CopyOptions, Format, ImageName, LayerPolicy, Observer, Outcome};

use crate::args::{Compression, CopyArgs, Global, ManifestType, MultiArch};
use crate::endpoint;

/// Copies an image and prints the digest of what was written.
pub(crate) fn run(global: &Global, args: CopyArgs) -> Result<()> {
    let (from, to): (ImageName, ImageName) = (
        args.source.parse().map_err(|e| Error::from(e).with_code(2))?,
        args.destination.parse().map_err(|e| Error::from(e).with_code(2))?,
    );
    let retries = args.retry.retry_times;
    let options = CopyOptions {
        platform: endpoint::platform(global),
        multi_arch: match (args.all, args.multi_arch) {
            (true, _) | (_, Some(MultiArch::All)) => hoy_transport::MultiArch::All,
            (_, Some(MultiArch::IndexOnly)) => hoy_transport::MultiArch::IndexOnly,
            (_, Some(MultiArch::System) | None) => hoy_transport::MultiArch::System,
        },
        format: args.format.map(|format| match format {
            ManifestType::Oci => Format::Oci,
            ManifestType::V2s2 => Format::V2s2,
        }),
        layers: layers(&args),
        preserve_digests: args.preserve_digests,
        retries,
    };
    let source = endpoint::source(global, &from, &args.src.access(args.authfile.clone()), retries)?;
    let tags = additional_tags(&args.additional_tag, &to)?;
    let destination = endpoint::destination(global, &to, &args.dest.access(args.authfile), retries, &tags)?;
    let progress = Watcher(Progress::new(args.quiet));
    let copied = match hoy_transport::copy(&*source, &*destination, &options, &progress).map_err(Error::from) {
        Err(error) if endpoint::is_stdout(&to) && error.is(|e: &io::Error| e.kind() == io::ErrorKind::BrokenPipe) => {
            // Where the reader of the archive is gone this fails too, as a closed output that is no failure.
            print_line("")?;
            return Err(error);
        }
        other => other?,
    };
    let digest = copied.descriptor.digest.to_string();
    if let Some(path) = &args.digestfile {
        std::fs::write(path, &digest).context(|| format!("write \"{}\"", path.display()))?;
    }
    if endpoint::is_stdout(&to) { Ok(()) } else { print_line(digest) }
}

fn layers(args: &CopyArgs) -> LayerPolicy {
    match (args.dest_compress_format, args.dest_compress, args.dest_decompress) {
        (Some(Compression::Gzip), ..) => LayerPolicy::All(LayerCompression::Gzip),
        (Some(Compression::Zstd), ..) => LayerPolicy::All(LayerCompression::Zstd),
        (None, true, _) => LayerPolicy::CompressPlain(LayerCompression::Gzip),
        (None, false, true) => LayerPolicy::All(LayerCompression::None),
        (None, false, false) => LayerPolicy::Keep,
    }
}

fn additional_tags(tags: &[String], to: &ImageName) -> Result<Vec<Reference>> {
    if !tags.is_empty() && !matches!(to, ImageName::DockerArchive { .. }) {
        return Err(Error::msg("--additional-tag is for docker-archive: destinations").with_code(2));
    }
    let parse = |tag: &String| Ok(Reference::parse(tag).map_err(|e| Error::from(e).with_code(2))?.or_latest());
    tags.iter().map(parse).collect()
}

/// Tells a person what happens to each blob, in skopeo's words.
struct Watcher(Progress);

fn label(blob: &Descriptor) -> String {
    let kind = if blob.media_type.is_image_config() { "config" } else { "blob" };
    format!("Copying {kind} {}", blob.digest)
}

impl Observer for Watcher {
    fn begin(&self, blob: &Descriptor) {
        self.0.begin(&label(blob), blob.size);
    }

    fn advance(&self, blob: &Descriptor, bytes: u64) {
        self.0.advance(&label(blob), bytes);
    }

    fn end(&self, blob: &Descriptor, outcome: Outcome) {
        let note = match outcome {
            Outcome::Present => Some("skipped: already exists"),
            Outcome::Mounted => Some("mounted from another repository"),
            Outcome::Foreign => Some("left out: it is to be fetched elsewhere"),
            _ => None,
        };
        self.0.end(&label(blob), note);
    }

    fn manifest(&self, manifest: &Descriptor) {
        self.0.say(&format!("Writing manifest {} to image destination", manifest.digest));
    }
}
