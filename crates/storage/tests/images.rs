//! Names, removal, pruning and repair of images, without mounts and without root.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;

use hoy_layer::TarWriter;
use hoy_layout::{Roots, Store};
use hoy_oci::{Descriptor, Digest, ImageConfig, Manifest, MediaType, Platform};
use hoy_storage::{
    CheckOptions, Damage, ImageFilter, OverlayXattrs, PruneOptions, check, list_images, prune, remove_image, tag, untag,
};

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

/// What is wrong, and what was done about it.
fn damages(store: &Store, repair: bool) -> Vec<Damage> {
    check(store, OverlayXattrs::User, CheckOptions { deep: false, repair }).unwrap()
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
    assert_eq!((removed.untagged, removed.deleted), (vec!["localhost/also:1".to_owned()], None));
    assert_eq!(blobs(&store), 5);
    let removed = remove_image(&store, "one", false).unwrap();
    assert!(removed.deleted.is_some());
    assert_eq!(blobs(&store), 3, "the shared layer stays");
    assert!(remove_image(&store, "one", false).unwrap_err().is_not_found());
    remove_image(&store, &two.digest.hex()[..12], false).unwrap();
    assert_eq!(blobs(&store), 0);
}

fn names(store: &Store) -> Vec<String> {
    list_images(store).unwrap().into_iter().flat_map(|image| image.names).collect()
}

#[test]
fn an_image_without_a_name_is_garbage() {
    let (_dir, store) = store();
    let one = image(&store, "one");
    store.layout().set_name("localhost/one:latest", &one).unwrap();
    store.layout().set_name("localhost/two:latest", &image(&store, "two")).unwrap();
    let nobody = image(&store, "nobody names it");
    prune(&store, &PruneOptions::default()).unwrap();
    assert_eq!(store.layout().blob_size(&nobody.digest).unwrap(), None);
    assert_eq!(untag(&store, "one", &[]).unwrap(), ["localhost/one:latest"]);
    assert_eq!(list_images(&store).unwrap().len(), 2, "it stays until somebody prunes");
    let pruned = prune(&store, &PruneOptions::default()).unwrap();
    assert_eq!((pruned.deleted.len(), list_images(&store).unwrap().len(), blobs(&store)), (1, 1, 3));
    prune(&store, &PruneOptions { unused_images: true, ..PruneOptions::default() }).unwrap();
    assert_eq!((list_images(&store).unwrap().len(), blobs(&store)), (0, 0));
}

#[test]
fn filters_and_the_order_of_use() {
    let (_dir, store) = store();
    for name in ["one", "two", "three"] {
        store.layout().set_name(&format!("localhost/{name}:latest"), &image(&store, name)).unwrap();
    }
    let all = |filter: ImageFilter| PruneOptions { unused_images: true, filter, ..PruneOptions::default() };
    let labelled = ImageFilter { labels: vec![("a".to_owned(), None)], ..ImageFilter::default() };
    assert_eq!(prune(&store, &all(labelled)).unwrap().deleted, []);
    // They have no date, so none of them was made before anything.
    let old =
        ImageFilter { until: Some(hoy_oci::Timestamp::from_unix(1 << 40 >> 8).unwrap()), ..ImageFilter::default() };
    assert_eq!(prune(&store, &all(old)).unwrap().deleted, []);
    let at = |name: &str, seconds: u64| {
        let path = store.layout().blob_path(&store.find_image(name).unwrap().descriptor.digest);
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        fs::File::open(path).unwrap().set_modified(time).unwrap();
    };
    at("one", 3000);
    at("two", 1000);
    at("three", 2000);
    let total: u64 = fs::read_dir(store.root().join("blobs/sha256"))
        .unwrap()
        .map(|entry| std::os::unix::fs::MetadataExt::blocks(&entry.unwrap().metadata().unwrap()) * 512)
        .sum();
    let limit = |max_bytes| PruneOptions { max_bytes: Some(max_bytes), ..PruneOptions::default() };
    assert_eq!(prune(&store, &limit(total)).unwrap().untagged, [""; 0]);
    assert_eq!(prune(&store, &limit(total - 1)).unwrap().untagged, ["localhost/two:latest"]);
    tag(&store, "three", "again").unwrap();
    prune(&store, &limit(total / 2)).unwrap();
    assert_eq!(names(&store), ["localhost/three:latest", "localhost/again:latest"], "a new name is a use");
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
    let pruned = prune(&store, &PruneOptions { unused_images: true, ..PruneOptions::default() }).unwrap();
    assert!(pruned.count == 0 && !pruned.unread.is_empty(), "nothing is removed while it is not known what is needed");
    assert_eq!(damages(&store, false)[0].path, index);
    assert_eq!(names(&store), ["localhost/one:latest"], "the index before the last change");
    assert!(damages(&store, true)[0].repair.is_some());
    assert_eq!(damages(&store, false), []);
    assert_eq!(names(&store), ["localhost/one:latest"]);
    // Without any index the manifests are found again.
    fs::write(&index, "{").unwrap();
    fs::remove_file(store.root().join("index.json.old")).unwrap();
    damages(&store, true);
    assert_eq!(list_images(&store).unwrap()[0].descriptor.digest, one.digest);
    // A damaged blob is named, and removed so that it can be fetched again.
    store.layout().set_name("localhost/one:latest", &one).unwrap();
    let layer = store.layout().image(&one, &Platform::host()).unwrap().manifest.layers[0].clone();
    fs::write(store.layout().blob_path(&layer.digest), "x").unwrap();
    for repair in [false, true, false] {
        let found = damages(&store, repair);
        let [damage] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(damage.path, store.layout().blob_path(&layer.digest));
        assert_eq!(damage.images, ["localhost/one:latest"]);
        assert!(damage.is_left() && damage.remedy.as_ref().unwrap().contains(&layer.digest.hex()));
        assert_eq!(
            store.layout().blob_size(&layer.digest).unwrap().is_some(),
            !repair && damage.problem != "blob is missing"
        );
    }
}
