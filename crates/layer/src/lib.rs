//! Image layers: tar ⇄ tree, with whiteouts, extended attributes, sparse files and compression (image-spec layer.md).
//!
//! Works on bytes and directory descriptors it is given; it never mounts, never follows a link out of a root, starts no
//! program, and knows neither images nor where a layer comes from.

mod archive;
mod compress;
mod decompress;
mod diff;
mod entry;
mod error;
mod header;
mod metadata;
mod override_stat;
mod pax;
mod place;
mod sparse;
mod stream;
mod unpack;
mod whiteout;
mod writer;

pub use archive::Archive;
pub use compress::Compressor;
pub use decompress::{Compression, Decompressor};
pub use diff::{Birth, Change, ChangeKind, Diff, DiffOptions, Lower, Owners, directory_entry, set_directory};
pub use entry::{Device, Entry, Kind, Time};
pub use error::{Error, Result};
pub use metadata::Unrepresented;
pub use override_stat::{OVERRIDE_STAT, OverrideStat};
pub use unpack::{Flavour, Limits, Report, unpack};
pub use whiteout::OverlayXattrs;
pub use writer::TarWriter;
