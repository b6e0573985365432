//! Which devices a group may use: files of version 1 (kernel cgroup-v1/devices.rst), a program on version 2.

use std::fmt;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use crate::{Error, Result};

/// One rule; of several that match, the last counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) allow: bool,
    /// `a` for both, `b` or `c`.
    kind: char,
    major: Option<u32>,
    minor: Option<u32>,
    /// Bits of [`MKNOD`], [`READ`] and [`WRITE`].
    access: u8,
}

const MKNOD: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 4;
const ALL: u8 = MKNOD | READ | WRITE;

const fn character(major: Option<u32>, minor: Option<u32>, access: u8) -> Rule {
    Rule { allow: true, kind: 'c', major, minor, access }
}

/// What every container may use, whatever its rules say (runtime-spec config-linux.md "Default Devices"): null, zero,
/// full, random, urandom, tty, console, ptmx, the pseudo-terminals; and making any node, which gives no access.
const DEFAULT: [Rule; 11] = [
    character(None, None, MKNOD),
    Rule { allow: true, kind: 'b', major: None, minor: None, access: MKNOD },
    character(Some(1), Some(3), ALL),
    character(Some(1), Some(5), ALL),
    character(Some(1), Some(7), ALL),
    character(Some(1), Some(8), ALL),
    character(Some(1), Some(9), ALL),
    character(Some(5), Some(0), ALL),
    character(Some(5), Some(1), ALL),
    character(Some(5), Some(2), ALL),
    character(Some(136), None, ALL),
];

impl Rule {
    fn everything(allow: bool) -> Self {
        Self { allow, kind: 'a', major: None, minor: None, access: ALL }
    }

    fn new(rule: &LinuxDeviceCgroup) -> Self {
        let kind = match rule.typ() {
            Some(LinuxDeviceType::B) => 'b',
            Some(LinuxDeviceType::C | LinuxDeviceType::U) => 'c',
            _ => 'a',
        };
        let number = |n: Option<i64>| n.and_then(|n| u32::try_from(n).ok());
        let bit = |letter| match letter {
            'm' => MKNOD,
            'r' => READ,
            'w' => WRITE,
            // An access that nobody knows is denied with all others, and never given.
            _ => ALL,
        };
        let access = rule.access().as_deref().unwrap_or("rwm").chars().fold(0, |bits, letter| bits | bit(letter));
        Self { allow: rule.allow(), kind, major: number(rule.major()), minor: number(rule.minor()), access }
    }

    /// What `DeviceAllow=` takes for it; a kind of device goes by its name in /proc/devices. Nothing when it has none.
    pub(crate) fn for_systemd(&self, proc_devices: &str) -> Vec<(String, String)> {
        let letters: String = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')]
            .iter()
            .filter(|(bit, _)| self.access & bit != 0)
            .map(|(_, c)| c)
            .collect();
        let kinds: &[&str] = match self.kind {
            'b' => &["block"],
            'c' => &["char"],
            _ => &["block", "char"],
        };
        let name = |kind: &str| match (self.major, self.minor) {
            (Some(major), Some(minor)) => Some(format!("/dev/{kind}/{major}:{minor}")),
            (Some(major), None) => driver(proc_devices, kind, major).map(|name| format!("{kind}-{name}")),
            (None, _) => Some(format!("{kind}-*")),
        };
        kinds.iter().filter_map(|kind| Some((name(kind)?, letters.clone()))).collect()
    }

    /// Whether every device of `other` is one of its own.
    fn covers(&self, other: &Self) -> bool {
        let number = |own: Option<u32>, other: Option<u32>| own.is_none() || own == other;
        self.kind == other.kind && number(self.major, other.major) && number(self.minor, other.minor)
    }

    /// Whether there is a device and an access that both are about.
    fn meets(&self, other: &Self) -> bool {
        let number = |own: Option<u32>, other: Option<u32>| own.is_none() || other.is_none() || own == other;
        let same = self.kind == other.kind && number(self.major, other.major) && number(self.minor, other.minor);
        same && self.access & other.access != 0
    }

    fn is_everything(&self) -> bool {
        *self == Self::everything(self.allow)
    }
}

