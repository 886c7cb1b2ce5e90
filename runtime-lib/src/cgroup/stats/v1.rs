//! The counters of cgroup v1.

use std::collections::BTreeMap;

use super::files::{Files, list};
use super::{BlockIo, BlockIoEntry, CpuUsage, Cpuset, HugePages, Memory, MemoryUsage, Stats};

/// cpuacct.stat counts in ticks of this many nanoseconds (USER_HZ is 100 on every Linux).
const TICK: u64 = 10_000_000;

/// Reads what the hierarchies that there are have, each found by a controller.
pub(super) fn read(hierarchy: impl Fn(&str) -> Option<Files>) -> Stats {
    let mut stats = Stats::default();
    if let Some(files) = hierarchy("cpu") {
        let table = files.table("cpu.stat");
        let count = |key| table.get(key).copied().unwrap_or_default();
        stats.cpu.throttling.periods = count("nr_periods");
        stats.cpu.throttling.throttled_periods = count("nr_throttled");
        stats.cpu.throttling.throttled_time = count("throttled_time");
    }
    if let Some(files) = hierarchy("cpuacct") {
        stats.cpu.usage = cpu_usage(&files);
    }
    if let Some(files) = hierarchy("cpuset") {
        stats.cpuset = cpuset(&files);
    }
    if let Some(files) = hierarchy("memory") {
        stats.memory = memory(&files);
    }
    if let Some(files) = hierarchy("pids") {
        stats.pids.current = files.count("pids.current");
        let limit = files.number("pids.max").filter(|limit| *limit != u64::MAX);
        stats.pids.limit = limit.unwrap_or_default();
    }
    if let Some(files) = hierarchy("blkio") {
        stats.blkio = block_io(&files);
    }
    if let Some(files) = hierarchy("hugetlb") {
        stats.hugetlb = huge_pages(&files);
    }
    stats
}

fn cpu_usage(files: &Files) -> CpuUsage {
    let ticks = files.table("cpuacct.stat");
    let time = |key| {
        ticks
            .get(key)
            .copied()
            .unwrap_or_default()
            .saturating_mul(TICK)
    };
    let percpu = files.text("cpuacct.usage_percpu").unwrap_or_default();
    // A header, and then lines of a processor, its time for users and its time for the system.
    let modes = files.text("cpuacct.usage_all").unwrap_or_default();
    let modes = modes
        .lines()
        .skip(1)
        .filter_map(|line| -> Option<(u64, u64)> {
            let mut words = line.split(' ').skip(1);
            Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
        });
    let (percpu_user, percpu_kernel) = modes.unzip();
    CpuUsage {
        total: files.count("cpuacct.usage"),
        percpu: percpu
            .split_whitespace()
            .filter_map(|n| n.parse().ok())
            .collect(),
        percpu_kernel,
        percpu_user,
        kernel: time("system"),
        user: time("user"),
    }
}

fn cpuset(files: &Files) -> Cpuset {
    let numbers = |name| list(&files.text(name).unwrap_or_default());
    let level = files.text("cpuset.sched_relax_domain_level");
    Cpuset {
        cpus: numbers("cpuset.cpus"),
        cpu_exclusive: files.count("cpuset.cpu_exclusive"),
        mems: numbers("cpuset.mems"),
        mem_hardwall: files.count("cpuset.mem_hardwall"),
        mem_exclusive: files.count("cpuset.mem_exclusive"),
        memory_migrate: files.count("cpuset.memory_migrate"),
        memory_spread_page: files.count("cpuset.memory_spread_page"),
        memory_spread_slab: files.count("cpuset.memory_spread_slab"),
        memory_pressure: files.count("cpuset.memory_pressure"),
        sched_load_balance: files.count("cpuset.sched_load_balance"),
        sched_relax_domain_level: level
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or_default(),
    }
}

fn memory(files: &Files) -> Memory {
    let usage = |name: &str| MemoryUsage {
        limit: files.count(&format!("{name}.limit_in_bytes")),
        usage: files.count(&format!("{name}.usage_in_bytes")),
        max: files.count(&format!("{name}.max_usage_in_bytes")),
        failcnt: files.count(&format!("{name}.failcnt")),
    };
    let raw = files.table("memory.stat");
    Memory {
        cache: raw.get("cache").copied().unwrap_or_default(),
        usage: usage("memory"),
        swap: usage("memory.memsw"),
        kernel: usage("memory.kmem"),
        kernel_tcp: usage("memory.kmem.tcp"),
        raw,
        psi: None,
    }
}

/// Who counts disks depends on the scheduler and the kernel: the first of these families that
/// says anything.
const FAMILIES: &[&str] = &["blkio.bfq.", "blkio.", "blkio.throttle."];

fn block_io(files: &Files) -> BlockIo {
    let mut counted = BlockIo::default();
    for family in FAMILIES {
        let entries = |name: &str| files.disks(&format!("{family}{name}_recursive"));
        counted.io_serviced_recursive = entries("io_serviced");
        counted.io_service_bytes_recursive = entries("io_service_bytes");
        if family != &"blkio.throttle." {
            counted.sectors_recursive = entries("sectors");
            counted.io_service_time_recursive = entries("io_service_time");
            counted.io_wait_time_recursive = entries("io_wait_time");
            counted.io_merged_recursive = entries("io_merged");
            counted.io_queued_recursive = entries("io_queued");
            counted.io_time_recursive = entries("time");
        }
        let says = |list: &Vec<BlockIoEntry>| !list.is_empty();
        if says(&counted.io_serviced_recursive) || says(&counted.sectors_recursive) {
            return counted;
        }
    }
    // Before Linux 4.12 the throttled disks were counted for this cgroup alone.
    counted.io_serviced_recursive = files.disks("blkio.throttle.io_serviced");
    counted.io_service_bytes_recursive = files.disks("blkio.throttle.io_service_bytes");
    counted
}

fn huge_pages(files: &Files) -> BTreeMap<String, HugePages> {
    let pages = |size: String| {
        // What is reserved counts, where the kernel counts that.
        let reserved = format!("hugetlb.{size}.rsvd");
        let name = match files.number(&format!("{reserved}.usage_in_bytes")) {
            Some(_) => reserved,
            None => format!("hugetlb.{size}"),
        };
        let pages = HugePages {
            usage: files.count(&format!("{name}.usage_in_bytes")),
            max: files.count(&format!("{name}.max_usage_in_bytes")),
            failcnt: files.count(&format!("{name}.failcnt")),
        };
        (size, pages)
    };
    let sizes = files.page_sizes(".usage_in_bytes");
    sizes.into_iter().map(pages).collect()
}
