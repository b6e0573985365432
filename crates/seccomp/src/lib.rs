//! A seccomp profile (runtime-spec config-linux.md "Seccomp") in, a BPF program out. It makes no system call.

mod error;

pub use error::{Error, Result};

use oci_spec::runtime::LinuxSeccomp;

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

/// A compiled profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// The program.
    pub program: Vec<Instruction>,
    /// Whether some system call notifies a listener.
    pub notifies: bool,
}

/// Compiles `profile` for the machine `arch`, named as Rust names it.
///
/// # Errors
/// [`Error::Invalid`]
pub fn compile(_profile: &LinuxSeccomp, _arch: &str) -> Result<Compiled> {
    Err(Error::Invalid("seccomp is not supported".to_owned()))
}
