//! What can go wrong between here and a registry.

use std::io;
use std::path::{Path, PathBuf};

use crate::pinned::is_authority;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a registry, or the credentials for one, could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What was being done when the cause happened.
    #[error("{doing}")]
    Doing {
        /// Verb and object, the object in quotes.
        doing: String,
        /// Why it did not work.
        source: Box<Error>,
    },
    /// No connection, or one that broke.
    #[error("connect to \"{host}\"")]
    Connection {
        /// Host and port.
        host: String,
        /// Why.
        source: Failure,
    },
    /// The other side speaks plain HTTP where HTTPS was wanted.
    #[error(
        "\"{0}\" does not speak HTTPS: if you trust the way to it, allow plain HTTP with --tls-verify=false (in a copy --src-tls-verify=false or --dest-tls-verify=false)"
    )]
    PlainHttp(String),
    /// The server's certificate is not accepted.
    #[error("the certificate of \"{host}\" is not accepted: {reason}")]
    Certificate {
        /// Host and port.
        host: String,
        /// The rule it breaks.
        reason: String,
    },
    /// Certificates that cannot be used together.
    #[error("use the certificates that are given for the registry: {0}")]
    Certificates(String),
    /// Credentials are wanted, or those given are not accepted.
    #[error("unauthorized: authentication required: log in with \"hoy-copy login {0}\"")]
    Unauthorized(String),
    /// The credentials are good but do not allow this.
    #[error("denied: the account has no right to this at \"{0}\"")]
    Denied(String),
    /// A registry that the configuration forbids.
    #[error("registry {prefix} is blocked in \"{}\"", file.display())]
    Blocked {
        /// What names begin with that are blocked.
        prefix: String,
        /// The file that says so.
        file: PathBuf,
    },
    /// There is no such repository, tag, manifest or blob.
    #[error("the registry has no such {what}{said}")]
    NotFound {
        /// What kind of thing.
        what: &'static str,
        /// What the registry says about it, shortened, in brackets; may be empty.
        said: String,
    },
    /// An answer that is neither success nor one of the above.
    #[error("the registry answered {status}{}{message}", if message.is_empty() { "" } else { ": " })]
    Status {
        /// The HTTP status.
        status: u16,
        /// What the registry says about it, shortened; may be empty.
        message: String,
    },
    /// A server of files has none there, or gives it to nobody like this.
    #[error("invalid response status {0}{hint}", hint = hint(*.0))]
    Server(u16),
    /// What cannot be fetched from.
    #[error("use the address \"{0}\": {1}")]
    Address(String, &'static str),
    /// The registry sends this program somewhere it does not go.
    #[error("the registry points to \"{url}\", which is refused: {reason}")]
    Place {
        /// The address, without query and user.
        url: String,
        /// The rule.
        reason: &'static str,
    },
    /// An answer that the protocol does not allow.
    #[error("the registry's answer makes no sense: {0}")]
    Protocol(&'static str),
    /// An image of the time before content was addressed by digest.
    #[error(
        "it is a Docker image of schema version 1, which is not read any more: have it rebuilt, or converted there"
    )]
    Schema1,
    /// Content that is not what was asked for.
    #[error(transparent)]
    Content(#[from] hoy_oci::Error),
    /// Reading what was to be sent.
    #[error("read the content to send")]
    Read(#[source] io::Error),
    /// A file of credentials or certificates.
    #[error("{doing} \"{}\"", path.display())]
    File {
        /// A verb.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A credential helper that is missing or failed. The registry is not contacted without it.
    #[error("run credential helper \"{helper}\": {reason}")]
    Helper {
        /// The program's name.
        helper: String,
        /// What happened.
        reason: String,
    },
}

/// What a person can do about an answer.
fn hint(status: u16) -> &'static str {
    match status {
        401 => ": it wants a user and a password, as in https://USER:PASSWORD@HOST/PATH",
        403 => ": it does not give this away",
        404 | 410 => ": there is no such file",
        _ => "",
    }
}

impl Error {
    /// The thing asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self.innermost(), Self::NotFound { .. })
    }

    /// Credentials are missing or wrong.
    pub fn is_unauthorized(&self) -> bool {
        matches!(self.innermost(), Self::Unauthorized(_))
    }

    /// The same request may succeed a little later.
    pub fn is_temporary(&self) -> bool {
        match self.innermost() {
            Self::Status { status, .. } => crate::retry::is_temporary_status(*status),
            Self::Connection { source, .. } => crate::retry::is_temporary_failure(&source.0),
            _ => false,
        }
    }

    /// What was to be sent could not be read, or was not what it should be; the registry did nothing wrong.
    pub fn is_about_content(&self) -> bool {
        matches!(self.innermost(), Self::Read(_))
    }

    fn innermost(&self) -> &Self {
        let mut error = self;
        while let Self::Doing { source, .. } = error {
            error = source;
        }
        error
    }

    /// A closure for `map_err` on an operation with the file at `path`.
    pub(crate) fn file<E: Into<io::Error>>(doing: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        move |source| Self::File { doing, path: path.to_owned(), source: source.into() }
    }

    /// What `source` means for a request to `host`.
    pub(crate) fn connection(host: &str, source: ureq::Error) -> Self {
        if let ureq::Error::Io(error) = source {
            return match error.downcast::<Self>() {
                Ok(own) => own,
                Err(error) => Self::tls(host, &error)
                    .unwrap_or_else(|| Self::Connection { host: host.to_owned(), source: Failure(error.into()) }),
            };
        }
        match &source {
            ureq::Error::Rustls(error) => Self::rustls(host, error),
            _ => None,
        }
        .unwrap_or_else(|| Self::Connection { host: host.to_owned(), source: Failure(source) })
    }

    fn tls(host: &str, error: &io::Error) -> Option<Self> {
        Self::rustls(host, error.get_ref()?.downcast_ref::<rustls::Error>()?)
    }

    fn rustls(host: &str, error: &rustls::Error) -> Option<Self> {
        use rustls::{CertificateError, InvalidMessage};
        match error {
            rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => Some(Self::PlainHttp(host.to_owned())),
            rustls::Error::InvalidCertificate(why) => {
                let reason = match why {
                    CertificateError::UnknownIssuer => {
                        "x509: certificate signed by unknown authority: put its authority's certificate in \
                         /etc/containers/certs.d/HOST:PORT/ca.crt or name its directory with --cert-dir"
                            .to_owned()
                    }
                    CertificateError::Other(_) if is_authority(error) => {
                        "x509: certificate signed by unknown authority, or itself an authority's (CA:TRUE): make a server \
                         certificate signed by it, or put it itself where authorities are for this registry: \
                         /etc/containers/certs.d/HOST:PORT/ca.crt, or the directory of --cert-dir"
                            .to_owned()
                    }
                    other => other.to_string(),
                };
                Some(Self::Certificate { host: host.to_owned(), reason })
            }
            _ => None,
        }
    }
}

/// How a connection failed.
#[derive(Debug)]
pub struct Failure(pub(crate) ureq::Error);

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            ureq::Error::Io(error) => error.fmt(f),
            ureq::Error::HostNotFound => f.write_str("no such host"),
            ureq::Error::Timeout(_) => f.write_str("no answer in time"),
            other => other.fmt(f),
        }
    }
}

impl std::error::Error for Failure {}

/// Says what was being done when a request failed.
pub(crate) trait Doing<T> {
    /// Puts `doing` before the cause.
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Doing<T> for Result<T> {
    fn doing(self, doing: impl FnOnce() -> String) -> Self {
        self.map_err(|source| Error::Doing { doing: doing(), source: Box::new(source) })
    }
}
