//! From a profile to a program.

use std::collections::BTreeMap;

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSyscall};

use crate::assemble::{ARCH, EQUAL, Instruction, Interval, JUMP, LOAD, NUMBER, RETURN, plain, rule, search};
use crate::syscalls::{self, Abi, X32_BIT};
use crate::{Error, Result};

/// SECCOMP_RET_KILL_THREAD: what a call of an architecture that the profile does not list gets, as from libseccomp.
const BAD_ARCHITECTURE: u32 = 0;

/// "Function not implemented", which has one number on every architecture in the tables.
const ENOSYS: u32 = 38;

/// A compiled profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// The program.
    pub program: Vec<Instruction>,
    /// Whether some system call notifies a listener.
    pub notifies: bool,
}

/// What the calls get that no rule decides.
#[derive(Clone, Copy)]
struct Actions {
    default: u32,
    /// Those above every number that the rules name.
    newer: Option<u32>,
}

/// What one system call gets.
#[derive(Debug, Clone, Default, PartialEq)]
struct Rules {
    /// Whatever the arguments are: stronger than any condition, and the first one counts.
    always: Option<u32>,
    /// Conditions that all hold, and what then; the first that holds counts.
    conditions: Vec<(Vec<LinuxSeccompArg>, u32)>,
}

/// Compiles `profile` for the machine `machine`, named as Rust names it.
///
/// Names of system calls that an architecture does not have are left out, as are architectures whose programs cannot
/// run on the machine.
///
/// # Errors
/// [`Error::Invalid`] for an argument that no system call has, a notification as the default, or a machine without a
/// table; [`Error::TooLong`].
pub fn compile(profile: &LinuxSeccomp, machine: &str) -> Result<Compiled> {
    let native = syscalls::native(machine)
        .ok_or_else(|| Error::Invalid(format!("seccomp is not supported on \"{machine}\"")))?;
    let listed = profile.architectures().iter().flatten().filter_map(|arch| syscalls::foreign(machine, *arch));
    let mut abis: Vec<Abi> = vec![native];
    for abi in listed {
        if !abis.iter().any(|known| (known.audit, known.is_x32) == (abi.audit, abi.is_x32)) {
            abis.push(abi);
        }
    }
    check_errno(profile.default_errno_ret())?;
    let default = profile.default_action().as_u32(profile.default_errno_ret());
    let actions = Actions { default, newer: newer(profile) };
    if profile.default_action() == LinuxSeccompAction::ScmpActNotify {
        return Err(Error::Invalid("SCMP_ACT_NOTIFY cannot be the default action".to_owned()));
    }
    let rules = profile.syscalls().as_deref().unwrap_or_default();
    rules.iter().try_for_each(check)?;
    let mut program = vec![plain(LOAD, ARCH)];
    let mut audits: Vec<u32> = abis.iter().map(|abi| abi.audit).collect();
    audits.dedup();
    for audit in audits {
        let same: Vec<&Abi> = abis.iter().filter(|abi| abi.audit == audit).collect();
        let block = block(&same, rules, actions, machine == "x86_64" && audit == native.audit);
        // The block is longer than a condition can jump.
        program.push(Instruction { code: EQUAL, jt: 1, jf: 0, k: audit });
        program.push(plain(JUMP, u32::try_from(block.len()).unwrap_or(u32::MAX)));
        program.extend(block);
    }
    program.push(plain(RETURN, BAD_ARCHITECTURE));
    if program.len() > 4096 {
        return Err(Error::TooLong(program.len()));
    }
    let notifies = rules.iter().any(|rule| rule.action() == LinuxSeccompAction::ScmpActNotify);
    Ok(Compiled { program, notifies })
}

/// A filter returns the number in its lower half; the upper is the action.
fn check_errno(number: Option<u32>) -> Result<()> {
    match number.filter(|number| *number > 0xffff) {
        Some(number) => Err(Error::Invalid(format!("errnoRet {number} of the seccomp profile is above 65535"))),
        None => Ok(()),
    }
}

fn check(rule: &LinuxSyscall) -> Result<()> {
    check_errno(rule.errno_ret())?;
    let name = || rule.names().join(", ");
    if rule.action() == LinuxSeccompAction::ScmpActNotify && rule.names().iter().any(|name| name == "write") {
        // The runtime could not send the listener's descriptor on.
        return Err(Error::Invalid("SCMP_ACT_NOTIFY cannot be used for the write syscall".to_owned()));
    }
    match rule.args().iter().flatten().find(|arg| arg.index() > 5) {
        Some(arg) => Err(Error::Invalid(format!("system call \"{}\" has no argument {}", name(), arg.index()))),
        None => Ok(()),
    }
}

