//! Where an image's signatures are: beside its registry, at it, or in a directory.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use hoy_cli::{Context, Error, Result};
use hoy_oci::{Descriptor, Digest, Document, ImageConfig, Manifest, MediaType, Reference};
use hoy_registry::{Registry, Retry};
use hoy_transport::ImageName;
use hoy_trust::{Attached, Evidence, Places, SignaturePlaces};
use serde_json::{Value, json};

use crate::access::Access;
use crate::args::Global;
use crate::endpoint;
use crate::policy::docker_scopes;

/// How many signatures of one image are read.
const MAX_SIGNATURES: usize = 128;
/// The longest signature or signed text, in bytes.
const MAX_BYTES: u64 = 1 << 20;
/// cosign's type of a signed text, and the annotation with its signature.
const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// How a sigstore signature in a directory begins.
const IN_DIRECTORY: &[u8] = b"\0sigstore-json\n";

/// The signatures of the image `from`.
pub(crate) struct Found<'a> {
    pub(crate) global: &'a Global,
    pub(crate) from: &'a ImageName,
    pub(crate) access: &'a Access,
    pub(crate) retry: Retry,
}

impl Evidence for Found<'_> {
    fn simple(&self, digest: &Digest) -> std::result::Result<Vec<Vec<u8>>, String> {
        let find = || match self.from {
            ImageName::Docker(reference) => self.beside(reference, digest),
            other => {
                let all = directory(self.global, other, digest)?.map(|place| in_directory(&place, digest));
                Ok(all.transpose()?.unwrap_or_default().into_iter().filter(|bytes| bytes.first() != Some(&0)).collect())
            }
        };
        find().map_err(|error: Error| format!("its signatures cannot be had: {error}"))
    }

    fn sigstore(&self, digest: &Digest) -> std::result::Result<Vec<Attached>, String> {
        let find = || match self.from {
            ImageName::Docker(reference) if places(self.global, reference)?.are_attached() => {
                let mut all = Vec::new();
                for (registry, reference) in self.access.to_read(self.global, reference, self.retry)? {
                    all.extend(attached(&registry, reference.repository(), digest)?);
                }
                Ok(all)
            }
            other => {
                let all = directory(self.global, other, digest)?.map(|place| in_directory(&place, digest));
                all.transpose()?.unwrap_or_default().iter().filter_map(|bytes| from_file(bytes)).collect()
            }
        };
        find().map_err(|error: Error| format!("its signatures cannot be had: {error}"))
    }
}

impl Found<'_> {
    /// Brings the signatures of the manifest of this digest to `to`, which has it now; those that are there already are
    /// not doubled. Returns how many had to stay behind, as `to` has no place for them.
    pub(crate) fn carry(&self, to: &ImageName, access: &Access, digest: &Digest) -> Result<usize> {
        let simple = self.simple(digest).map_err(Error::msg)?;
        let sigstore = self.sigstore(digest).map_err(Error::msg)?;
        match to {
            ImageName::Docker(reference) => {
                let places = places(self.global, reference)?;
                let base = places.to_write().filter(|base| SignaturePlaces::file(base).is_some());
                for signature in base.iter().flat_map(|_| &simple) {
                    put_beside(base.unwrap_or_default(), reference, digest, signature)?;
                }
                if places.are_attached() && !sigstore.is_empty() {
                    let registry = access.registry(self.global, reference, self.retry)?;
                    sigstore.iter().try_for_each(|one| attach(&registry, reference.repository(), digest, one))?;
                }
                let without_place = |count: usize, has_place: bool| if has_place { 0 } else { count };
                Ok(without_place(simple.len(), base.is_some()) + without_place(sigstore.len(), places.are_attached()))
            }
            other => {
                let files: Vec<Vec<u8>> = simple.into_iter().chain(sigstore.iter().map(to_file)).collect();
                match directory(self.global, other, digest)? {
                    Some(place) => files.iter().try_for_each(|file| put_in_directory(&place, digest, file)).map(|()| 0),
                    None => Ok(files.len()),
                }
            }
        }
    }

    /// Simple signatures at the place that registries.d names.
    fn beside(&self, reference: &Reference, digest: &Digest) -> Result<Vec<Vec<u8>>> {
        let places = places(self.global, reference)?;
        let Some(base) = places.to_read() else { return Ok(Vec::new()) };
        let mut all = Vec::new();
        for number in 1..=MAX_SIGNATURES {
            let address = SignaturePlaces::address(base, reference.repository(), digest, number);
            let found = match SignaturePlaces::file(&address) {
                Some(path) => read_file(&path)?,
                None => Registry::fetch(&address, Access::options(self.global), MAX_BYTES)?,
            };
            match found {
                Some(bytes) => all.push(bytes),
                None => break,
            }
        }
        Ok(all)
    }
}

