//! User namespaces and their id maps (user_namespaces(7), newuidmap(1)).

use std::fs;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::process::Command;

use hoy_sys::process::{clone3, exit_now, flags};
use hoy_sys::rustix::process::{self, Signal, geteuid};
use hoy_sys::rustix::thread::CapabilitySet;
use oci_spec::runtime::LinuxIdMapping;

use crate::channel;
use crate::error::Doing;
use crate::process::capability::is_effective;
use crate::trace::Trace;
use crate::{Error, Result};

/// The text of a map file.
fn text(maps: &[LinuxIdMapping]) -> String {
    maps.iter().map(|map| format!("{} {} {}\n", map.container_id(), map.host_id(), map.size())).collect()
}

/// Writes the maps of the user namespace that process `pid` is in.
///
/// An ordinary user may map his own id alone; for more the system's newuidmap and newgidmap, which know what he was
/// given in /etc/subuid and /etc/subgid, do it for him.
pub(crate) fn write_maps(pid: i32, uids: &[LinuxIdMapping], gids: &[LinuxIdMapping]) -> Result<()> {
    let is_own = |maps: &[LinuxIdMapping]| matches!(maps, [map] if map.size() == 1);
    let write = |name: &str, text: &str| {
        let path = format!("/proc/{pid}/{name}");
        fs::write(&path, text).doing(|| format!("write \"{path}\""))
    };
    if geteuid().is_root() && is_effective(CapabilitySet::SETUID | CapabilitySet::SETGID) {
        write("gid_map", &text(gids))?;
        return write("uid_map", &text(uids));
    }
    if is_own(uids) && is_own(gids) {
        write("setgroups", "deny")?;
        write("gid_map", &text(gids))?;
        return write("uid_map", &text(uids));
    }
    helper("newgidmap", pid, gids)?;
    helper("newuidmap", pid, uids)
}

fn helper(program: &str, pid: i32, maps: &[LinuxIdMapping]) -> Result<()> {
    let mut command = Command::new(program);
    command.arg(pid.to_string());
    for map in maps {
        command.args([map.container_id(), map.host_id(), map.size()].map(|n| n.to_string()));
    }
    let output = match command.output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let remedy = "install it (package \"uidmap\") to map more than one id as an ordinary user";
            return Err(Error::Invalid(format!("{program} not found: {remedy}")));
        }
        other => other.doing(|| format!("run {program}"))?,
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::Invalid(format!("map ids: {}", said.trim())));
    }
    Ok(())
}

/// A user namespace with these maps, for a mount with mapped ids. Nobody is in it.
pub(crate) fn with_maps(uids: &[LinuxIdMapping], gids: &[LinuxIdMapping]) -> Result<OwnedFd> {
    let (outer, inner) = channel::pair(&Trace::default())?;
    let Some(child) = clone3(flags::NEWUSER, None).doing(|| "make a user namespace")? else {
        // It only holds the namespace until the descriptor does, and ends with its maker.
        drop(outer);
        exit_now(i32::from(inner.wait_go().is_err()))
    };
    let pid = child.pid.as_raw_nonzero().get();
    let opened = write_maps(pid, uids, gids)
        .and_then(|()| crate::device::open_host_path(format!("/proc/{pid}/ns/user").as_ref()));
    process::pidfd_send_signal(&child.pidfd, Signal::KILL).doing(|| "end the namespace's keeper")?;
    process::waitpid(Some(child.pid), process::WaitOptions::empty()).doing(|| "wait for the namespace's keeper")?;
    opened
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_lines_of_three_numbers() {
        let json = r#"[{"containerID":0,"hostID":1000,"size":1},{"containerID":1,"hostID":100000,"size":65536}]"#;
        let maps: Vec<LinuxIdMapping> = serde_json::from_str(json).unwrap();
        assert_eq!(text(&maps), "0 1000 1\n1 100000 65536\n");
    }
}
