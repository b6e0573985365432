//! Which registries an image is asked of: containers-registries.conf(5), in its present form and in its first.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hoy_oci::{Reference, RegistrySources};
use serde::Deserialize;

use crate::{Error, Result};

/// What the administrator and the user say about registries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registries {
    rules: Vec<Rule>,
    aliases: BTreeMap<String, String>,
    helpers: Option<Vec<String>>,
    search: Vec<String>,
    sources: RegistrySources,
}

/// Where one image may be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its name there.
    pub reference: Reference,
    /// Certificates are not checked there, and plain HTTP will do.
    pub insecure: bool,
}

/// The places of one image: mirrors first, in the order given, then where it belongs.
pub type Mirrors = Vec<Place>;

/// A file. A key that is not known is an error: one that is misspelt would be without effect.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    #[serde(default)]
    unqualified_search_registries: Option<Vec<String>>,
    #[serde(default)]
    credential_helpers: Option<Vec<String>>,
    #[serde(default, rename = "additional-layer-store-auth-helper")]
    _layer_store_helper: Option<String>,
    #[serde(default, rename = "short-name-mode")]
    _short_name_mode: Option<String>,
    #[serde(default)]
    registry: Vec<Rule>,
    #[serde(default)]
    aliases: BTreeMap<String, String>,
    registries: Option<First>,
}

/// What a file of the first form says, all of it below `registries`.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct First {
    search: Hosts,
    insecure: Hosts,
    block: Hosts,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Hosts {
    registries: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Rule {
    /// The file that says so.
    #[serde(skip)]
    file: PathBuf,
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default)]
    mirror: Vec<Mirror>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Mirror {
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    pull_from_mirror: Pull,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Pull {
    #[default]
    #[serde(alias = "")]
    All,
    DigestOnly,
    TagOnly,
}

impl Registries {
    /// Reads `file` and then all `*.conf` of `directories`, each directory's in the order of their names; what is missing
    /// is passed over, and what comes later wins.
    ///
    /// # Errors
    /// [`Error::File`] for a file that cannot be read or says what is not understood.
    pub fn read(file: Option<&Path>, directories: &[PathBuf]) -> Result<Self> {
        let mut found: Vec<PathBuf> = file.map(Path::to_owned).into_iter().collect();
        for directory in directories {
            let mut names: Vec<PathBuf> = match std::fs::read_dir(directory) {
                Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
                Err(_) => continue,
            };
            names.retain(|path| path.extension().is_some_and(|e| e == "conf"));
            names.sort();
            found.extend(names);
        }
        let mut all = Self::default();
        for path in found {
            let doing = "read registries file";
            match std::fs::read_to_string(&path) {
                Ok(text) => all.add(&text, &path).map_err(std::io::Error::other).map_err(Error::file(doing, &path))?,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::file(doing, &path)(e)),
            }
        }
        Ok(all)
    }

    /// Adds the aliases in `file`, which win over the others; one that is not there is passed over.
    ///
    /// # Errors
    /// [`Error::File`] for a file that cannot be read or says what is not understood.
    pub fn add_aliases(&mut self, file: &Path) -> Result<()> {
        let more = Self::read(Some(file), &[])?;
        self.aliases.extend(more.aliases);
        Ok(())
    }

    /// The same, for whom `sources` lets use registries.
    #[must_use]
    pub fn within(self, sources: RegistrySources) -> Self {
        Self { sources, ..self }
    }

    fn add(&mut self, text: &str, path: &Path) -> std::result::Result<(), String> {
        let mut file: File = toml::from_str(text).map_err(|error| {
            let line = |at: usize| text.get(..at).map_or(0, |before| before.matches('\n').count()) + 1;
            let line = error.span().map_or(String::new(), |span| format!("line {}: ", line(span.start)));
            format!("{line}{}", error.message())
        })?;
        if let Some(first) = file.registries.take().filter(|first| *first != First::default()) {
            if file != File::default() {
                return Err(
                    "[registries], the first form of this file, cannot be mixed with the present one".to_owned()
                );
            }
            file = first.into();
        }
        self.search = file.unqualified_search_registries.unwrap_or(std::mem::take(&mut self.search));
        self.helpers = file.credential_helpers.or(self.helpers.take());
        for (name, target) in file.aliases {
            // An empty alias takes one back that an earlier file has.
            match target.as_str() {
                "" => drop(self.aliases.remove(&name)),
                _ => drop(self.aliases.insert(name, target)),
            }
        }
        for mut rule in file.registry {
            rule.complete()?;
            path.clone_into(&mut rule.file);
            self.rules.retain(|other| other.prefix != rule.prefix);
            self.rules.push(rule);
        }
        Ok(())
    }

    /// The full name that a short one stands for.
    pub fn alias(&self, short: &str) -> Option<&str> {
        self.aliases.get(short).map(String::as_str)
    }

    /// The registries in which a name without a host is looked for.
    pub fn search(&self) -> &[String] {
        &self.search
    }

    /// Who is asked for credentials, in order: `containers-auth.json` is the credentials files.
    pub fn credential_helpers(&self) -> Option<&[String]> {
        self.helpers.as_deref()
    }

    /// The rule whose prefix fits best; an error where it blocks.
    fn rule(&self, reference: &Reference) -> Result<Option<&Rule>> {
        let name = reference.to_string();
        let fitting = self.rules.iter().filter_map(|rule| Some((rule.matched(&name)?, rule)));
        let best = fitting.max_by_key(|(length, rule)| (!rule.prefix.starts_with("*."), *length));
        match best.map(|(_, rule)| rule) {
            Some(rule) if rule.blocked => Err(Error::Blocked { prefix: rule.prefix.clone(), file: rule.file.clone() }),
            rule => Ok(rule),
        }
    }

    /// Where `reference` may be read.
    ///
    /// # Errors
    /// [`Error::Blocked`], and [`Error::Content`] for a registry that is denied or a rewritten name that is none.
    pub fn pull_places(&self, reference: &Reference) -> Result<Mirrors> {
        let is_insecure = self.sources.check(reference.host())?;
        let Some(rule) = self.rule(reference)? else {
            return Ok(vec![Place { reference: reference.clone(), insecure: is_insecure }]);
        };
        let by_digest = reference.digest().is_some();
        let is_used = |mirror: &&Mirror| match mirror.pull_from_mirror {
            Pull::All => by_digest || !rule.mirror_by_digest_only,
            Pull::DigestOnly => by_digest,
            Pull::TagOnly => !by_digest,
        };
        let mirrors = rule.mirror.iter().filter(is_used).map(|mirror| (&mirror.location, mirror.insecure));
        let all = mirrors.chain([(&rule.location, rule.insecure || is_insecure)]);
        all.map(|(location, insecure)| Ok(Place { reference: rule.rewrite(reference, location)?, insecure })).collect()
    }

    /// Where `reference` may be written: where it belongs, as pushes are not rewritten.
    ///
    /// # Errors
    /// [`Error::Blocked`], and [`Error::Content`] for a registry that is denied.
    pub fn push_place(&self, reference: &Reference) -> Result<Place> {
        let is_insecure = self.sources.check(reference.host())?;
        let rule = self.rule(reference)?;
        Ok(Place { reference: reference.clone(), insecure: is_insecure || rule.is_some_and(|rule| rule.insecure) })
    }
}

