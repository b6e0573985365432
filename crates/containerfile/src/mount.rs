//! `RUN --mount` (reference "RUN --mount").

use crate::csv;
use crate::error::{Error, Fault, nearest};
use crate::source::Word;

/// What is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MountType {
    /// Files of the context, a stage or an image.
    #[default]
    Bind,
    /// A directory that outlives the build.
    Cache,
    /// Memory.
    Tmpfs,
    /// A secret as a file or a variable.
    Secret,
    /// The agent's socket.
    Ssh,
}

/// Who may use a cache at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// All.
    Shared,
    /// Each its own.
    Private,
    /// One after another.
    Locked,
}

/// One mount, its variables expanded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mount {
    /// `type`.
    pub kind: MountType,
    /// `from`: stage, context or image; empty for the context.
    pub from: String,
    /// `source`, `src`.
    pub source: String,
    /// `target`, `dst`, `destination`.
    pub target: String,
    /// `readonly`, `ro`, `readwrite`, `rw`, or the type's default: caches and memory are written.
    pub is_read_only: bool,
    /// `size` in bytes, of memory.
    pub size_bytes: Option<u64>,
    /// `id`.
    pub id: String,
    /// `sharing`, of a cache.
    pub sharing: Option<Sharing>,
    /// `required`, of a secret or the agent.
    pub is_required: bool,
    /// `env`, of a secret; empty for the default name.
    pub env: Option<String>,
    /// `mode`.
    pub mode: Option<u32>,
    /// `uid`.
    pub uid: Option<u32>,
    /// `gid`.
    pub gid: Option<u32>,
}

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

/// `strconv.ParseBool`'s words.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// `from` names a stage, and stages are known before any variable.
pub(crate) fn check_from(word: &Word) -> Result<(), Fault> {
    let Some(fields) = csv::fields(&word.text) else {
        return Err(Fault::at(word.span, Error::Mount(word.text.clone())));
    };
    for field in fields {
        let from = field.split_once('=').filter(|(key, _)| key.eq_ignore_ascii_case("from"));
        if from.is_some_and(|(_, value)| value.trim_end_matches('$').contains('$')) {
            return Err(Fault::at(word.span, Error::NoExpansion("from")));
        }
    }
    Ok(())
}

impl Mount {
    /// Reads the value of a `--mount`; `expand` expands each option's value.
    ///
    /// # Errors
    /// An option that does not exist or not for this type, a value it cannot have, with the nearest word.
    pub fn parse(
        text: &str,
        mut expand: impl FnMut(&str) -> Result<String, Error>,
    ) -> Result<Self, (Error, Option<String>)> {
        let plain = |error| (error, None);
        let mut mount = Self::default();
        let mut read_only = None;
        for field in csv::fields(text).ok_or_else(|| plain(Error::Mount(text.to_owned())))? {
            let (key, value) = field.split_once('=').map_or((field.as_str(), None), |(k, v)| (k, Some(v)));
            let key = key.to_lowercase();
            let value = value.map(&mut expand).transpose().map_err(plain)?;
            let wrong = |value: &str| plain(Error::Value(key.clone(), value.to_owned()));
            let flag = |value: &Option<String>| {
                let text = value.as_deref().unwrap_or("true");
                boolean(text).ok_or_else(|| wrong(text))
            };
            match key.as_str() {
                "readonly" | "ro" => read_only = Some(flag(&value)?),
                "readwrite" | "rw" => read_only = Some(!flag(&value)?),
                "required" if matches!(mount.kind, MountType::Secret | MountType::Ssh) => {
                    mount.is_required = flag(&value)?;
                }
                // What is labelled here is so for all containers, and nothing else is labelled.
                "z" if mount.kind != MountType::Secret && value.is_none() => {}
                "required" => return Err(plain(mount.unexpected("required"))),
                _ => match value {
                    Some(value) => mount.set(&key, value)?,
                    None => return Err(plain(Error::Field(field.clone()))),
                },
            }
        }
        let writes = matches!(mount.kind, MountType::Cache | MountType::Tmpfs);
        mount.is_read_only = read_only.unwrap_or(!writes);
        mount.is_consistent().map(|()| mount).map_err(plain)
    }

    fn unexpected(&self, key: &str) -> Error {
        Error::MountKey(key.to_owned(), format!("{:?}", self.kind).to_lowercase())
    }

