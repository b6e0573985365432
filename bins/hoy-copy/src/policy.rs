//! Which images may be copied at all: the trust policy, held against what is copied.

use std::path::{Path, PathBuf};

use hoy_cli::{Context, Error, Result};
use hoy_oci::{Descriptor, Digest, Document as Parsed, Platform, Reference};
use hoy_registry::Retry;
use hoy_transport::{Document, ImageName, MultiArch, Repository, Source};
use hoy_trust::{Evidence as _, Policy, Requirement, Subject};

use crate::access::Access;
use crate::args::Global;
use crate::endpoint;
use crate::sign::now;
use crate::signatures::Found;
use crate::signing_args::Signing;

/// Opens `from` for a copy, if the trust policy allows it.
pub(crate) fn open<'a>(
    global: &'a Global,
    from: &'a ImageName,
    access: &'a Access,
    retry: Retry,
    (multi_arch, signing): (&MultiArch, &Signing),
) -> Result<Box<dyn Source + 'a>> {
    let (inner, root) = judge(global, from, access, retry, multi_arch)?;
    let signatures = (!signing.remove_signatures).then_some(Found { global, from, access, retry });
    Ok(Box::new(Judged { inner, root, signatures }))
}

/// The source, and its root if that was judged.
fn judge(
    global: &Global,
    from: &ImageName,
    access: &Access,
    retry: Retry,
    multi_arch: &MultiArch,
) -> Result<(Box<dyn Source>, Option<Document>)> {
    let source = || Ok((endpoint::source(global, from, access, retry)?, None));
    let unsigned = || Error::msg("--require-signed: no rule of the trust policy wants the image signed");
    let Some((path, policy)) = read(global)? else {
        return if global.require_signed { Err(unsigned()) } else { source() };
    };
    let refused = |reason: hoy_trust::Error| {
        // skopeo's words: scripts look for them.
        let reason = match reason {
            hoy_trust::Error::Rejected => format!("Running image {from} is rejected by policy."),
            other => other.to_string(),
        };
        Error::msg(format!("Source image rejected: {reason} (the trust policy \"{}\")", path.display()))
            .with_hint("--insecure-policy copies all the same")
    };
    let (transport, scopes) = identities(from, &std::env::current_dir()?);
    let rules = policy.requirements(transport, &scopes);
    let wants_signature =
        |rule: &Requirement| matches!(rule, Requirement::SignedBy { .. } | Requirement::SigstoreSigned { .. });
    if global.require_signed && !rules.iter().any(wants_signature) {
        return Err(unsigned());
    }
    let found = Found { global, from, access, retry };
    let name = if let ImageName::Docker(reference) = from { Some(reference) } else { None };
    let judge = |digest: &Digest| Requirement::all_met(rules, Subject { name, digest, now: now() }, &found);
    if !rules.iter().any(wants_signature) {
        // Nothing is read of what nobody may have.
        judge(&Digest::of(b"")).map_err(refused)?;
        return source();
    }
    let inner = endpoint::source(global, from, access, retry)?;
    let root = inner.root()?;
    let judged = judge(&root.descriptor.digest);
    let judged = match chosen(&root, multi_arch, &endpoint::platform(global)) {
        // A list's signature is one for all that it lists; else the image's own counts.
        Some(image) if judged.is_err() => judge(&image.digest),
        _ => judged,
    };
    judged.map_err(refused)?;
    Ok((inner, Some(root)))
}

/// The policy of whoever runs this, and its file; none where it is to be passed over, or there is none.
fn read(global: &Global) -> Result<Option<(PathBuf, Policy)>> {
    if global.insecure_policy {
        return Ok(None);
    }
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let usual = [home.join(".config/containers/policy.json"), PathBuf::from("/etc/containers/policy.json")];
    let Some(path) = global.policy.clone().or_else(|| usual.into_iter().find(|path| path.exists())) else {
        return Ok(None);
    };
    let doing = || format!("read trust policy \"{}\"", path.display());
    let text = std::fs::read(&path).context(doing)?;
    let policy = Policy::parse(&text).context(doing)?;
    Ok(Some((path, policy)))
}

/// The image that is copied of an index.
fn chosen(root: &Document, multi_arch: &MultiArch, platform: &Platform) -> Option<Descriptor> {
    match (multi_arch, Parsed::parse(&root.descriptor.media_type, &root.bytes)) {
        (MultiArch::System, Ok(Parsed::Index(index))) => index.select(platform).cloned(),
        _ => None,
    }
}

