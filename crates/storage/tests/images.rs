//! Names, removal, pruning and repair of images, without mounts and without root.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;

use hoy_layer::TarWriter;
use hoy_layout::{Roots, Store};
use hoy_oci::{Descriptor, Digest, ImageConfig, Manifest, MediaType, Platform};
use hoy_storage::{OverlayXattrs, PruneOptions, check, list_images, prune, remove_image, tag, untag};

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let roots = Roots { root: dir.path().join("root"), runroot: dir.path().join("run"), additional: Vec::new() };
    let store = Store::open_or_create(&roots).unwrap();
    (dir, store)
}

/// An image of one empty layer that all share and a configuration of its own.
fn image(store: &Store, author: &str) -> Descriptor {
    let tar = TarWriter::new(Vec::new()).finish().unwrap();
    let platform = Platform::host();
    let mut config = ImageConfig::new(&platform.os, &platform.architecture);
    config.author = Some(author.to_owned());
    config.rootfs.diff_ids = vec![Digest::of(&tar)];
    let layout = store.layout();
    let layer = layout.put(MediaType::LAYER, &tar).unwrap();
    let config = layout.put(MediaType::CONFIG, &serde_json::to_vec(&config).unwrap()).unwrap();
    let manifest = Manifest::new(MediaType::MANIFEST, config, vec![layer]);
    layout.put(MediaType::MANIFEST, &serde_json::to_vec(&manifest).unwrap()).unwrap()
}

fn blobs(store: &Store) -> usize {
    fs::read_dir(store.root().join("blobs/sha256")).unwrap().count()
}

fn damages(store: &Store, repair: bool) -> Vec<(String, bool)> {
    let found = check(store, OverlayXattrs::User, repair).unwrap();
    found.into_iter().map(|damage| (damage.what, damage.repair.is_some())).collect()
}

#[test]
fn the_last_name_takes_the_image_with_it() {
    let (_dir, store) = store();
    let one = image(&store, "one");
    let two = image(&store, "two");
    store.layout().set_name("localhost/one:latest", &one).unwrap();
    store.layout().set_name("localhost/two:latest", &two).unwrap();
    assert_eq!(tag(&store, "one", "also:1").unwrap(), "localhost/also:1");
    let names: Vec<_> = list_images(&store).unwrap().into_iter().map(|image| image.names).collect();
    assert!(names.contains(&vec!["localhost/one:latest".to_owned(), "localhost/also:1".to_owned()]), "{names:?}");
    let removed = remove_image(&store, "also:1", false).unwrap();
    assert_eq!((removed.untagged.as_slice(), removed.deleted), (&["localhost/also:1".to_owned()][..], None));
    assert_eq!(blobs(&store), 5);
    let removed = remove_image(&store, "one", false).unwrap();
    assert!(removed.deleted.is_some());
    assert_eq!(blobs(&store), 3, "the shared layer stays");
    assert!(remove_image(&store, "one", false).unwrap_err().is_not_found());
    remove_image(&store, &two.digest.hex()[..12], false).unwrap();
    assert_eq!(blobs(&store), 0);
}

#[test]
fn an_image_without_a_name_stays_until_it_is_unused() {
    let (_dir, store) = store();
    let one = image(&store, "one");
    store.layout().set_name("localhost/one:latest", &one).unwrap();
    assert_eq!(untag(&store, "one", &[]).unwrap(), ["localhost/one:latest"]);
    let nobody = image(&store, "nobody names it");
    prune(&store, PruneOptions::default()).unwrap();
    assert_eq!(store.layout().blob_size(&nobody.digest).unwrap(), None);
    assert_eq!((list_images(&store).unwrap().len(), blobs(&store)), (1, 3));
    prune(&store, PruneOptions { unused_images: true, unused_layers: false }).unwrap();
    assert_eq!((list_images(&store).unwrap().len(), blobs(&store)), (0, 0));
}

#[test]
fn damage_is_found_and_repaired() {
    let (_dir, store) = store();
    let one = image(&store, "one");
    store.layout().set_name("localhost/one:latest", &one).unwrap();
    store.layout().set_name("localhost/two:latest", &one).unwrap();
    assert_eq!(damages(&store, false), []);
    let index = store.root().join("index.json");
    fs::write(&index, "{").unwrap();
    assert!(prune(&store, PruneOptions::default()).is_err(), "nothing is removed while it is not known what is needed");
    assert!(damages(&store, false)[0].0.contains("index.json"));
    assert!(damages(&store, true)[0].1);
    assert_eq!(damages(&store, false), []);
    assert_eq!(list_images(&store).unwrap()[0].names, ["localhost/one:latest"], "the index before the last change");
    // Without any index the manifests are found again.
    fs::write(&index, "{").unwrap();
    fs::remove_file(store.root().join("index.json.old")).unwrap();
    damages(&store, true);
    assert_eq!(list_images(&store).unwrap()[0].descriptor.digest, one.digest);
    // A damaged blob is named, and removed so that it can be fetched again.
    let layer = store.layout().image(&one, &Platform::host()).unwrap().manifest.layers[0].clone();
    fs::write(store.layout().blob_path(&layer.digest), "x").unwrap();
    assert!(damages(&store, false).iter().any(|(what, _)| what.contains(&layer.digest.hex())));
    damages(&store, true);
    assert_eq!(store.layout().blob_size(&layer.digest).unwrap(), None);
    assert!(damages(&store, false).iter().any(|(what, _)| what.contains("missing")));
}
