//! Names for containers that got none: an adjective of the sea and a sailor or ship.

use hoy_sys::rustix::rand::{GetRandomFlags, getrandom};

use crate::{Error, Result};

const ADJECTIVES: [&str; 48] = [
    "amber",
    "azure",
    "becalmed",
    "bold",
    "brisk",
    "bright",
    "calm",
    "coastal",
    "coral",
    "crisp",
    "deep",
    "drifting",
    "eager",
    "eastern",
    "fair",
    "fleet",
    "foggy",
    "gentle",
    "gilded",
    "grey",
    "hardy",
    "homeward",
    "laden",
    "leeward",
    "lively",
    "lucky",
    "merry",
    "misty",
    "nimble",
    "northern",
    "pearly",
    "placid",
    "quiet",
    "rolling",
    "salty",
    "seaworthy",
    "silver",
    "southern",
    "steady",
    "stormy",
    "sturdy",
    "swift",
    "tidal",
    "trim",
    "weathered",
    "western",
    "windward",
    "wry",
];

const NOUNS: [&str; 48] = [
    "albatross",
    "anchor",
    "barge",
    "barque",
    "beacon",
    "bosun",
    "bowline",
    "brig",
    "buoy",
    "capstan",
    "captain",
    "clipper",
    "compass",
    "coxswain",
    "cutter",
    "dinghy",
    "dory",
    "ferry",
    "frigate",
    "galleon",
    "gannet",
    "gull",
    "harbour",
    "helm",
    "hull",
    "jetty",
    "keel",
    "ketch",
    "lantern",
    "lighter",
    "lugger",
    "mariner",
    "mast",
    "mate",
    "navigator",
    "petrel",
    "pilot",
    "pinnace",
    "porpoise",
    "purser",
    "rudder",
    "sailor",
    "schooner",
    "skiff",
    "sloop",
    "tern",
    "trawler",
    "yawl",
];

/// Whether a person may give a container this name, podman's rule.
pub(crate) fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

/// A name such as `steady_lugger`; after `attempt` clashes, with a number.
pub(crate) fn random(attempt: u32) -> Result<String> {
    let mut bytes = [0; 4];
    getrandom(&mut bytes, GetRandomFlags::empty())
        .map_err(|errno| Error::System(hoy_sys::Error::new("getrandom", errno)))?;
    Ok(name(u32::from_ne_bytes(bytes), attempt))
}

fn name(random: u32, attempt: u32) -> String {
    let pick = |words: &[&'static str], random: u32| {
        words.iter().cycle().nth(random as usize % words.len()).copied().unwrap_or("hoy")
    };
    let (adjective, noun) = (pick(&ADJECTIVES, random), pick(&NOUNS, random / 64));
    let number = if attempt == 0 { String::new() } else { (random / 4096 % (10 * attempt + 10)).to_string() };
    format!("{adjective}_{noun}{number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_name() {
        assert!(["a", "0-a_b.c"].into_iter().all(is_name));
        assert!(!["", "../x", "a/b", ".a", "-a", "a b", "ä"].into_iter().any(is_name));
    }

    #[test]
    fn names_have_two_words() {
        assert_eq!(name(0, 0), "amber_albatross");
        assert!(name(u32::MAX, 3).ends_with(|c: char| c.is_ascii_digit()));
        assert_ne!(random(0).unwrap(), "");
    }
}
