//! What signs: keys of GnuPG and Sequoia, sigstore's, and those for which Fulcio makes certificates.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hoy_cli::{Context, Error, Result};
use hoy_registry::Question;
use hoy_trust::{Attached, Issued, PrivateKey};

use crate::access::ask_password;
use crate::args::Global;
use crate::oidc::IdToken;
use crate::signing_args::Signing;
use crate::signing_params::{Fulcio, Mode, Params};
use crate::web::{ask, said};

const JSON: &str = "application/json";
/// Fulcio's certificates hold for ten minutes; after these another one is asked for.
const MAX_AGE: Duration = Duration::from_secs(5 * 60);

/// What the flags name, opened: all that can be known to fail has not.
pub(crate) struct Keys {
    /// GnuPG's name of a key.
    simple: Option<String>,
    /// A key out of Sequoia's store.
    sequoia: Option<Vec<u8>>,
    passphrase: Option<String>,
    pub(crate) sigstore: Vec<SigstoreKey>,
}

impl Keys {
    /// The keys that the flags ask for, in the order in which they sign.
    pub(crate) fn open(global: &Global, signing: &Signing) -> Result<Self> {
        let passphrase = signing.sign_passphrase_file.as_deref().map(first_line).transpose()?;
        let mut sigstore = Vec::new();
        if let Some(path) = &signing.sign_by_sigstore {
            sigstore.push(SigstoreKey::from_params(global, Params::read(path)?)?);
        }
        if let Some(path) = &signing.sign_by_sigstore_private_key {
            sigstore.push(SigstoreKey { key: Key::Own(open(path, passphrase.clone())?), log: None });
        }
        let sequoia = signing.sign_by_sq_fingerprint.as_deref().map(from_sequoia).transpose()?;
        Ok(Self { simple: signing.sign_by.clone(), sequoia, passphrase, sigstore })
    }

    /// Simple signatures of a text.
    pub(crate) fn sign_simply(&self, text: &[u8]) -> Result<Vec<Vec<u8>>> {
        let passphrase = self.passphrase.as_deref();
        let mut all = Vec::new();
        if let Some(key) = &self.simple {
            all.push(hoy_trust::sign_simple(text, key, passphrase)?);
        }
        if let Some(key) = &self.sequoia {
            all.push(hoy_trust::sign_simple_with(text, key, passphrase)?);
        }
        Ok(all)
    }
}

