//! The requirement `sigstoreSigned`: a signature by a key, or by a certificate, and perhaps in a log.

use std::path::PathBuf;

use serde::Deserialize;

use crate::certificate::certificate;
use crate::payload::{Claim, Kind};
use crate::pki::Pki;
use crate::policy::{agrees, any_of, keys};
use crate::{Attached, Error, Evidence, Fulcio, PublicKey, Result, SignedIdentity, Subject, rekor};

/// Whose sigstore signature an image must have (containers-policy.json(5)).
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SigstoreSigned {
    /// A public key in PEM.
    key_path: Option<PathBuf>,
    /// Several public keys.
    key_paths: Option<Vec<PathBuf>>,
    /// A public key in base64.
    key_data: Option<String>,
    /// Several public keys.
    key_datas: Option<Vec<String>>,
    /// Certificates instead of keys.
    fulcio: Option<Fulcio>,
    /// Certificates of other authorities.
    pki: Option<Pki>,
    /// The public key in PEM of a log that must have the signature.
    rekor_public_key_path: Option<PathBuf>,
    /// Several such keys, one of which is enough.
    rekor_public_key_paths: Option<Vec<PathBuf>>,
    /// Such a key in base64.
    rekor_public_key_data: Option<String>,
    /// Several such keys.
    rekor_public_key_datas: Option<Vec<String>>,
    /// Which names it may bear.
    signed_identity: Option<SignedIdentity>,
}

impl SigstoreSigned {
    /// Whether its fields go together.
    pub(crate) fn check(&self) -> std::result::Result<(), &'static str> {
        let logs = self.logs().into_iter().filter(|is_set| *is_set).count();
        if logs > 1 {
            return Err("sigstoreSigned has one of rekorPublicKeyPath, Paths, Data and Datas at most");
        }
        if self.fulcio.is_some() && logs == 0 {
            return Err("fulcio needs a rekorPublicKey, which tells when it was signed");
        }
        if self.pki.is_some() && logs > 0 {
            return Err("pki has no log: it goes with none of the rekorPublicKey fields");
        }
        self.fulcio.as_ref().map_or(Ok(()), Fulcio::check)?;
        self.pki.as_ref().map_or(Ok(()), Pki::check)?;
        let signers = [
            self.key_path.is_some(),
            self.key_paths.is_some(),
            self.key_data.is_some(),
            self.key_datas.is_some(),
            self.fulcio.is_some(),
            self.pki.is_some(),
        ];
        match signers.into_iter().filter(|is_set| *is_set).count() {
            1 => Ok(()),
            _ => Err("sigstoreSigned has exactly one of keyPath, keyPaths, keyData, keyDatas, fulcio and pki"),
        }
    }

    /// Which of the ways to name a log are used.
    fn logs(&self) -> [bool; 4] {
        [
            self.rekor_public_key_path.is_some(),
            self.rekor_public_key_paths.is_some(),
            self.rekor_public_key_data.is_some(),
            self.rekor_public_key_datas.is_some(),
        ]
    }

    /// Whether the image has a signature as it is asked for.
    pub(crate) fn is_met(&self, subject: Subject<'_>, evidence: &dyn Evidence) -> Result<()> {
        let own = public_keys((&self.key_path, &self.key_paths), (&self.key_data, &self.key_datas))?;
        let logs = public_keys(
            (&self.rekor_public_key_path, &self.rekor_public_key_paths),
            (&self.rekor_public_key_data, &self.rekor_public_key_datas),
        )?;
        let roots = match &self.fulcio {
            Some(fulcio) => keys(fulcio.ca_path.iter(), fulcio.ca_data.as_slice())?.concat(),
            None => Vec::new(),
        };
        let is_logged = self.logs().contains(&true);
        let usual = SignedIdentity::MatchRepoDigestOrExact {};
        let found = evidence.sigstore(subject.digest).map_err(Error::Refused)?;
        any_of(&found, |attached: &Attached| {
            let is_good = match (&self.fulcio, &self.pki) {
                (Some(fulcio), _) => {
                    let certificate = certificate(attached)?;
                    let when = rekor::logged_at(&logs, attached, &certificate)?;
                    fulcio.key(&roots, attached, &certificate, when)?.verifies(attached)
                }
                (None, Some(pki)) => pki.key(attached, subject.now)?.verifies(attached),
                (None, None) => match own.iter().find(|key| key.verifies(attached)) {
                    Some(key) if is_logged => rekor::logged_at(&logs, attached, key.info()).map(|_| true)?,
                    found => found.is_some(),
                },
            };
            if !is_good {
                return Err(Error::refused("the signature is not a good one by a trusted key"));
            }
            let claim = Claim::parse(&attached.payload, Kind::Sigstore)?;
            agrees(&claim, subject, self.signed_identity.as_ref().unwrap_or(&usual))
        })
    }
}

/// The public keys in files and in base64.
fn public_keys(
    (path, paths): (&Option<PathBuf>, &Option<Vec<PathBuf>>),
    (data, datas): (&Option<String>, &Option<Vec<String>>),
) -> Result<Vec<PublicKey>> {
    let datas: Vec<String> = data.iter().chain(datas.iter().flatten()).cloned().collect();
    let texts = keys(path.iter().chain(paths.iter().flatten()), &datas)?;
    texts.iter().map(|key| PublicKey::parse(key)).collect()
}
