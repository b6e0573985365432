//! Where credentials are kept: containers-auth.json(5) and Docker's config.json.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Credentials, Error, Result};

/// The name Docker files the credentials of docker.io under.
const DOCKER_KEY: &str = "https://index.docker.io/v1/";

/// The files that are searched for credentials, and the one that a login writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthFiles {
    /// Searched in this order; a missing one is passed over unless it was asked for by name.
    pub search: Vec<PathBuf>,
    /// What a login writes.
    pub login: PathBuf,
    /// The first of `search` was asked for by name and must be there to be read.
    pub explicit: bool,
}

/// One file of credentials. Fields it does not know are kept on rewrite.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct AuthFile {
    #[serde(default)]
    auths: Map<String, Value>,
    #[serde(default, rename = "credHelpers", skip_serializing_if = "Map::is_empty")]
    cred_helpers: Map<String, Value>,
    #[serde(default, rename = "credsStore", skip_serializing_if = "String::is_empty")]
    creds_store: String,
    #[serde(flatten)]
    other: Map<String, Value>,
}

impl AuthFiles {
    /// The usual places for user `uid`, from an environment given as a function (containers-auth.json(5)).
    ///
    /// `explicit` is the file named on the command line; without it `REGISTRY_AUTH_FILE` counts as such.
    pub fn from_env(explicit: Option<PathBuf>, env: impl Fn(&str) -> Option<PathBuf>, uid: u32) -> Self {
        let set = |name: &str| env(name).filter(|path| !path.as_os_str().is_empty());
        if let Some(path) = explicit.or_else(|| set("REGISTRY_AUTH_FILE")) {
            return Self { search: vec![path.clone()], login: path, explicit: true };
        }
        let runtime = match set("XDG_RUNTIME_DIR") {
            Some(dir) => dir.join("containers/auth.json"),
            None => PathBuf::from(format!("/run/containers/{uid}/auth.json")),
        };
        let home = set("HOME").unwrap_or_else(|| PathBuf::from("/"));
        let config = set("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config")).join("containers/auth.json");
        let docker = set("DOCKER_CONFIG").unwrap_or_else(|| home.join(".docker")).join("config.json");
        let fallback = PathBuf::from(format!("/run/containers/{uid}/auth.json"));
        // Without a runtime directory an ordinary user has nowhere else to write.
        let login = if set("XDG_RUNTIME_DIR").is_some() || uid == 0 { runtime.clone() } else { config.clone() };
        let mut search = vec![runtime.clone()];
        search.extend((fallback != runtime).then_some(fallback));
        search.extend([config, docker]);
        Self { search, login, explicit: false }
    }

    /// The credentials for `host/repository`, from the most specific entry of the first file that has one.
    ///
    /// # Errors
    /// [`Error::File`] for a file that cannot be read, [`Error::Helper`] for a helper that fails.
    pub fn find(&self, host: &str, repository: Option<&str>) -> Result<Option<Credentials>> {
        for path in &self.search {
            let found = match AuthFile::read(path) {
                Err(Error::File { source, .. }) if !self.explicit && source.kind() == std::io::ErrorKind::NotFound => {
                    continue;
                }
                // The default places of another user, as under sudo, are not ours to read.
                Err(Error::File { source, .. })
                    if !self.explicit && source.kind() == std::io::ErrorKind::PermissionDenied =>
                {
                    continue;
                }
                other => other?.find(path, host, repository)?,
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

impl AuthFile {
    /// The file at `path`.
    ///
    /// # Errors
    /// [`Error::File`], also when it is no such file.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::file("read credentials file", path))?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::default());
        }
        // The parser's own message could quote a secret.
        let wrong = |_| std::io::Error::new(std::io::ErrorKind::InvalidData, "it is not JSON of the right form");
        serde_json::from_slice(&bytes).map_err(wrong).map_err(Error::file("read credentials file", path))
    }

    /// Replaces the file at `path`, readable by its owner alone; whole or not at all.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn write(&self, path: &Path) -> Result<()> {
        let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let fail = |e| Error::file("write credentials file", path)(e);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(fail)?;
        let mut bytes = serde_json::to_vec_pretty(self).map_err(std::io::Error::from).map_err(fail)?;
        bytes.push(b'\n');
        let temporary = directory.join(format!(".tmp-auth-{}", std::process::id()));
        let write = || {
            let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            std::fs::rename(&temporary, path)
        };
        write().map_err(|error| {
            // It may not even have been made.
            std::fs::remove_file(&temporary).unwrap_or_default();
            fail(error)
        })
    }

    /// The credentials for a host, looked up by `host/repository`, then by ever shorter paths, then by `host`.
    fn find(&self, path: &Path, host: &str, repository: Option<&str>) -> Result<Option<Credentials>> {
        let helper = self.cred_helpers.get(host).and_then(Value::as_str).map(str::to_owned);
        if let Some(helper) = helper {
            return ask_helper(&helper, host);
        }
        if let Some(entry) = keys(host, repository).iter().find_map(|key| self.entry(key)) {
            let wrong =
                || std::io::Error::new(std::io::ErrorKind::InvalidData, format!("the entry of {host} is damaged"));
            let found = decode(entry).ok_or_else(wrong).map_err(Error::file("read credentials file", path))?;
            if found.is_some() {
                return Ok(found);
            }
        }
        if self.creds_store.is_empty() { Ok(None) } else { ask_helper(&self.creds_store, host) }
    }

    /// The entry of a key, however it is spelt: Docker has written addresses too.
    fn entry(&self, key: &str) -> Option<&Value> {
        let plain = |name: &str| {
            let name = name.strip_prefix("https://").or_else(|| name.strip_prefix("http://")).unwrap_or(name);
            let name = name.trim_end_matches('/');
            name.strip_suffix("/v1").or_else(|| name.strip_suffix("/v2")).unwrap_or(name).to_owned()
        };
        self.auths.get(key).or_else(|| self.auths.iter().find(|(name, _)| plain(name) == key).map(|(_, entry)| entry))
    }

    /// The user that is logged in at `key`.
    pub fn user(&self, key: &str) -> Option<String> {
        match keys(key, None).iter().find_map(|key| decode(self.entry(key)?)).flatten() {
            Some(Credentials::Password { user, .. }) => Some(user),
            _ => None,
        }
    }

    /// Keeps a user and password for `key`: a host, or a host and part of a repository's path.
    pub fn set(&mut self, key: &str, user: &str, password: &str) {
        let auth = STANDARD.encode(format!("{user}:{password}"));
        self.auths.insert(key.to_owned(), serde_json::json!({ "auth": auth }));
    }

    /// Forgets `key`; false when it was not there.
    pub fn remove(&mut self, key: &str) -> bool {
        let before = self.auths.len();
        let also = (key == "docker.io").then_some(DOCKER_KEY);
        self.auths.retain(|name, _| name != key && Some(name.as_str()) != also);
        before != self.auths.len()
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.auths.clear();
    }
}

