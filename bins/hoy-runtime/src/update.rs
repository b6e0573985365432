//! `update`: from its options to resources of the specification.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use hoy_cli::{Context, Error, Result};
use serde_json::{Map, Value, json};

#[derive(Debug, Args)]
#[command(allow_negative_numbers = true)]
pub(crate) struct Update {
    /// File with linux.resources as JSON, "-" for standard input, instead of the other options
    #[arg(short, long, value_name = "FILE")]
    resources: Option<PathBuf>,
    /// Weight of its disk traffic, 10 to 1000
    #[arg(long, value_name = "N")]
    blkio_weight: Option<u16>,
    /// Length of a period of processor time, in microseconds
    #[arg(long, value_name = "USEC")]
    cpu_period: Option<u64>,
    /// Processor time in each period, in microseconds; -1 for no limit
    #[arg(long, value_name = "USEC")]
    cpu_quota: Option<i64>,
    /// Unused processor time that may be saved up, in microseconds
    #[arg(long, value_name = "USEC")]
    cpu_burst: Option<u64>,
    /// Share of processor time beside others
    #[arg(long, value_name = "N")]
    cpu_share: Option<u64>,
    /// Length of a period of real-time processes, in microseconds
    #[arg(long, value_name = "USEC")]
    cpu_rt_period: Option<u64>,
    /// Time of real-time processes in each period, in microseconds
    #[arg(long, value_name = "USEC")]
    cpu_rt_runtime: Option<i64>,
    /// Whether it only runs when nothing else would: 1 or 0
    #[arg(long, value_name = "0|1")]
    cpu_idle: Option<i64>,
    /// Processors it may use
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes it may use
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Without effect: kernel memory counts with the rest since Linux 5.16
    #[arg(long, value_name = "SIZE")]
    kernel_memory: Option<Size>,
    /// Memory of the kernel's TCP buffers, where control groups of version 1 are
    #[arg(long, value_name = "SIZE")]
    kernel_memory_tcp: Option<Size>,
    /// Memory; -1 for no limit
    #[arg(short, long, value_name = "SIZE")]
    memory: Option<Size>,
    /// Memory that is left to it when others need some
    #[arg(long, value_name = "SIZE")]
    memory_reservation: Option<Size>,
    /// Memory and swap together; -1 for no limit
    #[arg(long, value_name = "SIZE")]
    memory_swap: Option<Size>,
    /// Number of processes and threads; -1 for no limit
    #[arg(long, value_name = "N")]
    pids_limit: Option<i64>,
    /// Schemata of the processor's L3 cache (Intel RDT)
    #[arg(long, value_name = "SCHEMA")]
    l3_cache_schema: Option<String>,
    /// Schemata of memory bandwidth (Intel RDT)
    #[arg(long, value_name = "SCHEMA")]
    mem_bw_schema: Option<String>,
    /// The container
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

impl Update {
    /// What is to change, in the form of `linux.resources`.
    pub(crate) fn changes(&self) -> Result<Value> {
        let size = |size: &Option<Size>| json!(size.as_ref().map(|size| size.0));
        let parts = [
            ("blockIO", json!({"weight": self.blkio_weight})),
            (
                "cpu",
                json!({
                    "period": self.cpu_period, "quota": self.cpu_quota, "burst": self.cpu_burst, "shares": self.cpu_share,
                    "realtimePeriod": self.cpu_rt_period, "realtimeRuntime": self.cpu_rt_runtime, "idle": self.cpu_idle,
                    "cpus": self.cpuset_cpus, "mems": self.cpuset_mems,
                }),
            ),
            (
                "memory",
                json!({
                    "limit": size(&self.memory), "swap": size(&self.memory_swap), "kernel": size(&self.kernel_memory),
                    "kernelTCP": size(&self.kernel_memory_tcp), "reservation": size(&self.memory_reservation),
                }),
            ),
            ("pids", json!({"limit": self.pids_limit})),
        ];
        let is_set = |part: &Value| part.as_object().is_some_and(|part| part.values().any(|value| !value.is_null()));
        let parts = parts.into_iter().filter(|(_, part)| is_set(part));
        let parts: Map<_, _> = parts.map(|(name, part)| (name.to_owned(), part)).collect();
        match &self.resources {
            Some(_) if !parts.is_empty() => {
                let error = Error::msg("--resources is given beside other limits: put all of them into its file");
                Err(error.with_code(2))
            }
            Some(path) => read(path),
            None => Ok(Value::Object(parts)),
        }
    }

    /// The lines for the container's `schemata`.
    pub(crate) fn schemata(&self) -> Vec<&str> {
        [&self.l3_cache_schema, &self.mem_bw_schema].into_iter().flatten().map(String::as_str).collect()
    }
}

fn read(path: &Path) -> Result<Value> {
    let mut text = Vec::new();
    if path == Path::new("-") {
        std::io::stdin().read_to_end(&mut text).context(|| "read standard input")?;
    } else {
        text = std::fs::read(path).context(|| format!("read \"{}\"", path.display()))?;
    }
    serde_json::from_slice(&text).context(|| format!("read resources in \"{}\"", path.display()))
}

/// A number of bytes as runc takes it: `-1`, or a decimal number with one of the units k, m, g, t, p, of 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size(i64);

impl std::str::FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        if text == "-1" {
            return Ok(Self(-1));
        }
        let wrong = || format!("\"{text}\" is not a size like 1024, 512k, 1.5G or -1");
        let lower = text.to_ascii_lowercase();
        let end = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
        let (number, unit) = lower.split_at(end);
        let unit = unit.trim_start();
        let unit = if unit == "b" { "" } else { unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(unit) };
        let power = ["", "k", "m", "g", "t", "p"].iter().position(|name| *name == unit).ok_or_else(wrong)?;
        let factor = 1_i64 << (10 * power);
        if let Ok(whole) = number.parse::<i64>() {
            return whole.checked_mul(factor).map(Self).ok_or_else(wrong);
        }
        let bytes = number.parse::<f64>().map_err(|_| wrong())? * factor as f64;
        if bytes >= i64::MAX as f64 { Err(wrong()) } else { Ok(Self(bytes as i64)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let cases = [
            ("-1", Some(-1)),
            ("0", Some(0)),
            ("4096", Some(4096)),
            ("4b", Some(4)),
            ("2k", Some(2048)),
            ("2K", Some(2048)),
            ("2kb", Some(2048)),
            ("2KiB", Some(2048)),
            ("1.5m", Some(1_572_864)),
            ("32MB", Some(33_554_432)),
            ("1 g", Some(1 << 30)),
            ("1t", Some(1 << 40)),
            ("1p", Some(1 << 50)),
            ("9999p", None),
            ("", None),
            ("k", None),
            ("-2", None),
            ("1x", None),
            ("1.2.3", None),
        ];
        for (text, want) in cases {
            assert_eq!(text.parse().ok(), want.map(Size), "{text:?}");
        }
    }
}
