//! What a group has used, in the shape of runc's `events` (kernel cgroup-v1/, cgroup-v2.rst, accounting/psi.rst).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::apply::{directory, is_unified};

/// The statistics of a container's groups: the members `cpu`, `cpuset`, `memory`, `pids`, `blkio`, `hugetlb`, `rdma` and
/// `intel_rdt`, times in nanoseconds and memory in bytes. What the kernel does not count is left out.
pub fn stats(directories: &BTreeMap<String, PathBuf>) -> Value {
    let v2 = is_unified(directories);
    let part = |controller: &str, read: fn(&Files, bool) -> Value| {
        directory(directories, controller).map_or_else(|| json!({}), |path| read(&Files(path), v2))
    };
    let mut cpu = part("cpu", cpu);
    if let Some(account) = directory(directories, "cpuacct").filter(|_| !v2) {
        put(&mut cpu, "usage", account_v1(&Files(account)));
    }
    json!({
        "cpu": cpu, "cpuset": part("cpuset", cpuset), "memory": part("memory", memory), "pids": part("pids", pids),
        "blkio": if v2 { part("io", block_v2) } else { part("blkio", block_v1) },
        "hugetlb": part("hugetlb", hugetlb), "rdma": part("rdma", rdma), "intel_rdt": {},
    })
}

/// The files of one group.
struct Files<'a>(&'a Path);

impl Files<'_> {
    fn text(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.0.join(file)).ok()
    }

    /// A number; `max` is the greatest.
    fn number(&self, file: &str) -> Option<u64> {
        let text = self.text(file)?;
        if text.trim() == "max" { Some(u64::MAX) } else { text.trim().parse().ok() }
    }

    /// Lines of a name and a number.
    fn table(&self, file: &str) -> BTreeMap<String, u64> {
        let text = self.text(file).unwrap_or_default();
        let line = |line: &str| {
            let (name, number) = line.split_once(' ')?;
            Some((name.to_owned(), number.trim().parse().ok()?))
        };
        text.lines().filter_map(line).collect()
    }

    /// `value` with the pressure of `file` as the member `psi`, where the kernel measures it.
    fn with_pressure(&self, mut value: Value, file: &str) -> Value {
        if let Some(text) = self.text(file) {
            put(&mut value, "psi", pressure(&text));
        }
        value
    }
}

fn put(object: &mut Value, name: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(name.to_owned(), value);
    }
}

fn pressure(text: &str) -> Value {
    let number = |text: &str| text.parse::<u64>().map_or_else(|_| json!(text.parse::<f64>().ok()), |n| json!(n));
    let line = |line: &str| {
        let (kind, fields) = line.split_once(' ')?;
        let fields = fields.split(' ').filter_map(|field| field.split_once('='));
        let fields: Map<_, _> = fields.map(|(name, value)| (name.to_owned(), number(value))).collect();
        Some((kind.to_owned(), Value::Object(fields)))
    };
    Value::Object(text.lines().filter_map(line).collect())
}

fn cpu(files: &Files, v2: bool) -> Value {
    let stat = files.table("cpu.stat");
    let get = |name: &str| stat.get(name).copied().unwrap_or(0);
    let throttled = if v2 { get("throttled_usec").saturating_mul(1000) } else { get("throttled_time") };
    let throttling =
        json!({"periods": get("nr_periods"), "throttledPeriods": get("nr_throttled"), "throttledTime": throttled});
    let nanoseconds = |name: &str| get(name).saturating_mul(1000);
    let mut cpu = json!({"throttling": throttling, "usage": {}});
    if v2 {
        let usage = json!({
            "total": nanoseconds("usage_usec"), "user": nanoseconds("user_usec"), "kernel": nanoseconds("system_usec"),
        });
        put(&mut cpu, "usage", usage);
    }
    files.with_pressure(cpu, "cpu.pressure")
}

fn account_v1(files: &Files) -> Value {
    let list = |file: &str| {
        let text = files.text(file).unwrap_or_default();
        text.split_whitespace().filter_map(|n| n.parse::<u64>().ok()).collect::<Vec<_>>()
    };
    json!({
        "total": files.number("cpuacct.usage"), "user": files.number("cpuacct.usage_user"),
        "kernel": files.number("cpuacct.usage_sys"), "percpu": list("cpuacct.usage_percpu"),
        "percpu_user": list("cpuacct.usage_percpu_user"), "percpu_kernel": list("cpuacct.usage_percpu_sys"),
    })
}

fn cpuset(files: &Files, v2: bool) -> Value {
    let suffix = if v2 { ".effective" } else { "" };
    let list = |file: &str| numbers(&files.text(&format!("cpuset.{file}{suffix}")).unwrap_or_default());
    let mut set = json!({"cpus": list("cpus"), "mems": list("mems")});
    if !v2 {
        for file in [
            "cpu_exclusive",
            "mem_hardwall",
            "mem_exclusive",
            "memory_migrate",
            "memory_spread_page",
            "memory_spread_slab",
            "memory_pressure",
            "sched_load_balance",
        ] {
            put(&mut set, file, json!(files.number(&format!("cpuset.{file}")).unwrap_or(0)));
        }
        let level = files.text("cpuset.sched_relax_domain_level").and_then(|text| text.trim().parse::<i64>().ok());
        put(&mut set, "sched_relax_domain_level", json!(level.unwrap_or(-1)));
    }
    set
}

