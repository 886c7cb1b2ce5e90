//! The limits of linux.resources: one table, in which each row says what a setting is called
//! in config.json, in cgroup v1 and in cgroup v2, and how its value is converted.
//!
//! Values are computed here once, before anything is made; writing them is the managers'
//! business. A row's order in the table is the order of the writes.

use oci_spec::runtime::LinuxResources;

use super::devices::DevicePolicy;
use super::plan::Group;
use crate::error::{Code, Error, Result};

/// Which of the two interfaces holds the controllers. A hybrid host is `V1`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    #[default]
    V2,
}

/// What is written into a container's cgroups.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    version: Version,
    pub(super) settings: Vec<Setting>,
    /// `None`: nothing is restricted (no cgroup, or not permitted to).
    pub(super) devices: Option<DevicePolicy>,
}

/// One file to be written.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub row: &'static Row,
    pub file: &'static str,
    pub value: String,
}

/// One line of the table.
#[derive(Debug)]
pub(super) struct Row {
    pub pointer: &'static str,
    pub controller: &'static str,
    v1: Column,
    v2: Column,
    /// What the kernel accepts, said when it refuses a value.
    pub range: &'static str,
    /// The kernel checks this value against the next row's old one: when it refuses, the
    /// next row is written first (a limit is raised together with its companion).
    pub with_next: bool,
}

/// A file and the conversion of the setting into what is written there. `None`: not asked
/// for, or said by another row.
type Column = (&'static str, fn(&Asked<'_>) -> Option<String>);

const TABLE: &[Row] = &[
    Row {
        pointer: "/linux/resources/cpu/shares",
        controller: "cpu",
        v1: ("cpu.shares", |a| a.shares.map(text)),
        v2: ("cpu.weight", |a| a.shares.map(weight).map(text)),
        range: "shares are 2 to 262144",
        with_next: false,
    },
    Row {
        pointer: "/linux/resources/cpu/period",
        controller: "cpu",
        v1: ("cpu.cfs_period_us", |a| a.period.map(text)),
        v2: ("cpu.max", period_alone),
        range: CFS,
        with_next: true,
    },
    Row {
        pointer: "/linux/resources/cpu/quota",
        controller: "cpu",
        v1: ("cpu.cfs_quota_us", |a| a.quota.map(text)),
        v2: ("cpu.max", quota_and_period),
        range: CFS,
        with_next: false,
    },
    Row {
        pointer: "/linux/resources/cpu/cpus",
        controller: "cpuset",
        v1: ("cpuset.cpus", |a| a.cpus.map(text)),
        v2: ("cpuset.cpus", |a| a.cpus.map(text)),
        range: "cpus are a list such as 0-2,7 of processors that the parent cgroup has too",
        with_next: false,
    },
    Row {
        pointer: "/linux/resources/cpu/mems",
        controller: "cpuset",
        v1: ("cpuset.mems", |a| a.mems.map(text)),
        v2: ("cpuset.mems", |a| a.mems.map(text)),
        range: "mems are a list such as 0-1 of memory nodes that the parent cgroup has too",
        with_next: false,
    },
    Row {
        pointer: "/linux/resources/memory/limit",
        controller: "memory",
        v1: ("memory.limit_in_bytes", |a| a.limit.map(text)),
        v2: ("memory.max", |a| a.limit.map(bytes)),
        range: "bytes or -1, above what is in use already",
        with_next: true,
    },
    Row {
        pointer: "/linux/resources/memory/swap",
        controller: "memory",
        v1: (MEMSW, |a| a.memory_and_swap().map(text)),
        v2: (SWAP, |a| a.swap_alone().map(bytes)),
        range: "bytes of memory and swap together, or -1",
        with_next: false,
    },
    Row {
        pointer: "/linux/resources/memory/reservation",
        controller: "memory",
        v1: ("memory.soft_limit_in_bytes", |a| a.reservation.map(text)),
        v2: ("memory.low", |a| a.reservation.map(bytes)),
        range: "bytes or -1",
        with_next: false,
    },
    Row {
        pointer: "/linux/resources/pids/limit",
        controller: "pids",
        v1: ("pids.max", |a| a.pids.map(tasks)),
        v2: ("pids.max", |a| a.pids.map(tasks)),
        range: "1 to 4194304 tasks, or -1",
        with_next: false,
    },
];

