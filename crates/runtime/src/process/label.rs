//! Labels of mandatory access control: `process.apparmorProfile`, `process.selinuxLabel`, `linux.mountLabel`.

use std::os::fd::BorrowedFd;

use hoy_sys::rustix::fs::{FsWord, statfs};
use oci_spec::runtime::{Linux, Process};

use crate::error::Doing;
use crate::{Error, Result, procfs};

/// File systems that have their labels from the kernel's policy and take none.
const LABELLED: [&str; 5] = ["proc", "sysfs", "mqueue", "cgroup", "cgroup2"];

fn given(label: &Option<String>) -> Option<&str> {
    label.as_deref().filter(|label| !label.is_empty())
}

/// What `process` is to be confined by: no confinement needs no AppArmor.
fn profile(process: &Process) -> Option<&str> {
    given(process.apparmor_profile())
}

/// Checks, where the caller is, that the kernel has what the labels of `process` are for.
///
/// # Errors
/// [`Error::Invalid`] naming the field.
pub(crate) fn check_process(process: &Process) -> Result<()> {
    if let Some(profile) = profile(process).filter(|profile| *profile != "unconfined" && !has_apparmor()) {
        let reason = "AppArmor is not enabled in this kernel";
        return Err(Error::Invalid(format!("set process.apparmorProfile \"{profile}\": {reason}")));
    }
    check_selinux("process.selinuxLabel", given(process.selinux_label()))
}

/// Checks the same for the labels of mounts.
///
/// # Errors
/// [`Error::Invalid`] naming the field.
pub(crate) fn check_mounts(linux: &Linux) -> Result<()> {
    check_selinux("linux.mountLabel", given(linux.mount_label()))
}

fn check_selinux(field: &str, label: Option<&str>) -> Result<()> {
    match label.filter(|_| !has_selinux()) {
        Some(label) => Err(Error::Invalid(format!("set {field} \"{label}\": SELinux is not enabled in this kernel"))),
        None => Ok(()),
    }
}

fn has_apparmor() -> bool {
    std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'))
}

fn has_selinux() -> bool {
    /// SELINUX_MAGIC
    const MAGIC: FsWord = 0xf97c_ff8c;
    statfs("/sys/fs/selinux").is_ok_and(|found| found.f_type == MAGIC)
}

/// Labels the program that this process becomes. `proc` is the caller's.
pub(crate) fn apply(process: &Process, proc: BorrowedFd<'_>) -> Result<()> {
    if let Some(profile) = profile(process) {
        let write = |path| procfs::write(proc, path, &format!("exec {profile}"));
        match write("self/attr/apparmor/exec").or_else(|_| write("self/attr/exec")) {
            // The kernel has no AppArmor, which was looked at before.
            Err(_) if profile == "unconfined" => {}
            other => other.doing(|| format!("set process.apparmorProfile \"{profile}\""))?,
        }
    }
    if let Some(label) = given(process.selinux_label()) {
        procfs::write(proc, "self/attr/exec", label).doing(|| format!("set process.selinuxLabel \"{label}\""))?;
    }
    Ok(())
}

/// The option that labels a new file system of that type, if it takes one.
pub(crate) fn mount_option(linux: &Linux, fstype: &str) -> Option<(String, Option<String>)> {
    let label = given(linux.mount_label()).filter(|_| !LABELLED.contains(&fstype))?;
    Some(("context".to_owned(), Some(label.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_that_the_kernel_has_no_use_for_is_named() {
        let json = r#"{"cwd":"/","user":{"uid":0,"gid":0},"apparmorProfile":"p","selinuxLabel":"a:b:c:s0"}"#;
        let mut process: Process = serde_json::from_str(json).unwrap();
        if !has_apparmor() {
            let error = check_process(&process).unwrap_err().to_string();
            assert_eq!(error, "set process.apparmorProfile \"p\": AppArmor is not enabled in this kernel");
        }
        process.set_apparmor_profile(Some("unconfined".to_owned()));
        assert_eq!(check_process(&process).is_ok(), has_selinux());
        process.set_selinux_label(None);
        check_process(&process).unwrap();
    }

    #[test]
    fn which_file_systems_take_a_label() {
        let linux: Linux = serde_json::from_str(r#"{"mountLabel":"a:b:c:s0"}"#).unwrap();
        let want = Some(("context".to_owned(), Some("a:b:c:s0".to_owned())));
        assert_eq!(mount_option(&linux, "tmpfs"), want);
        assert_eq!(mount_option(&linux, "proc"), None);
        assert_eq!(mount_option(&serde_json::from_str(r#"{"mountLabel":""}"#).unwrap(), "tmpfs"), None);
    }
}
