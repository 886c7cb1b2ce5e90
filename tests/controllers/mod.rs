//! Promise: every setting of linux.resources is in the file of its controller, on cgroup v1 and on v2; what a
//! version has nothing for is a warning, and an error with --strict; what the kernel refuses is named.

mod disks;
mod unified;

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Container, Stage, View, machine};
use crate::{skip, stage};

/// A row: what resources say, the controller, and the file's content on v1 and on v2.
struct Row {
    resources: Value,
    controller: &'static str,
    v1: &'static [(&'static str, &'static str)],
    v2: &'static [(&'static str, &'static str)],
}

fn holds(stage: &Stage, row: &Row) {
    let mut bundle = stage.bundle();
    bundle.sleeps();
    for (key, value) in row.resources.as_object().unwrap() {
        bundle.set(&format!("/linux/resources/{key}"), value.clone());
    }
    let container = stage.create(&bundle);
    let files = if stage.view.is_v2() { row.v2 } else { row.v1 };
    for (file, expected) in files {
        assert_eq!(
            container.limit(row.controller, file),
            *expected,
            "{file} of {}",
            row.resources
        );
    }
    container.delete_force().ok();
}

macro_rules! limits {
    ($($name:ident: $controller:literal, $resources:tt, v1 $v1:tt, v2 $v2:tt;)+) => {$(
        #[test]
        fn $name() {
            let stage = stage!();
            if !machine::has_controller($controller) {
                skip!("no {} controller here", $controller);
            }
            holds(&stage, &Row { resources: json!($resources), controller: $controller, v1: &$v1, v2: &$v2 });
        }
    )+};
}

limits! {
    memory_limit_reservation_and_swap_are_written: "memory",
        {"memory": {"limit": 134217728, "reservation": 67108864, "swap": 268435456}},
        v1 [("memory.limit_in_bytes", "134217728"), ("memory.soft_limit_in_bytes", "67108864")],
        v2 [("memory.max", "134217728"), ("memory.low", "67108864")];
    memory_minus_one_is_no_limit: "memory", {"memory": {"limit": -1}},
        v1 [("memory.limit_in_bytes", "9223372036854771712")], v2 [("memory.max", "max")];
    pids_limit_is_written: "pids", {"pids": {"limit": 20}}, v1 [("pids.max", "20")], v2 [("pids.max", "20")];
    pids_minus_one_is_no_limit: "pids", {"pids": {"limit": -1}}, v1 [("pids.max", "max")], v2 [("pids.max", "max")];
    cpu_shares_quota_and_period_are_written: "cpu",
        {"cpu": {"shares": 512, "quota": 20000, "period": 50000}},
        v1 [("cpu.shares", "512"), ("cpu.cfs_quota_us", "20000"), ("cpu.cfs_period_us", "50000")],
        v2 [("cpu.max", "20000 50000"), ("cpu.weight", "59")];
    cpu_quota_alone_keeps_the_period: "cpu", {"cpu": {"quota": 30000}},
        v1 [("cpu.cfs_quota_us", "30000"), ("cpu.cfs_period_us", "100000")], v2 [("cpu.max", "30000 100000")];
    cpuset_is_written: "cpuset", {"cpu": {"cpus": "0", "mems": "0"}},
        v1 [("cpuset.cpus", "0"), ("cpuset.mems", "0")], v2 [("cpuset.cpus", "0"), ("cpuset.mems", "0")];
    burst_and_idle_are_written: "cpu",
        {"cpu": {"quota": 50000, "burst": 20000, "idle": 0}},
        v1 [("cpu.cfs_quota_us", "50000"), ("cpu.cfs_burst_us", "20000"), ("cpu.idle", "0")],
        v2 [("cpu.max", "50000 100000"), ("cpu.max.burst", "20000"), ("cpu.idle", "0")];
    an_idle_group_is_idle_whatever_its_shares: "cpu", {"cpu": {"shares": 512, "idle": 1}},
        v1 [("cpu.idle", "1")], v2 [("cpu.idle", "1")];
    swappiness_is_v1s: "memory", {"memory": {"swappiness": 10, "limit": 134217728}},
        v1 [("memory.swappiness", "10")], v2 [("memory.max", "134217728")];
    the_network_class_is_written: "net_cls", {"network": {"classID": 1048577}},
        v1 [("net_cls.classid", "1048577")], v2 [];
    the_priority_on_a_network_interface_is_written: "net_prio",
        {"network": {"priorities": [{"name": "lo", "priority": 5}]}},
        v1 [("net_prio.ifpriomap", "lo 5")], v2 [];
}

