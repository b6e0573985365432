//! Commands about images, in podman's words.

use std::process::ExitCode;

use hoy_cli::{Error, Result, human, print_line};
use hoy_oci::Reference;
use hoy_storage::ImageSummary;

use crate::args;
use crate::containers::print_path;
use crate::open::{Place, explain, explain_layout, for_each, say, warn_of};

const DONE: Result<ExitCode> = Ok(ExitCode::SUCCESS);
pub(crate) const NONE: &str = "<none>";

pub(crate) fn unpack(place: &Place, args: &args::Unpack) -> Result<ExitCode> {
    let store = place.store()?;
    let refused = hoy_storage::unpack_image(&store, &args.image, &args.directory).map_err(explain)?;
    if refused > 0 {
        say(format_args!("{refused} owners or extended attributes could not be set"));
    }
    DONE
}

pub(crate) fn mount(place: &Place, names: &[String]) -> Result<ExitCode> {
    let store = place.store()?;
    if names.is_empty() {
        for mounted in hoy_storage::mounted_images(&store) {
            print_line(format_args!("{} {}", mounted.name, mounted.path(&store).display()))?;
        }
        return DONE;
    }
    for_each(names, |name| {
        let mounted = hoy_storage::mount_image(&store, place.xattrs, name).map_err(explain)?;
        if let Some(reason) = &mounted.copied {
            say(format_args!(
                "warning: no overlay can be mounted here ({reason}): \"{name}\" is a copy, which can be written to"
            ));
        }
        print_path(&mounted.path(&store))
    })?;
    DONE
}

pub(crate) fn umount(place: &Place, args: &args::Umount) -> Result<ExitCode> {
    let store = place.store()?;
    let all: Vec<String> = match args.all {
        true => hoy_storage::mounted_images(&store).into_iter().map(|mounted| mounted.name).collect(),
        false => args.containers.clone(),
    };
    for_each(&all, |name| print_line(hoy_storage::umount_image(&store, name, args.force).map_err(explain)?))?;
    DONE
}

/// Repository and tag of a name, which another tool may have given any form.
pub(crate) fn parts(name: Option<&String>) -> (String, String) {
    let Some(name) = name else { return (NONE.to_owned(), NONE.to_owned()) };
    match name.parse::<Reference>() {
        Ok(reference) => (reference.name(), reference.tag().unwrap_or(NONE).to_owned()),
        Err(_) => (name.clone(), NONE.to_owned()),
    }
}

pub(crate) fn tag(place: &Place, args: &args::Tag) -> Result<ExitCode> {
    let store = place.store()?;
    for name in &args.names {
        hoy_storage::tag(&store, &args.image, name).map_err(explain)?;
    }
    DONE
}

pub(crate) fn untag(place: &Place, args: &args::Untag) -> Result<ExitCode> {
    for name in hoy_storage::untag(&place.store()?, &args.image, &args.names).map_err(explain)? {
        print_line(format_args!("Untagged: {name}"))?;
    }
    DONE
}

pub(crate) fn rmi(place: &Place, args: &args::Rmi) -> Result<ExitCode> {
    let store = place.store()?;
    let images = match args.all {
        false => args.images.clone(),
        true => {
            let all = hoy_storage::list_images(&store).map_err(explain)?;
            let own = all.iter().filter(|image| image.additional.is_none());
            own.map(|image| image.descriptor.digest.to_string()).collect()
        }
    };
    for_each(&images, |image| {
        if !args.all && !args.force {
            refuse_many(image, &hoy_storage::names_meant(&store, image).map_err(explain)?)?;
        }
        let removed = match hoy_storage::remove_image(&store, image, args.force) {
            Err(error) if args.force && error.is_not_found() => return Ok(()),
            other => other.map_err(explain)?,
        };
        for name in removed.untagged {
            print_line(format_args!("Untagged: {name}"))?;
        }
        if let Some(error) = &removed.kept {
            say(format_args!(
                "warning: \"{image}\" has lost its names only, as it is not known what others need of it"
            ));
            warn_of(error);
        }
        removed.deleted.map_or(Ok(()), |id| print_line(format_args!("Deleted: {}", id.hex())))
    })?;
    DONE
}

/// Who says an id may not know of all its names.
fn refuse_many(image: &str, names: &[String]) -> Result<()> {
    if names.len() < 2 {
        return Ok(());
    }
    let error = Error::msg(format!("the image {image} has several names: {}", names.join(", ")));
    Err(error.with_hint("remove one of them, or all with --force"))
}

pub(crate) fn tree(place: &Place, args: &args::Tree) -> Result<ExitCode> {
    let store = place.store()?;
    let (named, image) = store.image(&args.image).map_err(explain_layout)?;
    let all = hoy_storage::list_images(&store).map_err(explain)?;
    let own = all.iter().find(|other| other.descriptor.digest == named.descriptor.digest);
    let names = own.map(|own| own.names.join(" ")).unwrap_or_default();
    let short = |digest: &hoy_oci::Digest| digest.hex().chars().take(12).collect::<String>();
    print_line(format_args!("Image ID: {}", short(&image.manifest.config.digest)))?;
    print_line(format_args!("Tags:     [{names}]"))?;
    print_line(format_args!("Size:     {}", human::size(own.map_or(0, |own| own.size))))?;
    print_line("Image Layers")?;
    let last = image.manifest.layers.len();
    for (count, (layer, diff_id)) in (1..).zip(image.manifest.layers.iter().zip(&image.config.rootfs.diff_ids)) {
        let below = image.config.rootfs.diff_ids.get(..count).unwrap_or_default();
        let is_top = |other: &&ImageSummary| other.image.as_ref().is_some_and(|i| i.config.rootfs.diff_ids == below);
        let tops: Vec<&str> = all.iter().filter(is_top).flat_map(|other| &other.names).map(String::as_str).collect();
        let branch = if count == last { "└──" } else { "├──" };
        let note = if tops.is_empty() { String::new() } else { format!(" Top Layer of: [{}]", tops.join(" ")) };
        print_line(format_args!("{branch} ID: {} Size: {:>7}{note}", short(diff_id), human::size(layer.size)))?;
    }
    DONE
}
