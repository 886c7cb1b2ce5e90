//! The table: for each setting of linux.resources what it is called in config.json, in cgroup
//! v1 and in cgroup v2, how its value is converted, and what happens where a version has
//! nothing of the kind. A row's order is the order of the writes.
//!
//! A new row also wants:
//! - its member in `asked` (from the text, where oci-spec's types lack it, and then in
//!   spec/unknown.rs and its test);
//! - a line of `ZERO_LEAVES` in spec/resources.rs where engines write a zero for what they leave,
//!   one of `KEYED` there where an update has only some elements of a list, and the option of
//!   `update` that asks for it;
//! - a row of `../systemd/properties.rs` if systemd.resource-control(5) has it;
//! - a case of `value_before` in `../update.rs` where the file doesn't read as it is written;
//! - an example in the tests beside this file, in tests/controllers, in the fuzzer's seeds and
//!   in the differential test.

use super::asked::Asked;
use super::convert::{
    bfq_weight, bfq_weights, bytes, huge_pages_v1, huge_pages_v2, io_weight, io_weights,
    period_alone, priorities, quota_and_period, rdma, tasks, text, throttles_v1, throttles_v2,
    weight,
};
use super::unified;

/// One line of the table.
#[derive(Debug)]
pub(in crate::cgroup) struct Row {
    pub pointer: &'static str,
    pub controller: &'static str,
    pub v1: Column,
    pub v2: Column,
    /// What the kernel accepts, said when it refuses a value.
    pub range: &'static str,
    /// The kernel checks this value against the next row's old one: when it refuses, the
    /// next row is written first (a limit is raised together with its companion).
    pub with_next: bool,
    /// Whether a file may be missing that would get this value, and that is no loss: what is asked
    /// for is what a kernel without it does.
    pub dispensable: fn(file: &str, value: &str) -> bool,
    /// Why the file is missing, where it isn't the controller that is.
    pub missing: &'static str,
}

