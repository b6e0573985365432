//! The filter of system calls: the default one, a caller's file, and chown on paper.

use std::path::Path;

use serde::Deserialize;

use crate::syscalls::{ALLOWED, CHOWN, OF_PROCESSOR, REFUSED, WITH_CAPABILITY};
use crate::{Error, Host, Result, Seccomp, SyscallArg, SyscallRule};

const EPERM: u32 = 1;
const EINVAL: u32 = 22;
const ENOSYS: u32 = 38;

/// Socket families, linux/socket.h: reaching the kernel's key handling, the audit log, other virtual machines.
const AF_NETLINK: u64 = 16;
const AF_ALG: u64 = 38;
const AF_VSOCK: u64 = 40;
/// One more than the last family known.
const AF_MAX: u64 = 46;
const NETLINK_AUDIT: u64 = 9;

/// The personalities that change nothing for security: personality(2); the last one asks for the present one.
const PERSONALITIES: [u64; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The default profile for a process whose bounding set is `capabilities`.
pub(crate) fn default_profile(capabilities: &[String], host: &Host) -> Seccomp {
    let has = |any: &[&str]| any.iter().any(|name| capabilities.iter().any(|own| own == name));
    let mut allowed: Vec<&str> = ALLOWED.iter().flat_map(|group| group.split_whitespace()).collect();
    let mut refused: Vec<&str> = REFUSED.split_whitespace().collect();
    for (any, calls) in WITH_CAPABILITY {
        if has(any) { &mut allowed } else { &mut refused }.extend(calls.split_whitespace());
    }
    let own = OF_PROCESSOR.iter().filter(|(processors, _)| processors.contains(&host.architecture));
    allowed.extend(own.flat_map(|(_, calls)| calls.split_whitespace()));
    allowed.sort_unstable();
    refused.sort_unstable();
    let mut syscalls = vec![rule(&refused, Some(EPERM), vec![]), rule(&allowed, None, vec![])];
    syscalls.extend(PERSONALITIES.map(|value| rule(&["personality"], None, vec![equal(0, value)])));
    syscalls.extend(socket_rules(has(&["CAP_AUDIT_WRITE"])));
    Seccomp {
        default_action: "SCMP_ACT_ERRNO".to_owned(),
        default_errno_ret: Some(ENOSYS),
        architectures: architectures(host.architecture),
        flags: Vec::new(),
        listener_path: None,
        syscalls,
    }
}

/// Which families of sockets can be made.
///
/// Each is named by equality of all 64 bits: the kernel looks at the lower 32 alone, so a comparison for inequality or
/// order could be passed with bits above them.
fn socket_rules(may_audit: bool) -> Vec<SyscallRule> {
    let socket = |errno, args| rule(&["socket"], errno, args);
    let mut rules: Vec<SyscallRule> = (0..AF_MAX)
        .filter(|family| ![AF_ALG, AF_VSOCK].contains(family) && (may_audit || *family != AF_NETLINK))
        .map(|family| socket(None, vec![equal(0, family)]))
        .collect();
    // AF_ALG and AF_VSOCK fall to the default action: libseccomp refuses two actions for one argument of socket on x86.
    if !may_audit {
        // EINVAL and not EPERM, so that programs take audit for not compiled in.
        rules.push(socket(Some(EINVAL), vec![equal(0, AF_NETLINK), equal(2, NETLINK_AUDIT)]));
        let other = SyscallArg { op: "SCMP_CMP_NE".to_owned(), ..equal(2, NETLINK_AUDIT) };
        rules.push(socket(None, vec![equal(0, AF_NETLINK), other]));
    }
    rules
}

fn equal(index: u32, value: u64) -> SyscallArg {
    SyscallArg { index, value, value_two: None, op: "SCMP_CMP_EQ".to_owned() }
}

fn rule(names: &[&str], errno: Option<u32>, args: Vec<SyscallArg>) -> SyscallRule {
    let action = if errno.is_some() { "SCMP_ACT_ERRNO" } else { "SCMP_ACT_ALLOW" };
    let names = names.iter().map(|&name| name.to_owned()).collect();
    SyscallRule { names, action: action.to_owned(), errno_ret: errno, args }
}

/// A processor with those whose programs it runs too.
fn architectures(processor: &str) -> Vec<String> {
    let names: &[&str] = match processor {
        "x86_64" => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "x86" => &["SCMP_ARCH_X86"],
        "aarch64" => &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        "arm" => &["SCMP_ARCH_ARM"],
        "powerpc64" => &["SCMP_ARCH_PPC64LE"],
        "s390x" => &["SCMP_ARCH_S390X", "SCMP_ARCH_S390"],
        "riscv64" => &["SCMP_ARCH_RISCV64"],
        _ => &[],
    };
    names.iter().map(|&name| name.to_owned()).collect()
}

/// Makes every call that changes a file's owner return success without being made, for a user namespace of one id.
pub(crate) fn chown_on_paper(profile: Option<Seccomp>, host: &Host) -> Seccomp {
    let calls: Vec<&str> = CHOWN.split_whitespace().collect();
    let mut profile = profile.unwrap_or_else(|| Seccomp {
        default_action: "SCMP_ACT_ALLOW".to_owned(),
        architectures: architectures(host.architecture),
        ..Seccomp::default()
    });
    for rule in &mut profile.syscalls {
        rule.names.retain(|name| !calls.contains(&name.as_str()));
    }
    profile.syscalls.retain(|rule| !rule.names.is_empty());
    profile.syscalls.push(rule(&calls, Some(0), vec![]));
    profile
}

/// A profile in the form of Docker and podman, of which the runtime's own is a part.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Vec<String>,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    syscalls: Vec<ProfileRule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProfileRule {
    name: Option<String>,
    #[serde(default)]
    names: Vec<String>,
    action: String,
    errno_ret: Option<u32>,
    args: Option<Vec<SyscallArg>>,
    #[serde(default)]
    includes: Condition,
    #[serde(default)]
    excludes: Condition,
}