/// The name that /proc/devices gives the devices of a kind with this major number.
fn driver(proc_devices: &str, kind: &str, major: u32) -> Option<String> {
    let heading = if kind == "block" { "Block devices:" } else { "Character devices:" };
    let lines = proc_devices.lines().skip_while(|line| *line != heading).skip(1).take_while(|line| !line.is_empty());
    let mut fields = lines.filter_map(|line| line.trim().split_once(' '));
    fields.find(|(number, _)| number.parse() == Ok(major)).map(|(_, name)| name.to_owned())
}

/// As devices.allow and devices.deny take it.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_everything() {
            return f.write_str("a");
        }
        let number = |n: Option<u32>| n.map_or("*".to_owned(), |n| n.to_string());
        write!(f, "{} {}:{} ", self.kind, number(self.major), number(self.minor))?;
        let letters = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')];
        letters.iter().filter(|(bit, _)| self.access & bit != 0).try_for_each(|(_, letter)| write!(f, "{letter}"))
    }
}

/// Checks that every rule says what it means: a number out of range would be any number.
///
/// # Errors
/// [`Error::Unavailable`] naming what is no number and no access.
pub(crate) fn check(rules: &[LinuxDeviceCgroup]) -> Result<()> {
    let unavailable = |reason: String| Error::Unavailable { controller: "devices".to_owned(), reason };
    for rule in rules {
        let is_wrong = |n: &i64| *n != -1 && u32::try_from(*n).is_err();
        if let Some(number) = rule.major().into_iter().chain(rule.minor()).find(is_wrong) {
            return Err(unavailable(format!("{number} is no device number")));
        }
        let access = rule.access().as_deref().unwrap_or("rwm");
        if access.is_empty() || rule.allow() && access.chars().any(|letter| !"rwm".contains(letter)) {
            return Err(unavailable(format!("access \"{access}\" is not made of \"r\", \"w\" and \"m\"")));
        }
    }
    Ok(())
}

/// The rules in order. Nothing is allowed that no rule allows.
pub(crate) fn plan(rules: &[LinuxDeviceCgroup]) -> Vec<Rule> {
    let mut out = vec![Rule::everything(false)];
    for rule in rules.iter().map(Rule::new) {
        if rule.is_everything() {
            // Such a rule overrides all before it.
            out.clear();
        }
        out.push(rule);
    }
    if out.first().is_some_and(|first| !first.allow) {
        out.extend(DEFAULT);
    }
    out
}

/// The rules as files of version 1 take them: everything allowed or denied, then exceptions.
///
/// # Errors
/// [`Error::Unavailable`] for an exception from an exception, of which the kernel takes no notice.
pub(crate) fn plan_v1(rules: &[Rule]) -> Result<Vec<Rule>> {
    let base = rules.first().is_some_and(|first| first.allow);
    let mut exceptions: Vec<Rule> = Vec::new();
    for rule in rules.iter().skip(1) {
        // The kernel takes the kind "a" for everything, whatever follows it.
        let kinds: &[char] = if rule.kind == 'a' { &['b', 'c'] } else { &[rule.kind] };
        for rule in kinds.iter().map(|kind| Rule { kind: *kind, ..*rule }) {
            if rule.allow != base {
                exceptions.push(rule);
                continue;
            }
            for exception in exceptions.iter_mut().filter(|exception| exception.meets(&rule)) {
                if !rule.covers(exception) {
                    let (now, then) = if base { ("allow", "denied") } else { ("deny", "allowed") };
                    let reason =
                        format!("version 1 cannot {now} \"{rule}\" of \"{exception}\", which is {then} before");
                    return Err(Error::Unavailable { controller: "devices".to_owned(), reason });
                }
                exception.access &= !rule.access;
            }
            exceptions.retain(|exception| exception.access != 0);
        }
    }
    Ok(std::iter::once(Rule::everything(base)).chain(exceptions).collect())
}

