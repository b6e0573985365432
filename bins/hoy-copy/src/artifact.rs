//! `hoy-copy attach`, `referrers`, `discover`, `pull`: files that refer to images (image-spec, "Guidelines for Artifact Usage").

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Component, Path, PathBuf};

use hoy_cli::{Context, Error, Result, print_line};
use hoy_oci::{
    Descriptor, Document as Parsed, Index, LayerCompression, Manifest, MediaType, REF_NAME, VerifyingReader,
};
use hoy_transport::{CopyOptions, Document, Edited, NewLayer, Source};

use crate::args::Global;
use crate::edit::pairs;
use crate::edit_args::{AttachArgs, PullArgs};
use crate::inspect::go_json;
use crate::look::{document, open};
use crate::look_args::ReferrersArgs;
use crate::progress::Watcher;
use crate::{endpoint, names};

const TITLE: &str = "org.opencontainers.image.title";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// The deepest tree that is shown.
const MAX_DEPTH: usize = 8;

pub(crate) fn attach(global: &Global, args: AttachArgs) -> Result<()> {
    let (access, retry) = args.reach.split();
    let name = names::to_write(global, &args.image)?;
    let source = endpoint::source(global, &name, &access, retry)?;
    let subject = document(&*source, args.platform.as_ref())?.descriptor;
    let mut layers = Vec::new();
    for text in &args.files {
        layers.push(file(text, &endpoint::spool(global))?);
    }
    let config = Descriptor::of(MediaType::from(EMPTY), b"{}");
    let described: Vec<Descriptor> = layers.iter().map(|layer| layer.descriptor.clone()).collect();
    // An artifact of no files has the empty one, as the specification wants at least one layer.
    let described = if described.is_empty() { vec![config.clone()] } else { described };
    let mut manifest = Manifest::new(MediaType::MANIFEST, config, described);
    manifest.artifact_type = Some(args.artifact_type);
    manifest.subject = Some(Descriptor::new(subject.media_type, subject.digest, subject.size));
    for (name, value) in pairs(&args.annotation)? {
        manifest.annotations.insert(name.to_owned(), value.to_owned());
    }
    let bytes = serde_json::to_vec(&manifest)?;
    let mut descriptor = Descriptor::of(MediaType::from(MediaType::MANIFEST), &bytes);
    descriptor.artifact_type = manifest.artifact_type;
    // What a list of referrers says of it (distribution-spec, "Listing Referrers"); in an index this one would name it.
    descriptor.annotations = manifest.annotations;
    descriptor.annotations.remove(REF_NAME);
    let root = Document { descriptor, bytes };
    let made = layers.into_iter().fold(Edited::new(Vec::new(), root).with_bytes(b"{}".to_vec()), Edited::with_layer);
    let destination = endpoint::destination(global, &name, &access, retry, &[], false)?;
    let options = CopyOptions { retry, ..CopyOptions::default() };
    let progress = Watcher::new(false);
    let copied = hoy_transport::attach(&made, &*destination, &subject.digest, &options, &progress)?;
    print_line(copied.descriptor.digest)
}

/// A file as a layer with its name: `FILE[:TYPE]`.
fn file(text: &str, spool: &Path) -> Result<NewLayer> {
    let (path, kind) = match text.rsplit_once(':') {
        Some((path, kind)) if kind.contains('/') && !kind.starts_with('/') => (path, kind),
        _ => (text, "application/octet-stream"),
    };
    let doing = || format!("read \"{path}\"");
    let opened = File::open(path).context(doing)?;
    let mut layer = NewLayer::as_is(opened, LayerCompression::None, spool).context(doing)?;
    layer.descriptor.media_type = MediaType::from(kind);
    let title = Path::new(path).file_name().unwrap_or_default().to_string_lossy().into_owned();
    layer.descriptor.annotations.insert(TITLE.to_owned(), title);
    Ok(layer)
}

/// What refers to `subject`, with the type of each.
fn found(source: &dyn Source, subject: &Descriptor, wanted: Option<&str>) -> Result<Vec<Descriptor>> {
    let mut found = source.referrers(&subject.digest)?;
    for descriptor in found.iter_mut().filter(|d| d.artifact_type.is_none()) {
        let bytes = source.manifest(descriptor)?;
        let (kind, annotations) = match Parsed::parse(&descriptor.media_type, &bytes)? {
            Parsed::Manifest(m) => (m.artifact_type.or_else(|| Some(m.config.media_type.to_string())), m.annotations),
            Parsed::Index(index) => (index.artifact_type, index.annotations),
        };
        descriptor.artifact_type = kind;
        if descriptor.annotations.is_empty() {
            descriptor.annotations = annotations;
        }
    }
    found.retain(|d| wanted.is_none_or(|wanted| d.artifact_type.as_deref() == Some(wanted)));
    Ok(found)
}

