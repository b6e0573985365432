//! What kind of machine a program is told it runs on: `linux.personality` (personality(2)).

use hoy_sys::sched;
use oci_spec::runtime::{LinuxPersonality, LinuxPersonalityDomain as Domain};

use crate::error::Doing;
use crate::{Error, Result};

/// The domain's number in linux/personality.h.
///
/// # Errors
/// [`Error::Invalid`] for flags, of which the specification has none.
fn number(personality: &LinuxPersonality) -> Result<u32> {
    if let Some(flag) = personality.flags().iter().flatten().next() {
        return Err(Error::Invalid(format!("linux.personality.flags: \"{flag}\" is not known, as no flag is")));
    }
    Ok(match personality.domain() {
        Domain::PerLinux => 0,
        Domain::PerLinux32 => 8,
    })
}

/// Checks that it can be meant.
pub(crate) fn check(personality: &LinuxPersonality) -> Result<()> {
    number(personality).map(drop)
}

/// Sets it for the programs that this process becomes or makes.
pub(crate) fn apply(personality: &LinuxPersonality) -> Result<()> {
    sched::personality(number(personality)?).doing(|| format!("set linux.personality to {}", personality.domain()))
}
