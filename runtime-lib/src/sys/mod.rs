//! The system calls that nix lacks, each as one safe function. The only module with `unsafe`;
//! it decides nothing and knows nothing of containers.
//!
//! What runs in a child between clone and execve uses only these and nix's thin wrappers:
//! none of them allocates, takes a lock, or goes through glibc's set*id wrappers, which wait
//! for threads that the child does not have.

#[cfg(test)]
pub mod allocations;
pub mod attribute;
pub mod bpf;
pub mod credentials;
pub mod exec;
pub mod fd;
pub mod ioctl;
pub mod keyring;
pub mod mount;
pub mod process;
pub mod scheduling;
pub mod seccomp;

use nix::sched::CloneFlags;

/// clone(2), namespaces(7): since Linux 5.6; nix has no name for it.
pub const CLONE_NEWTIME: CloneFlags = CloneFlags::from_bits_retain(libc::CLONE_NEWTIME);

/// mount_setattr(2): since Linux 5.14.
pub const MOUNT_ATTR_NOSYMFOLLOW: u64 = 0x0020_0000;

/// -1 and errno, or the value.
fn checked(value: libc::c_long) -> nix::Result<libc::c_long> {
    nix::errno::Errno::result(value)
}