#[test]
fn rdma_limits_are_written() {
    let stage = stage!();
    if !machine::has_controller("rdma") {
        skip!("no rdma controller here");
    }
    let devices = std::fs::read_dir("/sys/class/infiniband").into_iter();
    let Some(device) = devices.flatten().flatten().next() else {
        skip!("no RDMA device here");
    };
    let device = device.file_name().into_string().unwrap();
    let mut bundle = stage.bundle();
    bundle.sleeps().set(
        "/linux/resources/rdma",
        json!({device.clone(): {"hcaHandles": 3, "hcaObjects": 100}}),
    );
    let limit = stage.create(&bundle).limit("rdma", "rdma.max");
    let expected = format!("{device} hca_handle=3 hca_object=100");
    assert!(limit.lines().any(|line| line == expected), "{limit}");
}

#[test]
fn swap_is_memory_and_swap_on_v1_and_swap_alone_on_v2() {
    let stage = stage!();
    if !machine::has_controller("memory") {
        skip!("no memory controller here");
    }
    let mut bundle = stage.bundle();
    bundle.sleeps().set(
        "/linux/resources/memory",
        json!({"limit": 134_217_728, "swap": 268_435_456}),
    );
    let container = stage.create(&bundle);
    let (file, expected) = if stage.view.is_v2() {
        ("memory.swap.max", "134217728")
    } else {
        ("memory.memsw.limit_in_bytes", "268435456")
    };
    if !container.cgroup("memory").join(file).exists() {
        skip!("the kernel does not account for swap");
    }
    assert_eq!(container.limit("memory", file), expected);
}

#[test]
fn shares_become_weights_as_runc_does() {
    let stage = stage!();
    if !stage.view.is_v2() || !machine::has_controller("cpu") {
        skip!("weights are cgroup v2's, with its cpu controller");
    }
    let mut bundle = stage.bundle();
    bundle
        .sleeps()
        .set("/linux/resources/cpu", json!({"shares": 2}));
    let container = stage.create(&bundle);
    assert_eq!(container.limit("cpu", "cpu.weight"), "1");
    for (shares, weight) in [
        ("100", "17"),
        ("1024", "100"),
        ("4096", "303"),
        ("262144", "10000"),
    ] {
        container.call("update", &["--cpu-share", shares]).ok();
        assert_eq!(container.limit("cpu", "cpu.weight"), weight, "{shares}");
    }
}

#[test]
fn without_an_oom_killer_v1_stops_and_v2_warns() {
    let stage = stage!();
    if !machine::has_controller("memory") {
        skip!("no memory controller here");
    }
    let mut bundle = stage.bundle();
    bundle
        .sleeps()
        .set("/linux/resources/memory", json!({"disableOOMKiller": true}));
    let (id, outcome) = stage.try_create_with(&bundle, &[]);
    let outcome = outcome.ok();
    let container = Container { id, stage: &stage };
    match stage.view.is_v2() {
        true => assert!(outcome.stderr.contains("disableOOMKiller"), "{outcome}"),
        false => {
            let control = container.limit("memory", "memory.oom_control");
            assert!(control.contains("oom_kill_disable 1"), "{control}");
        }
    }
}

#[test]
fn what_the_version_lacks_is_an_error_with_strict() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle
        .sleeps()
        .set("/linux/resources/blockIO", json!({"leafWeight": 500}));
    let warned = stage.create_with(&bundle, &[]);
    warned.delete_force().ok();
    let (_, outcome) = stage.try_create_with(&bundle, &["--strict"]);
    outcome.refuses(&[
        "--strict",
        "/linux/resources/blockIO/leafWeight",
        "leaf weights",
    ]);
    bundle.remove("/linux/resources/blockIO");
    let container = stage.create(&bundle);
    let document = stage.path("resources.json");
    std::fs::write(&document, r#"{"blockIO": {"leafWeight": 500}}"#).unwrap();
    let document = document.to_string_lossy();
    container.call("update", &["--resources", &document]).ok();
    container
        .call("update", &["--strict", "--resources", &document])
        .refuses(&["/blockIO/leafWeight", "--strict"]);
    container.delete_force().ok();
    stage
        .create_with(&bundle, &["--strict"])
        .delete_force()
        .ok();
}

