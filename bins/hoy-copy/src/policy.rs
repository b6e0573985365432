//! Which images may be copied at all: containers-policy.json(5).
//!
//! Rules that ask for signatures are not met by any image, as signatures are not checked: what cannot be verified stays out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hoy_cli::{Context, Error, Result};
use hoy_oci::Reference;
use hoy_transport::ImageName;
use serde::Deserialize;

use crate::args::Global;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Policy {
    default: Vec<Requirement>,
    #[serde(default)]
    transports: BTreeMap<String, BTreeMap<String, Vec<Requirement>>>,
}

#[derive(Debug, Deserialize)]
struct Requirement {
    #[serde(rename = "type")]
    kind: String,
}

/// Whether `from` may be read.
pub(crate) fn check(global: &Global, from: &ImageName) -> Result<()> {
    if global.insecure_policy {
        return Ok(());
    }
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let usual = [home.join(".config/containers/policy.json"), PathBuf::from("/etc/containers/policy.json")];
    let Some(path) = global.policy.clone().or_else(|| usual.into_iter().find(|path| path.exists())) else {
        return Ok(());
    };
    let doing = || format!("read trust policy \"{}\"", path.display());
    let text = std::fs::read(&path).context(doing)?;
    let policy: Policy = serde_json::from_slice(&text).context(doing)?;
    let directory = std::env::current_dir()?;
    policy.judge(from, &directory).map_err(|reason| {
        Error::msg(format!("{from} is refused by the trust policy \"{}\": {reason}", path.display()))
            .with_hint("--insecure-policy copies all the same")
    })
}

impl Policy {
    fn judge(&self, from: &ImageName, directory: &Path) -> std::result::Result<(), String> {
        let (transport, identities) = identities(from, directory);
        let scopes = self.transports.get(transport);
        let scoped = identities.iter().find_map(|identity| scopes?.get(identity));
        let requirements = scoped.or_else(|| scopes?.get("")).unwrap_or(&self.default);
        if requirements.is_empty() {
            return Err("a rule without a requirement means nothing".to_owned());
        }
        for requirement in requirements {
            match requirement.kind.as_str() {
                "insecureAcceptAnything" => {}
                "reject" => return Err("it rejects such images".to_owned()),
                kind => return Err(format!("it asks for \"{kind}\", and this version checks no signatures")),
            }
        }
        Ok(())
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

fn docker_scopes(reference: &Reference) -> Vec<String> {
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
    fn the_narrowest_scope_counts() {
        let policy: Policy = serde_json::from_str(
            r#"{"default":[{"type":"reject"}],"transports":{
            "docker":{"r.x/team":[{"type":"insecureAcceptAnything"}],"r.x/team/bad:1":[{"type":"reject"}],
                "r.x/signed":[{"type":"signedBy","keyPath":"/k"}],"*.y.z":[{"type":"insecureAcceptAnything"}],"r.x/none":[]},
            "dir":{"":[{"type":"insecureAcceptAnything"}],"/a/b":[{"type":"sigstoreSigned"}]}}}"#,
        )
        .unwrap();
        for (name, want) in [
            ("docker://r.x/team/app:1", "ok"),
            ("docker://r.x/team/bad:1", "it rejects such images"),
            ("docker://r.x/team/bad:2", "ok"),
            ("docker://r.x/teams:1", "it rejects such images"),
            ("docker://r.x/signed:1", "it asks for \"signedBy\", and this version checks no signatures"),
            ("docker://a.y.z:5000/app", "ok"),
            ("docker://y.z/app", "it rejects such images"),
            ("docker://r.x/none:1", "a rule without a requirement means nothing"),
            ("dir:/c", "ok"),
            ("dir:b/c", "it asks for \"sigstoreSigned\", and this version checks no signatures"),
            ("oci:/c:x", "it rejects such images"),
        ] {
            let judged = policy.judge(&name.parse().unwrap(), Path::new("/a"));
            assert_eq!(judged.err().as_deref().unwrap_or("ok"), want, "{name}");
        }
        for wrong in ["{}", "[]", r#"{"default":[{"type":"reject"}],"x":1}"#, r#"{"default":[{}]}"#] {
            assert!(serde_json::from_str::<Policy>(wrong).is_err(), "{wrong}");
        }
    }
}
