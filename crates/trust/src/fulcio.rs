//! Certificates of Fulcio: for a few minutes, a key belongs to whoever logged in.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use serde::Deserialize;
use serde_json::json;

use crate::certificate::{CERTIFICATE, CHAIN, authorities, chain, is_for_email, verify, wrong};
use crate::der::{Certificate, blocks, to_pem};
use crate::{Attached, Error, PrivateKey, PublicKey, Result};

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

    /// The key of a certificate that an authority of `roots` made for the signer, valid at `seconds`.
    pub(crate) fn key(&self, roots: &[u8], attached: &Attached, certificate: &[u8], seconds: u64) -> Result<PublicKey> {
        let whose = "Fulcio's authority";
        let (roots, der) = (authorities(whose, roots)?, CertificateDer::from(certificate));
        let (_, parsed) = verify((whose, &roots), &chain(attached)?, &der, seconds)?;
        // The authorities need not say what they are for, the signer's certificate must.
        if parsed.extension(USAGES).flatten().is_none() {
            return Err(wrong("it does not say that it is for signing"));
        }
        let issuer = issuer(&parsed)?;
        if issuer != self.oidc_issuer {
            return Err(wrong(&format!("its issuer is \"{issuer}\", not \"{}\"", self.oidc_issuer)));
        }
        is_for_email(&parsed, &self.subject_email)?;
        PublicKey::of(parsed.key)
    }
}

/// A certificate that Fulcio made for a key, and those between it and the authority, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    certificate: String,
    chain: String,
}

impl Issued {
    /// What is sent to Fulcio for a certificate of `key`, as JSON: it shows that whoever asks as `subject` has the key.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn request(key: &PrivateKey, subject: &str) -> Result<Vec<u8>> {
        let content = STANDARD.encode(key.public_info());
        let document = json!({
            "publicKey": {"content": content, "algorithm": "ecdsa"},
            "signedEmailAddress": key.sign(subject.as_bytes())?,
        });
        Ok(document.to_string().into_bytes())
    }

    /// What Fulcio answers, certificates in PEM.
    ///
    /// # Errors
    /// When the first one is none of `key`.
    pub fn parse(answer: &[u8], key: &PrivateKey) -> Result<Self> {
        let wrong = |reason: &str| Error::form("read Fulcio's answer", reason);
        let all = blocks(answer, "CERTIFICATE").ok_or_else(|| wrong("it is damaged"))?;
        let (first, rest) = all.split_first().ok_or_else(|| wrong("it holds no certificate"))?;
        let parsed = Certificate::parse(first).ok_or_else(|| wrong("its certificate is damaged"))?;
        if parsed.key != key.public_info() {
            return Err(wrong("its certificate is for another key"));
        }
        let pem = |der: &Vec<u8>| to_pem("CERTIFICATE", der);
        Ok(Self { certificate: pem(first), chain: rest.iter().map(pem).collect() })
    }

    /// Puts the certificates beside a signature by their key.
    pub fn add_to(&self, attached: &mut Attached) {
        attached.more.insert(CERTIFICATE.to_owned(), self.certificate.clone());
        if !self.chain.is_empty() {
            attached.more.insert(CHAIN.to_owned(), self.chain.clone());
        }
    }

    /// The certificate in PEM, which is what a log is told.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }
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
