//! What comes out of which resources on which version.

use std::path::PathBuf;

use serde_json::json;

use super::convert::weight;
use super::*;
use crate::cgroup::CgroupManager;
use crate::cgroup::v2::V2;
use crate::spec::resources::ZERO_LEAVES;

fn read(version: Version, resources: serde_json::Value) -> Result<Vec<(String, String)>> {
    let typed: LinuxResources = serde_json::from_value(resources.clone()).unwrap();
    let limits = Limits::read(version, Some(&typed), Some(&resources))?;
    let pair = |s: Setting| (s.file.into_owned(), s.value);
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

/// A setting, its files in v1 and in v2. A word in brackets is a notice, one with a mark of
/// exclamation a refusal.
type Example = (
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

const EXAMPLES: &[Example] = &[
    (
        r#"{"cpu": {"shares": 512}}"#,
        &["cpu.shares=512"],
        &["cpu.weight=59"],
    ),
    (
        r#"{"cpu": {"shares": 512, "idle": 1}}"#,
        &["cpu.idle=1"],
        &["cpu.idle=1"],
    ),
    (
        r#"{"cpu": {"shares": 512, "idle": 0}}"#,
        &["cpu.idle=0", "cpu.shares=512"],
        &["cpu.idle=0", "cpu.weight=59"],
    ),
    (
        r#"{"cpu": {"quota": 50000, "period": 100000}}"#,
        &["cpu.cfs_period_us=100000", "cpu.cfs_quota_us=50000"],
        &["cpu.max=50000 100000"],
    ),
    (
        r#"{"cpu": {"quota": 50000, "burst": 20000}}"#,
        &[
            "cpu.cfs_burst_us=0",
            "cpu.cfs_quota_us=50000",
            "cpu.cfs_burst_us=20000",
        ],
        &["cpu.max.burst=0", "cpu.max=50000", "cpu.max.burst=20000"],
    ),
    (
        r#"{"cpu": {"burst": 20000}}"#,
        &["cpu.cfs_burst_us=20000"],
        &["cpu.max.burst=20000"],
    ),
    (
        r#"{"cpu": {"quota": 50000, "burst": 0}}"#,
        &["cpu.cfs_quota_us=50000", "cpu.cfs_burst_us=0"],
        &["cpu.max=50000", "cpu.max.burst=0"],
    ),
    (
        r#"{"cpu": {"realtimeRuntime": 950000, "realtimePeriod": 1000000}}"#,
        &["cpu.rt_period_us=1000000", "cpu.rt_runtime_us=950000"],
        &["!/linux/resources/cpu/realtimePeriod"],
    ),
    (
        r#"{"cpu": {"cpus": "0-1", "mems": "0"}}"#,
        &["cpuset.cpus=0-1", "cpuset.mems=0"],
        &["cpuset.cpus=0-1", "cpuset.mems=0"],
    ),
    (
        r#"{"memory": {"limit": 1048576, "swap": 3145728, "reservation": 524288}}"#,
        &[
            "memory.limit_in_bytes=1048576",
            "memory.memsw.limit_in_bytes=3145728",
            "memory.soft_limit_in_bytes=524288",
        ],
        &[
            "memory.max=1048576",
            "memory.swap.max=2097152",
            "memory.low=524288",
        ],
    ),
    (
        r#"{"memory": {"swappiness": 0}}"#,
        &["memory.swappiness=0"],
        &["[/linux/resources/memory/swappiness]"],
    ),
    (
        r#"{"memory": {"swappiness": 18446744073709551615}}"#,
        &[],
        &[],
    ),
    (
        r#"{"memory": {"disableOOMKiller": true}}"#,
        &["memory.oom_control=1"],
        &["[/linux/resources/memory/disableOOMKiller]"],
    ),
    (
        r#"{"memory": {"disableOOMKiller": false}}"#,
        &["memory.oom_control=0"],
        &[],
    ),
    (
        r#"{"memory": {"kernel": 1, "kernelTCP": 1, "useHierarchy": false}}"#,
        &[
            "[/linux/resources/memory/kernel]",
            "[/linux/resources/memory/kernelTCP]",
            "[/linux/resources/memory/useHierarchy]",
        ],
        &[
            "[/linux/resources/memory/kernel]",
            "[/linux/resources/memory/kernelTCP]",
            "[/linux/resources/memory/useHierarchy]",
        ],
    ),
    (r#"{"memory": {"useHierarchy": true}}"#, &[], &[]),
    (
        r#"{"pids": {"limit": 50}}"#,
        &["pids.max=50"],
        &["pids.max=50"],
    ),
    (
        r#"{"blockIO": {"weight": 500}}"#,
        &["blkio.bfq.weight=500 or blkio.weight=500"],
        &["io.bfq.weight=500 or io.weight=4950"],
    ),
    (
        r#"{"blockIO": {"weightDevice": [{"major": 8, "minor": 16, "weight": 10, "leafWeight": 20}]}}"#,
        &[
            "blkio.bfq.weight_device=8:16 10 or blkio.weight_device=8:16 10",
            "[/linux/resources/blockIO/leafWeight]",
        ],
        &[
            "io.bfq.weight=8:16 10 or io.weight=8:16 1",
            "[/linux/resources/blockIO/leafWeight]",
        ],
    ),
    (
        r#"{"blockIO": {"leafWeight": 20}}"#,
        &["[/linux/resources/blockIO/leafWeight]"],
        &["[/linux/resources/blockIO/leafWeight]"],
    ),
    (
        r#"{"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1000}, {"major": 8, "minor": 16, "rate": 0}]}}"#,
        &[
            "blkio.throttle.read_bps_device=8:0 1000",
            "blkio.throttle.read_bps_device=8:16 0",
        ],
        &["io.max=8:0 rbps=1000", "io.max=8:16 rbps=max"],
    ),
    (
        r#"{"blockIO": {"throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 1}],
            "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 2}],
            "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 3}]}}"#,
        &[
            "blkio.throttle.write_bps_device=8:0 1",
            "blkio.throttle.read_iops_device=8:0 2",
            "blkio.throttle.write_iops_device=8:0 3",
        ],
        &[
            "io.max=8:0 wbps=1",
            "io.max=8:0 riops=2",
            "io.max=8:0 wiops=3",
        ],
    ),
    (
        r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}"#,
        &[
            "hugetlb.2MB.limit_in_bytes=0",
            "hugetlb.2MB.rsvd.limit_in_bytes=0",
        ],
        &["hugetlb.2MB.max=0", "hugetlb.2MB.rsvd.max=0"],
    ),
    (
        r#"{"rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}, "mlx4_0": {"hcaObjects": 1}, "none": {}}}"#,
        &[
            "rdma.max=mlx4_0 hca_object=1",
            "rdma.max=mlx5_1 hca_handle=3 hca_object=10000",
        ],
        &[
            "rdma.max=mlx4_0 hca_object=1",
            "rdma.max=mlx5_1 hca_handle=3 hca_object=10000",
        ],
    ),
    (
        r#"{"network": {"classID": 1048577}}"#,
        &["net_cls.classid=1048577"],
        &["!/linux/resources/network/classID"],
    ),
    (
        r#"{"network": {"priorities": [{"name": "eth0", "priority": 500}]}}"#,
        &["net_prio.ifpriomap=eth0 500"],
        &["!/linux/resources/network/priorities"],
    ),
    (
        r#"{"memory": {"limit": 4096}, "unified": {"memory.max": "8192", "hugetlb.2MB.max": "0"}}"#,
        &["!/linux/resources/unified"],
        &["memory.max=4096", "hugetlb.2MB.max=0", "memory.max=8192"],
    ),
];

#[test]
fn every_setting_becomes_its_files_or_a_notice_or_a_refusal_in_both_versions() {
    for (json, v1, v2) in EXAMPLES {
        for (version, expected) in [(Version::V1, v1), (Version::V2, v2)] {
            let resources: serde_json::Value = serde_json::from_str(json).unwrap();
            let typed: LinuxResources = serde_json::from_value(resources.clone()).unwrap();
            let outcome = match Limits::read(version, Some(&typed), Some(&resources)) {
                Err(error) => vec![format!("!{}", error.pointer().unwrap())],
                Ok(limits) => {
                    let write = |s: &Setting| match &s.otherwise {
                        Some((file, value)) => format!("{}={} or {file}={value}", s.file, s.value),
                        None => format!("{}={}", s.file, s.value),
                    };
                    let writes = limits.settings.iter().map(write);
                    let notices = limits.notices.iter().map(|n| format!("[{}]", n.pointer));
                    writes.chain(notices).collect()
                }
            };
            assert_eq!(outcome, *expected, "{json} on {version:?}");
        }
    }
}

#[test]
fn every_row_of_the_table_is_in_the_examples() {
    for row in TABLE {
        let named = |resources: &serde_json::Value| {
            let whole = json!({"linux": {"resources": resources}});
            whole.pointer(row.pointer).is_some()
        };
        let mut examples = EXAMPLES
            .iter()
            .map(|(json, ..)| serde_json::from_str(json).unwrap());
        assert!(
            examples.any(|resources| named(&resources)),
            "{}",
            row.pointer
        );
    }
}

#[test]
fn explain_lists_the_writes_that_an_idle_group_gets_and_no_weight() {
    for (resources, expected) in [
        (
            json!({"cpu": {"shares": 512, "idle": 1}}),
            &["cpu.idle=1"][..],
        ),
        (
            json!({"cpu": {"shares": 512}, "unified": {"cpu.idle": "1"}}),
            &["cpu.idle=1"],
        ),
        (
            json!({"cpu": {"shares": 512, "idle": 0}}),
            &["cpu.idle=0", "cpu.weight=59"],
        ),
    ] {
        let place = tempfile::tempdir().unwrap();
        let files = ["cpu.idle", "cpu.weight"].map(|name| place.path().join(name));
        files
            .iter()
            .for_each(|file| std::fs::write(file, "").unwrap());
        let group = Group {
            controllers: Vec::new(),
            mount: place.path().to_owned(),
            path: "/".into(),
        };
        let typed = serde_json::from_value(resources.clone()).unwrap();
        let limits = Limits::read(Version::V2, Some(&typed), Some(&resources)).unwrap();
        V2::new(&group).apply(&limits).unwrap();
        let read = |file: &PathBuf| std::fs::read_to_string(file).unwrap();
        let written = files.iter().filter(|file| !read(file).is_empty());
        let writes: Vec<_> = written
            .map(|file| format!("write {} to {}", read(file), file.display()))
            .collect();
        let explained = limits.describe_writes(&group);
        assert_eq!(explained, writes, "{resources}");
        let pairs = files.iter().zip(["cpu.idle", "cpu.weight"]);
        let pairs = pairs.filter(|(file, _)| !read(file).is_empty());
        let pairs: Vec<_> = pairs
            .map(|(file, name)| format!("{name}={}", read(file)))
            .collect();
        assert_eq!(pairs, expected, "{resources}");
    }
    let roused = json!({"cpu": {"idle": 1}, "unified": {"cpu.idle": "0", "cpu.weight": "7"}});
    assert_eq!(
        written(Version::V2, roused),
        ["cpu.idle=1", "cpu.idle=0", "cpu.weight=7"]
    );
}

#[test]
fn a_refused_element_is_named_by_its_own_pointer() {
    let pages = json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 0}, {"pageSize": "1GB", "limit": 0}]});
    let typed = serde_json::from_value(pages.clone()).unwrap();
    let limits = Limits::read(Version::V2, Some(&typed), Some(&pages)).unwrap();
    let pointers: Vec<_> = limits.settings.iter().map(Setting::pointer).collect();
    assert_eq!(pointers[3], "/linux/resources/hugepageLimits/1");
    let keys = json!({"unified": {"memory.a~b": "1"}});
    let typed = serde_json::from_value(keys.clone()).unwrap();
    let limits = Limits::read(Version::V2, Some(&typed), Some(&keys)).unwrap();
    assert_eq!(
        limits.settings[0].pointer(),
        "/linux/resources/unified/memory.a~0b"
    );
    assert_eq!(limits.settings[0].controller(), "memory");
}

