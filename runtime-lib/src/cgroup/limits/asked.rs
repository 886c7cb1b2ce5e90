//! What linux.resources asks for, with the zeros that engines write for "leave it" taken out,
//! and the rules between the fields checked. It must not know a file.

use std::collections::HashMap;

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxHugepageLimit, LinuxInterfacePriority, LinuxMemory, LinuxRdma,
    LinuxResources, LinuxThrottleDevice, LinuxWeightDevice,
};

use super::Version;
use super::unified;
use crate::error::{Code, Error, Result};
use crate::spec::resources::memory_and_swap;
use crate::spec::{join, shorten};

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::cgroup) struct Asked<'a> {
    pub shares: Option<u64>,
    pub quota: Option<i64>,
    pub period: Option<u64>,
    pub burst: Option<u64>,
    pub idle: Option<i64>,
    pub realtime_runtime: Option<i64>,
    pub realtime_period: Option<u64>,
    pub cpus: Option<&'a str>,
    pub mems: Option<&'a str>,
    pub limit: Option<i64>,
    pub swap: Option<i64>,
    pub reservation: Option<i64>,
    pub swappiness: Option<u64>,
    pub disable_oom_killer: Option<bool>,
    pub check_before_update: bool,
    pub kernel: bool,
    pub kernel_tcp: bool,
    /// Memory that is not to be counted hierarchically.
    pub flat: bool,
    pub pids: Option<i64>,
    pub weight: Option<u16>,
    pub weights: &'a [LinuxWeightDevice],
    /// Of the whole, or of a device.
    pub leaf_weight: bool,
    pub read_bps: &'a [LinuxThrottleDevice],
    pub write_bps: &'a [LinuxThrottleDevice],
    pub read_iops: &'a [LinuxThrottleDevice],
    pub write_iops: &'a [LinuxThrottleDevice],
    pub huge_pages: &'a [LinuxHugepageLimit],
    pub rdma: Option<&'a HashMap<String, LinuxRdma>>,
    pub class_id: Option<u32>,
    pub priorities: &'a [LinuxInterfacePriority],
    pub unified: Option<&'a HashMap<String, String>>,
}

