//! How the calling thread is scheduled: for the CPU, for I/O, for memory nodes.

use nix::Result;

use super::checked;
use crate::step::Scheduler;

/// sched_setattr(2) of the calling thread.
pub fn set_scheduler(scheduler: &Scheduler) -> Result<()> {
    /// SCHED_ATTR_SIZE_VER0
    #[repr(C)]
    struct Attributes {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    let attributes = Attributes {
        size: size_of::<Attributes>() as u32,
        policy: scheduler.policy,
        flags: scheduler.flags,
        nice: scheduler.nice,
        priority: scheduler.priority,
        runtime: scheduler.runtime,
        deadline: scheduler.deadline,
        period: scheduler.period,
    };
    // SAFETY: the kernel reads `size` bytes of the record, which outlives the call.
    checked(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) })?;
    Ok(())
}

/// As many CPUs as Linux can be built for (NR_CPUS); the kernel takes no notice of those that are not there.
pub static EVERY_CPU: [u64; 128] = [u64::MAX; 128];

/// sched_setaffinity(2) of the calling thread: bit n of the mask is CPU n.
pub fn set_affinity(mask: &[u64]) -> Result<()> {
    // SAFETY: the pointer and the size in bytes are those of `mask`.
    checked(unsafe {
        libc::syscall(
            libc::SYS_sched_setaffinity,
            0,
            size_of_val(mask),
            mask.as_ptr(),
        )
    })?;
    Ok(())
}

/// ioprio_set(2) of the calling thread.
pub fn set_io_priority(value: u16) -> Result<()> {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    let value = libc::c_int::from(value);
    // SAFETY: the call takes no pointer.
    checked(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, value) })?;
    Ok(())
}

/// set_mempolicy(2) of the calling thread: bit n of the mask is node n.
pub fn set_memory_policy(mode: i32, mask: &[u64]) -> Result<()> {
    // The kernel takes one off the number of bits that it is told.
    let (nodes, bits) = match mask.len() {
        0 => (std::ptr::null(), 0),
        words => (mask.as_ptr(), words * u64::BITS as usize + 1),
    };
    // SAFETY: the pointer is null, or the mask's with the number of its bits.
    checked(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, nodes, bits) })?;
    Ok(())
}
