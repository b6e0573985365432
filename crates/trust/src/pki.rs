//! Certificates of authorities that the policy names: a key belongs to an address or a host.

use std::path::PathBuf;

use rustls_pki_types::{CertificateDer, ServerName};
use serde::Deserialize;

use crate::certificate::{authorities, certificate, chain, is_for_email, verify, wrong};
use crate::policy::keys;
use crate::{Attached, PublicKey, Result};

/// Whose certificates count, and who must have signed (containers-policy.json(5), "pki").
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pki {
    /// The authorities' certificates in PEM.
    #[serde(rename = "caRootsPath")]
    roots_path: Option<PathBuf>,
    /// The same in base64.
    #[serde(rename = "caRootsData")]
    roots_data: Option<String>,
    /// Certificates between the authorities' and the signer's, in PEM.
    #[serde(rename = "caIntermediatesPath")]
    between_path: Option<PathBuf>,
    /// The same in base64.
    #[serde(rename = "caIntermediatesData")]
    between_data: Option<String>,
    /// The signer's address.
    #[serde(rename = "subjectEmail")]
    email: Option<String>,
    /// The signer's host.
    #[serde(rename = "subjectHostname")]
    host: Option<String>,
}

impl Pki {
    /// Whether its fields go together.
    pub(crate) fn check(&self) -> std::result::Result<(), &'static str> {
        if self.roots_path.is_some() == self.roots_data.is_some() {
            return Err("pki has exactly one of caRootsPath and caRootsData");
        }
        if self.between_path.is_some() && self.between_data.is_some() {
            return Err("pki has one of caIntermediatesPath and caIntermediatesData at most");
        }
        let names = [&self.email, &self.host];
        if names.iter().all(|name| name.is_none()) || names.into_iter().flatten().any(String::is_empty) {
            return Err("pki has a subjectEmail or a subjectHostname");
        }
        Ok(())
    }

    /// The key of the signature's certificate, if one of the authorities made it for the signer and it is valid at `now`.
    pub(crate) fn key(&self, attached: &Attached, now: u64) -> Result<PublicKey> {
        let whose = "the policy's authorities";
        let roots = authorities(whose, &keys(self.roots_path.iter(), self.roots_data.as_slice())?.concat())?;
        let between = keys(self.between_path.iter(), self.between_data.as_slice())?.concat();
        let mut all = chain(attached)?;
        if self.between_path.is_some() || self.between_data.is_some() {
            all.extend(authorities("the policy's intermediate authorities", &between)?);
        }
        let der = CertificateDer::from(certificate(attached)?);
        let (verified, parsed) = verify((whose, &roots), &all, &der, now)?;
        if let Some(email) = &self.email {
            is_for_email(&parsed, email)?;
        }
        if let Some(host) = &self.host {
            let name =
                ServerName::try_from(host.as_str()).map_err(|_| wrong(&format!("\"{host}\" is no host name")))?;
            verified.verify_is_valid_for_subject_name(&name).map_err(|e| wrong(&e.to_string()))?;
        }
        PublicKey::of(parsed.key)
    }
}
