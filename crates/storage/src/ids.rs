//! The ids of an ordinary user: subuid(5), subgid(5), and the maps of a user namespace.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hoy_oci::IdMapping;

use crate::{Error, Result};

/// A range of ids that a user may map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The first id.
    pub start: u32,
    /// How many there are.
    pub count: u32,
}

/// Which of the two maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Map {
    Users,
    Groups,
}

impl Map {
    fn file(self) -> &'static str {
        match self {
            Self::Users => "/etc/subuid",
            Self::Groups => "/etc/subgid",
        }
    }

    fn helper(self) -> &'static str {
        match self {
            Self::Users => "newuidmap",
            Self::Groups => "newgidmap",
        }
    }
}

/// Reads the ranges of a user, given by name and number, from the text of subuid(5) or subgid(5).
pub fn ranges(text: &str, name: Option<&str>, uid: u32) -> Vec<Range> {
    let number = uid.to_string();
    let mut found: Vec<Range> = Vec::new();
    for line in text.lines() {
        let mut fields = line.trim().split(':');
        let is_own = fields.next().is_some_and(|owner| Some(owner) == name || owner == number);
        let mut field = || fields.next()?.parse::<u32>().ok();
        if let (true, Some(start), Some(count)) = (is_own, field(), field())
            && count > 0
            && !found.iter().any(|range| range.start == start)
        {
            found.push(Range { start, count });
        }
    }
    found
}