/// What a version makes of a setting.
#[derive(Debug)]
pub(in crate::cgroup) enum Column {
    /// One value in one file. `None`: not asked for, or said by another row.
    One(&'static str, fn(&Asked<'_>) -> Option<String>),
    /// A write for each element of a list, or a value that several files may take.
    Many(fn(&Asked<'_>) -> Vec<Write>),
    /// The kernel has nothing of the kind: whether it is asked for, and what is said then.
    Lacks(fn(&Asked<'_>) -> bool, &'static str),
    /// As `Lacks`, of something that a container may not be left without.
    Refuses(fn(&Asked<'_>) -> bool, &'static str),
    /// Another row says it.
    Elsewhere,
}

/// One write that a row asks for.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cgroup) struct Write {
    /// The key or the index below the row's pointer; empty for the whole.
    pub part: String,
    pub file: String,
    pub value: String,
    /// The file and the value for kernels that lack the first.
    pub otherwise: Option<(&'static str, String)>,
}

const fn row(pointer: &'static str, controller: &'static str, v1: Column, v2: Column) -> Row {
    Row {
        pointer,
        controller,
        v1,
        v2,
        range: "",
        with_next: false,
        dispensable: |_, _| false,
        missing: "",
    }
}

impl Row {
    const fn range(mut self, range: &'static str) -> Row {
        self.range = range;
        self
    }

    const fn with_next(mut self) -> Row {
        self.with_next = true;
        self
    }

    const fn dispensable(mut self, test: fn(&str, &str) -> bool) -> Row {
        self.dispensable = test;
        self
    }

    const fn missing(mut self, why: &'static str) -> Row {
        self.missing = why;
        self
    }
}

use Column::{Elsewhere, Lacks, Many, One, Refuses};

pub(super) const TABLE: &[Row] = &[
    // The kernel takes no shares for a group that is idle still.
    row(
        IDLE,
        "cpu",
        One(IDLE_FILE, |a| a.idle.filter(|v| *v == 0).map(text)),
        One(IDLE_FILE, |a| a.idle.filter(|v| *v == 0).map(text)),
    )
    .dispensable(is_zero),
    row(
        "/linux/resources/cpu/shares",
        "cpu",
        One("cpu.shares", |a| a.shares.map(text)),
        One("cpu.weight", |a| a.shares.map(weight).map(text)),
    )
    .range("shares are 2 to 262144, and an idle group takes none"),
    row(
        IDLE,
        "cpu",
        One(IDLE_FILE, |a| a.idle.filter(|v| *v != 0).map(text)),
        One(IDLE_FILE, |a| a.idle.filter(|v| *v != 0).map(text)),
    )
    .range("0 or 1"),
    // A burst is at most the quota: the old one must not be in the new quota's way.
    row(
        BURST,
        "cpu",
        One("cpu.cfs_burst_us", no_burst),
        One("cpu.max.burst", no_burst),
    )
    .dispensable(is_zero),
    row(
        "/linux/resources/cpu/period",
        "cpu",
        One("cpu.cfs_period_us", |a| a.period.map(text)),
        One("cpu.max", period_alone),
    )
    .range(CFS)
    .with_next(),
    row(
        "/linux/resources/cpu/quota",
        "cpu",
        One("cpu.cfs_quota_us", |a| a.quota.map(text)),
        One("cpu.max", quota_and_period),
    )
    .range(CFS),
    row(
        BURST,
        "cpu",
        One("cpu.cfs_burst_us", |a| a.burst.map(text)),
        One("cpu.max.burst", |a| a.burst.map(text)),
    )
    .range("microseconds, at most the quota")
    .dispensable(is_zero),
    row(
        "/linux/resources/cpu/realtimePeriod",
        "cpu",
        One("cpu.rt_period_us", |a| a.realtime_period.map(text)),
        Refuses(|a| a.realtime_period.is_some(), NO_REALTIME),
    )
    .range(REALTIME)
    .with_next(),
    row(
        "/linux/resources/cpu/realtimeRuntime",
        "cpu",
        One("cpu.rt_runtime_us", |a| a.realtime_runtime.map(text)),
        Refuses(|a| a.realtime_runtime.is_some(), NO_REALTIME),
    )
    .range(REALTIME),
    row(
        "/linux/resources/cpu/cpus",
        "cpuset",
        One("cpuset.cpus", |a| a.cpus.map(text)),
        One("cpuset.cpus", |a| a.cpus.map(text)),
    )
    .range("cpus are a list such as 0-2,7 of processors that the parent cgroup has too"),
    row(
        "/linux/resources/cpu/mems",
        "cpuset",
        One("cpuset.mems", |a| a.mems.map(text)),
        One("cpuset.mems", |a| a.mems.map(text)),
    )
    .range("mems are a list such as 0-1 of memory nodes that the parent cgroup has too"),
    row(
        "/linux/resources/memory/limit",
        "memory",
        One("memory.limit_in_bytes", |a| a.limit.map(text)),
        One("memory.max", |a| a.limit.map(bytes)),
    )
    .range("bytes or -1, above what is in use already")
    .with_next(),
    row(
        "/linux/resources/memory/swap",
        "memory",
        One(MEMSW, |a| a.memory_and_swap().map(text)),
        One(SWAP, |a| a.swap_alone().map(bytes)),
    )
    .range("bytes of memory and swap together, or -1")
    .dispensable(|file, value| {
        value == if file == MEMSW { "-1" } else { "max" } || (file == SWAP && value == "0")
    })
    .missing("this kernel does not account swap (boot option swapaccount=1)"),
    row(
        "/linux/resources/memory/reservation",
        "memory",
        One("memory.soft_limit_in_bytes", |a| a.reservation.map(text)),
        One("memory.low", |a| a.reservation.map(bytes)),
    )
    .range("bytes or -1"),
    row(
        "/linux/resources/memory/swappiness",
        "memory",
        One("memory.swappiness", |a| a.swappiness.map(text)),
        Lacks(
            |a| a.swappiness.is_some(),
            "ignored: cgroup v2 has no swappiness of its own (memory.swap limits swap)",
        ),
    )
    .range("0 to 100"),
    row(
        "/linux/resources/memory/disableOOMKiller",
        "memory",
        One(OOM_CONTROL, |a| {
            a.disable_oom_killer.map(i32::from).map(text)
        }),
        Lacks(
            |a| a.disable_oom_killer == Some(true),
            "ignored: cgroup v2 always kills when memory runs out",
        ),
    ),
    row(
        "/linux/resources/memory/kernel",
        "memory",
        Lacks(|a| a.kernel, NO_KERNEL_MEMORY),
        Lacks(|a| a.kernel, NO_KERNEL_MEMORY),
    ),
    row(
        "/linux/resources/memory/kernelTCP",
        "memory",
        Lacks(|a| a.kernel_tcp, NO_TCP_MEMORY),
        Lacks(|a| a.kernel_tcp, NO_TCP_MEMORY),
    ),
    row(
        "/linux/resources/memory/useHierarchy",
        "memory",
        Lacks(|a| a.flat, ALWAYS_HIERARCHICAL),
        Lacks(|a| a.flat, ALWAYS_HIERARCHICAL),
    ),
    row(
        "/linux/resources/pids/limit",
        "pids",
        One("pids.max", |a| a.pids.map(tasks)),
        One("pids.max", |a| a.pids.map(tasks)),
    )
    .range("1 to 4194304 tasks, or -1"),
    row(
        "/linux/resources/blockIO/weight",
        "blkio",
        Many(|a| a.weight.map(bfq_weight).into_iter().collect()),
        Many(|a| a.weight.map(io_weight).into_iter().collect()),
    )
    .range("10 to 1000")
    .missing(NO_WEIGHTS),
    row(
        "/linux/resources/blockIO/weightDevice",
        "blkio",
        Many(|a| bfq_weights(a.weights)),
        Many(|a| io_weights(a.weights)),
    )
    .range("10 to 1000, of a disk that is there")
    .missing(NO_WEIGHTS),
    row(
        "/linux/resources/blockIO/leafWeight",
        "blkio",
        Lacks(|a| a.leaf_weight, NO_LEAVES),
        Lacks(|a| a.leaf_weight, NO_LEAVES),
    ),
    row(
        "/linux/resources/blockIO/throttleReadBpsDevice",
        "blkio",
        Many(|a| throttles_v1(a.read_bps, "blkio.throttle.read_bps_device")),
        Many(|a| throttles_v2(a.read_bps, "rbps")),
    )
    .range(THROTTLE),
    row(
        "/linux/resources/blockIO/throttleWriteBpsDevice",
        "blkio",
        Many(|a| throttles_v1(a.write_bps, "blkio.throttle.write_bps_device")),
        Many(|a| throttles_v2(a.write_bps, "wbps")),
    )
    .range(THROTTLE),
    row(
        "/linux/resources/blockIO/throttleReadIOPSDevice",
        "blkio",
        Many(|a| throttles_v1(a.read_iops, "blkio.throttle.read_iops_device")),
        Many(|a| throttles_v2(a.read_iops, "riops")),
    )
    .range(THROTTLE),
    row(
        "/linux/resources/blockIO/throttleWriteIOPSDevice",
        "blkio",
        Many(|a| throttles_v1(a.write_iops, "blkio.throttle.write_iops_device")),
        Many(|a| throttles_v2(a.write_iops, "wiops")),
    )
    .range(THROTTLE),
    row(
        "/linux/resources/hugepageLimits",
        "hugetlb",
        Many(|a| huge_pages_v1(a.huge_pages)),
        Many(|a| huge_pages_v2(a.huge_pages)),
    )
    .range("bytes of pages of a size that the machine has")
    // Reservations are counted since Linux 5.7, on v1 and v2.
    .dispensable(|file, _| file.contains(".rsvd.")),
    row(
        "/linux/resources/rdma",
        "rdma",
        Many(|a| rdma(a.rdma)),
        Many(|a| rdma(a.rdma)),
    )
    .range("limits of an RDMA device that is there"),
    row(
        "/linux/resources/network/classID",
        "net_cls",
        One("net_cls.classid", |a| a.class_id.map(text)),
        Refuses(|a| a.class_id.is_some(), NO_NETWORK),
    ),
    row(
        "/linux/resources/network/priorities",
        "net_prio",
        Many(|a| priorities(a.priorities)),
        Refuses(|a| !a.priorities.is_empty(), NO_NETWORK),
    )
    .range("priorities of network interfaces that the host has"),
    // Last, so that it has the last word.
    row(
        unified::POINTER,
        "",
        Elsewhere, // refused where it is read
        Many(|a| unified::writes(a.unified)),
    ),
];

const IDLE: &str = "/linux/resources/cpu/idle";
const BURST: &str = "/linux/resources/cpu/burst";
const CFS: &str = "a quota is -1 or at least 1000 microseconds, a period 1000 to 1000000, and \
                   their ratio at most the parent cgroup's";
const REALTIME: &str = "microseconds, at most what the parent cgroup has for its children";
const NO_REALTIME: &str = "cgroup v2 has no realtime limits";
const NO_NETWORK: &str = "cgroup v2 has no network classes and priorities";
const NO_KERNEL_MEMORY: &str = "ignored: the kernel has no limit for kernel memory alone any more";
const NO_TCP_MEMORY: &str = "ignored: socket buffers count towards memory.limit";
const ALWAYS_HIERARCHICAL: &str =
    "ignored: the kernel always counts hierarchically (since Linux 5.11)";
const NO_LEAVES: &str = "ignored: the kernel has no leaf weights any more (since Linux 5.0)";
const THROTTLE: &str = "a rate of a disk (no partition) that is there";
const NO_WEIGHTS: &str =
    "no scheduler that weighs is loaded (bfq), and the kernel has no io.weight";
/// What makes a group idle, and what an idle group has none of.
pub(super) const IDLE_FILE: &str = "cpu.idle";
pub(super) const WEIGHTS: [&str; 3] = ["cpu.shares", "cpu.weight", "cpu.weight.nice"];
const MEMSW: &str = "memory.memsw.limit_in_bytes";
pub(super) const OOM_CONTROL: &str = "memory.oom_control";
const SWAP: &str = "memory.swap.max";

fn no_burst(asked: &Asked<'_>) -> Option<String> {
    let changed = asked.quota.is_some() || asked.period.is_some();
    let later = asked.burst.filter(|burst| *burst != 0 && changed);
    later.map(|_| "0".to_owned())
}

/// The kernel's own value of a file that says how much of something there is.
fn is_zero(_: &str, value: &str) -> bool {
    value == "0"
}