pub(crate) fn referrers(global: &Global, args: ReferrersArgs) -> Result<()> {
    let source = open(global, &args.image, args.reach)?;
    let subject = document(&*source, args.platform.as_ref())?.descriptor;
    print_line(go_json(&Index::new(found(&*source, &subject, args.artifact_type.as_deref())?))?)
}

pub(crate) fn discover(global: &Global, args: ReferrersArgs) -> Result<()> {
    let source = open(global, &args.image, args.reach)?;
    let subject = document(&*source, args.platform.as_ref())?.descriptor;
    print_line(format!("{}", subject.digest))?;
    tree(&*source, &subject, args.artifact_type.as_deref(), 1)
}

fn tree(source: &dyn Source, subject: &Descriptor, wanted: Option<&str>, depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(Error::msg(format!("{} has referrers of referrers without end", source.name())));
    }
    for referrer in found(source, subject, wanted)? {
        let kind = referrer.artifact_type.as_deref().unwrap_or("-");
        let kind: String = kind.chars().filter(|c| !c.is_control()).collect();
        print_line(format!("{}{} {kind}", "  ".repeat(depth), referrer.digest))?;
        tree(source, &referrer, None, depth + 1)?;
    }
    Ok(())
}

pub(crate) fn pull(global: &Global, args: PullArgs) -> Result<()> {
    let source = open(global, &args.image, args.reach)?;
    let root = source.root()?;
    let Parsed::Manifest(manifest) = Parsed::parse(&root.descriptor.media_type, &root.bytes)? else {
        return Err(Error::msg(format!("{} is an index, no artifact", source.name())));
    };
    let titled = manifest.layers.iter().filter_map(|layer| Some((layer, layer.annotations.get(TITLE)?)));
    let mut files = Vec::new();
    for (layer, title) in titled {
        files.push((layer, args.output.join(inside(title)?)));
    }
    if files.is_empty() {
        return Err(Error::msg(format!("{} has no files with a name", source.name())));
    }
    for (layer, path) in files {
        fetch(&*source, layer, &path, args.keep_old_files)?;
        print_line(path.display())?;
    }
    Ok(())
}

/// A file's name, which must stay below the directory it is meant for (CVE-2026-24137).
fn inside(title: &str) -> Result<PathBuf> {
    let path = Path::new(title);
    let is_plain = !title.is_empty() && path.components().all(|part| matches!(part, Component::Normal(_)));
    if is_plain {
        Ok(path.to_owned())
    } else {
        Err(Error::msg(format!("a file is called {title:?}, which leaves the directory")))
    }
}

fn fetch(source: &dyn Source, layer: &Descriptor, path: &Path, keeps: bool) -> Result<()> {
    let doing = || format!("write \"{}\"", path.display());
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory).context(doing)?;
    if keeps && path.symlink_metadata().is_ok() {
        return Err(Error::msg("it exists, and --keep-old-files is given")).context(doing);
    }
    // A name of its own first: a link that lies at the file's place is replaced and not followed.
    let temporary = directory.join(format!(".tmp-pull-{}", std::process::id()));
    let mut output = OpenOptions::new().write(true).create_new(true).open(&temporary).context(doing)?;
    let mut write = || {
        let mut content = VerifyingReader::new(source.blob(layer, 0)?, layer);
        std::io::copy(&mut content, &mut output)?;
        output.flush()?;
        Ok::<_, Error>(std::fs::rename(&temporary, path)?)
    };
    write().context(doing).inspect_err(|_| {
        // What cannot be removed now is a temporary like any other.
        std::fs::remove_file(&temporary).unwrap_or_default();
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CVE-2025-62725, CVE-2026-24137.
    #[test]
    fn files_stay_inside() {
        for good in ["a", "a/b.txt", "..a"] {
            assert!(inside(good).is_ok(), "{good}");
        }
        for evil in ["", "/etc/passwd", "../x", "a/../../x", "./a", "."] {
            assert!(inside(evil).is_err(), "{evil}");
        }
    }
}
