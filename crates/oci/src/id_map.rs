//! Id maps of user namespaces (runtime-spec config-linux.md "User namespace mappings").

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The most lines that the kernel takes for one map (user_namespaces(7)).
const MAX_LINES: usize = 340;

/// One range of ids, inside and outside of a user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct IdMapping {
    /// The first id inside.
    #[serde(rename = "containerID")]
    pub container_id: u32,
    /// The first id outside.
    #[serde(rename = "hostID")]
    pub host_id: u32,
    /// How many there are.
    pub size: u32,
}

impl IdMapping {
    /// Reads `CONTAINER:HOST[:SIZE]`; the size is 1 unless given.
    ///
    /// # Errors
    /// [`Error::IdMapping`] for what is none.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |reason: String| Error::IdMapping { text: text.to_owned(), reason };
        let numbers: Vec<Option<u32>> = text.split(':').map(|part| part.parse().ok()).collect();
        match *numbers.as_slice() {
            [Some(container_id), Some(host_id)] => Ok(Self { container_id, host_id, size: 1 }),
            [Some(container_id), Some(host_id), Some(size)] => Ok(Self { container_id, host_id, size }),
            _ => Err(wrong("its form is CONTAINER:HOST:SIZE, three numbers".to_owned())),
        }
    }

    fn inside(&self) -> (u32, u32) {
        (self.container_id, self.size)
    }

    fn outside(&self) -> (u32, u32) {
        (self.host_id, self.size)
    }
}

/// The maps of a user namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IdMaps {
    /// Of user ids.
    pub uid_mappings: Vec<IdMapping>,
    /// Of group ids.
    pub gid_mappings: Vec<IdMapping>,
}

impl IdMaps {
    /// Refuses what the kernel would: empty, overlapping or too many ranges.
    ///
    /// # Errors
    /// [`Error::IdMapping`] with the range at fault.
    pub fn check(&self) -> Result<()> {
        check(&self.uid_mappings)?;
        check(&self.gid_mappings)
    }

    /// Whether every id inside is the same outside.
    pub fn is_identity(&self) -> bool {
        let same = |maps: &[IdMapping]| maps.iter().all(|map| map.container_id == map.host_id);
        same(&self.uid_mappings) && same(&self.gid_mappings)
    }

    /// The user id outside of one inside.
    pub fn host_uid(&self, id: u32) -> Option<u32> {
        translate(&self.uid_mappings, id, IdMapping::inside, IdMapping::outside)
    }

    /// The group id outside of one inside.
    pub fn host_gid(&self, id: u32) -> Option<u32> {
        translate(&self.gid_mappings, id, IdMapping::inside, IdMapping::outside)
    }

    /// The user id inside of one outside.
    pub fn container_uid(&self, id: u32) -> Option<u32> {
        translate(&self.uid_mappings, id, IdMapping::outside, IdMapping::inside)
    }

    /// The group id inside of one outside.
    pub fn container_gid(&self, id: u32) -> Option<u32> {
        translate(&self.gid_mappings, id, IdMapping::outside, IdMapping::inside)
    }
}

type Side = fn(&IdMapping) -> (u32, u32);

fn translate(maps: &[IdMapping], id: u32, from: Side, to: Side) -> Option<u32> {
    maps.iter().find_map(|map| {
        let offset = id.checked_sub(from(map).0).filter(|offset| *offset < map.size)?;
        to(map).0.checked_add(offset)
    })
}

fn check(maps: &[IdMapping]) -> Result<()> {
    let wrong = |map: &IdMapping, reason: &str| {
        let text = format!("{}:{}:{}", map.container_id, map.host_id, map.size);
        Err(Error::IdMapping { text, reason: reason.to_owned() })
    };
    for (at, map) in maps.iter().enumerate() {
        if at >= MAX_LINES {
            return wrong(map, "the kernel takes 340 ranges at most");
        }
        // The last id means "none" to chown(2), so a range ends before it.
        let fits = |(start, size): (u32, u32)| start.checked_add(size).is_some();
        if map.size == 0 || !fits(map.inside()) || !fits(map.outside()) {
            return wrong(map, "a range has at least one id and ends before 4294967295");
        }
        let overlaps = |other: &IdMapping, side: Side| {
            let ((a, n), (b, m)) = (side(map), side(other));
            a < b.saturating_add(m) && b < a.saturating_add(n)
        };
        let mut earlier = maps.iter().take(at);
        if earlier.any(|other| overlaps(other, IdMapping::inside) || overlaps(other, IdMapping::outside)) {
            return wrong(map, "it has ids of another range");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maps(texts: &[&str]) -> IdMaps {
        let all: Vec<IdMapping> = texts.iter().map(|text| IdMapping::parse(text).unwrap()).collect();
        IdMaps { uid_mappings: all.clone(), gid_mappings: all }
    }

    #[test]
    fn forms() {
        assert_eq!(IdMapping::parse("0:7").unwrap(), IdMapping { container_id: 0, host_id: 7, size: 1 });
        for text in ["", "0", "0:", "a:0:1", "0:1:2:3", "-1:0:1", "0:4294967296:1"] {
            assert!(IdMapping::parse(text).is_err(), "{text:?}");
        }
        assert!(maps(&["0:100000:65536", "65536:7:1"]).check().is_ok());
        for wrong in [&["0:1:0"][..], &["0:1:4294967295"], &["0:1:2", "1:9:1"], &["0:1:2", "9:2:1"]] {
            assert!(maps(wrong).check().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn there_and_back() {
        let maps = maps(&["0:100000:1000", "1000:0:1", "1001:101000:64"]);
        for (inside, outside) in [(0, 100_000), (999, 100_999), (1000, 0), (1001, 101_000)] {
            assert_eq!((maps.host_uid(inside), maps.container_gid(outside)), (Some(outside), Some(inside)));
        }
        assert_eq!((maps.host_gid(1065), maps.container_uid(1)), (None, None));
        assert!(!maps.is_identity() && IdMaps::default().is_identity());
    }
}
