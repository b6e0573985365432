//! The mounts of a container, and what of `/proc` and `/sys` it does not see.

use std::path::Path;

use crate::{Error, Host, Linux, Mount, Options, Result, resources, volume};

/// Hidden from the container; podman's list, `/proc/asound`, `/proc/interrupts`, the power meters of
/// CVE-2020-8694 and the throttle counters added.
const MASKED: [&str; 14] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/dev/block",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
];

/// Read-only in the container.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Which namespaces are the host's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Shared {
    pub(crate) network: bool,
    pub(crate) pid: bool,
    pub(crate) ipc: bool,
    pub(crate) uts: bool,
    pub(crate) cgroup: bool,
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    let options = options.iter().map(|&option| option.to_owned()).collect();
    Mount { destination: destination.to_owned(), kind: kind.to_owned(), source: source.to_owned(), options }
}

/// What every container has.
fn standard(options: &Options, host: &Host, shared: Shared) -> Result<Vec<Mount>> {
    let write = if options.privileged { "rw" } else { "ro" };
    // A user namespace can mount proc and sysfs for its own PID and network namespaces alone.
    let proc = match shared.pid && !host.is_initial {
        true => mount("/proc", "bind", "/proc", &["rbind", "nosuid", "noexec", "nodev"]),
        false => mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
    };
    let sys = match shared.network && !host.is_initial {
        true => mount("/sys", "bind", "/sys", &["rbind", "rprivate", "nosuid", "noexec", "nodev", write]),
        false => mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", write]),
    };
    let mut pts =
        mount("/dev/pts", "devpts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]);
    // Group tty of every distribution, where the user namespace has it.
    if host.has_gid(5) {
        pts.options.push("gid=5".to_owned());
    }
    let dev = mount("/dev", "tmpfs", "tmpfs", &["nosuid", "noexec", "strictatime", "mode=755", "size=65536k"]);
    let cgroup_options = ["rprivate", "nosuid", "noexec", "nodev", "relatime", write];
    let mut mounts = vec![proc, dev, sys, pts, mount("/sys/fs/cgroup", "cgroup", "cgroup", &cgroup_options)];
    let bind = ["rbind", "rprivate", "nosuid", "noexec", "nodev"];
    if shared.ipc {
        mounts.push(mount("/dev/shm", "bind", "/dev/shm", &bind));
        if Path::new("/dev/mqueue").is_dir() {
            mounts.push(mount("/dev/mqueue", "bind", "/dev/mqueue", &bind));
        }
    } else {
        let size = match options.shm_size.as_ref().or(options.defaults.shm_size.as_ref()) {
            None => 65_536 * 1024,
            Some(text) => resources::bytes("--shm-size", text)?,
        };
        let size = format!("size={size}");
        mounts.push(mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", &size]));
        mounts.push(mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]));
    }
    if shared.ipc && options.shm_size.is_some() {
        let size = options.shm_size.clone().unwrap_or_default();
        return Err(Error::option("--shm-size", size, "/dev/shm is the host's with --ipc host"));
    }
    Ok(mounts)
}

/// All mounts in the order in which they are made: a parent before what is in it. The caller's replace the standard ones
/// of the same place, and two of the caller's for one place are an error.
pub(crate) fn plan(options: &Options, extra: &[Mount], host: &Host, shared: Shared) -> Result<Vec<Mount>> {
    let mut own: Vec<Mount> = Vec::new();
    let volumes = options.volume.iter().map(|text| volume::volume(text));
    let mounts = options.mount.iter().map(|text| volume::mount(text));
    let tmpfs = options.tmpfs.iter().map(|text| volume::tmpfs(text));
    for mount in volumes.chain(mounts).chain(tmpfs) {
        let mount = mount?;
        if own.iter().any(|other| other.destination == mount.destination) {
            return Err(Error::option("--volume", mount.destination, "two mounts would be at this place"));
        }
        own.push(mount);
    }
    let mut all = standard(options, host, shared)?;
    if options.read_only && options.read_only_tmpfs.unwrap_or(true) {
        for place in ["/run", "/tmp", "/var/tmp"] {
            all.push(volume::tmpfs_at("--read-only-tmpfs", place, place, std::iter::empty())?);
        }
    }
    let not_in = |mounts: &[Mount], mount: &Mount| mounts.iter().all(|other| other.destination != mount.destination);
    all.retain(|mount| not_in(extra, mount) && not_in(&own, mount));
    all.extend(extra.iter().filter(|mount| not_in(&own, mount)).cloned());
    all.extend(own);
    all.sort_by_key(|mount| mount.destination.matches('/').count());
    Ok(all)
}

