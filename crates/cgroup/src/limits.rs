//! Which file gets which value (runtime-spec config-linux.md "Control groups"; kernel cgroup-v1/, cgroup-v2.rst).

use oci_spec::runtime::{LinuxCpu, LinuxPids, LinuxResources};

use crate::{Error, Result, block, device, memory};

/// A value for a file of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The controller whose limit it is.
    pub controller: String,
    /// The file's name.
    pub file: String,
    /// What is written.
    pub value: String,
}

pub(crate) fn write(controller: &str, file: impl Into<String>, value: impl ToString) -> Write {
    Write { controller: controller.to_owned(), file: file.into(), value: value.to_string() }
}

/// Decides what is written for `resources`; device rules apart.
///
/// # Errors
/// [`Error::Name`] for a key of `unified` that is no plain file name, [`Error::Unavailable`] for what this version of
/// control groups does not have.
pub fn plan(resources: &LinuxResources, v2: bool) -> Result<Vec<Write>> {
    device::check(resources.devices().as_deref().unwrap_or_default())?;
    let mut out = Vec::new();
    if let Some(memory) = resources.memory() {
        if v2 { memory::v2(memory, &mut out)? } else { memory::v1(memory, &mut out) }
    }
    if let Some(cpu) = resources.cpu() {
        if v2 {
            cpu_v2(cpu, &mut out)?
        } else {
            cpu_v1(cpu, &mut out)
        }
        out.extend(cpu.cpus().iter().filter(|list| !list.is_empty()).map(|cpus| write("cpuset", "cpuset.cpus", cpus)));
        out.extend(cpu.mems().iter().filter(|list| !list.is_empty()).map(|mems| write("cpuset", "cpuset.mems", mems)));
    }
    if let Some(pids) = resources.pids() {
        let limit = pid_limit(pids).map_or("max".to_owned(), |limit| limit.to_string());
        out.push(write("pids", "pids.max", limit));
    }
    if let Some(block) = resources.block_io() {
        if v2 { block::v2(block, &mut out)? } else { block::v1(block, &mut out) }
    }
    for huge in resources.hugepage_limits().iter().flatten() {
        let suffix = if v2 { "max" } else { "limit_in_bytes" };
        // What is reserved counts as well: a mapping is refused at once, and no touch of it ends in SIGBUS.
        for kind in ["", "rsvd."] {
            let file = format!("hugetlb.{}.{kind}{suffix}", huge.page_size());
            plain(&file)?;
            out.push(write("hugetlb", file, huge.limit()));
        }
    }
    if let Some(network) = resources.network() {
        if v2 && (network.class_id().is_some() || network.priorities().is_some()) {
            return Err(unavailable("network", "control groups of version 2 have no network classes"));
        }
        out.extend(network.class_id().map(|class| write("net_cls", "net_cls.classid", class)));
        for interface in network.priorities().iter().flatten() {
            let value = format!("{} {}", interface.name(), interface.priority());
            out.push(write("net_prio", "net_prio.ifpriomap", value));
        }
    }
    for (device, limits) in resources.rdma().iter().flatten() {
        let number = |n: Option<u32>| n.map_or("max".to_owned(), |n| n.to_string());
        let (handles, objects) = (number(limits.hca_handles()), number(limits.hca_objects()));
        out.push(write("rdma", "rdma.max", format!("{device} hca_handle={handles} hca_object={objects}")));
    }
    unified(resources, v2, &mut out)?;
    Ok(out)
}

/// The largest number of processes; none without a limit, which -1 says.
///
/// systemd does not take 0, and whoever is in the group counts: 1 means the same, that nobody makes another.
pub(crate) fn pid_limit(pids: &LinuxPids) -> Option<u64> {
    u64::try_from(pids.limit()).ok().map(|limit| limit.max(1))
}

fn unified(resources: &LinuxResources, v2: bool, out: &mut Vec<Write>) -> Result<()> {
    let mut keys: Vec<_> = resources.unified().iter().flatten().collect();
    keys.sort();
    for (file, value) in keys {
        if !v2 {
            return Err(unavailable(file, "invalid configuration: \"unified\" needs control groups of version 2"));
        }
        plain(file)?;
        let controller = file.split('.').next().unwrap_or_default();
        out.push(write(controller, file, value));
    }
    Ok(())
}

