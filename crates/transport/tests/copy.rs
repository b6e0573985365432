//! The copy between two ends that exist in memory only, and fail as they are told to.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::io::Read;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use hoy_oci::{Descriptor, Digest, ImageConfig, Manifest, MediaType};
use hoy_transport::{
    CopyOptions, Destination, Document, Error, Incoming, NoObserver, Observer, Outcome, Repository, Result, Source,
    copy,
};

const FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";

#[derive(Default)]
struct Memory {
    root: Option<Document>,
    blobs: Mutex<HashMap<Digest, Vec<u8>>>,
    finished: Mutex<Option<Descriptor>>,
    may_lack: bool,
    mounts: bool,
    mounted: AtomicUsize,
}

impl Memory {
    fn image(layers: Vec<Descriptor>, blobs: &[&[u8]]) -> Self {
        let config = serde_json::to_vec(&ImageConfig::new("linux", "amd64")).unwrap();
        let config_descriptor = Descriptor::of(MediaType::from(MediaType::DOCKER_CONFIG), &config);
        let manifest = Manifest::new(MediaType::DOCKER_MANIFEST, config_descriptor, layers);
        let bytes = serde_json::to_vec(&manifest).unwrap();
        let descriptor = Descriptor::of(MediaType::from(MediaType::DOCKER_MANIFEST), &bytes);
        let all = blobs.iter().map(|b| b.to_vec()).chain([config]);
        let blobs = Mutex::new(all.map(|bytes| (Digest::of(&bytes), bytes)).collect());
        Self { root: Some(Document { descriptor, bytes }), blobs, ..Self::default() }
    }

    fn has(&self, digest: &Digest) -> bool {
        self.blobs.lock().unwrap().contains_key(digest)
    }
}

fn missing(digest: Digest) -> Error {
    hoy_layout::Error::NoBlob { digest, layout: "memory".into() }.into()
}

impl Source for Memory {
    fn name(&self) -> String {
        "\"memory\"".to_owned()
    }

    fn root(&self) -> Result<Document> {
        Ok(self.root.clone().unwrap())
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        Err(missing(descriptor.digest))
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send + '_>> {
        let bytes = self.blobs.lock().unwrap().get(&descriptor.digest).cloned();
        let mut bytes = bytes.ok_or_else(|| missing(descriptor.digest))?;
        Ok(Box::new(std::io::Cursor::new(bytes.split_off(offset as usize))))
    }

    fn repository(&self) -> Option<Repository> {
        Some(Repository { host: "h".to_owned(), name: "r".to_owned() })
    }
}

impl Destination for Memory {
    fn name(&self) -> String {
        "\"memory\"".to_owned()
    }

    fn may_lack_foreign_layers(&self) -> bool {
        self.may_lack
    }

    fn has_blob(&self, descriptor: &Descriptor) -> Result<bool> {
        Ok(self.has(&descriptor.digest))
    }

    fn mount_blob(&self, _: &Descriptor, from: &Repository) -> Result<bool> {
        assert_eq!(from.name, "r");
        self.mounted.fetch_add(usize::from(self.mounts), Ordering::Relaxed);
        Ok(self.mounts)
    }

    fn put_blob(&self, blob: &dyn Incoming) -> Result<bool> {
        let mut bytes = Vec::new();
        let read = blob.verified()?.read_to_end(&mut bytes);
        read.map_err(|source| Error::Io { doing: "read", path: "x".into(), source })?;
        self.blobs.lock().unwrap().insert(blob.descriptor().digest, bytes);
        Ok(true)
    }

    fn put_new_blob(&self, _: &mut dyn Read) -> Result<(Digest, u64)> {
        panic!("nothing is to be changed here")
    }

    fn put_manifest(&self, _: &Document) -> Result<()> {
        Ok(())
    }

    fn finish(&self, root: &Document) -> Result<()> {
        *self.finished.lock().unwrap() = Some(root.descriptor.clone());
        Ok(())
    }
}

#[derive(Default)]
struct Outcomes(Mutex<Vec<Outcome>>);

impl Observer for Outcomes {
    fn begin(&self, _: &Descriptor) {}
    fn advance(&self, _: &Descriptor, _: u64) {}
    fn end(&self, _: &Descriptor, outcome: Outcome) {
        self.0.lock().unwrap().push(outcome);
    }
    fn manifest(&self, _: &Descriptor) {}
}

fn layer(bytes: &[u8]) -> Descriptor {
    Descriptor::of(MediaType::from(MediaType::DOCKER_LAYER_GZIP), bytes)
}

#[test]
fn a_foreign_layer_is_left_out_where_that_is_allowed() {
    // The address is one where a connection would fail the test by taking for ever: nobody may go there.
    let mut foreign = Descriptor::of(MediaType::from(FOREIGN), b"far away");
    foreign.urls = vec!["https://192.0.2.1/layer".to_owned()];
    let source = Memory::image(vec![foreign.clone(), layer(b"near")], &[b"near"]);
    let registry = Memory { may_lack: true, ..Memory::default() };
    let outcomes = Outcomes::default();
    copy(&source, &registry, &CopyOptions::default(), &outcomes).unwrap();
    assert!(outcomes.0.lock().unwrap().contains(&Outcome::Foreign));
    assert!(!registry.has(&foreign.digest) && registry.has(&layer(b"near").digest));
    let layout = Memory::default();
    let error = copy(&source, &layout, &CopyOptions::default(), &NoObserver).unwrap_err();
    assert!(error.is_not_found() && layout.finished.lock().unwrap().is_none(), "{error}");
}

#[test]
fn a_missing_layer_without_an_address_fails() {
    let source = Memory::image(vec![layer(b"lost")], &[]);
    let registry = Memory { may_lack: true, ..Memory::default() };
    let error = copy(&source, &registry, &CopyOptions::default(), &NoObserver).unwrap_err();
    assert!(error.to_string().contains(&layer(b"lost").digest.to_string()), "{error}");
    assert!(registry.finished.lock().unwrap().is_none(), "the name stays as it was");
}

#[test]
fn wrong_content_never_gets_a_name() {
    let source = Memory::image(vec![layer(b"good")], &[b"good"]);
    source.blobs.lock().unwrap().insert(layer(b"good").digest, b"evil".to_vec());
    let destination = Memory::default();
    assert!(copy(&source, &destination, &CopyOptions::default(), &NoObserver).is_err());
    assert!(!destination.has(&layer(b"good").digest) && destination.finished.lock().unwrap().is_none());
}

#[test]
fn what_can_be_mounted_is_not_sent() {
    let source = Memory::image(vec![layer(b"a"), layer(b"a"), layer(b"b")], &[b"a", b"b"]);
    let destination = Memory { mounts: true, ..Memory::default() };
    let copied = copy(&source, &destination, &CopyOptions::default(), &NoObserver).unwrap();
    assert_eq!(copied.descriptor, source.root().unwrap().descriptor);
    assert_eq!(destination.mounted.load(Ordering::Relaxed), 3, "two layers, one of them twice, and a configuration");
    assert!(destination.blobs.lock().unwrap().is_empty());
}
