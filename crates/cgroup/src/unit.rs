//! A container as a unit of systemd: its name, and its limits as properties (systemd.resource-control(5)).

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};

use crate::dbus::Value;
use crate::device::Rule;
use crate::limits::{self, Write};
use crate::{Error, Result, block};

/// The unit of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Its name: `hoy-ID.scope`, or that of a slice.
    pub name: String,
    /// The slice that it is in, or below.
    pub slice: String,
}

impl Unit {
    /// Reads a `cgroupsPath` of the form `slice:prefix:name`, each of which may be empty; with none the name is `id`.
    ///
    /// `is_user` says that the unit is one of a user's systemd, whose slice is `user.slice` if none is named.
    ///
    /// # Errors
    /// [`Error::Systemd`] for a path of another form.
    pub fn parse(path: Option<&str>, id: &str, is_user: bool) -> Result<Self> {
        let wrong = |reason: String| Error::Systemd { doing: "name the unit".to_owned(), reason };
        let (slice, prefix, name) = match path.filter(|path| !path.is_empty()) {
            None => ("", "hoy", id),
            Some(path) => {
                let mut parts = path.splitn(3, ':');
                let form = || wrong(format!("cgroupsPath \"{path}\" is not of the form \"slice:prefix:name\""));
                let mut part = || parts.next().ok_or_else(form);
                (part()?, part()?, part()?)
            }
        };
        let slice = match slice {
            "" if is_user => "user.slice",
            "" => "system.slice",
            other => other,
        };
        let valid = |name: &str| {
            let ok = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
            !name.is_empty() && name.len() < 256 && name.chars().all(ok)
        };
        let name = match (name.ends_with(".slice"), prefix) {
            (true, _) => name.to_owned(),
            (false, "") => format!("{name}.scope"),
            (false, prefix) => format!("{prefix}-{name}.scope"),
        };
        if !slice.ends_with(".slice") || !valid(slice) {
            return Err(wrong(format!("\"{slice}\" is not the name of a slice")));
        }
        if !valid(&name) {
            return Err(wrong(format!("\"{name}\" is not the name of a unit")));
        }
        Ok(Self { name, slice: slice.to_owned() })
    }

    /// Whether it is a slice, which has no processes of its own and cannot be delegated.
    pub fn is_slice(&self) -> bool {
        self.name.ends_with(".slice")
    }
}

type Properties = Vec<(String, Value)>;

fn put(out: &mut Properties, name: &str, value: Value) {
    out.push((name.to_owned(), value));
}

/// The limits of `resources`, as properties; what systemd has no property for is left to the group's files.
///
/// # Errors
/// Those of [`limits::plan`]; [`Error::Systemd`] for a list of processors that is none.
pub(crate) fn limits(resources: &LinuxResources, v2: bool) -> Result<Properties> {
    let mut out = Vec::new();
    if let Some(memory) = resources.memory() {
        memory_limits(memory, v2, &limits::plan(resources, v2)?, &mut out);
    }
    if let Some(cpu) = resources.cpu() {
        cpu_limits(cpu, v2, &mut out)?;
    }
    if let Some(pids) = resources.pids() {
        put(&mut out, "TasksMax", Value::U64(limits::pid_limit(pids).unwrap_or(u64::MAX)));
    }
    if let Some(block) = resources.block_io() {
        block_limits(block, v2, &mut out);
    }
    if v2 {
        let unified = resources.unified().iter().flatten();
        unified.for_each(|(file, value)| out.extend(unified_limit(file, value)));
    }
    Ok(out)
}

fn memory_limits(memory: &LinuxMemory, v2: bool, writes: &[Write], out: &mut Properties) {
    // No limit, a negative number there, is the greatest here.
    let set = |n: Option<i64>| n.filter(|n| *n != 0).map(|n| Value::U64(u64::try_from(n).unwrap_or(u64::MAX)));
    if !v2 {
        out.extend(set(memory.limit()).map(|n| ("MemoryLimit".to_owned(), n)));
        return;
    }
    out.extend(set(memory.limit()).map(|n| ("MemoryMax".to_owned(), n)));
    out.extend(set(memory.reservation()).map(|n| ("MemoryLow".to_owned(), n)));
    let swap = writes.iter().find(|w| w.file == "memory.swap.max");
    out.extend(swap.and_then(|w| unified_limit(&w.file, &w.value)));
}

fn cpu_limits(cpu: &LinuxCpu, v2: bool, out: &mut Properties) -> Result<()> {
    let shares = cpu.shares().filter(|n| *n != 0);
    if v2 {
        // A weight of 0 is how systemd says idle.
        let weight = if cpu.idle() == Some(1) { Some(0) } else { shares.map(limits::weight) };
        out.extend(weight.map(|n| ("CPUWeight".to_owned(), Value::U64(n))));
    } else {
        out.extend(shares.map(|n| ("CPUShares".to_owned(), Value::U64(n))));
    }
    let period = cpu.period().filter(|n| *n != 0);
    if v2 && period.is_some() {
        put(out, "CPUQuotaPeriodUSec", Value::U64(period.unwrap_or_default()));
    }
    if let Some(quota) = cpu.quota().filter(|n| *n != 0) {
        put(out, "CPUQuotaPerSecUSec", Value::U64(per_second(quota, period.unwrap_or(100_000))));
    }
    for (name, list) in [("AllowedCPUs", cpu.cpus()), ("AllowedMemoryNodes", cpu.mems())] {
        if let Some(list) = list.as_deref().filter(|list| v2 && !list.is_empty()) {
            put(out, name, Value::Bytes(bits(list)?));
        }
    }
    Ok(())
}

