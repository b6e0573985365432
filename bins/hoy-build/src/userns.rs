//! The user namespace of containers, in buildah's words.

use clap::Args;
use hoy_cli::{Error, Result};

/// Which ids commands have, and which of this machine's these are.
#[derive(Debug, Args)]
pub(crate) struct UserNamespace {
    /// The user namespace of commands: auto[:OPTIONS], private or host (default host)
    #[arg(long, value_name = "MODE")]
    userns: Option<String>,
    /// Users in the container as users outside of it
    #[arg(long, value_name = "CONTAINER:HOST:SIZE", value_delimiter = ',')]
    userns_uid_map: Vec<String>,
    /// Groups in the container as groups outside of it
    #[arg(long, value_name = "CONTAINER:HOST:SIZE", value_delimiter = ',')]
    userns_gid_map: Vec<String>,
    /// Users are those that /etc/subuid gives to this name
    #[arg(long, value_name = "NAME")]
    userns_uid_map_user: Option<String>,
    /// Groups are those that /etc/subgid gives to this name
    #[arg(long, value_name = "NAME")]
    userns_gid_map_group: Option<String>,
}

impl UserNamespace {
    /// The options of `hoy-storage create` that mean the same.
    ///
    /// # Errors
    /// Contradictions, and a namespace that is there already.
    pub(crate) fn options(&self) -> Result<Vec<String>> {
        let mode = self.userns.as_deref();
        let (user, group) = (self.userns_uid_map_user.as_ref(), self.userns_gid_map_group.as_ref());
        let has_maps = !self.userns_uid_map.is_empty() || !self.userns_gid_map.is_empty();
        if mode == Some("host") && (has_maps || user.or(group).is_some()) {
            return Err(Error::msg("option --userns: host: id maps need a user namespace"));
        }
        if self.userns_uid_map.is_empty() && !self.userns_gid_map.is_empty() && self.userns_uid_map_user.is_none() {
            return Err(Error::msg("userns-gid-map can not be used without --userns-uid-map"));
        }
        check("userns-uid-map", &self.userns_uid_map)?;
        check("userns-gid-map", &self.userns_gid_map)?;
        let mut options = Vec::new();
        let mut add = |name: &str, value: &str| options.push(format!("--{name}={value}"));
        self.userns_uid_map.iter().for_each(|map| add("uidmap", map));
        self.userns_gid_map.iter().for_each(|map| add("gidmap", map));
        // One name serves for both.
        user.or(group).into_iter().for_each(|name| add("subuidname", name));
        group.or(user).into_iter().for_each(|name| add("subgidname", name));
        match mode {
            None | Some("host") => {}
            Some("" | "container" | "private") if options.is_empty() => options = own_ids()?,
            Some("" | "container" | "private") => {}
            Some(auto) if auto == "auto" || auto.starts_with("auto:") => options.push(format!("--userns={auto}")),
            Some(other) => {
                let text = format!("option --userns: \"{other}\": there are auto, private and host");
                return Err(Error::msg(text).with_hint("say with --userns-uid-map which ids another namespace has"));
            }
        }
        Ok(options)
    }
}

/// Refuses maps that are none, whether anything comes to have these ids or not.
fn check(name: &str, maps: &[String]) -> Result<()> {
    let is_map = |map: &String| map.split(':').count() == 3 && map.split(':').all(|part| part.parse::<u32>().is_ok());
    if maps.iter().all(is_map) {
        return Ok(());
    }
    let text =
        format!("initializing ID mappings: {name} setting is malformed expected [\"uint32:uint32:uint32\"]: {maps:?}");
    Err(Error::msg(text))
}

/// All ids that there are here, each as itself: user_namespaces(7).
fn own_ids() -> Result<Vec<String>> {
    let mut options = Vec::new();
    for (name, file) in [("uidmap", "/proc/self/uid_map"), ("gidmap", "/proc/self/gid_map")] {
        for line in std::fs::read_to_string(file)?.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            if let [inside, _, count] = words.as_slice() {
                options.push(format!("--{name}={inside}:{inside}:{count}"));
            }
        }
    }
    Ok(options)
}
