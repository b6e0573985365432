//! `hoy-copy copy`.

use std::io;

use hoy_cli::{Context, Error, Result, print_line};
use hoy_oci::{LayerCompression, Reference};
use hoy_transport::{Copied, CopyOptions, Format, ImageName, LayerPolicy, MultiArch, Observer};

use crate::access::Access;
use crate::args::{Compression, CopyArgs, Global, ManifestType};
use crate::keys::Keys;
use crate::progress::{Events, Watcher};
use crate::sign::Signer;
use crate::signatures::{self, Found};
use crate::{blob_cache, endpoint, names, policy, rate};

/// Copies an image and prints the digest of what was written.
pub(crate) fn run(global: &Global, args: CopyArgs) -> Result<()> {
    let to: ImageName = args.destination.parse().map_err(|e| Error::from(e).with_code(2))?;
    let (multi_arch, layers) = (multi_arch(&args)?, layers(&args));
    let (encryption, decryption) = (args.encryption.encryption()?, args.encryption.decryption()?);
    let retry = args.retry.into();
    let from_access = args.src_place.add_to(args.src.access(args.authfile.clone()));
    let from = names::to_read(global, &args.source, &from_access, retry)?;
    let progress: Box<dyn Observer> = match args.progress {
        Some(target) => Box::new(Events::open(target)?),
        None => Box::new(Watcher::of_copy(args.quiet)),
    };
    let signer = Signer::new(global, &args.signing, &to)?;
    let keys = Keys::open(global, &args.signing)?;
    let tags = additional_tags(&args.additional_tag, &to)?;
    let has_ssh = [&from, &to].iter().any(|name| matches!(name, ImageName::Ssh { .. }));
    let options = CopyOptions {
        platform: endpoint::platform(global),
        multi_arch,
        format: args.format.map(format),
        layers,
        chunked: args.dest_compress_format == Some(Compression::ZstdChunked),
        level: args.dest_compress_level,
        encryption,
        decryption,
        with_referrers: args.with_referrers,
        preserve_digests: args.preserve_digests,
        retry,
        // Each lane would be an ssh of its own, which may ask for a password.
        lanes: args.image_parallel_copies.filter(|lanes| *lanes > 0).or(has_ssh.then_some(1)),
    };
    let precompute = args.dest_precompute_digests;
    let to_access = args.dest_place.add_to(args.dest.access(args.authfile));
    let rules = (&options.multi_arch, &args.signing);
    let source = rate::limit(policy::open(global, &from, &from_access, retry, rules)?, args.limit_rate.as_ref());
    let source = blob_cache::beside(source, args.blob_cache.as_deref());
    let destination = endpoint::destination(global, &to, &to_access, retry, &tags, precompute)?;
    let copied = match hoy_transport::copy(&*source, &*destination, &options, &*progress).map_err(Error::from) {
        Err(error) if endpoint::is_stdout(&to) && error.is(|e: &io::Error| e.kind() == io::ErrorKind::BrokenPipe) => {
            // Where the reader of the archive is gone this fails too, as a closed output that is no failure.
            print_line("")?;
            return Err(error);
        }
        other => other?,
    };
    if args.signing.remove_signatures {
        copied.manifests.iter().try_for_each(|digest| signatures::forget(global, &to, digest))?;
    } else {
        let found = Found { global, from: &from, access: &from_access, retry };
        carry(&found, &to, &to_access, &copied, &*progress)?;
    }
    if let Some(signer) = signer {
        signer.sign(global, &keys, (&to, &copied.descriptor.digest), &to_access, retry)?;
    }
    let digest = copied.descriptor.digest.to_string();
    if let Some(path) = &args.digestfile {
        std::fs::write(path, &digest).context(|| format!("write \"{}\"", path.display()))?;
    }
    if endpoint::is_stdout(&to) { Ok(()) } else { print_line(digest) }
}

/// Brings the signatures of all that was copied along, and tells of those that stay behind.
pub(crate) fn carry(
    found: &Found<'_>,
    to: &ImageName,
    access: &Access,
    copied: &Copied,
    observer: &dyn Observer,
) -> Result<()> {
    let each = copied.manifests.iter().map(|digest| found.carry(to, access, digest));
    let left: usize = each.sum::<Result<usize>>()?;
    if left > 0 {
        observer.warn(&format!("{left} signatures stay behind: {to} has no place for them"));
    }
    Ok(())
}

/// The manifest type that a flag means.
pub(crate) fn format(format: ManifestType) -> Format {
    match format {
        ManifestType::Oci => Format::Oci,
        ManifestType::V2s2 => Format::V2s2,
    }
}

fn multi_arch(args: &CopyArgs) -> Result<MultiArch> {
    let strip = args.strip_removed_platforms;
    let found = match (args.all, args.multi_arch.as_deref()) {
        (true, _) | (_, Some("all")) => MultiArch::All,
        (_, None | Some("system")) => MultiArch::System,
        (_, Some("index-only")) => MultiArch::IndexOnly,
        (_, Some(list)) => {
            let wanted = list.split(',').map(|text| text.trim().parse()).collect::<std::result::Result<_, _>>();
            let wanted = wanted.map_err(|_| {
                let text =
                    format!("--multi-arch {list:?}: it is none of system, all, index-only, and no list of platforms");
                Error::msg(text).with_code(2)
            })?;
            return Ok(MultiArch::Platforms { wanted, strip });
        }
    };
    if strip {
        return Err(Error::msg("--strip-removed-platforms is for a --multi-arch that lists platforms").with_code(2));
    }
    Ok(found)
}

fn layers(args: &CopyArgs) -> LayerPolicy {
    match (args.dest_compress_format, args.dest_compress, args.dest_decompress) {
        (Some(Compression::Gzip), ..) => LayerPolicy::All(LayerCompression::Gzip),
        (Some(Compression::Zstd | Compression::ZstdChunked), ..) => LayerPolicy::All(LayerCompression::Zstd),
        (None, true, _) => LayerPolicy::CompressPlain(LayerCompression::Gzip),
        (None, false, true) => LayerPolicy::All(LayerCompression::None),
        (None, false, false) if args.dest_oci_accept_uncompressed_layers => LayerPolicy::Leave,
        (None, false, false) => LayerPolicy::Keep,
    }
}

fn additional_tags(tags: &[String], to: &ImageName) -> Result<Vec<Reference>> {
    let usage = |text: &str| Error::msg(text).with_code(2);
    let ImageName::Docker(reference) = to else {
        if !tags.is_empty() && !matches!(to, ImageName::DockerArchive { .. }) {
            return Err(usage("--additional-tag is for docker-archive: and docker: destinations"));
        }
        let parse = |tag: &String| Ok(Reference::parse(tag).map_err(|e| Error::from(e).with_code(2))?.or_latest());
        return tags.iter().map(parse).collect();
    };
    let one = |tag: &String| {
        // A bare tag, or a full name of the same repository.
        let full = if tag.contains(['/', ':']) { Reference::parse(tag) } else { reference.with_tag(tag) };
        let full = full.map_err(|e| Error::from(e).with_code(2))?.or_latest();
        if full.name() != reference.name() {
            return Err(usage("--additional-tag at a registry is for the same repository"));
        }
        Ok(full)
    };
    tags.iter().map(one).collect()
}
