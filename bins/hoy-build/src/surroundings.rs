//! What commands in a working container have and use: `from` remembers it, each later `run` takes it up.

use std::path::{Path, PathBuf};

use clap::{ArgAction, Args};
use hoy_build::Working;
use hoy_cli::{Context as _, Error, Result};
use hoy_layout::Container;
use hoy_spec::{Mount, Options};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::build::host;
use crate::namespaces::Namespaces;
use crate::resolver::Resolver;

/// The options of `from` that are for commands; they are recorded with the container.
#[derive(Debug, Clone, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Surroundings {
    /// For each later run: bind a directory or file of the host
    #[arg(short, long, value_name = "SOURCE:TARGET[:OPTIONS]")]
    volume: Vec<String>,
    /// Add a capability, or ALL
    #[arg(long, value_name = "CAPABILITY", value_delimiter = ',')]
    cap_add: Vec<String>,
    /// Take away a capability, or ALL
    #[arg(long, value_name = "CAPABILITY", value_delimiter = ',')]
    cap_drop: Vec<String>,
    /// Give access to a device of the host
    #[arg(long, value_name = "HOST[:TARGET][:rwm]")]
    device: Vec<String>,
    /// A further group of the user
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,
    /// Limit of a resource
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    ulimit: Vec<String>,
    /// As podman has it: seccomp=FILE, no-new-privileges, …
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
    /// A name that commands find in /etc/hosts
    #[arg(long, value_name = "NAME:ADDRESS")]
    pub(crate) add_host: Vec<String>,
    #[command(flatten)]
    #[serde(flatten)]
    resolver: Resolver,
    /// Most memory
    #[arg(short, long, value_name = "BYTES")]
    memory: Option<String>,
    /// Most memory and swap together
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// Weight against others that want a processor
    #[arg(short, long, value_name = "WEIGHT")]
    cpu_shares: Option<u64>,
    /// Microseconds of each period
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true)]
    cpu_quota: Option<i64>,
    /// Length of a period
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<u64>,
    /// Only these processors
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Only memory of these nodes
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Make the control groups of commands in this one
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup_parent: Option<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES")]
    shm_size: Option<String>,
    /// host or none
    #[arg(long, visible_alias = "net", value_name = "MODE")]
    pub(crate) network: Option<String>,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) namespaces: Namespaces,
    /// oci or rootless, which are one here, or chroot
    #[arg(long, value_name = "TYPE", value_parser = ["oci", "rootless", "chroot"], env = "BUILDAH_ISOLATION",
          hide_env = true, hide_possible_values = true)]
    pub(crate) isolation: Option<String>,
    /// Pass proxy variables of the environment on (default true)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL",
          hide_possible_values = true, action = ArgAction::Set)]
    pub(crate) http_proxy: Option<bool>,
    /// `--default-mounts-file`.
    #[arg(skip)]
    pub(crate) mounts_file: Option<PathBuf>,
    /// What this version does not know.
    #[arg(skip)]
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

/// What a command is told of where it is.
pub(crate) struct Told<'a> {
    pub(crate) hostname: Option<&'a str>,
    pub(crate) container: &'a Container,
    pub(crate) working: &'a Working,
}

impl Surroundings {
    /// What is recorded of a working container.
    pub(crate) fn of(working: &Working) -> Result<Self> {
        if working.surroundings.is_null() {
            return Ok(Self::default());
        }
        let own: Self = serde_json::from_value(working.surroundings.clone())?;
        match own.unknown.keys().next() {
            None => Ok(own),
            Some(name) => Err(Error::msg(format!("this version does not know \"{name}\", which from recorded"))),
        }
    }

    /// Records it.
    pub(crate) fn record(&self, working: &mut Working) -> hoy_build::Result<()> {
        if *self != Self::default() {
            let json = |source| hoy_build::Error::Json("options of a container", source);
            working.surroundings = serde_json::to_value(self).map_err(json)?;
        }
        Ok(())
    }