fn plain(file: &str) -> Result<()> {
    let ok = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if file.contains("..") || file.starts_with('.') || !file.contains('.') || !file.chars().all(ok) {
        return Err(Error::Name(file.to_owned()));
    }
    Ok(())
}

pub(crate) fn unavailable(controller: &str, reason: &str) -> Error {
    Error::Unavailable { controller: controller.to_owned(), reason: reason.to_owned() }
}

/// The share asked for; a group of idle processes has none.
fn shares(cpu: &LinuxCpu) -> Option<u64> {
    cpu.shares().filter(|n| *n != 0 && cpu.idle() != Some(1))
}

fn cpu_v1(cpu: &LinuxCpu, out: &mut Vec<Write>) {
    out.extend(shares(cpu).map(|n| write("cpu", "cpu.shares", n)));
    out.extend(cpu.period().filter(|n| *n != 0).map(|n| write("cpu", "cpu.cfs_period_us", n)));
    out.extend(cpu.quota().filter(|n| *n != 0).map(|n| write("cpu", "cpu.cfs_quota_us", n)));
    out.extend(cpu.burst().map(|n| write("cpu", "cpu.cfs_burst_us", n)));
    out.extend(cpu.realtime_period().filter(|n| *n != 0).map(|n| write("cpu", "cpu.rt_period_us", n)));
    out.extend(cpu.realtime_runtime().filter(|n| *n != 0).map(|n| write("cpu", "cpu.rt_runtime_us", n)));
    out.extend(cpu.idle().map(|n| write("cpu", "cpu.idle", n)));
}

fn cpu_v2(cpu: &LinuxCpu, out: &mut Vec<Write>) -> Result<()> {
    let realtime = cpu.realtime_period().is_some_and(|n| n != 0) || cpu.realtime_runtime().is_some_and(|n| n != 0);
    if realtime {
        return Err(unavailable("cpu", "control groups of version 2 have no real-time limits"));
    }
    out.extend(shares(cpu).map(|n| write("cpu", "cpu.weight", weight(n))));
    let quota = cpu.quota().filter(|n| *n != 0);
    let period = cpu.period().filter(|n| *n != 0);
    if quota.is_some() || period.is_some() {
        let quota = quota.filter(|n| *n > 0).map_or("max".to_owned(), |n| n.to_string());
        out.push(write("cpu", "cpu.max", format!("{quota} {}", period.unwrap_or(100_000))));
    }
    out.extend(cpu.burst().map(|n| write("cpu", "cpu.max.burst", n)));
    out.extend(cpu.idle().map(|n| write("cpu", "cpu.idle", n)));
    Ok(())
}