const CFS: &str = "a quota is -1 or at least 1000 microseconds, a period 1000 to 1000000, and \
                   their ratio at most the parent cgroup's";
const MEMSW: &str = "memory.memsw.limit_in_bytes";
const SWAP: &str = "memory.swap.max";

/// What the config asks for, with the zeros that engines write for "leave it" taken out, and
/// the rules between the fields checked.
#[derive(Clone, Copy, Debug, Default)]
struct Asked<'a> {
    shares: Option<u64>,
    quota: Option<i64>,
    period: Option<u64>,
    cpus: Option<&'a str>,
    mems: Option<&'a str>,
    limit: Option<i64>,
    swap: Option<i64>,
    reservation: Option<i64>,
    pids: Option<i64>,
}

impl<'a> Asked<'a> {
    fn read(resources: &'a LinuxResources, raw: Option<&serde_json::Value>) -> Asked<'a> {
        let mut asked = Asked::default();
        if let Some(cpu) = resources.cpu() {
            asked.shares = cpu.shares().filter(|v| *v != 0);
            asked.quota = cpu.quota().filter(|v| *v != 0);
            asked.period = cpu.period().filter(|v| *v != 0);
            asked.cpus = cpu.cpus().as_deref().filter(|v| !v.is_empty());
            asked.mems = cpu.mems().as_deref().filter(|v| !v.is_empty());
        }
        if let Some(memory) = resources.memory() {
            asked.limit = memory.limit().filter(|v| *v != 0);
            asked.swap = memory.swap().filter(|v| *v != 0);
            asked.reservation = memory.reservation().filter(|v| *v != 0);
        }
        // Zero is a limit here (of one task, the least that can start anything), so that an
        // absent number has to be told from it.
        let absent = raw.is_some_and(|raw| raw.pointer("/pids/limit").is_none_or(|v| v.is_null()));
        asked.pids = resources
            .pids()
            .filter(|_| !absent)
            .map(|pids| pids.limit());
        asked
    }

    fn check(&self, version: Version) -> Result<()> {
        let bytes = [
            ("/linux/resources/memory/limit", self.limit),
            ("/linux/resources/memory/swap", self.swap),
            ("/linux/resources/memory/reservation", self.reservation),
        ];
        for (pointer, value) in bytes {
            if let Some(value @ ..-1) = value {
                let tail = format!("invalid value: {value}");
                return Err(Error::new(Code::InvalidConfig, tail)
                    .at(pointer)
                    .hint("bytes, or -1 for no limit"));
            }
        }
        if let Some(swap @ 0..) = self.swap {
            let tail = match self.limit {
                None | Some(-1) => Some("unable to set swap limit without memory limit"),
                Some(limit) if swap < limit => Some("memory+swap limit should be >= memory limit"),
                Some(_) => None,
            };
            if let Some(tail) = tail {
                let pointer = "/linux/resources/memory/swap";
                return Err(Error::new(Code::InvalidConfig, tail).at(pointer));
            }
        }
        if version == Version::V1 {
            let tail = match self.shares {
                Some(..2) => Some("the minimum allowed cpu-shares is 2"),
                Some(262_145..) => Some("the maximum allowed cpu-shares is 262144"),
                _ => None,
            };
            if let Some(tail) = tail {
                return Err(Error::new(Code::InvalidConfig, tail).at("/linux/resources/cpu/shares"));
            }
        }
        let lists = [
            ("/linux/resources/cpu/cpus", self.cpus),
            ("/linux/resources/cpu/mems", self.mems),
        ];
        for (pointer, list) in lists {
            if let Some(list) = list.filter(|list| !is_list(list)) {
                return Err(
                    Error::new(Code::InvalidConfig, format!("invalid list: {list:?}"))
                        .at(pointer)
                        .hint("numbers and ranges such as 0-2,7"),
                );
            }
        }
        Ok(())
    }

    /// v1 counts memory and swap together, as config.json does. An unlimited memory without
    /// a word on swap means both.
    fn memory_and_swap(&self) -> Option<i64> {
        match (self.limit, self.swap) {
            (Some(-1), None) => Some(-1),
            (_, swap) => swap,
        }
    }

    /// v2 counts swap alone.
    fn swap_alone(&self) -> Option<i64> {
        match self.memory_and_swap()? {
            -1 => Some(-1),
            both => Some(both.saturating_sub(self.limit.unwrap_or(0))),
        }
    }
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

fn text(value: impl ToString) -> String {
    value.to_string()
}

fn bytes(value: i64) -> String {
    match value {
        ..0 => "max".to_owned(),
        value => value.to_string(),
    }
}

/// Zero would let nothing start at all, the process that is cloned into the cgroup included.
fn tasks(limit: i64) -> String {
    match limit {
        ..0 => "max".to_owned(),
        limit => limit.max(1).to_string(),
    }
}

/// cpu.max is `QUOTA PERIOD`; the kernel keeps the period when it is left out.
fn quota_and_period(asked: &Asked<'_>) -> Option<String> {
    let quota = bytes(asked.quota?);
    Some(match asked.period {
        Some(period) => format!("{quota} {period}"),
        None => quota,
    })
}

fn period_alone(asked: &Asked<'_>) -> Option<String> {
    let period = asked.period.filter(|_| asked.quota.is_none())?;
    Some(format!("max {period}"))
}

/// The cpu.weight (1 to 10000) for v1's cpu.shares (2 to 262144): a curve through
/// (2, 1), (1024, 100) and (262144, 10000), so that the defaults of both meet.
/// `ceil(10^((l² + 125·l)/612 − 7/34))` with l = log2(shares).
pub(super) fn weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        shares => {
            let l = (shares as f64).log2();
            let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
            10f64.powf(exponent).ceil() as u64
        }
    }
}