#[test]
fn the_state_keeps_what_does_not_act_as_it_is_written() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle
        .sleeps()
        .set("/linux/resources/blockIO", json!({"leafWeight": 500}))
        .set("/x-mine", json!(1));
    let container = stage.create(&bundle);
    let notices = &container.state()["x-capsid"]["notices"];
    assert_eq!(notices.as_array().map(Vec::len), Some(1), "{notices}");
    assert_eq!(notices[0]["pointer"], "/linux/resources/blockIO/leafWeight");
    let text = notices[0]["text"].as_str().unwrap();
    assert!(text.contains("no leaf weights"), "{text}");
    bundle.remove("/linux/resources/blockIO");
    assert_eq!(stage.create(&bundle).state().get("x-capsid"), None);
}

#[test]
fn huge_pages_and_their_reservations_are_limited() {
    let stage = stage!(View::V2);
    let mut bundle = stage.bundle();
    bundle.sleeps().set(
        "/linux/resources/hugepageLimits",
        json!([{"pageSize": "2MB", "limit": 4_194_304}]),
    );
    if !has_unified_controller("hugetlb") {
        skip!("no hugetlb controller in cgroup v2 here");
    }
    let container = stage.create(&bundle);
    assert_eq!(container.limit("", "hugetlb.2MB.max"), "4194304");
    assert_eq!(container.limit("", "hugetlb.2MB.rsvd.max"), "4194304");
    bundle.set(
        "/linux/resources/hugepageLimits",
        json!([{"pageSize": "2MB", "limit": 0}, {"pageSize": "3MB", "limit": 0}]),
    );
    stage.try_create(&bundle).refuses(&[
        "/linux/resources/hugepageLimits/1",
        "this machine has pages of 2MB",
    ]);
}

/// Whether cgroup2, wherever it is mounted, has the controller.
fn has_unified_controller(name: &str) -> bool {
    let list = View::V2.cgroup("", "/cgroup.controllers");
    std::fs::read_to_string(list).is_ok_and(|list| list.split_whitespace().any(|c| c == name))
}

#[test]
fn realtime_is_v1s_and_refused_on_v2() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.sleeps().set(
        "/linux/resources/cpu",
        json!({"realtimePeriod": 900_000, "realtimeRuntime": 1000}),
    );
    if stage.view.is_v2() {
        stage.try_create(&bundle).refuses(&[
            "/linux/resources/cpu/realtime",
            "cgroup v2 has no realtime limits",
        ]);
        return;
    }
    // What children may have is taken from the parent, a cgroup of ours here.
    let parent = Path::new("/sys/fs/cgroup/cpu").join(
        machine::enclosure()
            .unwrap_or_default()
            .trim_start_matches('/'),
    );
    let budget = parent.join("cpu.rt_runtime_us");
    if machine::enclosure().is_none() || !budget.exists() {
        skip!("no realtime budget to give away here");
    }
    std::fs::write(&budget, "20000").unwrap();
    let container = stage.create(&bundle);
    let said = ["cpu.rt_period_us", "cpu.rt_runtime_us"].map(|file| container.limit("cpu", file));
    container.delete_force().ok();
    assert_eq!(said, ["900000", "1000"]);
}

#[test]
fn network_classes_and_priorities_need_v1() {
    let stage = stage!();
    for (controller, network, pointer) in [
        (
            "net_cls",
            json!({"classID": 1_048_577}),
            "/linux/resources/network/classID",
        ),
        (
            "net_prio",
            json!({"priorities": [{"name": "lo", "priority": 5}]}),
            "/linux/resources/network/priorities",
        ),
    ] {
        let mut bundle = stage.bundle();
        bundle.sleeps().set("/linux/resources/network", network);
        if !stage.view.is_v2() && machine::has_controller(controller) {
            continue; // It is written, as a row above says.
        }
        let said = match stage.view.is_v2() {
            true => "cgroup v2 has no network classes".to_owned(),
            false => format!("{controller} cgroup isn't mounted"),
        };
        stage.try_create(&bundle).refuses(&[pointer, &said]);
    }
}
