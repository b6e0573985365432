//! `hoy-copy index`: indexes of images.

use hoy_cli::{Error, Result, print_line};
use hoy_oci::{Descriptor, Document as Parsed, ImageConfig, Index, MediaType, Platform};
use hoy_transport::{Document, Edited, Source, read_small};

use crate::args::Global;
use crate::edit::{Target, pairs};
use crate::edit_args::{
    IndexAction, IndexAddArgs, IndexAnnotateArgs, IndexCreateArgs, IndexFilterArgs, IndexListArgs, IndexRemoveArgs,
    Members,
};
use crate::look::{one_image, open};

pub(crate) fn run(global: &Global, action: IndexAction) -> Result<()> {
    match action {
        IndexAction::List(args) => list(global, args),
        IndexAction::Create(args) => create(global, args),
        IndexAction::Add(args) => add(global, args),
        IndexAction::Annotate(args) => annotate(global, args),
        IndexAction::Remove(args) => remove(global, args),
        IndexAction::Filter(args) => filter(global, args),
    }
}

fn list(global: &Global, args: IndexListArgs) -> Result<()> {
    let source = open(global, &args.image, args.reach)?;
    let (index, _) = read(&*source)?;
    let platform = |member: &Descriptor| member.platform.as_ref().map_or("-".to_owned(), Platform::to_string);
    index.manifests.iter().try_for_each(|member| print_line(format!("{} {}", member.digest, platform(member))))
}

fn create(global: &Global, args: IndexCreateArgs) -> Result<()> {
    let target = Target::new(global, Some(&args.destination), &args.destination, args.reach)?;
    let images: Vec<_> = args.images.iter().map(|image| target.open(global, image)).collect::<Result<_>>()?;
    let mut found = Vec::new();
    for image in &images {
        found.extend(members(global, &**image, args.multi_arch)?);
    }
    let mut index = Index::new(found);
    let annotations = pairs(&args.annotation)?;
    index.annotations = annotations.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    write(global, &target, index, MediaType::from(MediaType::INDEX), images.iter().map(|image| &**image).collect())
}

fn add(global: &Global, args: IndexAddArgs) -> Result<()> {
    let tag = args.tag.as_deref().unwrap_or(&args.image);
    let target = Target::new(global, Some(tag), &args.image, args.reach)?;
    let source = target.open(global, &args.image)?;
    let (mut index, media_type) = read(&*source)?;
    let images: Vec<_> = args.manifest.iter().map(|image| target.open(global, image)).collect::<Result<_>>()?;
    for image in &images {
        for new in members(global, &**image, args.multi_arch)? {
            index.manifests.retain(|have| have.digest != new.digest);
            index.manifests.push(new);
        }
    }
    let bases = std::iter::once(&*source).chain(images.iter().map(|image| &**image)).collect();
    write(global, &target, index, media_type, bases)
}

fn remove(global: &Global, args: IndexRemoveArgs) -> Result<()> {
    let goes = |member: &Descriptor| {
        let is_for = |wanted: &Platform| member.platform.as_ref().is_some_and(|have| have.satisfies(wanted));
        args.digest.contains(&member.digest) || args.platform.iter().any(is_for)
    };
    let tag = args.tag.as_deref().unwrap_or(&args.image);
    let target = Target::new(global, Some(tag), &args.image, args.reach)?;
    keep(global, &target, &args.image, |member| !goes(member))
}

fn filter(global: &Global, args: IndexFilterArgs) -> Result<()> {
    let stays = |member: &Descriptor| {
        let have = member.platform.as_ref();
        have.is_some_and(|have| args.platform.iter().any(|wanted| have.satisfies(wanted)))
    };
    let tag = args.tag.as_deref().unwrap_or(&args.image);
    let target = Target::new(global, Some(tag), &args.image, args.reach)?;
    keep(global, &target, &args.image, stays)
}

fn keep(global: &Global, target: &Target, image: &str, stays: impl Fn(&Descriptor) -> bool) -> Result<()> {
    let source = target.open(global, image)?;
    let (mut index, media_type) = read(&*source)?;
    let before = index.manifests.len();
    index.manifests.retain(stays);
    match index.manifests.len() {
        0 => Err(Error::msg(format!("nothing would be left of {}", source.name()))),
        after if after == before => Err(Error::msg(format!("{} has nothing to take out", source.name()))),
        _ => write(global, target, index, media_type, vec![&*source]),
    }
}

