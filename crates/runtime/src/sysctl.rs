//! Kernel parameters of the container's own namespaces: `linux.sysctl` (sysctl(8)).

use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;

use oci_spec::runtime::LinuxNamespaceType as Kind;

use crate::config::Config;
use crate::error::Doing;
use crate::{Error, Result, procfs};

/// The parameters of an IPC namespace besides those of message queues: ipc_namespaces(7).
const IPC: [&str; 8] = ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];

/// Sets every parameter of the configuration, in this process's namespaces.
pub(crate) fn set_all(config: &Config, proc: BorrowedFd<'_>) -> Result<()> {
    for (name, value) in config.linux().sysctl().iter().flatten() {
        procfs::write(proc, &format!("sys/{}", path(name)), value)
            .doing(|| format!("set sysctl \"{name}\" to \"{value}\""))?;
    }
    Ok(())
}

/// Where the parameter is below /proc/sys. The first separator decides: after a dot a slash is part of a name and means
/// one, after a slash a dot is, `net.ipv4.conf.eth0/1.forwarding` and `net/ipv4/conf/eth0.1/forwarding` being the same.
fn path(name: &str) -> String {
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    let is_dotted = name.find(['.', '/']).is_some_and(|at| name.get(at..).is_some_and(|rest| rest.starts_with('.')));
    if is_dotted { name.chars().map(swap).collect() } else { name.to_owned() }
}

/// Checks that every parameter is one of a namespace the container has: others are the host's.
///
/// # Errors
/// [`Error::Invalid`] naming the parameter.
pub(crate) fn check(config: &Config) -> Result<()> {
    for name in config.linux().sysctl().iter().flat_map(|all| all.keys()) {
        let path = path(name);
        let Some(kind) = namespace(&path) else {
            return Err(Error::Invalid(format!("sysctl \"{name}\" is not in a separate namespace: it is the host's")));
        };
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(Error::Invalid(format!("sysctl \"{name}\" is no name of a parameter")));
        }
        if path == "kernel/hostname" && config.spec.hostname().is_some() {
            return Err(Error::Invalid(format!("sysctl \"{name}\" and the field \"hostname\" say the same")));
        }
        if config.namespace(kind).is_none() || is_own(config, kind) {
            return Err(Error::Invalid(format!("sysctl \"{name}\" needs a {kind} namespace: it would be the host's")));
        }
    }
    Ok(())
}

fn namespace(path: &str) -> Option<Kind> {
    let (first, rest) = path.split_once('/')?;
    match (first, rest) {
        ("net", _) => Some(Kind::Network),
        ("user", _) => Some(Kind::User),
        ("fs", rest) if rest.starts_with("mqueue/") => Some(Kind::Ipc),
        ("kernel", "hostname" | "domainname") => Some(Kind::Uts),
        ("kernel", rest) if IPC.contains(&rest) => Some(Kind::Ipc),
        _ => None,
    }
}

/// Whether the namespace that the container joins is the caller's own.
fn is_own(config: &Config, kind: Kind) -> bool {
    let file = match kind {
        Kind::Network => "net",
        Kind::Ipc => "ipc",
        Kind::Uts => "uts",
        _ => "user",
    };
    let id = |path: &std::path::Path| std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    let joined = config.namespace(kind).and_then(|namespace| namespace.path().as_deref()).and_then(id);
    joined.is_some() && joined == id(format!("/proc/self/ns/{file}").as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(sysctl: &str, namespaces: &str) -> bool {
        let json = format!(
            r#"{{"ociVersion":"1.2.0","root":{{"path":"r"}},"linux":{{"sysctl":{{"{sysctl}":"1"}},
            "namespaces":[{{"type":"mount"}}{namespaces}]}}}}"#
        );
        check(&Config::parse(json.into_bytes()).unwrap()).is_ok()
    }

    #[test]
    fn those_of_the_host_are_refused() {
        let network = r#",{"type":"network"}"#;
        let own = r#",{"type":"network","path":"/proc/self/ns/net"}"#;
        let ipc = r#",{"type":"ipc"}"#;
        let cases = [
            ("net.ipv4.ip_forward", network, true),
            ("net/ipv4/ip_forward", network, true),
            ("net.ipv4.ip_forward", "", false),
            ("net.ipv4.ip_forward", own, false),
            ("net/ipv4/../../kernel/core_pattern", network, false),
            ("net..x", network, false),
            ("net", network, false),
            ("kernel.shmmax", ipc, true),
            ("fs.mqueue.msg_max", ipc, true),
            ("kernel.core_pattern", ipc, false),
            ("vm.swappiness", network, false),
        ];
        for (name, namespaces, want) in cases {
            assert_eq!(checked(name, namespaces), want, "{name} {namespaces}");
        }
    }

    #[test]
    fn both_separators() {
        let cases = [
            ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
            ("net/ipv4/conf/eth0.1/forwarding", "net/ipv4/conf/eth0.1/forwarding"),
            ("net.ipv4.conf.eth0/1.forwarding", "net/ipv4/conf/eth0.1/forwarding"),
        ];
        for (name, want) in cases {
            assert_eq!(path(name), want, "{name}");
        }
    }
}
