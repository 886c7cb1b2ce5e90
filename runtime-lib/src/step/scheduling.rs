//! How a process is scheduled, as the kernel takes it: for the CPU, for I/O, for memory nodes.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::NumberSet;

/// sched_setattr(2), with SCHED_* and SCHED_FLAG_* as numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scheduler {
    pub policy: u32,
    pub flags: u64,
    /// -20 to 19; for SCHED_OTHER and SCHED_BATCH.
    pub nice: i32,
    /// 1 to 99; for SCHED_FIFO and SCHED_RR.
    pub priority: u32,
    /// Nanoseconds; for SCHED_DEADLINE.
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

/// sched(7), by their numbers; 4 was never given to a policy of Linux.
pub const POLICIES: [(&str, u32); 6] = [
    ("SCHED_OTHER", 0),
    ("SCHED_FIFO", 1),
    ("SCHED_RR", 2),
    ("SCHED_BATCH", 3),
    ("SCHED_IDLE", 5),
    ("SCHED_DEADLINE", 6),
];

/// ioprio_set(2): IOPRIO_CLASS_* and the level in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoPriority {
    pub class: u16,
    /// 0 (first) to 7.
    pub level: u16,
}

/// ioprio_set(2), by their numbers.
pub const IO_CLASSES: [(&str, u16); 3] = [
    ("IOPRIO_CLASS_RT", 1),
    ("IOPRIO_CLASS_BE", 2),
    ("IOPRIO_CLASS_IDLE", 3),
];

impl IoPriority {
    /// The one number of ioprio_set(2).
    pub fn value(self) -> u16 {
        self.class << 13 | self.level
    }
}

/// set_mempolicy(2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPolicy {
    /// MPOL_*
    pub mode: i32,
    /// MPOL_F_*
    pub flags: i32,
    pub nodes: NumberSet,
}

/// linux/mempolicy.h; libc lacks the newest.
pub const MEMORY_MODES: [(&str, i32); 7] = [
    ("MPOL_DEFAULT", 0),
    ("MPOL_PREFERRED", 1),
    ("MPOL_BIND", 2),
    ("MPOL_INTERLEAVE", 3),
    ("MPOL_LOCAL", 4),
    ("MPOL_PREFERRED_MANY", 5),
    ("MPOL_WEIGHTED_INTERLEAVE", 6),
];

/// linux/mempolicy.h
pub const MEMORY_FLAGS: [(&str, i32); 3] = [
    ("MPOL_F_NUMA_BALANCING", 1 << 13),
    ("MPOL_F_RELATIVE_NODES", 1 << 14),
    ("MPOL_F_STATIC_NODES", 1 << 15),
];

/// The word of a number in a table, or the number.
fn word<N: PartialEq + fmt::Display>(table: &[(&'static str, N)], number: N) -> String {
    let found = table.iter().find(|(_, known)| *known == number);
    found.map_or_else(|| number.to_string(), |(word, _)| (*word).to_owned())
}

impl fmt::Display for Scheduler {
    /// "SCHED_BATCH, nice 5"
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&word(&POLICIES, self.policy))?;
        match self.policy {
            0 | 3 => write!(f, ", nice {}", self.nice)?,
            1 | 2 => write!(f, ", priority {}", self.priority)?,
            6 => write!(
                f,
                ", {} of {} ns within {} ns",
                self.runtime, self.period, self.deadline
            )?,
            _ => {}
        }
        match self.flags {
            0 => Ok(()),
            flags => write!(f, ", flags {flags:#x}"),
        }
    }
}

impl fmt::Display for IoPriority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, level {}", word(&IO_CLASSES, self.class), self.level)
    }
}

impl fmt::Display for MemoryPolicy {
    /// "MPOL_BIND on nodes 0-1 with MPOL_F_STATIC_NODES"
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&word(&MEMORY_MODES, self.mode))?;
        if !self.nodes.is_empty() {
            write!(f, " on nodes {}", self.nodes)?;
        }
        let mut with = " with";
        for (name, bit) in MEMORY_FLAGS {
            if self.flags & bit != 0 {
                write!(f, "{with} {name}")?;
                with = ",";
            }
        }
        Ok(())
    }
}
