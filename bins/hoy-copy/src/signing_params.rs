//! How a sigstore signature is made, as a file says it: containers-sigstore-signing-params.yaml(5).

use std::path::{Path, PathBuf};

use hoy_cli::{Context, Error, Result};
use serde::Deserialize;

/// The longest file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// What the file says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Params {
    pub(crate) private_key_file: Option<PathBuf>,
    pub(crate) private_key_passphrase_file: Option<PathBuf>,
    pub(crate) fulcio: Option<Fulcio>,
    #[serde(rename = "rekorURL")]
    pub(crate) log: Option<String>,
}

/// Where a certificate comes from, and how it is shown who asks for it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fulcio {
    #[serde(rename = "fulcioURL")]
    pub(crate) address: String,
    #[serde(rename = "oidcMode")]
    pub(crate) mode: Mode,
    #[serde(rename = "oidcIssuerURL")]
    pub(crate) issuer: Option<String>,
    #[serde(rename = "oidcClientID")]
    pub(crate) client: Option<String>,
    #[serde(rename = "oidcClientSecret")]
    pub(crate) secret: Option<String>,
    #[serde(rename = "oidcIDToken")]
    pub(crate) token: Option<String>,
}

/// How somebody shows who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Mode {
    /// In a browser that comes back to this program.
    Interactive,
    /// In a browser anywhere (RFC 8628).
    DeviceGrant,
    /// With a token that is there already.
    StaticToken,
}

impl Params {
    /// Reads the file.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let doing = || format!("read \"{}\"", path.display());
        if std::fs::metadata(path).context(doing)?.len() > MAX_BYTES {
            return Err(Error::msg(format!("\"{}\" is too long for parameters of signing", path.display())));
        }
        let text = std::fs::read_to_string(path).context(doing)?;
        let params: Self = serde_saphyr::from_str(&text).context(doing)?;
        params.check().map_err(|reason| Error::msg(format!("read \"{}\": {reason}", path.display())))?;
        Ok(params)
    }

    /// Whether its fields go together.
    fn check(&self) -> std::result::Result<(), &'static str> {
        if self.private_key_passphrase_file.is_some() && self.private_key_file.is_none() {
            return Err("privateKeyPassphraseFile is for a privateKeyFile");
        }
        let Some(fulcio) = &self.fulcio else {
            return self.private_key_file.as_ref().map(|_| ()).ok_or("it names neither a privateKeyFile nor fulcio");
        };
        if self.private_key_file.is_some() {
            return Err("it names both a privateKeyFile and fulcio: one of them signs");
        }
        if self.log.is_none() {
            return Err("fulcio needs a rekorURL: the log tells for which time its certificate counts");
        }
        match fulcio.mode {
            Mode::StaticToken if fulcio.token.is_none() => Err("oidcMode staticToken needs an oidcIDToken"),
            Mode::DeviceGrant if fulcio.issuer.is_none() => Err("oidcMode deviceGrant needs an oidcIssuerURL"),
            Mode::Interactive => Err(
                "oidcMode interactive opens a browser here, which this version does not: with deviceGrant any browser serves",
            ),
            _ => Ok(()),
        }
    }
}

impl std::fmt::Debug for Fulcio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fulcio").field("address", &self.address).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_go_together() {
        let fulcio = "fulcio: {fulcioURL: 'https://f.x', oidcMode: ";
        for (text, want) in [
            ("privateKeyFile: k", "ok"),
            ("privateKeyFile: k\nrekorURL: https://r.x", "ok"),
            ("rekorURL: https://r.x", "neither"),
            ("privateKeyPassphraseFile: k", "is for a privateKeyFile"),
            (&format!("{fulcio}staticToken, oidcIDToken: t}}\nrekorURL: r"), "ok"),
            (&format!("{fulcio}staticToken, oidcIDToken: t}}"), "rekorURL"),
            (&format!("{fulcio}staticToken}}\nrekorURL: r"), "oidcIDToken"),
            (&format!("{fulcio}deviceGrant}}\nrekorURL: r"), "oidcIssuerURL"),
            (&format!("{fulcio}deviceGrant, oidcIssuerURL: i}}\nrekorURL: r"), "ok"),
            (&format!("{fulcio}interactive, oidcIssuerURL: i}}\nrekorURL: r"), "browser"),
            (&format!("{fulcio}staticToken, oidcIDToken: t}}\nrekorURL: r\nprivateKeyFile: k"), "both"),
        ] {
            let params: Params = serde_saphyr::from_str(text).unwrap();
            let checked = params.check().err().unwrap_or("ok");
            assert!(checked.contains(want), "{text}: {checked}");
        }
        for wrong in ["x: y", "privateKeyFile: [a]", "fulcio: {}", "fulcio: {fulcioURL: f, oidcMode: x}", "a"] {
            assert!(serde_saphyr::from_str::<Params>(wrong).is_err(), "{wrong}");
        }
    }
}
