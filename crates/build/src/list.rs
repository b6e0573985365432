//! `containers`: what is being worked on.

use hoy_layout::{Container, Store};
use serde_json::{Value, json};

use crate::{Error, Result, Working};

/// A condition on the containers that are listed: `id=`, `name=` or `ancestor=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    key: String,
    value: String,
}

impl std::str::FromStr for Filter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once('=') {
            Some((key @ ("id" | "name" | "ancestor"), value)) => {
                Ok(Self { key: key.to_owned(), value: value.to_owned() })
            }
            _ => Err(Error::option("--filter", text, "a filter is id=, name= or ancestor=")),
        }
    }
}

impl Filter {
    fn accepts(&self, container: &Container) -> bool {
        let image = container.image.as_deref().unwrap_or("scratch");
        match self.key.as_str() {
            "id" => container.id.as_str().starts_with(&self.value),
            "name" => container.name.contains(&self.value),
            _ => image.contains(&self.value) || container.manifest.is_some_and(|d| d.hex().starts_with(&self.value)),
        }
    }
}

/// One JSON object for each working container, with `all` also for those of others: `ContainerID`, `Builder`,
/// `ImageID`, `ImageName`, `ContainerName`; oldest first. One whose records cannot be read is left out and told of.
///
/// # Errors
/// Those of reading the store's directory of containers.
pub fn containers(store: &Store, all: bool, filters: &[Filter], warn: impl Fn(&Error)) -> Result<Vec<Value>> {
    let mut found: Vec<(Container, Option<Working>)> = Vec::new();
    for dir in store.all_containers()? {
        let container = dir.container().map_err(Error::from);
        match container.and_then(|container| Ok((container, Working::read(&dir)?))) {
            Ok(both) => found.push(both),
            // One that is just being removed is not there.
            Err(Error::Layout(error)) if error.is_not_found() => {}
            Err(error) => warn(&error),
        }
    }
    found.sort_by(|(a, _), (b, _)| a.created.cmp(&b.created).then_with(|| a.name.cmp(&b.name)));
    found.retain(|(container, working)| {
        (working.is_some() || all) && filters.iter().all(|filter| filter.accepts(container))
    });
    let row = |(container, working): &(Container, Option<Working>)| {
        let image_id = working.as_ref().and_then(|working| working.from_image_id).map(|id| id.hex());
        json!({
            "ContainerID": container.id,
            "Builder": working.is_some(),
            "ImageID": image_id.unwrap_or_default(),
            "ImageName": container.image.as_deref().unwrap_or("scratch"),
            "ContainerName": container.name,
        })
    };
    Ok(found.iter().map(row).collect())
}
