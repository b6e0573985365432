//! `linux.netDevices`: interfaces of the caller's that become the container's (config-linux.md "Network Devices").

mod netlink;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hoy_sys::process::{flags, setns};
use hoy_sys::rustix::io::Errno;
use oci_spec::runtime::LinuxNamespaceType;

use crate::config::Config;
use crate::device::open_host_path;
use crate::error::Doing;
use crate::namespace::Namespaces;
use crate::network::netlink::{Link, Socket};
use crate::{Error, Result};

/// The longest name of an interface: IFNAMSIZ without its NUL.
const LONGEST: usize = 15;

/// The interfaces to move: name here, name in the container.
pub(crate) fn plan(config: &Config) -> Result<BTreeMap<String, String>> {
    let devices = config.linux().net_devices().iter().flatten();
    let mut plan = BTreeMap::new();
    for (name, device) in devices {
        let new = device.name().as_deref().filter(|new| !new.is_empty()).unwrap_or(name);
        for name in [name.as_str(), new] {
            check_name(name)?;
        }
        plan.insert(name.clone(), new.to_owned());
    }
    if !plan.is_empty() && config.namespace(LinuxNamespaceType::Network).is_none() {
        return Err(Error::Invalid("linux.netDevices needs a network namespace".to_owned()));
    }
    Ok(plan)
}

/// What the kernel takes for a name: dev_valid_name().
fn check_name(name: &str) -> Result<()> {
    let refused = |c: char| c == '/' || c == ':' || c.is_whitespace() || c == '\0';
    if name.is_empty() || name.len() > LONGEST || matches!(name, "." | "..") || name.contains(refused) {
        return Err(Error::Invalid(format!("linux.netDevices has \"{name}\", which is no name of an interface")));
    }
    Ok(())
}

/// Moves the interfaces to the network namespace of process `pid`, or to the one that it is about to join.
pub(crate) fn move_all(config: &Config, namespaces: &Namespaces, pid: i32) -> Result<()> {
    let devices = plan(config)?;
    if devices.is_empty() {
        return Ok(());
    }
    let namespace = match namespaces.network() {
        Some(joined) => joined.try_clone_to_owned().doing(|| "duplicate a descriptor")?,
        None => open_host_path(format!("/proc/{pid}/ns/net").as_ref())?,
    };
    let here = Socket::new().doing(|| "open a netlink socket")?;
    let there = socket_in(namespace.as_fd()).doing(|| "open a netlink socket in the container's network namespace")?;
    devices.iter().try_for_each(|(name, new)| move_one(&here, &there, namespace.as_fd(), name, new))
}

/// A socket of another namespace; this process is back in its own afterwards.
fn socket_in(namespace: BorrowedFd<'_>) -> std::io::Result<Socket> {
    let own: OwnedFd = std::fs::File::open("/proc/self/ns/net")?.into();
    setns(namespace, flags::NEWNET)?;
    let socket = Socket::new();
    setns(own.as_fd(), flags::NEWNET)?;
    Ok(socket?)
}

fn move_one(here: &Socket, there: &Socket, namespace: BorrowedFd<'_>, name: &str, new: &str) -> Result<()> {
    let doing = || format!("move linux.netDevices \"{name}\" to the container as \"{new}\"");
    let find = |links: Vec<Link>, name: &str| links.into_iter().find(|link| link.name == name);
    let Some(link) = find(here.links().doing(doing)?, name) else {
        return Err(Error::Invalid(format!("linux.netDevices has \"{name}\": there is no such interface")));
    };
    let before = there.links().doing(doing)?;
    if before.iter().any(|link| link.name == new) {
        // The kernel would find out only after the move.
        return Err(Errno::EXIST).doing(doing);
    }
    // The kernel takes them away with the move.
    let addresses = here.lasting_addresses(link.index).doing(doing)?;
    here.move_link(link.index, namespace, new).doing(doing)?;
    // Its number may be another there, and so may its name, of which "%d" is a template.
    let after = there.links().doing(doing)?;
    let moved = after.into_iter().find(|link| !before.contains(link)).ok_or(Errno::NODEV).doing(doing)?;
    for address in &addresses {
        there.add_address(moved.index, address).doing(|| format!("give \"{new}\" its address"))?;
    }
    there.set_up(moved.index).doing(|| format!("bring \"{new}\" up"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let cases = [("eth0", true), ("e%d", true), ("", false), ("..", false), ("a/b", false), ("a b", false)];
        for (name, want) in cases.into_iter().chain([("0123456789abcdef", false), ("0123456789abcde", true)]) {
            assert_eq!(check_name(name).is_ok(), want, "{name:?}");
        }
    }
}
