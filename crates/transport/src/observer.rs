//! Who wants to know how far a copy is.

use hoy_oci::Descriptor;

/// How a blob came to be at the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It was sent.
    Copied,
    /// It was there.
    Present,
    /// The registry took it from another repository.
    Mounted,
    /// It is to be fetched elsewhere and was left out.
    Foreign,
}

/// Is told what happens to each blob, from several threads.
pub trait Observer: Sync {
    /// These blobs of one image are to be at the destination at the end.
    fn expect(&self, _blobs: &[&Descriptor]) {}
    /// A blob is on its way.
    fn begin(&self, blob: &Descriptor);
    /// So many more of its bytes have come.
    fn advance(&self, blob: &Descriptor, bytes: u64);
    /// It is there.
    fn end(&self, blob: &Descriptor, outcome: Outcome);
    /// A manifest or index is written.
    fn manifest(&self, manifest: &Descriptor);
    /// Something is wrong that the copy does not fail by.
    fn warn(&self, _text: &str) {}
}

/// Wants to know nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoObserver;

impl Observer for NoObserver {
    fn begin(&self, _: &Descriptor) {}
    fn advance(&self, _: &Descriptor, _: u64) {}
    fn end(&self, _: &Descriptor, _: Outcome) {}
    fn manifest(&self, _: &Descriptor) {}
}
