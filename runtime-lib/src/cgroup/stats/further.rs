//! What the kernel counts beyond runc's document: bursts, what I/O costs (blk-iocost), the
//! handles of RDMA and the machine's miscellaneous resources. Both versions of cgroups have the
//! same files for all but the cost of I/O, which is cgroup v2's: v1 calls its controller blkio, so
//! that `io` finds nothing there.
//!
//! The document with these is version 2 of the format (`json-v2`, stats-v2.json), of either version
//! of cgroups.

use std::collections::BTreeMap;

use serde::Serialize;

use super::super::file;
use super::files::Files;
use super::{BlockIoEntry, Stats};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Further {
    pub burst: Burst,
    pub io_cost: IoCost,
    /// None: the controller is not there.
    pub rdma: Option<Rdma>,
    /// By resource, such as `sev`; None: the controller is not there.
    pub misc: Option<BTreeMap<String, Misc>>,
}

/// cpu.max.burst: how often it was used, and for how many nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Burst {
    pub periods: u64,
    pub time: u64,
}

/// What blk-iocost has charged, by disk, in microseconds of its virtual time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IoCost {
    pub io_cost_usage: Vec<BlockIoEntry>,
    pub io_cost_wait: Vec<BlockIoEntry>,
    pub io_cost_indebt: Vec<BlockIoEntry>,
    pub io_cost_indelay: Vec<BlockIoEntry>,
}

/// Of each device; no limit is the largest number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rdma {
    pub limit: Vec<RdmaDevice>,
    pub current: Vec<RdmaDevice>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RdmaDevice {
    pub device: String,
    pub hca_handles: u32,
    pub hca_objects: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Misc {
    pub usage: u64,
    /// No limit is the largest number.
    pub limit: u64,
    /// How often the limit was in the way.
    pub events: u64,
}

/// Reads the directories of the controllers, by their names on v2.
pub(super) fn read(of: impl Fn(&str) -> Option<Files>) -> Further {
    let cpu = of("cpu").map(|files| files.table("cpu.stat"));
    let count = |key| cpu.as_ref().and_then(|table| table.get(key)).copied();
    let burst = Burst {
        periods: count("nr_bursts").unwrap_or_default(),
        time: match count("burst_usec") {
            Some(micros) => micros.saturating_mul(1000),
            None => count("burst_time").unwrap_or_default(),
        },
    };
    Further {
        burst,
        io_cost: of("io").map(|files| io_cost(&files)).unwrap_or_default(),
        rdma: of("rdma").and_then(|files| rdma(&files)),
        misc: of("misc").and_then(|files| misc(&files)),
    }
}

fn io_cost(files: &Files) -> IoCost {
    let mut cost = IoCost::default();
    files.keyed_disks("io.stat", |key, entry| {
        let list = match key {
            "cost.usage" => &mut cost.io_cost_usage,
            "cost.wait" => &mut cost.io_cost_wait,
            "cost.indebt" => &mut cost.io_cost_indebt,
            "cost.indelay" => &mut cost.io_cost_indelay,
            _ => return,
        };
        list.push(entry);
    });
    cost
}

/// Lines as `mlx4_0 hca_handle=2 hca_object=max`.
fn rdma(files: &Files) -> Option<Rdma> {
    let devices = |text: String| {
        let device = |line: &str| {
            let mut words = line.split_whitespace();
            let mut device = RdmaDevice {
                device: words.next()?.to_owned(),
                ..RdmaDevice::default()
            };
            for (key, value) in words.filter_map(|word| word.split_once('=')) {
                let value = match value {
                    "max" => u32::MAX,
                    value => value.parse().unwrap_or_default(),
                };
                match key {
                    "hca_handle" => device.hca_handles = value,
                    "hca_object" => device.hca_objects = value,
                    _ => {}
                }
            }
            Some(device)
        };
        text.lines().filter_map(device).collect()
    };
    Some(Rdma {
        current: devices(files.text("rdma.current")?),
        limit: devices(files.text("rdma.max").unwrap_or_default()),
    })
}

fn misc(files: &Files) -> Option<BTreeMap<String, Misc>> {
    let current = file::table(&files.text("misc.current")?);
    let limits = files.text("misc.max").unwrap_or_default();
    let limit = |name: &str| {
        let mut pairs = limits.lines().filter_map(|line| line.split_once(' '));
        let (_, value) = pairs.find(|(key, _)| *key == name)?;
        value.trim().parse().ok()
    };
    let events = files.table("misc.events");
    let resource = |(name, usage): (String, u64)| {
        let misc = Misc {
            usage,
            limit: limit(&name).unwrap_or(u64::MAX),
            events: events
                .get(&format!("{name}.max"))
                .copied()
                .unwrap_or_default(),
        };
        (name, misc)
    };
    Some(current.into_iter().map(resource).collect())
}

impl Stats {
    /// runc's document with what it leaves out: `cpu.burst`, the lists `blkio.ioCost…`, `rdma`, `misc`.
    ///
    /// # Errors
    /// None, in fact: these are numbers under names.
    pub fn with(&self, further: &Further) -> serde_json::Result<serde_json::Value> {
        let mut document = serde_json::to_value(self)?;
        document["cpu"]["burst"] = serde_json::to_value(&further.burst)?;
        if let serde_json::Value::Object(cost) = serde_json::to_value(&further.io_cost)? {
            for (key, list) in cost {
                document["blkio"][key] = list;
            }
        }
        document["rdma"] = serde_json::to_value(&further.rdma)?;
        document["misc"] = serde_json::to_value(&further.misc)?;
        Ok(document)
    }
}
