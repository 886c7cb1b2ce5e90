//! Promise: limits are in force, by the files of cgroup v1 and of v2, and the container's cgroup lies where
//! config.json says and goes with the container.

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
    for (shares, weight) in [
        (2, "1"),
        (100, "17"),
        (1024, "100"),
        (4096, "303"),
        (262_144, "10000"),
    ] {
        let mut bundle = stage.bundle();
        bundle
            .sleeps()
            .set("/linux/resources/cpu", json!({"shares": shares}));
        let container = stage.create(&bundle);
        assert_eq!(container.limit("cpu", "cpu.weight"), weight, "{shares}");
        container.delete_force().ok();
    }
}

#[test]
fn a_memory_limit_is_enforced() {
    let stage = stage!();
    if !machine::has_controller("memory") {
        skip!("no memory controller here");
    }
    let mut bundle = stage.bundle();
    bundle.set(
        "/linux/resources/memory",
        json!({"limit": 16_777_216, "swap": 16_777_216}),
    );
    bundle
        .mount("/mnt", "tmpfs", "tmpfs", &["size=100m"])
        .sh("head -c 60000000 /dev/zero > /mnt/big; echo survived");
    let outcome = stage.run(&bundle);
    assert!(
        !outcome.stdout.contains("survived")
            || outcome.code == 137
            || outcome.stderr.contains("Killed")
            || outcome.stderr.contains("Out of memory"),
        "{outcome}"
    );
}

#[test]
fn a_pids_limit_is_enforced() {
    let stage = stage!();
    if !machine::has_controller("pids") {
        skip!("no pids controller here");
    }
    let mut bundle = stage.bundle();
    bundle
        .set("/linux/resources/pids", json!({"limit": 4}))
        .sh("for i in 1 2 3 4 5 6 7 8; do sleep 606 & done; echo all");
    let outcome = stage.run(&bundle);
    assert!(outcome.stderr.contains("can't fork"), "{outcome}");
}

#[test]
fn a_container_starts_with_a_pids_limit_of_one() {
    let stage = stage!();
    if !machine::has_controller("pids") {
        skip!("no pids controller here");
    }
    let mut bundle = stage.bundle();
    bundle
        .set("/linux/resources/pids", json!({"limit": 1}))
        .args(&["/bin/echo", "alone"]);
    stage.run(&bundle).ok().prints("alone");
}

#[test]
fn the_cgroup_lies_where_the_config_says() {
    let stage = stage!();
    let container = stage.running();
    let membership = std::fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    let path = Stage::cgroups_path(&container.id);
    for line in membership.lines() {
        let mut fields = line.splitn(3, ':');
        let (number, controllers, place) = (
            fields.next().unwrap(),
            fields.next().unwrap(),
            fields.next().unwrap(),
        );
        // On a hybrid machine, cgroup2 limits nothing and may be left alone.
        assert!(
            place == path || (number == "0" && !stage.view.is_v2()),
            "{controllers}: {membership}"
        );
    }
}

#[test]
fn without_a_path_the_cgroup_lies_below_the_callers() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.remove("/linux/cgroupsPath").sleeps();
    let container = stage.create(&bundle);
    let membership = std::fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    let path = Stage::cgroups_path(&container.id);
    let controller = if stage.view.is_v2() { "0::" } else { "pids:" };
    assert!(
        membership
            .lines()
            .any(|line| line.contains(controller) && line.ends_with(&path)),
        "{membership}"
    );
    container.delete_force().ok();
    assert_eq!(
        stage.remains(&container.id),
        Vec::<std::path::PathBuf>::new()
    );
}

#[test]
fn a_cgroup_of_several_levels_is_made_and_removed() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    let id = stage.id();
    bundle
        .sleeps()
        .set(
            "/linux/cgroupsPath",
            json!(format!(
                "{}/{id}/inner/most",
                machine::enclosure().unwrap_or_default()
            )),
        )
        .write(&id);
    stage
        .call(&[
            "run",
            "--detach",
            "--bundle",
            &bundle.folder.to_string_lossy(),
            &id,
        ])
        .ok();
    let container = Container {
        id: id.clone(),
        stage: &stage,
    };
    let membership = std::fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    assert!(
        membership.contains(&format!("{id}/inner/most")),
        "{membership}"
    );
    container.delete_force().ok();
    // What was not there before create is the container's; a parent may be kept for its siblings.
    for place in stage.remains(&id) {
        assert!(!place.join("inner/most").exists(), "{}", place.display());
        for folder in ["inner", ""] {
            let _ = std::fs::remove_dir(place.join(folder));
        }
    }
}

