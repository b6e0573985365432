//! `spec`: a config.json to start from, as runc writes it.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use hoy_cli::{Context, Result};
use hoy_sys::rustix::fs::{FsWord, statfs};
use serde_json::{Value, json};

/// Writes config.json into `bundle`, where there must be none yet.
pub(crate) fn write(bundle: &Path, rootless: bool) -> Result<()> {
    let path = bundle.join("config.json");
    let doing = || format!("write \"{}\"", path.display());
    let ids = || (hoy_sys::rustix::process::geteuid().as_raw(), hoy_sys::rustix::process::getegid().as_raw());
    let text = serde_json::to_string_pretty(&document(rootless.then(ids)))?;
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path).context(doing)?;
    file.write_all(text.as_bytes()).and_then(|()| file.write_all(b"\n")).context(doing)
}

/// The configuration; `user` is the ordinary user whose ids become 0.
fn document(user: Option<(u32, u32)>) -> Value {
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let mut document = json!({
        "ociVersion": "1.3.0",
        "process": {
            "terminal": true,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "hoy",
        "mounts": mounts(user.is_some()),
        "linux": {
            "namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/sys/devices/virtual/powercap",
                "/proc/scsi"
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    });
    let Some(linux) = document.get_mut("linux").and_then(Value::as_object_mut) else { return document };
    let namespaces = linux.get_mut("namespaces").and_then(Value::as_array_mut);
    let more = if user.is_some() { json!({"type": "user"}) } else { json!({"type": "network"}) };
    namespaces.into_iter().for_each(|list| {
        list.push(more.clone());
        // As runc has it: on version 1 a container sees where its groups are.
        if has_cgroup_v2() {
            list.push(json!({"type": "cgroup"}));
        }
    });
    if let Some((uid, gid)) = user {
        linux.insert("uidMappings".to_owned(), json!([{"containerID": 0, "hostID": uid, "size": 1}]));
        linux.insert("gidMappings".to_owned(), json!([{"containerID": 0, "hostID": gid, "size": 1}]));
    } else {
        linux.insert("resources".to_owned(), json!({"devices": [{"allow": false, "access": "rwm"}]}));
    }
    document
}

/// Whether the machine's control groups are of version 2 alone.
fn has_cgroup_v2() -> bool {
    /// CGROUP2_SUPER_MAGIC
    const MAGIC: FsWord = 0x6367_7270;
    statfs("/sys/fs/cgroup").is_ok_and(|found| found.f_type == MAGIC)
}

fn mounts(rootless: bool) -> Value {
    let mut pts = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    if !rootless {
        pts.push("gid=5");
    }
    let sys = if rootless {
        json!({"destination": "/sys", "type": "none", "source": "/sys", "options": ["rbind", "nosuid", "noexec", "nodev", "rro"]})
    } else {
        json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]})
    };
    json!([
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": pts},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
            "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
        sys,
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runtime_reads_what_it_wrote() {
        for user in [None, Some((1000, 100))] {
            let bytes = serde_json::to_vec(&document(user)).unwrap();
            hoy_runtime::config::Config::parse(bytes).unwrap();
        }
    }
}
