//! `hoy-copy login` and `hoy-copy logout`.

use std::path::{Path, PathBuf};

use hoy_cli::{Context, Error, Result, print_line};
use hoy_oci::Reference;
use hoy_registry::{AuthFile, Credentials, Retry};

use crate::access::{Access, ask_password, ask_user, auth_files, read_password, registries};
use crate::args::Global;
use crate::login_args::{LoginArgs, LogoutArgs};

/// The key of a registry in a credentials file, and its host.
fn key_and_host(registry: &str) -> (String, String) {
    let name = registry.strip_prefix("https://").or_else(|| registry.strip_prefix("http://")).unwrap_or(registry);
    let name = name.trim_end_matches('/');
    let host = name.split('/').next().unwrap_or(name);
    (name.to_owned(), host.to_owned())
}

/// The file at `path`; an empty one when there is none.
fn read_or_new(path: &Path) -> Result<AuthFile> {
    match AuthFile::read(path) {
        Err(hoy_registry::Error::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            Ok(AuthFile::default())
        }
        other => Ok(other?),
    }
}

/// Asks the registry whether the credentials are good, then keeps them.
pub(crate) fn login(global: &Global, args: LoginArgs) -> Result<()> {
    let (key, host) = key_and_host(&args.registry);
    let files = auth_files(args.authfile.or(args.compat_auth_file));
    if args.get_login {
        let users = files.search.iter().filter_map(|path| AuthFile::read(path).ok()?.user(&key));
        let user = users.into_iter().next();
        return print_line(user.ok_or_else(|| Error::msg(format!("not logged into {key}")))?);
    }
    let mut file = read_or_new(&files.login)?;
    let user = match args.username {
        Some(user) => user,
        None if args.password_stdin => return Err(Error::msg("--password-stdin needs --username").with_code(2)),
        None => ask_user(file.user(&key).as_deref())?,
    };
    let password = match args.password {
        Some(password) => password,
        None if args.password_stdin => read_password()?,
        None => ask_password()?,
    };
    if user.is_empty() || user.contains(':') {
        return Err(Error::msg("a user's name is not empty and has no ':'").with_code(2));
    }
    let access = Access { cert_dir: args.cert_dir, tls_verify: args.tls_verify, ..Access::default() };
    let credentials = Credentials::Password { user: user.clone(), password: password.clone() };
    // Rules are for repositories; what is said about one of this host holds for the login too.
    let any = Reference::parse(&format!("{host}/any")).map_err(|e| Error::from(e).with_code(2))?;
    let insecure = registries(global)?.push_place(&any)?.insecure;
    let registry = access.connect(global, &host, Some(credentials), Retry::default(), insecure)?;
    registry.check_login().map_err(|error| match error {
        hoy_registry::Error::Unauthorized(_) => {
            Error::msg(format!("logging into \"{host}\": invalid username/password"))
        }
        other => other.into(),
    })?;
    file.set(&key, &user, &password);
    file.write(&files.login)?;
    if args.verbose {
        print_line(format!("Used: {}", files.login.display()))?;
    }
    print_line("Login Succeeded!")
}

/// Forgets the credentials of a registry, or of all.
pub(crate) fn logout(args: LogoutArgs) -> Result<()> {
    let named = args.authfile.or(args.compat_auth_file);
    if let Some(path) = &named {
        std::fs::metadata(path).context(|| format!("checking authfile: stat {}", path.display()))?;
    }
    let files = auth_files(named);
    let Some(registry) = args.registry else {
        let mut file = read_or_new(&files.login)?;
        file.clear();
        file.write(&files.login)?;
        return print_line("Removed login credentials for all registries");
    };
    let (key, _) = key_and_host(&registry);
    let mut elsewhere: Option<PathBuf> = None;
    let mut file = read_or_new(&files.login)?;
    if file.remove(&key) {
        file.write(&files.login)?;
        return print_line(format!("Removed login credentials for {key}"));
    }
    for path in &files.search {
        if AuthFile::read(path).is_ok_and(|file| file.user(&key).is_some()) {
            elsewhere.get_or_insert_with(|| path.clone());
        }
    }
    Err(match elsewhere {
        Some(path) => Error::msg(format!("not logged into {key} in \"{}\"", files.login.display()))
            .with_hint(format!("there is an entry in {}: add --authfile {0}", path.display())),
        None => Error::msg(format!("not logged into {key}")),
    })
}
