//! A seccomp profile (runtime-spec config-linux.md "Seccomp") in, a BPF program out. It makes no system call.

mod assemble;
mod compile;
mod error;
mod key;
mod syscalls;

pub use assemble::Instruction;
pub use compile::{Compiled, compile};
pub use error::{Error, Result};
pub use key::key;
