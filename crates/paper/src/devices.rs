//! What a command finds below /dev and /proc where nothing can be mounted: given to it when it opens the path.
//!
//! That is the devices which every container has, its own descriptors, and what the kernel tells everybody of the machine
//! or a process of itself. Nothing of another process is among it.

/// Devices that read and write nothing of anybody, and the caller's own terminal.
pub const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Files of proc(5) about the machine.
const MACHINE: [&str; 11] = [
    "cpuinfo",
    "devices",
    "filesystems",
    "loadavg",
    "meminfo",
    "stat",
    "sys/kernel/ngroups_max",
    "sys/kernel/osrelease",
    "sys/kernel/random/uuid",
    "uptime",
    "version",
];
/// Files of proc(5) that a process reads of itself.
const OWN: [&str; 9] = ["cgroup", "cmdline", "comm", "limits", "maps", "mountinfo", "mounts", "stat", "status"];

/// Where something is outside.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Below /dev.
    Device(String),
    /// Below /proc.
    Process(String),
}

/// What stands for a path that the process `pid` opens; none for all paths that mean what they say.
pub(crate) fn place(path: &[u8], pid: u32) -> Option<Place> {
    let path = std::str::from_utf8(path).ok()?;
    let own = |name: String| Some(Place::Process(format!("{pid}/{name}")));
    let descriptor = |number: &str| {
        let is_number = !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit());
        is_number.then(|| own(format!("fd/{number}"))).flatten()
    };
    if let Some(name) = path.strip_prefix("/dev/") {
        return match name {
            "stdin" => descriptor("0"),
            "stdout" => descriptor("1"),
            "stderr" => descriptor("2"),
            name if DEVICES.contains(&name) => Some(Place::Device(name.to_owned())),
            name => descriptor(name.strip_prefix("fd/")?),
        };
    }
    let name = path.strip_prefix("/proc/")?;
    if MACHINE.contains(&name) {
        return Some(Place::Process(name.to_owned()));
    }
    let name = if name == "mounts" { "self/mounts" } else { name };
    let (of, name) = name.split_once('/')?;
    if !matches!(of, "self" | "thread-self") && of.parse() != Ok(pid) {
        return None;
    }
    match name.strip_prefix("fd/") {
        Some(number) => descriptor(number),
        None => OWN.contains(&name).then(|| own(name.to_owned())).flatten(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_anybody_else() {
        for (path, want) in [
            ("/dev/null", Some(Place::Device("null".to_owned()))),
            ("/dev/stderr", Some(Place::Process("7/fd/2".to_owned()))),
            ("/dev/fd/63", Some(Place::Process("7/fd/63".to_owned()))),
            ("/proc/meminfo", Some(Place::Process("meminfo".to_owned()))),
            ("/proc/mounts", Some(Place::Process("7/mounts".to_owned()))),
            ("/proc/7/status", Some(Place::Process("7/status".to_owned()))),
            ("/proc/self/fd/3", Some(Place::Process("7/fd/3".to_owned()))),
            ("/proc/8/status", None),
            ("/proc/self/environ", None),
            ("/proc/self/root/etc", None),
            ("/proc/self/fd/3/x", None),
            ("/proc/self/fd/../environ", None),
            ("/dev/../etc/passwd", None),
            ("/dev/fd/", None),
            ("/dev/sda", None),
            ("/etc/passwd", None),
            ("null", None),
        ] {
            assert_eq!(place(path.as_bytes(), 7), want, "{path}");
        }
    }
}
