//! Who the container's process is: ids, groups, limits, priority (credentials(7), setrlimit(2)).

use std::io::Read;
use std::path::Path;

use hoy_sys::rustix::fs::{Mode, OFlags};
use hoy_sys::rustix::io::Errno;
use hoy_sys::rustix::process::{Gid, Resource, Rlimit, Uid, getrlimit, setrlimit};
use hoy_sys::rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use oci_spec::runtime::{PosixRlimit, PosixRlimitType, Process, User};

use crate::Result;
use crate::error::Doing;
use crate::mount::tree::Root;

/// Becomes user 0 of a user namespace, where it has one; where it has none the process stays who it is.
pub(crate) fn become_root() {
    let (uid, gid) = (Uid::ROOT, Gid::ROOT);
    // Each fails where 0 is not mapped, and setgroups also where one id alone is mapped.
    set_thread_groups(&[]).unwrap_or_default();
    set_thread_res_gid(gid, gid, gid).unwrap_or_default();
    set_thread_res_uid(uid, uid, uid).unwrap_or_default();
}

/// Becomes the user of the configuration. Capabilities are kept for the caller to set.
pub(crate) fn become_user(user: &User) -> Result<()> {
    let groups: Vec<Gid> = user.additional_gids().iter().flatten().map(|gid| Gid::from_raw(*gid)).collect();
    match set_thread_groups(&groups) {
        // A user namespace of one id cannot change groups; not having been asked to is no failure.
        Err(Errno::PERM) if groups.is_empty() => {}
        other => other.doing(|| "set supplementary groups")?,
    }
    let (uid, gid) = (Uid::from_raw(user.uid()), Gid::from_raw(user.gid()));
    set_thread_res_gid(gid, gid, gid).doing(|| format!("become group {}", user.gid()))?;
    set_thread_res_uid(uid, uid, uid).doing(|| format!("become user {}", user.uid()))
}

fn resource(kind: PosixRlimitType) -> Resource {
    match kind {
        PosixRlimitType::RlimitCpu => Resource::Cpu,
        PosixRlimitType::RlimitFsize => Resource::Fsize,
        PosixRlimitType::RlimitData => Resource::Data,
        PosixRlimitType::RlimitStack => Resource::Stack,
        PosixRlimitType::RlimitCore => Resource::Core,
        PosixRlimitType::RlimitRss => Resource::Rss,
        PosixRlimitType::RlimitNproc => Resource::Nproc,
        PosixRlimitType::RlimitNofile => Resource::Nofile,
        PosixRlimitType::RlimitMemlock => Resource::Memlock,
        PosixRlimitType::RlimitAs => Resource::As,
        PosixRlimitType::RlimitLocks => Resource::Locks,
        PosixRlimitType::RlimitSigpending => Resource::Sigpending,
        PosixRlimitType::RlimitMsgqueue => Resource::Msgqueue,
        PosixRlimitType::RlimitNice => Resource::Nice,
        PosixRlimitType::RlimitRtprio => Resource::Rtprio,
        PosixRlimitType::RlimitRttime => Resource::Rttime,
    }
}

/// Whether `process` may have so few files open that those of this program could be too many.
pub(crate) fn limits_files(process: &Process) -> bool {
    const FEW: u64 = 256;
    let limits = process.rlimits().as_deref().unwrap_or_default();
    limits.iter().any(|limit| limit.typ() == PosixRlimitType::RlimitNofile && limit.soft() < FEW)
}

/// Sets the limits; one that may not be raised so far is raised as far as allowed, and one warning says so.
pub(crate) fn set_limits(limits: &[PosixRlimit], warn: &mut dyn FnMut(&str)) -> Result<()> {
    let mut clamped_ones = Vec::new();
    for limit in limits {
        let kind = limit.typ();
        let resource = resource(kind);
        let unlimited = |n: u64| (n != u64::MAX).then_some(n);
        let wanted = Rlimit { current: unlimited(limit.soft()), maximum: unlimited(limit.hard()) };
        match setrlimit(resource, wanted) {
            Err(Errno::PERM) => {
                let (clamped, now) = clamp(&wanted, getrlimit(resource).maximum);
                setrlimit(resource, clamped).doing(|| format!("set {kind}"))?;
                clamped_ones.push(format!("{kind} may not be raised: it stays at {now}"));
            }
            other => other.doing(|| format!("set {kind} to {}:{}", limit.soft(), limit.hard()))?,
        }
    }
    if !clamped_ones.is_empty() {
        warn(&clamped_ones.join("; "));
    }
    Ok(())
}

/// `wanted` under the ceiling `hard`, and the ceiling in words.
fn clamp(wanted: &Rlimit, hard: Option<u64>) -> (Rlimit, String) {
    let Some(ceiling) = hard else { return (*wanted, "unlimited".to_owned()) };
    let under = |n: Option<u64>| Some(n.map_or(ceiling, |n| n.min(ceiling)));
    (Rlimit { current: under(wanted.current), maximum: under(wanted.maximum) }, ceiling.to_string())
}

/// The home directory of user `uid` by the container's own passwd file, of which no more than 1 MiB is read.
pub(crate) fn home(root: &Root<'_>, uid: u32) -> String {
    let open = || {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = hoy_sys::path::open_in_root(root.0, Path::new("/etc/passwd"), flags, Mode::empty()).ok()?;
        let stat = hoy_sys::rustix::fs::fstat(&fd).ok()?;
        hoy_sys::rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file().then_some(fd)
    };
    let mut text = Vec::new();
    let read = open().map(|fd| std::fs::File::from(fd).take(1 << 20).read_to_end(&mut text));
    let text = if matches!(read, Some(Ok(_))) { String::from_utf8_lossy(&text).into_owned() } else { String::new() };
    home_in(&text, uid).unwrap_or_else(|| "/".to_owned())
}

fn home_in(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':').skip(2);
        let is_user = fields.next()?.parse() == Ok(uid);
        let home = fields.nth(2)?;
        (is_user && !home.is_empty()).then(|| home.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes() {
        let passwd = "root:x:0:0:r:/root:/bin/sh\nbroken\n5:x:7:7::/seven:/bin/sh\nempty:x:8:8:::\n";
        for (uid, want) in [(0, Some("/root")), (5, None), (7, Some("/seven")), (8, None)] {
            assert_eq!(home_in(passwd, uid).as_deref(), want, "{uid}");
        }
    }

    #[test]
    fn limits_are_clamped() {
        let wanted = Rlimit { current: Some(10), maximum: None };
        let (limit, now) = clamp(&wanted, Some(5));
        assert_eq!((limit.current, limit.maximum, now.as_str()), (Some(5), Some(5), "5"));
        let (limit, _) = clamp(&Rlimit { current: Some(3), maximum: Some(9) }, Some(5));
        assert_eq!((limit.current, limit.maximum), (Some(3), Some(5)));
    }
}
