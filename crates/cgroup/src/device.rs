//! Which devices a group may use, on version 1 (kernel cgroup-v1/devices.rst).

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

/// What every container may use, whatever its rules say (runtime-spec config-linux.md "Default Devices"): null, zero,
/// full, random, urandom, tty, console, ptmx, the pseudo-terminals; and making any node, which gives no access.
const DEFAULT: &[&str] = &[
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:1 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
];

/// The writes, in order: `true` is devices.allow, `false` devices.deny. Nothing is allowed that no rule allows.
pub(crate) fn plan(rules: &[LinuxDeviceCgroup]) -> Vec<(bool, String)> {
    let everything = |rule: &LinuxDeviceCgroup| {
        matches!(rule.typ(), None | Some(LinuxDeviceType::A)) && rule.major().is_none() && rule.minor().is_none()
    };
    let mut out = vec![(false, "a".to_owned())];
    for rule in rules {
        if everything(rule) {
            // Such a rule overrides all before it.
            out.clear();
            out.push((rule.allow(), "a".to_owned()));
        } else {
            out.push((rule.allow(), line(rule)));
        }
    }
    if out.first().is_some_and(|(allow, _)| !allow) {
        out.extend(DEFAULT.iter().map(|line| (true, (*line).to_owned())));
    }
    out
}

fn line(rule: &LinuxDeviceCgroup) -> String {
    let kind = match rule.typ() {
        Some(LinuxDeviceType::B) => 'b',
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => 'c',
        _ => 'a',
    };
    let number = |n: Option<i64>| n.filter(|n| *n >= 0).map_or("*".to_owned(), |n| n.to_string());
    let access = rule.access().as_deref().unwrap_or("rwm");
    format!("{kind} {}:{} {access}", number(rule.major()), number(rule.minor()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(json: &str) -> Vec<(bool, String)> {
        plan(&serde_json::from_str::<Vec<LinuxDeviceCgroup>>(json).unwrap())
    }

    #[test]
    fn nothing_is_allowed_unless_a_rule_says_so() {
        let empty = planned("[]");
        assert_eq!(empty.first().unwrap(), &(false, "a".to_owned()));
        assert_eq!(empty.len(), 1 + DEFAULT.len());
        let one = planned(r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"b","major":8,"access":"r"}]"#);
        assert_eq!(one.get(..2).unwrap(), [(false, "a".to_owned()), (true, "b 8:* r".to_owned())]);
        assert_eq!(planned(r#"[{"allow":false},{"allow":true}]"#), [(true, "a".to_owned())]);
    }
}
