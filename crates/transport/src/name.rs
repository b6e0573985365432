//! `transport:details`, as skopeo and podman write image names (containers-transports(5)).

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use hoy_oci::Reference;

use crate::{Error, Result};

/// Where an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageName {
    /// `docker://NAME`: at a registry.
    Docker(Reference),
    /// `oci:DIRECTORY[:REFERENCE|:@NUMBER]`: in an OCI layout.
    Oci {
        /// The layout.
        directory: PathBuf,
        /// Which image of it.
        pick: Pick,
    },
    /// `oci-archive:FILE[:REFERENCE|:@NUMBER]`: in a tar of an OCI layout; `-` is standard input or output.
    OciArchive {
        /// The archive.
        file: PathBuf,
        /// Which image of it.
        pick: Pick,
    },
    /// `docker-archive:FILE[:NAME|:@NUMBER]`: in an archive of docker save(1); `-` is standard input or output.
    DockerArchive {
        /// The archive.
        file: PathBuf,
        /// Its name there.
        reference: Option<Reference>,
        /// Its place in the archive, from 0.
        index: Option<usize>,
    },
    /// `dir:DIRECTORY`: one file each, for looking at.
    Dir(PathBuf),
    /// `store:NAME` or `containers-storage:[ROOT+RUNROOT]NAME`: in the store.
    Store {
        /// Its name there; empty, as `store:@`, for one that is written and gets none.
        name: String,
        /// The store's root, where it is not the usual one.
        root: Option<PathBuf>,
        /// The store's volatile state, where it is not the usual one.
        runroot: Option<PathBuf>,
    },
    /// `docker-daemon:NAME:TAG` or `docker-daemon:sha256:ID`: with a Docker daemon.
    DockerDaemon(String),
    /// `ssh://[USER@]HOST[:PORT]/NAME`: in the store of another machine.
    Ssh {
        /// The machine.
        host: SshHost,
        /// Its name there, below `localhost`, which stands for the machine.
        reference: Reference,
    },
    /// `tarball:FILE[:FILE…]`: tars as the layers of a new image; `-` is standard input.
    Tarball(Vec<PathBuf>),
}

/// Which image of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pick {
    /// The only one there is; of one that is written, it gets no name.
    Only,
    /// The one of this name.
    Named(String),
    /// The one at this place, from 0.
    At(usize),
}

impl Pick {
    fn parse(text: Option<&str>) -> std::result::Result<Self, &'static str> {
        match text.filter(|text| !text.is_empty()) {
            None => Ok(Self::Only),
            Some(text) => match text.strip_prefix('@') {
                Some(number) => number.parse().map(Self::At).map_err(|_| "after @ comes a number"),
                None => Ok(Self::Named(text.to_owned())),
            },
        }
    }

    /// The name, if it is one.
    pub fn name(&self) -> Option<&str> {
        if let Self::Named(name) = self { Some(name) } else { None }
    }
}

impl fmt::Display for Pick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Only => Ok(()),
            Self::Named(name) => write!(f, ":{name}"),
            Self::At(at) => write!(f, ":@{at}"),
        }
    }
}

/// A machine as ssh(1) is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshHost {
    /// `HOST` or `USER@HOST`; neither begins with a dash, which would be an option.
    pub destination: String,
    /// The port, where it is not the usual one.
    pub port: Option<u16>,
}

impl SshHost {
    fn parse(text: &str) -> std::result::Result<Self, &'static str> {
        let (user, host) = text.rsplit_once('@').map_or((None, text), |(user, host)| (Some(user), host));
        let (host, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, "")) => (address, None),
            Some((address, rest)) => (address, Some(rest.strip_prefix(':').ok_or("after ']' comes a port")?)),
            None => host.split_once(':').map_or((host, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map(|port| port.parse().map_err(|_| "the port is no number")).transpose()?;
        for part in user.iter().chain([&host]) {
            if part.is_empty() || part.starts_with('-') {
                return Err("user and host of ssh:// neither are empty nor begin with '-'");
            }
            if !part.bytes().all(|c| c.is_ascii_alphanumeric() || b"-._:%+".contains(&c)) {
                return Err("user and host of ssh:// are made of letters, digits, '-', '.', '_' and '+'");
            }
        }
        let destination = user.map_or_else(|| host.to_owned(), |user| format!("{user}@{host}"));
        Ok(Self { destination, port })
    }
}

impl fmt::Display for SshHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (user, host) = self.destination.rsplit_once('@').map_or(("", self.destination.as_str()), |(u, h)| (u, h));
        let at = if user.is_empty() { "" } else { "@" };
        let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{user}{at}{open}{host}{close}")?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// Every transport, as an image name begins.
