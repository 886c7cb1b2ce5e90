//! The system calls that nix lacks, each as one safe function. The only module with `unsafe`;
//! it decides nothing and knows nothing of containers.

use nix::sched::CloneFlags;

/// clone(2), namespaces(7): since Linux 5.6; nix has no name for it.
pub const CLONE_NEWTIME: CloneFlags = CloneFlags::from_bits_retain(libc::CLONE_NEWTIME);

/// mount_setattr(2): since Linux 5.14.
pub const MOUNT_ATTR_NOSYMFOLLOW: u64 = 0x0020_0000;
