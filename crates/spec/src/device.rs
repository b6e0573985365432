//! Devices of the host that a container gets.

use std::path::Path;

use hoy_sys::rustix::fs::{FileType, RawMode, major, minor, stat};

use crate::cdi::{self, Edits};
use crate::{Device, Error, Host, Mount, Options, Result, volume};

const OPTION: &str = "--device";

/// Directories of `/dev` that hold no devices of the host's, or those of its terminals.
const NOT_DEVICES: [&str; 4] = ["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/fd"];

/// What the runtime makes in every container: runtime-spec config-linux.md "Default Devices".
const STANDARD: [&str; 8] = ["null", "zero", "full", "random", "urandom", "tty", "console", "ptmx"];

/// Device nodes to make, and in a user namespace, which can make none, binds instead.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    pub(crate) nodes: Vec<Device>,
    /// What may be done with each of those that were asked for, which come first.
    pub(crate) access: Vec<String>,
    pub(crate) binds: Vec<Mount>,
}

/// The devices that options ask for, and those that their descriptions name.
pub(crate) fn devices(options: &Options, host: &Host, described: &[&Edits]) -> Result<Devices> {
    let (mut nodes, mut sources, mut accesses) = (Vec::new(), Vec::new(), Vec::new());
    let usual = options.defaults.devices.iter();
    for text in usual.chain(&options.device).filter(|text| !cdi::is_name(text)) {
        let (source, target, access) = parts(text)?;
        let target = volume::destination(OPTION, target)?;
        let wrong = |reason: String| Error::option(OPTION, text, reason);
        for (source, target) in each(source, target).map_err(wrong)? {
            nodes.push(node(&source, &target).map_err(wrong)?);
            sources.push(source);
            accesses.push(access.to_owned());
        }
    }
    for one in described.iter().flat_map(|edits| &edits.device_nodes) {
        let mut device = one.device().map_err(|reason| Error::option(OPTION, one.source(), reason))?;
        device.path = volume::destination(OPTION, &device.path)?;
        nodes.push(device);
        sources.push(one.source().to_owned());
        accesses.push(one.access().to_owned());
    }
    if options.privileged {
        for path in all_devices(Path::new("/dev")) {
            if let Ok(device) = node(&path, &path)
                && nodes.iter().all(|known: &Device| known.path != path)
            {
                nodes.push(device);
                sources.push(path);
            }
        }
    }
    if host.is_initial {
        return Ok(Devices { nodes, access: accesses, binds: Vec::new() });
    }
    let options = ["bind", "rprivate", "nosuid", "noexec"].map(str::to_owned).to_vec();
    let bind = |(device, source): (Device, String)| Mount {
        destination: device.path,
        kind: "bind".to_owned(),
        source,
        options: options.clone(),
    };
    Ok(Devices { binds: nodes.into_iter().zip(sources).map(bind).collect(), ..Devices::default() })
}

/// `HOST[:TARGET][:rwm]`.
fn parts(text: &str) -> Result<(&str, &str, &str)> {
    let is_access = |word: &str| !word.is_empty() && word.bytes().all(|c| b"rwm".contains(&c));
    let words: Vec<&str> = text.split(':').collect();
    match words.as_slice() {
        [host] => Ok((host, host, "rwm")),
        [host, access] if is_access(access) => Ok((host, host, access)),
        [host, target] => Ok((host, target, "rwm")),
        [host, target, access] if is_access(access) => Ok((host, target, access)),
        _ => Err(Error::option(OPTION, text, "its form is HOST[:TARGET][:rwm]")),
    }
}

/// A device and where it goes; of a directory all that are below it.
fn each(source: &str, target: String) -> std::result::Result<Vec<(String, String)>, String> {
    if !Path::new(source).is_dir() {
        return Ok(vec![(source.to_owned(), target)]);
    }
    let found = all_devices(Path::new(source));
    if found.is_empty() {
        return Err("there is no device in the directory".to_owned());
    }
    let place = |path: String| {
        let rest = path.strip_prefix(source).unwrap_or(&path).trim_start_matches('/');
        let place = format!("{target}/{rest}");
        (path, place)
    };
    Ok(found.into_iter().map(place).collect())
}

fn node(source: &str, target: &str) -> std::result::Result<Device, String> {
    let stat = stat(source).map_err(|errno| std::io::Error::from(errno).to_string())?;
    let kind = match FileType::from_raw_mode(stat.st_mode as RawMode) {
        FileType::CharacterDevice => "c",
        FileType::BlockDevice => "b",
        _ => return Err("it is not a device".to_owned()),
    };
    Ok(Device {
        path: target.to_owned(),
        kind: kind.to_owned(),
        major: major(stat.st_rdev).into(),
        minor: minor(stat.st_rdev).into(),
        file_mode: Some(stat.st_mode & 0o777),
        uid: Some(stat.st_uid),
        gid: Some(stat.st_gid),
    })
}

/// Paths of everything below `dir` that may be a device, in order; symlinks are not followed.
fn all_devices(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let (path, kind) = (entry.path(), entry.file_type());
        let Some(text) = path.to_str().map(str::to_owned) else { continue };
        let standard = text.strip_prefix("/dev/").is_some_and(|name| STANDARD.contains(&name));
        match kind {
            Ok(kind) if kind.is_dir() && !NOT_DEVICES.contains(&text.as_str()) => found.extend(all_devices(&path)),
            Ok(kind) if !kind.is_dir() && !kind.is_file() && !kind.is_symlink() && !standard => found.push(text),
            _ => {}
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::host;

    #[test]
    fn forms() {
        let one = |text: &str| {
            let options = Options { device: vec![text.to_owned()], ..Options::default() };
            devices(&options, &host(), &[]).map(|devices| devices.nodes)
        };
        let null = one("/dev/null:/dev/x:r").unwrap().remove(0);
        assert_eq!((null.path.as_str(), null.kind.as_str(), null.major, null.minor), ("/dev/x", "c", 1, 3));
        assert_eq!(parts("/dev/null:/dev/x:r").unwrap().2, "r");
        assert_eq!(parts("/dev/null").unwrap().2, "rwm");
        assert!(one("/etc").unwrap_err().to_string().contains("no device"));
        assert!(one("/etc/passwd").unwrap_err().to_string().contains("not a device"));
        assert!(one("/dev/null:/../x").is_err() && one("a:b:c:d").is_err());
        let options = Options { device: vec!["/dev/null".to_owned()], ..Options::default() };
        let bound = devices(&options, &Host { is_initial: false, ..host() }, &[]).unwrap();
        assert_eq!((bound.nodes.len(), bound.binds.len()), (0, 1));
    }
}
