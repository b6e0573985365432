//! Which number a system call has on which architecture.

mod aarch64;
mod arm;
mod riscv64;
mod x32;
mod x86;
mod x86_64;

use oci_spec::runtime::Arch;

/// An architecture that a process can make system calls of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Abi {
    /// AUDIT_ARCH_* (linux/audit.h), which the kernel tells a filter.
    pub(crate) audit: u32,
    /// Whether its numbers are marked by the bit of x32.
    pub(crate) is_x32: bool,
    table: &'static [(&'static str, u32)],
}

/// The bit that marks system calls of x32, which is AUDIT_ARCH_X86_64 otherwise.
pub(crate) const X32_BIT: u32 = 0x4000_0000;

const X86_64: Abi = Abi { audit: 0xc000_003e, is_x32: false, table: x86_64::TABLE };
const X32: Abi = Abi { audit: 0xc000_003e, is_x32: true, table: x32::TABLE };
const X86: Abi = Abi { audit: 0x4000_0003, is_x32: false, table: x86::TABLE };
const AARCH64: Abi = Abi { audit: 0xc000_00b7, is_x32: false, table: aarch64::TABLE };
const ARM: Abi = Abi { audit: 0x4000_0028, is_x32: false, table: arm::TABLE };
const RISCV64: Abi = Abi { audit: 0xc000_00f3, is_x32: false, table: riscv64::TABLE };

/// What a machine's own programs use, named as Rust names the machine.
pub(crate) fn native(machine: &str) -> Option<Abi> {
    Some(match machine {
        "x86_64" => X86_64,
        "x86" => X86,
        "aarch64" => AARCH64,
        "arm" => ARM,
        "riscv64" => RISCV64,
        _ => return None,
    })
}

/// What `arch` of a profile is on `machine`; `None` for one whose programs cannot run there.
pub(crate) fn foreign(machine: &str, arch: Arch) -> Option<Abi> {
    Some(match (machine, arch) {
        ("x86_64", Arch::ScmpArchX86_64) => X86_64,
        ("x86_64", Arch::ScmpArchX32) => X32,
        ("x86_64" | "x86", Arch::ScmpArchX86) => X86,
        ("aarch64", Arch::ScmpArchAarch64) => AARCH64,
        ("aarch64" | "arm", Arch::ScmpArchArm) => ARM,
        ("riscv64", Arch::ScmpArchRiscv64) => RISCV64,
        _ => return None,
    })
}

impl Abi {
    /// The number of the system call `name`.
    pub(crate) fn number(&self, name: &str) -> Option<u32> {
        let mark = if self.is_x32 { X32_BIT } else { 0 };
        let at = self.table.binary_search_by(|(known, _)| (*known).cmp(name)).ok()?;
        self.table.get(at).map(|(_, number)| number | mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found() {
        for abi in [X86_64, X32, X86, AARCH64, ARM, RISCV64] {
            assert!(abi.table.is_sorted_by(|(a, _), (b, _)| a < b), "{:x}", abi.audit);
            for (name, number) in abi.table {
                assert_eq!(abi.number(name).map(|n| n & !X32_BIT), Some(*number), "{name}");
            }
            assert_eq!(abi.number("no_such_call"), None);
        }
    }
}
