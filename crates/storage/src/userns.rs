//! Which ids the user namespace of a container has: podman's `--userns`, `--uidmap`, `--subuidname`.

use std::path::Path;

use hoy_layout::{Container, ContainerId, Store};
use hoy_oci::{IdMapping, IdMaps};

use crate::ids::{Range, fill, ranges, subtract};
use crate::namespace::Standing;
use crate::{Error, Result};

/// Ids of a container that is given its own, unless a size is asked for: what images use, and `nobody`.
const DEFAULT_SIZE: u32 = 65_536;

/// The same for an ordinary user, who has few: room for what the image's own users need is added.
const SMALL_SIZE: u32 = 1024;

/// Where ids are taken from when nobody named `containers` has any: systemd's range for containers (UIDS-GIDS.md).
const CONTAINER_IDS: Range = Range { start: 524_288, count: 1_878_523_904 };

/// Who owns, in subuid(5) and subgid(5), the ids that root gives to containers.
const OWNER: &str = "containers";

/// What was asked for, as typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdOptions {
    /// `auto`, `keep-id`, `nomap`, `host`, `private`, `container:ID`, with options after a colon.
    pub userns: Option<String>,
    /// `CONTAINER:HOST:SIZE` each; `@HOST` is an id of the machine and not of this user's namespace.
    pub uidmap: Vec<String>,
    /// The same for groups.
    pub gidmap: Vec<String>,
    /// Whose entry in subuid(5) the ids are.
    pub subuidname: Option<String>,
    /// Whose entry in subgid(5) the group ids are.
    pub subgidname: Option<String>,
}

impl IdOptions {
    fn has_maps(&self) -> bool {
        let lists = !self.uidmap.is_empty() || !self.gidmap.is_empty();
        lists || self.subuidname.is_some() || self.subgidname.is_some()
    }
}

/// Ids, both sides of this process's own user namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Own {
    uids: Vec<IdMapping>,
    gids: Vec<IdMapping>,
    standing: Standing,
}

/// One of the two kinds of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    User,
    Group,
}

impl Kind {
    fn file(self) -> &'static str {
        match self {
            Self::User => "/etc/subuid",
            Self::Group => "/etc/subgid",
        }
    }

    fn of(self, maps: &IdMaps) -> &[IdMapping] {
        match self {
            Self::User => &maps.uid_mappings,
            Self::Group => &maps.gid_mappings,
        }
    }
}

fn ids_error(what: impl Into<String>, remedy: impl Into<String>) -> Error {
    Error::Ids { what: what.into(), remedy: remedy.into() }
}

impl Own {
    fn of_this_process() -> Result<Self> {
        let read = |name: &str| -> Result<Vec<IdMapping>> {
            let path = Path::new("/proc/self").join(name);
            let text = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
            Ok(text.lines().filter_map(line).collect())
        };
        Ok(Self { uids: read("uid_map")?, gids: read("gid_map")?, standing: Standing::of_this_process() })
    }

    fn of(&self, kind: Kind) -> &[IdMapping] {
        match kind {
            Kind::User => &self.uids,
            Kind::Group => &self.gids,
        }
    }

    /// The id here of one of the machine.
    fn inside(&self, kind: Kind, host: u32) -> Option<u32> {
        let all = IdMaps { uid_mappings: self.of(kind).to_vec(), gid_mappings: Vec::new() };
        all.container_uid(host)
    }

    /// How many ids there are beside 0; they are in one piece for whoever made the namespace as this program does.
    fn subordinate(&self, kind: Kind) -> u32 {
        self.of(kind).iter().fold(0_u32, |sum, map| sum.saturating_add(map.size)).saturating_sub(1)
    }
}

fn line(text: &str) -> Option<IdMapping> {
    let mut numbers = text.split_whitespace().map(|word| word.parse::<u32>().ok());
    let mut next = || numbers.next().flatten();
    Some(IdMapping { container_id: next()?, host_id: next()?, size: next()? })
}

