//! A store as it was on its first day.

use hoy_layout::Store;

use crate::{PruneOptions, Pruned, Result, prune, rm};

/// Removes all containers, images and layers, also those of a damaged store.
///
/// # Errors
/// [`crate::Error::Layout`], [`crate::Error::Io`]; a container that cannot be removed stays, and everything that it needs.
pub fn reset(store: &Store) -> Result<Pruned> {
    let mut failure = Ok(());
    for dir in store.all_containers()? {
        if let Err(error) = rm(&dir, true) {
            failure = Err(error);
        }
    }
    store.layout().forget_all()?;
    let mut pruned =
        prune(store, &PruneOptions { unused_images: true, unused_layers: true, ..PruneOptions::default() })?;
    match pruned.unread.pop() {
        Some(error) => failure.and(Err(error)),
        None => failure.map(|()| pruned),
    }
}