/// The quota of a second, in microseconds: a multiple of a hundredth of a processor, as systemd has it.
fn per_second(quota: i64, period: u64) -> u64 {
    match u64::try_from(quota) {
        Ok(quota) => quota.saturating_mul(1_000_000).checked_div(period).unwrap_or(u64::MAX).next_multiple_of(10_000),
        Err(_) => u64::MAX,
    }
}

/// `0-2,7` as a mask of bits, the lowest first.
fn bits(list: &str) -> Result<Vec<u8>> {
    let wrong = || Error::Systemd { doing: "limit processors".to_owned(), reason: format!("\"{list}\" is no list") };
    let mut mask: Vec<u8> = Vec::new();
    for part in list.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.parse::<u16>().map_err(|_| wrong());
        for bit in number(first)?..=number(last)? {
            let at = usize::from(bit / 8);
            if mask.len() <= at {
                mask.resize(at + 1, 0);
            }
            mask.get_mut(at).into_iter().for_each(|byte| *byte |= 1 << (bit % 8));
        }
    }
    Ok(mask)
}

fn block_limits(io: &LinuxBlockIo, v2: bool, out: &mut Properties) {
    let weight = io.weight().filter(|n| *n != 0);
    if !v2 {
        out.extend(weight.map(|n| ("BlockIOWeight".to_owned(), Value::U64(n.into()))));
        return;
    }
    out.extend(weight.map(|n| ("IOWeight".to_owned(), Value::U64(block::weight(n)))));
    let path = |major: i64, minor: i64| format!("/dev/block/{major}:{minor}");
    let weights = io.weight_device().iter().flatten();
    let weights = weights.filter_map(|d| Some((path(d.major(), d.minor()), block::weight(d.weight()?))));
    let lists = [
        ("IOReadBandwidthMax", io.throttle_read_bps_device()),
        ("IOWriteBandwidthMax", io.throttle_write_bps_device()),
        ("IOReadIOPSMax", io.throttle_read_iops_device()),
        ("IOWriteIOPSMax", io.throttle_write_iops_device()),
    ];
    let rates = lists.into_iter().map(|(name, devices)| {
        let devices = devices.iter().flatten();
        (name, devices.map(|d| (path(d.major(), d.minor()), d.rate())).collect::<Vec<_>>())
    });
    for (name, rates) in [("IODeviceWeight", weights.collect())].into_iter().chain(rates) {
        if !rates.is_empty() {
            put(out, name, Value::Rates(rates));
        }
    }
}

/// The property for a file of version 2, where there is one.
fn unified_limit(file: &str, value: &str) -> Option<(String, Value)> {
    let number = || if value.trim() == "max" { Some(u64::MAX) } else { value.trim().parse().ok() };
    let name = match file {
        "cpu.weight" => "CPUWeight",
        "memory.high" => "MemoryHigh",
        "memory.low" => "MemoryLow",
        "memory.min" => "MemoryMin",
        "memory.max" => "MemoryMax",
        "memory.swap.max" => "MemorySwapMax",
        "pids.max" => "TasksMax",
        "cpuset.cpus" => return Some(("AllowedCPUs".to_owned(), Value::Bytes(bits(value).ok()?))),
        "cpuset.mems" => return Some(("AllowedMemoryNodes".to_owned(), Value::Bytes(bits(value).ok()?))),
        "cpu.max" => {
            let (quota, period) = value.split_once(' ').unwrap_or((value, "100000"));
            let quota = if quota == "max" { -1 } else { quota.parse().ok()? };
            return Some(("CPUQuotaPerSecUSec".to_owned(), Value::U64(per_second(quota, period.trim().parse().ok()?))));
        }
        _ => return None,
    };
    Some((name.to_owned(), Value::U64(number()?)))
}

/// What a scope of one process is, beside its limits.
pub(crate) fn scope(unit: &Unit, pid: i32, id: &str) -> Properties {
    let mut out = Vec::new();
    put(&mut out, "Description", Value::Text(format!("hoy container {id}")));
    if unit.is_slice() {
        put(&mut out, "Wants", Value::Texts(vec![unit.slice.clone()]));
    } else {
        put(&mut out, "Slice", Value::Text(unit.slice.clone()));
        put(&mut out, "Delegate", Value::Bool(true));
        put(&mut out, "PIDs", Value::Numbers(vec![pid.unsigned_abs()]));
        // A scope that failed would keep its name until somebody resets it.
        put(&mut out, "CollectMode", Value::Text("inactive-or-failed".to_owned()));
    }
    for name in ["MemoryAccounting", "CPUAccounting", "IOAccounting", "TasksAccounting"] {
        put(&mut out, name, Value::Bool(true));
    }
    put(&mut out, "DefaultDependencies", Value::Bool(false));
    out
}

