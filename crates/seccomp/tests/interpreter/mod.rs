//! Classic BPF as the kernel runs it on a system call (seccomp(2)).

use hoy_seccomp::Instruction;

/// Runs `program` on a call. A jump backwards or past the end, or a missing return, is a failed test.
pub(crate) fn run(program: &[Instruction], arch: u32, number: u32, args: [u64; 6]) -> u32 {
    let mut data = vec![number, arch, 0, 0];
    data.extend(args.iter().flat_map(|arg| [*arg as u32, (*arg >> 32) as u32]));
    let (mut at, mut a) = (0, 0);
    loop {
        let i = program[at];
        at += 1;
        let mut branch = |holds: bool| at += usize::from(if holds { i.jt } else { i.jf });
        match i.code {
            0x20 => a = data[i.k as usize / 4],
            0x54 => a &= i.k,
            0x05 => at += i.k as usize,
            0x15 => branch(a == i.k),
            0x25 => branch(a > i.k),
            0x35 => branch(a >= i.k),
            0x06 => return i.k,
            other => panic!("code {other:#x}"),
        }
    }
}
