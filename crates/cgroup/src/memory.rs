//! Limits of memory and swap (kernel cgroup-v1/memory.rst; cgroup-v2.rst "Memory").

use oci_spec::runtime::LinuxMemory;

use crate::Result;
use crate::limits::{Write, unavailable, write};

/// The file of version 1 whose limit no kernel since 5.16 keeps: kernel memory counts with the rest.
pub(crate) const KERNEL: &str = "memory.kmem.limit_in_bytes";

pub(crate) fn v1(memory: &LinuxMemory, out: &mut Vec<Write>) {
    let set = |n: Option<i64>| n.filter(|n| *n != 0);
    // The sum of memory and swap may not be below memory: memory first.
    out.extend(set(memory.limit()).map(|n| write("memory", "memory.limit_in_bytes", n)));
    out.extend(set(memory.swap()).map(|n| write("memory", "memory.memsw.limit_in_bytes", n)));
    out.extend(set(memory.reservation()).map(|n| write("memory", "memory.soft_limit_in_bytes", n)));
    out.extend(set(memory.kernel()).map(|n| write("memory", KERNEL, n)));
    out.extend(set(memory.kernel_tcp()).map(|n| write("memory", "memory.kmem.tcp.limit_in_bytes", n)));
    out.extend(memory.use_hierarchy().map(|yes| write("memory", "memory.use_hierarchy", u8::from(yes))));
    out.extend(memory.swappiness().map(|n| write("memory", "memory.swappiness", n)));
    out.extend(memory.disable_oom_killer().filter(|yes| *yes).map(|_| write("memory", "memory.oom_control", 1)));
}

pub(crate) fn v2(memory: &LinuxMemory, out: &mut Vec<Write>) -> Result<()> {
    let or_max = |n: i64| if n < 0 { "max".to_owned() } else { n.to_string() };
    let refused = |what: &str| Err(unavailable("memory", &format!("control groups of version 2 have no {what}")));
    if memory.swappiness().is_some() {
        return refused("swappiness");
    }
    if memory.disable_oom_killer() == Some(true) {
        return refused("switch for the OOM killer");
    }
    if memory.use_hierarchy() == Some(false) {
        return refused("memory that is not counted in the groups above");
    }
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
    out.extend(memory.reservation().filter(|n| *n != 0).map(|n| write("memory", "memory.low", or_max(n))));
    let kernel = memory.kernel().or(memory.kernel_tcp()).filter(|n| *n != 0);
    out.extend(kernel.map(|n| write("memory", KERNEL, n)));
    Ok(())
}