/// What asks for the ids of a container.
pub(crate) enum Wanted {
    /// None of its own.
    Callers,
    /// These.
    Maps(IdMaps),
    /// Ones that no other container has.
    Unused(Auto),
}

/// `auto` and its options.
#[derive(Debug, Default)]
pub(crate) struct Auto {
    size: Option<u32>,
    uids: Vec<IdMapping>,
    gids: Vec<IdMapping>,
}

/// Understands what was asked for.
///
/// # Errors
/// [`Error::Ids`] with the option at fault.
pub(crate) fn wanted(store: &Store, options: &IdOptions) -> Result<Wanted> {
    let mode = options.userns.as_deref().unwrap_or("");
    let (name, rest) = mode.split_once(':').unwrap_or((mode, ""));
    if options.has_maps() {
        if !matches!(name, "" | "private") {
            let what = format!("option --userns={mode} beside --uidmap, --gidmap, --subuidname or --subgidname");
            return Err(ids_error(what, "use one or the other"));
        }
        return explicit(options).map(Wanted::Maps);
    }
    match name {
        "" | "host" | "ns" => Ok(Wanted::Callers),
        "auto" => auto(rest).map(Wanted::Unused),
        "keep-id" => keep_id(rest).map(Wanted::Maps),
        "nomap" if rest.is_empty() => nomap().map(Wanted::Maps),
        "container" => match store.find_container(rest)?.container()?.id_maps {
            Some(maps) => Ok(Wanted::Maps(maps)),
            None => Ok(Wanted::Callers),
        },
        "private" => Err(ids_error("option --userns=private", "say which ids with --uidmap, or use --userns=auto")),
        _ => {
            let modes = "there are auto, keep-id, nomap, host, private, container:ID and ns:PATH";
            Err(ids_error(format!("option --userns={mode}"), modes))
        }
    }
}

/// `KEY=VALUE,…` after the mode.
fn pairs(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let words = text.split(',').filter(|word| !word.is_empty());
    words.map(|word| word.split_once('=').unwrap_or((word, "")))
}

fn auto(text: &str) -> Result<Auto> {
    let mut auto = Auto::default();
    for (key, value) in pairs(text) {
        match key {
            "size" => auto.size = Some(number("auto:size", value)?),
            "uidmapping" => auto.uids.push(IdMapping::parse(value).map_err(not_a_map)?),
            "gidmapping" => auto.gids.push(IdMapping::parse(value).map_err(not_a_map)?),
            _ => {
                return Err(ids_error(format!("option --userns=auto:{key}"), "there are size, uidmapping, gidmapping"));
            }
        }
    }
    Ok(auto)
}

fn number(option: &str, text: &str) -> Result<u32> {
    let wrong = || ids_error(format!("option --userns={option}={text}"), "it is a number of ids");
    text.parse().ok().filter(|size| *size > 0 || !option.ends_with("size")).ok_or_else(wrong)
}

fn not_a_map(error: hoy_oci::Error) -> Error {
    ids_error(error.to_string(), "see hoy-storage(1)")
}

/// The maps of `--uidmap` and the like; one list serves for both kinds, as podman has it.
fn explicit(options: &IdOptions) -> Result<IdMaps> {
    let own = Own::of_this_process()?;
    let read = |kind: Kind, texts: &[String], name: &Option<String>| -> Result<Vec<IdMapping>> {
        match name {
            Some(name) if !texts.is_empty() => Err(ids_error(
                format!("option --sub*idname={name} beside --uidmap or --gidmap"),
                "use one or the other",
            )),
            Some(name) => of_name(&own, kind, name),
            None => texts.iter().map(|text| one(&own, kind, text)).collect(),
        }
    };
    let uids = read(Kind::User, &options.uidmap, &options.subuidname)?;
    let gids = read(Kind::Group, &options.gidmap, &options.subgidname)?;
    let maps = match (uids.is_empty(), gids.is_empty()) {
        (false, true) => {
            let name = &options.subuidname;
            IdMaps { gid_mappings: read(Kind::Group, &options.uidmap, name)?, uid_mappings: uids }
        }
        (true, _) => {
            let name = &options.subgidname;
            IdMaps { uid_mappings: read(Kind::User, &options.gidmap, name)?, gid_mappings: gids }
        }
        (false, false) => IdMaps { uid_mappings: uids, gid_mappings: gids },
    };
    checked(maps, &own)
}