/// The device rules, so that systemd does not undo them: what they allow. The denials between are the group's own.
pub(crate) fn devices(rules: &[Rule], proc_devices: &str) -> Properties {
    let is_open = rules.first().is_some_and(|rule| rule.allow);
    let mut out = vec![("DevicePolicy".to_owned(), Value::Text(if is_open { "auto" } else { "strict" }.to_owned()))];
    if !is_open {
        let allowed = rules.iter().filter(|rule| rule.allow).flat_map(|rule| rule.for_systemd(proc_devices));
        out.push(("DeviceAllow".to_owned(), Value::Pairs(allowed.collect())));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let cases = [
            (None, false, Ok(("system.slice", "hoy-id.scope"))),
            (None, true, Ok(("user.slice", "hoy-id.scope"))),
            (Some("machine.slice:libpod:abc"), false, Ok(("machine.slice", "libpod-abc.scope"))),
            (Some("::abc"), false, Ok(("system.slice", "abc.scope"))),
            (Some(":x:a.slice"), false, Ok(("system.slice", "a.slice"))),
            (Some("/a/b"), false, Err(())),
            (Some("a:b"), false, Err(())),
            (Some("a:b:c"), false, Err(())),
            (Some("a.slice:b:c/d"), false, Err(())),
            (Some("../a.slice:b:c"), false, Err(())),
        ];
        for (path, is_user, want) in cases {
            let unit = Unit::parse(path, "id", is_user);
            let unit = unit.as_ref().map(|unit| (unit.slice.as_str(), unit.name.as_str())).map_err(drop);
            assert_eq!(unit, want, "{path:?}");
        }
    }

    #[test]
    fn properties() {
        let of = |json: &str, v2: bool| limits(&serde_json::from_str(json).unwrap(), v2).unwrap();
        let number = |name: &str, n: u64| (name.to_owned(), Value::U64(n));
        let memory = r#"{"memory":{"limit":1000,"swap":3000,"reservation":500},"pids":{"limit":7}}"#;
        let want = [("MemoryMax", 1000), ("MemoryLow", 500), ("MemorySwapMax", 2000), ("TasksMax", 7)];
        assert_eq!(of(memory, true), want.map(|(name, n)| number(name, n)));
        assert_eq!(of(memory, false), [number("MemoryLimit", 1000), number("TasksMax", 7)]);
        let cpu =
            r#"{"cpu":{"shares":1024,"quota":25000,"period":50000,"cpus":"0-2,9","mems":"0"},"pids":{"limit":-1}}"#;
        let set = |name: &str, bits: &[u8]| (name.to_owned(), Value::Bytes(bits.to_vec()));
        let want = [
            number("CPUWeight", 39),
            number("CPUQuotaPeriodUSec", 50_000),
            number("CPUQuotaPerSecUSec", 500_000),
            set("AllowedCPUs", &[7, 2]),
            set("AllowedMemoryNodes", &[1]),
            number("TasksMax", u64::MAX),
        ];
        assert_eq!(of(cpu, true), want);
        let block = r#"{"blockIO":{"weight":10,"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":5}]}}"#;
        let rates = Value::Rates(vec![("/dev/block/8:0".to_owned(), 5)]);
        assert_eq!(of(block, true), [number("IOWeight", 1), ("IOReadBandwidthMax".to_owned(), rates)]);
        let unified = r#"{"unified":{"memory.high":"max","cpu.max":"5000 100000","io.max":"8:0 rbps=1"}}"#;
        let mut found = of(unified, true);
        found.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(found, [number("CPUQuotaPerSecUSec", 50_000), number("MemoryHigh", u64::MAX)]);
        assert!(limits(&serde_json::from_str(r#"{"cpu":{"cpus":"a"}}"#).unwrap(), true).is_err());
    }

    #[test]
    fn device_rules() {
        let rules = |json: &str| crate::device::plan(&serde_json::from_str::<Vec<_>>(json).unwrap());
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let planned = rules(r#"[{"allow":false},{"allow":true,"type":"b","major":8,"access":"r"}]"#);
        let found = devices(&planned, "Character devices:\n136 pts\n\nBlock devices:\n  8 sd\n");
        let [(_, Value::Text(policy)), (_, Value::Pairs(allowed))] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(policy, "strict");
        assert_eq!(allowed.first(), Some(&pair("block-sd", "r")));
        for want in [pair("char-*", "m"), pair("/dev/char/1:3", "rwm"), pair("char-pts", "rwm")] {
            assert!(allowed.contains(&want), "{want:?}: {allowed:?}");
        }
        assert_eq!(
            devices(&rules(r#"[{"allow":true}]"#), ""),
            [("DevicePolicy".to_owned(), Value::Text("auto".to_owned()))]
        );
    }
}