impl<'a> Asked<'a> {
    pub fn read(resources: &'a LinuxResources, raw: Option<&serde_json::Value>) -> Asked<'a> {
        let mut asked = Asked::default();
        if let Some(cpu) = resources.cpu() {
            asked.cpu(cpu);
        }
        if let Some(memory) = resources.memory() {
            asked.memory(memory);
        }
        if let Some(block_io) = resources.block_io() {
            asked.block_io(block_io);
        }
        if let Some(network) = resources.network() {
            asked.class_id = network.class_id().filter(|v| *v != 0);
            asked.priorities = list(network.priorities());
        }
        asked.huge_pages = list(resources.hugepage_limits());
        asked.rdma = resources.rdma().as_ref();
        asked.unified = resources.unified().as_ref();
        // Zero is a limit here (of one task, the least that can start anything), so that an
        // absent number has to be told from it.
        let absent = raw.is_some_and(|raw| raw.pointer("/pids/limit").is_none_or(|v| v.is_null()));
        asked.pids = resources
            .pids()
            .filter(|_| !absent)
            .map(|pids| pids.limit());
        asked
    }

    fn cpu(&mut self, cpu: &'a LinuxCpu) {
        self.shares = cpu.shares().filter(|v| *v != 0);
        self.quota = cpu.quota().filter(|v| *v != 0);
        self.period = cpu.period().filter(|v| *v != 0);
        self.burst = cpu.burst();
        self.idle = cpu.idle();
        self.realtime_runtime = cpu.realtime_runtime().filter(|v| *v != 0);
        self.realtime_period = cpu.realtime_period().filter(|v| *v != 0);
        self.cpus = cpu.cpus().as_deref().filter(|v| !v.is_empty());
        self.mems = cpu.mems().as_deref().filter(|v| !v.is_empty());
    }

    fn memory(&mut self, memory: &LinuxMemory) {
        self.limit = memory.limit().filter(|v| *v != 0);
        self.swap = memory.swap().filter(|v| *v != 0);
        self.reservation = memory.reservation().filter(|v| *v != 0);
        // Docker's -1, which is "leave it", as Go makes it unsigned.
        self.swappiness = memory.swappiness().filter(|v| *v != u64::MAX);
        self.disable_oom_killer = memory.disable_oom_killer();
        self.check_before_update = memory.check_before_update() == Some(true);
        #[allow(deprecated)] // engines still write it; what it means is said in the notice
        let kernel = memory.kernel();
        self.kernel = kernel.is_some_and(|v| v > 0);
        self.kernel_tcp = memory.kernel_tcp().is_some_and(|v| v > 0);
        self.flat = memory.use_hierarchy() == Some(false);
    }

    fn block_io(&mut self, block_io: &'a LinuxBlockIo) {
        self.weight = block_io.weight().filter(|v| *v != 0);
        self.weights = list(block_io.weight_device());
        let leaf = |weight: Option<u16>| weight.is_some_and(|v| v != 0);
        self.leaf_weight = leaf(block_io.leaf_weight())
            || self.weights.iter().any(|device| leaf(device.leaf_weight()));
        self.read_bps = list(block_io.throttle_read_bps_device());
        self.write_bps = list(block_io.throttle_write_bps_device());
        self.read_iops = list(block_io.throttle_read_iops_device());
        self.write_iops = list(block_io.throttle_write_iops_device());
    }

    /// # Errors
    /// [`Code::InvalidConfig`] with the JSON pointer.
    pub fn check(&self, version: Version) -> Result<()> {
        self.check_cpu(version)?;
        self.check_memory()?;
        self.check_block_io()?;
        for (n, pages) in self.huge_pages.iter().enumerate() {
            let at = format!("/linux/resources/hugepageLimits/{n}");
            let size = pages.page_size();
            if !is_page_size(size) {
                let size = shorten(size);
                let tail = format!("invalid hugepage size {size:?}");
                return refuse(
                    tail,
                    format!("{at}/pageSize"),
                    "it is a size such as 64KB, 2MB or 1GB",
                );
            }
            if pages.limit() < 0 {
                let tail = format!("invalid value: {}", pages.limit());
                return refuse(tail, format!("{at}/limit"), "it is a number of bytes");
            }
        }
        for name in self.rdma.iter().flat_map(|devices| devices.keys()) {
            if !is_word(name) {
                let tail = format!("invalid RDMA device name {:?}", shorten(name));
                return refuse(tail, join("/linux/resources/rdma", name), "");
            }
        }
        for (n, priority) in self.priorities.iter().enumerate() {
            let name = priority.name();
            if !is_word(name) || name.contains('/') || name.len() > 15 {
                let at = format!("/linux/resources/network/priorities/{n}/name");
                let name = shorten(name);
                return refuse(format!("invalid network interface name {name:?}"), at, "");
            }
        }
        match self.unified {
            Some(unified) => unified::check(version, unified),
            None => Ok(()),
        }
    }

    fn check_cpu(&self, version: Version) -> Result<()> {
        if version == Version::V1 {
            let tail = match self.shares {
                Some(..2) => Some("the minimum allowed cpu-shares is 2"),
                Some(262_145..) => Some("the maximum allowed cpu-shares is 262144"),
                _ => None,
            };
            if let Some(tail) = tail {
                return refuse(tail, "/linux/resources/cpu/shares", "");
            }
        }
        if let Some(idle) = self.idle.filter(|idle| ![0, 1].contains(idle)) {
            let tail = format!("invalid value: {idle}");
            return refuse(tail, "/linux/resources/cpu/idle", "it is 0 or 1");
        }
        let lists = [
            ("/linux/resources/cpu/cpus", self.cpus),
            ("/linux/resources/cpu/mems", self.mems),
        ];
        for (pointer, list) in lists {
            if let Some(list) = list.filter(|list| !is_list(list)) {
                let tail = format!("invalid list: {:?}", shorten(list));
                return refuse(
                    tail,
                    pointer,
                    "it is made of numbers and ranges such as 0-2,7",
                );
            }
        }
        Ok(())
    }

    fn check_memory(&self) -> Result<()> {
        let bytes = [
            ("/linux/resources/memory/limit", self.limit),
            ("/linux/resources/memory/swap", self.swap),
            ("/linux/resources/memory/reservation", self.reservation),
        ];
        for (pointer, value) in bytes {
            if let Some(value @ ..-1) = value {
                let tail = format!("invalid value: {value}");
                return refuse(tail, pointer, "it is a number of bytes, or -1 for no limit");
            }
        }
        if let Some(swap @ 0..) = self.swap {
            let tail = match self.limit {
                None | Some(-1) => Some("unable to set swap limit without memory limit"),
                Some(limit) if swap < limit => Some("memory+swap limit should be >= memory limit"),
                Some(_) => None,
            };
            if let Some(tail) = tail {
                let hint = match self.limit {
                    None | Some(-1) => "memory.limit has to be there too (--memory of update)",
                    Some(_) => "",
                };
                return refuse(tail, "/linux/resources/memory/swap", hint);
            }
        }
        if let Some(swappiness @ 101..) = self.swappiness {
            let tail =
                format!("invalid memory swappiness value: {swappiness} (valid range is 0-100)");
            return refuse(tail, "/linux/resources/memory/swappiness", "");
        }
        Ok(())
    }

    fn check_block_io(&self) -> Result<()> {
        let whole = ("/linux/resources/blockIO/weight".to_owned(), self.weight);
        let devices = self.weights.iter().enumerate().map(|(n, device)| {
            let at = format!("/linux/resources/blockIO/weightDevice/{n}/weight");
            (at, device.weight().filter(|v| *v != 0))
        });
        for (at, weight) in std::iter::once(whole).chain(devices) {
            if let Some(weight @ (..10 | 1001..)) = weight {
                let tail = format!("invalid weight: {weight}");
                return refuse(tail, at, "it is from 10 to 1000");
            }
        }
        let throttled = [
            ("throttleReadBpsDevice", self.read_bps),
            ("throttleWriteBpsDevice", self.write_bps),
            ("throttleReadIOPSDevice", self.read_iops),
            ("throttleWriteIOPSDevice", self.write_iops),
        ];
        let throttled = throttled.into_iter().flat_map(|(list, devices)| {
            let numbers = devices
                .iter()
                .map(|device| (device.major(), device.minor()));
            numbers
                .enumerate()
                .map(move |(n, numbers)| (list, n, numbers))
        });
        let weighted = self.weights.iter().enumerate();
        let weighted =
            weighted.map(|(n, device)| ("weightDevice", n, (device.major(), device.minor())));
        for (list, n, (major, minor)) in weighted.chain(throttled) {
            for (name, number) in [("major", major), ("minor", minor)] {
                if u32::try_from(number).is_err() {
                    let at = format!("/linux/resources/blockIO/{list}/{n}/{name}");
                    return refuse(format!("invalid {name} {number}"), at, "");
                }
            }
        }
        Ok(())
    }

    /// v1 counts memory and swap together, as config.json does.
    pub fn memory_and_swap(&self) -> Option<i64> {
        memory_and_swap(self.limit, self.swap)
    }

    /// v2 counts swap alone.
    pub fn swap_alone(&self) -> Option<i64> {
        match self.memory_and_swap()? {
            -1 => Some(-1),
            both => Some(both.saturating_sub(self.limit.unwrap_or(0))),
        }
    }
}

fn refuse(tail: impl Into<String>, at: impl Into<String>, hint: &str) -> Result<()> {
    let error = Error::new(Code::InvalidConfig, tail).at(at);
    Err(match hint {
        "" => error,
        hint => error.hint(hint),
    })
}

fn list<T>(list: &Option<Vec<T>>) -> &[T] {
    list.as_deref().unwrap_or(&[])
}

/// cpuset(7), "List format": numbers and ranges, a range with an optional stride.
fn is_list(list: &str) -> bool {
    let number = |text: &str| text.parse::<u32>().is_ok() && !text.starts_with('+');
    list.trim().split(',').all(|part| {
        let (range, stride) = part.split_once(':').unwrap_or((part, "0/0"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (used, group) = stride.split_once('/').unwrap_or((stride, "0"));
        [first, last, used, group].into_iter().all(number)
    })
}

/// config-linux.md, "Huge page limits": a number, K, M or G, and B.
fn is_page_size(size: &str) -> bool {
    let number = size
        .strip_suffix('B')
        .and_then(|size| size.strip_suffix(['K', 'M', 'G']));
    number.is_some_and(|number| {
        !number.starts_with('0')
            && !number.is_empty()
            && number.len() < 10
            && number.bytes().all(|b| b.is_ascii_digit())
    })
}

/// What can stand in a line of words.
fn is_word(name: &str) -> bool {
    !name.is_empty() && name.len() < 256 && !name.contains(|c: char| c.is_whitespace() || c == '\0')
}
