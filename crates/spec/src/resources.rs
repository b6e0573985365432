//! Limits by control group.

use crate::device::Devices;
use crate::{Cpu, DeviceRule, Error, Host, Memory, Options, Pids, Resources, Result};

/// Processes of a container unless told otherwise: containers.conf(5) "pids_limit".
const PIDS: i64 = 2048;

/// Length of a period, in microseconds, when only `--cpus` is given.
const PERIOD: u64 = 100_000;

/// The greatest processor or memory node number: the kernel's CONFIG_NR_CPUS goes up to it.
const MAX_CPU: u32 = 8191;

/// Reads a size: a number, maybe with a fraction, and b, k, m, g, t or kb, kib and so on, in powers of 1024.
pub(crate) fn bytes(option: &'static str, text: &str) -> Result<i64> {
    let wrong = || Error::option(option, text, "a size is a number of bytes, or one with k, m, g or t after it");
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match lower.strip_prefix(digits).unwrap_or("") {
        "" | "b" => 0,
        "k" | "kb" | "ki" | "kib" => 10,
        "m" | "mb" | "mi" | "mib" => 20,
        "g" | "gb" | "gi" | "gib" => 30,
        "t" | "tb" | "ti" | "tib" => 40,
        _ => return Err(wrong()),
    };
    if let Ok(whole) = digits.parse::<i64>() {
        return whole.checked_mul(1 << shift).filter(|size| *size >= 0).ok_or_else(wrong);
    }
    let number: f64 = digits.parse().map_err(|_| wrong())?;
    let size = number * f64::from(1 << (shift / 2)) * f64::from(1 << (shift / 2));
    // Below 2^53 every whole number has its own f64.
    if number.is_finite() && (0.0..9e15).contains(&size) { Ok(size as i64) } else { Err(wrong()) }
}

/// The limits asked for, and where control groups can be made, the default ones.
pub(crate) fn resources(options: &Options, devices: &Devices, host: &Host) -> Result<Option<Resources>> {
    let (memory, cpu) = (memory(options)?, cpu(options)?);
    let disabled = match options.cgroups.as_deref() {
        None | Some("enabled") => false,
        Some("disabled") => true,
        Some(other) => return Err(Error::option("--cgroups", other, "there are enabled and disabled")),
    };
    if disabled || !host.has_cgroup {
        let asked = [
            ("--memory", memory.is_some()),
            ("--cpus", cpu.is_some()),
            ("--pids-limit", options.pids_limit.is_some_and(|limit| limit > 0)),
        ];
        return match asked.iter().find(|(_, asked)| *asked) {
            Some((option, _)) => {
                let why = if disabled { "and --cgroups is disabled" } else { "which this user cannot make here" };
                Err(Error::Limit { option, why })
            }
            None => Ok(None),
        };
    }
    let limit = options.pids_limit.unwrap_or(PIDS);
    let pids = (limit > 0).then_some(Pids { limit });
    Ok(Some(Resources { devices: rules(options, devices), memory, cpu, pids }))
}

fn memory(options: &Options) -> Result<Option<Memory>> {
    let size = |option, text: &Option<String>| text.as_deref().map(|text| bytes(option, text)).transpose();
    let limit = size("--memory", &options.memory)?.filter(|limit| *limit > 0);
    let reservation = size("--memory-reservation", &options.memory_reservation)?;
    let swap = match options.memory_swap.as_deref() {
        None => limit.and_then(|limit| limit.checked_mul(2)),
        Some("-1") => Some(-1),
        Some(text) => Some(bytes("--memory-swap", text)?),
    };
    if let Some(text) = options.memory_swap.as_deref() {
        let Some(limit) = limit else { return Err(Error::option("--memory-swap", text, "it needs --memory too")) };
        if swap.is_some_and(|swap| swap != -1 && swap < limit) {
            return Err(Error::option("--memory-swap", text, "it counts memory too and cannot be less than --memory"));
        }
    }
    let memory = Memory { limit, reservation, swap };
    Ok((memory != Memory::default()).then_some(memory))
}

fn cpu(options: &Options) -> Result<Option<Cpu>> {
    let mut cpu = Cpu {
        shares: options.cpu_shares.filter(|shares| *shares > 0),
        quota: options.cpu_quota.filter(|quota| *quota != 0),
        period: options.cpu_period.filter(|period| *period > 0),
        cpus: list("--cpuset-cpus", options.cpuset_cpus.as_deref())?,
        mems: list("--cpuset-mems", options.cpuset_mems.as_deref())?,
    };
    if let Some(cpus) = options.cpus {
        let wrong = |reason: &str| Error::option("--cpus", cpus.to_string(), reason);
        if cpu.quota.is_some() || cpu.period.is_some() {
            return Err(wrong("it cannot be used together with --cpu-quota or --cpu-period"));
        }
        if !(0.01..=f64::from(MAX_CPU)).contains(&cpus) {
            return Err(wrong("it is a number of processors, at least 0.01"));
        }
        cpu.period = Some(PERIOD);
        cpu.quota = Some((cpus * PERIOD as f64) as i64);
    }
    Ok((cpu != Cpu::default()).then_some(cpu))
}

