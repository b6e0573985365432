//! The flags that encrypt and decrypt layers, and the keys that they name.

use std::io::Read;
use std::path::Path;

use clap::Args;
use hoy_cli::{Context, Error, Result};
use hoy_crypt::{PrivateKey, PublicKey};
use hoy_transport::Encryption;

/// The longest key or password that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Other ways of wrapping a layer's key, and why they are none here.
const OTHERS: [(&str, &str); 4] = [
    ("pgp", "needs a keyring that GnuPG alone reads"),
    ("pkcs7", "needs CMS, which this version does not write"),
    ("pkcs11", "needs the C library of a token, and this program loads none"),
    ("provider", "needs a program that has the keys, and this one asks no other"),
];

#[derive(Debug, Default, Args)]
pub(crate) struct EncryptionArgs {
    /// Encrypt layers for whoever has the private key of this public one; may be repeated
    #[arg(long, value_name = "jwe:FILE", value_delimiter = ',')]
    encryption_key: Vec<String>,
    /// Encrypt this layer alone, the lowest being 0, the uppermost -1; may be repeated (default: all)
    #[arg(long, value_name = "N", value_delimiter = ',', allow_negative_numbers = true, requires = "encryption_key")]
    encrypt_layer: Vec<i64>,
    /// Decrypt layers with this private key; may be repeated
    #[arg(long, value_name = "FILE[:PASSWORD]", value_delimiter = ',', conflicts_with = "encryption_key")]
    decryption_key: Vec<String>,
}

impl EncryptionArgs {
    /// For whom to encrypt which layers.
    pub(crate) fn encryption(&self) -> Result<Option<Encryption>> {
        let recipients = self.encryption_key.iter().map(|text| recipient(text)).collect::<Result<Vec<_>>>()?;
        let layers = self.encrypt_layer.clone();
        Ok((!recipients.is_empty()).then_some(Encryption { recipients, layers }))
    }

    /// What to decrypt with.
    pub(crate) fn decryption(&self) -> Result<Vec<PrivateKey>> {
        self.decryption_key.iter().map(|text| private(text)).collect()
    }
}

fn recipient(text: &str) -> Result<PublicKey> {
    let usage = |reason: &str| Error::msg(format!("--encryption-key \"{text}\": {reason}")).with_code(2);
    match text.split_once(':') {
        Some(("jwe", file)) => {
            let file = Path::new(file);
            PublicKey::parse(&read(file)?).context(|| format!("use key \"{}\"", file.display()))
        }
        found => {
            let why = found.and_then(|(kind, _)| OTHERS.iter().find(|(other, _)| *other == kind));
            Err(usage(&why.map_or("it is not of the form jwe:FILE".to_owned(), |(kind, why)| {
                format!("{kind} {why}: use jwe:FILE, which takes any RSA or EC key")
            })))
        }
    }
}

fn private(text: &str) -> Result<PrivateKey> {
    let (file, password) = match text.split_once(':') {
        Some(("provider", _)) => {
            let reason = "this version uses no key providers: use the file of a private key";
            return Err(Error::msg(format!("--decryption-key \"{text}\": {reason}")).with_code(2));
        }
        Some((file, password)) => (file, Some(unlocking(password)?)),
        None => (text, None),
    };
    let file = Path::new(file);
    PrivateKey::parse(&read(file)?, password.as_deref()).context(|| format!("use key \"{}\"", file.display()))
}

/// A password as such, or where it is.
fn unlocking(text: &str) -> Result<Vec<u8>> {
    let first_line = |bytes: Vec<u8>| bytes.split(|byte| *byte == b'\n').next().unwrap_or_default().to_vec();
    match text.split_once('=') {
        Some(("pass", password)) => Ok(password.as_bytes().to_vec()),
        Some(("file", file)) => Ok(first_line(read(Path::new(file))?)),
        Some(("fd", number)) => {
            let number: u32 = number.parse().context(|| format!("read a password from descriptor \"{number}\""))?;
            Ok(first_line(read(Path::new(&format!("/proc/self/fd/{number}")))?))
        }
        _ => Ok(text.as_bytes().to_vec()),
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let doing = || format!("read \"{}\"", path.display());
    let mut bytes = Vec::new();
    std::fs::File::open(path).context(doing)?.take(MAX_BYTES + 1).read_to_end(&mut bytes).context(doing)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::msg(format!("\"{}\" is too long for a key", path.display())));
    }
    Ok(bytes)
}
