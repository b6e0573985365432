//! The flags for signatures and encryption.

use clap::Args;

/// skopeo's flags for signatures and encryption. Those that ask for what this version cannot do end the command.
#[derive(Debug, Args)]
pub(crate) struct Signing {
    /// Leave signatures behind, as this program always does
    #[arg(long)]
    pub(crate) remove_signatures: bool,
    #[arg(long, hide = true)]
    sign_by: Option<String>,
    #[arg(long, hide = true)]
    sign_by_sigstore: Option<String>,
    #[arg(long, hide = true)]
    sign_by_sigstore_private_key: Option<String>,
    #[arg(long, hide = true)]
    sign_by_sq_fingerprint: Option<String>,
    #[arg(long, hide = true)]
    sign_passphrase_file: Option<String>,
    #[arg(long, hide = true)]
    sign_identity: Option<String>,
    #[arg(long, hide = true)]
    encryption_key: Vec<String>,
    #[arg(long, hide = true)]
    encrypt_layer: Vec<String>,
    #[arg(long, hide = true)]
    decryption_key: Vec<String>,
}

impl Signing {
    /// The flag that asks for what cannot be done.
    pub(crate) fn unknown(&self) -> Option<&'static str> {
        let flags = [
            ("--sign-by", self.sign_by.is_some()),
            ("--sign-by-sigstore", self.sign_by_sigstore.is_some()),
            ("--sign-by-sigstore-private-key", self.sign_by_sigstore_private_key.is_some()),
            ("--sign-by-sq-fingerprint", self.sign_by_sq_fingerprint.is_some()),
            ("--sign-passphrase-file", self.sign_passphrase_file.is_some()),
            ("--sign-identity", self.sign_identity.is_some()),
            ("--encryption-key", !self.encryption_key.is_empty()),
            ("--encrypt-layer", !self.encrypt_layer.is_empty()),
            ("--decryption-key", !self.decryption_key.is_empty()),
        ];
        flags.into_iter().find(|(_, is_set)| *is_set).map(|(flag, _)| flag)
    }
}
