//! What keeps commands apart: the best that can be had here, or what was asked for.

use std::process::{ExitCode, Stdio};

use hoy_build::Isolation;
use hoy_cli::{Error, Result};
use hoy_spec::Defaults;
use hoy_sys::rustix::process::geteuid;
use hoy_sys::user::is_confined_root;

use crate::args::{InRoot, InRootAction};
use crate::context::{Context, warn};

impl Context {
    /// The isolation that `--isolation` says, or that is found out, which a person is told where it is not the best.
    ///
    /// # Errors
    /// A changed root directory is for user 0 alone.
    pub(crate) fn isolation(&self, asked: Option<&str>) -> Result<Isolation> {
        match asked {
            Some("chroot") if !geteuid().is_root() => {
                let error = Error::msg("--isolation chroot: only root may change the root directory");
                return Err(error.with_hint("leave it out: with user namespaces it needs no root"));
            }
            Some("chroot") => {
                warn("isolation chroot, as asked for: commands share network and processes with this one")
            }
            Some(_) => return Ok(Isolation::Oci),
            None if !is_confined_root() => return Ok(Isolation::Oci),
            None => match self.why_no_namespace() {
                None => return Ok(Isolation::Oci),
                Some(why) => warn(&format!(
                    "isolation chroot, for there is no other here ({why}): commands share network and processes with this one"
                )),
            },
        }
        Ok(Isolation::Chroot)
    }

    /// Why no user namespace can be made; none where one can.
    pub(crate) fn why_no_namespace(&self) -> Option<String> {
        if geteuid().is_root() && !is_confined_root() {
            return None;
        }
        let mut attempt = self.tools.command("hoy-storage");
        let attempt = attempt.args(["unshare", "--", "true"]).stdin(Stdio::null()).stdout(Stdio::null()).output();
        match attempt {
            Ok(output) if output.status.success() => None,
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                Some(said.trim().trim_start_matches("hoy-storage: ").lines().next().unwrap_or_default().to_owned())
            }
            // Whoever needs it says that it is missing.
            Err(_) => None,
        }
    }
}

/// Refuses by name what a changed root directory cannot do, in the `network` asked for; `has_ids`: with a user namespace
/// for the container.
pub(crate) fn refuse_for_chroot(create: &hoy_spec::Options, network: Option<&str>, has_ids: bool) -> Result<()> {
    if network.is_some_and(|network| network != "host") {
        let error = Error::msg("cannot set --network other than host with --isolation chroot");
        return Err(error.with_hint("leave it out: commands have the network of this process there"));
    }
    let defaults = hoy_spec::Options::default();
    let asked = [
        ("--volume", !create.volume.is_empty()),
        ("--mount", !create.mount.is_empty()),
        ("--device", !create.device.is_empty()),
        ("--hooks-dir", !create.hooks_directories.is_empty()),
        ("--ulimit", !create.ulimit.is_empty()),
        ("--security-opt", !create.security_opt.is_empty()),
        ("--hostname", create.hostname.is_some()),
        ("--memory", create.memory != defaults.memory || create.memory_swap != defaults.memory_swap),
        ("--cpus", create.cpus.is_some() || create.cpu_quota.is_some() || create.cpu_period.is_some()),
        ("--cpu-shares", create.cpu_shares.is_some()),
        ("--cpuset-cpus", create.cpuset_cpus.is_some() || create.cpuset_mems.is_some()),
        ("--shm-size", create.shm_size.is_some()),
        ("--userns", has_ids),
    ];
    match asked.iter().find(|(_, is_asked)| *is_asked) {
        None => Ok(()),
        Some((option, _)) => Err(Error::msg(format!("option {option} cannot be had with --isolation chroot"))),
    }
}

/// Leaves of what the machine wants for every container what a changed root directory can do.
pub(crate) fn keep_for_chroot(defaults: &mut Defaults) {
    let Defaults { capabilities, env, .. } = std::mem::take(defaults);
    *defaults = Defaults { capabilities, env, ..Defaults::default() };
}

pub(crate) fn in_root(args: &InRoot) -> Result<ExitCode> {
    match &args.action {
        InRootAction::Run { bundle, id } => {
            Err(hoy_build::become_command(&args.root, id, bundle, args.log.as_deref()).into())
        }
        InRootAction::Delete { id, .. } => {
            hoy_build::kill_command(&args.root, id)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