#[derive(Default, Deserialize)]
struct Condition {
    #[serde(default)]
    caps: Vec<String>,
    #[serde(default)]
    arches: Vec<String>,
}

/// Reads a profile from a file, for a process whose bounding set is `capabilities`.
pub(crate) fn read_profile(path: &Path, capabilities: &[String], host: &Host) -> Result<Seccomp> {
    let bytes = std::fs::read(path).map_err(Error::read(path))?;
    let json = |source| Error::Json { path: path.to_owned(), source };
    let profile: Profile = serde_json::from_slice(&bytes).map_err(json)?;
    let go = match host.architecture {
        "x86_64" => "amd64",
        "x86" => "x86",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    };
    let mut syscalls = Vec::new();
    for rule in profile.syscalls {
        let ProfileRule { name, mut names, action, errno_ret, args, includes, excludes } = rule;
        let cap = |condition: &Condition| condition.caps.iter().filter(|cap| capabilities.contains(cap)).count();
        let arch = |condition: &Condition| condition.arches.iter().any(|arch| arch == go);
        let included = (includes.caps.is_empty() || cap(&includes) == includes.caps.len())
            && (includes.arches.is_empty() || arch(&includes));
        names.extend(name);
        if included && cap(&excludes) == 0 && !arch(&excludes) && !names.is_empty() {
            // A second operand of 0 is how profiles write none.
            let clean = |arg: SyscallArg| match arg.op.as_str() {
                "SCMP_CMP_MASKED_EQ" => arg,
                _ => SyscallArg { value_two: None, ..arg },
            };
            let args = args.unwrap_or_default().into_iter().map(clean).collect();
            syscalls.push(SyscallRule { names, action, errno_ret, args });
        }
    }
    let own = if profile.architectures.is_empty() { architectures(host.architecture) } else { profile.architectures };
    let Profile { default_action, default_errno_ret, flags, .. } = profile;
    Ok(Seccomp { default_action, default_errno_ret, architectures: own, flags, listener_path: None, syscalls })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::tests::host;

    /// Names that are allowed whatever their arguments.
    fn allowed(profile: &Seccomp) -> BTreeSet<&str> {
        let plain = profile.syscalls.iter().filter(|r| r.action == "SCMP_ACT_ALLOW" && r.args.is_empty());
        plain.flat_map(|rule| rule.names.iter().map(String::as_str)).collect()
    }

    #[test]
    fn no_call_is_ruled_twice() {
        let profile = default_profile(&[], &host());
        let mut seen = BTreeSet::new();
        for rule in &profile.syscalls {
            for name in &rule.names {
                assert!(seen.insert((name, rule.args.iter().map(|a| (a.index, a.value, &a.op)).collect::<Vec<_>>())));
            }
        }
        let plain = |action: &str| {
            let rules = profile.syscalls.iter().filter(|r| r.action == action && r.args.is_empty());
            rules.flat_map(|r| r.names.clone()).collect::<BTreeSet<_>>()
        };
        assert!(plain("SCMP_ACT_ALLOW").is_disjoint(&plain("SCMP_ACT_ERRNO")));
        assert!(!allowed(&profile).contains("socket") && !allowed(&profile).contains("socketcall"));
    }

    #[test]
    fn as_podman_per_capability() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/seccomp-containers-common.json");
        if !path.exists() {
            eprintln!("skipped: podman's profile is not here to compare with");
            return;
        }
        let every = WITH_CAPABILITY.iter().flat_map(|(caps, _)| caps.iter().map(|&cap| vec![cap.to_owned()]));
        for capabilities in every.chain([vec![]]) {
            let theirs = read_profile(&path, &capabilities, &host()).unwrap();
            let ours = default_profile(&capabilities, &host());
            let (theirs, ours) = (allowed(&theirs), allowed(&ours));
            let difference: Vec<_> = theirs.symmetric_difference(&ours).copied().collect();
            assert_eq!(difference, ["socketcall"], "{capabilities:?}");
        }
    }

    #[test]
    fn sockets() {
        let verdict = |may_audit: bool, family: u64, protocol: u64| {
            let matches = |arg: &SyscallArg| {
                let value = if arg.index == 0 { family } else { protocol };
                if arg.op == "SCMP_CMP_EQ" { value == arg.value } else { value != arg.value }
            };
            let rules = socket_rules(may_audit);
            let mut hits = rules.iter().filter(|rule| rule.args.iter().all(matches));
            let first = hits.next().map(|rule| rule.errno_ret);
            assert!(hits.next().is_none());
            first
        };
        assert_eq!(verdict(false, 2, 0), Some(None));
        assert_eq!(verdict(false, 38, 0), None, "refused by default");
        assert_eq!(verdict(true, 40, 0), None);
        assert_eq!(verdict(false, 16, 9), Some(Some(EINVAL)));
        assert_eq!(verdict(false, 16, 0), Some(None));
        assert_eq!(verdict(true, 16, 9), Some(None));
        assert_eq!(verdict(false, (1 << 32) + 38, 0), None);
    }

    #[test]
    fn on_paper() {
        let profile = chown_on_paper(Some(default_profile(&[], &host())), &host());
        assert!(!allowed(&profile).contains("fchownat"));
        assert_eq!(profile.syscalls.last().unwrap().errno_ret, Some(0));
        assert_eq!(chown_on_paper(None, &host()).default_action, "SCMP_ACT_ALLOW");
    }
}
