//! A layer on its way into the store.

use std::io::{self, Read, Write};
use std::sync::Arc;

use hoy_layer::Compressor;
use hoy_layout::ImageLayout;
use hoy_oci::{Descriptor, Hasher, LayerCompression};

use crate::containerfile::{Leak, Watch};
use crate::document::{self, NewLayer};
use crate::{Error, Result};

/// A tar on its way into the store: hashed, compressed, hashed again.
pub(crate) struct LayerSink {
    diff_id: Hasher,
    output: Output,
    is_empty: bool,
    watch: Option<Arc<Watch>>,
    /// The end of what was written, in which a secret may begin.
    tail: Vec<u8>,
}

enum Output {
    Plain(hoy_layout::BlobWriter),
    Gzip(Compressor<hoy_layout::BlobWriter>),
}

impl LayerSink {
    pub(crate) fn new(layout: &ImageLayout, compress: bool) -> Result<Self> {
        let writer = layout.blob_writer()?;
        let output = if compress {
            let compressor = Compressor::new(LayerCompression::Gzip, writer);
            Output::Gzip(compressor.map_err(Error::io("compress a layer for", layout.path()))?)
        } else {
            Output::Plain(writer)
        };
        Ok(Self { diff_id: Hasher::new(), output, is_empty: true, watch: None, tail: Vec::new() })
    }

    /// The same, and no secret that `watch` knows gets through.
    pub(crate) fn watched(self, watch: Option<Arc<Watch>>) -> Self {
        Self { watch, ..self }
    }

    pub(crate) fn copy(&mut self, tar: &mut impl Read) -> io::Result<()> {
        let mut buffer = vec![0; 256 << 10];
        loop {
            match tar.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => self.write_all(buffer.get(..count).unwrap_or_default())?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The layer; none when the tar had no entry, for then it is zeros throughout.
    pub(crate) fn finish(self) -> Result<Option<NewLayer>> {
        if self.is_empty { Ok(None) } else { self.finish_always().map(Some) }
    }

    pub(crate) fn finish_always(self) -> Result<NewLayer> {
        let (writer, compressed) = match self.output {
            Output::Plain(writer) => (writer, false),
            Output::Gzip(compressor) => (compressor.finish().map_err(Error::io("write", "layer"))?, true),
        };
        let (digest, size) = writer.finish()?;
        let descriptor = Descriptor::new(document::layer_type(compressed), digest, size);
        Ok(NewLayer { descriptor, diff_id: if compressed { self.diff_id.finish() } else { digest } })
    }
}

impl Write for LayerSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(watch) = &self.watch
            && let Some(id) = watch.see(&mut self.tail, bytes)
        {
            return Err(io::Error::other(Leak(id.to_owned())));
        }
        let count = match &mut self.output {
            Output::Plain(writer) => writer.write(bytes)?,
            Output::Gzip(compressor) => compressor.write(bytes)?,
        };
        let written = bytes.get(..count).unwrap_or_default();
        self.is_empty = self.is_empty && written.iter().all(|&byte| byte == 0);
        // What is not compressed is hashed by whoever stores it.
        if matches!(self.output, Output::Gzip(_)) {
            self.diff_id.update(written);
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
