//! Options that several commands share: how a registry is reached, and which image of a list is meant.

use std::ffi::OsStr;
use std::path::PathBuf;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Args, Command};
use hoy_cli::{Context as _, Result};
use hoy_layout::Store;
use hoy_oci::Digest;

use crate::containers_conf::ContainersConf;

/// How a registry is reached.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Access {
    /// Credentials file
    #[arg(long, value_name = "FILE", value_parser = Existing)]
    pub(crate) authfile: Option<String>,
    /// Directory of certificates
    #[arg(long, value_name = "DIR")]
    pub(crate) cert_dir: Option<String>,
    /// User and password
    #[arg(long, value_name = "USER[:PASSWORD]")]
    pub(crate) creds: Option<String>,
    /// Require HTTPS and a trusted certificate (default true)
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    pub(crate) tls_verify: Option<bool>,
    /// How many times to repeat what may pass the next time
    #[arg(long, value_name = "N")]
    pub(crate) retry: Option<u32>,
    /// How long to wait before it is repeated
    #[arg(long, value_name = "DURATION")]
    pub(crate) retry_delay: Option<String>,
}

/// A directory of blobs beside the store.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct BlobCache {
    /// Keep the image's blobs in this directory too, and take from there what would be fetched
    #[arg(long, value_name = "DIR")]
    blob_cache: Option<PathBuf>,
}

impl BlobCache {
    /// The option for `hoy-copy copy`, which fetches.
    pub(crate) fn option(&self) -> Option<String> {
        self.blob_cache.as_ref().map(|directory| format!("--blob-cache={}", directory.display()))
    }

    /// Keeps the blobs of the image whose manifest this is.
    pub(crate) fn keep(&self, store: &Store, manifest: &Digest) -> Result<()> {
        let Some(directory) = &self.blob_cache else { return Ok(()) };
        hoy_build::keep_blobs(store, manifest, directory).context(|| "keep blobs for --blob-cache")
    }
}

/// A file that is to be read is there, whether what is done comes to read it or not.
#[derive(Debug, Clone)]
struct Existing;

impl TypedValueParser for Existing {
    type Value = String;

    fn parse_ref(&self, _: &Command, _: Option<&Arg>, path: &OsStr) -> std::result::Result<String, clap::Error> {
        let text = path.to_string_lossy().into_owned();
        match std::fs::metadata(path) {
            Ok(_) => Ok(text),
            Err(error) => {
                let why = format!("checking authfile: stat {text}: {}\n", hoy_cli::Error::from(error));
                Err(clap::Error::raw(ErrorKind::Io, why))
            }
        }
    }
}

impl Access {
    /// The options for one side (`src` or `dest`) of `hoy-copy copy`, or for a command that has no sides.
    pub(crate) fn options(&self, side: &str) -> Vec<String> {
        let side = if side.is_empty() { String::new() } else { format!("{side}-") };
        let retry = self.retry.map(|n| n.to_string());
        let verify = self.tls_verify.map(|verify| verify.to_string());
        [
            (format!("--{side}authfile"), &self.authfile),
            (format!("--{side}cert-dir"), &self.cert_dir),
            (format!("--{side}creds"), &self.creds),
            (format!("--{side}tls-verify"), &verify),
            ("--retry-times".to_owned(), &retry),
            ("--retry-delay".to_owned(), &self.retry_delay),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name}={}", value.as_ref()?)))
        .collect()
    }
}

impl Access {
    /// The options for `hoy-copy fetch`: who somebody is at a registry is nobody else's business.
    pub(crate) fn fetching(&self) -> Vec<String> {
        let retry = self.retry.map(|n| format!("--retry-times={n}"));
        let verify = self.tls_verify.map(|verify| format!("--tls-verify={verify}"));
        let directory = self.cert_dir.as_ref().map(|dir| format!("--cert-dir={dir}"));
        let delay = self.retry_delay.as_ref().map(|delay| format!("--retry-delay={delay}"));
        [retry, delay, verify, directory].into_iter().flatten().collect()
    }
}

/// Another platform than this machine's.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct PlatformArgs {
    /// Choose an image for this processor
    #[arg(long, value_name = "NAME")]
    pub(crate) arch: Option<String>,
    /// Choose an image for this operating system
    #[arg(long, value_name = "NAME")]
    pub(crate) os: Option<String>,
    /// Choose an image for this variant of the processor
    #[arg(long, value_name = "NAME")]
    pub(crate) variant: Option<String>,
    /// Choose an image for this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", conflicts_with_all = ["arch", "os", "variant"])]
    pub(crate) platform: Option<hoy_oci::Platform>,
}

/// What becomes of an image on its way elsewhere.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Sending {
    /// How layers are compressed there: gzip, zstd, zstd:chunked or none
    #[arg(long, value_name = "FORMAT")]
    compression_format: Option<String>,
    /// How much
    #[arg(long, value_name = "LEVEL")]
    compression_level: Option<String>,
    /// Compress again what is compressed otherwise
    #[arg(long, requires = "compression_format")]
    force_compression: bool,
    /// Leave signatures behind
    #[arg(long)]
    remove_signatures: bool,
    /// Sign with this key of GnuPG
    #[arg(long, value_name = "KEY")]
    pub(crate) sign_by: Option<String>,
    /// Encrypt layers for this key
    #[arg(long, value_name = "jwe:FILE")]
    encryption_key: Vec<String>,
    /// Encrypt this layer alone, counted from 0; negative numbers count from the last
    #[arg(long, value_name = "N", allow_hyphen_values = true, requires = "encryption_key")]
    encrypt_layer: Vec<String>,
}

impl Sending {
    /// The same, compressed as the machine wants it where nobody says how.
    pub(crate) fn or(&self, conf: &ContainersConf) -> Self {
        let (format, level) = conf.compression();
        match &self.compression_format {
            Some(_) => self.clone(),
            None => Self {
                compression_format: format,
                compression_level: self.compression_level.clone().or(level),
                ..self.clone()
            },
        }
    }

    /// The options for `hoy-copy copy`.
    pub(crate) fn options(&self) -> Vec<String> {
        let one = |name: &str, value: &Option<String>| value.as_ref().map(|value| format!("--{name}={value}"));
        let each = |name: &'static str, values: &[String]| {
            values.iter().map(|value| format!("--{name}={value}")).collect::<Vec<_>>()
        };
        let flag = |name: &str, is_set: bool| is_set.then(|| format!("--{name}"));
        let is_plain = self.compression_format.as_deref() == Some("none");
        let compressed = self.compression_format.clone().filter(|_| !is_plain);
        let options = [
            flag("dest-decompress", is_plain),
            one("dest-compress-format", &compressed),
            one("dest-compress-level", &self.compression_level),
            flag("dest-force-compress-format", self.force_compression),
            flag("remove-signatures", self.remove_signatures),
            one("sign-by", &self.sign_by),
        ];
        let lists = [each("encryption-key", &self.encryption_key), each("encrypt-layer", &self.encrypt_layer)];
        options.into_iter().flatten().chain(lists.into_iter().flatten()).collect()
    }
}

/// What becomes of an image on its way here.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Receiving {
    /// Decrypt layers with this key
    #[arg(long, value_name = "FILE[:PASSWORD]")]
    decryption_key: Vec<String>,
}

impl Receiving {
    /// The options for `hoy-copy copy`.
    pub(crate) fn options(&self) -> impl Iterator<Item = String> {
        self.decryption_key.iter().map(|key| format!("--decryption-key={key}"))
    }
}
