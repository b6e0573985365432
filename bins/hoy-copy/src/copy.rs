//! `hoy-copy copy`.

use hoy_cli::{Context, Progress, Result, print_line};
use hoy_oci::Descriptor;
use hoy_transport::{CopyOptions, Format, ImageName, Observer, Outcome};

use crate::args::{CopyArgs, Global, ManifestType, MultiArch};
use crate::endpoint;

/// Copies an image and prints the digest of what was written.
pub(crate) fn run(global: &Global, args: CopyArgs) -> Result<()> {
    let (from, to): (ImageName, ImageName) = (
        args.source.parse().map_err(|e| hoy_cli::Error::from(e).with_code(2))?,
        args.destination.parse().map_err(|e| hoy_cli::Error::from(e).with_code(2))?,
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
        preserve_digests: args.preserve_digests,
        retries,
    };
    let source = endpoint::source(global, &from, &args.src.access(args.authfile.clone()), retries)?;
    let destination = endpoint::destination(global, &to, &args.dest.access(args.authfile), retries)?;
    let progress = Watcher(Progress::new(args.quiet));
    let copied = hoy_transport::copy(&*source, &*destination, &options, &progress)?;
    let digest = copied.descriptor.digest.to_string();
    if let Some(path) = &args.digestfile {
        std::fs::write(path, &digest).context(|| format!("write \"{}\"", path.display()))?;
    }
    print_line(digest)
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
