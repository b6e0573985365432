//! Capabilities of the container's process (capabilities(7)).

use hoy_sys::capability::NAMES;
use hoy_sys::rustix::io::Errno;
use hoy_sys::rustix::thread::{self, CapabilitySet, CapabilitySets};
use oci_spec::runtime::{Capabilities, LinuxCapabilities};

use crate::Result;
use crate::error::Doing;
use crate::process::program::warn;

/// The number of the capability `name`, with or without `CAP_`, in any case.
pub(crate) fn number(name: &str) -> Option<usize> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    NAMES.iter().position(|known| *known == bare)
}

/// Every name, with `CAP_`.
pub(crate) fn names() -> impl Iterator<Item = String> {
    NAMES.iter().map(|name| format!("CAP_{name}"))
}

/// The five sets, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Sets {
    pub(crate) bounding: u64,
    pub(crate) effective: u64,
    pub(crate) inheritable: u64,
    pub(crate) permitted: u64,
    pub(crate) ambient: u64,
}

impl Sets {
    pub(crate) fn new(caps: &LinuxCapabilities) -> Self {
        Self {
            bounding: bits(caps.bounding().as_ref()),
            effective: bits(caps.effective().as_ref()),
            inheritable: bits(caps.inheritable().as_ref()),
            permitted: bits(caps.permitted().as_ref()),
            ambient: bits(caps.ambient().as_ref()),
        }
    }

    /// Adds the capabilities `add` that are within `bound`; to the ambient set those that are inheritable, which none
    /// becomes by this.
    pub(crate) fn add(&mut self, add: u64, bound: u64) {
        let add = add & bound;
        self.bounding |= add;
        self.effective |= add;
        self.permitted |= add;
        self.ambient |= add & self.inheritable;
    }

    /// Those of the ambient set that cannot be there, by name.
    fn vain(&self) -> impl Iterator<Item = String> {
        let vain = self.ambient & !(self.permitted & self.inheritable);
        names().enumerate().filter(move |(n, _)| vain & (1 << n) != 0).map(|(_, name)| name)
    }

    /// Tells of what is asked for in vain.
    pub(crate) fn warn(&self) {
        for name in self.vain() {
            warn(&format!("can't raise ambient capability {name}: it is not both permitted and inheritable"));
        }
    }
}

fn bits(set: Option<&Capabilities>) -> u64 {
    // The enum prints as its bare upper-case name.
    set.into_iter().flatten().filter_map(|cap| number(&cap.to_string())).fold(0, |bits, n| bits | 1 << n)
}

/// Whether this process may use them all.
pub(crate) fn is_effective(wanted: CapabilitySet) -> bool {
    thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(wanted))
}

/// Takes from the bounding set what is not in `bounding`; needs CAP_SETPCAP, so it comes before the ids change.
pub(crate) fn limit_bounding(bounding: u64) -> Result<()> {
    for n in (0..64).filter(|n| bounding & (1_u64 << n) == 0) {
        match thread::remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << n)) {
            // Numbers past the kernel's last.
            Err(Errno::INVAL) => break,
            other => other.doing(|| format!("drop capability {n} from the bounding set"))?,
        }
    }
    Ok(())
}

/// CAP_SYS_ADMIN, which alone may load a filter where no_new_privs is not set.
pub(crate) const SYS_ADMIN: CapabilitySet = CapabilitySet::SYS_ADMIN;

/// What this process is to have of `sets`, or has where nothing is asked. What it does not have, it cannot give.
pub(crate) fn attainable(sets: Option<Sets>) -> Result<CapabilitySets> {
    let has = thread::capabilities(None).doing(|| "read capabilities")?;
    let Some(sets) = sets else { return Ok(has) };
    let of = |bits: u64| CapabilitySet::from_bits_retain(bits) & has.permitted;
    let permitted = of(sets.permitted);
    Ok(CapabilitySets { effective: of(sets.effective) & permitted, permitted, inheritable: of(sets.inheritable) })
}

/// Sets three of the sets, each with `also` as far as this process has it: what it still needs for a moment.
pub(crate) fn apply(sets: &CapabilitySets, also: CapabilitySet) -> Result<()> {
    let mut now = CapabilitySets { ..*sets };
    if !also.is_empty() {
        let also = also & thread::capabilities(None).doing(|| "read capabilities")?.permitted;
        now.effective |= also;
        now.permitted |= also;
    }
    thread::set_capabilities(None, now).doing(|| "set capabilities")
}

/// Sets the ambient set to what `sets` has of `ambient`.
pub(crate) fn apply_ambient(sets: &CapabilitySets, ambient: u64) -> Result<()> {
    let ambient = ambient & (sets.permitted & sets.inheritable).bits();
    thread::clear_ambient_capability_set().doing(|| "clear ambient capabilities")?;
    for n in (0..64).filter(|n| ambient & (1_u64 << n) != 0) {
        thread::configure_capability_in_ambient_set(CapabilitySet::from_bits_retain(1 << n), true)
            .doing(|| format!("raise ambient capability {n}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let cases =
            [("CAP_CHOWN", Some(0)), ("sys_admin", Some(21)), ("CAP_CHECKPOINT_RESTORE", Some(40)), ("CAP_FLY", None)];
        for (name, want) in cases {
            assert_eq!(number(name), want, "{name}");
        }
    }

    #[test]
    fn the_enum_of_the_configuration_has_our_names() {
        let caps: LinuxCapabilities =
            serde_json::from_str(r#"{"bounding":["CAP_CHOWN","CAP_SYS_ADMIN"],"ambient":["CAP_KILL"]}"#).unwrap();
        let want = Sets { bounding: 1 | 1 << 21, ambient: 1 << 5, ..Sets::default() };
        let got = Sets::new(&caps);
        assert_eq!((got.bounding, got.ambient), (want.bounding, want.ambient));
    }

    #[test]
    fn adding_makes_nothing_inheritable() {
        let mut sets = Sets { bounding: 1, inheritable: 0b010, ..Sets::default() };
        sets.add(0b1110, 0b0111);
        assert_eq!((sets.bounding, sets.effective, sets.permitted), (0b111, 0b110, 0b110));
        assert_eq!((sets.inheritable, sets.ambient), (0b010, 0b010));
    }

    #[test]
    fn ambient_needs_the_others() {
        let sets = Sets { permitted: 0b011, inheritable: 0b110, ambient: 0b111, ..Sets::default() };
        assert_eq!(sets.vain().collect::<Vec<_>>(), ["CAP_CHOWN", "CAP_DAC_READ_SEARCH"]);
    }
}
