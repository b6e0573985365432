//! `containers`: what is being worked on.

use hoy_layout::{Container, ContainerDir, Store};
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
/// `ImageID`, `ImageName`, `ContainerName`; oldest first.
///
/// # Errors
/// Those of reading the store.
pub fn containers(store: &Store, all: bool, filters: &[Filter]) -> Result<Vec<Value>> {
    let mut found: Vec<(Container, ContainerDir)> = Vec::new();
    for dir in store.all_containers()? {
        // One that is just being removed is not there.
        match dir.container() {
            Ok(container) => found.push((container, dir)),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    found.sort_by(|(a, _), (b, _)| a.created.cmp(&b.created).then_with(|| a.name.cmp(&b.name)));
    let mut rows = Vec::new();
    for (container, dir) in found {
        let working = Working::read(&dir)?;
        if (working.is_none() && !all) || !filters.iter().all(|filter| filter.accepts(&container)) {
            continue;
        }
        let image_id = working.as_ref().and_then(|working| working.from_image_id).map(|id| id.hex());
        rows.push(json!({
            "ContainerID": container.id,
            "Builder": working.is_some(),
            "ImageID": image_id.unwrap_or_default(),
            "ImageName": container.image.as_deref().unwrap_or("scratch"),
            "ContainerName": container.name,
        }));
    }
    Ok(rows)
}
