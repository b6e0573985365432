//! The options of mounts, and what each one changes: mount(8), config.md "Linux mount options".

use hoy_sys::mount::{MountAttr, attr, propagation};

use crate::mount::plan::{Kind, MountPlan};

const SET: bool = true;
const CLEAR: bool = false;

/// The options that are attributes of a mount: `r` before one makes it recursive.
pub(crate) const ATTRIBUTES: &[(&str, bool, u64)] = &[
    ("ro", SET, attr::RDONLY),
    ("rw", CLEAR, attr::RDONLY),
    ("nosuid", SET, attr::NOSUID),
    ("suid", CLEAR, attr::NOSUID),
    ("nodev", SET, attr::NODEV),
    ("dev", CLEAR, attr::NODEV),
    ("noexec", SET, attr::NOEXEC),
    ("exec", CLEAR, attr::NOEXEC),
    ("noatime", SET, attr::NOATIME),
    ("strictatime", SET, attr::STRICTATIME),
    ("relatime", CLEAR, attr::ATIME),
    ("atime", CLEAR, attr::ATIME),
    ("norelatime", CLEAR, attr::ATIME),
    ("nostrictatime", CLEAR, attr::ATIME),
    ("nodiratime", SET, attr::NODIRATIME),
    ("diratime", CLEAR, attr::NODIRATIME),
    ("nosymfollow", SET, attr::NOSYMFOLLOW),
    ("symfollow", CLEAR, attr::NOSYMFOLLOW),
];

const PROPAGATIONS: &[(&str, u64)] = &[
    ("private", propagation::PRIVATE),
    ("shared", propagation::SHARED),
    ("slave", propagation::SLAVE),
    ("unbindable", propagation::UNBINDABLE),
];

/// The options that a superblock is given by a flag of its own name.
const SUPERBLOCK: &[&str] = &["sync", "async", "dirsync", "mand", "nomand", "lazytime", "nolazytime"];

/// The options of which only some file systems know, as the others always or never do it.
pub(crate) const SOMETIMES: &[&str] = &["iversion", "noiversion"];

/// The options that say what is so without them, or how the kernel's log is written.
const DEFAULTS: &[&str] = &["defaults", "silent", "loud"];

/// The options that say what kind of mount it is.
const KINDS: &[&str] = &["bind", "rbind", "remount", "idmap", "ridmap", "src-nofollow", "copy-symlink"];

/// Every option this runtime knows, for `features`.
pub(crate) fn known_options() -> Vec<String> {
    let plain = ATTRIBUTES.iter().map(|(name, ..)| *name).chain(PROPAGATIONS.iter().map(|(name, _)| *name));
    let both = plain.flat_map(|name| [name.to_owned(), format!("r{name}")]);
    let special = ["tmpcopyup", "dest-nofollow"];
    let others = SUPERBLOCK.iter().chain(SOMETIMES).chain(DEFAULTS).chain(KINDS).chain(&special);
    let others = others.map(|option| (*option).to_owned());
    let mut all: Vec<String> = both.chain(others).collect();
    all.sort();
    all.dedup();
    all
}

impl MountPlan {
    /// Changes the plan as `option` says.
    pub(crate) fn option(&mut self, option: &str) {
        if DEFAULTS.contains(&option) || KINDS.contains(&option) {
        } else if SUPERBLOCK.contains(&option) || SOMETIMES.contains(&option) {
            // What the caller's file system does is its own affair: a bind leaves it.
            if !matches!(self.kind, Kind::Bind { .. } | Kind::Remount { is_bind: true }) {
                self.data.push((option.to_owned(), None));
            }
        } else if option == "tmpcopyup" {
            self.copy_up = true;
        } else if option == "dest-nofollow" {
            self.is_on_link = true;
        } else if let Some((_, set, bits)) = ATTRIBUTES.iter().find(|(name, ..)| *name == option) {
            change(&mut self.attr, *set, *bits);
        } else if let Some(&(_, kind)) = PROPAGATIONS.iter().find(|(name, _)| *name == option) {
            self.propagation.push((kind, false));
        } else if option.strip_prefix('r').is_some_and(|rest| self.recursive_option(rest)) {
        } else if let Some((key, value)) = option.split_once('=') {
            self.data.push((key.to_owned(), Some(value.to_owned())));
        } else {
            self.data.push((option.to_owned(), None));
        }
    }

    /// Applies what follows the `r` of an option; `false` when the option is something else.
    fn recursive_option(&mut self, rest: &str) -> bool {
        if let Some((_, set, bits)) = ATTRIBUTES.iter().find(|(name, ..)| *name == rest) {
            change(&mut self.recursive, *set, *bits);
        } else if let Some(&(_, kind)) = PROPAGATIONS.iter().find(|(name, _)| *name == rest) {
            self.propagation.push((kind, true));
        } else {
            return false;
        }
        true
    }
}

/// The last of two contradicting options counts. To set an access-time mode, the kernel wants all its bits cleared.
pub(crate) fn change(attr_of: &mut MountAttr, set: bool, bits: u64) {
    let bits_cleared = if bits & attr::ATIME != 0 { attr::ATIME } else { bits };
    attr_of.set &= !bits_cleared;
    attr_of.clear &= !bits_cleared;
    if set {
        attr_of.set |= bits;
        attr_of.clear |= bits_cleared & attr::ATIME;
    } else {
        attr_of.clear |= bits_cleared;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mount::plan::tests::planned;

    #[test]
    fn options_become_attributes() {
        let cases: &[(&str, MountAttr, MountAttr)] = &[
            ("[]", MountAttr::default(), MountAttr::default()),
            (r#"["ro","rw"]"#, MountAttr { clear: 1, ..MountAttr::default() }, MountAttr::default()),
            (r#"["rw","ro","nosuid"]"#, MountAttr { set: 3, ..MountAttr::default() }, MountAttr::default()),
            (r#"["rro","rnoexec"]"#, MountAttr::default(), MountAttr { set: 9, ..MountAttr::default() }),
            (r#"["noatime"]"#, MountAttr { set: 0x10, clear: 0x70, propagation: 0 }, MountAttr::default()),
            (r#"["noatime","relatime"]"#, MountAttr { clear: 0x70, ..MountAttr::default() }, MountAttr::default()),
            (
                r#"["nodev","dev","nosymfollow"]"#,
                MountAttr { set: 0x20_0000, clear: 4, propagation: 0 },
                MountAttr::default(),
            ),
        ];
        for (options, own, recursive) in cases {
            let plan = planned(&format!(r#"{{"destination":"/t","type":"tmpfs","options":{options}}}"#)).unwrap();
            assert_eq!((plan.attr, plan.recursive, plan.data), (*own, *recursive, vec![]), "{options}");
        }
    }

    #[test]
    fn the_rest_goes_to_the_file_system() {
        let plan =
            planned(r#"{"destination":"/t","type":"tmpfs","options":["size=1k","rslave","tmpcopyup","noswap"]}"#);
        let plan = plan.unwrap();
        let size = ("size".to_owned(), Some("1k".to_owned()));
        assert_eq!(plan.data, [size, ("noswap".to_owned(), None)]);
        assert_eq!(plan.propagation, [(propagation::SLAVE, true)]);
        assert!(plan.copy_up);
    }
}