/// Sets what is hidden and what is read-only.
pub(crate) fn hide(linux: &mut Linux, options: &Options, host: &Host) -> Result<()> {
    if options.privileged {
        return Ok(());
    }
    linux.masked_paths = MASKED.iter().map(|&path| path.to_owned()).chain(host.thermal.iter().cloned()).collect();
    linux.readonly_paths = READ_ONLY.iter().map(|&path| path.to_owned()).collect();
    for option in &options.security_opt {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        let paths = || value.split(':').map(|path| volume::destination("--security-opt", path));
        match key {
            "mask" => {
                for path in paths() {
                    linux.masked_paths.push(path?);
                }
            }
            "unmask" if value.eq_ignore_ascii_case("all") => {
                linux.masked_paths.clear();
                linux.readonly_paths.clear();
            }
            "unmask" => {
                for path in paths() {
                    let path = path?;
                    linux.masked_paths.retain(|known| *known != path);
                    linux.readonly_paths.retain(|known| *known != path);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::host;

    fn places(options: &Options) -> Vec<String> {
        let plan = plan(options, &[], &host(), Shared::default()).unwrap();
        plan.into_iter().map(|m| format!("{}:{}", m.kind, m.destination)).collect()
    }

    #[test]
    fn order_and_replacement() {
        let standard = [
            "proc:/proc",
            "tmpfs:/dev",
            "sysfs:/sys",
            "devpts:/dev/pts",
            "tmpfs:/dev/shm",
            "mqueue:/dev/mqueue",
            "cgroup:/sys/fs/cgroup",
        ];
        assert_eq!(places(&Options::default()), standard);
        let options = Options {
            tmpfs: vec!["/a/b/c".to_owned(), "/a".to_owned()],
            volume: vec!["/tmp:/dev/shm".to_owned()],
            read_only: true,
            ..Options::default()
        };
        assert_eq!(
            places(&options).join(" "),
            "proc:/proc tmpfs:/dev sysfs:/sys tmpfs:/run tmpfs:/tmp tmpfs:/a \
            devpts:/dev/pts mqueue:/dev/mqueue tmpfs:/var/tmp bind:/dev/shm cgroup:/sys/fs/cgroup tmpfs:/a/b/c"
        );
        let twice = Options { tmpfs: vec!["/a".to_owned(), "/a/".to_owned()], ..Options::default() };
        assert!(plan(&twice, &[], &host(), Shared::default()).is_err());
    }

    #[test]
    fn in_a_user_namespace() {
        let small = Host { is_initial: false, gids: vec![(0, 1)], ..host() };
        let shared = Shared { network: true, pid: true, ipc: false, ..Shared::default() };
        let plan = plan(&Options::default(), &[], &small, shared).unwrap();
        let at = |place: &str| plan.iter().find(|m| m.destination == place).unwrap();
        assert_eq!((at("/proc").kind.as_str(), at("/sys").kind.as_str()), ("bind", "bind"));
        assert!(!at("/dev/pts").options.contains(&"gid=5".to_owned()));
    }

    #[test]
    fn masks() {
        let hidden = |security: &[&str]| {
            let security_opt = security.iter().map(|&text| text.to_owned()).collect();
            let mut linux = Linux::default();
            hide(&mut linux, &Options { security_opt, ..Options::default() }, &host()).unwrap();
            linux
        };
        let all = hidden(&[]);
        for path in ["/proc/kcore", "/proc/interrupts", "/sys/devices/virtual/powercap", "/sys/cpu0/thermal_throttle"] {
            assert!(all.masked_paths.iter().any(|masked| masked == path), "{path}");
        }
        assert_eq!(hidden(&["unmask=ALL"]), Linux::default());
        assert_eq!(hidden(&["mask=/a:/b"]).masked_paths.len(), all.masked_paths.len() + 2);
        assert_eq!(hidden(&["unmask=/proc/kcore:/proc/sys"]).readonly_paths.len(), 4);
    }
}
