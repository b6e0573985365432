//! A package, and the one name by which it is known everywhere.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::Distribution;

/// What a package was made for, which decides how it is named (purl-spec, "PURL types").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Alpine's packages.
    Apk,
    /// A crate that was built into a program.
    Cargo,
    /// Debian's packages and those of its descendants.
    Deb,
    /// A module that was built into a program.
    Golang,
    /// Packages of Node.js.
    Npm,
    /// Packages of Python.
    Pypi,
    /// Packages of Fedora, Red Hat, SUSE and others.
    Rpm,
}

impl Kind {
    /// The word for it in a package URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Apk => "apk",
            Self::Cargo => "cargo",
            Self::Deb => "deb",
            Self::Golang => "golang",
            Self::Npm => "npm",
            Self::Pypi => "pypi",
            Self::Rpm => "rpm",
        }
    }
}

/// A package that is installed, or was built into a program.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// What it was made for.
    pub kind: Kind,
    /// Its name as its own record has it.
    pub name: String,
    /// Its version as its own record has it; an RPM's is `[EPOCH:]VERSION-RELEASE`.
    pub version: String,
    /// The processors that it is for.
    pub architecture: Option<String>,
    /// What its maker says of its licence, in whatever words.
    pub license: Option<String>,
    /// The name of the source that it was built from, where that is another.
    pub source: Option<String>,
    /// The file that names it, from the root.
    pub found_in: String,
}

impl Package {
    /// A package of which nothing more is known.
    pub(crate) fn new(kind: Kind, name: &str, version: &str, found_in: &str) -> Self {
        let (name, version, found_in) = (name.to_owned(), version.to_owned(), found_in.to_owned());
        Self { kind, name, version, architecture: None, license: None, source: None, found_in }
    }

    /// Its package URL (purl-spec).
    pub fn purl(&self, distribution: &Distribution) -> String {
        let of_system = matches!(self.kind, Kind::Apk | Kind::Deb | Kind::Rpm);
        // RPMs have their epoch apart.
        let (epoch, version) = match (self.kind, self.version.split_once(':')) {
            (Kind::Rpm, Some((epoch, version))) => (Some(epoch), version),
            _ => (None, self.version.as_str()),
        };
        let name = match self.kind {
            Kind::Pypi => self.name.to_lowercase().replace('_', "-"),
            Kind::Golang => self.name.to_lowercase(),
            _ => self.name.clone(),
        };
        let vendor = of_system.then(|| distribution.vendor(self.kind));
        let path = vendor.iter().map(String::as_str).chain(name.split('/')).map(escape).collect::<Vec<_>>().join("/");
        let mut text = format!("pkg:{}/{path}", self.kind.as_str());
        if !version.is_empty() {
            text += &format!("@{}", escape(version));
        }
        let qualifiers = [
            ("arch", self.architecture.as_deref()),
            ("distro", Some(distribution.name()).filter(|name| of_system && !name.is_empty()).as_deref()),
            ("epoch", epoch),
            ("upstream", self.source.as_deref()),
        ]
        .map(|(key, value)| value.map(|value| format!("{key}={}", escape(value))));
        let qualifiers = qualifiers.into_iter().flatten().collect::<Vec<_>>().join("&");
        if !qualifiers.is_empty() {
            text += &format!("?{qualifiers}");
        }
        text
    }
}

/// What purl-spec does not leave as it is.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_').remove(b'~').remove(b':');

/// Percent-encodes a part of a package URL.
pub(crate) fn escape(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_everywhere() {
        let debian = Distribution { id: "debian".into(), version_id: "12".into(), pretty_name: String::new() };
        let mut package = Package::new(Kind::Deb, "libstdc++6", "1:12.2.0-14+deb12u1", "var/lib/dpkg/status");
        package.architecture = Some("amd64".into());
        package.source = Some("gcc-12".into());
        let none = Distribution::default();
        let of = |kind, name, version| Package::new(kind, name, version, "x").purl(&none);
        for (purl, want) in [
            (
                package.purl(&debian),
                "pkg:deb/debian/libstdc%2B%2B6@1:12.2.0-14%2Bdeb12u1?arch=amd64&distro=debian-12&upstream=gcc-12",
            ),
            (of(Kind::Rpm, "bash", "1:5.2-1.fc40"), "pkg:rpm/unknown/bash@5.2-1.fc40?epoch=1"),
            (of(Kind::Npm, "@angular/core", "1.0.0"), "pkg:npm/%40angular/core@1.0.0"),
            (of(Kind::Pypi, "Foo_Bar", "1"), "pkg:pypi/foo-bar@1"),
            (of(Kind::Golang, "github.com/A/b", "v1.2"), "pkg:golang/github.com/a/b@v1.2"),
            (of(Kind::Cargo, "rand", ""), "pkg:cargo/rand"),
            (of(Kind::Apk, "musl", "1.2-r0"), "pkg:apk/alpine/musl@1.2-r0"),
            (of(Kind::Deb, "a b", "ü"), "pkg:deb/debian/a%20b@%C3%BC"),
        ] {
            assert_eq!(purl, want);
        }
    }
}
