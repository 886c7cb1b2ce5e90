//! The counters of cgroup v2, under v1's names.

use std::collections::BTreeMap;

use super::files::Files;
use super::{BlockIo, BlockIoEntry, Cpu, HugePages, Memory, MemoryUsage, Stats, pressure};

pub(super) fn read(files: &Files) -> Stats {
    let mut stats = Stats {
        cpu: cpu(files),
        memory: memory(files),
        blkio: block_io(files),
        hugetlb: huge_pages(files),
        ..Stats::default()
    };
    stats.pids.current = match files.number("pids.current") {
        Some(current) => current,
        None => files
            .text("cgroup.procs")
            .unwrap_or_default()
            .lines()
            .count() as u64,
    };
    let limit = files.number("pids.max").filter(|limit| *limit != u64::MAX);
    stats.pids.limit = limit.unwrap_or_default();
    stats
}

fn cpu(files: &Files) -> Cpu {
    let table = files.table("cpu.stat");
    let count = |key| table.get(key).copied().unwrap_or_default();
    let micros = |key| count(key).saturating_mul(1000);
    let mut cpu = Cpu {
        psi: pressure::read(files, "cpu.pressure"),
        ..Cpu::default()
    };
    cpu.usage.total = micros("usage_usec");
    cpu.usage.kernel = micros("system_usec");
    cpu.usage.user = micros("user_usec");
    cpu.throttling.periods = count("nr_periods");
    cpu.throttling.throttled_periods = count("nr_throttled");
    cpu.throttling.throttled_time = micros("throttled_usec");
    cpu
}

fn memory(files: &Files) -> Memory {
    let usage = |name: &str| MemoryUsage {
        limit: files.count(&format!("{name}.max")),
        usage: files.count(&format!("{name}.current")),
        max: files.count(&format!("{name}.peak")),
        failcnt: 0,
    };
    let raw = files.table("memory.stat");
    let memory = usage("memory");
    // v1 counts memory and swap together; their peaks are not those of the sum.
    let mut swap = usage("memory.swap");
    swap.usage = swap.usage.saturating_add(memory.usage);
    if swap.limit != u64::MAX {
        swap.limit = swap.limit.saturating_add(memory.limit);
    }
    swap.max = 0;
    Memory {
        cache: raw.get("file").copied().unwrap_or_default(),
        usage: memory,
        swap,
        raw,
        psi: pressure::read(files, "memory.pressure"),
        ..Memory::default()
    }
}

fn block_io(files: &Files) -> BlockIo {
    let mut counted = BlockIo {
        psi: pressure::read(files, "io.pressure"),
        ..BlockIo::default()
    };
    files.keyed_disks("io.stat", |key, entry| {
        let (list, op) = match key {
            "rbytes" => (&mut counted.io_service_bytes_recursive, "Read"),
            "wbytes" => (&mut counted.io_service_bytes_recursive, "Write"),
            "rios" => (&mut counted.io_serviced_recursive, "Read"),
            "wios" => (&mut counted.io_serviced_recursive, "Write"),
            _ => return,
        };
        let op = op.to_owned();
        list.push(BlockIoEntry { op, ..entry });
    });
    counted
}

pub(super) fn huge_pages(files: &Files) -> BTreeMap<String, HugePages> {
    let pages = |size: String| {
        let reserved = files.number(&format!("hugetlb.{size}.rsvd.current"));
        let current = || files.count(&format!("hugetlb.{size}.current"));
        let events = files.table(&format!("hugetlb.{size}.events"));
        let pages = HugePages {
            usage: reserved.unwrap_or_else(current),
            max: 0,
            failcnt: events.get("max").copied().unwrap_or_default(),
        };
        (size, pages)
    };
    let sizes = files.page_sizes(".current");
    sizes.into_iter().map(pages).collect()
}