/// The rules as an eBPF program (linux/bpf.h, `struct bpf_cgroup_dev_ctx`): 1 allows, 0 denies.
pub(crate) fn program(rules: &[Rule]) -> Vec<u64> {
    const LOAD: u8 = 0x61;
    const MOVE: u8 = 0xbf;
    const MOVE_NUMBER: u8 = 0xb7;
    const AND: u8 = 0x54;
    const SHIFT_RIGHT: u8 = 0x74;
    const UNLESS_EQUAL: u8 = 0x55;
    const IF_EQUAL: u8 = 0x15;
    const EXIT: u8 = 0x95;
    // r2: the type, 1 block, 2 character; r3: the access asked for; r4 and r5: the number.
    let mut out = vec![
        instruction(LOAD, 2, 1, 0, 0),
        instruction(MOVE, 3, 2, 0, 0),
        instruction(AND, 2, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, 3, 0, 0, 16),
        instruction(LOAD, 4, 1, 4, 0),
        instruction(LOAD, 5, 1, 8, 0),
    ];
    // The last one that matches counts, so it is looked at first.
    for rule in rules.iter().rev() {
        let mut checks: Vec<(u8, u8, u32)> = Vec::new();
        match rule.kind {
            'b' => checks.push((UNLESS_EQUAL, 2, 1)),
            'c' => checks.push((UNLESS_EQUAL, 2, 2)),
            _ => {}
        }
        checks.extend(rule.major.map(|major| (UNLESS_EQUAL, 4, major)));
        checks.extend(rule.minor.map(|minor| (UNLESS_EQUAL, 5, minor)));
        // An allowance must cover all that is asked for; a denial of a part denies it.
        let (mask, jump) = if rule.allow { (ALL & !rule.access, UNLESS_EQUAL) } else { (rule.access, IF_EQUAL) };
        let masked = rule.access != ALL;
        let mut left = checks.len() + if masked { 3 } else { 0 } + 2;
        let mut to_next = |out: &mut Vec<u64>, code: u8, register: u8, number: u32| {
            left -= 1;
            // Few instructions: the distance always fits.
            let distance = if code == UNLESS_EQUAL || code == IF_EQUAL { i16::try_from(left).unwrap_or(0) } else { 0 };
            let source = if code == MOVE { 3 } else { 0 };
            out.push(instruction(code, register, source, distance, number));
        };
        for (code, register, number) in checks {
            to_next(&mut out, code, register, number);
        }
        if masked {
            to_next(&mut out, MOVE, 1, 0);
            to_next(&mut out, AND, 1, u32::from(mask));
            to_next(&mut out, jump, 1, 0);
        }
        out.push(instruction(MOVE_NUMBER, 0, 0, 0, rule.allow.into()));
        out.push(instruction(EXIT, 0, 0, 0, 0));
        if rule.is_everything() {
            // The kernel refuses instructions that cannot be reached.
            return out;
        }
    }
    out.push(instruction(MOVE_NUMBER, 0, 0, 0, 0));
    out.push(instruction(EXIT, 0, 0, 0, 0));
    out
}

