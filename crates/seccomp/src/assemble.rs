//! Classic BPF: instructions, a comparison of 64-bit arguments, a search among intervals (seccomp(2), linux/filter.h).

use oci_spec::runtime::{LinuxSeccompArg, LinuxSeccompOperator as Operator};

/// One instruction of classic BPF, as `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Jump when true.
    pub jt: u8,
    /// Jump when false.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// BPF_LD | BPF_W | BPF_ABS
pub(crate) const LOAD: u16 = 0x20;
/// BPF_ALU | BPF_AND | BPF_K
pub(crate) const AND: u16 = 0x54;
/// BPF_JMP | BPF_JA
pub(crate) const JUMP: u16 = 0x05;
/// BPF_JMP | BPF_JEQ | BPF_K
pub(crate) const EQUAL: u16 = 0x15;
/// BPF_JMP | BPF_JGT | BPF_K
pub(crate) const GREATER: u16 = 0x25;
/// BPF_JMP | BPF_JGE | BPF_K
pub(crate) const AT_LEAST: u16 = 0x35;
/// BPF_RET | BPF_K
pub(crate) const RETURN: u16 = 0x06;

/// Offset of the number in `struct seccomp_data`.
pub(crate) const NUMBER: u32 = 0;
/// Offset of the architecture.
pub(crate) const ARCH: u32 = 4;
const ARGS: u32 = 16;

pub(crate) fn plain(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

/// Where a comparison goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    Next,
    /// To the condition after this one.
    True,
    /// Past the whole rule.
    False,
}

type Step = (u16, u32, To, To);

/// One rule: where all of `conditions` hold `action` is returned, and otherwise execution goes on after it.
pub(crate) fn rule(conditions: &[LinuxSeccompArg], action: u32) -> Vec<Instruction> {
    let parts: Vec<Vec<Step>> = conditions.iter().map(condition).collect();
    let total: usize = parts.iter().map(Vec::len).sum();
    let mut out: Vec<Instruction> = Vec::with_capacity(total + 1);
    for part in &parts {
        let end = out.len() + part.len();
        for (code, k, yes, no) in part {
            let next = out.len() + 1;
            let distance = |to: To| match to {
                To::Next => 0,
                To::True => end - next,
                To::False => total + 1 - next,
            };
            // Six conditions of at most seven instructions: every distance fits.
            let byte = |to: To| u8::try_from(distance(to)).unwrap_or(u8::MAX);
            out.push(Instruction { code: *code, jt: byte(*yes), jf: byte(*no), k: *k });
        }
    }
    out.push(plain(RETURN, action));
    out
}

/// The comparison of one argument, its halves apart: a filter has 32-bit words only. Little-endian, as every
/// architecture in the tables.
fn condition(arg: &LinuxSeccompArg) -> Vec<Step> {
    let offset = ARGS + 8 * u32::try_from(arg.index()).unwrap_or(0);
    let (low, high) = ((LOAD, offset, To::Next, To::Next), (LOAD, offset + 4, To::Next, To::Next));
    let (value_low, value_high) = halves(arg.value());
    let ordered = |code: u16, yes: To, no: To| {
        vec![
            high,
            (GREATER, value_high, yes, To::Next),
            (EQUAL, value_high, To::Next, no),
            low,
            (code, value_low, yes, no),
        ]
    };
    match arg.op() {
        Operator::ScmpCmpEq => {
            vec![high, (EQUAL, value_high, To::Next, To::False), low, (EQUAL, value_low, To::True, To::False)]
        }
        Operator::ScmpCmpNe => {
            vec![high, (EQUAL, value_high, To::Next, To::True), low, (EQUAL, value_low, To::False, To::True)]
        }
        Operator::ScmpCmpGt => ordered(GREATER, To::True, To::False),
        Operator::ScmpCmpGe => ordered(AT_LEAST, To::True, To::False),
        Operator::ScmpCmpLe => ordered(GREATER, To::False, To::True),
        Operator::ScmpCmpLt => ordered(AT_LEAST, To::False, To::True),
        Operator::ScmpCmpMaskedEq => {
            let (want_low, want_high) = halves(arg.value_two().unwrap_or(0) & arg.value());
            vec![
                high,
                (AND, value_high, To::Next, To::Next),
                (EQUAL, want_high, To::Next, To::False),
                low,
                (AND, value_low, To::Next, To::Next),
                (EQUAL, want_low, To::True, To::False),
            ]
        }
    }
}

fn halves(value: u64) -> (u32, u32) {
    // The truncation is the point.
    (value as u32, (value >> 32) as u32)
}

/// Runs of numbers with one meaning: each begins at its first number and ends before the next one's.
pub(crate) struct Interval {
    pub(crate) first: u32,
    /// What is done for them; it always returns.
    pub(crate) code: Vec<Instruction>,
}

/// A binary search for the number in the accumulator. `intervals` are sorted, and the first begins at 0.
pub(crate) fn search(intervals: &[Interval]) -> Vec<Instruction> {
    match intervals {
        [] => Vec::new(),
        [only] => only.code.clone(),
        _ => {
            let (left, right) = intervals.split_at(intervals.len() / 2);
            let Some(middle) = right.first() else { return Vec::new() };
            let below = search(left);
            let above = search(right);
            let mut out = Vec::with_capacity(below.len() + above.len() + 2);
            match u8::try_from(below.len()) {
                Ok(distance) => out.push(Instruction { code: AT_LEAST, jt: distance, jf: 0, k: middle.first }),
                Err(_) => {
                    // Too far for a condition: it steps over a jump, which may be any distance.
                    out.push(Instruction { code: AT_LEAST, jt: 0, jf: 1, k: middle.first });
                    out.push(plain(JUMP, u32::try_from(below.len()).unwrap_or(u32::MAX)));
                }
            }
            out.extend(below);
            out.extend(above);
            out
        }
    }
}