/// What registries.d says of an image.
pub(crate) fn places(global: &Global, reference: &Reference) -> Result<SignaturePlaces> {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let user = home.join(".config/containers/registries.d");
    let usual = || if user.is_dir() { user.clone() } else { "/etc/containers/registries.d".into() };
    let directory = global.registries_d.clone().unwrap_or_else(usual);
    Ok(Places::read(&directory)?.find(&docker_scopes(reference)))
}

/// The directory that holds signatures of the manifest of this digest; none where an image has no such place.
pub(crate) fn directory(global: &Global, name: &ImageName, digest: &Digest) -> Result<Option<PathBuf>> {
    Ok(match name {
        ImageName::Dir(directory) => Some(directory.clone()),
        ImageName::Store { root, runroot, .. } => {
            Some(endpoint::store(global, root.as_deref(), runroot.as_deref())?.signatures(digest))
        }
        _ => None,
    })
}

/// Forgets what the store has of them.
pub(crate) fn forget(global: &Global, name: &ImageName, digest: &Digest) -> Result<()> {
    let (ImageName::Store { .. }, Some(place)) = (name, directory(global, name, digest)?) else { return Ok(()) };
    match std::fs::remove_dir_all(&place) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).context(|| format!("remove \"{}\"", place.display()))
        }
        _ => Ok(()),
    }
}

fn read_file(path: &Path) -> Result<Option<Vec<u8>>> {
    let doing = || format!("read \"{}\"", path.display());
    let file = match std::fs::File::open(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.context(doing)?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).context(doing)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::msg(format!("\"{}\" is too long for a signature", path.display())));
    }
    Ok(Some(bytes))
}

/// Where a signature of the manifest of this digest is in a directory: that of a member of its index has its name.
fn path_in_directory(directory: &Path, digest: &Digest, number: usize) -> PathBuf {
    let is_member = directory.join(format!("{}.manifest.json", digest.hex())).exists();
    let member = if is_member { format!("{}.", digest.hex()) } else { String::new() };
    directory.join(format!("{member}signature-{number}"))
}

fn in_directory(directory: &Path, digest: &Digest) -> Result<Vec<Vec<u8>>> {
    let one = |number| read_file(&path_in_directory(directory, digest, number)).transpose();
    (1..=MAX_SIGNATURES).map_while(one).collect()
}

/// A sigstore signature as it lies in a directory; none for one of another kind.
fn from_file(bytes: &[u8]) -> Option<Result<Attached>> {
    use base64::Engine as _;
    let body = bytes.strip_prefix(IN_DIRECTORY)?;
    let read = || {
        let document: Value = serde_json::from_slice(body).ok()?;
        if document.get("mimeType")?.as_str()? != PAYLOAD {
            return None;
        }
        let payload = base64::engine::general_purpose::STANDARD.decode(document.get("payload")?.as_str()?).ok()?;
        let mut more: BTreeMap<String, String> = serde_json::from_value(document.get("annotations")?.clone()).ok()?;
        let signature = more.remove(SIGNATURE)?;
        Some(Attached { payload, signature, more })
    };
    Some(read().ok_or_else(|| Error::msg("a signature in the directory is damaged")))
}

/// Puts a signature into a directory, behind those that are there, unless it is one of them.
pub(crate) fn put_in_directory(directory: &Path, digest: &Digest, signature: &[u8]) -> Result<()> {
    let all = in_directory(directory, digest)?;
    if all.iter().any(|one| one == signature) {
        return Ok(());
    }
    let path = path_in_directory(directory, digest, all.len() + 1);
    let doing = || format!("write \"{}\"", path.display());
    std::fs::create_dir_all(directory).context(doing)?;
    hoy_layout::write_file(&path, signature).context(doing)
}

/// What stands beside the signed text.
fn annotations(attached: &Attached) -> BTreeMap<String, String> {
    let mut all = attached.more.clone();
    all.insert(SIGNATURE.to_owned(), attached.signature.clone());
    all
}

/// A sigstore signature as it lies in a directory.
pub(crate) fn to_file(attached: &Attached) -> Vec<u8> {
    use base64::Engine as _;
    let payload = base64::engine::general_purpose::STANDARD.encode(&attached.payload);
    let annotations = annotations(attached);
    let document = json!({"mimeType": PAYLOAD, "payload": payload, "annotations": annotations});
    [IN_DIRECTORY, document.to_string().as_bytes()].concat()
}

