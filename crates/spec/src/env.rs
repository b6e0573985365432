//! The environment of the process.

use std::collections::BTreeMap;
use std::fs;

use crate::{Error, Options, Result};

/// Where commands are looked for unless the image or the caller says.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Variables in the order in which they were first set.
#[derive(Debug, Default)]
struct Environment(Vec<(String, String)>);

impl Environment {
    fn set(&mut self, name: &str, value: &str) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.0.push((name.to_owned(), value.to_owned())),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }

    fn into_entries(self) -> Vec<String> {
        self.0.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
    }
}

/// What is known of the process besides options and image.
pub(crate) struct Known<'a> {
    pub(crate) home: &'a str,
    pub(crate) hostname: &'a str,
    pub(crate) caller: &'a BTreeMap<String, String>,
}

/// The environment: defaults, then the image's, then files', then options'.
pub(crate) fn environment(image: &[String], options: &Options, known: &Known<'_>) -> Result<Vec<String>> {
    let mut env = Environment::default();
    env.set("PATH", PATH);
    if options.tty {
        env.set("TERM", "xterm");
    }
    env.set("container", "oci");
    options.defaults.env.iter().try_for_each(|entry| assign(&mut env, "--env", entry, known.caller))?;
    for entry in image {
        // An entry without '=' sets nothing, least of all the caller's variable of that name.
        if let Some((name, value)) = entry.split_once('=').filter(|(name, _)| !name.is_empty()) {
            check(name, value).map_err(|reason| Error::Image {
                field: "Env",
                value: name.to_owned(),
                reason: reason.to_owned(),
            })?;
            env.set(name, value);
        }
    }
    from_options(&mut env, options, known.caller)?;
    if !env.has("HOME") {
        env.set("HOME", known.home);
    }
    if !env.has("HOSTNAME") {
        env.set("HOSTNAME", known.hostname);
    }
    env.0.retain(|(name, _)| !options.unsetenv.contains(name));
    Ok(env.into_entries())
}

/// The environment of a further process: the container's, then files', then options'.
pub(crate) fn further(
    container: &[String],
    options: &Options,
    caller: &BTreeMap<String, String>,
) -> Result<Vec<String>> {
    let mut env = Environment::default();
    container.iter().filter_map(|entry| entry.split_once('=')).for_each(|(name, value)| env.set(name, value));
    if options.tty && !env.has("TERM") {
        env.set("TERM", "xterm");
    }
    from_options(&mut env, options, caller)?;
    Ok(env.into_entries())
}

fn from_options(env: &mut Environment, options: &Options, caller: &BTreeMap<String, String>) -> Result<()> {
    for path in &options.env_file {
        for line in fs::read_to_string(path).map_err(Error::read(path))?.lines() {
            let line = line.trim_start();
            if !line.is_empty() && !line.starts_with('#') {
                assign(env, "--env-file", line, caller)?;
            }
        }
    }
    options.env.iter().try_for_each(|entry| assign(env, "--env", entry, caller))
}

/// Sets `NAME=value`; `NAME` takes the caller's value if there is one, `PREFIX*` all that begin so, as podman does.
fn assign(env: &mut Environment, option: &'static str, entry: &str, caller: &BTreeMap<String, String>) -> Result<()> {
    let (name, value) = entry.split_once('=').map_or((entry, None), |(name, value)| (name, Some(value)));
    check(name, value.unwrap_or("")).map_err(|reason| Error::option(option, entry, reason))?;
    match (value, name.strip_suffix('*')) {
        (Some(value), _) => env.set(name, value),
        (None, Some(prefix)) => {
            caller.iter().filter(|(name, _)| name.starts_with(prefix)).for_each(|(name, value)| env.set(name, value));
        }
        (None, None) => {
            if let Some(value) = caller.get(name) {
                env.set(name, value);
            }
        }
    }
    Ok(())
}

fn check(name: &str, value: &str) -> std::result::Result<(), &'static str> {
    if name.is_empty() {
        return Err("the name before '=' is empty");
    }
    if name.contains('\0') || value.contains('\0') {
        return Err("there is a NUL byte in it");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(image: &[&str], options: &Options) -> String {
        let caller = [("SECRET", "s3"), ("LC_ALL", "C"), ("LC_TIME", "de")];
        let caller = caller.into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        let image: Vec<String> = image.iter().map(|&entry| entry.to_owned()).collect();
        let known = Known { home: "/root", hostname: "box", caller: &caller };
        environment(&image, options, &known).unwrap().join(" ").replace(PATH, "P")
    }

    fn options(env: &[&str]) -> Options {
        Options { env: env.iter().map(|&entry| entry.to_owned()).collect(), ..Options::default() }
    }

    #[test]
    fn whose_word_counts() {
        let plain = "PATH=P container=oci HOME=/root HOSTNAME=box";
        for (image, given, want) in [
            (&[][..], options(&[]), plain.to_owned()),
            (&[], Options { tty: true, ..options(&[]) }, plain.replace(" con", " TERM=xterm con")),
            (&["SECRET", "SECRET*", "*", "", "=x"], options(&[]), plain.to_owned()),
            (
                &["A=1", "B=a=b", "HOME=/h"],
                options(&["A=2"]),
                "PATH=P container=oci A=2 B=a=b HOME=/h HOSTNAME=box".to_owned(),
            ),
            (
                &[],
                options(&["SECRET", "NONE", "LC_*"]),
                "PATH=P container=oci SECRET=s3 LC_ALL=C LC_TIME=de HOME=/root HOSTNAME=box".to_owned(),
            ),
            (&["PATH=/x"], options(&["E="]), "PATH=/x container=oci E= HOME=/root HOSTNAME=box".to_owned()),
            (
                &["A=1"],
                Options { unsetenv: vec!["A".to_owned(), "HOME".to_owned()], ..options(&[]) },
                "PATH=P container=oci HOSTNAME=box".to_owned(),
            ),
        ] {
            assert_eq!(env(image, &given), want, "{image:?} {:?}", given.env);
        }
    }

    #[test]
    fn files() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, b"# no\n\nA=x y\n  SECRET\nB=\n").unwrap();
        let options = Options { env_file: vec![file.path().to_owned()], ..options(&["A=z"]) };
        assert_eq!(env(&[], &options), "PATH=P container=oci A=z SECRET=s3 B= HOME=/root HOSTNAME=box");
    }
}
