//! Which file gets which value (runtime-spec config-linux.md "Control groups"; kernel cgroup-v1/, cgroup-v2.rst).

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};

use crate::{Error, Result};

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

fn write(controller: &str, file: impl Into<String>, value: impl ToString) -> Write {
    Write { controller: controller.to_owned(), file: file.into(), value: value.to_string() }
}

/// Decides what is written for `resources`; device rules apart.
///
/// # Errors
/// [`Error::Name`] for a key of `unified` that is no plain file name, [`Error::Unavailable`] for what this version of
/// control groups does not have.
pub fn plan(resources: &LinuxResources, v2: bool) -> Result<Vec<Write>> {
    let mut out = Vec::new();
    if let Some(memory) = resources.memory() {
        if v2 { memory_v2(memory, &mut out)? } else { memory_v1(memory, &mut out) }
    }
    if let Some(cpu) = resources.cpu() {
        if v2 {
            cpu_v2(cpu, &mut out)?
        } else {
            cpu_v1(cpu, &mut out)
        }
        out.extend(cpu.cpus().iter().map(|cpus| write("cpuset", "cpuset.cpus", cpus)));
        out.extend(cpu.mems().iter().map(|mems| write("cpuset", "cpuset.mems", mems)));
    }
    if let Some(pids) = resources.pids() {
        let limit = if pids.limit() > 0 { pids.limit().to_string() } else { "max".to_owned() };
        out.push(write("pids", "pids.max", limit));
    }
    if let Some(block) = resources.block_io() {
        if v2 { block_v2(block, &mut out)? } else { block_v1(block, &mut out) }
    }
    for huge in resources.hugepage_limits().iter().flatten() {
        let suffix = if v2 { "max" } else { "limit_in_bytes" };
        let file = format!("hugetlb.{}.{suffix}", huge.page_size());
        plain(&file)?;
        out.push(write("hugetlb", file, huge.limit()));
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

fn unified(resources: &LinuxResources, v2: bool, out: &mut Vec<Write>) -> Result<()> {
    let mut keys: Vec<_> = resources.unified().iter().flatten().collect();
    keys.sort();
    for (file, value) in keys {
        if !v2 {
            return Err(unavailable(file, "\"unified\" needs control groups of version 2"));
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

fn unavailable(controller: &str, reason: &str) -> Error {
    Error::Unavailable { controller: controller.to_owned(), reason: reason.to_owned() }
}

fn memory_v1(memory: &LinuxMemory, out: &mut Vec<Write>) {
    // The sum of memory and swap may not be below memory: memory first.
    out.extend(memory.limit().map(|n| write("memory", "memory.limit_in_bytes", n)));
    out.extend(memory.swap().map(|n| write("memory", "memory.memsw.limit_in_bytes", n)));
    out.extend(memory.reservation().map(|n| write("memory", "memory.soft_limit_in_bytes", n)));
    out.extend(memory.swappiness().map(|n| write("memory", "memory.swappiness", n)));
    out.extend(memory.disable_oom_killer().filter(|yes| *yes).map(|_| write("memory", "memory.oom_control", 1)));
}

fn memory_v2(memory: &LinuxMemory, out: &mut Vec<Write>) -> Result<()> {
    let or_max = |n: i64| if n < 0 { "max".to_owned() } else { n.to_string() };
    let limit = memory.limit().filter(|n| *n != 0);
    out.extend(limit.map(|n| write("memory", "memory.max", or_max(n))));
    if let Some(swap) = memory.swap().filter(|n| *n != 0) {
        // Here the limit is of swap alone; the configuration's is of memory and swap together.
        let alone = match limit {
            _ if swap < 0 => swap,
            Some(limit) if limit >= 0 && swap >= limit => swap - limit,
            Some(limit) if limit >= 0 => return Err(unavailable("memory", "swap is less than the memory limit")),
            _ => return Err(unavailable("memory", "a swap limit needs a memory limit")),
        };
        out.push(write("memory", "memory.swap.max", or_max(alone)));
    }
    out.extend(memory.reservation().map(|n| write("memory", "memory.low", or_max(n))));
    Ok(())
}

fn cpu_v1(cpu: &LinuxCpu, out: &mut Vec<Write>) {
    out.extend(cpu.shares().filter(|n| *n != 0).map(|n| write("cpu", "cpu.shares", n)));
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
    out.extend(cpu.shares().filter(|n| *n != 0).map(|n| write("cpu", "cpu.weight", weight(n))));
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
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142
}

/// The four lists of throttled devices: v1 file, v2 key, entries.
fn throttles(block: &LinuxBlockIo) -> [(&'static str, &'static str, &[LinuxThrottleDevice]); 4] {
    [
        ("blkio.throttle.read_bps_device", "rbps", block.throttle_read_bps_device().as_deref().unwrap_or_default()),
        ("blkio.throttle.write_bps_device", "wbps", block.throttle_write_bps_device().as_deref().unwrap_or_default()),
        ("blkio.throttle.read_iops_device", "riops", block.throttle_read_iops_device().as_deref().unwrap_or_default()),
        (
            "blkio.throttle.write_iops_device",
            "wiops",
            block.throttle_write_iops_device().as_deref().unwrap_or_default(),
        ),
    ]
}

fn block_v1(block: &LinuxBlockIo, out: &mut Vec<Write>) {
    out.extend(block.weight().filter(|n| *n != 0).map(|n| write("blkio", "blkio.weight", n)));
    out.extend(block.leaf_weight().filter(|n| *n != 0).map(|n| write("blkio", "blkio.leaf_weight", n)));
    for device in block.weight_device().iter().flatten() {
        let name = format!("{}:{}", device.major(), device.minor());
        out.extend(device.weight().map(|n| write("blkio", "blkio.weight_device", format!("{name} {n}"))));
        out.extend(device.leaf_weight().map(|n| write("blkio", "blkio.leaf_weight_device", format!("{name} {n}"))));
    }
    for (file, _, devices) in throttles(block) {
        let line = |d: &LinuxThrottleDevice| format!("{}:{} {}", d.major(), d.minor(), d.rate());
        out.extend(devices.iter().map(|d| write("blkio", file, line(d))));
    }
}

fn block_v2(block: &LinuxBlockIo, out: &mut Vec<Write>) -> Result<()> {
    if block.leaf_weight().is_some_and(|n| n != 0) {
        return Err(unavailable("io", "control groups of version 2 have no leaf weight"));
    }
    // 10 to 1000 there, 1 to 10000 here.
    let convert = |n: u16| 1 + (u64::from(n.clamp(10, 1000)) - 10) * 9_999 / 990;
    out.extend(block.weight().filter(|n| *n != 0).map(|n| write("io", "io.weight", format!("default {}", convert(n)))));
    for device in block.weight_device().iter().flatten() {
        let line = |n: u16| format!("{}:{} {}", device.major(), device.minor(), convert(n));
        out.extend(device.weight().map(|n| write("io", "io.weight", line(n))));
    }
    for (_, key, devices) in throttles(block) {
        let line = |d: &LinuxThrottleDevice| format!("{}:{} {key}={}", d.major(), d.minor(), d.rate());
        out.extend(devices.iter().map(|d| write("io", "io.max", line(d))));
    }
    Ok(())
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
            (r#"{"cpu":{"quota":-1}}"#, &["cpu.cfs_quota_us=-1"], &["cpu.max=max 100000"]),
            (r#"{"pids":{"limit":0}}"#, &["pids.max=max"], &["pids.max=max"]),
            (r#"{"pids":{"limit":7}}"#, &["pids.max=7"], &["pids.max=7"]),
            (
                r#"{"hugepageLimits":[{"pageSize":"2MB","limit":9}]}"#,
                &["hugetlb.2MB.limit_in_bytes=9"],
                &["hugetlb.2MB.max=9"],
            ),
            (
                r#"{"blockIO":{"weight":100,"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":5}]}}"#,
                &["blkio.weight=100", "blkio.throttle.read_bps_device=8:0 5"],
                &["io.weight=default 910", "io.max=8:0 rbps=5"],
            ),
            (
                r#"{"unified":{"memory.high":"9"}}"#,
                &["set memory.high limit: \"unified\" needs control groups of version 2"],
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
            assert_eq!(lines(&json, true), [format!("\"{key}\" is not a file of a control group")]);
        }
        let json = r#"{"hugepageLimits":[{"pageSize":"../x","limit":9}]}"#;
        assert!(lines(json, false).concat().ends_with("is not a file of a control group"));
    }
}