#[test]
fn cgroups_that_the_container_made_are_removed_with_their_processes() {
    for view in [View::V1, View::V2] {
        if view.obstacle().is_some() {
            continue;
        }
        let stage = stage!(view);
        let container = stage.running();
        let pid_file = stage.path("pid");
        container
            .exec_with(
                &["--detach", "--pid-file", &pid_file.to_string_lossy()],
                &["sleep", "607"],
            )
            .ok();
        let pid = std::fs::read_to_string(&pid_file).unwrap();
        let inner = container.cgroup("pids").join("sub/sub");
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::write(inner.join("cgroup.procs"), &pid).unwrap();
        container.delete_force().ok();
        assert!(!container.cgroup("pids").exists(), "{view:?}");
        assert!(
            !std::fs::read_to_string(format!("/proc/{pid}/stat"))
                .is_ok_and(|stat| !stat.contains(") Z") && !stat.contains(") X")),
            "{view:?}: {pid} lives"
        );
    }
}

#[test]
fn a_cgroup_that_is_in_use_or_frozen_is_refused() {
    for view in [View::V1, View::V2] {
        if view.obstacle().is_some() {
            continue;
        }
        let stage = stage!(view);
        let first = stage.running();
        let mut bundle = stage.bundle();
        bundle
            .sleeps()
            .set("/linux/cgroupsPath", json!(Stage::cgroups_path(&first.id)));
        stage.try_create(&bundle).refuses(&["cgroup is not empty"]);
        first.call("pause", &[]).ok();
        assert_ne!(stage.try_create(&bundle).code, 0);
        first.call("resume", &[]).ok();
        assert_eq!(first.status(), "running");
    }
}

#[test]
fn every_verb_works_on_a_v1_and_on_a_v2_view() {
    for view in [View::V1, View::V2] {
        if view.obstacle().is_some() {
            continue;
        }
        let stage = stage!(view);
        let mut bundle = stage.bundle();
        bundle.namespace("cgroup", None).sleeps();
        let container = stage.create(&bundle);
        assert_eq!(container.status(), "created", "{view:?}");
        container.start().ok();
        assert_eq!(container.sh("echo in"), "in", "{view:?}");
        container.call("pause", &[]).ok();
        assert_eq!(container.status(), "paused", "{view:?}");
        container.exec(&["true"]).fails_with(255, &["paused"]);
        container.call("resume", &[]).ok();
        assert_eq!(container.status(), "running", "{view:?}");
        let list = stage
            .call(&["ps", "--format", "json", &container.id])
            .ok()
            .json();
        assert!(
            list.as_array().is_some_and(|list| !list.is_empty()),
            "{view:?}"
        );
        container.call("pause", &[]).ok();
        container.kill("KILL").ok();
        container.becomes("stopped");
        container.delete().ok();
        assert_eq!(
            stage.remains(&container.id),
            Vec::<std::path::PathBuf>::new(),
            "{view:?}"
        );
    }
}

#[test]
fn the_container_sees_its_own_cgroup_as_the_root_in_a_cgroup_namespace() {
    for view in [View::V1, View::V2] {
        if view.obstacle().is_some() {
            continue;
        }
        let stage = stage!(view);
        let mut bundle = stage.bundle();
        bundle.namespace("cgroup", None);
        let text = stage.prints(&mut bundle, "cat /proc/self/cgroup");
        // cgroup2 on a v1 view, and v1 on a v2 view, are not the runtime's business.
        let own: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("0::") == stage.view.is_v2())
            .collect();
        assert!(
            !own.is_empty() && own.iter().all(|line| line.ends_with(":/")),
            "{view:?}: {text}"
        );
    }
}

#[test]
fn the_cgroup_mount_shows_the_containers_own_limits_read_only() {
    let stage = stage!();
    if !machine::has_controller("pids") {
        skip!("no pids controller here");
    }
    let mut bundle = stage.bundle();
    bundle
        .set("/linux/resources/pids", json!({"limit": 77}))
        .namespace("cgroup", None);
    let file = if stage.view.is_v2() {
        "/sys/fs/cgroup/pids.max"
    } else {
        "/sys/fs/cgroup/pids/pids.max"
    };
    let text = stage.prints(
        &mut bundle,
        &format!("cat {file}; echo 78 2>/dev/null > {file} || echo refused"),
    );
    assert_eq!(text, "77\nrefused");
}

#[test]
fn without_a_driver_the_container_stays_where_the_caller_is() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle
        .remove("/linux/resources")
        .remove("/linux/cgroupsPath")
        .sh("cat /proc/self/cgroup");
    let id = stage.id();
    bundle.write(&id);
    let outcome = stage
        .call(&[
            "--cgroup-manager",
            "disabled",
            "run",
            "--bundle",
            &bundle.folder.to_string_lossy(),
            &id,
        ])
        .ok();
    assert_eq!(
        outcome.line(),
        std::fs::read_to_string("/proc/self/cgroup").unwrap().trim()
    );
    bundle
        .set("/linux/resources/pids", json!({"limit": 5}))
        .write(&id);
    stage
        .call(&[
            "--cgroup-manager",
            "disabled",
            "run",
            "--bundle",
            &bundle.folder.to_string_lossy(),
            &id,
        ])
        .refuses(&["/linux/resources"]);
}