/// A user's name in the text of passwd(5).
pub fn name_of(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

/// `ranges` without the ids of `others`.
pub(crate) fn subtract(ranges: &[Range], others: &[Range]) -> Vec<Range> {
    let end = |range: &Range| u64::from(range.start) + u64::from(range.count);
    let mut left: Vec<(u64, u64)> = ranges.iter().map(|range| (range.start.into(), end(range))).collect();
    for other in others {
        let (from, to) = (u64::from(other.start), end(other));
        let cut = |(start, stop): (u64, u64)| [(start, stop.min(from)), (start.max(to), stop)];
        left = left.into_iter().flat_map(cut).filter(|(start, stop)| start < stop).collect();
    }
    let range = |(start, stop): (u64, u64)| {
        Some(Range { start: u32::try_from(start).ok()?, count: u32::try_from(stop - start).ok()? })
    };
    left.into_iter().filter_map(range).collect()
}

/// Gives each id below `size` that `extra` does not have one of `free`; none when these are too few.
pub(crate) fn fill(size: u32, extra: &[IdMapping], free: Vec<Range>) -> Option<Vec<IdMapping>> {
    let inside: Vec<Range> = extra.iter().map(|map| Range { start: map.container_id, count: map.size }).collect();
    let mut wanted = subtract(&[Range { start: 0, count: size }], &inside);
    let total: u64 = wanted.iter().map(|range| u64::from(range.count)).sum();
    // One piece where there is one, so that a container's ids are easily told.
    let whole = free.iter().find(|range| u64::from(range.count) >= total).copied();
    let mut free = whole.map_or(free, |range| vec![range]).into_iter();
    let mut maps = Vec::new();
    let mut from = free.next();
    wanted.reverse();
    while let Some(Range { start, count }) = wanted.pop() {
        let range = from?;
        let size = count.min(range.count);
        maps.push(IdMapping { container_id: start, host_id: range.start, size });
        if count > size {
            wanted.push(Range { start: start + size, count: count - size });
        }
        let rest = Range { start: range.start + size, count: range.count - size };
        from = if rest.count > 0 { Some(rest) } else { free.next() };
    }
    maps.extend(extra);
    Some(maps)
}

/// Writes the id maps of process `pid`, which has just made its user namespace: 0 is the user, and from 1 on the
/// user's subordinate ids, if there are any. User 0 has every id that it has here.
///
/// # Errors
/// [`Error::Ids`] when newuidmap(1) or newgidmap(1) is missing or refuses; [`Error::Io`].
pub fn write_maps(pid: u32, uid: u32, gid: u32) -> Result<()> {
    if uid == 0 {
        return write_own(pid);
    }
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = name_of(&passwd, uid);
    let read = |map: Map| ranges(&std::fs::read_to_string(map.file()).unwrap_or_default(), name, uid);
    let (users, groups) = (read(Map::Users), read(Map::Groups));
    match (users.is_empty(), groups.is_empty()) {
        (true, true) => write_single(pid, uid, gid),
        (false, false) => {
            run_helper(Map::Users, pid, uid, &users)?;
            run_helper(Map::Groups, pid, gid, &groups)
        }
        (no_users, _) => {
            let (missing, present) = if no_users { (Map::Users, Map::Groups) } else { (Map::Groups, Map::Users) };
            let user = name.map_or_else(|| uid.to_string(), str::to_owned);
            Err(Error::Ids {
                what: format!("user {user} has a range in {} and none in {}", present.file(), missing.file()),
                remedy: "give it both, or neither".to_owned(),
            })
        }
    }
}

/// All ids of this process's own namespace, each as itself; user 0 alone where more are not allowed.
fn write_own(pid: u32) -> Result<()> {
    for map in ["uid_map", "gid_map"] {
        let (own, path) = (format!("/proc/self/{map}"), PathBuf::from(format!("/proc/{pid}/{map}")));
        let known = std::fs::read_to_string(&own).map_err(Error::io("read", Path::new(&own)))?;
        match std::fs::write(&path, same(&known)) {
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied && map == "uid_map" => {
                return write_single(pid, 0, 0);
            }
            written => written.map_err(Error::io("write", &path))?,
        }
    }
    Ok(())
}

/// The map that gives each id of a namespace, whose own map is `known`, to itself.
///
/// Id 0 has a line of its own, so that nobody takes the namespace for the initial one.
fn same(known: &str) -> String {
    let numbers = |line: &str| line.split_whitespace().map(|word| word.parse::<u32>().ok()).collect::<Option<Vec<_>>>();
    let mut lines = String::new();
    for line in known.lines().filter_map(numbers) {
        let [start, _, count] = line.as_slice() else { continue };
        let whole = match (*start, *count) {
            (0, count @ 2..) => vec![(0, 1), (1, count - 1)],
            other => vec![other],
        };
        lines.extend(whole.iter().map(|(start, count)| format!("{start} {start} {count}\n")));
    }
    lines
}

/// One id needs no privilege, as long as the process gives up setgroups(2) (user_namespaces(7)).
fn write_single(pid: u32, uid: u32, gid: u32) -> Result<()> {
    let lines =
        [("setgroups", "deny".to_owned()), ("uid_map", format!("0 {uid} 1")), ("gid_map", format!("0 {gid} 1"))];
    for (file, line) in lines {
        let path = PathBuf::from(format!("/proc/{pid}/{file}"));
        std::fs::write(&path, line).map_err(Error::io("write", &path))?;
    }
    Ok(())
}

fn run_helper(map: Map, pid: u32, id: u32, ranges: &[Range]) -> Result<()> {
    let mut arguments = vec![pid.to_string(), "0".to_owned(), id.to_string(), "1".to_owned()];
    let mut inside = 1_u32;
    for range in ranges {
        arguments.extend([inside, range.start, range.count].map(|number| number.to_string()));
        inside = inside.saturating_add(range.count);
    }
    let helper = map.helper();
    let list = ranges.iter().map(|range| format!("{}:{}", range.start, range.count)).collect::<Vec<_>>().join(", ");
    let what = format!("map the ids {list} of {} with {helper}", map.file());
    let output = Command::new(helper).args(&arguments).stdin(Stdio::null()).output();
    match output {
        // PATH may lead through directories that this user cannot search.
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied) => {
            let what = format!("{what}: it cannot be found in PATH");
            Err(Error::Ids { what, remedy: "install the package uidmap".to_owned() })
        }
        Err(e) => Err(Error::io("run", Path::new(helper))(e)),
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', ", ");
            let said = if said.is_empty() { format!("it ended with {}", output.status) } else { said };
            let remedy = format!("{helper} must be setuid root or have CAP_SETUID, and the range be the user's own");
            Err(Error::Ids { what: format!("{what}: {said}"), remedy })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(container_id: u32, host_id: u32, size: u32) -> IdMapping {
        IdMapping { container_id, host_id, size }
    }

    fn range(start: u32, count: u32) -> Range {
        Range { start, count }
    }

    #[test]
    fn every_id_is_itself() {
        assert_eq!(same("         0          0 4294967295\n"), "0 0 1\n1 1 4294967294\n");
        assert_eq!(same("0 1000 1\n1 100000 65536\n"), "0 0 1\n1 1 65536\n");
    }

    #[test]
    fn what_is_left() {
        let all = [range(10, 10), range(100, 5)];
        assert_eq!(
            subtract(&all, &[range(12, 3), range(0, 11), range(104, 50)]),
            [range(11, 1), range(15, 5), range(100, 4)]
        );
        assert_eq!(subtract(&[range(0, u32::MAX)], &[range(5, u32::MAX - 5)]), [range(0, 5)]);
    }

    #[test]
    fn ids_are_filled_in_one_piece_where_there_is_one() {
        let free = || vec![range(1, 4), range(50, 10), range(90, 90)];
        assert_eq!(fill(10, &[], free()), Some(vec![map(0, 50, 10)]));
        assert_eq!(fill(10, &[map(3, 7, 1)], free()), Some(vec![map(0, 50, 3), map(4, 53, 6), map(3, 7, 1)]));
        assert_eq!(fill(100, &[], free()), Some(vec![map(0, 1, 4), map(4, 50, 10), map(14, 90, 86)]));
        assert_eq!(fill(105, &[], free()), None);
    }

    #[test]
    fn own_ranges() {
        let text =
            "# a comment\nann:100000:65536\nbob:200000:10\n1000:300000:5\nann:x:1\nann:400000:0\nann:100000:65536\n";
        let range = |start, count| Range { start, count };
        assert_eq!(ranges(text, Some("ann"), 1000), [range(100_000, 65536), range(300_000, 5)]);
        assert_eq!(ranges(text, None, 1000), [range(300_000, 5)]);
        assert_eq!(ranges(text, Some("eve"), 7), []);
        assert_eq!(name_of("root:x:0:0::/:/bin/sh\nann:x:1000:1000::/:\n", 1000), Some("ann"));
        assert_eq!(name_of("broken\nann:x\n", 1000), None);
    }
}
