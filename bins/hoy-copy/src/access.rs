//! From flags, environment and files to somebody who may talk to a registry.

use std::ffi::OsString;
use std::io::{BufRead, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use crate::args::Global;
use hoy_cli::{Context, Error, Result};
use hoy_oci::{Reference, RegistrySources};
use hoy_registry::{AuthFiles, Credentials, Options, Registries, Registry, Retry, Tls};
use hoy_sys::rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use hoy_transport::SshHost;

/// The longest password that is read, in bytes.
const MAX_PASSWORD_BYTES: u64 = 64 << 10;

/// A user and perhaps a password.
#[derive(Debug, Clone)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: Option<String>,
}

impl Login {
    /// `USER[:PASSWORD]`.
    pub(crate) fn parse(text: &str) -> Self {
        match text.split_once(':') {
            Some((user, password)) => Self { user: user.to_owned(), password: Some(password.to_owned()) },
            None => Self { user: text.to_owned(), password: None },
        }
    }
}

/// How one side is reached.
#[derive(Debug, Clone, Default)]
pub(crate) struct Access {
    pub(crate) authfile: Option<PathBuf>,
    pub(crate) login: Option<Login>,
    pub(crate) no_creds: bool,
    pub(crate) token: Option<String>,
    pub(crate) cert_dir: Option<PathBuf>,
    /// None leaves it to registries.conf.
    pub(crate) tls_verify: Option<bool>,
    pub(crate) shared_blob_dir: Option<PathBuf>,
    pub(crate) daemon_host: Option<String>,
}

/// What registries.conf and its like say to whoever runs this.
pub(crate) fn registries(global: &Global) -> Result<Registries> {
    let env = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let named = global.registries_conf.clone().or_else(|| env("CONTAINERS_REGISTRIES_CONF"));
    if let Some(path) = named.iter().find(|path| !path.exists()) {
        return Err(Error::msg(format!("read registries file \"{}\": it is not there", path.display())));
    }
    let home = env("HOME").unwrap_or_default();
    let user = env("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config")).join("containers");
    let etc = PathBuf::from("/etc/containers");
    // Whoever names one file wants no other.
    let is_named = named.is_some();
    let usual = [user.join("registries.conf"), etc.join("registries.conf")];
    let file = named.or_else(|| usual.into_iter().find(|path| path.exists()));
    let directories = match &global.registries_conf_dir {
        Some(directory) => vec![directory.clone()],
        None if is_named => Vec::new(),
        None => vec![etc.join("registries.conf.d"), user.join("registries.conf.d")],
    };
    let cache = || env("XDG_CACHE_HOME").unwrap_or_else(|| home.join(".cache")).join("containers");
    let usual = || (!is_named).then(|| cache().join("short-name-aliases.conf"));
    let mut all = Registries::read(file.as_deref(), &directories)?;
    if let Some(aliases) = global.short_name_alias_conf.clone().or_else(usual) {
        all.add_aliases(&aliases)?;
    }
    Ok(all.within(RegistrySources::from_env(|name| std::env::var_os(name))?))
}

impl Access {
    /// The registries that may have the image `reference`: mirrors, and the one it belongs to as the last.
    pub(crate) fn to_read(
        &self,
        global: &Global,
        reference: &Reference,
        retry: Retry,
    ) -> Result<Vec<(Registry, Reference)>> {
        let rules = registries(global)?;
        let places = rules.pull_places(reference)?;
        let home = places.len().saturating_sub(1);
        // What was given on the command line is for the registry that was named there, and for no mirror of it.
        let elsewhere = Self { login: None, token: None, tls_verify: None, ..self.clone() };
        let one = |(at, place): (usize, hoy_registry::Place)| {
            let access = if at == home { self } else { &elsewhere };
            let registry = access.client(global, &place.reference, retry, place.insecure, &rules)?;
            Ok((registry, place.reference))
        };
        places.into_iter().enumerate().map(one).collect()
    }

    /// The registry that `reference` belongs to.
    pub(crate) fn registry(&self, global: &Global, reference: &Reference, retry: Retry) -> Result<Registry> {
        let rules = registries(global)?;
        let place = rules.push_place(reference)?;
        self.client(global, reference, retry, place.insecure, &rules)
    }

    fn client(
        &self,
        global: &Global,
        reference: &Reference,
        retry: Retry,
        insecure: bool,
        rules: &Registries,
    ) -> Result<Registry> {
        let (host, repository) = (reference.host(), reference.repository());
        let credentials = self.credentials(host, Some(repository), rules)?;
        self.connect(global, host, credentials, retry, insecure)
    }

    /// A client of the registry `host` for somebody with these credentials.
    pub(crate) fn connect(
        &self,
        global: &Global,
        host: &str,
        credentials: Option<Credentials>,
        retry: Retry,
        insecure: bool,
    ) -> Result<Registry> {
        let mut options = Self::options(global);
        options.credentials = credentials;
        options.tls = self.tls(host, insecure);
        options.retry = retry;
        Ok(Registry::new(host, options))
    }

