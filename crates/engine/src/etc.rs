//! The files of `/etc` that belong to a running container and not to its image.

use std::fs;
use std::path::Path;

use hoy_layout::{ContainerDir, write_volatile_file};
use hoy_spec::Mount;

use crate::{Error, Result};

/// Writes `hostname`, `hosts` and, with the host's network, `resolv.conf` into the container's directory, and says how
/// each is mounted; they belong to `owner`, the root of a user namespace. Without a network there is nobody to ask names of, so the image's own `resolv.conf` stays.
pub(crate) fn files(
    dir: &ContainerDir,
    hostname: &str,
    host_network: bool,
    read_only: bool,
    owner: Option<(u32, u32)>,
) -> Result<Vec<Mount>> {
    let mut files = vec![("hostname", format!("{hostname}\n")), ("hosts", hosts(hostname, host_network))];
    if host_network {
        files.push(("resolv.conf", read("/etc/resolv.conf")));
    }
    let mut mounts = Vec::new();
    for (name, text) in files {
        let path = dir.path().join(name);
        write_volatile_file(&path, text.as_bytes())?;
        if let Some((uid, gid)) = owner {
            std::os::unix::fs::chown(&path, Some(uid), Some(gid)).map_err(Error::io("change the owner of", &path))?;
        }
        let mut options = vec!["bind", "rprivate"];
        if read_only {
            options.extend(["ro", "nosuid", "noexec", "nodev"]);
        }
        mounts.push(Mount {
            destination: format!("/etc/{name}"),
            kind: "bind".to_owned(),
            source: path.display().to_string(),
            options: options.into_iter().map(str::to_owned).collect(),
        });
    }
    Ok(mounts)
}

fn hosts(hostname: &str, host_network: bool) -> String {
    if host_network {
        return format!("{}\n127.0.1.1 {hostname}\n", read("/etc/hosts").trim_end());
    }
    format!("127.0.0.1 localhost localhost.localdomain\n::1 localhost localhost.localdomain\n127.0.0.1 {hostname}\n")
}

/// The host's file; one that cannot be read is as good as empty.
fn read(path: &str) -> String {
    fs::read_to_string(Path::new(path)).unwrap_or_default()
}
