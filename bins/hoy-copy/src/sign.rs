//! Making signatures: with a copy, and of files.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use hoy_cli::{Context, Error, Result, print_line};
use hoy_oci::{Digest, Reference};
use hoy_registry::Retry;
use hoy_transport::ImageName;
use hoy_trust::{Claim, Kind, SignaturePlaces};

use crate::access::{Access, ask_password};
use crate::args::Global;
use crate::keys::{Keys, first_line};
use crate::signatures;
use crate::signing_args::{GenerateKeyArgs, Signing, StandaloneSignArgs, StandaloneVerifyArgs};

/// What signatures say of who made them.
const CREATOR: &str = concat!("hoy-copy ", env!("CARGO_PKG_VERSION"));

/// Where a copy puts the signatures that it is to make, and for which name; all that can be known to fail has not.
pub(crate) struct Signer {
    identity: Reference,
    /// What registries.d says, where the destination is a registry.
    places: SignaturePlaces,
}

impl Signer {
    /// The place for the signatures that the flags ask for; none where they ask for none.
    pub(crate) fn new(global: &Global, signing: &Signing, to: &ImageName) -> Result<Option<Self>> {
        let usage = |text: String| Error::msg(text).with_code(2);
        let (simple, sigstore) = (signing.simple(), signing.sigstore());
        if simple.or(sigstore).is_none() {
            return match &signing.sign_identity {
                Some(_) => Err(usage("--sign-identity is for a copy that signs".to_owned())),
                None => Ok(None),
            };
        }
        let places = match to {
            ImageName::Docker(reference) => signatures::places(global, reference)?,
            ImageName::Dir(_) | ImageName::Store { .. } => SignaturePlaces::default(),
            _ => return Err(usage(format!("{to} has no place for signatures: docker:, dir: and store: have"))),
        };
        let identity = match (&signing.sign_identity, to) {
            (Some(name), _) => full_name(name)?,
            (None, ImageName::Docker(reference)) => reference.clone(),
            (None, ImageName::Store { name, .. }) => self::name(name)?,
            _ => {
                return Err(usage(format!(
                    "Cannot determine canonical Docker reference for {to}: name it with hoy-copy's --sign-identity"
                )));
            }
        };
        if let ImageName::Docker(reference) = to {
            let hint = "containers-registries.d(5) says how";
            let has_directory = places.to_write().and_then(SignaturePlaces::file).is_some();
            if let Some(flag) = simple.filter(|_| !has_directory) {
                let text = format!("{flag}: no directory is configured for the signatures of \"{reference}\"");
                return Err(Error::msg(text).with_hint(hint));
            }
            if let Some(flag) = sigstore.filter(|_| !places.are_attached()) {
                let text = format!("{flag}: use-sigstore-attachments is not configured for \"{reference}\"");
                return Err(Error::msg(text).with_hint(hint));
            }
        }
        Ok(Some(Self { identity, places }))
    }

    /// Signs what was written.
    pub(crate) fn sign(
        &self,
        global: &Global,
        keys: &Keys,
        (to, digest): (&ImageName, &Digest),
        access: &Access,
        retry: Retry,
    ) -> Result<()> {
        let text = |kind| hoy_trust::payload(kind, &self.identity, digest, CREATOR, Some(now()));
        for signature in keys.sign_simply(&text(Kind::Simple))? {
            match to {
                ImageName::Docker(reference) => {
                    let base = self.places.to_write().unwrap_or_default();
                    signatures::put_beside(base, reference, digest, &signature)?;
                }
                other => {
                    let place = signatures::directory(global, other, digest)?;
                    place.map_or(Ok(()), |place| signatures::put_in_directory(&place, digest, &signature))?;
                }
            }
        }
        for key in &keys.sigstore {
            let attached = key.sign(global, text(Kind::Sigstore))?;
            match to {
                ImageName::Docker(reference) => {
                    let registry = access.registry(global, reference, retry)?;
                    signatures::attach(&registry, reference.repository(), digest, &attached)?;
                }
                other => {
                    let (place, file) = (signatures::directory(global, other, digest)?, signatures::to_file(&attached));
                    place.map_or(Ok(()), |place| signatures::put_in_directory(&place, digest, &file))?;
                }
            }
        }
        Ok(())
    }
}

