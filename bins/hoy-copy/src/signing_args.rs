//! The flags for signatures.

use std::path::PathBuf;

use clap::Args;

/// skopeo's flags for signatures.
#[derive(Debug, Default, Args)]
pub(crate) struct Signing {
    /// Leave signatures behind
    #[arg(long)]
    pub(crate) remove_signatures: bool,
    /// Sign with the GnuPG key of this fingerprint or address
    #[arg(long, value_name = "KEY")]
    pub(crate) sign_by: Option<String>,
    /// Sign with the key of this fingerprint in Sequoia's store
    #[arg(long, value_name = "FINGERPRINT")]
    pub(crate) sign_by_sq_fingerprint: Option<String>,
    /// Sign as this file says: containers-sigstore-signing-params.yaml(5)
    #[arg(long, value_name = "FILE")]
    pub(crate) sign_by_sigstore: Option<PathBuf>,
    /// Sign with the sigstore private key in this file
    #[arg(long, value_name = "FILE")]
    pub(crate) sign_by_sigstore_private_key: Option<PathBuf>,
    /// The first line of this file unlocks the key
    #[arg(long, value_name = "FILE")]
    pub(crate) sign_passphrase_file: Option<PathBuf>,
    /// Name to sign for (default: the destination's)
    #[arg(long, value_name = "NAME")]
    pub(crate) sign_identity: Option<String>,
}

impl Signing {
    /// The first flag that asks for a simple signature.
    pub(crate) fn simple(&self) -> Option<&'static str> {
        let by_gpg = self.sign_by.as_ref().map(|_| "--sign-by");
        by_gpg.or(self.sign_by_sq_fingerprint.as_ref().map(|_| "--sign-by-sq-fingerprint"))
    }

    /// The first flag that asks for a sigstore signature.
    pub(crate) fn sigstore(&self) -> Option<&'static str> {
        let by_params = self.sign_by_sigstore.as_ref().map(|_| "--sign-by-sigstore");
        by_params.or(self.sign_by_sigstore_private_key.as_ref().map(|_| "--sign-by-sigstore-private-key"))
    }
}

#[derive(Debug, Args)]
pub(crate) struct StandaloneSignArgs {
    /// The manifest's file
    pub(crate) manifest: PathBuf,
    /// The image's name, in full
    pub(crate) reference: String,
    /// Fingerprint of the GnuPG key
    pub(crate) fingerprint: String,
    /// File to write the signature into
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// The first line of this file unlocks the key
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct StandaloneVerifyArgs {
    /// The manifest's file
    pub(crate) manifest: PathBuf,
    /// The image's name, in full
    pub(crate) reference: String,
    /// Fingerprints of GnuPG keys that may have signed, separated by commas; with --public-key-file also "any"
    pub(crate) fingerprints: String,
    /// The signature's file
    pub(crate) signature: PathBuf,
    /// Keys to check with (default: those of the user's keyring)
    #[arg(long, value_name = "FILE")]
    pub(crate) public_key_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct GenerateKeyArgs {
    /// The files will be PREFIX.key and PREFIX.pub
    #[arg(long, value_name = "PREFIX")]
    pub(crate) output_prefix: String,
    /// The first line of this file will unlock the key
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
}