    /// The store of another machine, which `hoy-copy serve` makes a registry there.
    pub(crate) fn behind_ssh(global: &Global, host: &SshHost) -> Registry {
        let set = || std::env::var("HOY_SSH").ok().filter(|command| !command.is_empty());
        let ssh = global.ssh.clone().or_else(set).unwrap_or_else(|| "ssh".to_owned());
        let mut command: Vec<OsString> = ssh.split_whitespace().map(OsString::from).collect();
        command.extend(host.port.iter().flat_map(|port| ["-p".into(), port.to_string().into()]));
        // The image's name is no part of the command, so that no shell there sees it.
        command.extend(["--", host.destination.as_str(), "hoy-copy", "serve"].map(OsString::from));
        Registry::behind(command, &format!("ssh://{host}"), Self::options(global))
    }

    /// What is said to all registries.
    pub(crate) fn options(global: &Global) -> Options {
        let mut options = Options::default();
        if let Some(prefix) = &global.user_agent_prefix {
            options.user_agent = format!("{prefix} {}", options.user_agent);
        }
        if global.debug {
            options.trace = Some(Arc::new(|text: &str| {
                // Standard error may be closed, and then there is nobody to tell.
                writeln!(std::io::stderr(), "debug: {text}").unwrap_or_default();
            }));
        }
        options
    }

    fn credentials(&self, host: &str, repository: Option<&str>, rules: &Registries) -> Result<Option<Credentials>> {
        let count = [self.login.is_some(), self.no_creds, self.token.is_some()].into_iter().filter(|set| *set).count();
        if count > 1 {
            return Err(Error::msg("only one of credentials, a token and no credentials can be asked for").with_code(2));
        }
        if let Some(token) = &self.token {
            return Ok(Some(Credentials::RegistryToken(token.clone())));
        }
        if let Some(login) = &self.login {
            let password = match &login.password {
                Some(password) => password.clone(),
                None => ask_password()?,
            };
            return Ok(Some(Credentials::Password { user: login.user.clone(), password }));
        }
        if self.no_creds {
            return Ok(None);
        }
        let files = auth_files(self.authfile.clone());
        let usual = ["containers-auth.json".to_owned()];
        for helper in rules.credential_helpers().unwrap_or(&usual) {
            let found = match helper.as_str() {
                "containers-auth.json" => files.find(host, repository)?,
                helper => Credentials::from_helper(helper, host)?,
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Whom to trust as `host`.
    pub(crate) fn tls(&self, host: &str, insecure: bool) -> Tls {
        let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
        let usual = [home.join(".config/containers"), "/etc/containers".into(), "/etc/docker".into()];
        let usual = usual.into_iter().map(|dir| dir.join("certs.d").join(host));
        let directories = match &self.cert_dir {
            Some(dir) => vec![dir.clone()],
            None => usual.filter(|dir| dir.is_dir()).take(1).collect(),
        };
        let bundle = std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()).map(PathBuf::from);
        Tls { verify: self.tls_verify.unwrap_or(!insecure), bundle, directories }
    }
}

/// The credentials files of whoever runs this.
pub(crate) fn auth_files(explicit: Option<PathBuf>) -> AuthFiles {
    let uid = hoy_sys::rustix::process::geteuid().as_raw();
    AuthFiles::from_env(explicit, |name| std::env::var_os(name).map(PathBuf::from), uid)
}

/// Asks for a user's name on the terminal.
pub(crate) fn ask_user(known: Option<&str>) -> Result<String> {
    if !std::io::stdin().is_terminal() {
        return Err(Error::msg("no user is given and standard input is no terminal: use --username").with_code(2));
    }
    match known {
        Some(known) => write!(std::io::stderr(), "Username ({known}): ")?,
        None => write!(std::io::stderr(), "Username: ")?,
    }
    let mut line = String::new();
    std::io::stdin().lock().take(MAX_PASSWORD_BYTES).read_line(&mut line)?;
    let line = line.trim();
    Ok(if line.is_empty() { known.unwrap_or_default() } else { line }.to_owned())
}

/// Asks for a password on the terminal, which does not show it.
pub(crate) fn ask_password() -> Result<String> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        let text = "no password is given and standard input is no terminal: use --password-stdin";
        return Err(Error::msg(text).with_code(2));
    }
    write!(std::io::stderr(), "Password: ")?;
    let before = tcgetattr(&stdin)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Flush, &silent)?;
    let mut line = String::new();
    let read = stdin.lock().take(MAX_PASSWORD_BYTES).read_line(&mut line);
    tcsetattr(&stdin, OptionalActions::Flush, &before)?;
    writeln!(std::io::stderr())?;
    read.context(|| "read the password")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Reads a password from standard input, without the newline at its end.
pub(crate) fn read_password() -> Result<String> {
    let mut text = String::new();
    std::io::stdin().lock().take(MAX_PASSWORD_BYTES).read_to_string(&mut text).context(|| "read the password")?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
