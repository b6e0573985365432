//! What the options of a bind say of its attributes, and how they are given to it: mount(8), with the differences that
//! runc has. One attribute that is named clears those that are not; none leaves all as the source has them.

use std::io::{Error, ErrorKind, Result};
use std::os::fd::BorrowedFd;

use hoy_sys::mount::{MountAttr, attr, mount_setattr};
use hoy_sys::rustix::fs::fstatfs;
use hoy_sys::rustix::io::Errno;

use crate::mount::option::{ATTRIBUTES, change};

/// What a user namespace may not take from a mount of the namespace above it (mount_namespaces(7)).
const LOCKED: u64 = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
const TIMES: u64 = attr::ATIME | attr::NODIRATIME;
/// Undone, they leave how access times are kept as the source has it: only naming another way changes it.
const UNDO: [(&str, &str); 4] =
    [("atime", "noatime"), ("norelatime", "relatime"), ("nostrictatime", "strictatime"), ("diratime", "nodiratime")];

/// The attributes that a bind is to have.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BindAttributes {
    /// The change.
    pub(crate) attr: MountAttr,
    /// Those that an option says it is not to have.
    refused: u64,
    /// What the source has is locked: the container has a user namespace.
    locked: bool,
}

/// Decides from `options`.
pub(crate) fn plan(options: &[&str], locked: bool) -> BindAttributes {
    let mut named: Vec<&str> = Vec::new();
    let mut is_any = false;
    for option in options.iter().filter(|option| ATTRIBUTES.iter().any(|(name, ..)| name == *option)) {
        is_any = true;
        match UNDO.iter().find(|(name, _)| name == option) {
            Some((_, undone)) => named.retain(|option| option != undone),
            None => named.push(option),
        }
    }
    if !is_any {
        return BindAttributes::default();
    }
    let mut attr = MountAttr::default();
    for (_, set, bits) in named.iter().filter_map(|option| ATTRIBUTES.iter().find(|(name, ..)| name == option)) {
        change(&mut attr, *set, *bits);
    }
    let refused = attr.clear & LOCKED;
    let times = if (attr.set | attr.clear) & TIMES != 0 { TIMES } else { 0 };
    // The kernel wants all bits of the way cleared, the new one included.
    attr.clear = (LOCKED | attr::NOSYMFOLLOW | times) & !attr.set | times & attr::ATIME;
    BindAttributes { attr, refused, locked }
}

/// Gives them to the bind `tree`.
pub(crate) fn set(tree: BorrowedFd<'_>, plan: &BindAttributes) -> Result<()> {
    if plan.attr == MountAttr::default() {
        return Ok(());
    }
    if !plan.locked {
        match mount_setattr(tree, false, plan.attr, None) {
            Err(error) if error.errno == Errno::PERM => {}
            other => return Ok(other?),
        }
    }
    Ok(mount_setattr(tree, false, beside(plan, own(tree)?)?, None)?)
}

/// The attributes of a mount. The first ones have one value in statfs(2) and in mount_setattr(2).
fn own(tree: BorrowedFd<'_>) -> Result<u64> {
    const NOATIME: u64 = 1 << 10;
    const NODIRATIME: u64 = 1 << 11;
    const RELATIME: u64 = 1 << 12;
    let flags = u64::try_from(fstatfs(tree)?.f_flags).unwrap_or_default();
    let way = match flags & (NOATIME | RELATIME) {
        0 => attr::STRICTATIME,
        RELATIME => 0,
        _ => attr::NOATIME,
    };
    let of_directories = if flags & NODIRATIME == 0 { 0 } else { attr::NODIRATIME };
    Ok(flags & LOCKED | way | of_directories)
}

/// The change beside what the source `has` and keeps; an error where an option says that it is not to.
fn beside(plan: &BindAttributes, has: u64) -> Result<MountAttr> {
    let is_time_named = plan.attr.clear & attr::ATIME != 0;
    let contrary = if is_time_named && plan.attr.set & TIMES != has & TIMES { TIMES } else { plan.refused & has };
    if contrary != 0 {
        let names = ATTRIBUTES.iter().filter(|(_, set, bits)| *set && has & contrary & bits != 0);
        let names: Vec<&str> = names.map(|(name, ..)| *name).collect();
        let names = if names.is_empty() { "relatime".to_owned() } else { names.join(",") };
        let text = format!("a user namespace cannot take \"{names}\" from the source: operation not permitted");
        return Err(Error::new(ErrorKind::PermissionDenied, text));
    }
    Ok(MountAttr { set: plan.attr.set & !TIMES, clear: plan.attr.clear & !TIMES & !has, propagation: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_named_clears_the_others() {
        let (ro, nosuid, nodev, noexec, nosymfollow) = (1, 2, 4, 8, 0x20_0000);
        let all = ro | nosuid | nodev | noexec | nosymfollow;
        let cases: &[(&[&str], u64, u64)] = &[
            (&["bind", "rprivate", "rro"], 0, 0),
            (&["ro"], ro, all & !ro),
            (&["dev"], 0, all),
            (&["ro", "rw", "nosuid"], nosuid, all & !nosuid),
            (&["atime"], 0, all),
            (&["noatime", "atime"], 0, all),
            (&["noatime", "norelatime"], 0x10, all | 0xf0),
            (&["relatime"], 0, all | 0xf0),
            (&["nodiratime"], 0x80, all | 0x70),
            (&["nodiratime", "strictatime"], 0xa0, all | 0x70),
        ];
        for (options, set, clear) in cases {
            let want = MountAttr { set: *set, clear: *clear, propagation: 0 };
            assert_eq!(plan(options, false).attr, want, "{options:?}");
        }
    }

    #[test]
    fn what_is_locked_stays_unless_it_is_named() {
        let (relatime, noatime, strictatime, nodiratime) = (0, 0x10, 0x20, 0x80);
        let kept =
            |options: &[&str], has: u64| beside(&plan(options, true), has).ok().map(|attr| (attr.set, attr.clear));
        let rest = 0x20_0000;
        assert_eq!(kept(&["dev"], 1 | 8 | relatime), Some((0, 2 | 4 | rest)));
        assert_eq!(kept(&["ro", "exec"], 2 | 4 | noatime), Some((1, 8 | rest)));
        assert_eq!(kept(&["rw", "nosuid"], 1), None);
        assert_eq!(kept(&["exec"], 8), None);
        for (option, way) in [("relatime", relatime), ("noatime", noatime), ("strictatime", strictatime)] {
            for has in [relatime, noatime, strictatime, nodiratime, noatime | nodiratime] {
                assert_eq!(kept(&[option], has).is_some(), has == way, "{option} {has:#x}");
            }
        }
        assert_eq!(kept(&["nodiratime"], nodiratime).map(|(set, _)| set), Some(0));
        assert_eq!(kept(&["atime"], noatime).map(|(set, _)| set), Some(0));
    }
}
