//! When a process runs and when its disk requests do: `process.scheduler`, `process.ioPriority` (sched(7)).

use hoy_sys::rustix::io::Errno;
use hoy_sys::sched::{SchedAttr, ioprio_set, sched_setattr};
use oci_spec::runtime::{
    IOPriorityClass, LinuxIOPriority, LinuxSchedulerFlag as Flag, LinuxSchedulerPolicy as Policy, Process, Scheduler,
};

use crate::error::Doing;
use crate::{Error, Result};

/// What is set, decided.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scheduling {
    scheduler: Option<SchedAttr>,
    /// Class and level.
    io: Option<(u32, u32)>,
}

impl Scheduling {
    /// Decides what `process` asks for.
    ///
    /// # Errors
    /// [`Error::Invalid`] for values that do not go together.
    pub(crate) fn new(process: &Process) -> Result<Self> {
        let scheduler = process.scheduler().as_ref().map(attr).transpose()?;
        Ok(Self { scheduler, io: process.io_priority().as_ref().map(io).transpose()? })
    }

    /// Sets it for this process and those it becomes or makes, which are bound to some processors or not.
    pub(crate) fn apply(self, is_bound: bool) -> Result<()> {
        if let Some((class, level)) = self.io {
            ioprio_set(class, level).doing(|| format!("set process.ioPriority to class {class}, level {level}"))?;
        }
        if let Some(attr) = self.scheduler {
            let doing = || format!("set process.scheduler to policy {}", attr.policy);
            match sched_setattr(attr) {
                // sched_setattr(2) "EPERM"; in runc's words, which people search for.
                Err(error) if error.errno == Errno::PERM && is_bound => {
                    let reason = "process scheduler can't be used together with AllowedCPUs";
                    return Err(Error::Invalid(format!("{}: {reason}, linux.resources.cpu.cpus", doing())));
                }
                other => other.doing(doing)?,
            }
        }
        Ok(())
    }
}

fn invalid(reason: &str) -> Error {
    Error::Invalid(format!("process.scheduler: {reason}"))
}

fn attr(scheduler: &Scheduler) -> Result<SchedAttr> {
    let policy = *scheduler.policy();
    let nice = scheduler.nice().unwrap_or(0);
    let times = [scheduler.runtime(), scheduler.deadline(), scheduler.period()].map(|time| time.unwrap_or(0));
    let [runtime, deadline, period] = times;
    let priority = u32::try_from(scheduler.priority().unwrap_or(0)).map_err(|_| invalid("priority is negative"))?;
    if !(-20..=19).contains(&nice) {
        return Err(invalid(&format!("nice {nice} is not from -20 to 19")));
    }
    if priority != 0 && !matches!(policy, Policy::SchedFifo | Policy::SchedRr) {
        return Err(invalid("priority goes with SCHED_FIFO and SCHED_RR only"));
    }
    if times != [0; 3] && policy != Policy::SchedDeadline {
        return Err(invalid("runtime, deadline and period go with SCHED_DEADLINE only"));
    }
    let mut flags = 0;
    for flag in scheduler.flags().iter().flatten() {
        flags |= flag_bit(*flag)?;
    }
    Ok(SchedAttr { policy: number(policy), flags, nice, priority, runtime, deadline, period, ..SchedAttr::default() })
}

/// SCHED_* of linux/sched.h; the kernel has a number for SCHED_ISO and no such policy, and says so.
fn number(policy: Policy) -> u32 {
    match policy {
        Policy::SchedOther => 0,
        Policy::SchedFifo => 1,
        Policy::SchedRr => 2,
        Policy::SchedBatch => 3,
        Policy::SchedIso => 4,
        Policy::SchedIdle => 5,
        Policy::SchedDeadline => 6,
    }
}

/// SCHED_FLAG_* of linux/sched.h.
fn flag_bit(flag: Flag) -> Result<u64> {
    match flag {
        Flag::SchedResetOnFork => Ok(0x01),
        Flag::SchedFlagReclaim => Ok(0x02),
        Flag::SchedFlagDLOverrun => Ok(0x04),
        Flag::SchedFlagKeepPolicy => Ok(0x08),
        Flag::SchedFlagKeepParams => Ok(0x10),
        Flag::SchedFlagUtilClampMin | Flag::SchedFlagUtilClampMax => {
            Err(invalid("SCHED_FLAG_UTIL_CLAMP_MIN and _MAX need a value, for which config.json has no field"))
        }
    }
}

fn io(priority: &LinuxIOPriority) -> Result<(u32, u32)> {
    let level = u32::try_from(priority.priority()).ok().filter(|level| *level < 8);
    let reason = || Error::Invalid(format!("process.ioPriority.priority {} is not from 0 to 7", priority.priority()));
    let class = match priority.class() {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    Ok((class, level.ok_or_else(reason)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(json: &str) -> Result<Scheduling> {
        let process = format!(r#"{{"cwd":"/","user":{{"uid":0,"gid":0}},{json}}}"#);
        Scheduling::new(&serde_json::from_str(&process).unwrap())
    }

    #[test]
    fn policies() {
        let batch = decided(r#""scheduler":{"policy":"SCHED_BATCH","nice":19}"#).unwrap().scheduler.unwrap();
        assert_eq!((batch.policy, batch.nice), (3, 19));
        let deadline = r#""scheduler":{"policy":"SCHED_DEADLINE","flags":["SCHED_FLAG_RECLAIM"],
            "runtime":10,"deadline":20,"period":30}"#;
        let deadline = decided(deadline).unwrap().scheduler.unwrap();
        assert_eq!((deadline.policy, deadline.flags), (6, 2));
        assert_eq!((deadline.runtime, deadline.deadline, deadline.period), (10, 20, 30));
        assert_eq!(decided(r#""args":[]"#).unwrap(), Scheduling::default());
    }

    #[test]
    fn what_does_not_go_together() {
        let cases = [
            (r#""scheduler":{"policy":"SCHED_OTHER","nice":20}"#, "nice 20"),
            (r#""scheduler":{"policy":"SCHED_OTHER","priority":1}"#, "priority goes with"),
            (r#""scheduler":{"policy":"SCHED_FIFO","priority":-1}"#, "priority is negative"),
            (r#""scheduler":{"policy":"SCHED_FIFO","runtime":1}"#, "SCHED_DEADLINE only"),
            (r#""scheduler":{"policy":"SCHED_OTHER","flags":["SCHED_FLAG_UTIL_CLAMP_MIN"]}"#, "UTIL_CLAMP"),
            (r#""ioPriority":{"class":"IOPRIO_CLASS_BE","priority":8}"#, "process.ioPriority.priority 8"),
        ];
        for (json, want) in cases {
            let error = decided(json).unwrap_err().to_string();
            assert!(error.contains(want), "{json}: {error}");
        }
    }

    #[test]
    fn classes() {
        let json = r#""ioPriority":{"class":"IOPRIO_CLASS_IDLE","priority":0}"#;
        assert_eq!(decided(json).unwrap().io, Some((3, 0)));
    }
}