/// A list such as `0-2,4`: cpuset(7) "List format".
fn list(option: &'static str, text: Option<&str>) -> Result<Option<String>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let number = |text: &str| text.parse::<u32>().ok().filter(|number| *number <= MAX_CPU);
    let valid = text.split(',').all(|range| match range.split_once('-') {
        None => number(range).is_some(),
        Some((from, to)) => number(from).zip(number(to)).is_some_and(|(from, to)| from <= to),
    });
    let reason = "it is a list of numbers and ranges, as 0-2,4";
    if valid { Ok(Some(text.to_owned())) } else { Err(Error::option(option, text, reason)) }
}

/// Nothing but the devices asked for; the runtime adds those that every container has.
fn rules(options: &Options, devices: &Devices) -> Vec<DeviceRule> {
    let every = |allow| DeviceRule { allow, kind: None, major: None, minor: None, access: "rwm".to_owned() };
    if options.privileged {
        return vec![every(true)];
    }
    let asked = devices.nodes.iter().zip(&devices.access).filter(|(_, access)| !access.is_empty());
    let rules = asked.map(|(device, access)| {
        let (kind, major, minor) = (Some(device.kind.clone()), Some(device.major), Some(device.minor));
        DeviceRule { allow: true, kind, major, minor, access: access.clone() }
    });
    std::iter::once(every(false)).chain(rules).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::host;

    #[test]
    fn sizes() {
        for (text, want) in [
            ("0", 0),
            ("512", 512),
            ("1k", 1024),
            ("1.5G", 1_610_612_736),
            ("2MiB", 2 << 20),
            ("1t", 1 << 40),
            ("3b", 3),
        ] {
            assert_eq!(bytes("--memory", text).unwrap(), want, "{text}");
        }
        for text in ["", "m", "-1", "1x", "9999999999g", "1e99", "nan", "inf", "1 m m"] {
            assert!(bytes("--memory", text).is_err(), "{text}");
        }
    }

    #[test]
    fn limits() {
        let given = |options: Options| resources(&options, &Devices::default(), &host()).map(Option::unwrap_or_default);
        let plain = given(Options::default()).unwrap();
        assert_eq!((plain.pids, plain.memory, plain.cpu), (Some(Pids { limit: 2048 }), None, None));
        let memory = |memory: &str, swap: Option<&str>| {
            let swap = swap.map(str::to_owned);
            given(Options { memory: Some(memory.to_owned()), memory_swap: swap, ..Options::default() })
                .map(|r| r.memory.and_then(|m| m.swap))
        };
        assert_eq!(memory("1m", None).unwrap(), Some(2 << 20));
        assert_eq!(memory("1m", Some("-1")).unwrap(), Some(-1));
        assert!(memory("2m", Some("1m")).is_err() && memory("0", Some("1m")).is_err());
        let cpu = given(Options { cpus: Some(0.5), ..Options::default() }).unwrap().cpu.unwrap();
        assert_eq!((cpu.quota, cpu.period), (Some(50_000), Some(100_000)));
        assert!(given(Options { cpus: Some(0.5), cpu_quota: Some(1), ..Options::default() }).is_err());
        for text in ["0-2147483647", "a", "3-1", "1,,2"] {
            assert!(given(Options { cpuset_mems: Some(text.to_owned()), ..Options::default() }).is_err(), "{text}");
        }
        assert_eq!(given(Options { pids_limit: Some(-1), ..Options::default() }).unwrap().pids, None);
    }

    #[test]
    fn without_control_groups() {
        let poor = Host { has_cgroup: false, ..host() };
        assert_eq!(resources(&Options::default(), &Devices::default(), &poor).unwrap(), None);
        let asked = Options { memory: Some("1m".to_owned()), ..Options::default() };
        assert!(resources(&asked, &Devices::default(), &poor).unwrap_err().to_string().contains("control groups"));
        let disabled = |memory: Option<&str>| Options {
            memory: memory.map(str::to_owned),
            cgroups: Some("disabled".to_owned()),
            ..Options::default()
        };
        assert_eq!(resources(&disabled(None), &Devices::default(), &host()).unwrap(), None);
        assert!(resources(&disabled(Some("1m")), &Devices::default(), &host()).is_err());
    }
}
