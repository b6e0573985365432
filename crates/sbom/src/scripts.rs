//! Packages of languages whose programs are read when they run: Python and Node.js.

use serde::Deserialize;
use serde_json::Value;

use crate::{Kind, Package};

/// Whether a file is the record of a Python distribution (core metadata, "Recording installed projects").
pub(crate) fn is_python(directory: &str, name: &str) -> bool {
    (name == "METADATA" && directory.ends_with(".dist-info"))
        || (name == "PKG-INFO" && directory.ends_with(".egg-info"))
        || (name.ends_with(".egg-info") && !directory.is_empty())
}

/// What a distribution's headers say.
pub(crate) fn python(text: &str, path: &str) -> Option<Package> {
    let headers = || text.lines().take_while(|line| !line.trim().is_empty());
    let field = |name: &str| {
        let value = headers().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.map(str::trim).filter(|value| !value.is_empty() && *value != "UNKNOWN")
    };
    let mut package = Package::new(Kind::Pypi, field("Name")?, field("Version")?, path);
    // Some put the whole text there.
    let license = field("License-Expression").or_else(|| field("License"));
    package.license = license.filter(|license| license.len() < 200).map(str::to_owned);
    Some(package)
}

/// Whether a file is the record of an installed package of Node.js, and not of a part of one.
pub(crate) fn is_node(directory: &str, name: &str) -> bool {
    let Some((_, package)) = directory.rsplit_once("node_modules/").filter(|_| name == "package.json") else {
        return false;
    };
    match package.split_once('/') {
        Some((scope, rest)) => scope.starts_with('@') && !rest.contains('/'),
        None => true,
    }
}

/// What of a package.json is of use here.
#[derive(Deserialize)]
struct Record {
    name: Option<String>,
    version: Option<String>,
    license: Option<Value>,
}

/// What such a record says; some that belong to tests of packages say nothing.
pub(crate) fn node(text: &str, path: &str) -> Result<Option<Package>, String> {
    let record: Record = serde_json::from_str(text).map_err(|e| format!("it is no package's JSON: {e}"))?;
    let (Some(name), Some(version)) = (record.name, record.version) else { return Ok(None) };
    let mut package = Package::new(Kind::Npm, &name, &version, path);
    // Old ones have an object there.
    package.license = record.license.and_then(|license| license.as_str().map(str::to_owned));
    Ok(Some(package))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_known_by_their_place() {
        for (directory, name, want) in [
            ("usr/lib/python3/dist-packages/x-1.dist-info", "METADATA", (true, false)),
            ("usr/lib/python3/dist-packages/x.egg-info", "PKG-INFO", (true, false)),
            ("usr/lib/python3/dist-packages", "x-1.egg-info", (true, false)),
            ("usr/lib/python3/dist-packages/x-1.dist-info", "RECORD", (false, false)),
            ("app/node_modules/x", "package.json", (false, true)),
            ("app/node_modules/@s/x", "package.json", (false, true)),
            ("app/node_modules/x/node_modules/y", "package.json", (false, true)),
            ("app/node_modules/x/test", "package.json", (false, false)),
            ("app", "package.json", (false, false)),
        ] {
            assert_eq!((is_python(directory, name), is_node(directory, name)), want, "{directory}/{name}");
        }
    }

    #[test]
    fn what_they_say() {
        let found = python("Metadata-Version: 2.1\nName: Foo\nVersion: 1.0\nLicense: MIT\n\nName: no\n", "p").unwrap();
        assert_eq!((found.name.as_str(), found.license.as_deref()), ("Foo", Some("MIT")));
        assert!(python("Version: 1\n", "p").is_none());
        assert_eq!(node(r#"{"name":"@a/b","version":"1"}"#, "p").unwrap().unwrap().name, "@a/b");
        assert_eq!(node("{}", "p"), Ok(None));
        let old = node(r#"{"name":"a","version":"1","license":{"type":"MIT"}}"#, "p").unwrap().unwrap();
        assert_eq!(old.license, None);
        assert!(node("{", "p").is_err() && node("[]", "p").is_err());
    }
}