/// Refuses what the kernel would, and cuts ranges where those of this process's own namespace meet, as it wants them.
fn checked(maps: IdMaps, own: &Own) -> Result<IdMaps> {
    maps.check().map_err(not_a_map)?;
    let cut = |kind: Kind| -> Result<Vec<IdMapping>> {
        let mut pieces = Vec::new();
        for map in kind.of(&maps) {
            pieces.extend(cut(map, own.of(kind)).ok_or_else(|| {
                let have = own.subordinate(kind);
                let what = format!("map {} ids from {}: here are the ids from 0 to {have}", map.size, map.host_id);
                ids_error(what, format!("{} gives a user more", kind.file()))
            })?);
        }
        Ok(pieces)
    };
    Ok(IdMaps { uid_mappings: cut(Kind::User)?, gid_mappings: cut(Kind::Group)? })
}

/// The range in pieces that lie each within one of `own`; none when not all of it does.
fn cut(map: &IdMapping, own: &[IdMapping]) -> Option<Vec<IdMapping>> {
    let mut pieces = Vec::new();
    let mut rest = *map;
    while rest.size > 0 {
        let offset = |range: &IdMapping| rest.host_id.checked_sub(range.container_id).filter(|at| *at < range.size);
        let left = own.iter().find_map(|range| Some(range.size - offset(range)?))?;
        let size = rest.size.min(left);
        pieces.push(IdMapping { size, ..rest });
        let next = |id: u32| id.checked_add(size);
        rest = match (next(rest.container_id), next(rest.host_id)) {
            (Some(container_id), Some(host_id)) => IdMapping { container_id, host_id, size: rest.size - size },
            _ => return Some(pieces),
        };
    }
    Some(pieces)
}

fn one(own: &Own, kind: Kind, text: &str) -> Result<IdMapping> {
    let prefix: String = text.chars().take_while(|c| matches!(c, '+' | 'u' | 'g')).collect();
    if !prefix.is_empty() {
        let what = format!("id mapping \"{text}\": the prefix \"{prefix}\" is podman's and not known here");
        return Err(ids_error(what, "give all ranges of users with --uidmap and all of groups with --gidmap"));
    }
    let mut map = IdMapping::parse(&text.replace('@', "")).map_err(not_a_map)?;
    if text.contains(":@") {
        let unknown = || ids_error(format!("id mapping \"{text}\": the id is not one of this user's"), kind.file());
        map.host_id = own.inside(kind, map.host_id).ok_or_else(unknown)?;
    }
    Ok(map)
}

/// The ranges of a name in subuid(5) or subgid(5), one after the other from 0 on.
fn of_name(own: &Own, kind: Kind, name: &str) -> Result<Vec<IdMapping>> {
    let text = std::fs::read_to_string(kind.file()).unwrap_or_default();
    let mut maps = Vec::new();
    let mut next = 0_u32;
    for range in ranges(&text, Some(name), u32::MAX) {
        let none = || ids_error(format!("the ids of {name} in {} are not this user's", kind.file()), "ask root");
        let host_id = own.inside(kind, range.start).ok_or_else(none)?;
        maps.push(IdMapping { container_id: next, host_id, size: range.count });
        next = next.saturating_add(range.count);
    }
    match maps.is_empty() {
        true => Err(ids_error(format!("{} has no range of {name}", kind.file()), "add a line NAME:START:COUNT")),
        false => Ok(maps),
    }
}

