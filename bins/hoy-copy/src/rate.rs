//! No more bytes a second than somebody wants, over all blobs that are on their way.

use std::io::{self, Read};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hoy_oci::Descriptor;
use hoy_transport::{Result, Source};

use crate::blobs::{By, Way};
use crate::fetch::Size;

/// So many bytes a second: a number, with K, M or G for powers of 1024.
#[derive(Debug, Clone)]
pub(crate) struct Rate {
    bytes_per_second: u64,
    /// When the next byte may come.
    due: Arc<Mutex<Instant>>,
}

impl FromStr for Rate {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        let Size(bytes_per_second) = text.parse().map_err(|_| "want bytes a second, as 500K, 10M or 1G")?;
        Ok(Self { bytes_per_second, due: Arc::new(Mutex::new(Instant::now())) })
    }
}

impl Rate {
    /// Waits for as long as so many bytes may take, behind those that others have announced.
    fn take(&self, bytes: usize) {
        let now = Instant::now();
        let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        let wait = {
            let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
            *due = (*due).max(now) + cost;
            due.saturating_duration_since(now)
        };
        std::thread::sleep(wait);
    }

    /// How much may be read at once, so that no wait is long.
    fn portion(&self) -> usize {
        usize::try_from(self.bytes_per_second / 10).unwrap_or(usize::MAX).max(1)
    }
}

/// `source`, its blobs no faster than `rate`, if there is one.
pub(crate) fn limit<'a>(source: Box<dyn Source + 'a>, rate: Option<&Rate>) -> Box<dyn Source + 'a> {
    match rate {
        Some(rate) => Box::new(By { source, way: rate.clone() }),
        None => source,
    }
}

impl Way for Rate {
    fn blob<'a>(&'a self, source: &'a dyn Source, blob: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send + 'a>> {
        Ok(Box::new(Slow { inner: source.blob(blob, offset)?, rate: self }))
    }
}

struct Slow<'a> {
    inner: Box<dyn Read + Send + 'a>,
    rate: &'a Rate,
}

impl Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(self.rate.portion());
        let count = self.inner.read(buffer.get_mut(..most).unwrap_or_default())?;
        self.rate.take(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        let read = |text: &str| text.parse::<Rate>().ok().map(|rate| rate.bytes_per_second);
        for (text, want) in [
            ("7", Some(7)),
            ("500K", Some(500 << 10)),
            ("1g", Some(1 << 30)),
            ("0", None),
            ("", None),
            ("M", None),
            ("1KM", None),
            ("-1", None),
            ("99999999999G", None),
        ] {
            assert_eq!(read(text), want, "{text}");
        }
    }
}
