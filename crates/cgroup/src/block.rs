//! Limits of block devices (kernel cgroup-v1/blkio-controller.rst; cgroup-v2.rst "IO"; block/bfq-iosched.rst).

use oci_spec::runtime::{LinuxBlockIo, LinuxThrottleDevice};

use crate::Result;
use crate::limits::{Write, unavailable, write};

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

pub(crate) fn v1(block: &LinuxBlockIo, out: &mut Vec<Write>) {
    // Whichever of the two the kernel has; with both each counts for the disks of its own scheduler.
    for prefix in ["blkio.", "blkio.bfq."] {
        out.extend(block.weight().filter(|n| *n != 0).map(|n| write("blkio", format!("{prefix}weight"), n)));
        for device in block.weight_device().iter().flatten() {
            let line = |n| format!("{}:{} {n}", device.major(), device.minor());
            out.extend(device.weight().map(|n| write("blkio", format!("{prefix}weight_device"), line(n))));
        }
    }
    out.extend(block.leaf_weight().filter(|n| *n != 0).map(|n| write("blkio", "blkio.leaf_weight", n)));
    for device in block.weight_device().iter().flatten() {
        let line = |n| format!("{}:{} {n}", device.major(), device.minor());
        out.extend(device.leaf_weight().map(|n| write("blkio", "blkio.leaf_weight_device", line(n))));
    }
    for (file, _, devices) in throttles(block) {
        let line = |d: &LinuxThrottleDevice| format!("{}:{} {}", d.major(), d.minor(), d.rate());
        out.extend(devices.iter().map(|d| write("blkio", file, line(d))));
    }
}

pub(crate) fn v2(block: &LinuxBlockIo, out: &mut Vec<Write>) -> Result<()> {
    let devices = || block.weight_device().iter().flatten();
    if block.leaf_weight().is_some_and(|n| n != 0) || devices().any(|d| d.leaf_weight().is_some_and(|n| n != 0)) {
        return Err(unavailable("io", "control groups of version 2 have no leaf weight"));
    }
    // bfq takes the configuration's own range, 10 to 1000.
    for (file, convert) in [("io.weight", weight as fn(u16) -> u64), ("io.bfq.weight", u64::from)] {
        let default = block.weight().filter(|n| *n != 0);
        out.extend(default.map(|n| write("io", file, format!("default {}", convert(n)))));
        for device in devices() {
            let line = |n| format!("{}:{} {}", device.major(), device.minor(), convert(n));
            out.extend(device.weight().map(|n| write("io", file, line(n))));
        }
    }
    for (_, key, devices) in throttles(block) {
        // A rate of 0 lifts the limit.
        let rate = |n: u64| if n == 0 { "max".to_owned() } else { n.to_string() };
        let line = |d: &LinuxThrottleDevice| format!("{}:{} {key}={}", d.major(), d.minor(), rate(d.rate()));
        out.extend(devices.iter().map(|d| write("io", "io.max", line(d))));
    }
    Ok(())
}

/// 10 to 1000 there, 1 to 10000 here.
pub(crate) fn weight(n: u16) -> u64 {
    1 + (u64::from(n.clamp(10, 1000)) - 10) * 9_999 / 990
}
