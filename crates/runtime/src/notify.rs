//! Readiness (sd_notify(3)): the caller's socket, put where the container's program finds it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use hoy_sys::mount::MountAttr;

use crate::mount_plan::{Kind, Link, MountPlan};

/// Where the socket is inside the container, as runc has it.
const INSIDE: &str = "/run/notify/notify.sock";

/// What the program's environment says, and what is mounted for it, when this process was given `socket`.
///
/// A socket in the abstract namespace has no file: who shares the caller's network namespace reaches it by its name.
pub(crate) fn plan(socket: Option<&OsStr>, env: &[String]) -> Option<(String, Option<MountPlan>)> {
    let socket = socket.filter(|socket| !socket.is_empty())?;
    if env.iter().any(|entry| entry.starts_with("NOTIFY_SOCKET=")) {
        return None;
    }
    let text = socket.to_str()?;
    if text.starts_with('@') {
        return Some((format!("NOTIFY_SOCKET={text}"), None));
    }
    let mount = MountPlan {
        destination: PathBuf::from(INSIDE),
        kind: Kind::Bind { source: Path::new(socket).to_owned(), recursive: false, link: Link::Follow },
        attr: MountAttr::default(),
        recursive: MountAttr::default(),
        propagation: Vec::new(),
        data: Vec::new(),
        copy_up: false,
        idmap: None,
        is_on_link: false,
    };
    Some((format!("NOTIFY_SOCKET={INSIDE}"), Some(mount)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_program_is_told() {
        let told = |socket: &str, env: &[String]| {
            plan(Some(OsStr::new(socket)), env).map(|(entry, mount)| (entry, mount.is_some()))
        };
        let cases = [
            ("", None),
            ("@name", Some(("NOTIFY_SOCKET=@name".to_owned(), false))),
            ("/run/s", Some((format!("NOTIFY_SOCKET={INSIDE}"), true))),
        ];
        for (socket, want) in cases {
            assert_eq!(told(socket, &[]), want, "{socket:?}");
        }
        assert_eq!(told("/run/s", &["NOTIFY_SOCKET=/mine".to_owned()]), None);
        assert!(plan(None, &[]).is_none());
    }
}