/// What a system call gets that is newer than every one the profile names, if that is not the default.
///
/// Programs fall back from a call that the kernel does not have, and not from one that is refused: a profile that
/// forbids what it does not know would break each new call of the C library. As runc has it.
fn newer(profile: &LinuxSeccomp) -> Option<u32> {
    use LinuxSeccompAction::{ScmpActAllow, ScmpActLog, ScmpActTrace};
    let is_permissive = matches!(profile.default_action(), ScmpActAllow | ScmpActLog | ScmpActTrace);
    let is_same = profile.default_errno_ret() == Some(ENOSYS);
    (!is_permissive && !is_same).then(|| LinuxSeccompAction::ScmpActErrno.as_u32(Some(ENOSYS)))
}

/// The highest number that `rules` name. One that is zero counts as none, as in runc.
fn last(abi: &Abi, rules: &[LinuxSyscall]) -> Option<u32> {
    let names = rules.iter().flat_map(LinuxSyscall::names);
    names.filter_map(|name| abi.number(name)).max().filter(|last| *last > 0)
}

/// The program for the calls of one AUDIT_ARCH. It always returns.
fn block(abis: &[&Abi], rules: &[LinuxSyscall], actions: Actions, has_x32_bit: bool) -> Vec<Instruction> {
    let default = actions.default;
    let mut calls: BTreeMap<u32, Rules> = BTreeMap::new();
    for abi in abis {
        collect(abi, rules, default, &mut calls);
    }
    // Where each interval begins.
    let mut starts: BTreeMap<u32, Vec<Instruction>> = BTreeMap::from([(0, vec![plain(RETURN, default)])]);
    for (number, rules) in &calls {
        starts.insert(*number, code(rules, default));
        if let Some(next) = number.checked_add(1) {
            starts.insert(next, vec![plain(RETURN, default)]);
        }
    }
    for abi in abis {
        if let (Some(newer), Some(next)) = (actions.newer, last(abi, rules).and_then(|last| last.checked_add(1))) {
            starts.insert(next, vec![plain(RETURN, newer)]);
        }
    }
    if has_x32_bit {
        let is_x32_listed = abis.iter().any(|abi| abi.is_x32);
        let other = if is_x32_listed { default } else { BAD_ARCHITECTURE };
        starts.entry(X32_BIT).or_insert_with(|| vec![plain(RETURN, other)]);
    }
    let mut intervals: Vec<Interval> = Vec::new();
    for (first, code) in starts {
        if intervals.last().is_none_or(|last| last.code != code) {
            intervals.push(Interval { first, code });
        }
    }
    let mut out = vec![plain(LOAD, NUMBER)];
    out.extend(search(&intervals));
    out
}

fn collect(abi: &Abi, rules: &[LinuxSyscall], default: u32, calls: &mut BTreeMap<u32, Rules>) {
    for rule in rules {
        let action = rule.action().as_u32(rule.errno_ret());
        if action == default {
            // It says what is so anyway; libseccomp's users leave it out, and so its order does not count.
            continue;
        }
        for name in rule.names() {
            let Some(number) = abi.number(name) else { continue };
            let of = calls.entry(number).or_default();
            let args = rule.args().as_deref().unwrap_or_default();
            if args.is_empty() {
                of.always.get_or_insert(action);
            } else if has_repeated_index(args) {
                // Several conditions on one argument are alternatives, as runc has it.
                of.conditions.extend(args.iter().map(|arg| (vec![*arg], action)));
            } else {
                of.conditions.push((args.to_vec(), action));
            }
        }
    }
}

fn has_repeated_index(args: &[LinuxSeccompArg]) -> bool {
    (0..=5).any(|index| args.iter().filter(|arg| arg.index() == index).count() > 1)
}

fn code(rules: &Rules, default: u32) -> Vec<Instruction> {
    if let Some(action) = rules.always {
        return vec![plain(RETURN, action)];
    }
    let mut out: Vec<Instruction> =
        rules.conditions.iter().flat_map(|(conditions, action)| rule(conditions, *action)).collect();
    out.push(plain(RETURN, default));
    out
}
