//! Whom to trust, and the agents that do.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ureq::Agent;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::transport::DefaultConnector;

use crate::pinned::Given;
use crate::resolver::HostResolver;
use crate::{Error, Result};

/// Where distributions keep the certificates of public authorities; the first that exists is used.
const SYSTEM_BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Whom to trust as a registry (containers-certs.d(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Whether certificates are checked and plain HTTP is refused.
    pub verify: bool,
    /// A bundle of authorities to use instead of the system's.
    pub bundle: Option<PathBuf>,
    /// Directories with `*.crt` (authorities), `*.cert` and `*.key` (this client's own); missing ones are passed over.
    pub directories: Vec<PathBuf>,
}

impl Default for Tls {
    fn default() -> Self {
        Self { verify: true, bundle: None, directories: Vec::new() }
    }
}

impl Tls {
    /// An agent that checks certificates, or one that does not; it gives up on who is silent for longer than `patience`.
    pub(crate) fn agent(&self, verify: bool, user_agent: &str, patience: Duration) -> Result<Agent> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(provider.clone())
            .disable_verification(!verify)
            .client_cert(self.client_certificate()?);
        if verify {
            tls = tls.root_certs(RootCerts::Specific(Arc::new(self.authorities()?)));
        }
        let config = Agent::config_builder()
            .tls_config(tls.build())
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(user_agent)
            .max_idle_connections_per_host(8)
            .input_buffer_size(64 << 10)
            .output_buffer_size(64 << 10)
            .timeout_resolve(Some(Duration::from_secs(15)))
            .timeout_connect(Some(Duration::from_secs(30)))
            .timeout_recv_response(Some(patience.saturating_mul(5)))
            .timeout_per_read(Some(patience))
            .timeout_per_write(Some(patience))
            .build();
        let pinned = if verify { self.pinned()? } else { Vec::new() };
        if pinned.is_empty() {
            return Ok(Agent::with_parts(config, DefaultConnector::new(), HostResolver));
        }
        let der = |all: &[Certificate<'_>]| all.iter().map(|one| one.der().to_vec().into()).collect();
        let given = Given {
            provider,
            authorities: der(&self.authorities()?),
            pinned: der(&pinned),
            client: self.client_files()?.map(|(chain, key)| (der(&chain), key)),
        };
        let wrong = |error| Error::Certificates(format!("{error}"));
        Ok(Agent::with_parts(config, crate::pinned::connector(given).map_err(wrong)?, HostResolver))
    }

    /// The certificates that were given for this registry.
    fn pinned(&self) -> Result<Vec<Certificate<'static>>> {
        let mut found = Vec::new();
        for path in self.files_named("crt")? {
            read_certificates(&path, &mut found)?;
        }
        Ok(found)
    }

    fn authorities(&self) -> Result<Vec<Certificate<'static>>> {
        let mut found = self.pinned()?;
        let system = || SYSTEM_BUNDLES.iter().map(Path::new).find(|path| path.exists()).map(Path::to_owned);
        if let Some(bundle) = self.bundle.clone().or_else(system) {
            read_certificates(&bundle, &mut found)?;
        }
        Ok(found)
    }

    fn client_certificate(&self) -> Result<Option<ClientCert>> {
        let Some((chain, pem)) = self.client_files()? else { return Ok(None) };
        // It was read as one before.
        let Ok(key) = PrivateKey::from_pem(&pem) else { return Ok(None) };
        Ok(Some(ClientCert::new_with_certs(&chain, key)))
    }

    /// This client's chain of certificates and, in PEM, its key.
    fn client_files(&self) -> Result<Option<(Vec<Certificate<'static>>, Vec<u8>)>> {
        let Some(path) = self.files_named("cert")?.into_iter().next() else { return Ok(None) };
        let mut chain = Vec::new();
        read_certificates(&path, &mut chain)?;
        let key = path.with_extension("key");
        let pem = std::fs::read(&key).map_err(Error::file("read", &key))?;
        let wrong = |_| Error::file("read", &key)(std::io::Error::other("it holds no private key in PEM form"));
        PrivateKey::from_pem(&pem).map_err(wrong)?;
        Ok(Some((chain, pem)))
    }

    /// The files with this extension in the directories, sorted.
    fn files_named(&self, extension: &str) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for directory in &self.directories {
            let entries = match std::fs::read_dir(directory) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                other => other.map_err(Error::file("read", directory))?,
            };
            for entry in entries {
                let path = entry.map_err(Error::file("read", directory))?.path();
                found.extend(path.extension().is_some_and(|e| e == extension).then(|| path.clone()));
            }
        }
        found.sort();
        Ok(found)
    }
}

fn read_certificates(path: &Path, found: &mut Vec<Certificate<'static>>) -> Result<()> {
    let pem = std::fs::read(path).map_err(Error::file("read", path))?;
    for item in parse_pem(&pem) {
        match item {
            Ok(PemItem::Certificate(certificate)) => found.push(certificate),
            Ok(_) => {}
            Err(_) => return Err(Error::file("read", path)(std::io::Error::other("it is damaged PEM"))),
        }
    }
    Ok(())
}
