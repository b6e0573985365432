//! Writing an archive member by member, to a file that appears whole or to a pipe.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use hoy_oci::{Digest, Hasher};

use crate::archive::{directory_header, header, headers};
use crate::{Error, Result};

const BLOCK: u64 = 512;

/// An archive on its way.
#[derive(Debug)]
pub(crate) struct ArchiveWriter {
    output: File,
    /// Where it appears in the end; none for a pipe.
    target: Option<(PathBuf, PathBuf)>,
    path: PathBuf,
    spool: PathBuf,
    members: HashMap<String, u64>,
    /// A member broke off in the middle of a pipe.
    is_broken: bool,
}

impl ArchiveWriter {
    /// An archive that will be at `path`; `-` is standard output. Content of unknown size is kept in `spool` where the
    /// output is a pipe.
    pub(crate) fn create(path: &Path, spool: &Path) -> Result<Self> {
        let (output, target) = if path == Path::new("-") {
            let output = io::stdout().as_fd().try_clone_to_owned().map_err(Error::io("open", path))?;
            (File::from(output), None)
        } else if std::fs::metadata(path).is_ok_and(|m| !m.is_file()) {
            (OpenOptions::new().write(true).open(path).map_err(Error::io("open", path))?, None)
        } else {
            let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let temporary = directory.join(format!("{}archive-{}", hoy_layout::TEMPORARY_PREFIX, std::process::id()));
            let output = OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(0o644)
                .open(&temporary)
                .map_err(Error::io("create", &temporary))?;
            (output, Some((temporary, path.to_owned())))
        };
        let (path, spool) = (path.to_owned(), spool.to_owned());
        Ok(Self { output, target, path, spool, members: HashMap::new(), is_broken: false })
    }

    /// The size of a member that is there.
    pub(crate) fn size(&self, name: &str) -> Option<u64> {
        self.members.get(name).copied()
    }

    fn failed(&self) -> impl FnOnce(io::Error) -> Error + use<> {
        let path = self.path.clone();
        move |source| Error::Io { doing: "write", path, source }
    }

    /// Writes a member of known size; when its content fails, the archive is as before, unless it is a pipe.
    pub(crate) fn put(&mut self, name: &str, size: u64, content: &mut dyn Read) -> Result<()> {
        if self.is_broken {
            return Err(Error::Archive { path: self.path.clone(), reason: "a member broke off".to_owned() });
        }
        let start = self.position()?;
        self.output.write_all(&headers(name, size)?).map_err(self.failed())?;
        match self.pump(content, Some(size)) {
            Ok(_) => {
                self.pad(size)?;
                self.members.insert(name.to_owned(), size);
                Ok(())
            }
            Err(error) => {
                self.forget_from(start)?;
                Err(error)
            }
        }
    }

    pub(crate) fn put_directory(&mut self, name: &str) -> Result<()> {
        self.output.write_all(directory_header(name)?.as_bytes()).map_err(self.failed())
    }

    pub(crate) fn put_bytes(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.put(name, bytes.len() as u64, &mut &*bytes)
    }

    /// Writes a member whose name and size are known in the end only.
    pub(crate) fn put_new(
        &mut self,
        content: &mut dyn Read,
        name: impl Fn(&Digest) -> String,
    ) -> Result<(Digest, u64)> {
        if self.target.is_none() {
            return self.put_spooled(content, name);
        }
        let start = self.position()?;
        self.output.write_all(&[0; BLOCK as usize]).map_err(self.failed())?;
        let (digest, size) = match self.pump(content, None) {
            Ok(done) => done,
            Err(error) => {
                self.forget_from(start)?;
                return Err(error);
            }
        };
        let name = name(&digest);
        if self.members.contains_key(&name) {
            self.forget_from(start)?;
            return Ok((digest, size));
        }
        self.pad(size)?;
        let end = self.position()?;
        self.output.seek(SeekFrom::Start(start)).map_err(self.failed())?;
        self.output.write_all(header(&name, size)?.as_bytes()).map_err(self.failed())?;
        self.output.seek(SeekFrom::Start(end)).map_err(self.failed())?;
        self.members.insert(name, size);
        Ok((digest, size))
    }

