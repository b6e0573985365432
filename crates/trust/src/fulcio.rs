//! Certificates of Fulcio: for a few minutes, a key belongs to whoever logged in.

use std::path::PathBuf;
use std::time::Duration;

use rustls_pki_types::{CertificateDer, UnixTime};
use serde::Deserialize;
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use crate::der::{Certificate, blocks, only_block};
use crate::{Attached, Error, PublicKey, Result};

/// The annotations with the certificate and those between it and the authority.
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const CHAIN: &str = "dev.sigstore.cosign/chain";
/// 1.3.6.1.5.5.7.3.3: signing code.
const CODE_SIGNING: &[u8] = b"\x2b\x06\x01\x05\x05\x07\x03\x03";
/// 2.5.29.37: what a key is for.
const USAGES: &[u8] = b"\x55\x1d\x25";
/// 1.3.6.1.4.1.57264.1.1 and .8: who has said who somebody is; the first as plain text, the second as DER.
const ISSUER: &[u8] = b"\x2b\x06\x01\x04\x01\x83\xbf\x30\x01\x01";
const ISSUER_V2: &[u8] = b"\x2b\x06\x01\x04\x01\x83\xbf\x30\x01\x08";

/// Whose certificates count, and who must have signed.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fulcio {
    /// The authority's certificates in PEM.
    #[serde(rename = "caPath")]
    pub(crate) ca_path: Option<PathBuf>,
    /// The same in base64.
    #[serde(rename = "caData")]
    pub(crate) ca_data: Option<String>,
    /// Who must have said who the signer is.
    oidc_issuer: String,
    /// The signer's address.
    subject_email: String,
}

impl Fulcio {
    /// Whether its fields go together.
    pub(crate) fn check(&self) -> std::result::Result<(), &'static str> {
        if self.ca_path.is_some() == self.ca_data.is_some() {
            return Err("fulcio has exactly one of caPath and caData");
        }
        if self.oidc_issuer.is_empty() || self.subject_email.is_empty() {
            return Err("fulcio has an oidcIssuer and a subjectEmail");
        }
        Ok(())
    }

    /// The certificate of a signature, in DER.
    pub(crate) fn certificate(attached: &Attached) -> Result<Vec<u8>> {
        let text = attached.more.get(CERTIFICATE);
        let text = text.ok_or_else(|| Error::refused("it asks for a certificate, and the signature has none"))?;
        only_block(text.as_bytes()).ok_or_else(|| wrong("it is not one certificate in PEM form"))
    }

    /// The key of a certificate that an authority of `roots` made for the signer, valid at `seconds`.
    pub(crate) fn key(&self, roots: &[u8], attached: &Attached, certificate: &[u8], seconds: u64) -> Result<PublicKey> {
        let roots: Vec<CertificateDer<'_>> =
            all(roots).ok_or_else(|| Error::form("read Fulcio's authority", "it is no certificate in PEM form"))?;
        let anchors = roots.iter().map(anchor_from_trusted_cert).collect::<std::result::Result<Vec<_>, _>>();
        let anchors = anchors.map_err(|e| Error::form("read Fulcio's authority", e))?;
        let between =
            attached.more.get(CHAIN).map(|text| all(text.as_bytes()).ok_or_else(|| wrong("its chain is damaged")));
        let between: Vec<CertificateDer<'_>> = between.transpose()?.unwrap_or_default();
        let der = CertificateDer::from(certificate);
        let leaf = EndEntityCert::try_from(&der).map_err(|e| wrong(&e.to_string()))?;
        let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let usage = KeyUsage::required_if_present(CODE_SIGNING);
        leaf.verify_for_usage(ALL_VERIFICATION_ALGS, &anchors, &between, now, usage, None, None)
            .map_err(|e| wrong(&e.to_string()))?;
        let parsed = Certificate::parse(certificate).ok_or_else(|| wrong("it is damaged"))?;
        // The authorities need not say what they are for, the signer's certificate must.
        if parsed.extension(USAGES).flatten().is_none() {
            return Err(wrong("it does not say that it is for signing"));
        }
        let issuer = issuer(&parsed)?;
        if issuer != self.oidc_issuer {
            return Err(wrong(&format!("its issuer is \"{issuer}\", not \"{}\"", self.oidc_issuer)));
        }
        let emails = parsed.emails().ok_or_else(|| wrong("its names are damaged"))?;
        if !emails.contains(&self.subject_email.as_bytes()) {
            let emails: Vec<_> = emails.iter().map(|email| String::from_utf8_lossy(email)).collect();
            return Err(wrong(&format!("it is for \"{}\", not \"{}\"", emails.join(", "), self.subject_email)));
        }
        PublicKey::of(parsed.key)
    }
}

fn wrong(reason: &str) -> Error {
    Error::refused(format!("the signature's certificate is not good: {reason}"))
}

fn all(text: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let found = blocks(text, "CERTIFICATE")?;
    (!found.is_empty()).then(|| found.into_iter().map(CertificateDer::from).collect())
}

/// Who has said who the signer is; both ways of writing it must agree.
fn issuer(certificate: &Certificate<'_>) -> Result<String> {
    let damaged = || wrong("its issuer is damaged");
    let first = certificate.extension(ISSUER).ok_or_else(damaged)?;
    let second = certificate.extension(ISSUER_V2).ok_or_else(damaged)?;
    let second = second.map(|der| crate::der::utf8(der).ok_or_else(damaged)).transpose()?;
    let issuer = match (first, second) {
        (Some(first), Some(second)) if first != second => return Err(wrong("it names two issuers")),
        (Some(issuer), _) | (None, Some(issuer)) => issuer,
        (None, None) => return Err(wrong("it names no issuer")),
    };
    String::from_utf8(issuer.to_vec()).map_err(|_| damaged())
}
