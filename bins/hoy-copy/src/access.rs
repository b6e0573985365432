//! From flags, environment and files to somebody who may talk to a registry.

use std::io::{BufRead, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use hoy_cli::{Context, Error, Result};
use hoy_registry::{AuthFiles, Credentials, Options, Registry, Tls};
use hoy_sys::rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

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

/// How one side's registry is reached.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    pub(crate) authfile: Option<PathBuf>,
    pub(crate) login: Option<Login>,
    pub(crate) no_creds: bool,
    pub(crate) token: Option<String>,
    pub(crate) cert_dir: Option<PathBuf>,
    pub(crate) tls_verify: bool,
}

impl Access {
    /// A client of the registry `host`, with the credentials for `repository` there.
    pub(crate) fn registry(&self, host: &str, repository: Option<&str>, retries: u32, debug: bool) -> Result<Registry> {
        let mut options = Options::default();
        options.credentials = self.credentials(host, repository)?;
        options.tls = self.tls(host);
        options.retries = retries;
        if debug {
            options.trace = Some(Arc::new(|text: &str| {
                // Standard error may be closed, and then there is nobody to tell.
                writeln!(std::io::stderr(), "debug: {text}").unwrap_or_default();
            }));
        }
        Ok(Registry::new(host, options))
    }

    fn credentials(&self, host: &str, repository: Option<&str>) -> Result<Option<Credentials>> {
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
        if self.no_creds { Ok(None) } else { Ok(auth_files(self.authfile.clone()).find(host, repository)?) }
    }

    fn tls(&self, host: &str) -> Tls {
        let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
        let usual = [home.join(".config/containers"), "/etc/containers".into(), "/etc/docker".into()];
        let usual = usual.into_iter().map(|dir| dir.join("certs.d").join(host));
        let directories = match &self.cert_dir {
            Some(dir) => vec![dir.clone()],
            None => usual.filter(|dir| dir.is_dir()).take(1).collect(),
        };
        let bundle = std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()).map(PathBuf::from);
        Tls { verify: self.tls_verify, bundle, directories }
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
