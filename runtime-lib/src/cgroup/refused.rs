//! The fields of linux.resources that this version does not act on: refused with their JSON
//! pointer when they ask for something, accepted with the neutral values that engines write.
//!
//! A row moves to the table of limits.rs when its controller is implemented.

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxNetwork, LinuxResources};

use super::limits::Version;
use crate::Notice;
use crate::error::{Code, Error, Result};

/// A field and whether it asks for something.
type Field<T> = (&'static str, fn(&T) -> bool);

const CPU: &[Field<LinuxCpu>] = &[
    ("/linux/resources/cpu/burst", |c| {
        c.burst().is_some_and(|v| v != 0)
    }),
    ("/linux/resources/cpu/idle", |c| {
        c.idle().is_some_and(|v| v != 0)
    }),
    ("/linux/resources/cpu/realtimeRuntime", |c| {
        c.realtime_runtime().is_some_and(|v| v != 0)
    }),
    ("/linux/resources/cpu/realtimePeriod", |c| {
        c.realtime_period().is_some_and(|v| v != 0)
    }),
];

const MEMORY: &[Field<LinuxMemory>] = &[
    ("/linux/resources/memory/swappiness", |m| {
        m.swappiness().is_some()
    }),
    ("/linux/resources/memory/disableOOMKiller", |m| {
        m.disable_oom_killer() == Some(true)
    }),
];

const BLOCK_IO: &[Field<LinuxBlockIo>] = &[
    ("/linux/resources/blockIO/weight", |b| {
        b.weight().is_some_and(|v| v != 0)
    }),
    ("/linux/resources/blockIO/leafWeight", |b| {
        b.leaf_weight().is_some_and(|v| v != 0)
    }),
    ("/linux/resources/blockIO/weightDevice", |b| {
        any(b.weight_device())
    }),
    ("/linux/resources/blockIO/throttleReadBpsDevice", |b| {
        any(b.throttle_read_bps_device())
    }),
    ("/linux/resources/blockIO/throttleWriteBpsDevice", |b| {
        any(b.throttle_write_bps_device())
    }),
    ("/linux/resources/blockIO/throttleReadIOPSDevice", |b| {
        any(b.throttle_read_iops_device())
    }),
    ("/linux/resources/blockIO/throttleWriteIOPSDevice", |b| {
        any(b.throttle_write_iops_device())
    }),
];

const NETWORK: &[Field<LinuxNetwork>] = &[
    ("/linux/resources/network/classID", |n| {
        n.class_id().is_some_and(|v| v != 0)
    }),
    ("/linux/resources/network/priorities", |n| {
        any(n.priorities())
    }),
];

const OTHER: &[Field<LinuxResources>] = &[
    ("/linux/resources/hugepageLimits", |r| {
        any(r.hugepage_limits())
    }),
    ("/linux/resources/rdma", |r| {
        r.rdma().as_ref().is_some_and(|m| !m.is_empty())
    }),
    ("/linux/resources/unified", |r| {
        r.unified().as_ref().is_some_and(|m| !m.is_empty())
    }),
];

const NO_KERNEL_MEMORY: &str = "ignored: the kernel has no limit for kernel memory alone any more";

fn any<T>(list: &Option<Vec<T>>) -> bool {
    list.as_ref().is_some_and(|list| !list.is_empty())
}

fn first<T>(fields: &[Field<T>], of: Option<&T>) -> Result<()> {
    let asked = |of: &T| {
        fields
            .iter()
            .find(|(_, asks)| asks(of))
            .map(|(pointer, _)| *pointer)
    };
    match of.and_then(asked) {
        Some(pointer) => {
            let tail = "not supported by this version of capsid";
            Err(Error::new(Code::Unsupported, tail).at(pointer))
        }
        None => Ok(()),
    }
}

/// Refuses what cannot be done, and says what will be ignored.
///
/// # Errors
/// [`Code::Unsupported`], or [`Code::InvalidConfig`] for `unified` where it cannot be meant.
pub(super) fn check(version: Version, resources: &LinuxResources) -> Result<Vec<Notice>> {
    unified(version, resources)?;
    first(CPU, resources.cpu().as_ref())?;
    first(MEMORY, resources.memory().as_ref())?;
    first(BLOCK_IO, resources.block_io().as_ref())?;
    first(NETWORK, resources.network().as_ref())?;
    first(OTHER, Some(resources))?;
    Ok(resources.memory().as_ref().map(ignored).unwrap_or_default())
}

fn unified(version: Version, resources: &LinuxResources) -> Result<()> {
    let Some(unified) = resources.unified().as_ref().filter(|m| !m.is_empty()) else {
        return Ok(());
    };
    let refuse =
        |tail: String, pointer: String| Err(Error::new(Code::InvalidConfig, tail).at(pointer));
    let at = "/linux/resources/unified";
    if version == Version::V1 {
        let tail = "invalid configuration: cannot use unified on cgroup v1";
        return refuse(tail.to_owned(), at.to_owned());
    }
    match unified.keys().find(|key| key.contains('/')) {
        Some(key) => {
            let tail = format!("unified resource {key:?} must be a file name (no slashes)");
            let key = key.replace('~', "~0").replace('/', "~1");
            refuse(tail, format!("{at}/{key}"))
        }
        None => Ok(()),
    }
}

/// The settings of memory that no current kernel has.
fn ignored(memory: &LinuxMemory) -> Vec<Notice> {
    #[allow(deprecated)] // engines still write it; what it means is said in the notice
    let kernel = memory.kernel();
    let rows = [
        (
            "/linux/resources/memory/kernel",
            kernel.is_some_and(|v| v > 0),
            NO_KERNEL_MEMORY,
        ),
        (
            "/linux/resources/memory/kernelTCP",
            memory.kernel_tcp().is_some_and(|v| v > 0),
            "ignored: socket buffers count towards memory.limit",
        ),
        (
            "/linux/resources/memory/useHierarchy",
            memory.use_hierarchy() == Some(false),
            "ignored: the kernel always counts hierarchically (since Linux 5.11)",
        ),
    ];
    let set = rows.into_iter().filter(|(_, set, _)| *set);
    set.map(|(pointer, _, why)| Notice::new(pointer, why))
        .collect()
}