pub const TRANSPORTS: [&str; 10] = [
    "docker://",
    "ssh://",
    "oci:",
    "oci-archive:",
    "docker-archive:",
    "dir:",
    "store:",
    "containers-storage:",
    "docker-daemon:",
    "tarball:",
];

impl FromStr for ImageName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |reason: &str| Error::Name { text: text.to_owned(), reason: reason.to_owned() };
        let transports = TRANSPORTS.join(", ");
        let (transport, rest) = text
            .split_once(':')
            .ok_or_else(|| wrong(&format!("it begins with no transport; the transports are {transports}")))?;
        let split = || match rest.split_once(':') {
            Some((path, reference)) => (path, Some(reference).filter(|r| !r.is_empty())),
            None => (rest, None),
        };
        let path = |path: &str| match path {
            "" => Err(wrong("the path is empty")),
            path => Ok(PathBuf::from(path)),
        };
        let reference = |name: &str| Reference::parse(name).map_err(|e| wrong(&e.to_string()));
        match transport {
            "docker" => {
                let name = rest.strip_prefix("//").ok_or_else(|| wrong("docker: is followed by //"))?;
                Ok(Self::Docker(reference(name)?.or_latest()))
            }
            "ssh" => {
                let rest = rest.strip_prefix("//").ok_or_else(|| wrong("ssh: is followed by //"))?;
                let (host, name) = rest.split_once('/').ok_or_else(|| wrong("after the host comes /NAME"))?;
                let reference = reference(&format!("localhost/{name}"))?.or_latest();
                Ok(Self::Ssh { host: SshHost::parse(host).map_err(wrong)?, reference })
            }
            "oci" => {
                let (directory, name) = split();
                Ok(Self::Oci { directory: path(directory)?, pick: Pick::parse(name).map_err(wrong)? })
            }
            "oci-archive" => {
                let (file, name) = split();
                Ok(Self::OciArchive { file: path(file)?, pick: Pick::parse(name).map_err(wrong)? })
            }
            "docker-archive" => {
                let (file, name) = split();
                let file = path(file)?;
                match name.map(|name| (name.strip_prefix('@'), name)) {
                    None => Ok(Self::DockerArchive { file, reference: None, index: None }),
                    Some((Some(number), _)) => {
                        let index = Some(number.parse().map_err(|_| wrong("after @ comes a number"))?);
                        Ok(Self::DockerArchive { file, reference: None, index })
                    }
                    Some((None, name)) => {
                        let reference = reference(name)?.or_latest();
                        if reference.digest().is_some() {
                            return Err(wrong("an archive has no digests"));
                        }
                        Ok(Self::DockerArchive { file, reference: Some(reference), index: None })
                    }
                }
            }
            "dir" => Ok(Self::Dir(path(rest)?)),
            "store" | "containers-storage" => store(rest).map_err(wrong),
            "docker-daemon" if rest.contains(':') => Ok(Self::DockerDaemon(rest.to_owned())),
            "docker-daemon" => Err(wrong("the daemon wants a name with a tag, or an id as sha256:…")),
            "tarball" => Ok(Self::Tarball(rest.split(':').map(path).collect::<Result<_>>()?)),
            other => Err(wrong(&format!("there is no transport \"{other}\"; the transports are {transports}"))),
        }
    }
}