fn read(source: &dyn Source) -> Result<(Index, MediaType)> {
    let root = source.root()?;
    match Parsed::parse(&root.descriptor.media_type, &root.bytes)? {
        Parsed::Index(index) => Ok((index, root.descriptor.media_type)),
        Parsed::Manifest(_) => Err(Error::msg(format!("{} is one image, no index", source.name()))),
    }
}

/// What an image gives an index: itself, or of an index what is wanted of it.
fn members(global: &Global, source: &dyn Source, wanted: Option<Members>) -> Result<Vec<Descriptor>> {
    let root = source.root()?;
    match (Parsed::parse(&root.descriptor.media_type, &root.bytes)?, wanted) {
        (Parsed::Index(index), Some(Members::All)) => Ok(index.manifests),
        (Parsed::Index(index), Some(Members::System)) => {
            let chosen = one_image(global, source, None)?.descriptor;
            Ok(index.manifests.into_iter().filter(|have| have.digest == chosen.digest).take(1).collect())
        }
        _ => Ok(vec![member(source)?]),
    }
}

fn annotate(global: &Global, args: IndexAnnotateArgs) -> Result<()> {
    let tag = args.tag.as_deref().unwrap_or(&args.image);
    let target = Target::new(global, Some(tag), &args.image, args.reach)?;
    let source = target.open(global, &args.image)?;
    let (mut index, media_type) = read(&*source)?;
    let annotations = match &args.digest {
        None => &mut index.annotations,
        Some(digest) => {
            let none = || Error::msg(format!("{} has no image {digest}", source.name()));
            let member = index.manifests.iter_mut().find(|have| have.digest == *digest).ok_or_else(none)?;
            let words = [&args.arch, &args.os, &args.variant, &args.os_version];
            // An artifact is for none, if nobody says one.
            let features = [("os.features", args.os_features), ("features", args.features)];
            if words.iter().any(|word| word.is_some()) || features.iter().any(|(_, list)| !list.is_empty()) {
                let platform = member.platform.get_or_insert_with(Platform::host);
                platform.architecture = args.arch.unwrap_or_else(|| std::mem::take(&mut platform.architecture));
                platform.os = args.os.unwrap_or_else(|| std::mem::take(&mut platform.os));
                platform.variant = args.variant.or(platform.variant.take());
                platform.other.extend(args.os_version.map(|version| ("os.version".to_owned(), version.into())));
                for (field, list) in features.into_iter().filter(|(_, list)| !list.is_empty()) {
                    platform.other.insert(field.to_owned(), list.into());
                }
            }
            &mut member.annotations
        }
    };
    for (name, value) in pairs(&args.annotation)? {
        match value {
            "" => drop(annotations.remove(name)),
            value => drop(annotations.insert(name.to_owned(), value.to_owned())),
        }
    }
    write(global, &target, index, media_type, vec![&*source])
}

/// An image as a member of an index: what its configuration says is its platform.
fn member(source: &dyn Source) -> Result<Descriptor> {
    let root = source.root()?;
    let Parsed::Manifest(manifest) = Parsed::parse(&root.descriptor.media_type, &root.bytes)? else {
        return Err(Error::msg(format!("{} is an index: name one image of it by its digest", source.name())));
    };
    let mut descriptor = root.descriptor;
    if manifest.config.media_type.is_image_config() {
        let config = ImageConfig::parse(&read_small(source, &manifest.config)?)?;
        descriptor.platform = Some(Platform::new(&config.os, &config.architecture, config.variant.as_deref()));
    }
    descriptor.artifact_type = manifest.artifact_type;
    Ok(descriptor)
}

fn write(global: &Global, target: &Target, index: Index, media_type: MediaType, bases: Vec<&dyn Source>) -> Result<()> {
    let bytes = serde_json::to_vec(&index)?;
    let root = Document { descriptor: Descriptor::of(media_type, &bytes), bytes };
    target.write(global, &Edited::new(bases, root))
}
