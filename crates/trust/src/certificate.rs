//! A signature's certificate: an authority's word for whose its key is.

use std::time::Duration;

use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use crate::der::{Certificate, blocks, only_block};
use crate::{Attached, Error, Result};

/// The annotations with the certificate and those between it and the authority.
pub(crate) const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
pub(crate) const CHAIN: &str = "dev.sigstore.cosign/chain";
/// 1.3.6.1.5.5.7.3.3: signing code.
const CODE_SIGNING: &[u8] = b"\x2b\x06\x01\x05\x05\x07\x03\x03";

/// The certificate of a signature, in DER.
pub(crate) fn certificate(attached: &Attached) -> Result<Vec<u8>> {
    let text = attached.more.get(CERTIFICATE);
    let text = text.ok_or_else(|| Error::refused("it asks for a certificate, and the signature has none"))?;
    only_block(text.as_bytes()).ok_or_else(|| wrong("it is not one certificate in PEM form"))
}

/// The certificates that a signature brings, which lead from its own to an authority.
pub(crate) fn chain(attached: &Attached) -> Result<Vec<CertificateDer<'static>>> {
    let between =
        attached.more.get(CHAIN).map(|text| all(text.as_bytes()).ok_or_else(|| wrong("its chain is damaged")));
    Ok(between.transpose()?.unwrap_or_default())
}

/// The certificates of `whose` in PEM; none is an error.
pub(crate) fn authorities(whose: &str, text: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    all(text).ok_or_else(|| Error::form(format!("read {whose}"), "it is no certificate in PEM form"))
}

/// Checks that one of the authorities `roots` of `whose` made the certificate, which is for signing and was valid at `seconds`.
pub(crate) fn verify<'a>(
    (whose, roots): (&str, &[CertificateDer<'_>]),
    between: &[CertificateDer<'_>],
    leaf: &'a CertificateDer<'_>,
    seconds: u64,
) -> Result<(EndEntityCert<'a>, Certificate<'a>)> {
    let anchors = roots.iter().map(anchor_from_trusted_cert).collect::<std::result::Result<Vec<_>, _>>();
    let anchors = anchors.map_err(|e| Error::form(format!("read {whose}"), e))?;
    let certificate = EndEntityCert::try_from(leaf).map_err(|e| wrong(&e.to_string()))?;
    let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let usage = KeyUsage::required_if_present(CODE_SIGNING);
    certificate
        .verify_for_usage(ALL_VERIFICATION_ALGS, &anchors, between, now, usage, None, None)
        .map_err(|e| wrong(&e.to_string()))?;
    let parsed = Certificate::parse(leaf).ok_or_else(|| wrong("it is damaged"))?;
    Ok((certificate, parsed))
}

/// Whether the certificate is for this address.
pub(crate) fn is_for_email(certificate: &Certificate<'_>, wanted: &str) -> Result<()> {
    let emails = certificate.emails().ok_or_else(|| wrong("its names are damaged"))?;
    if emails.contains(&wanted.as_bytes()) {
        return Ok(());
    }
    let emails: Vec<_> = emails.iter().map(|email| String::from_utf8_lossy(email)).collect();
    Err(wrong(&format!("it is for \"{}\", not \"{wanted}\"", emails.join(", "))))
}

pub(crate) fn wrong(reason: &str) -> Error {
    Error::refused(format!("the signature's certificate is not good: {reason}"))
}

fn all(text: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let found = blocks(text, "CERTIFICATE")?;
    (!found.is_empty()).then(|| found.into_iter().map(CertificateDer::from).collect())
}
