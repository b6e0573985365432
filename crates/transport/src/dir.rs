//! `dir:` — one file for each thing, for looking at (containers-transports(5)).

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use hoy_layout::write_file;
use hoy_oci::{Descriptor, Digest, Document as Parsed, MAX_DOCUMENT_BYTES};

use crate::layout::{open_at, receive, receive_new};
use crate::{Destination, Document, Error, Incoming, Result, Source};

const VERSION_FILE: &str = "version";
const VERSION: &[u8] = b"Directory Transport Version: 1.1\n";
const MANIFEST_FILE: &str = "manifest.json";

/// An image in a plain directory.
#[derive(Debug, Clone)]
pub struct DirSource(PathBuf);

/// An image to be in a plain directory, which holds no other.
#[derive(Debug)]
pub struct DirDestination {
    directory: PathBuf,
    /// The names of the files that belong to the image.
    files: Mutex<HashSet<String>>,
}

impl DirSource {
    /// The image in `directory`.
    pub fn open(directory: PathBuf) -> Self {
        Self(directory)
    }
}

fn read_document(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(Error::io("open", path))?;
    file.take(MAX_DOCUMENT_BYTES + 1).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    let (size, limit) = (bytes.len() as u64, MAX_DOCUMENT_BYTES);
    if size > limit {
        return Err(Error::content(path.display())(hoy_oci::Error::TooLarge { kind: "manifest", size, limit }));
    }
    Ok(bytes)
}

impl Source for DirSource {
    fn name(&self) -> String {
        format!("\"dir:{}\"", self.0.display())
    }

    fn root(&self) -> Result<Document> {
        let bytes = read_document(&self.0.join(MANIFEST_FILE))?;
        let media_type = Parsed::guess_media_type(&bytes).map_err(Error::content(self.name()))?;
        Ok(Document { descriptor: Descriptor::of(media_type, &bytes), bytes })
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        read_document(&self.0.join(format!("{}.{MANIFEST_FILE}", descriptor.digest.hex())))
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send + '_>> {
        let path = self.0.join(descriptor.digest.hex());
        open_at(&path, offset).map_err(Error::io("open", &path))
    }
}

impl DirDestination {
    /// The directory, made if there is none; an older image in it is replaced.
    ///
    /// # Errors
    /// When there are other things in it.
    pub fn create(directory: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&directory).map_err(Error::io("create", &directory))?;
        let mut entries = std::fs::read_dir(&directory).map_err(Error::io("read", &directory))?;
        if entries.next().is_some() && !directory.join(VERSION_FILE).is_file() {
            let reason = "it is a directory with other things in it".to_owned();
            return Err(Error::Archive { path: directory, reason });
        }
        write_file(&directory.join(VERSION_FILE), VERSION)?;
        let files = [VERSION_FILE, MANIFEST_FILE].map(str::to_owned).into();
        Ok(Self { directory, files: Mutex::new(files) })
    }

    fn belongs(&self, name: String) {
        // Each change of the set is one insertion: a thread that died left it whole.
        self.files.lock().unwrap_or_else(PoisonError::into_inner).insert(name);
    }

    /// Removes what an earlier image left, also its signatures, which are for no other. What is no file of an image stays.
    fn tidy(&self) -> Result<()> {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in std::fs::read_dir(&self.directory).map_err(Error::io("read", &self.directory))? {
            let entry = entry.map_err(Error::io("read", &self.directory))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let hex = name.strip_suffix(&format!(".{MANIFEST_FILE}")).unwrap_or(&name);
            if !files.contains(&name) && (is_digest(hex) || is_signature(&name)) {
                std::fs::remove_file(entry.path()).map_err(Error::io("remove", &entry.path()))?;
            }
        }
        Ok(())
    }
}

/// Whether a file's name is that of a blob.
fn is_digest(hex: &str) -> bool {
    ["sha256", "sha512"].iter().any(|algorithm| format!("{algorithm}:{hex}").parse::<Digest>().is_ok())
}

/// Whether a file's name is that of a signature, of the image or of a member of its index.
fn is_signature(name: &str) -> bool {
    let own = name.split_once('.').filter(|(hex, _)| is_digest(hex)).map_or(name, |(_, own)| own);
    own.strip_prefix("signature-").is_some_and(|number| number.parse::<u32>().is_ok())
}

impl Destination for DirDestination {
    fn name(&self) -> String {
        format!("\"dir:{}\"", self.directory.display())
    }

    fn has_blob(&self, descriptor: &Descriptor) -> Result<bool> {
        let name = descriptor.digest.hex();
        let metadata = std::fs::symlink_metadata(self.directory.join(&name));
        let is_there = metadata.is_ok_and(|m| m.is_file() && m.len() == descriptor.size);
        if is_there {
            self.belongs(name);
        }
        Ok(is_there)
    }

    fn put_blob(&self, blob: &dyn Incoming) -> Result<bool> {
        self.belongs(blob.descriptor().digest.hex());
        receive(blob, self.directory.clone())
    }

    fn put_new_blob(&self, content: &mut dyn Read) -> Result<(Digest, u64)> {
        let new = receive_new(content, self.directory.clone())?;
        self.belongs(new.0.hex());
        Ok(new)
    }

    fn put_manifest(&self, document: &Document) -> Result<()> {
        let name = format!("{}.{MANIFEST_FILE}", document.descriptor.digest.hex());
        write_file(&self.directory.join(&name), &document.bytes)?;
        self.belongs(name);
        Ok(())
    }

    fn finish(&self, root: &Document) -> Result<()> {
        write_file(&self.directory.join(MANIFEST_FILE), &root.bytes)?;
        self.tidy()
    }
}
