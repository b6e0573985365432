//! Images for several platforms: which there are, and the index of what was built for each.

use hoy_containerfile::{Origin, Plan};
use hoy_layout::Store;
use hoy_oci::{Descriptor, Document, Index, MediaType, Platform};

use crate::commit::enter;
use crate::document::Format;
use crate::{Error, Result, Tools};

/// Makes an index of `images` and gives it its names, or enters it without one; where `adds`, adds them to the index of
/// that name, as far as there is one.
///
/// An image takes the place of another for the same platform.
///
/// # Errors
/// Those of the store; [`Error::Refused`] where a name is that of one image.
pub fn index(store: &Store, images: &[Descriptor], names: &[String], adds: bool, format: Format) -> Result<Descriptor> {
    let layout = store.layout();
    let mut made = Vec::new();
    for image in images {
        let config = layout.image(image, &Platform::host())?.config;
        let mut member = image.clone();
        member.platform = Some(Platform::new(&config.os, &config.architecture, config.variant.as_deref()));
        made.push(member);
    }
    let media_type = match format {
        Format::Oci => MediaType::INDEX,
        Format::Docker => MediaType::DOCKER_LIST,
    };
    let mut written = None;
    let names: Vec<Option<&str>> =
        if names.is_empty() { vec![None] } else { names.iter().map(|name| Some(name.as_str())).collect() };
    for name in names {
        let mut members = name.filter(|_| adds).map_or(Ok(Vec::new()), |name| members(store, name))?;
        for member in &made {
            members.retain(|have| have.platform != member.platform);
            members.push(member.clone());
        }
        let mut index = Index::new(members);
        index.media_type = Some(MediaType::from(media_type));
        let bytes = serde_json::to_vec(&index).map_err(|source| Error::Json("index", source))?;
        let descriptor = layout.put(media_type, &bytes)?;
        enter(layout, name, &descriptor)?;
        written = Some(descriptor);
    }
    written.ok_or_else(|| Error::Refused("an index needs a place".to_owned()))
}

/// What is in the index of this name; nothing where there is none.
fn members(store: &Store, name: &str) -> Result<Vec<Descriptor>> {
    let found = match store.find_image(name) {
        Err(error) if error.is_not_found() => return Ok(Vec::new()),
        other => other?.descriptor,
    };
    match Document::parse(&found.media_type, &store.layout().read_document(&found)?)? {
        Document::Index(index) => Ok(index.manifests),
        Document::Manifest(_) => Err(Error::Refused(format!("\"{name}\" is one image, and no index"))),
    }
}

/// The platforms that all base images of a plan are there for, as this store or else their registry has them.
///
/// # Errors
/// Those of `hoy-copy`; [`Error::Refused`] where nothing says what there is.
pub fn platforms(store: &Store, tools: &Tools, plan: &Plan, access: &[String]) -> Result<Vec<Platform>> {
    let mut common: Option<Vec<Platform>> = None;
    for stage in plan.needed().iter().filter_map(|index| plan.stages.get(*index)) {
        let (Origin::Image(name), None) = (&stage.base, &stage.platform) else { continue };
        let there = platforms_of(store, tools, name, access)?;
        common = Some(match common {
            None => there,
            Some(before) => before.into_iter().filter(|platform| there.contains(platform)).collect(),
        });
    }
    match common {
        Some(platforms) if !platforms.is_empty() => Ok(platforms),
        Some(_) => Err(Error::Refused("there is no platform that all base images are for".to_owned())),
        None => {
            Err(Error::Refused("no base image says which platforms there are: name them with --platform".to_owned()))
        }
    }
}

fn platforms_of(store: &Store, tools: &Tools, name: &str, access: &[String]) -> Result<Vec<Platform>> {
    let local = match store.find_image(name) {
        Ok(found) => Some(found.descriptor),
        Err(error) if error.is_not_found() => None,
        Err(error) => return Err(error.into()),
    };
    if let Some(descriptor) = &local
        && let Document::Index(index) =
            Document::parse(&descriptor.media_type, &store.layout().read_document(descriptor)?)?
    {
        return Ok(index.manifests.into_iter().filter_map(|member| member.platform).filter(is_known).collect());
    }
    if let Some(descriptor) = local.filter(|_| name.starts_with("localhost/")) {
        let config = store.layout().image(&descriptor, &Platform::host())?.config;
        return Ok(vec![Platform::new(&config.os, &config.architecture, config.variant.as_deref())]);
    }
    let mut args = vec!["index".to_owned(), "list".to_owned()];
    args.extend(access.iter().cloned());
    args.push(name.to_owned());
    let listed = tools.copy(args)?;
    let platforms = listed.lines().filter_map(|line| line.split_once(' ')?.1.parse::<Platform>().ok());
    Ok(platforms.filter(is_known).collect())
}

/// Whether it is one: what is no image for any, as a proof of how one was made, says so.
fn is_known(platform: &Platform) -> bool {
    platform.os != "unknown" && platform.architecture != "unknown"
}
