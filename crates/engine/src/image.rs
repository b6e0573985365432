//! Images: what names mean, and fetching and sending them through `hoy-copy`.

use hoy_layout::{Image, NamedImage};
use hoy_oci::{Digest, Reference};

use crate::{Engine, Error, Result};

/// When an image is fetched from its registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pull {
    /// Never.
    Never,
    /// When the store does not have it.
    #[default]
    Missing,
    /// Each time.
    Always,
}

/// How a registry is talked to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transfer {
    /// Whether its certificate is checked; none is `hoy-copy`'s default.
    pub tls_verify: Option<bool>,
    /// `USER:PASSWORD`.
    pub creds: Option<String>,
    /// A file with credentials.
    pub authfile: Option<String>,
    /// Say nothing while it runs.
    pub quiet: bool,
}

impl Transfer {
    /// The options of `hoy-copy copy`; `side` is `src` or `dest`.
    fn args(&self, side: &str) -> Vec<String> {
        let mut args = vec!["copy".to_owned()];
        args.extend(self.tls_verify.map(|verify| format!("--{side}-tls-verify={verify}")));
        args.extend(self.creds.iter().map(|creds| format!("--{side}-creds={creds}")));
        args.extend(self.authfile.iter().map(|file| format!("--{side}-authfile={file}")));
        args.extend(self.quiet.then(|| "--quiet".to_owned()));
        args
    }
}

/// The full reference for a name that is written with its registry.
///
/// # Errors
/// [`Error::ShortName`] for one without a host, since anybody could have it; [`Error::Name`].
pub fn full_name(text: &str) -> Result<Reference> {
    let text = text.strip_prefix("docker://").unwrap_or(text);
    let reference = Reference::parse(text).map_err(Error::Name)?.or_latest();
    let first = text.split('/').next().unwrap_or("");
    let has_host = text.contains('/') && (first.contains(['.', ':']) || first == "localhost");
    if has_host { Ok(reference) } else { Err(Error::ShortName(text.to_owned())) }
}

impl Engine {
    /// Fetches an image and gives its id.
    ///
    /// # Errors
    /// [`Error::ShortName`], [`Error::Told`] when `hoy-copy` failed.
    pub fn pull(&self, name: &str, transfer: &Transfer) -> Result<Digest> {
        let full = full_name(name)?.to_string();
        let mut args = transfer.args("src");
        args.extend([format!("docker://{full}"), format!("store:{full}")]);
        self.programs.output_seen("hoy-copy", &args)?;
        let (_, image) = self.store.image(&full)?;
        Ok(image.manifest.config.digest)
    }

    /// Sends an image to a registry, by its own name unless `destination` is given; gives the manifest's digest there.
    ///
    /// # Errors
    /// [`Error::ShortName`], [`Error::Told`] when `hoy-copy` failed.
    pub fn push(&self, name: &str, destination: Option<&str>, transfer: &Transfer) -> Result<String> {
        let found = self.store.find_image(name)?;
        let own = found.name.clone().unwrap_or_else(|| name.to_owned());
        let target = match destination {
            Some(text) if text.contains(':') && !text.starts_with("docker://") && is_transport(text) => text.to_owned(),
            other => format!("docker://{}", full_name(other.unwrap_or(&own))?),
        };
        let mut args = transfer.args("dest");
        args.extend([format!("store:{own}"), target]);
        self.programs.output_seen("hoy-copy", &args)
    }

    /// The image that `name` means, fetched as `pull` says.
    ///
    /// # Errors
    /// [`Error::NoImage`], and those of fetching.
    pub(crate) fn image(&self, name: &str, pull: Pull) -> Result<(NamedImage, Image)> {
        if pull == Pull::Always {
            self.pull(name, &Transfer::default())?;
        }
        match self.store.image(name) {
            Err(hoy_layout::Error::NoImage { .. }) => {}
            other => return Ok(other?),
        }
        let none = |full: String| Error::NoImage { name: name.to_owned(), full };
        match full_name(name) {
            Ok(full) if pull != Pull::Missing || full.host() == "localhost" => Err(none(full.to_string())),
            Ok(_) => {
                self.pull(name, &Transfer::default())?;
                Ok(self.store.image(name)?)
            }
            Err(Error::ShortName(_)) => {
                let full = Reference::parse(name).map_err(Error::Name)?.or_latest();
                Err(none(full.to_string()))
            }
            Err(other) => Err(other),
        }
    }
}

/// Whether a name begins with a transport of `hoy-copy`.
fn is_transport(text: &str) -> bool {
    let known = ["oci:", "oci-archive:", "docker-archive:", "dir:"];
    known.iter().any(|transport| text.starts_with(transport))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_full() {
        assert_eq!(full_name("docker.io/library/debian").unwrap().to_string(), "docker.io/library/debian:latest");
        assert_eq!(full_name("docker://127.0.0.1:5000/a:b").unwrap().to_string(), "127.0.0.1:5000/a:b");
        assert_eq!(full_name("localhost/app").unwrap().to_string(), "localhost/app:latest");
        for short in ["debian", "user/app", "debian:12"] {
            assert!(matches!(full_name(short), Err(Error::ShortName(_))), "{short}");
        }
        assert!(matches!(full_name("a b"), Err(Error::Name(_))));
    }

    #[test]
    fn options_of_the_copy() {
        let transfer = Transfer { tls_verify: Some(false), quiet: true, ..Transfer::default() };
        assert_eq!(transfer.args("src"), ["copy", "--src-tls-verify=false", "--quiet"]);
    }
}