/// An image whose root, if it was judged, stays the one that was, whatever the name points to by now.
struct Judged<'a> {
    inner: Box<dyn Source>,
    root: Option<Document>,
    /// Its signatures, unless they are left behind.
    signatures: Option<Found<'a>>,
}

impl Source for Judged<'_> {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn root(&self) -> hoy_transport::Result<Document> {
        self.root.clone().map_or_else(|| self.inner.root(), Ok)
    }

    fn manifest(&self, descriptor: &Descriptor) -> hoy_transport::Result<Vec<u8>> {
        self.inner.manifest(descriptor)
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> hoy_transport::Result<Box<dyn std::io::Read + Send + '_>> {
        self.inner.blob(descriptor, offset)
    }

    fn distrust(&self, descriptor: &Descriptor) -> Option<String> {
        self.inner.distrust(descriptor)
    }

    fn referrers(&self, subject: &Digest) -> hoy_transport::Result<Vec<Descriptor>> {
        self.inner.referrers(subject)
    }

    fn is_signed(&self, digest: &Digest) -> hoy_transport::Result<bool> {
        let Some(found) = &self.signatures else { return Ok(false) };
        let failed = |reason| hoy_transport::Error::Convert { name: self.name(), reason };
        Ok(!found.simple(digest).map_err(failed)?.is_empty() || !found.sigstore(digest).map_err(failed)?.is_empty())
    }

    fn repository(&self) -> Option<Repository> {
        self.inner.repository()
    }

    fn is_synthetic(&self) -> bool {
        self.inner.is_synthetic()
    }
}

/// The policy's word for the transport, and the scopes that the image is in, the narrowest first.
fn identities(from: &ImageName, directory: &Path) -> (&'static str, Vec<String>) {
    let paths = |path: &Path, rest: &str| {
        let full = directory.join(path);
        let full = full.canonicalize().unwrap_or(full);
        let mut all = vec![format!("{}{rest}", full.display())];
        all.extend(full.ancestors().filter(|p| *p != Path::new("/")).map(|p| p.display().to_string()));
        all
    };
    match from {
        ImageName::Docker(reference) => ("docker", docker_scopes(reference)),
        ImageName::Ssh { .. } => ("ssh", vec![from.to_string()]),
        ImageName::Oci { directory, pick } => ("oci", paths(directory, &pick.to_string())),
        ImageName::OciArchive { file, pick } => ("oci-archive", paths(file, &pick.to_string())),
        ImageName::DockerArchive { file, .. } => ("docker-archive", paths(file, "")),
        ImageName::Dir(directory) => ("dir", paths(directory, "")),
        ImageName::Store { name, .. } => ("containers-storage", vec![name.clone()]),
        ImageName::DockerDaemon(name) => ("docker-daemon", vec![name.clone()]),
        _ => ("tarball", Vec::new()),
    }
}

/// An image at a registry, its repository, those above, the host, and wildcards for domains.
pub(crate) fn docker_scopes(reference: &Reference) -> Vec<String> {
    let mut all = vec![reference.to_string()];
    let mut name = reference.name();
    loop {
        all.push(name.clone());
        match name.rsplit_once('/') {
            Some((parent, _)) => name = parent.to_owned(),
            None => break,
        }
    }
    let host = reference.host();
    let mut domain = host.rsplit_once(':').map_or(host, |(host, _)| host);
    while let Some((_, parent)) = domain.split_once('.') {
        all.push(format!("*.{parent}"));
        domain = parent;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_of_names() {
        for (name, transport, want) in [
            ("docker://r.x:5000/a/b:1", "docker", "r.x:5000/a/b:1 r.x:5000/a/b r.x:5000/a r.x:5000 *.x"),
            ("docker://a.y.z/b:1", "docker", "a.y.z/b:1 a.y.z/b a.y.z *.y.z *.z"),
            ("dir:/c/d", "dir", "/c/d /c/d /c"),
            ("oci:c:x", "oci", "/a/c:x /a/c /a"),
            ("store:x", "containers-storage", "x"),
        ] {
            let (found, scopes) = identities(&name.parse().unwrap(), Path::new("/a"));
            assert_eq!((found, scopes.join(" ").as_str()), (transport, want), "{name}");
        }
    }
}