/// A store's image, with the place of the store before it in brackets, as containers-storage has it.
fn store(text: &str) -> std::result::Result<ImageName, &'static str> {
    let (place, name) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or("a '[' is not closed")?,
        None => ("", text),
    };
    // An id may follow the name, or stand alone: "name@id", "@id".
    let is_nameless = name == "@";
    let name = name.trim_start_matches('@').to_owned();
    if name.is_empty() && !is_nameless {
        return Err("the name is empty");
    }
    if name.starts_with('[') {
        return Err("a name does not begin with '['");
    }
    let place = ["overlay@", "vfs@"].into_iter().find_map(|driver| place.strip_prefix(driver)).unwrap_or(place);
    if place.contains(['@', ':']) {
        return Err("between the brackets stand the store's directories alone, as ROOT+RUNROOT");
    }
    let (root, runroot) = place.split_once('+').unwrap_or((place, ""));
    let path = |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
    Ok(ImageName::Store { name, root: path(root), runroot: path(runroot) })
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with = |f: &mut fmt::Formatter<'_>, kind: &str, path: &PathBuf, reference: Option<&str>| {
            write!(f, "{kind}:{}", path.display())?;
            reference.map_or(Ok(()), |reference| write!(f, ":{reference}"))
        };
        match self {
            Self::Docker(reference) => write!(f, "docker://{reference}"),
            Self::Ssh { host, reference } => {
                let name = reference.to_string();
                write!(f, "ssh://{host}/{}", name.strip_prefix("localhost/").unwrap_or(&name))
            }
            Self::Oci { directory, pick } => write!(f, "oci:{}{pick}", directory.display()),
            Self::OciArchive { file, pick } => write!(f, "oci-archive:{}{pick}", file.display()),
            Self::DockerArchive { file, reference, index } => {
                let name = reference.as_ref().map(Reference::to_string).or(index.map(|index| format!("@{index}")));
                with(f, "docker-archive", file, name.as_deref())
            }
            Self::Dir(directory) => write!(f, "dir:{}", directory.display()),
            Self::Store { name, root: None, runroot: None } => {
                write!(f, "store:{}", if name.is_empty() { "@" } else { name })
            }
            Self::Store { name, root, runroot } => {
                let show = |path: &Option<PathBuf>| path.as_ref().map_or(String::new(), |p| p.display().to_string());
                let separator = if runroot.is_some() { "+" } else { "" };
                write!(f, "store:[{}{separator}{}]{name}", show(root), show(runroot))
            }
            Self::DockerDaemon(name) => write!(f, "docker-daemon:{name}"),
            Self::Tarball(files) => {
                let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
                write!(f, "tarball:{}", files.join(":"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn what_is_read_is_written(transport in "(docker|ssh|oci|oci-archive|docker-archive|dir|store|docker-daemon|tarball)", rest in "[/:@.+\\[\\]a-zA-Z0-9-]{0,40}") {
            if let Ok(name) = format!("{transport}:{rest}").parse::<ImageName>() {
                proptest::prop_assert_eq!(name.to_string().parse::<ImageName>().unwrap(), name);
            }
        }
    }

    #[test]
    fn names() {
        for (text, want) in [
            ("docker://debian", "docker://docker.io/library/debian:latest"),
            ("docker://127.0.0.1:5000/a/b:c", "docker://127.0.0.1:5000/a/b:c"),
            ("oci:/a/b", "oci:/a/b"),
            ("oci:b:1", "oci:b:1"),
            ("oci:b:r.x/a:1", "oci:b:r.x/a:1"),
            ("oci:b:", "oci:b"),
            ("oci-archive:-", "oci-archive:-"),
            ("oci-archive:a.tar:x", "oci-archive:a.tar:x"),
            ("docker-archive:a.tar:b", "docker-archive:a.tar:docker.io/library/b:latest"),
            ("docker-archive:a.tar:@2", "docker-archive:a.tar:@2"),
            ("dir:a:b", "dir:a:b"),
            ("store:debian:12", "store:debian:12"),
            ("containers-storage:debian:12", "store:debian:12"),
            ("containers-storage:[overlay@/a+/b]debian", "store:[/a+/b]debian"),
            ("store:[/a]debian", "store:[/a]debian"),
            ("containers-storage:[vfs@/a+/b]debian", "store:[/a+/b]debian"),
            ("containers-storage:@abc", "store:abc"),
            ("store:@", "store:@"),
            ("oci:a:@1", "oci:a:@1"),
            ("oci-archive:a.tar:@0", "oci-archive:a.tar:@0"),
            ("docker-daemon:a:1", "docker-daemon:a:1"),
            ("tarball:a.tar:b.tar", "tarball:a.tar:b.tar"),
            ("ssh://nas/app", "ssh://nas/app:latest"),
            ("ssh://me@nas.x:2222/docker.io/library/debian:12", "ssh://me@nas.x:2222/docker.io/library/debian:12"),
            ("ssh://[fe80::1%eth0]:22/app:1", "ssh://[fe80::1%eth0]:22/app:1"),
        ] {
            assert_eq!(text.parse::<ImageName>().unwrap().to_string(), want, "{text}");
        }
        for wrong in [
            "",
            "debian",
            "docker:debian",
            "docker://",
            "docker://A",
            "oci:",
            "dir:",
            "store:",
            "store:[/a]@@",
            "docker-archive:a:@x",
            "oci:a:@x",
            "store:[/a",
            "store:[zfs@/a]x",
            "store:[/a]",
            "docker-daemon:a",
            "tarball:",
            "tarball:a::b",
            "ssh:nas/app",
            "ssh://nas",
            "ssh://nas/",
            "ssh:///app",
            "ssh://-oProxyCommand=x/app",
            "ssh://-lroot@nas/app",
            "ssh://me@-oProxyCommand=x/app",
            "ssh://nas;reboot/app",
            "ssh://nas:x/app",
            "ssh://nas/-app",
            "ssh://nas/$(reboot)",
        ] {
            assert!(wrong.parse::<ImageName>().is_err(), "{wrong}");
        }
    }
}
