//! Capabilities: capabilities(7).

use hoy_sys::capability::NAMES;

use crate::{CapabilitySets, Error, Host, Options, Result};

/// What a container has unless told otherwise: containers.conf(5) "default_capabilities".
const DEFAULT: [&str; 11] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// The five sets for a process of user `uid`.
///
/// An ordinary user gets only what was asked for by name, and through the ambient set; nobody inherits anything else.
/// In a build such a user has none.
pub(crate) fn sets(options: &Options, uid: u32, host: &Host) -> Result<CapabilitySets> {
    let added = Given::read("--cap-add", &options.cap_add)?;
    let dropped = Given::read("--cap-drop", &options.cap_drop)?;
    let usual = options.defaults.capabilities.as_ref();
    let usual = usual.map(|names| Given::read("default_capabilities", names)).transpose()?;
    let is_usual = |name: &str| match &usual {
        None => DEFAULT.contains(&name),
        Some(usual) => usual.all || usual.names.iter().any(|n| n == name),
    };
    if let Some(both) = added.names.iter().find(|name| dropped.names.contains(*name)) {
        return Err(Error::option("--cap-add", both.to_lowercase(), "it is dropped by --cap-drop as well"));
    }
    let available = |index: usize| host.bounding & (1 << index) != 0 && index as u64 <= u64::from(host.last_capability);
    let wanted = |name: &str| {
        let explicit = added.names.iter().any(|n| n == name);
        let base = options.privileged || added.all || (!dropped.all && is_usual(name));
        explicit || (base && !dropped.names.iter().any(|n| n == name))
    };
    for name in &added.names {
        let index = NAMES.iter().position(|known| known == name).unwrap_or(usize::MAX);
        if index >= 64 || !available(index) {
            return Err(Error::option("--cap-add", name.to_lowercase(), "this process may not have it itself"));
        }
    }
    let bounding: Vec<&str> =
        NAMES.iter().enumerate().filter(|(i, n)| wanted(n) && available(*i)).map(|(_, name)| *name).collect();
    let full = |names: &[&str]| names.iter().map(|name| format!("CAP_{name}")).collect::<Vec<_>>();
    if uid == 0 {
        let all = full(&bounding);
        return Ok(CapabilitySets {
            bounding: all.clone(),
            effective: all.clone(),
            permitted: all,
            ..CapabilitySets::default()
        });
    }
    let is_own = |name: &&str| !options.is_build && added.names.iter().any(|n| n == name);
    let own: Vec<&str> = bounding.iter().copied().filter(is_own).collect();
    let own = full(&own);
    Ok(CapabilitySets {
        bounding: full(&bounding),
        effective: own.clone(),
        inheritable: own.clone(),
        permitted: own.clone(),
        ambient: own,
    })
}

struct Given {
    all: bool,
    names: Vec<String>,
}

impl Given {
    fn read(option: &'static str, texts: &[String]) -> Result<Self> {
        let mut given = Self { all: false, names: Vec::new() };
        for text in texts.iter().flat_map(|text| text.split(',')) {
            let upper = text.trim().to_uppercase();
            let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
            match name {
                "ALL" => given.all = true,
                name if NAMES.contains(&name) => given.names.push(name.to_owned()),
                _ => return Err(Error::option(option, text, "no capability has this name: capabilities(7)")),
            }
        }
        Ok(given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Defaults;
    use crate::tests::host;

    #[test]
    fn who_gets_what() {
        let words = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let run = |add: &[&str], drop: &[&str], uid| {
            let options = Options { cap_add: words(add), cap_drop: words(drop), ..Options::default() };
            sets(&options, uid, &host()).map(|sets| (sets.bounding.len(), sets.effective, sets.inheritable.len()))
        };
        let root = run(&[], &[], 0).unwrap();
        assert_eq!((root.0, root.1.len(), root.2), (11, 11, 0));
        assert_eq!(run(&[], &[], 1000).unwrap(), (11, vec![], 0));
        assert_eq!(run(&["net_raw"], &[], 1000).unwrap(), (12, words(&["CAP_NET_RAW"]), 1));
        assert_eq!(run(&["CAP_CHOWN"], &["ALL"], 0).unwrap(), (1, words(&["CAP_CHOWN"]), 0));
        assert_eq!(run(&[], &["all"], 0).unwrap(), (0, vec![], 0));
        assert_eq!(run(&["ALL"], &["chown"], 0).unwrap().0, 40);
        assert_eq!(run(&[], &["chown,kill"], 0).unwrap().0, 9);
        let build = |add: &[&str], uid| {
            let options = Options { cap_add: words(add), is_build: true, ..Options::default() };
            sets(&options, uid, &host()).map(|sets| (sets.bounding.len(), sets.effective.len(), sets.ambient.len()))
        };
        assert_eq!((build(&[], 0).unwrap(), build(&["bpf"], 1000).unwrap()), ((11, 11, 0), (12, 0, 0)));
        assert!(run(&["chown"], &["chown"], 0).is_err());
        assert!(run(&["magic"], &[], 0).is_err());
    }

    #[test]
    fn another_default() {
        let run = |capabilities: &[&str], drop: &[&str]| {
            let words = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
            let defaults = Defaults { capabilities: Some(words(capabilities)), ..Defaults::default() };
            let options = Options { defaults, cap_drop: words(drop), ..Options::default() };
            sets(&options, 0, &host()).map(|sets| sets.bounding)
        };
        assert_eq!(run(&["mknod", "CAP_CHOWN"], &[]).unwrap(), ["CAP_CHOWN", "CAP_MKNOD"]);
        assert_eq!(run(&["mknod", "CAP_CHOWN"], &["chown"]).unwrap(), ["CAP_MKNOD"]);
        assert_eq!(run(&[], &[]).unwrap(), [""; 0]);
        assert!(run(&["magic"], &[]).is_err());
    }

    #[test]
    fn no_more_than_the_caller() {
        let small = Host { bounding: 1, ..host() };
        let options = Options { privileged: true, ..Options::default() };
        assert_eq!(sets(&options, 0, &small).unwrap().bounding, ["CAP_CHOWN"]);
        let options = Options { cap_add: vec!["bpf".to_owned()], ..Options::default() };
        assert!(sets(&options, 0, &small).unwrap_err().to_string().contains("may not have it"));
    }
}