    fn set(&mut self, key: &str, value: String) -> Result<(), (Error, Option<String>)> {
        let wrong = || (Error::Value(key.to_owned(), value.clone()), None);
        match key {
            "type" => {
                self.kind = match value.to_lowercase().as_str() {
                    "bind" => MountType::Bind,
                    "cache" => MountType::Cache,
                    "tmpfs" => MountType::Tmpfs,
                    "secret" => MountType::Secret,
                    "ssh" => MountType::Ssh,
                    other => return Err((wrong().0, nearest(other, ["bind", "cache", "tmpfs", "secret", "ssh"]))),
                };
            }
            "sharing" => {
                self.sharing = Some(match value.to_lowercase().as_str() {
                    "shared" => Sharing::Shared,
                    "private" => Sharing::Private,
                    "locked" => Sharing::Locked,
                    other => return Err((wrong().0, nearest(other, ["shared", "private", "locked"]))),
                });
            }
            "size" if self.kind == MountType::Tmpfs => self.size_bytes = Some(size(&value).ok_or_else(wrong)?),
            "size" => return Err((self.unexpected("size"), None)),
            "mode" => self.mode = Some(u32::from_str_radix(&value, 8).map_err(|_| wrong())?),
            "uid" => self.uid = Some(value.parse().map_err(|_| wrong())?),
            "gid" => self.gid = Some(value.parse().map_err(|_| wrong())?),
            "from" if value.is_empty() => {
                return Err((Error::Mount("from points to an empty value: it names nothing".to_owned()), None));
            }
            "from" => self.from = value,
            "source" | "src" => self.source = value,
            "target" | "dst" | "destination" => self.target = value,
            "id" => self.id = value,
            "env" => self.env = Some(value),
            _ => return Err((self.unexpected(key), nearest(key, KEYS))),
        }
        Ok(())
    }

    fn is_consistent(&self) -> Result<(), Error> {
        let wrong = |what: &str| Err(Error::Mount(what.to_owned()));
        if matches!(self.kind, MountType::Bind | MountType::Tmpfs) {
            let given = [("mode", self.mode), ("uid", self.uid), ("gid", self.gid)];
            if let Some((key, _)) = given.iter().find(|(_, value)| value.is_some()) {
                return Err(self.unexpected(key));
            }
        }
        if self.sharing.is_some() && self.kind != MountType::Cache {
            return Err(self.unexpected("sharing"));
        }
        if self.kind == MountType::Secret {
            if !self.from.is_empty() {
                return wrong("a secret has no from");
            }
            if self.source.is_empty() && self.target.is_empty() && self.id.is_empty() {
                return wrong("a secret needs one of id, source, target");
            }
            if !self.source.is_empty() && !self.id.is_empty() {
                return wrong("a secret has source or id, not both");
            }
        }
        Ok(())
    }
}

/// A size in bytes: `64m`, `1.5GiB`, `100`.
fn size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale = match text.get(digits.len()..)?.to_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return None,
    };
    let number: f64 = digits.strip_suffix(' ').unwrap_or(digits).parse().ok()?;
    let bytes = number * 2f64.powi(scale);
    // Below 2^63, so that the cast keeps the value.
    (number >= 0.0 && bytes < 9e18).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Mount, (Error, Option<String>)> {
        Mount::parse(text, |value| Ok(value.to_owned()))
    }

    #[test]
    fn mounts() {
        let bind = Mount { target: "/x".into(), is_read_only: true, ..Mount::default() };
        assert_eq!(read("target=/x"), Ok(bind));
        let cache = read("type=cache,id=a,dst=/c,sharing=locked,mode=0700,uid=1,gid=2").expect("a cache");
        assert_eq!(
            (cache.sharing, cache.mode, cache.uid, cache.is_read_only),
            (Some(Sharing::Locked), Some(0o700), Some(1), false)
        );
        assert_eq!(read("type=tmpfs,target=/t,size=1.5k").expect("tmpfs").size_bytes, Some(1536));
        assert!(read("type=secret,id=k,required").expect("a secret").is_required);
        assert_eq!(read("type=ssh,\"target=/a,b\"").expect("an agent").target, "/a,b");
    }

    #[test]
    fn refused() {
        for (text, hint) in [
            ("type=cahce", Some("cache")),
            ("tagret=/x", Some("target")),
            ("type=cache,sharing=lockd", Some("locked")),
            ("target", None),
            ("required", None),
            ("size=1", None),
            ("mode=0755", None),
            ("type=secret", None),
            ("type=secret,id=a,from=b", None),
            ("type=tmpfs,sharing=locked", None),
            ("type=cache,mode=9", None),
            ("ro=maybe", None),
            ("", None),
            ("a\"b", None),
        ] {
            let (_, nearest) = read(text).expect_err(text);
            assert_eq!(nearest.as_deref(), hint, "{text}");
        }
    }
}
