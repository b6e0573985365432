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
    /// `oci:DIRECTORY[:REFERENCE]`: in an OCI layout.
    Oci {
        /// The layout.
        directory: PathBuf,
        /// Its name there.
        reference: Option<String>,
    },
    /// `oci-archive:FILE[:REFERENCE]`: in a tar of an OCI layout; `-` is standard input or output.
    OciArchive {
        /// The archive.
        file: PathBuf,
        /// Its name there.
        reference: Option<String>,
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
    /// `store:NAME`: in the store.
    Store(String),
}

impl FromStr for ImageName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |reason: &str| Error::Name { text: text.to_owned(), reason: reason.to_owned() };
        let transports = "docker://, oci:, oci-archive:, docker-archive:, dir:, store:";
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
            "oci" => {
                let (directory, reference) = split();
                Ok(Self::Oci { directory: path(directory)?, reference: reference.map(str::to_owned) })
            }
            "oci-archive" => {
                let (file, reference) = split();
                Ok(Self::OciArchive { file: path(file)?, reference: reference.map(str::to_owned) })
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
            "store" | "containers-storage" if rest.is_empty() => Err(wrong("the name is empty")),
            "store" | "containers-storage" => Ok(Self::Store(rest.to_owned())),
            other => Err(wrong(&format!("there is no transport \"{other}\"; the transports are {transports}"))),
        }
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with = |f: &mut fmt::Formatter<'_>, kind: &str, path: &PathBuf, reference: Option<&str>| {
            write!(f, "{kind}:{}", path.display())?;
            reference.map_or(Ok(()), |reference| write!(f, ":{reference}"))
        };
        match self {
            Self::Docker(reference) => write!(f, "docker://{reference}"),
            Self::Oci { directory, reference } => with(f, "oci", directory, reference.as_deref()),
            Self::OciArchive { file, reference } => with(f, "oci-archive", file, reference.as_deref()),
            Self::DockerArchive { file, reference, index } => {
                let name = reference.as_ref().map(Reference::to_string).or(index.map(|index| format!("@{index}")));
                with(f, "docker-archive", file, name.as_deref())
            }
            Self::Dir(directory) => write!(f, "dir:{}", directory.display()),
            Self::Store(name) => write!(f, "store:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn what_is_read_is_written(transport in "(docker|oci|oci-archive|docker-archive|dir|store)", rest in "[/:@.a-zA-Z0-9-]{0,40}") {
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
        ] {
            assert_eq!(text.parse::<ImageName>().unwrap().to_string(), want, "{text}");
        }
        for wrong in
            ["", "debian", "docker:debian", "docker://", "docker://A", "oci:", "dir:", "store:", "docker-archive:a:@x"]
        {
            assert!(wrong.parse::<ImageName>().is_err(), "{wrong}");
        }
    }
}
