//! Which registries whoever builds may use: the environment's BUILD_REGISTRY_SOURCES, as OpenShift's builds have it.

use std::ffi::OsString;

use serde::Deserialize;

use crate::{Error, Result};

/// Lists of registries, each `host[:port]` as in the names of images.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RegistrySources {
    insecure_registries: Vec<String>,
    blocked_registries: Vec<String>,
    allowed_registries: Vec<String>,
}

impl RegistrySources {
    /// Reads the variable; an empty one says nothing.
    ///
    /// # Errors
    /// [`Error::Json`].
    pub fn from_env(env: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        const VARIABLE: &str = "BUILD_REGISTRY_SOURCES";
        match env(VARIABLE).filter(|text| !text.is_empty()) {
            Some(text) => {
                serde_json::from_str(&text.to_string_lossy()).map_err(|source| Error::Json { kind: VARIABLE, source })
            }
            None => Ok(Self::default()),
        }
    }

    /// Whether `host` may be used, and with that whether its certificates are not checked.
    ///
    /// # Errors
    /// [`Error::Registry`] for one that is blocked, or not among those that alone are allowed.
    pub fn check(&self, host: &str) -> Result<bool> {
        let is_in = |list: &[String]| list.iter().any(|one| one == host);
        let denied = |reason| Err(Error::Registry { host: host.to_owned(), reason });
        if is_in(&self.blocked_registries) {
            return denied("it is in the blocked registries list of BUILD_REGISTRY_SOURCES");
        }
        if !self.allowed_registries.is_empty() && !is_in(&self.allowed_registries) {
            return denied("not in allowed registries list of BUILD_REGISTRY_SOURCES");
        }
        Ok(is_in(&self.insecure_registries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_be_asked() {
        let both = r#"{"blockedRegistries": ["b.x"], "allowedRegistries": ["b.x", "a.x:5000"]}"#;
        let parse = |text: &str| RegistrySources::from_env(|_| Some(text.into()));
        for (text, host, want) in [
            ("", "a.x", Ok(false)),
            ("{}", "a.x", Ok(false)),
            (r#"{"insecureRegistries": ["a.x"]}"#, "a.x", Ok(true)),
            (r#"{"insecureRegistries": ["a.x"], "later": 1}"#, "a.x:5000", Ok(false)),
            (both, "b.x", Err("it is in the blocked registries list of BUILD_REGISTRY_SOURCES")),
            (both, "a.x:5000", Ok(false)),
            (both, "a.x", Err("not in allowed registries list of BUILD_REGISTRY_SOURCES")),
        ] {
            let said = parse(text).unwrap().check(host).map_err(|error| error.to_string());
            let want = want.map_err(|reason: &str| format!("registry \"{host}\" denied by policy: {reason}"));
            assert_eq!(said, want, "{text} {host}");
        }
        for text in ["1", "{", r#"{"blockedRegistries": "b.x"}"#] {
            let error = parse(text).unwrap_err().to_string();
            assert_eq!(error, "read BUILD_REGISTRY_SOURCES", "{text}");
        }
    }
}