/// For an ordinary user alone: the user's own ids are the same in the container.
fn rootless(mode: &str) -> Result<Own> {
    let own = Own::of_this_process()?;
    match own.standing {
        Standing::Root => Err(ids_error(format!("option --userns={mode}"), "it is for ordinary users, root has auto")),
        _ => Ok(own),
    }
}

fn keep_id(text: &str) -> Result<IdMaps> {
    let own = rootless("keep-id")?;
    let outside = |kind| {
        let map = own.of(kind).iter().find(|map| map.container_id == 0);
        map.map_or(0, |map| map.host_id)
    };
    let (mut uid, mut gid, mut size) = (outside(Kind::User), outside(Kind::Group), None);
    for (key, value) in pairs(text) {
        match key {
            "uid" => uid = number("keep-id:uid", value)?,
            "gid" => gid = number("keep-id:gid", value)?,
            "size" => size = Some(number("keep-id:size", value)?),
            _ => return Err(ids_error(format!("option --userns=keep-id:{key}"), "there are uid, gid and size")),
        }
    }
    let around = |kind, id| around(id, own.subordinate(kind).min(size.map_or(u32::MAX, |size| size - 1)));
    checked(IdMaps { uid_mappings: around(Kind::User, uid), gid_mappings: around(Kind::Group, gid) }, &own)
}

/// The id `own` is 0 outside; `others` more ids, from 1 on outside, are around it.
fn around(own: u32, others: u32) -> Vec<IdMapping> {
    let below = own.min(others);
    let parts = [
        IdMapping { container_id: 0, host_id: 1, size: below },
        IdMapping { container_id: own, host_id: 0, size: 1 },
        IdMapping { container_id: own.saturating_add(1), host_id: below.saturating_add(1), size: others - below },
    ];
    parts.into_iter().filter(|map| map.size > 0).collect()
}

fn nomap() -> Result<IdMaps> {
    let own = rootless("nomap")?;
    let all = |kind| vec![IdMapping { container_id: 0, host_id: 1, size: own.subordinate(kind) }];
    if own.subordinate(Kind::User) == 0 || own.subordinate(Kind::Group) == 0 {
        return Err(no_subordinate());
    }
    checked(IdMaps { uid_mappings: all(Kind::User), gid_mappings: all(Kind::Group) }, &own)
}

fn no_subordinate() -> Error {
    ids_error("this user has one id only, and none to give away", "add ranges to /etc/subuid and /etc/subgid")
}

/// Ids that no container of the store has, for an image whose users need ids below `needed`.
///
/// The caller holds the lock on the choice until the container's record is written.
///
/// # Errors
/// [`Error::Ids`] when there are not enough.
pub(crate) fn choose(store: &Store, auto: &Auto, needed: impl FnOnce() -> u32) -> Result<IdMaps> {
    let own = Own::of_this_process()?;
    let size = match (auto.size, own.standing) {
        (Some(size), _) => size,
        (None, Standing::Root) => DEFAULT_SIZE,
        (None, _) => SMALL_SIZE.max(needed()),
    };
    if own.standing != Standing::Root && own.subordinate(Kind::User) == 0 {
        return Err(no_subordinate());
    }
    let taken = taken(store)?;
    let of = |kind: Kind, extra: &[IdMapping]| {
        let mut used: Vec<Range> = taken.iter().flat_map(|maps| kind.of(maps)).map(host_range).collect();
        used.extend(extra.iter().map(host_range));
        fill(size, extra, subtract(&available(&own, kind), &used))
            .ok_or_else(|| short(store, &own, kind, size, taken.len()))
    };
    let maps = IdMaps { uid_mappings: of(Kind::User, &auto.uids)?, gid_mappings: of(Kind::Group, &auto.gids)? };
    checked(maps, &own)
}