/// The first line of a file.
pub(crate) fn first_line(path: &Path) -> Result<String> {
    let doing = || format!("read \"{}\"", path.display());
    let text = std::fs::read_to_string(path).context(doing)?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn open(path: &Path, passphrase: Option<String>) -> Result<PrivateKey> {
    let doing = || format!("read \"{}\"", path.display());
    let key = std::fs::read(path).context(doing)?;
    PrivateKey::open(&key, &passphrase.map_or_else(ask_password, Ok)?).context(doing)
}

/// The key of this fingerprint in Sequoia's store, where each has a file.
fn from_sequoia(fingerprint: &str) -> Result<Vec<u8>> {
    let hex: String = fingerprint.chars().filter(|c| *c != ' ').collect::<String>().to_ascii_uppercase();
    if ![40, 64].contains(&hex.len()) || !hex.bytes().all(|c| c.is_ascii_hexdigit()) {
        let text = format!("--sign-by-sq-fingerprint: \"{fingerprint}\" is no fingerprint of a key");
        return Err(Error::msg(text).with_code(2));
    }
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let data = match (set("SEQUOIA_HOME"), set("XDG_DATA_HOME")) {
        (Some(home), _) => home.join("data"),
        (None, Some(data)) => data.join("sequoia"),
        (None, None) => set("HOME").unwrap_or_default().join(".local/share/sequoia"),
    };
    let path = data.join("keystore/softkeys").join(format!("{hex}.pgp"));
    std::fs::read(&path).context(|| format!("read the key \"{}\" of Sequoia's store", path.display()))
}

/// What makes sigstore signatures, and who logs them.
pub(crate) struct SigstoreKey {
    key: Key,
    /// The log's address.
    log: Option<String>,
}

enum Key {
    Own(PrivateKey),
    Certified(Authority),
}

/// Who makes certificates, for whom, and the last one.
struct Authority {
    address: String,
    token: IdToken,
    last: Mutex<Certified>,
}

struct Certified {
    key: PrivateKey,
    issued: Issued,
    since: Instant,
}

impl SigstoreKey {
    fn from_params(global: &Global, params: Params) -> Result<Self> {
        let key = match (&params.private_key_file, params.fulcio) {
            (_, Some(fulcio)) => Key::Certified(Authority::new(global, &fulcio)?),
            (path, None) => {
                let passphrase = params.private_key_passphrase_file.as_deref().map(first_line).transpose()?;
                Key::Own(open(path.as_deref().unwrap_or(Path::new("")), passphrase)?)
            }
        };
        Ok(Self { key, log: params.log })
    }

    /// Signs a text, and has the log say so.
    pub(crate) fn sign(&self, global: &Global, payload: Vec<u8>) -> Result<Attached> {
        let mut attached = Attached { payload, signature: String::new(), more: BTreeMap::new() };
        let signer = match &self.key {
            Key::Own(key) => {
                attached.signature = key.sign(&attached.payload)?;
                key.public()
            }
            Key::Certified(authority) => authority.sign(global, &mut attached)?,
        };
        if let Some(log) = &self.log {
            let entry = attached.log_entry(&signer);
            let answer = upload(global, log.trim_end_matches('/'), &entry)?;
            attached.add_log(&signer, &answer).context(|| format!("have \"{log}\" log the signature"))?;
        }
        Ok(attached)
    }
}

impl Authority {
    fn new(global: &Global, fulcio: &Fulcio) -> Result<Self> {
        let token = match fulcio.mode {
            Mode::DeviceGrant => IdToken::by_device_grant(global, fulcio)?,
            _ => IdToken::parse(fulcio.token.as_deref().unwrap_or_default())?,
        };
        let address = fulcio.address.trim_end_matches('/').to_owned();
        let last = Mutex::new(Certified::ask(global, &address, &token)?);
        Ok(Self { address, token, last })
    }

    /// Signs with a key whose certificate is young; returns the certificate.
    fn sign(&self, global: &Global, attached: &mut Attached) -> Result<String> {
        // It is replaced as a whole: a thread that died left the one before.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.since.elapsed() > MAX_AGE {
            *last = Certified::ask(global, &self.address, &self.token)?;
        }
        attached.signature = last.key.sign(&attached.payload)?;
        last.issued.add_to(attached);
        Ok(last.issued.certificate().to_owned())
    }
}

impl Certified {
    /// Has Fulcio make a certificate for a new key.
    fn ask(global: &Global, authority: &str, token: &IdToken) -> Result<Self> {
        let address = format!("{authority}/api/v1/signingCert");
        let key = PrivateKey::fresh()?;
        let request = Issued::request(&key, &token.subject)?;
        let sends = Some((JSON, request.as_slice()));
        let answer = ask(global, Question { address: &address, named_by: None, token: Some(&token.text), sends })?;
        if !matches!(answer.status, 200 | 201) {
            let text = format!("have \"{address}\" make a certificate for \"{}\": {}", token.subject, said(&answer));
            return Err(Error::msg(text).with_hint("an ID token holds for some minutes only"));
        }
        let issued = Issued::parse(&answer.body, &key)?;
        Ok(Self { key, issued, since: Instant::now() })
    }
}

/// Puts an entry into a log, and returns what the log says of it.
fn upload(global: &Global, log: &str, entry: &[u8]) -> Result<Vec<u8>> {
    let address = format!("{log}/api/v1/log/entries");
    let answer = ask(global, Question { address: &address, named_by: None, token: None, sends: Some((JSON, entry)) })?;
    let known = answer.location.as_deref().and_then(|place| place.rsplit('/').next());
    let answer = match (answer.status, known) {
        // The log has it already, and says under which name.
        (409, Some(name)) if !name.is_empty() && name.bytes().all(|c| c.is_ascii_hexdigit()) => {
            let address = format!("{address}/{name}");
            ask(global, Question { address: &address, named_by: None, token: None, sends: None })?
        }
        _ => answer,
    };
    match answer.status {
        200 | 201 => Ok(answer.body),
        _ => Err(Error::msg(format!("have \"{address}\" log the signature: {}", said(&answer)))),
    }
}
