//! seccomp(2): install a filter.
//!
//! Knows nothing of what the programs mean.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::Result;
use nix::errno::Errno;

use super::checked;

/// Whether the kernel takes these flags: it judges them before it reads the program, and there
/// is none. Nothing is installed.
pub fn takes(flags: u32) -> bool {
    // SAFETY: without a program the call fails (EFAULT); it writes nowhere.
    let refused = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            std::ptr::null::<libc::sock_fprog>(),
        )
    };
    checked(refused) == Err(Errno::EFAULT)
}

/// struct sock_filter: one instruction of classic BPF.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// The opcode.
    pub code: u16,
    /// How many instructions are left out when a jump's test holds.
    pub on_true: u8,
    /// And when it doesn't.
    pub on_false: u8,
    /// The constant.
    pub value: u32,
}

/// Installs a filter for the calling thread; with SECCOMP_FILTER_FLAG_NEW_LISTENER among the
/// flags, the descriptor that notifications come from. Does not allocate.
///
/// Needs no_new_privs, or CAP_SYS_ADMIN in the user namespace (EACCES). EINVAL: a flag that
/// the kernel does not know, or no program of 1 to 4096 instructions.
pub fn install(program: &[Instruction], flags: u32) -> Result<Option<OwnedFd>> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| Errno::EINVAL)?,
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: an Instruction is laid out as a sock_filter, `len` of them outlive the call, and
    // the kernel only reads them.
    let fd = checked(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const program,
        )
    })?;
    if flags & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32 == 0 {
        return Ok(None);
    }
    // SAFETY: the kernel has just returned this descriptor and nobody else has it.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }))
}