impl Limits {
    /// The limits that `resources` asks for. `raw` is the JSON that it was read from, for
    /// what the types cannot say (an absent `pids.limit`).
    ///
    /// # Errors
    /// [`Code::InvalidConfig`] with the JSON pointer: values out of range, and swap without
    /// or below the memory limit.
    pub(super) fn read(
        version: Version,
        resources: Option<&LinuxResources>,
        raw: Option<&serde_json::Value>,
    ) -> Result<Limits> {
        let asked = resources.map_or_else(Asked::default, |r| Asked::read(r, raw));
        asked.check(version)?;
        let mut settings = Vec::new();
        for row in TABLE {
            let (file, convert) = match version {
                Version::V1 => row.v1,
                Version::V2 => row.v2,
            };
            let value = convert(&asked);
            settings.extend(value.map(|value| Setting { row, file, value }));
        }
        Ok(Limits {
            version,
            settings,
            devices: None,
        })
    }

    /// What is written into this directory.
    pub(super) fn of<'a>(&'a self, group: &Group) -> Vec<&'a Setting> {
        let here = |s: &&Setting| match self.version {
            Version::V1 => group.has(s.row.controller),
            Version::V2 => true,
        };
        self.settings.iter().filter(here).collect()
    }

    /// Whether both halves of a v1 cpuset are given, so that nothing is to be copied.
    pub(super) fn sets_whole_cpuset(&self) -> bool {
        let cpuset = |s: &&Setting| s.row.controller == "cpuset";
        self.settings.iter().filter(cpuset).count() == 2
    }

    /// The writes into a directory, as `explain` prints them.
    pub(super) fn describe(&self, group: &Group) -> Vec<String> {
        let dir = group.dir();
        let write = |s: &Setting| format!("write {} to {}", s.value, dir.join(s.file).display());
        let mut lines: Vec<_> = self.of(group).into_iter().map(write).collect();
        if let Some(policy) = &self.devices {
            lines.extend(policy.describe(group));
        }
        lines
    }
}