/// Shares of 2 to 262144 are weights of 1 to 10000, in proportion, as every runtime has it.
pub(crate) fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(json: &str, v2: bool) -> Vec<String> {
        let resources = serde_json::from_str(json).unwrap();
        match plan(&resources, v2) {
            Ok(writes) => writes.into_iter().map(|w| format!("{}={}", w.file, w.value)).collect(),
            Err(error) => vec![error.to_string()],
        }
    }

    #[test]
    fn files_and_values() {
        let cases: &[(&str, &[&str], &[&str])] = &[
            (
                r#"{"memory":{"limit":1000,"swap":3000,"reservation":500}}"#,
                &["memory.limit_in_bytes=1000", "memory.memsw.limit_in_bytes=3000", "memory.soft_limit_in_bytes=500"],
                &["memory.max=1000", "memory.swap.max=2000", "memory.low=500"],
            ),
            (
                r#"{"memory":{"limit":-1,"swap":-1}}"#,
                &["memory.limit_in_bytes=-1", "memory.memsw.limit_in_bytes=-1"],
                &["memory.max=max", "memory.swap.max=max"],
            ),
            (
                r#"{"cpu":{"shares":1024,"quota":50000,"period":100000,"cpus":"0-1","mems":"0"}}"#,
                &[
                    "cpu.shares=1024",
                    "cpu.cfs_period_us=100000",
                    "cpu.cfs_quota_us=50000",
                    "cpuset.cpus=0-1",
                    "cpuset.mems=0",
                ],
                &["cpu.weight=39", "cpu.max=50000 100000", "cpuset.cpus=0-1", "cpuset.mems=0"],
            ),
            (
                r#"{"cpu":{"shares":2048,"idle":1,"burst":100,"quota":500,"cpus":""}}"#,
                &["cpu.cfs_quota_us=500", "cpu.cfs_burst_us=100", "cpu.idle=1"],
                &["cpu.max=500 100000", "cpu.max.burst=100", "cpu.idle=1"],
            ),
            (
                r#"{"cpu":{"realtimePeriod":1000000,"realtimeRuntime":950000}}"#,
                &["cpu.rt_period_us=1000000", "cpu.rt_runtime_us=950000"],
                &["set cpu limit: control groups of version 2 have no real-time limits"],
            ),
            (
                r#"{"memory":{"limit":0,"swap":0,"reservation":0,"kernel":5,"kernelTCP":6,"disableOOMKiller":false}}"#,
                &["memory.kmem.limit_in_bytes=5", "memory.kmem.tcp.limit_in_bytes=6"],
                &["memory.kmem.limit_in_bytes=5"],
            ),
            (
                r#"{"memory":{"swappiness":3,"disableOOMKiller":true}}"#,
                &["memory.swappiness=3", "memory.oom_control=1"],
                &["set memory limit: control groups of version 2 have no swappiness"],
            ),
            (
                r#"{"memory":{"limit":9,"swap":8}}"#,
                &["memory.limit_in_bytes=9", "memory.memsw.limit_in_bytes=8"],
                &["set memory limit: swap is less than the memory limit"],
            ),
            (
                r#"{"rdma":{"mlx5_1":{"hcaHandles":3}}}"#,
                &["rdma.max=mlx5_1 hca_handle=3 hca_object=max"],
                &["rdma.max=mlx5_1 hca_handle=3 hca_object=max"],
            ),
            (r#"{"cpu":{"quota":-1}}"#, &["cpu.cfs_quota_us=-1"], &["cpu.max=max 100000"]),
            (r#"{"pids":{"limit":-1}}"#, &["pids.max=max"], &["pids.max=max"]),
            (r#"{"pids":{"limit":0}}"#, &["pids.max=1"], &["pids.max=1"]),
            (r#"{"pids":{"limit":7}}"#, &["pids.max=7"], &["pids.max=7"]),
            (
                r#"{"hugepageLimits":[{"pageSize":"2MB","limit":9}]}"#,
                &["hugetlb.2MB.limit_in_bytes=9", "hugetlb.2MB.rsvd.limit_in_bytes=9"],
                &["hugetlb.2MB.max=9", "hugetlb.2MB.rsvd.max=9"],
            ),
            (
                r#"{"blockIO":{"weight":100,"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":5}]}}"#,
                &["blkio.weight=100", "blkio.bfq.weight=100", "blkio.throttle.read_bps_device=8:0 5"],
                &["io.weight=default 910", "io.bfq.weight=default 100", "io.max=8:0 rbps=5"],
            ),
            (
                r#"{"unified":{"memory.high":"9"}}"#,
                &["set memory.high limit: invalid configuration: \"unified\" needs control groups of version 2"],
                &["memory.high=9"],
            ),
            (
                r#"{"network":{"classID":5}}"#,
                &["net_cls.classid=5"],
                &["set network limit: control groups of version 2 have no network classes"],
            ),
        ];
        for (json, v1, v2) in cases {
            assert_eq!(lines(json, false), *v1, "{json}");
            assert_eq!(lines(json, true), *v2, "{json}");
        }
    }

    #[test]
    fn no_name_leads_out_of_the_group() {
        for key in ["../../x.y", "a/b.c", "..", ".x", "x"] {
            let json = format!(r#"{{"unified":{{"{key}":"1"}}}}"#);
            assert_eq!(lines(&json, true), [format!("\"{key}\" is not in the control group")]);
        }
        let json = r#"{"hugepageLimits":[{"pageSize":"../x","limit":9}]}"#;
        assert!(lines(json, false).concat().ends_with("is not in the control group"));
    }
}