/// The keys that `host/repository` may be filed under, best first.
fn keys(host: &str, repository: Option<&str>) -> Vec<String> {
    let mut keys = Vec::new();
    let mut path = repository.unwrap_or_default();
    while !path.is_empty() {
        keys.push(format!("{host}/{path}"));
        path = path.rsplit_once('/').map_or("", |(parent, _)| parent);
    }
    keys.push(host.to_owned());
    if host == "docker.io" {
        keys.extend(["index.docker.io".to_owned(), "registry-1.docker.io".to_owned()]);
    }
    keys
}

/// None when the entry is damaged; inner none when it is empty, as Docker leaves it where a helper has the secret.
fn decode(entry: &Value) -> Option<Option<Credentials>> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str).filter(|t| !t.is_empty());
    if let Some(token) = text("identitytoken") {
        return Some(Some(Credentials::IdentityToken(token.to_owned())));
    }
    if let Some(token) = text("registrytoken") {
        return Some(Some(Credentials::RegistryToken(token.to_owned())));
    }
    let Some(auth) = text("auth") else {
        let Some((user, password)) = text("username").zip(text("password")) else { return Some(None) };
        return Some(Some(Credentials::Password { user: user.to_owned(), password: password.to_owned() }));
    };
    let plain = String::from_utf8(STANDARD.decode(auth.trim()).ok()?).ok()?;
    let (user, password) = plain.trim_end_matches('\0').split_once(':')?;
    Some(Some(Credentials::Password { user: user.to_owned(), password: password.to_owned() }))
}

