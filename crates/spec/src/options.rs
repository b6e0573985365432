//! The options of `podman create` that shape the configuration.

use std::path::PathBuf;

use clap::{ArgAction, Args};

use crate::Defaults;

/// What may be asked of a container beyond its image; the defaults ask nothing.
#[derive(Debug, Clone, Default, Args)]
pub struct Options {
    /// Set an environment variable; NAME alone takes the caller's value
    #[arg(short = 'e', long, value_name = "NAME[=VALUE]", help_heading = "Process")]
    pub env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE", help_heading = "Process")]
    pub env_file: Vec<PathBuf>,
    /// Leave out a variable that the image or the defaults set
    #[arg(long, value_name = "NAME", help_heading = "Process")]
    pub unsetenv: Vec<String>,
    /// Replace the image's entry point: a word, or a JSON list of words
    #[arg(long, value_name = "COMMAND", allow_hyphen_values = true, help_heading = "Process")]
    pub entrypoint: Option<String>,
    /// Run as this user: a name or number, and a group after ':'
    #[arg(short = 'u', long, value_name = "USER[:GROUP]", allow_hyphen_values = true, help_heading = "Process")]
    pub user: Option<String>,
    /// Add a supplementary group
    #[arg(long, value_name = "GROUP", help_heading = "Process")]
    pub group_add: Vec<String>,
    /// Start in this directory of the container
    #[arg(short = 'w', long, value_name = "DIR", help_heading = "Process")]
    pub workdir: Option<String>,
    /// Give the process a terminal
    #[arg(short = 't', long, help_heading = "Process")]
    pub tty: bool,
    /// Run an init that forwards signals and reaps processes
    #[arg(long, help_heading = "Process")]
    pub init: bool,
    /// The init to use, a static program of the host
    #[arg(long, value_name = "FILE", help_heading = "Process")]
    pub init_path: Option<PathBuf>,
    /// Mask for new files, in octal
    #[arg(long, value_name = "MASK", help_heading = "Process")]
    pub umask: Option<String>,
    /// How readily the process is killed when memory runs out, -1000 to 1000
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true, help_heading = "Process")]
    pub oom_score_adj: Option<i32>,
    /// Set a resource limit
    #[arg(long, value_name = "NAME=SOFT[:HARD]", help_heading = "Process")]
    pub ulimit: Vec<String>,
    /// The signal that stops the container
    #[arg(long, value_name = "SIGNAL", help_heading = "Process")]
    pub stop_signal: Option<String>,

    /// Add a capability, or ALL
    #[arg(long, value_name = "CAPABILITY", help_heading = "Security")]
    pub cap_add: Vec<String>,
    /// Take away a capability, or ALL
    #[arg(long, value_name = "CAPABILITY", help_heading = "Security")]
    pub cap_drop: Vec<String>,
    /// Give every capability and device and hide nothing
    #[arg(long, help_heading = "Security")]
    pub privileged: bool,
    /// It is a command of an image's build: who is not root has no capability in one, as with buildah.
    #[arg(skip)]
    pub is_build: bool,
    /// no-new-privileges, seccomp=FILE, seccomp=unconfined, mask=PATHS, unmask=PATHS, label=disable, apparmor=unconfined
    #[arg(long, value_name = "OPTION", help_heading = "Security")]
    pub security_opt: Vec<String>,

    /// Bind a directory or file of the host
    #[arg(short = 'v', long, value_name = "SOURCE:TARGET[:OPTIONS]", help_heading = "Files")]
    pub volume: Vec<String>,
    /// Mount: type=bind,source=…,target=… or type=tmpfs,target=…
    #[arg(long, value_name = "KEY=VALUE,…", help_heading = "Files")]
    pub mount: Vec<String>,
    /// Mount an empty tmpfs
    #[arg(long, value_name = "TARGET[:OPTIONS]", help_heading = "Files")]
    pub tmpfs: Vec<String>,
    /// Mount the root file system read-only
    #[arg(long, help_heading = "Files")]
    pub read_only: bool,
    /// With --read-only, whether /run, /tmp and /var/tmp are writable tmpfs (default true)
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", help_heading = "Files")]
    pub read_only_tmpfs: Option<bool>,
    /// Give access to a device of the host
    #[arg(long, value_name = "HOST[:TARGET][:rwm]", help_heading = "Files")]
    pub device: Vec<String>,
    /// Where devices of vendors are described; none are the directories of the specification
    #[arg(skip)]
    pub cdi_directories: Vec<PathBuf>,
    /// Where hooks are described; none are none
    #[arg(skip)]
    pub hooks_directories: Vec<PathBuf>,
    /// What is so unless these options say otherwise
    #[arg(skip)]
    pub defaults: Defaults,
    /// Size of /dev/shm
    #[arg(long, value_name = "SIZE", help_heading = "Files")]
    pub shm_size: Option<String>,

    /// Host name
    #[arg(short = 'h', long, value_name = "NAME", help_heading = "Namespaces")]
    pub hostname: Option<String>,
    /// host or none (default none)
    #[arg(long, visible_alias = "net", value_name = "MODE", help_heading = "Namespaces")]
    pub network: Option<String>,
    /// host or private (default private)
    #[arg(long, value_name = "MODE", help_heading = "Namespaces")]
    pub pid: Option<String>,
    /// host or private (default private)
    #[arg(long, value_name = "MODE", help_heading = "Namespaces")]
    pub ipc: Option<String>,
    /// host or private (default private)
    #[arg(long, value_name = "MODE", help_heading = "Namespaces")]
    pub uts: Option<String>,
    /// host or private (default private)
    #[arg(long, value_name = "MODE", help_heading = "Namespaces")]
    pub cgroupns: Option<String>,
    /// The user namespace: auto, keep-id, nomap, host, private, container:ID, ns:PATH (default host)
    #[arg(long, value_name = "MODE[:OPTIONS]", help_heading = "Namespaces")]
    pub userns: Option<String>,
    /// Map user ids into the container
    #[arg(long, value_name = "CONTAINER:HOST:SIZE", help_heading = "Namespaces")]
    pub uidmap: Vec<String>,
    /// Map group ids into the container
    #[arg(long, value_name = "CONTAINER:HOST:SIZE", help_heading = "Namespaces")]
    pub gidmap: Vec<String>,
    /// Map the user ids that /etc/subuid gives to this name
    #[arg(long, value_name = "NAME", help_heading = "Namespaces")]
    pub subuidname: Option<String>,
    /// Map the group ids that /etc/subgid gives to this name
    #[arg(long, value_name = "NAME", help_heading = "Namespaces")]
    pub subgidname: Option<String>,
    /// Set a kernel parameter of the container's namespaces
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Namespaces")]
    pub sysctl: Vec<String>,

    /// Most memory, in bytes or with b, k, m, g
    #[arg(short = 'm', long, value_name = "SIZE", help_heading = "Resources")]
    pub memory: Option<String>,
    /// Most memory and swap together; -1 for no limit
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, help_heading = "Resources")]
    pub memory_swap: Option<String>,
    /// Memory to come down to when it is short
    #[arg(long, value_name = "SIZE", help_heading = "Resources")]
    pub memory_reservation: Option<String>,
    /// Number of processors, as 1.5
    #[arg(long, value_name = "NUMBER", help_heading = "Resources")]
    pub cpus: Option<f64>,
    /// Weight against other containers, 1024 being the usual
    #[arg(short = 'c', long, value_name = "NUMBER", help_heading = "Resources")]
    pub cpu_shares: Option<u64>,
    /// Microseconds of processor time in each period
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true, help_heading = "Resources")]
    pub cpu_quota: Option<i64>,
    /// Length of that period
    #[arg(long, value_name = "MICROSECONDS", help_heading = "Resources")]
    pub cpu_period: Option<u64>,
    /// Processors to use, as 0-2,4
    #[arg(long, value_name = "LIST", help_heading = "Resources")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes to use, as 0-1
    #[arg(long, value_name = "LIST", help_heading = "Resources")]
    pub cpuset_mems: Option<String>,
    /// Most processes; 0 or -1 for no limit
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true, help_heading = "Resources")]
    pub pids_limit: Option<i64>,
    /// enabled or disabled: whether the container has a control group (default enabled)
    #[arg(long, value_name = "MODE", help_heading = "Resources")]
    pub cgroups: Option<String>,
    /// Add an annotation
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Resources")]
    pub annotation: Vec<String>,
}

impl Options {
    /// The options about the ids of the user namespace, as `hoy-storage create` takes them.
    pub fn id_options(&self) -> Vec<String> {
        let option = |name: &str, value: &String| format!("--{name}={value}");
        let mut all: Vec<String> = Vec::new();
        all.extend(self.userns.iter().map(|value| option("userns", value)));
        all.extend(self.uidmap.iter().map(|value| option("uidmap", value)));
        all.extend(self.gidmap.iter().map(|value| option("gidmap", value)));
        all.extend(self.subuidname.iter().map(|value| option("subuidname", value)));
        all.extend(self.subgidname.iter().map(|value| option("subgidname", value)));
        all
    }

    /// A mode of `--userns` and what follows its colon.
    pub fn user_namespace_mode(&self) -> (&str, &str) {
        let mode = self.userns.as_deref().unwrap_or("");
        mode.split_once(':').unwrap_or((mode, ""))
    }
}
