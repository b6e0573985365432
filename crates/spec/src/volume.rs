//! What `--volume`, `--mount` and `--tmpfs` mean.

use std::path::{Path, PathBuf};

use crate::{Error, Mount, Result};

/// Options of a bind that mount(8) and the runtimes know by these names.
const FLAGS: [&str; 10] = ["ro", "rw", "nosuid", "suid", "nodev", "dev", "noexec", "exec", "bind", "rbind"];

/// Propagation: mount_namespaces(7).
const PROPAGATION: [&str; 8] =
    ["shared", "slave", "private", "unbindable", "rshared", "rslave", "rprivate", "runbindable"];

/// A path in the container: absolute, with neither `.` nor `..`, and not the root itself.
pub(crate) fn destination(option: &'static str, path: &str) -> Result<String> {
    let wrong = |reason: &str| Err(Error::option(option, path, reason));
    if !path.starts_with('/') {
        return wrong("the place in the container must be an absolute path");
    }
    if path.chars().any(char::is_control) {
        return wrong("there is a control character in it");
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    match parts.as_slice() {
        [] => wrong("nothing can be mounted at / itself"),
        parts if parts.contains(&"..") => wrong("'..' cannot be part of it"),
        parts => Ok(format!("/{}", parts.join("/"))),
    }
}

/// `SOURCE:TARGET[:OPTIONS]`.
pub(crate) fn volume(text: &str) -> Result<Mount> {
    const OPTION: &str = "--volume";
    let parts: Vec<&str> = text.split(':').collect();
    let (from, to, options) = match parts.as_slice() {
        [from, to] => (*from, *to, ""),
        [from, to, options] => (*from, *to, *options),
        _ => return Err(Error::option(OPTION, text, "its form is SOURCE:TARGET or SOURCE:TARGET:OPTIONS")),
    };
    if !from.starts_with(['/', '.']) {
        let reason = "the source must be a path with '/' or '.' at its beginning: named volumes come later";
        return Err(Error::option(OPTION, text, reason));
    }
    bind(OPTION, text, from, to, options.split(',').filter(|word| !word.is_empty()))
}

fn bind<'a>(
    option: &'static str,
    text: &str,
    from: &str,
    to: &str,
    words: impl Iterator<Item = &'a str>,
) -> Result<Mount> {
    let wrong = |reason: String| Error::option(option, text, reason);
    let mut options: Vec<String> = Vec::new();
    for word in words {
        match word {
            word if FLAGS.contains(&word) || PROPAGATION.contains(&word) => options.push(word.to_owned()),
            // Nothing is labelled where SELinux is not there.
            "z" | "Z" if !Path::new("/sys/fs/selinux/enforce").exists() => {}
            "z" | "Z" => return Err(wrong("relabelling for SELinux comes later".to_owned())),
            "U" | "O" | "idmap" | "copy" => return Err(wrong(format!("the option {word} comes later"))),
            _ => return Err(wrong(format!("there is no option {word}"))),
        }
    }
    if !options.iter().any(|word| word == "bind" || word == "rbind") {
        options.insert(0, "rbind".to_owned());
    }
    if !options.iter().any(|word| PROPAGATION.contains(&word.as_str())) {
        options.push("rprivate".to_owned());
    }
    let source = absolute(from).map_err(|error| wrong(error.to_string()))?;
    if let Err(error) = std::fs::metadata(&source) {
        return Err(wrong(format!("\"{}\": {}", source.display(), hoy_sys::words(&error))));
    }
    let source = source.into_os_string().into_string().map_err(|_| wrong("the source is not UTF-8".to_owned()))?;
    Ok(Mount { destination: destination(option, to)?, kind: "bind".to_owned(), source, options })
}

fn absolute(path: &str) -> std::io::Result<PathBuf> {
    std::path::absolute(path)
}

/// `TARGET[:OPTIONS]`; podman's own options come first and the caller's win.
pub(crate) fn tmpfs(text: &str) -> Result<Mount> {
    let (to, options) = text.split_once(':').unwrap_or((text, ""));
    tmpfs_at("--tmpfs", text, to, options.split(',').filter(|word| !word.is_empty()))
}

/// A tmpfs with what the image has there copied into it.
pub(crate) fn tmpfs_at<'a>(
    option: &'static str,
    text: &str,
    to: &str,
    words: impl Iterator<Item = &'a str>,
) -> Result<Mount> {
    let mut options: Vec<String> = ["rw", "rprivate", "nosuid", "nodev", "tmpcopyup"].map(str::to_owned).to_vec();
    for word in words {
        let opposite = match word {
            "ro" => "rw",
            "suid" => "nosuid",
            "dev" => "nodev",
            "notmpcopyup" => "tmpcopyup",
            "rw" | "nosuid" | "nodev" | "noexec" | "exec" | "tmpcopyup" | "noatime" | "relatime" => word,
            word if word.split_once('=').is_some_and(|(key, value)| is_tmpfs_key(key) && !value.is_empty()) => "",
            _ => return Err(Error::option(option, text, format!("there is no option {word}"))),
        };
        options.retain(|known| known != opposite);
        if word != "notmpcopyup" {
            options.push(word.to_owned());
        }
    }
    let destination = destination(option, to)?;
    Ok(Mount { destination, kind: "tmpfs".to_owned(), source: "tmpfs".to_owned(), options })
}

