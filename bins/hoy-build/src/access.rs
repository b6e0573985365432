//! Options that several commands share: how a registry is reached, and which image of a list is meant.

use clap::{ArgAction, Args};

/// How a registry is reached.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Access {
    /// Credentials file
    #[arg(long, value_name = "FILE")]
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
        [retry, verify, directory].into_iter().flatten().collect()
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
}
