//! The flags that say how one side of a copy is reached.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::access::{Access, Login};
use crate::words::{parse_bool, parse_duration};

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Retry {
    /// How many times to repeat what failed in a way that may pass
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) retry_times: u32,
    /// How long to wait before (default: 0.2s, twice as long each time)
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) retry_delay: Option<Duration>,
}

impl From<Retry> for hoy_registry::Retry {
    fn from(retry: Retry) -> Self {
        Self { times: retry.retry_times, delay: retry.retry_delay }
    }
}

/// Defines the flags of one side, which differ in their prefix alone.
macro_rules! side {
    ($name:ident, $prefix:literal $(, $short:literal)?) => {
        #[derive(Debug, Args)]
        pub(crate) struct $name {
            /// Credentials file
            #[arg(id = concat!($prefix, "authfile"), long = concat!($prefix, "authfile"), value_name = "FILE")]
            authfile: Option<PathBuf>,
            /// User and password for the registry
            #[arg(id = concat!($prefix, "creds"), long = concat!($prefix, "creds"), $(alias = $short,)? value_name = "USER[:PASSWORD]")]
            creds: Option<String>,
            /// User for the registry
            #[arg(id = concat!($prefix, "username"), long = concat!($prefix, "username"), value_name = "USER")]
            username: Option<String>,
            /// Password for the registry
            #[arg(id = concat!($prefix, "password"), long = concat!($prefix, "password"), value_name = "PASSWORD")]
            password: Option<String>,
            /// Use no credentials
            #[arg(id = concat!($prefix, "no-creds"), long = concat!($prefix, "no-creds"))]
            no_creds: bool,
            /// Bearer token for the registry
            #[arg(id = concat!($prefix, "registry-token"), long = concat!($prefix, "registry-token"), value_name = "TOKEN")]
            registry_token: Option<String>,
            /// Directory of certificates: *.crt, *.cert, *.key
            #[arg(id = concat!($prefix, "cert-dir"), long = concat!($prefix, "cert-dir"), value_name = "DIR")]
            cert_dir: Option<PathBuf>,
            /// Require HTTPS and a trusted certificate (default true)
            #[arg(id = concat!($prefix, "tls-verify"), long = concat!($prefix, "tls-verify"), value_name = "BOOL",
                num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_bool)]
            tls_verify: Option<bool>,
        }

        impl $name {
            /// These flags as what they mean.
            pub(crate) fn access(self, authfile: Option<PathBuf>) -> Access {
                let password = self.username.map(|user| Login { user, password: self.password });
                Access {
                    authfile: self.authfile.or(authfile),
                    login: self.creds.as_deref().map(Login::parse).or(password),
                    no_creds: self.no_creds,
                    token: self.registry_token,
                    cert_dir: self.cert_dir,
                    tls_verify: self.tls_verify,
                    ..Access::default()
                }
            }
        }
    };
}

// The short words are old ones that skopeo keeps.
side!(SourceAccess, "src-", "screds");
side!(DestinationAccess, "dest-", "dcreds");
side!(OnlyAccess, "");

/// Defines the flags of one side that are about places other than registries.
macro_rules! place {
    ($name:ident, $prefix:literal) => {
        #[derive(Debug, Args)]
        pub(crate) struct $name {
            /// Directory of blobs that OCI layouts share
            #[arg(id = concat!($prefix, "shared-blob-dir"), long = concat!($prefix, "shared-blob-dir"), value_name = "DIR")]
            shared_blob_dir: Option<PathBuf>,
            /// Address of the Docker daemon (default: DOCKER_HOST, or unix:///var/run/docker.sock)
            #[arg(id = concat!($prefix, "daemon-host"), long = concat!($prefix, "daemon-host"), value_name = "ADDRESS")]
            daemon_host: Option<String>,
        }

        impl $name {
            /// `access` with these flags too.
            pub(crate) fn add_to(self, access: Access) -> Access {
                Access { shared_blob_dir: self.shared_blob_dir, daemon_host: self.daemon_host, ..access }
            }
        }
    };
}

place!(SourcePlace, "src-");
place!(DestinationPlace, "dest-");
place!(OnlyPlace, "");