/// `0-2,7` as numbers.
fn numbers(list: &str) -> Vec<u16> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?)
    };
    list.trim().split(',').filter_map(range).flatten().collect()
}

fn memory(files: &Files, v2: bool) -> Value {
    let raw = files.table("memory.stat");
    let get = |name: &str| raw.get(name).copied().unwrap_or(0);
    if v2 {
        let entry = |usage: Option<u64>, max: Option<u64>, limit: Option<u64>, failures: u64| json!({"usage": usage, "max": max.unwrap_or(0), "limit": limit, "failcnt": failures});
        let (used, limit) = (files.number("memory.current"), files.number("memory.max"));
        let failures = files.table("memory.events").get("max").copied().unwrap_or(0);
        let swap_failures = files.table("memory.swap.events").get("max").copied().unwrap_or(0);
        // Version 1 counts memory and swap together, and so does who reads this.
        let sum = |memory: Option<u64>, file: &str| Some(memory?.saturating_add(files.number(file)?));
        let swap = entry(sum(used, "memory.swap.current"), None, sum(limit, "memory.swap.max"), swap_failures);
        let memory = json!({
            "cache": get("file"), "usage": entry(used, files.number("memory.peak"), limit, failures), "swap": swap,
            "kernel": {"usage": get("kernel"), "limit": u64::MAX, "failcnt": 0}, "raw": raw,
        });
        return files.with_pressure(memory, "memory.pressure");
    }
    let entry = |infix: &str| {
        let number = |file: &str| files.number(&format!("memory.{infix}{file}")).unwrap_or(0);
        json!({
            "usage": number("usage_in_bytes"), "max": number("max_usage_in_bytes"), "limit": number("limit_in_bytes"),
            "failcnt": number("failcnt"),
        })
    };
    json!({
        "cache": get("cache"), "usage": entry(""), "swap": entry("memsw."), "kernel": entry("kmem."),
        "kernelTCP": entry("kmem.tcp."), "raw": raw,
    })
}

fn pids(files: &Files, _v2: bool) -> Value {
    // No limit is 0, as in the specification.
    let limit = files.number("pids.max").filter(|n| *n != u64::MAX).unwrap_or(0);
    json!({"current": files.number("pids.current").unwrap_or(0), "limit": limit})
}

/// `8:0 Read 123` as an entry.
fn entry(device: &str, operation: &str, value: &str) -> Option<Value> {
    let (major, minor) = device.split_once(':')?;
    let number = |text: &str| text.parse::<u64>().ok();
    Some(json!({"major": number(major)?, "minor": number(minor)?, "op": operation, "value": number(value)?}))
}

fn block_v1(files: &Files, _v2: bool) -> Value {
    let entries = |file: &str| -> Vec<Value> {
        let text = files.text(file).unwrap_or_default();
        let line = |line: &str| {
            let mut fields = line.split(' ');
            entry(fields.next()?, fields.next()?, fields.next()?)
        };
        text.lines().filter_map(line).collect()
    };
    let mut block = Map::new();
    for (name, file) in [
        ("ioServiceBytesRecursive", "io_service_bytes_recursive"),
        ("ioServicedRecursive", "io_serviced_recursive"),
        ("ioQueueRecursive", "io_queued_recursive"),
        ("ioServiceTimeRecursive", "io_service_time_recursive"),
        ("ioWaitTimeRecursive", "io_wait_time_recursive"),
        ("ioMergedRecursive", "io_merged_recursive"),
        ("ioTimeRecursive", "time_recursive"),
        ("sectorsRecursive", "sectors_recursive"),
    ] {
        // Each disk is counted by its own scheduler, or by none; the throttle counts all.
        let found = ["blkio.bfq.", "blkio.throttle."].iter().map(|prefix| entries(&format!("{prefix}{file}")));
        block.insert(name.to_owned(), json!(found.into_iter().find(|list| !list.is_empty()).unwrap_or_default()));
    }
    Value::Object(block)
}

fn block_v2(files: &Files, _v2: bool) -> Value {
    let (mut bytes, mut operations) = (Vec::new(), Vec::new());
    for line in files.text("io.stat").unwrap_or_default().lines() {
        let Some((device, fields)) = line.split_once(' ') else { continue };
        for (name, value) in fields.split(' ').filter_map(|field| field.split_once('=')) {
            let (list, operation) = match name {
                "rbytes" => (&mut bytes, "Read"),
                "wbytes" => (&mut bytes, "Write"),
                "dbytes" => (&mut bytes, "Discard"),
                "rios" => (&mut operations, "Read"),
                "wios" => (&mut operations, "Write"),
                "dios" => (&mut operations, "Discard"),
                _ => continue,
            };
            list.extend(entry(device, operation, value));
        }
    }
    files.with_pressure(json!({"ioServiceBytesRecursive": bytes, "ioServicedRecursive": operations}), "io.pressure")
}

