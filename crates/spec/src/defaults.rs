//! What every container of a machine has unless told otherwise.

/// What containers.conf(5) says of containers; what is asked of one wins.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Defaults {
    /// The capabilities, instead of those that are usual here.
    pub capabilities: Option<Vec<String>>,
    /// As `--device`.
    pub devices: Vec<String>,
    /// As `--env`; the image's own win.
    pub env: Vec<String>,
    /// As `--sysctl`; those of a namespace that the container shares with the host are left out.
    pub sysctls: Vec<String>,
    /// As `--ulimit`.
    pub ulimits: Vec<String>,
    /// As `--volume`.
    pub volumes: Vec<String>,
    /// As `--shm-size`.
    pub shm_size: Option<String>,
}
