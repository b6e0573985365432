//! A further process in a running container.

use hoy_oci::IdMaps;

use crate::generate::{check_cwd, check_mapped, process_user};
use crate::{CapabilitySets, Config, Error, Host, Options, Process, Result, Users, capability, env};

/// The process that `command` is in the container of `config`: of its environment, limits and privileges, unless
/// `options` (`env`, `env_file`, `user`, `workdir`, `tty`, `privileged`) say otherwise.
///
/// An ordinary user has no capabilities; privileges never exceed the container's unless `privileged` is asked for.
///
/// # Errors
/// [`Error`] with the option at fault.
pub fn exec_process(
    config: &Config,
    users: &Users,
    host: &Host,
    options: &Options,
    command: &[String],
) -> Result<Process> {
    if command.first().is_none_or(String::is_empty) {
        return Err(Error::NoCommand);
    }
    let linux = &config.linux;
    let maps = IdMaps { uid_mappings: linux.uid_mappings.clone(), gid_mappings: linux.gid_mappings.clone() };
    let inside = (!maps.uid_mappings.is_empty()).then(|| host.inside(&maps));
    let host = inside.as_ref().unwrap_or(host);
    let mut process = config.process.clone();
    process.args = command.to_vec();
    process.terminal = options.tty;
    if let Some(text) = &options.user {
        let user = users.find(text)?;
        check_mapped(text, &user, host)?;
        process.user = process_user(&user, options, host)?;
        process.env.retain(|entry| !entry.starts_with("HOME="));
        process.env.push(format!("HOME={}", user.home));
        let bounding = process.capabilities.bounding.clone();
        process.capabilities = CapabilitySets { bounding: bounding.clone(), ..CapabilitySets::default() };
        if user.uid == 0 {
            process.capabilities.effective = bounding.clone();
            process.capabilities.permitted = bounding;
        }
    }
    if options.privileged {
        process.capabilities = capability::sets(options, process.user.uid, host)?;
    }
    if let Some(text) = &options.workdir {
        process.cwd = check_cwd(text).map_err(|reason| Error::option("--workdir", text, reason))?;
    }
    process.env = env::further(&process.env, options, &host.environment)?;
    Ok(process)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{default_config, host};

    #[test]
    fn further_processes() {
        let users = Users::parse("root:x:0:0::/root:\nbob:x:7:8::/home/bob:\n", "");
        let config = default_config();
        let exec = |options: &Options| exec_process(&config, &users, &host(), options, &["id".to_owned()]).unwrap();
        let same = exec(&Options::default());
        assert_eq!((&same.env, &same.capabilities), (&config.process.env, &config.process.capabilities));
        let bob = Options { user: Some("bob".to_owned()), env: vec!["A=1".to_owned()], ..Options::default() };
        let bob = exec(&bob);
        assert_eq!((bob.user.uid, bob.user.gid), (7, 8));
        assert!(bob.capabilities.effective.is_empty() && bob.capabilities.permitted.is_empty());
        assert_eq!(bob.capabilities.bounding, config.process.capabilities.bounding);
        assert!(bob.env.contains(&"HOME=/home/bob".to_owned()) && bob.env.contains(&"A=1".to_owned()));
        let cwd = Options { workdir: Some("/proc/self/fd/7".to_owned()), ..Options::default() };
        assert!(exec_process(&config, &users, &host(), &cwd, &["id".to_owned()]).is_err());
    }
}