/// tmpfs(5).
fn is_tmpfs_key(key: &str) -> bool {
    matches!(key, "size" | "mode" | "uid" | "gid" | "nr_inodes" | "nr_blocks" | "huge")
}

/// `type=bind,source=…,target=…` or `type=tmpfs,target=…`.
pub(crate) fn mount(text: &str) -> Result<Mount> {
    const OPTION: &str = "--mount";
    let wrong = |reason: String| Error::option(OPTION, text, reason);
    let (mut kind, mut source, mut target, mut words) = ("volume", None, None, Vec::new());
    for pair in text.split(',') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, "true"));
        match (key, value) {
            ("type", value) => kind = value,
            ("source" | "src", value) => source = Some(value),
            ("target" | "destination" | "dst", value) => target = Some(value),
            ("ro" | "readonly", "true") | ("rw" | "readwrite", "false") => words.push("ro".to_owned()),
            ("ro" | "readonly", "false") | ("rw" | "readwrite", "true") => words.push("rw".to_owned()),
            ("bind-propagation", value) => words.push(value.to_owned()),
            ("bind-nonrecursive", "true") => words.push("bind".to_owned()),
            ("bind-nonrecursive", "false") => {}
            ("z" | "Z", "true") => words.push(key.to_owned()),
            ("relabel", "shared") => words.push("z".to_owned()),
            ("relabel", "private") => words.push("Z".to_owned()),
            ("tmpfs-size", value) => words.push(format!("size={value}")),
            ("tmpfs-mode", value) => words.push(format!("mode={value}")),
            ("notmpcopyup", "true") => words.push("notmpcopyup".to_owned()),
            ("tmpcopyup" | "nosuid" | "nodev" | "noexec" | "exec" | "suid" | "dev", "true") => {
                words.push(key.to_owned())
            }
            _ => return Err(wrong(format!("there is no option {pair}"))),
        }
    }
    let target = target.ok_or_else(|| wrong("target=PATH is missing".to_owned()))?;
    let words = words.iter().map(String::as_str);
    match (kind, source) {
        ("bind", Some(source)) => bind(OPTION, text, source, target, words),
        ("bind", None) => Err(wrong("source=PATH is missing".to_owned())),
        ("tmpfs", None) => tmpfs_at(OPTION, text, target, words),
        ("tmpfs", Some(_)) => Err(wrong("a tmpfs has no source".to_owned())),
        (kind, _) => Err(wrong(format!("type={kind} comes later: there are bind and tmpfs"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(mount: Result<Mount>) -> String {
        match mount {
            Ok(m) => format!("{} {} {} {}", m.kind, m.source, m.destination, m.options.join(",")),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn forms() {
        let is = |got: Result<Mount>, want: &str| assert_eq!(line(got), want);
        is(volume("/tmp:/x"), "bind /tmp /x rbind,rprivate");
        is(volume("/tmp:/x//y/.:ro,noexec,slave"), "bind /tmp /x/y rbind,ro,noexec,slave");
        is(volume("/tmp:/x:bind"), "bind /tmp /x bind,rprivate");
        is(tmpfs("/t"), "tmpfs tmpfs /t rw,rprivate,nosuid,nodev,tmpcopyup");
        is(tmpfs("/t:size=1m,ro,exec"), "tmpfs tmpfs /t rprivate,nosuid,nodev,tmpcopyup,size=1m,ro,exec");
        is(mount("type=bind,src=/tmp,dst=/x,ro"), "bind /tmp /x rbind,ro,rprivate");
        is(mount("type=tmpfs,target=/x,tmpfs-size=5m,notmpcopyup"), "tmpfs tmpfs /x rw,rprivate,nosuid,nodev,size=5m");
        for wrong in
            ["/tmp", "/tmp:x", "data:/x", "/tmp:/..", "/tmp:/", "/tmp:/x:what", "/no/such:/x", "a:b:c:d", "/tmp:/x:U"]
        {
            assert!(line(volume(wrong)).starts_with("option --volume: "), "{wrong}");
        }
        for wrong in
            ["type=bind,dst=/x", "type=tmpfs", "type=image,src=a,dst=/x", "type=tmpfs,src=/,dst=/x", "src=/tmp,dst=/x"]
        {
            assert!(line(mount(wrong)).starts_with("option --mount: "), "{wrong}");
        }
        assert!(line(tmpfs("/t:what")).contains("no option what"));
    }
}