/// `struct bpf_insn` in eight bytes.
fn instruction(code: u8, destination: u8, source: u8, offset: i16, number: u32) -> u64 {
    let registers = if cfg!(target_endian = "little") { source << 4 | destination } else { destination << 4 | source };
    let ([o1, o2], [n1, n2, n3, n4]) = (offset.to_ne_bytes(), number.to_ne_bytes());
    u64::from_ne_bytes([code, registers, o1, o2, n1, n2, n3, n4])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(json: &str) -> Vec<Rule> {
        plan(&serde_json::from_str::<Vec<LinuxDeviceCgroup>>(json).unwrap())
    }

    fn text(rules: &[Rule]) -> Vec<String> {
        rules.iter().map(|rule| format!("{} {rule}", if rule.allow { '+' } else { '-' })).collect()
    }

    #[test]
    fn a_number_out_of_range_is_not_any_number() {
        let cases = [
            (r#"{"allow":true,"type":"c","major":-1,"minor":4294967295,"access":"r"}"#, true),
            (r#"{"allow":true}"#, true),
            (r#"{"allow":true,"type":"c","major":-2,"access":"r"}"#, false),
            (r#"{"allow":true,"type":"c","major":1,"minor":4294967296}"#, false),
            (r#"{"allow":true,"type":"c","major":1,"access":"rx"}"#, false),
            (r#"{"allow":true,"type":"c","major":1,"access":""}"#, false),
            (r#"{"allow":false,"type":"c","major":1,"access":"rx"}"#, true),
        ];
        for (json, want) in cases {
            let rules = format!(r#"{{"devices":[{json}]}}"#);
            assert_eq!(crate::plan(&serde_json::from_str(&rules).unwrap(), false).is_ok(), want, "{json}");
        }
    }

    #[test]
    fn nothing_is_allowed_unless_a_rule_says_so() {
        let empty = planned("[]");
        assert_eq!(text(&empty).first().unwrap(), "- a");
        assert_eq!(text(&empty).last().unwrap(), "+ c 136:* rwm");
        assert_eq!(empty.len(), 1 + DEFAULT.len());
        let one = planned(r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"b","major":8,"access":"r"}]"#);
        assert_eq!(text(&one).get(..2).unwrap(), ["- a", "+ b 8:* r"]);
        assert_eq!(text(&planned(r#"[{"allow":false},{"allow":true}]"#)), ["+ a"]);
        let unknown = r#"[{"allow":true},{"allow":false,"type":"c","major":1,"minor":11,"access":"rwa"}]"#;
        assert_eq!(text(&planned(unknown)), ["+ a", "- c 1:11 rwm"]);
    }

    #[test]
    fn version_1_has_exceptions_from_one_rule() {
        let of = |json: &str| plan_v1(&planned(json)).map(|rules| text(&rules)).map_err(|error| error.to_string());
        let denied =
            of(r#"[{"allow":true,"type":"a","major":8,"access":"r"},{"allow":false,"type":"b","access":"r"}]"#);
        assert_eq!(denied.unwrap().get(..4).unwrap(), ["- a", "+ c 8:* r", "+ c *:* m", "+ b *:* m"]);
        let allowed =
            of(r#"[{"allow":true},{"allow":false,"type":"b","access":"w"},{"allow":true,"type":"b","access":"wm"}]"#);
        assert_eq!(allowed.unwrap(), ["+ a"]);
        let hole =
            of(r#"[{"allow":true,"type":"b","major":8,"access":"rw"},{"allow":false,"type":"b","major":8,"minor":1}]"#);
        let want = "set devices limit: version 1 cannot deny \"b 8:1 rwm\" of \"b 8:* rw\", which is allowed before";
        assert_eq!(hole.unwrap_err(), want);
    }

    /// Runs the program as the kernel would, on the instructions it uses.
    fn allows(program: &[u64], kind: u64, access: u64, major: u64, minor: u64) -> bool {
        let mut r = [0_u64; 6];
        let mut at = 0;
        loop {
            let bytes = program[at].to_le_bytes();
            let (code, to, from) = (bytes[0], usize::from(bytes[1] & 15), usize::from(bytes[1] >> 4));
            let offset = usize::from(u16::from_le_bytes([bytes[2], bytes[3]]));
            let number = u64::from(u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]));
            at += 1;
            match code {
                0x61 => r[to] = [access << 16 | kind, major, minor][offset / 4],
                0xbf => r[to] = r[from],
                0xb7 => r[to] = number,
                0x54 => r[to] &= number,
                0x74 => r[to] >>= number,
                0x55 if r[to] != number => at += offset,
                0x15 if r[to] == number => at += offset,
                0x55 | 0x15 => {}
                0x95 => return r[0] == 1,
                other => panic!("{other:#x}"),
            }
        }
    }

    #[test]
    fn the_program_says_what_the_rules_say() {
        let rules = planned(
            r#"[{"allow":false},{"allow":true,"type":"b","major":8,"minor":1,"access":"rm"},
            {"allow":true,"type":"c","major":10,"access":"rw"},{"allow":false,"type":"c","major":10,"minor":7,"access":"w"}]"#,
        );
        let program = program(&rules);
        let cases = [
            (1, READ, 8, 1, true),
            (1, READ | WRITE, 8, 1, false),
            (1, READ, 8, 2, false),
            (1, MKNOD, 8, 2, true),
            (2, READ | WRITE, 10, 3, true),
            (2, READ, 10, 7, true),
            (2, READ | WRITE, 10, 7, false),
            (2, READ | WRITE, 1, 3, true),
            (2, READ, 1, 1, false),
            (2, READ, 136, 99, true),
        ];
        for (kind, access, major, minor, want) in cases {
            assert_eq!(allows(&program, kind, access.into(), major, minor), want, "{kind} {access} {major}:{minor}");
        }
        let open = super::program(&planned(r#"[{"allow":true}]"#));
        assert!(allows(&open, 1, ALL.into(), 8, 0));
    }
}