    /// Whether it asks for files of its own in /etc.
    pub(crate) fn has_files(&self) -> bool {
        !self.add_host.is_empty() || self.resolver.asked().is_some()
    }

    /// The files that tell a command where it is, made in `directory` and mounted from there.
    pub(crate) fn files(&self, directory: &Path, told: &Told<'_>) -> Result<Vec<Mount>> {
        let Told { hostname, container, working } = *told;
        let hostname = hostname.unwrap_or(container.id.short());
        let mut files = vec![
            ("/etc/hostname", format!("{hostname}\n"), "ro"),
            ("/run/.containerenv", containerenv(container, working), "ro"),
        ];
        // Whoever says that there is no network has the image's own file.
        if !self.add_host.is_empty() || !matches!(self.network.as_deref(), Some("none" | "host")) {
            let own = Ok(format!("127.0.0.1\t{hostname} {}", container.name));
            let lines = std::iter::once(own).chain(self.add_host.iter().map(|text| host(text)));
            let lines = lines.collect::<Result<Vec<_>>>()?;
            let text = format!("127.0.0.1\tlocalhost\n::1\tlocalhost\n{}\n", lines.join("\n"));
            files.push(("/etc/hosts", text, "rw"));
        }
        let resolver = self.resolver.text();
        if !resolver.is_empty() {
            files.push(("/etc/resolv.conf", resolver, "ro"));
        }
        let mount = |(place, text, access): (&str, String, &str)| {
            let path = directory.join(place.trim_start_matches('/').replace('/', "-"));
            std::fs::write(&path, text).context(|| format!("write \"{}\"", path.display()))?;
            let options = ["bind", access].map(str::to_owned).to_vec();
            let source = path.display().to_string();
            Ok(Mount { destination: place.to_owned(), kind: "bind".to_owned(), source, options })
        };
        files.into_iter().map(mount).collect()
    }

    /// Adds it to what a command was asked to have, which wins.
    pub(crate) fn add_to(self, options: &mut Options) {
        let before = |own: Vec<String>, asked: &mut Vec<String>| *asked = [own, std::mem::take(asked)].concat();
        before(self.volume, &mut options.volume);
        before(self.cap_add, &mut options.cap_add);
        before(self.cap_drop, &mut options.cap_drop);
        before(self.device, &mut options.device);
        before(self.group_add, &mut options.group_add);
        before(self.ulimit, &mut options.ulimit);
        before(self.security_opt, &mut options.security_opt);
        options.memory = self.memory;
        options.memory_swap = self.memory_swap;
        options.cpu_shares = self.cpu_shares;
        options.cpu_quota = self.cpu_quota;
        options.cpu_period = self.cpu_period;
        options.cpuset_cpus = self.cpuset_cpus;
        options.cpuset_mems = self.cpuset_mems;
        options.shm_size = self.shm_size;
        options.network = options.network.take().or(self.network);
    }
}

/// What a command finds in `/run/.containerenv`: where it is, as other tools say it there.
fn containerenv(container: &Container, working: &Working) -> String {
    let rootless = u8::from(!hoy_sys::user::is_initial_root());
    let id = working.from_image_id.map(|id| id.hex()).unwrap_or_default();
    format!(
        "engine=\"hoy-build-{} (buildah)\"\nname=\"{}\"\nid=\"{}\"\nimage=\"{}\"\nimageid=\"{id}\"\nrootless={rootless}\n",
        env!("CARGO_PKG_VERSION"),
        container.name,
        container.id,
        working.from_image,
    )
}

/// `host` or `none`: no other network is there, and a namespace of a command's own leads nowhere.
pub(crate) fn network(asked: &str) -> Result<String> {
    match asked {
        "host" => Ok("host".to_owned()),
        "none" | "private" | "container" => Ok("none".to_owned()),
        _ => {
            let text = format!("option --network: unable to find network with name or ID {asked}: network not found");
            Err(Error::msg(text).with_hint("only host and none are there: use --network host to reach the network"))
        }
    }
}