fn name(text: &str) -> Result<Reference> {
    Reference::parse(text).map_err(|e| Error::from(e).with_code(2))
}

fn full_name(text: &str) -> Result<Reference> {
    let name = name(text)?;
    if name.tag().is_none() && name.digest().is_none() {
        return Err(Error::msg(format!("\"{text}\": a name to sign for has a tag or a digest")).with_code(2));
    }
    Ok(name)
}

/// What time it is, in seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).context(|| format!("read \"{}\"", path.display()))
}

/// `standalone-sign`.
pub(crate) fn standalone_sign(args: StandaloneSignArgs) -> Result<()> {
    let digest = Digest::of(&read(&args.manifest)?);
    let passphrase = args.passphrase_file.as_deref().map(first_line).transpose()?;
    let text = hoy_trust::payload(Kind::Simple, &name(&args.reference)?, &digest, CREATOR, Some(now()));
    let signature = hoy_trust::sign_simple(&text, &args.fingerprint, passphrase.as_deref())?;
    std::fs::write(&args.output, signature).context(|| format!("write \"{}\"", args.output.display()))
}

/// `standalone-verify`.
pub(crate) fn standalone_verify(args: StandaloneVerifyArgs) -> Result<()> {
    let wrong = |reason: String| Error::msg(format!("verify \"{}\": {reason}", args.signature.display()));
    let digest = Digest::of(&read(&args.manifest)?);
    let wanted: Vec<String> = args.fingerprints.split(',').map(|f| f.trim().to_ascii_uppercase()).collect();
    let is_any = wanted.iter().any(|fingerprint| fingerprint == "ANY");
    let keys = match &args.public_key_file {
        Some(path) => vec![read(path)?],
        None if is_any => return Err(Error::msg("\"any\" is for --public-key-file").with_code(2)),
        None => wanted.iter().map(|f| hoy_trust::export_simple_key(f)).collect::<std::result::Result<_, _>>()?,
    };
    let (text, fingerprint) = hoy_trust::check_simple(&read(&args.signature)?, &keys)?;
    if !is_any && !wanted.contains(&fingerprint.to_ascii_uppercase()) {
        return Err(wrong(format!("it is by another key, {fingerprint}")));
    }
    let claim = Claim::parse(&text, Kind::Simple)?;
    if claim.digest != digest {
        return Err(wrong(format!("it is for another image, {}", claim.digest)));
    }
    if Reference::parse(&claim.reference).ok() != Some(name(&args.reference)?) {
        return Err(wrong(format!("it is for the name \"{}\"", claim.reference)));
    }
    // skopeo's words: scripts take the digest from them, some as the last word, some as the fourth.
    let by = if wanted.len() > 1 || is_any { format!(" using fingerprint {fingerprint}") } else { String::new() };
    print_line(format!("Signature verified{by}, digest {digest}"))
}

/// `generate-sigstore-key`.
pub(crate) fn generate_key(args: GenerateKeyArgs) -> Result<()> {
    let path = |end: &str| PathBuf::from(format!("{}.{end}", args.output_prefix));
    let (private_path, public_path) = (path("key"), path("pub"));
    for path in [&private_path, &public_path] {
        if path.exists() {
            return Err(Error::msg(format!("\"{}\" exists, and is not overwritten", path.display())));
        }
    }
    let passphrase = args.passphrase_file.as_deref().map_or_else(ask_password, first_line)?;
    let (private, public) = hoy_trust::generate_key(&passphrase)?;
    let write = |path: &Path, mode: u32, text: &str| {
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(mode).open(path);
        file.and_then(|mut file| file.write_all(text.as_bytes())).context(|| format!("write \"{}\"", path.display()))
    };
    write(&private_path, 0o600, &private)?;
    write(&public_path, 0o644, &public)?;
    print_line(format!("Key written to \"{}\" and \"{}\"", private_path.display(), public_path.display()))
}
