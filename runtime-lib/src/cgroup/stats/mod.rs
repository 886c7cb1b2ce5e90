//! What a container uses: the counters of its cgroups, as `events` of runc prints them, key for
//! key on both versions (types/events.go there). Times are nanoseconds, sizes bytes; no limit
//! is the largest number.
//!
//! A counter that the kernel doesn't have is 0, or left out where runc leaves zeros out.

mod files;
mod further;
mod pressure;
mod v1;
mod v2;

use std::collections::BTreeMap;

use serde::Serialize;

use self::files::Files;
pub use self::further::{Burst, Further, IoCost, Misc, Rdma, RdmaDevice};
pub use self::pressure::{Pressure, Stall};
use super::plan::CgroupPlan;
use crate::rdt;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    pub cpu: Cpu,
    pub cpuset: Cpuset,
    pub memory: Memory,
    pub pids: Pids,
    pub blkio: BlockIo,
    /// By page size, such as `2MB`.
    pub hugetlb: BTreeMap<String, HugePages>,
    pub intel_rdt: rdt::Stats,
    /// runc's, of a kind of networks that no config.json can ask for: always null.
    pub network_interfaces: (),
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Cpu {
    pub usage: CpuUsage,
    pub throttling: Throttling,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CpuUsage {
    #[serde(skip_serializing_if = "zero")]
    pub total: u64,
    /// cgroup v1.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_kernel: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_user: Vec<u64>,
    pub kernel: u64,
    pub user: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Throttling {
    #[serde(skip_serializing_if = "zero")]
    pub periods: u64,
    #[serde(skip_serializing_if = "zero")]
    pub throttled_periods: u64,
    #[serde(skip_serializing_if = "zero")]
    pub throttled_time: u64,
}

/// cgroup v1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cpuset {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u16>,
    pub cpu_exclusive: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mems: Vec<u16>,
    pub mem_hardwall: u64,
    pub mem_exclusive: u64,
    pub memory_migrate: u64,
    pub memory_spread_page: u64,
    pub memory_spread_slab: u64,
    pub memory_pressure: u64,
    pub sched_load_balance: u64,
    pub sched_relax_domain_level: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Memory {
    #[serde(skip_serializing_if = "zero")]
    pub cache: u64,
    pub usage: MemoryUsage,
    /// Memory and swap together, on both versions.
    pub swap: MemoryUsage,
    /// cgroup v1.
    pub kernel: MemoryUsage,
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: MemoryUsage,
    /// memory.stat.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub raw: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryUsage {
    pub limit: u64,
    #[serde(skip_serializing_if = "zero")]
    pub usage: u64,
    #[serde(skip_serializing_if = "zero")]
    pub max: u64,
    pub failcnt: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pids {
    #[serde(skip_serializing_if = "zero")]
    pub current: u64,
    /// 0: no limit.
    #[serde(skip_serializing_if = "zero")]
    pub limit: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockIo {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_bytes_recursive: Vec<BlockIoEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_serviced_recursive: Vec<BlockIoEntry>,
    // runc's spelling.
    #[serde(rename = "ioQueueRecursive", skip_serializing_if = "Vec::is_empty")]
    pub io_queued_recursive: Vec<BlockIoEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_time_recursive: Vec<BlockIoEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_wait_time_recursive: Vec<BlockIoEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_merged_recursive: Vec<BlockIoEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_time_recursive: Vec<BlockIoEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sectors_recursive: Vec<BlockIoEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// One number of one disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BlockIoEntry {
    #[serde(skip_serializing_if = "zero")]
    pub major: u64,
    #[serde(skip_serializing_if = "zero")]
    pub minor: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub op: String,
    #[serde(skip_serializing_if = "zero")]
    pub value: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HugePages {
    #[serde(skip_serializing_if = "zero")]
    pub usage: u64,
    #[serde(skip_serializing_if = "zero")]
    pub max: u64,
    pub failcnt: u64,
}

/// Go's `omitempty`.
fn zero(value: &u64) -> bool {
    *value == 0
}

impl CgroupPlan {
    /// What the cgroups count now.
    pub fn stats(&self) -> Stats {
        let unified = self.unified.as_ref().map(|group| Files(group.dir()));
        if self.legacy.is_empty() {
            return unified.map_or_else(Stats::default, |files| v2::read(&files));
        }
        let mut stats = v1::read(|controller| self.files_of(controller));
        // Every cgroup2 counts pressure, also beside v1's controllers.
        if let Some(files) = unified {
            stats.cpu.psi = pressure::read(&files, "cpu.pressure");
            stats.memory.psi = pressure::read(&files, "memory.pressure");
            stats.blkio.psi = pressure::read(&files, "io.pressure");
            if stats.hugetlb.is_empty() {
                stats.hugetlb = v2::huge_pages(&files);
            }
        }
        stats
    }

    /// What the cgroups count that runc's document has no place for.
    pub fn further(&self) -> Further {
        further::read(|controller| self.files_of(controller))
    }

    /// The directory in which a controller counts, by its name.
    fn files_of(&self, controller: &str) -> Option<Files> {
        self.group_of(controller).map(|group| Files(group.dir()))
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn fixture(name: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("../fixtures/cgroups")
            .join(name)
    }

    /// What is printed for captured files, compared with what was judged right.
    fn golden(name: &str, stats: &Stats) {
        let path = fixture(name).join("stats.json");
        let text = serde_json::to_string_pretty(stats).unwrap() + "\n";
        if std::env::var_os("CAPSID_BLESS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(&path).unwrap(), "{name}");
    }

    #[test]
    fn the_files_of_cgroup_v1_become_runcs_document() {
        for name in ["v1", "v1-bfq"] {
            let stats = v1::read(|controller| {
                let dir = fixture(name).join(controller);
                dir.is_dir().then_some(Files(dir))
            });
            golden(name, &stats);
        }
    }

    #[test]
    fn the_files_of_cgroup_v2_become_runcs_document() {
        for name in ["v2", "v2-every-controller"] {
            golden(name, &v2::read(&Files(fixture(name))));
        }
    }

    /// The same with what runc leaves out.
    fn golden_whole(name: &str, stats: &Stats, further: &Further) {
        let path = fixture(name).join("stats-v2.json");
        let text = serde_json::to_string_pretty(&stats.with(further).unwrap()).unwrap() + "\n";
        if std::env::var_os("CAPSID_BLESS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(&path).unwrap(), "{name}");
    }

    #[test]
    fn what_runc_leaves_out_is_in_the_whole_document_of_both_versions() {
        let of_v1 = |controller: &str| {
            let dir = fixture("v1-bfq").join(controller);
            dir.is_dir().then_some(Files(dir))
        };
        golden_whole("v1-bfq", &v1::read(of_v1), &further::read(of_v1));
        let name = "v2-every-controller";
        let files = || Files(fixture(name));
        let further = further::read(|_| Some(files()));
        assert!(further.rdma.is_some() && further.misc.is_some());
        golden_whole(name, &v2::read(&files()), &further);
    }

    #[test]
    fn a_cgroup_without_files_counts_nothing_and_has_every_key_that_runc_has() {
        let text = serde_json::to_string(&Stats::default()).unwrap();
        let entry = r#"{"limit":0,"failcnt":0}"#;
        let cpuset = r#"{"cpu_exclusive":0,"mem_hardwall":0,"mem_exclusive":0,"memory_migrate":0,"memory_spread_page":0,"memory_spread_slab":0,"memory_pressure":0,"sched_load_balance":0,"sched_relax_domain_level":0}"#;
        let expected = format!(
            r#"{{"cpu":{{"usage":{{"kernel":0,"user":0}},"throttling":{{}}}},"cpuset":{cpuset},"memory":{{"usage":{entry},"swap":{entry},"kernel":{entry},"kernelTCP":{entry}}},"pids":{{}},"blkio":{{}},"hugetlb":{{}},"intel_rdt":{{}},"network_interfaces":null}}"#
        );
        assert_eq!(text, expected);
    }
}