impl From<First> for File {
    fn from(first: First) -> Self {
        let [insecure, blocked] = [first.insecure, first.block].map(|hosts| hosts.registries);
        let rule = |location: &String| Rule {
            location: location.clone(),
            insecure: insecure.contains(location),
            blocked: blocked.contains(location),
            ..Rule::default()
        };
        let registry = insecure.iter().chain(&blocked).map(rule).collect();
        Self { unqualified_search_registries: Some(first.search.registries), registry, ..Self::default() }
    }
}

impl Rule {
    /// Fills in what follows from the rest, and refuses what has no meaning.
    fn complete(&mut self) -> std::result::Result<(), String> {
        let trim = |text: &str| text.trim_end_matches('/').to_owned();
        (self.prefix, self.location) = (trim(&self.prefix), trim(&self.location));
        if self.prefix.is_empty() {
            self.prefix.clone_from(&self.location);
        }
        if self.prefix.is_empty() {
            return Err("a [[registry]] has neither prefix nor location".to_owned());
        }
        let is_wild = self.prefix.starts_with("*.");
        if self.prefix.contains('*') && (!is_wild || self.prefix.matches('*').count() > 1 || self.prefix.contains('/'))
        {
            return Err(format!("prefix \"{}\": a '*' stands for the beginning of a host, as in *.x.y", self.prefix));
        }
        if self.location.is_empty() && !is_wild {
            self.location.clone_from(&self.prefix);
        }
        for mirror in &mut self.mirror {
            mirror.location = trim(&mirror.location);
            if mirror.location.is_empty() {
                return Err(format!("a mirror of \"{}\" has no location", self.prefix));
            }
            if self.mirror_by_digest_only && mirror.pull_from_mirror != Pull::All {
                let prefix = &self.prefix;
                return Err(format!("\"{prefix}\" has both mirror-by-digest-only and a mirror with pull-from-mirror"));
            }
        }
        Ok(())
    }

    /// How much of `name` the prefix is; none when it is not its prefix.
    fn matched(&self, name: &str) -> Option<usize> {
        match self.prefix.strip_prefix('*') {
            Some(domain) => {
                let host = name.split('/').next()?;
                let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
                host.ends_with(domain).then_some(host.len())
            }
            None => {
                let rest = name.strip_prefix(self.prefix.as_str())?;
                (rest.is_empty() || rest.starts_with(['/', ':', '@'])).then_some(self.prefix.len())
            }
        }
    }