    fn put_spooled(&mut self, content: &mut dyn Read, name: impl Fn(&Digest) -> String) -> Result<(Digest, u64)> {
        let mut file =
            tempfile::tempfile_in(&self.spool).map_err(Error::io("make a temporary file in", &self.spool))?;
        let (digest, size) = pump(content, &mut file, Error::io("write a temporary file in", &self.spool), None)?;
        file.rewind().map_err(Error::io("read a temporary file in", &self.spool))?;
        let name = name(&digest);
        if !self.members.contains_key(&name) {
            self.put(&name, size, &mut file)?;
        }
        Ok((digest, size))
    }

    fn pump(&mut self, content: &mut dyn Read, size: Option<u64>) -> Result<(Digest, u64)> {
        let failed = self.failed();
        pump(content, &mut self.output, failed, size)
    }

    fn position(&mut self) -> Result<u64> {
        if self.target.is_some() { self.output.stream_position().map_err(self.failed()) } else { Ok(0) }
    }

    fn forget_from(&mut self, start: u64) -> Result<()> {
        if self.target.is_none() {
            self.is_broken = true;
            return Ok(());
        }
        self.output.set_len(start).map_err(self.failed())?;
        self.output.seek(SeekFrom::Start(start)).map_err(self.failed())?;
        Ok(())
    }

    fn pad(&mut self, size: u64) -> Result<()> {
        let count = usize::try_from((BLOCK - size % BLOCK) % BLOCK).unwrap_or_default();
        self.output.write_all([0; BLOCK as usize].get(..count).unwrap_or_default()).map_err(self.failed())
    }

    /// Ends the archive; a file appears.
    pub(crate) fn finish(&mut self) -> Result<()> {
        self.output.write_all(&[0; 2 * BLOCK as usize]).map_err(self.failed())?;
        if let Some((temporary, target)) = self.target.take() {
            self.output.sync_all().map_err(self.failed())?;
            std::fs::rename(&temporary, &target).map_err(Error::io("rename to", &target))?;
        }
        Ok(())
    }
}

impl Drop for ArchiveWriter {
    fn drop(&mut self) {
        if let Some((temporary, _)) = &self.target {
            // What cannot be removed now is a temporary like any other.
            std::fs::remove_file(temporary).unwrap_or_default();
        }
    }
}

/// Moves content to `output`, of exactly `size` bytes if that is known.
fn pump(
    content: &mut dyn Read,
    output: &mut File,
    failed: impl FnOnce(io::Error) -> Error,
    size: Option<u64>,
) -> Result<(Digest, u64)> {
    let mut buffer = vec![0; 128 << 10];
    let (mut hasher, mut total) = (Hasher::new(), 0u64);
    loop {
        let count = match content.read(&mut buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            other => other.map_err(Error::Read)?,
        };
        if count == 0 {
            break;
        }
        let bytes = buffer.get(..count).unwrap_or_default();
        // A member of known size is verified by whoever gives the content; its digest is not needed here.
        if size.is_none() {
            hasher.update(bytes);
        }
        total += count as u64;
        if size.is_some_and(|size| total > size) {
            break;
        }
        if let Err(error) = output.write_all(bytes) {
            return Err(failed(error));
        }
    }
    if size.is_some_and(|size| size != total) {
        return Err(Error::Read(io::Error::new(io::ErrorKind::InvalidData, "it has another length than promised")));
    }
    Ok((hasher.finish(), total))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::Archive;

    #[test]
    fn a_member_that_fails_leaves_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tar");
        let mut writer = ArchiveWriter::create(&path, dir.path()).unwrap();
        writer.put_bytes("a", b"one").unwrap();
        assert!(writer.put("b", 5, &mut &b"shor"[..]).is_err());
        let (digest, size) = writer.put_new(&mut &b"two"[..], Digest::hex).unwrap();
        assert_eq!((digest, size), (Digest::of(b"two"), 3));
        writer.put_new(&mut &b"two"[..], Digest::hex).unwrap();
        assert!(!path.exists());
        writer.finish().unwrap();
        let archive = Archive::open(&path, dir.path()).unwrap();
        assert_eq!(archive.document("a").unwrap(), b"one");
        assert_eq!(archive.document(&digest.hex()).unwrap(), b"two");
        assert!(!archive.has("b"));
        drop(ArchiveWriter::create(&dir.path().join("other"), dir.path()).unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