impl Credentials {
    /// What `docker-credential-HELPER` has for a host; none when it has nothing.
    ///
    /// # Errors
    /// [`Error::Helper`] when it is missing or fails.
    pub fn from_helper(helper: &str, host: &str) -> Result<Option<Self>> {
        ask_helper(helper, host)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: String,
    secret: String,
}

/// Asks `docker-credential-HELPER` for a host (docker-credential-helpers, "get").
///
/// A helper that is missing or fails stops everything: going on without would ask somebody else (CVE-2021-41092).
fn ask_helper(helper: &str, host: &str) -> Result<Option<Credentials>> {
    let program = format!("docker-credential-{helper}");
    let failed = |reason: String| Error::Helper { helper: program.clone(), reason };
    if helper.is_empty() || !helper.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c)) {
        return Err(failed("its name has other characters than letters, digits, '-', '_' and '.'".to_owned()));
    }
    let key = if host == "docker.io" { DOCKER_KEY } else { host };
    let mut child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|e| failed(e.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(key.as_bytes()).map_err(|e| failed(e.to_string()))?;
    }
    let output = child.wait_with_output().map_err(|e| failed(e.to_string()))?;
    if !output.status.success() {
        // This sentence is part of the helpers' protocol.
        if String::from_utf8_lossy(&output.stdout).contains("credentials not found") {
            return Ok(None);
        }
        return Err(failed(output.status.to_string()));
    }
    let answer: HelperAnswer =
        serde_json::from_slice(&output.stdout).map_err(|_| failed("its answer has no user and secret".to_owned()))?;
    Ok(Some(match answer.username.as_str() {
        "<token>" => Credentials::IdentityToken(answer.secret),
        _ => Credentials::Password { user: answer.username, password: answer.secret },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str, host: &str, repository: Option<&str>) -> String {
        let file: AuthFile = serde_json::from_str(text).unwrap();
        match file.find(Path::new("auth.json"), host, repository) {
            Ok(Some(Credentials::Password { user, password })) => format!("{user}:{password}"),
            Ok(Some(other)) => format!("{other:?}"),
            Ok(None) => "none".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_most_specific_entry_wins() {
        let encode = |text: &str| STANDARD.encode(text);
        let text = format!(
            r#"{{"auths":{{"r.x":{{"auth":"{}"}},"r.x/a":{{"auth":"{}"}},"https://index.docker.io/v1/":{{"auth":"{}"}},
            "t.x":{{"identitytoken":"i"}},"bad.x":{{"auth":"%"}},"empty.x":{{}}}},"HttpHeaders":{{"a":"b"}}}}"#,
            encode("host:p:q"),
            encode("path:p"),
            encode("hub:p")
        );
        for (host, repository, want) in [
            ("r.x", None, "host:p:q"),
            ("r.x", Some("b"), "host:p:q"),
            ("r.x", Some("a/b/c"), "path:p"),
            ("r.x", Some("ab"), "host:p:q"),
            ("docker.io", Some("library/debian"), "hub:p"),
            ("t.x", None, "IdentityToken"),
            ("bad.x", None, "read credentials file \"auth.json\""),
            ("empty.x", None, "none"),
            ("r.x.evil", None, "none"),
            ("x", None, "none"),
        ] {
            assert_eq!(show(&text, host, repository), want, "{host} {repository:?}");
        }
    }

    #[test]
    fn a_missing_helper_is_an_error() {
        let text = r#"{"credHelpers":{"r.x":"hoy-test-missing"},"credsStore":"../evil"}"#;
        assert!(show(text, "r.x", None).starts_with("run credential helper \"docker-credential-hoy-test-missing\""));
        assert!(show(text, "other.x", None).contains("its name has other characters"));
    }

    #[test]
    fn places() {
        let files = |vars: &[(&str, &str)], explicit: Option<&str>| {
            let env = |name: &str| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| PathBuf::from(v));
            AuthFiles::from_env(explicit.map(PathBuf::from), env, 7)
        };
        let home = files(&[("HOME", "/h")], None);
        assert_eq!(home.login, Path::new("/h/.config/containers/auth.json"));
        assert_eq!(home.search.first().unwrap(), Path::new("/run/containers/7/auth.json"));
        assert_eq!(home.search.last().unwrap(), Path::new("/h/.docker/config.json"));
        assert_eq!(files(&[("REGISTRY_AUTH_FILE", "/e")], None).search, [PathBuf::from("/e")]);
        assert_eq!(files(&[("REGISTRY_AUTH_FILE", "/e")], Some("/x")).login, Path::new("/x"));
        assert_eq!(files(&[("XDG_RUNTIME_DIR", "/r")], None).login, Path::new("/r/containers/auth.json"));
    }

    #[test]
    fn rewriting_keeps_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/auth.json");
        let mut file: AuthFile = serde_json::from_str(r#"{"auths":{},"HttpHeaders":{"a":"b"}}"#).unwrap();
        file.set("r.x", "u", "p");
        file.write(&path).unwrap();
        let mut back = AuthFile::read(&path).unwrap();
        assert_eq!(back.user("r.x").unwrap(), "u");
        assert_eq!(back.other["HttpHeaders"]["a"], "b");
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        assert!(back.remove("r.x") && !back.remove("r.x"));
        std::fs::write(&path, b"{\"auths\": s3cret").unwrap();
        assert!(!format!("{:?}", AuthFile::read(&path).unwrap_err()).contains("s3cret"));
    }
}