    fn rewrite(&self, reference: &Reference, location: &str) -> Result<Reference> {
        let name = reference.to_string();
        if location.is_empty() || location == self.prefix {
            return Ok(reference.clone());
        }
        let matched = self.matched(&name).unwrap_or_default();
        Ok(Reference::parse(&format!("{location}{}", name.get(matched..).unwrap_or_default()))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONF: &str = r#"
unqualified-search-registries = ["r.x"]
credential-helpers = ["containers-auth.json", "other"]
[[registry]]
prefix = "r.x/team"
location = "inner.x:5000/mirrored/team"
[[registry.mirror]]
location = "near.x/team"
insecure = true
[[registry.mirror]]
location = "far.x"
pull-from-mirror = "digest-only"
[[registry]]
location = "r.x"
insecure = true
[[registry]]
prefix = "*.evil.x"
blocked = true
[[registry]]
location = "d.x"
mirror-by-digest-only = true
[[registry.mirror]]
location = "m.x/d"
[aliases]
"app" = "r.x/team/app"
"#;

    #[test]
    fn names_are_rewritten() {
        let mut all = Registries::default();
        all.add(CONF, Path::new("/r.conf")).unwrap();
        let digest = format!("@sha256:{}", "a".repeat(64));
        let places = |name: &str| match all.pull_places(&Reference::parse(name).unwrap()) {
            Ok(places) => {
                let show = |p: &Place| format!("{}{}", p.reference, if p.insecure { "!" } else { "" });
                places.iter().map(show).collect::<Vec<_>>().join(" ")
            }
            Err(error) => error.to_string(),
        };
        for (name, want) in [
            ("r.x/team/app:1", "near.x/team/app:1! inner.x:5000/mirrored/team/app:1".to_owned()),
            (
                &format!("r.x/team/app{digest}"),
                format!("near.x/team/app{digest}! far.x/app{digest} inner.x:5000/mirrored/team/app{digest}"),
            ),
            ("r.x/teams:1", "r.x/teams:1!".to_owned()),
            ("o.x/a:1", "o.x/a:1".to_owned()),
            ("d.x/a:1", "d.x/a:1".to_owned()),
            (&format!("d.x/a{digest}"), format!("m.x/d/a{digest} d.x/a{digest}")),
            ("very.evil.x/a:1", "registry *.evil.x is blocked in \"/r.conf\"".to_owned()),
        ] {
            assert_eq!(places(name), want, "{name}");
        }
        let push = all.push_place(&Reference::parse("r.x/team/app:1").unwrap()).unwrap();
        assert_eq!(push.reference.to_string(), "r.x/team/app:1");
        assert!(all.push_place(&Reference::parse("a.evil.x/a").unwrap()).is_err());
        assert_eq!((all.alias("app"), all.alias("none")), (Some("r.x/team/app"), None));
        assert_eq!(all.credential_helpers().map(<[String]>::len), Some(2));
        assert_eq!(all.search(), ["r.x"]);
        all.add("[[registry]]\nlocation='r.x'\n[aliases]\napp=''", Path::new("")).unwrap();
        assert!(!all.pull_places(&Reference::parse("r.x/a").unwrap()).unwrap()[0].insecure, "later files win");
        assert_eq!(all.alias("app"), None);
    }

    #[test]
    fn the_first_form() {
        let mut all = Registries::default();
        let text = "[registries.search]\nregistries=['s.x']\n[registries.insecure]\nregistries=['i.x', 'b.x/a']\n\
                    [registries.block]\nregistries=['b.x/a']";
        all.add(text, Path::new("/first")).unwrap();
        assert_eq!(all.search(), ["s.x"]);
        let places = |name: &str| all.pull_places(&Reference::parse(name).unwrap());
        assert!(places("i.x/a").unwrap()[0].insecure && !places("b.x/b").unwrap()[0].insecure);
        assert_eq!(places("b.x/a/c").unwrap_err().to_string(), "registry b.x/a is blocked in \"/first\"");
        all.add("[registries]\n[registries.search]\n[[registry]]\nlocation='i.x'", Path::new("")).unwrap();
        let sources = "{\"insecureRegistries\":[\"i.x\"],\"blockedRegistries\":[\"s.x\"]}";
        let sources = RegistrySources::from_env(|_| Some(sources.into()));
        all = all.within(sources.unwrap());
        let places = |name: &str| all.pull_places(&Reference::parse(name).unwrap());
        assert!(places("i.x/a").unwrap()[0].insecure);
        assert!(all.push_place(&Reference::parse("i.x/a").unwrap()).unwrap().insecure);
        assert!(places("s.x/a").unwrap_err().to_string().contains("denied by policy"));
        assert!(all.push_place(&Reference::parse("s.x/a").unwrap()).is_err());
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for (text, want) in [
            ("\n\nblock = true", "line 3: "),
            ("[registries.search]\nregistries=['a']\n[aliases]\na='b.x/a'", "cannot be mixed"),
            ("[registries.block]\nhosts=['a']", "line 2: "),
            ("[[registry]]\nblocked = true", "neither prefix nor location"),
            ("[[registry]]\nprefix = '*x'", "stands for the beginning"),
            ("[[registry]]\nlocation='a.x'\n[[registry.mirror]]\ninsecure=true", "location"),
            ("[[registry]]\nlocation='a.x'\n[[registry.mirror]]\nlocation='b.x'\npull-from-mirror='x'", "x"),
        ] {
            let error = Registries::default().add(text, Path::new("")).unwrap_err();
            assert!(error.contains(want), "{text}: {error}");
        }
    }
}
