//! Where an image runs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Error, Result};

/// Operating system and processor of an image (image-spec image-index.md "platform").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// Processor, in Go's words: `amd64`, `arm64` …
    #[serde(default)]
    pub architecture: String,
    /// Operating system, in Go's words.
    #[serde(default)]
    pub os: String,
    /// Variant of the processor: `v7`, `v8` …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// `os.version`, `os.features` and fields this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Platform {
    /// The platform of the given system, architecture and variant.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        Self {
            architecture: architecture.to_owned(),
            os: os.to_owned(),
            variant: variant.map(str::to_owned),
            other: Map::new(),
        }
    }

    /// The platform this program was built for.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "x86" => ("386", None),
            "aarch64" => ("arm64", Some("v8")),
            "arm" => ("arm", Some("v7")),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", None),
            "loongarch64" => ("loong64", None),
            other => (other, None),
        };
        Self::new("linux", architecture, variant)
    }

    /// The same in Go's words, where a processor was called as the kernel or Debian call it: `x86_64`, `armhf`.
    #[must_use]
    pub fn in_words_of_go(mut self) -> Self {
        let (architecture, variant) = match self.architecture.as_str() {
            "x86_64" | "x86-64" => ("amd64", None),
            "i386" | "i686" => ("386", None),
            "aarch64" => ("arm64", None),
            "armhf" => ("arm", Some("v7")),
            "armel" => ("arm", Some("v6")),
            _ => return self,
        };
        architecture.clone_into(&mut self.architecture);
        self.variant = self.variant.or(variant.map(str::to_owned));
        self
    }

    /// Whether an image for `self` is what somebody who wants `wanted` gets.
    ///
    /// A variant left out on either side matches any.
    pub fn satisfies(&self, wanted: &Self) -> bool {
        let variant = match (&self.variant, &wanted.variant) {
            (Some(have), Some(want)) => have == want,
            _ => true,
        };
        self.os == wanted.os && self.architecture == wanted.architecture && variant
    }
}

impl FromStr for Platform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.split('/');
        let platform = match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(os), Some(arch), variant, None) if !os.is_empty() && !arch.is_empty() && variant != Some("") => {
                Self::new(os, arch, variant).in_words_of_go()
            }
            _ => return Err(Error::Platform(text.to_owned())),
        };
        Ok(platform)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_and_choice() {
        for text in ["linux/amd64", "linux/arm/v7"] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), text);
        }
        for (text, want) in
            [("linux/x86_64", "linux/amd64"), ("linux/armhf", "linux/arm/v7"), ("linux/armel/v5", "linux/arm/v5")]
        {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), want);
        }
        for wrong in ["", "linux", "linux/", "/amd64", "a/b/c/d", "linux/arm/"] {
            assert!(wrong.parse::<Platform>().is_err(), "{wrong}");
        }
        let p = |text: &str| text.parse::<Platform>().unwrap();
        assert!(p("linux/arm64").satisfies(&p("linux/arm64/v8")));
        assert!(!p("linux/arm/v6").satisfies(&p("linux/arm/v7")));
        assert!(!p("linux/amd64").satisfies(&p("linux/arm64")));
    }
}