fn hugetlb(files: &Files, v2: bool) -> Value {
    let suffix = if v2 { ".current" } else { ".usage_in_bytes" };
    let names =
        fs::read_dir(files.0).into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let size = |name: &str| Some(name.strip_prefix("hugetlb.")?.strip_suffix(suffix)?.to_owned());
    let sizes = names.filter_map(|name| size(&name)).filter(|size| !size.contains('.'));
    let read = |size: &String| {
        let number = |file: &str| files.number(&format!("hugetlb.{size}.{file}")).unwrap_or(0);
        if v2 {
            let failures = files.table(&format!("hugetlb.{size}.events")).get("max").copied().unwrap_or(0);
            json!({"usage": number("current"), "failcnt": failures})
        } else {
            json!({"usage": number("usage_in_bytes"), "max": number("max_usage_in_bytes"), "failcnt": number("failcnt")})
        }
    };
    Value::Object(sizes.map(|size| (size.clone(), read(&size))).collect())
}

fn rdma(files: &Files, _v2: bool) -> Value {
    let list = |file: &str| -> Vec<Value> {
        let text = files.text(file).unwrap_or_default();
        let line = |line: &str| {
            let mut fields = line.split_whitespace();
            let device = fields.next()?;
            let fields: BTreeMap<&str, &str> = fields.filter_map(|field| field.split_once('=')).collect();
            let number = |name: &str| fields.get(name).map(|n| n.parse::<u32>().unwrap_or(u32::MAX));
            Some(json!({"device": device, "hcaHandles": number("hca_handle"), "hcaObjects": number("hca_object")}))
        };
        text.lines().filter_map(line).collect()
    };
    json!({"current": list("rdma.current"), "limit": list("rdma.max")})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, text)| fs::write(dir.path().join(name), text).unwrap());
        dir
    }

    #[test]
    fn version_2() {
        let dir = group(&[
            ("cpu.stat", "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 7\nnr_throttled 1\nthrottled_usec 9\n"),
            ("cpu.pressure", "some avg10=0.50 avg60=0.00 avg300=0.00 total=12\n"),
            ("memory.current", "100\n"),
            ("memory.max", "max\n"),
            ("memory.stat", "anon 1\nfile 20\n"),
            ("memory.swap.current", "5\n"),
            ("memory.swap.max", "max\n"),
            ("pids.current", "4\n"),
            ("pids.max", "max\n"),
            ("io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n"),
            ("hugetlb.2MB.current", "0\n"),
            ("hugetlb.2MB.rsvd.current", "0\n"),
            ("cpuset.cpus.effective", "0-2,5\n"),
        ]);
        let stats = stats(&[(String::new(), dir.path().to_owned())].into());
        assert_eq!(stats["cpu"]["usage"], json!({"total": 5000, "user": 3000, "kernel": 2000}));
        assert_eq!(stats["cpu"]["throttling"], json!({"periods": 7, "throttledPeriods": 1, "throttledTime": 9000}));
        assert_eq!(stats["cpu"]["psi"]["some"], json!({"avg10": 0.5, "avg60": 0.0, "avg300": 0.0, "total": 12}));
        assert_eq!(stats["memory"]["usage"]["limit"], json!(u64::MAX));
        assert_eq!((&stats["memory"]["cache"], &stats["memory"]["swap"]["usage"]), (&json!(20), &json!(105)));
        assert_eq!(stats["pids"], json!({"current": 4, "limit": 0}));
        assert_eq!(
            stats["blkio"]["ioServicedRecursive"][1],
            json!({"major": 8, "minor": 0, "op": "Write", "value": 4})
        );
        assert_eq!(stats["hugetlb"], json!({"2MB": {"usage": 0, "failcnt": 0}}));
        assert_eq!(stats["cpuset"]["cpus"], json!([0, 1, 2, 5]));
    }

    #[test]
    fn version_1() {
        let dir = group(&[
            ("cpu.stat", "nr_periods 7\nnr_throttled 1\nthrottled_time 9\n"),
            ("cpuacct.usage", "55\n"),
            ("cpuacct.usage_percpu", "50 5 \n"),
            ("memory.usage_in_bytes", "100\n"),
            ("memory.kmem.failcnt", "2\n"),
            ("blkio.throttle.io_serviced_recursive", "8:0 Read 3\n8:0 Total 3\nTotal 3\n"),
        ]);
        let of = |name: &str| (name.to_owned(), dir.path().to_owned());
        let stats = stats(&[of("cpu,cpuacct"), of("memory"), of("blkio")].into());
        assert_eq!(stats["cpu"]["throttling"]["throttledTime"], 9);
        assert_eq!((&stats["cpu"]["usage"]["total"], &stats["cpu"]["usage"]["percpu"]), (&json!(55), &json!([50, 5])));
        assert_eq!(
            (&stats["memory"]["usage"]["usage"], &stats["memory"]["kernel"]["failcnt"]),
            (&json!(100), &json!(2))
        );
        assert_eq!(stats["blkio"]["ioServicedRecursive"].as_array().unwrap().len(), 2);
        assert_eq!(stats["pids"], json!({}));
    }
}