fn short(store: &Store, own: &Own, kind: Kind, size: u32, count: usize) -> Error {
    let have: u64 = available(own, kind).iter().map(|range| u64::from(range.count)).sum();
    let what = format!("give {size} ids to a container: of {have} too few are left beside those of {count} others");
    let owner = if own.standing == Standing::Root { OWNER } else { "this user" };
    let list = format!("\"hoy-storage containers\" lists those in \"{}\"", store.root().display());
    ids_error(what, format!("{list}; {} gives {owner} more", kind.file()))
}

fn host_range(map: &IdMapping) -> Range {
    Range { start: map.host_id, count: map.size }
}

/// The ids that may be given to containers.
fn available(own: &Own, kind: Kind) -> Vec<Range> {
    if own.standing != Standing::Root {
        let inside = own.of(kind).iter().map(|map| Range { start: map.container_id, count: map.size });
        return subtract(&inside.collect::<Vec<_>>(), &[Range { start: 0, count: 1 }]);
    }
    let text = std::fs::read_to_string(kind.file()).unwrap_or_default();
    let given = ranges(&text, Some(OWNER), u32::MAX);
    if !given.is_empty() {
        return given;
    }
    let field = |line: &str, at: usize| line.split(':').nth(at).and_then(|word| word.parse::<u32>().ok());
    let others = text.lines().filter_map(|line| Some(Range { start: field(line, 1)?, count: field(line, 2)? }));
    let accounts = if kind == Kind::User { "/etc/passwd" } else { "/etc/group" };
    let accounts = std::fs::read_to_string(accounts).unwrap_or_default();
    let accounts = accounts.lines().filter_map(|line| Some(Range { start: field(line, 2)?, count: 1 }));
    subtract(&[CONTAINER_IDS], &others.chain(accounts).collect::<Vec<_>>())
}

/// The maps of all containers, also of those that are being made.
fn taken(store: &Store) -> Result<Vec<IdMaps>> {
    let path = store.containers();
    let mut all = Vec::new();
    for entry in std::fs::read_dir(&path).map_err(Error::io("read", &path))? {
        let name = entry.map_err(Error::io("read", &path))?.file_name();
        let Some(id) = name.to_str().and_then(|text| text.parse::<ContainerId>().ok()) else { continue };
        let dir = store.container_dir(id);
        // In this order: what is renamed in between is seen under its later name.
        let record = dir.read_json::<Container>(crate::container::CREATING).or_else(|_| dir.container());
        all.extend(record.ok().and_then(|record| record.id_maps));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(container_id: u32, host_id: u32, size: u32) -> IdMapping {
        IdMapping { container_id, host_id, size }
    }

    #[test]
    fn own_id_in_the_middle() {
        assert_eq!(around(1000, 65_536), [map(0, 1, 1000), map(1000, 0, 1), map(1001, 1001, 64_536)]);
        assert_eq!(around(1000, 0), [map(1000, 0, 1)]);
        assert_eq!(around(0, 5), [map(0, 0, 1), map(1, 1, 5)]);
        assert_eq!(around(70_000, 10), [map(0, 1, 10), map(70_000, 0, 1)]);
    }

    #[test]
    fn ranges_are_cut_where_those_around_meet() {
        let own = [map(0, 1001, 1), map(1, 100_000, 65_536)];
        assert_eq!(cut(&map(0, 0, 100), &own), Some(vec![map(0, 0, 1), map(1, 1, 99)]));
        assert_eq!(cut(&map(7, 5, 10), &own), Some(vec![map(7, 5, 10)]));
        assert_eq!(cut(&map(0, 65_530, 10), &own), None);
    }

    #[test]
    fn options_of_modes() {
        let chosen = auto("size=8192,uidmapping=0:5:1,gidmapping=1:6:2").unwrap();
        assert_eq!((chosen.size, chosen.uids, chosen.gids), (Some(8192), vec![map(0, 5, 1)], vec![map(1, 6, 2)]));
        for wrong in ["size=0", "size=x", "uidmapping=5", "other=1"] {
            assert!(auto(wrong).is_err(), "{wrong}");
        }
    }
}