#[test]
fn b42_keys_of_unified_that_are_no_settings_are_refused() {
    for (key, pointer) in [
        ("a/b", "/linux/resources/unified/a~1b"),
        ("memory", "/linux/resources/unified/memory"),
        (".max", "/linux/resources/unified/.max"),
        ("..", "/linux/resources/unified/.."),
        ("cgroup.procs", "/linux/resources/unified/cgroup.procs"),
        ("cgroup.freeze", "/linux/resources/unified/cgroup.freeze"),
        ("cgroup.kill", "/linux/resources/unified/cgroup.kill"),
        ("cgroup.threads", "/linux/resources/unified/cgroup.threads"),
    ] {
        let (at, tail) = refusal(Version::V2, json!({"unified": {key: "1"}}));
        assert_eq!(at, pointer);
        assert!(
            tail.starts_with(&format!("unified resource {key:?}")),
            "{tail}"
        );
    }
    let (_, tail) = refusal(Version::V1, json!({"unified": {"memory.high": "1"}}));
    assert_eq!(
        tail,
        "invalid configuration: cannot use unified on cgroup v1"
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
        (json!({"cpu": {"mems": "+1"}}), "/linux/resources/cpu/mems"),
        (json!({"cpu": {"idle": 2}}), "/linux/resources/cpu/idle"),
        (
            json!({"memory": {"swappiness": 101}}),
            "/linux/resources/memory/swappiness",
        ),
        (
            json!({"blockIO": {"weight": 9}}),
            "/linux/resources/blockIO/weight",
        ),
        (
            json!({"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 1001}]}}),
            "/linux/resources/blockIO/weightDevice/0/weight",
        ),
        (
            json!({"blockIO": {"throttleReadBpsDevice": [{"major": -1, "minor": 0, "rate": 1}]}}),
            "/linux/resources/blockIO/throttleReadBpsDevice/0/major",
        ),
        (
            json!({"hugepageLimits": [{"pageSize": "2mb", "limit": 0}]}),
            "/linux/resources/hugepageLimits/0/pageSize",
        ),
        (
            json!({"hugepageLimits": [{"pageSize": "../MB", "limit": 0}]}),
            "/linux/resources/hugepageLimits/0/pageSize",
        ),
        (
            json!({"hugepageLimits": [{"pageSize": "2MB", "limit": -1}]}),
            "/linux/resources/hugepageLimits/0/limit",
        ),
        (json!({"rdma": {"a b": {}}}), "/linux/resources/rdma/a b"),
        (
            json!({"network": {"priorities": [{"name": "a\nb", "priority": 1}]}}),
            "/linux/resources/network/priorities/0/name",
        ),
        (
            json!({"cpu": {"mems": "0,,1"}}),
            "/linux/resources/cpu/mems",
        ),
    ];
    for (resources, pointer) in rows {
        assert_eq!(refusal(Version::V1, resources).0, pointer);
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

#[test]
fn create_takes_the_zeros_for_none_that_update_takes_for_none() {
    for row in TABLE {
        let Some(pointer) = row.pointer.strip_prefix("/linux/resources") else {
            panic!("{}", row.pointer);
        };
        let Some((object, member)) = pointer.trim_start_matches('/').split_once('/') else {
            continue;
        };
        // Which of them the type takes.
        for nothing in [json!(0), json!("")] {
            let resources = json!({object: {member: nothing}});
            let Ok(typed) = serde_json::from_value::<LinuxResources>(resources.clone()) else {
                continue;
            };
            let asks = |version| match Limits::read(version, Some(&typed), Some(&resources)) {
                Ok(limits) => !limits.settings.is_empty() || !limits.notices.is_empty(),
                Err(_) => true,
            };
            let asks = asks(Version::V1) || asks(Version::V2);
            // A container may be created to have no task but its first.
            let leaves = ZERO_LEAVES.contains(&pointer) && pointer != "/pids/limit";
            assert_ne!(asks, leaves, "{resources}");
        }
    }
}
