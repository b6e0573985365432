//! Who needs what: images and containers of each blob and each unpacked layer.

use hoy_layout::{Container, Store};
use hoy_oci::{Descriptor, Digest};

use crate::Result;
use crate::reach::Reachable;

/// The images and containers of a store, and what each needs.
pub(super) struct Users {
    pub(super) images: Vec<(String, Descriptor, Reachable)>,
    pub(super) containers: Vec<(Container, Reachable)>,
}

impl Users {
    pub(super) fn of(store: &Store) -> Result<Self> {
        let index = match store.layout().index() {
            Err(error) if error.is_damage() => store.layout().restored_index()?.0,
            other => other?,
        };
        let images = index.manifests.into_iter().map(|entry| {
            let mut reach = Reachable::default();
            reach.follow(store, [&entry]);
            let name = entry.ref_name().map_or_else(|| entry.digest.to_string(), str::to_owned);
            (name, entry, reach)
        });
        let images = images.collect();
        let mut containers = Vec::new();
        for dir in store.all_containers()? {
            let Ok(container) = dir.container() else { continue };
            let mut reach = Reachable::default();
            reach.add_container(store, &container);
            // A manifest that is not there leads nowhere, and is needed.
            reach.blobs.extend(container.manifest);
            containers.push((container, reach));
        }
        Ok(Self { images, containers })
    }

    fn who(&self, needs: impl Fn(&Reachable) -> bool) -> (Vec<String>, Vec<String>) {
        let images = self.images.iter().filter(|(_, _, reach)| needs(reach)).map(|(name, ..)| name.clone());
        let containers = self.containers.iter().filter(|(_, reach)| needs(reach));
        let mut images: Vec<String> = images.collect();
        images.sort();
        (images, containers.map(|(container, _)| container.name.clone()).collect())
    }

    /// The images and containers that need a blob.
    pub(super) fn of_blob(&self, digest: &Digest) -> (Vec<String>, Vec<String>) {
        self.who(|reach| reach.blobs.contains(digest))
    }

    /// The images and containers that have an unpacked layer.
    pub(super) fn of_layer(&self, name: &str) -> (Vec<String>, Vec<String>) {
        let (images, _) = self.who(|reach| reach.layers.contains(name));
        let has_it = |container: &&Container| container.layers.iter().any(|layer| layer == name);
        let containers = self.containers.iter().map(|(container, _)| container).filter(has_it);
        (images, containers.map(|container| container.name.clone()).collect())
    }
}