/// Writes a simple signature to the place that registries.d names, unless it is there.
pub(crate) fn put_beside(base: &str, reference: &Reference, digest: &Digest, signature: &[u8]) -> Result<()> {
    for number in 1..=MAX_SIGNATURES {
        let address = SignaturePlaces::address(base, reference.repository(), digest, number);
        let path = SignaturePlaces::file(&address).ok_or_else(|| Error::msg(format!("{base}: no file: address")))?;
        let doing = || format!("write \"{}\"", path.display());
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).context(doing)?;
        }
        match std::fs::File::create_new(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                if read_file(&path)?.is_some_and(|bytes| bytes == signature) {
                    return Ok(());
                }
            }
            Err(e) => return Err(e).context(doing),
            Ok(mut file) => return std::io::Write::write_all(&mut file, signature).context(doing),
        }
    }
    Err(Error::msg("the image has too many signatures"))
}

fn tag(digest: &Digest) -> String {
    format!("{}-{}.sig", digest.algorithm(), digest.hex())
}

/// The artifact with an image's signatures, if there is one.
fn artifact(registry: &Registry, repository: &str, digest: &Digest) -> Result<Option<Manifest>> {
    let fetched = match registry.manifest(repository, &tag(digest)) {
        Err(error) if error.is_not_found() => return Ok(None),
        other => other?,
    };
    match Document::parse(&fetched.descriptor.media_type, &fetched.bytes)? {
        Document::Manifest(manifest) => Ok(Some(manifest)),
        Document::Index(_) => Err(Error::msg(format!("\"{}\" holds no signatures", tag(digest)))),
    }
}

/// The sigstore signatures that are at the registry beside the image.
fn attached(registry: &Registry, repository: &str, digest: &Digest) -> Result<Vec<Attached>> {
    let Some(manifest) = artifact(registry, repository, digest)? else { return Ok(Vec::new()) };
    let mut all = Vec::new();
    for layer in manifest.layers.iter().filter(|l| l.media_type.as_str() == PAYLOAD).take(MAX_SIGNATURES) {
        let mut more = layer.annotations.clone();
        let Some(signature) = more.remove(SIGNATURE) else { continue };
        all.push(Attached { payload: small_blob(registry, repository, layer)?, signature, more });
    }
    Ok(all)
}

fn small_blob(registry: &Registry, repository: &str, descriptor: &Descriptor) -> Result<Vec<u8>> {
    if descriptor.size > MAX_BYTES {
        return Err(Error::msg(format!("{} is too long for a signature", descriptor.digest)));
    }
    let blob = registry.blob(repository, descriptor, 0)?;
    let mut bytes = Vec::new();
    hoy_oci::VerifyingReader::new(blob, descriptor).read_to_end(&mut bytes).context(|| "read a signature")?;
    Ok(bytes)
}

/// Adds a sigstore signature to those that are at the registry beside the image, unless it is one of them.
pub(crate) fn attach(registry: &Registry, repository: &str, digest: &Digest, attached: &Attached) -> Result<()> {
    let old = artifact(registry, repository, digest)?;
    let mut config = match &old {
        Some(manifest) => serde_json::from_slice(&small_blob(registry, repository, &manifest.config)?)
            .context(|| "read the configuration of the signatures")?,
        None => json!({"architecture": "", "os": "", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}}),
    };
    let mut layer = Descriptor::of(MediaType::from(PAYLOAD), &attached.payload);
    let is_this = |other: &&Descriptor| other.annotations.get(SIGNATURE) == Some(&attached.signature);
    if old.iter().flat_map(|manifest| &manifest.layers).filter(is_this).any(|other| other.digest == layer.digest) {
        return Ok(());
    }
    let ids = config.pointer_mut("/rootfs/diff_ids").and_then(Value::as_array_mut);
    let ids = ids.ok_or_else(|| Error::msg("the configuration of the signatures is damaged"))?;
    ids.push(json!(layer.digest.to_string()));
    put(registry, repository, &layer, &attached.payload)?;
    layer.annotations = annotations(attached);
    let config = config.to_string().into_bytes();
    ImageConfig::parse(&config)?;
    let described = Descriptor::of(MediaType::from("application/vnd.oci.image.config.v1+json"), &config);
    put(registry, repository, &described, &config)?;
    let mut manifest = old.unwrap_or_else(|| Manifest::new(MediaType::MANIFEST, described.clone(), Vec::new()));
    manifest.config = described;
    manifest.layers.push(layer);
    let bytes = serde_json::to_vec(&manifest).context(|| "write the signatures")?;
    registry.put_manifest(repository, &tag(digest), &MediaType::from(MediaType::MANIFEST), &bytes)?;
    Ok(())
}

fn put(registry: &Registry, repository: &str, descriptor: &Descriptor, bytes: &[u8]) -> Result<()> {
    let mut open = |offset: u64| {
        let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
        Ok(Box::new(rest) as Box<dyn Read>)
    };
    Ok(registry.put_blob(repository, descriptor, &mut open)?)
}
