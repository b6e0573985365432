//! Options of every command: where things are, and what is said while it works.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use hoy_cli::{Error, Result};

#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Where the store is
    #[arg(long, global = true, env = "HOY_ROOT", hide_env = true, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Where the store's volatile state is
    #[arg(long, global = true, env = "HOY_RUNROOT", hide_env = true, value_name = "DIR")]
    pub(crate) runroot: Option<PathBuf>,
    /// Further store whose images are used where they are and never changed
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) additional_store: Vec<PathBuf>,
    /// overlay, or vfs, which come to the same here
    #[arg(long, global = true, value_name = "NAME", value_parser = ["overlay", "overlay2", "vfs"],
          hide_possible_values = true)]
    storage_driver: Option<String>,
    /// An option of the storage driver: there are none
    #[arg(long, global = true, value_name = "OPTION", hide = true)]
    storage_opt: Vec<String>,
    /// Rules for registries, instead of the usual registries.conf
    #[arg(long, global = true, value_name = "FILE")]
    registries_conf: Option<PathBuf>,
    /// Further rules for registries, in files of this directory
    #[arg(long, global = true, value_name = "DIR")]
    registries_conf_dir: Option<PathBuf>,
    /// Names that short names of images stand for
    #[arg(long, global = true, value_name = "FILE")]
    short_name_alias_conf: Option<PathBuf>,
    /// Trust policy
    #[arg(long, global = true, value_name = "FILE")]
    signature_policy: Option<PathBuf>,
    /// Who makes the control groups of commands: cgroupfs (the runtime; default) or systemd
    #[arg(long, global = true, value_name = "MANAGER", value_parser = ["cgroupfs", "systemd"],
          hide_possible_values = true)]
    cgroup_manager: Option<String>,
    /// Files of the host that every command has a copy of, instead of those of the usual mounts.conf
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) default_mounts_file: Option<PathBuf>,
    /// What is told on standard error: debug (each program that is run), warn (default) or error (no warnings)
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
}

impl Global {
    /// What every `hoy-copy` is told.
    pub(crate) fn copy_options(&self) -> Vec<OsString> {
        let named = [
            ("--registries-conf", &self.registries_conf),
            ("--registries-conf-dir", &self.registries_conf_dir),
            ("--short-name-alias-conf", &self.short_name_alias_conf),
            ("--policy", &self.signature_policy),
        ];
        let both = |(option, path): (&str, &Option<PathBuf>)| Some([OsString::from(option), path.clone()?.into()]);
        named.into_iter().filter_map(both).flatten().collect()
    }

    pub(crate) fn is_systemd(&self) -> bool {
        self.cgroup_manager.as_deref() == Some("systemd")
    }

    /// # Errors
    /// For what the store has no use for.
    pub(crate) fn check(&self) -> Result<()> {
        const LEVELS: [&str; 8] = ["trace", "debug", "info", "warn", "warning", "error", "fatal", "panic"];
        if let Some(level) = self.log_level.as_ref().filter(|level| !LEVELS.contains(&level.to_lowercase().as_str())) {
            let text = format!("unable to parse log level: not a valid logrus Level: \"{level}\"");
            return Err(Error::msg(text).with_hint(format!("it is one of {}", LEVELS.join(", "))));
        }
        let Some(option) = self.storage_opt.first() else { return Ok(()) };
        let text =
            format!("option --storage-opt: \"{option}\": the store mounts overlay itself and has no such options");
        Err(Error::msg(text).with_hint("leave it out"))
    }

    /// Whether each program that is run is told.
    pub(crate) fn is_telling(&self) -> bool {
        self.log_level.as_deref().is_some_and(|level| ["debug", "trace"].contains(&level.to_lowercase().as_str()))
    }

    /// Whether only what failed is told.
    pub(crate) fn is_silent(&self) -> bool {
        let level = self.log_level.as_deref().unwrap_or_default().to_lowercase();
        ["error", "fatal", "panic"].contains(&level.as_str())
    }
}
