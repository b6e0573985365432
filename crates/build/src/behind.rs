//! A writer on a thread of its own: who reads and who hashes and writes do not wait for one another.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

/// How much is handed over at once, in bytes; what is no longer needs no thread.
const PIECE_BYTES: usize = 256 << 10;
/// So many pieces may wait.
const PIECES: usize = 4;

/// Gathers what is written into pieces and writes them to another writer, from the second piece on in a thread.
pub(crate) struct Behind<W> {
    piece: Vec<u8>,
    writer: Option<Writer<W>>,
}

enum Writer<W> {
    Here(W),
    There(SyncSender<Vec<u8>>, Receiver<Vec<u8>>, JoinHandle<io::Result<W>>),
}

impl<W: Write + Send + 'static> Behind<W> {
    pub(crate) fn new(writer: W) -> Self {
        Self { piece: Vec::new(), writer: Some(Writer::Here(writer)) }
    }

    /// The writer, once it has all that was written.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        let piece = std::mem::take(&mut self.piece);
        let mut writer = match self.writer.take() {
            Some(Writer::Here(writer)) => writer,
            Some(Writer::There(pieces, _, thread)) => {
                drop(pieces);
                joined(thread)?
            }
            None => return Err(ended()),
        };
        writer.write_all(&piece)?;
        Ok(writer)
    }

    fn hand_over(&mut self) -> io::Result<()> {
        let (pieces, written, thread) = match self.writer.take() {
            Some(Writer::There(pieces, written, thread)) => (pieces, written, thread),
            Some(Writer::Here(mut writer)) => {
                let (pieces, taken) = sync_channel::<Vec<u8>>(PIECES);
                let (back, written) = channel();
                let write = move || {
                    for mut piece in taken {
                        writer.write_all(&piece)?;
                        piece.clear();
                        // At the end nobody takes it.
                        back.send(piece).unwrap_or_default();
                    }
                    Ok(writer)
                };
                (pieces, written, std::thread::Builder::new().spawn(write)?)
            }
            None => return Err(ended()),
        };
        // Memory that was written to is there already.
        let next = written.try_recv().unwrap_or_else(|_| Vec::with_capacity(PIECE_BYTES));
        if pieces.send(std::mem::replace(&mut self.piece, next)).is_err() {
            // Nobody takes them any more: the thread says why.
            return Err(joined(thread).err().unwrap_or_else(ended));
        }
        self.writer = Some(Writer::There(pieces, written, thread));
        Ok(())
    }
}

fn joined<W>(thread: JoinHandle<io::Result<W>>) -> io::Result<W> {
    thread.join().unwrap_or_else(|_| Err(ended()))
}

fn ended() -> io::Error {
    io::Error::other("a writing thread ended")
}

impl<W: Write + Send + 'static> Write for Behind<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.len() == PIECE_BYTES {
            self.hand_over()?;
        }
        let count = bytes.len().min(PIECE_BYTES - self.piece.len());
        self.piece.extend_from_slice(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W> Drop for Behind<W> {
    fn drop(&mut self) {
        if let Some(Writer::There(pieces, _, thread)) = self.writer.take() {
            drop(pieces);
            // What it leaves is removed by the time this is over.
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails once it has had so many bytes.
    struct Full(Vec<u8>, usize);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0.len() >= self.1 {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            self.0.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn all_arrives_in_order() {
        for length in [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 9 * PIECE_BYTES + 7] {
            let bytes: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let mut behind = Behind::new(Full(Vec::new(), usize::MAX));
            bytes.chunks(1000).for_each(|chunk| behind.write_all(chunk).unwrap());
            assert!(behind.finish().unwrap().0 == bytes, "{length}");
        }
    }

    #[test]
    fn what_goes_wrong_there_is_told_here() {
        let mut behind = Behind::new(Full(Vec::new(), PIECE_BYTES));
        let piece = vec![0; PIECE_BYTES];
        let failed = (0..100).find_map(|_| behind.write_all(&piece).err()).unwrap();
        assert_eq!(failed.kind(), io::ErrorKind::StorageFull);
        assert!(behind.write_all(&piece).and_then(|()| behind.finish()).is_err());

        let mut behind = Behind::new(Full(Vec::new(), PIECE_BYTES));
        (0..3).for_each(|_| behind.write_all(&piece).unwrap());
        assert_eq!(behind.finish().err().unwrap().kind(), io::ErrorKind::StorageFull);
    }
}
