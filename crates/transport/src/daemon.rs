//! `docker-daemon:` — a daemon that speaks Docker's API, over its socket.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hoy_oci::{Descriptor, Digest, Reference};

use crate::archive::Archive;
use crate::{Destination, DockerArchiveDestination, DockerArchiveSource, Document, Error, Format, Incoming, Result};

/// How much of an answer is read that is no archive, in bytes.
const MAX_ANSWER_BYTES: u64 = 1 << 20;
/// How long the daemon may be silent.
const PATIENCE: Duration = Duration::from_secs(600);

/// A daemon's address: `unix:///var/run/docker.sock`, `tcp://127.0.0.1:2375` or `http://…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonHost(String);

/// An image to be with a daemon.
#[derive(Debug)]
pub struct DaemonDestination {
    host: DaemonHost,
    archive: DockerArchiveDestination,
    path: PathBuf,
    name: String,
    _directory: tempfile::TempDir,
}

trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

impl DaemonHost {
    /// Where Docker listens if nobody says otherwise.
    pub const DEFAULT: &'static str = "unix:///var/run/docker.sock";

    /// The daemon at `address`.
    pub fn new(address: &str) -> Self {
        Self(address.to_owned())
    }

    fn failed(&self, reason: impl Into<String>) -> Error {
        Error::Daemon { host: self.0.clone(), reason: reason.into() }
    }

    fn connect(&self) -> Result<Box<dyn Stream>> {
        let unreachable = |error: io::Error| self.failed(format!("connect: {error}"));
        let tcp = |address: &str| {
            let stream = TcpStream::connect(address.trim_end_matches('/'))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        };
        match self.0.split_once("://") {
            Some(("unix", path)) => {
                let stream = UnixStream::connect(path).map_err(unreachable)?;
                stream.set_read_timeout(Some(PATIENCE)).map_err(unreachable)?;
                Ok(Box::new(stream))
            }
            Some(("tcp" | "http", address)) => tcp(address).map_err(unreachable),
            _ => Err(self.failed("its address begins with none of unix://, tcp:// and http://")),
        }
    }

    /// Sends a request and returns the answer's body. HTTP/1.0 has neither chunks nor connections that last.
    fn ask(&self, request: &str, body: Option<(&mut File, u64)>) -> Result<BufReader<Box<dyn Stream>>> {
        let broke = |error: io::Error| self.failed(error.to_string());
        let mut stream = self.connect()?;
        let length = body.as_ref().map_or(0, |(_, size)| *size);
        let head = format!(
            "{request} HTTP/1.0\r\nHost: docker\r\nContent-Type: application/x-tar\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).map_err(broke)?;
        if let Some((file, _)) = body {
            io::copy(file, &mut stream).map_err(broke)?;
        }
        let mut answer = BufReader::with_capacity(64 << 10, stream);
        let mut head = String::new();
        (&mut answer).take(64 << 10).read_line(&mut head).map_err(broke)?;
        let status: u16 = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
        let mut line = String::new();
        while (&mut answer).take(64 << 10).read_line(&mut line).map_err(broke)? > 0 && line.trim_end() != "" {
            line.clear();
        }
        match status {
            200..=299 => Ok(answer),
            0 => Err(self.failed("its answer is no HTTP")),
            status => Err(self.failed(format!("it answered {status}: {}", message(answer)))),
        }
    }

    /// The image `name` of the daemon, a name with a tag or an id; it is kept in `spool` meanwhile.
    ///
    /// # Errors
    /// [`Error::Daemon`] when there is no daemon or no such image.
    pub fn open(&self, name: &str, spool: &Path) -> Result<DockerArchiveSource> {
        let path = |c: char| c.is_ascii_alphanumeric() || "-_.:/@".contains(c);
        if !name.chars().all(path) || name.contains("..") {
            return Err(self.failed(format!("\"{name}\" is no name of an image")));
        }
        let answer = self.ask(&format!("GET /v1.24/images/{name}/get"), None)?;
        let archive = Archive::receive(answer, Path::new(&format!("docker-daemon:{name}")), spool)?;
        DockerArchiveSource::of(archive, None, None)
    }

    /// An image that the daemon will have under the name `name`, with a tag; it is kept in `spool` meanwhile.
    ///
    /// # Errors
    /// When the name is none, or nothing can be kept.
    pub fn create(&self, name: &str, spool: &Path) -> Result<DaemonDestination> {
        let wrong = |e: hoy_oci::Error| Error::Name { text: name.to_owned(), reason: e.to_string() };
        let reference = Reference::parse(name).map_err(wrong)?;
        if reference.tag().is_none() {
            let reason = "an image to be loaded has a name with a tag".to_owned();
            return Err(Error::Name { text: name.to_owned(), reason });
        }
        // Whether there is a daemon is found out before the image is moved.
        drop(self.connect()?);
        let directory = tempfile::tempdir_in(spool).map_err(Error::io("make a temporary directory in", spool))?;
        let path = directory.path().join("image.tar");
        let archive = DockerArchiveDestination::create(&path, &[reference], spool)?;
        let name = format!("\"docker-daemon:{name}\"");
        Ok(DaemonDestination { host: self.clone(), archive, path, name, _directory: directory })
    }
}

/// What an error's body says, made fit for one line.
fn message(answer: impl Read) -> String {
    let mut bytes = Vec::new();
    // An error whose text cannot be read is told by its number.
    answer.take(MAX_ANSWER_BYTES).read_to_end(&mut bytes).unwrap_or_default();
    let document: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let text = document.get("message").or(document.get("cause")).and_then(|m| m.as_str()).unwrap_or("no reason given");
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

impl Destination for DaemonDestination {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn lanes(&self) -> usize {
        1
    }

    fn format(&self) -> Option<Format> {
        self.archive.format()
    }

    fn wants_plain_layers(&self) -> bool {
        true
    }

    fn takes(&self, digest: &Digest) -> bool {
        digest.is_sha256()
    }

    fn has_blob(&self, descriptor: &Descriptor) -> Result<bool> {
        self.archive.has_blob(descriptor)
    }

    fn put_blob(&self, blob: &dyn Incoming) -> Result<bool> {
        self.archive.put_blob(blob)
    }

    fn put_new_blob(&self, content: &mut dyn Read) -> Result<(Digest, u64)> {
        self.archive.put_new_blob(content)
    }

    fn put_manifest(&self, document: &Document) -> Result<()> {
        self.archive.put_manifest(document)
    }

    fn finish(&self, root: &Document) -> Result<()> {
        self.archive.finish(root)?;
        let mut file = File::open(&self.path).map_err(Error::io("open", &self.path))?;
        let size = file.metadata().map_err(Error::io("look at", &self.path))?.len();
        let answer = self.host.ask("POST /v1.24/images/load?quiet=1", Some((&mut file, size)))?;
        let mut said = Vec::new();
        answer.take(MAX_ANSWER_BYTES).read_to_end(&mut said).map_err(Error::Read)?;
        // The answer is a stream of documents, of which one may be an error.
        let stream = serde_json::Deserializer::from_slice(&said).into_iter::<serde_json::Value>();
        let failed = stream.filter_map(|value| Some(value.ok()?.get("error")?.as_str()?.to_owned())).next();
        failed.map_or(Ok(()), |reason| Err(self.host.failed(reason)))
    }
}