impl Setting {
    /// Whether the file may be missing because the kernel does not account swap, and that is
    /// no loss: what is asked for is no limit (or, on v2, no swap).
    pub(super) fn may_be_absent(&self) -> bool {
        match self.file {
            MEMSW => self.value == "-1",
            SWAP => self.value == "max" || self.value == "0",
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(version: Version, resources: serde_json::Value) -> Result<Vec<(String, String)>> {
        let typed: LinuxResources = serde_json::from_value(resources.clone()).unwrap();
        let limits = Limits::read(version, Some(&typed), Some(&resources))?;
        let pair = |s: Setting| (s.file.to_owned(), s.value);
        Ok(limits.settings.into_iter().map(pair).collect())
    }

    fn written(version: Version, resources: serde_json::Value) -> Vec<String> {
        let settings = read(version, resources).unwrap();
        settings
            .into_iter()
            .map(|(file, value)| format!("{file}={value}"))
            .collect()
    }

    fn refusal(version: Version, resources: serde_json::Value) -> (String, String) {
        let error = read(version, resources).unwrap_err();
        (error.pointer().unwrap().to_owned(), error.tail().to_owned())
    }

    #[test]
    fn every_limit_has_its_file_in_both_versions() {
        let all = json!({
            "cpu": {"shares": 512, "quota": 50000, "period": 100000, "cpus": "0-1", "mems": "0"},
            "memory": {"limit": 1048576, "swap": 3145728, "reservation": 524288},
            "pids": {"limit": 50},
        });
        assert_eq!(
            written(Version::V1, all.clone()),
            [
                "cpu.shares=512",
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=50000",
                "cpuset.cpus=0-1",
                "cpuset.mems=0",
                "memory.limit_in_bytes=1048576",
                "memory.memsw.limit_in_bytes=3145728",
                "memory.soft_limit_in_bytes=524288",
                "pids.max=50",
            ]
        );
        assert_eq!(
            written(Version::V2, all),
            [
                "cpu.weight=59",
                "cpu.max=50000 100000",
                "cpuset.cpus=0-1",
                "cpuset.mems=0",
                "memory.max=1048576",
                "memory.swap.max=2097152",
                "memory.low=524288",
                "pids.max=50",
            ]
        );
    }

    #[test]
    fn the_zeros_that_docker_writes_leave_everything_alone() {
        let zeros = json!({
            "cpu": {"shares": 0, "quota": 0, "period": 0, "cpus": "", "mems": ""},
            "memory": {"limit": 0, "swap": 0, "reservation": 0, "kernel": 0},
            "pids": {},
        });
        for version in [Version::V1, Version::V2] {
            assert_eq!(written(version, zeros.clone()), Vec::<String>::new());
        }
    }

    #[test]
    fn minus_one_lifts_a_limit() {
        let lifted = json!({
            "cpu": {"quota": -1},
            "memory": {"limit": -1},
            "pids": {"limit": -1},
        });
        assert_eq!(
            written(Version::V1, lifted.clone()),
            [
                "cpu.cfs_quota_us=-1",
                "memory.limit_in_bytes=-1",
                "memory.memsw.limit_in_bytes=-1",
                "pids.max=max",
            ]
        );
        assert_eq!(
            written(Version::V2, lifted),
            [
                "cpu.max=max",
                "memory.max=max",
                "memory.swap.max=max",
                "pids.max=max"
            ]
        );
    }

    #[test]
    fn a_pids_limit_of_zero_still_lets_the_first_process_start() {
        assert_eq!(
            written(Version::V2, json!({"pids": {"limit": 0}})),
            ["pids.max=1"]
        );
    }

    #[test]
    fn a_period_alone_keeps_the_quota_unlimited() {
        let period = json!({"cpu": {"period": 50000}});
        assert_eq!(
            written(Version::V1, period.clone()),
            ["cpu.cfs_period_us=50000"]
        );
        assert_eq!(written(Version::V2, period), ["cpu.max=max 50000"]);
    }

    #[test]
    fn b41_swap_needs_a_memory_limit_and_is_not_below_it() {
        let swap = "/linux/resources/memory/swap".to_owned();
        for version in [Version::V1, Version::V2] {
            assert_eq!(
                refusal(version, json!({"memory": {"swap": 4096}})),
                (
                    swap.clone(),
                    "unable to set swap limit without memory limit".to_owned()
                )
            );
            assert_eq!(
                refusal(version, json!({"memory": {"limit": 8192, "swap": 4096}})),
                (
                    swap.clone(),
                    "memory+swap limit should be >= memory limit".to_owned()
                )
            );
            let unlimited = json!({"memory": {"limit": 8192, "swap": -1}});
            assert!(read(version, unlimited).is_ok());
        }
    }

    #[test]
    fn swap_equal_to_the_limit_means_no_swap() {
        let none = json!({"memory": {"limit": 8192, "swap": 8192}});
        assert_eq!(
            written(Version::V2, none),
            ["memory.max=8192", "memory.swap.max=0"]
        );
    }

    #[test]
    fn values_below_minus_one_and_bad_lists_are_refused() {
        let rows = [
            (
                json!({"memory": {"limit": -2}}),
                "/linux/resources/memory/limit",
            ),
            (
                json!({"memory": {"reservation": -3}}),
                "/linux/resources/memory/reservation",
            ),
            (json!({"cpu": {"cpus": "0-"}}), "/linux/resources/cpu/cpus"),
            (json!({"cpu": {"cpus": "a"}}), "/linux/resources/cpu/cpus"),
            (
                json!({"cpu": {"mems": "0,,1"}}),
                "/linux/resources/cpu/mems",
            ),
        ];
        for (resources, pointer) in rows {
            assert_eq!(refusal(Version::V2, resources).0, pointer);
        }
    }

    #[test]
    fn v1_shares_out_of_range_are_refused_and_v2_weights_saturate() {
        let shares = |shares: u64| json!({"cpu": {"shares": shares}});
        assert_eq!(
            refusal(Version::V1, shares(1)).1,
            "the minimum allowed cpu-shares is 2"
        );
        assert_eq!(
            refusal(Version::V1, shares(262145)).1,
            "the maximum allowed cpu-shares is 262144"
        );
        assert_eq!(written(Version::V2, shares(1)), ["cpu.weight=1"]);
        assert_eq!(written(Version::V2, shares(u64::MAX)), ["cpu.weight=10000"]);
    }

    /// The public definition: github.com/opencontainers/cgroups, ConvertCPUSharesToCgroupV2Value.
    #[test]
    fn shares_become_weights_by_the_curve_through_the_defaults() {
        let golden = [
            (2, 1),
            (3, 2),
            (10, 4),
            (100, 17),
            (256, 35),
            (512, 59),
            (1023, 100),
            (1024, 100),
            (1025, 101),
            (2048, 174),
            (4096, 303),
            (10240, 639),
            (100_000, 4340),
            (262_143, 10_000),
            (262_144, 10_000),
        ];
        for (shares, expected) in golden {
            assert_eq!(weight(shares), expected, "{shares} shares");
        }
        let curve: Vec<u64> = (2..=262_144).map(weight).collect();
        assert!(curve.is_sorted());
    }
}
