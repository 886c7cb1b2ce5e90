//! Promise: limits are in force, and the container's cgroup lies where config.json says and goes with the
//! container.

mod inside;
mod taken;

use serde_json::{Value, json};

use crate::harness::machine::Cgroups;
use crate::harness::{Bundle, Container, Outcome, Stage, View, machine};
use crate::{skip, stage};

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
fn f12_a_container_starts_with_a_pids_limit_of_one() {
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
fn f18_cgroups_that_the_container_made_are_removed_with_their_processes() {
    for view in View::versions() {
        let stage = stage!(view);
        let container = stage.running();
        let pid = container.exec_detached(&["sleep", "607"]);
        let inner = container.cgroup("pids").join("sub/sub");
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::write(inner.join("cgroup.procs"), pid.to_string()).unwrap();
        container.delete_force().ok();
        assert!(!container.cgroup("pids").exists(), "{view:?}");
        assert!(
            !std::fs::read_to_string(format!("/proc/{pid}/stat"))
                .is_ok_and(|stat| !stat.contains(") Z") && !stat.contains(") X")),
            "{view:?}: {pid} lives"
        );
    }
}

/// A limit that this machine's cgroup2 has a controller for, and that one.
fn limit_of_cgroup2() -> Option<(&'static str, Value)> {
    if machine::cgroups() == Cgroups::V2 {
        return Some(("pids", json!({"pids": {"limit": 50}})));
    }
    let mut sizes = std::fs::read_dir("/sys/kernel/mm/hugepages").ok()?;
    sizes.next()?.ok()?;
    let limits = json!([{"pageSize": "2MB", "limit": 0}]);
    Some(("hugetlb", json!({"hugepageLimits": limits})))
}

#[test]
fn the_state_says_which_controllers_create_has_enabled() {
    let stage = stage!(View::V2);
    let outer = stage.id();
    let mut bundle = stage.bundle();
    let path = format!("{}/box/inner", Stage::cgroups_path(&outer));
    let Some((controller, resources)) = limit_of_cgroup2() else {
        skip!("no huge pages, and no other controller of cgroup v2");
    };
    bundle
        .sleeps()
        .set("/linux/cgroupsPath", json!(path))
        .set("/linux/resources", resources);
    let container = stage.create(&bundle);
    let state = container.state();
    let enabled = &state["x-capsid"]["subtreeControl"];
    let top = format!("/sys/fs/cgroup{}", Stage::cgroups_path(&outer));
    let own = json!({top.clone(): [controller], format!("{top}/box"): [controller]});
    assert_eq!(*enabled, own, "{state}");
    // There, nothing had to be enabled.
    let mut second = stage.bundle();
    let beside = path.replace("inner", "second");
    second
        .sleeps()
        .set("/linux/cgroupsPath", json!(beside))
        .set(
            "/linux/resources",
            bundle.config["linux"]["resources"].clone(),
        );
    let second = stage.create(&second);
    assert_eq!(second.state().get("x-capsid"), None);
    // Nobody takes them back: others may have been made since.
    container.delete_force().ok();
    let place = stage.view.cgroup("", &Stage::cgroups_path(&outer));
    let control = std::fs::read_to_string(place.join("box/cgroup.subtree_control")).unwrap();
    assert_eq!(control.trim(), controller);
    second.delete_force().ok();
    for place in stage.remains(&outer) {
        std::fs::remove_dir(place.join("box")).unwrap();
        std::fs::remove_dir(place).unwrap();
    }
}

#[test]
fn the_state_says_which_controllers_update_has_enabled() {
    let stage = stage!(View::V2);
    let outer = stage.id();
    let mut bundle = stage.bundle();
    let top = format!("/sys/fs/cgroup{}", Stage::cgroups_path(&outer));
    let Some((controller, resources)) = limit_of_cgroup2() else {
        skip!("no huge pages, and no other controller of cgroup v2");
    };
    bundle
        .sleeps()
        .set(
            "/linux/cgroupsPath",
            json!(format!("{}/inner", Stage::cgroups_path(&outer))),
        )
        .remove("/linux/resources");
    let container = stage.create(&bundle);
    let enabled = || container.state()["x-capsid"]["subtreeControl"].clone();
    assert_eq!(enabled(), Value::Null);
    let update = |resources: &Value| {
        let script = "printf %s \"$2\" | $capsid update -r - $1";
        stage.shell(script, &[&container.id, &resources.to_string()])
    };
    // One that is refused has enabled what it needs before, and nobody takes that back.
    let mut refused = resources.clone();
    refused["unified"] = json!({"cgroup.max.depth": "none"});
    update(&refused).refuses(&["cgroup.max.depth"]);
    assert_eq!(enabled(), json!({&top: [controller]}));
    // What is enabled already is not said twice.
    update(&resources).ok();
    assert_eq!(enabled(), json!({&top: [controller]}));
    container.delete_force().ok();
    for place in stage.remains(&outer) {
        std::fs::remove_dir(place).unwrap();
    }
}

#[test]
fn rules_for_a_v1_cgroup_that_has_others_below_it_are_refused_with_the_reason() {
    let stage = stage!(View::V1);
    let outer = stage.id();
    let place = stage.view.cgroup("devices", &Stage::cgroups_path(&outer));
    std::fs::create_dir_all(place.join("inner")).unwrap();
    let mut bundle = stage.bundle();
    bundle
        .sleeps()
        .set("/linux/cgroupsPath", json!(Stage::cgroups_path(&outer)));
    stage.try_create(&bundle).refuses(&[
        "/linux/resources/devices",
        "that has others below it cannot be begun anew",
    ]);
    std::fs::remove_dir(place.join("inner")).unwrap();
    std::fs::remove_dir(place).unwrap();
}

#[test]
fn every_verb_works_on_a_v1_and_on_a_v2_view() {
    for view in View::versions() {
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

/// A bundle that asks for no cgroup.
fn without_cgroups(stage: &Stage, script: &str) -> Bundle {
    let mut bundle = stage.bundle();
    bundle
        .remove("/linux/resources")
        .remove("/linux/cgroupsPath")
        .sh(script);
    bundle
}

fn run_without_a_driver(stage: &Stage, bundle: &Bundle) -> Outcome {
    let words = ["--cgroup-manager", "disabled", "run"];
    Outcome::of(&mut stage.command(&words, bundle).1)
}

#[test]
fn without_a_driver_the_container_stays_where_the_caller_is() {
    let stage = stage!();
    let mut bundle = without_cgroups(&stage, "cat /proc/self/cgroup");
    assert_eq!(
        run_without_a_driver(&stage, &bundle).ok().line(),
        std::fs::read_to_string("/proc/self/cgroup").unwrap().trim()
    );
    bundle.set("/linux/resources/pids", json!({"limit": 5}));
    run_without_a_driver(&stage, &bundle).refuses(&["/linux/resources"]);
}

#[test]
fn without_a_driver_and_a_pid_namespace_create_says_whom_a_kill_will_miss() {
    let stage = stage!();
    let mut bundle = without_cgroups(&stage, "true");
    let run = |bundle: &Bundle| run_without_a_driver(&stage, bundle).ok();
    let told = "kill and delete reach its first process alone";
    assert!(!run(&bundle).stderr.contains(told));
    bundle.without_namespace("pid");
    let outcome = run(&bundle);
    assert!(outcome.stderr.contains(told), "{outcome}");
}

#[test]
fn below_a_threaded_cgroup_the_containers_is_threaded_and_refuses_memory() {
    let stage = stage!(View::V2);
    let id = stage.id();
    let parent = View::V2.cgroup("", &Stage::cgroups_path(&id));
    std::fs::create_dir(&parent).unwrap();
    std::fs::create_dir(parent.join("threads")).unwrap();
    std::fs::write(parent.join("threads/cgroup.type"), "threaded").unwrap();
    let mut bundle = stage.bundle();
    bundle.sleeps().set(
        "/linux/cgroupsPath",
        json!(format!("{}/c", Stage::cgroups_path(&id))),
    );
    let container = stage.create(&bundle);
    let cgroup = parent.join("c");
    let read = |file: &str| std::fs::read_to_string(cgroup.join(file)).unwrap();
    assert_eq!(read("cgroup.type").trim(), "threaded");
    container.start().ok();
    assert_eq!(container.sh("echo in"), "in");
    container.delete_force().ok();
    bundle.set("/linux/resources/unified", json!({"hugetlb.2MB.max": "0"}));
    let refused = match std::fs::read_to_string(parent.join("cgroup.controllers")) {
        Ok(list) if list.contains("hugetlb") => stage.try_create(&bundle),
        _ => {
            bundle.remove("/linux/resources/unified");
            bundle.set("/linux/resources/memory", json!({"limit": 134_217_728}));
            stage.try_create(&bundle)
        }
    };
    std::fs::remove_dir(parent.join("threads")).unwrap();
    std::fs::remove_dir(&parent).unwrap();
    refused.refuses(&[
        "with domain controllers -- it is in an invalid state",
        "a parent is threaded",
    ]);
}

#[test]
fn whether_a_cgroup_can_be_done_without_is_said_by_rootless() {
    let stage = stage!(View::V2);
    let mut bundle = stage.bundle();
    bundle
        .remove("/linux/resources")
        .remove("/linux/cgroupsPath")
        .args(&["/bin/true"]);
    for (word, code) in [("true", 0), ("false", 1), ("auto", 1)] {
        let id = stage.id();
        bundle.write(&id);
        // Nobody can make a cgroup on a read-only mount.
        let script = "exec unshare --mount --propagation private -- sh -c 'mount --bind /sys/fs/cgroup \
                      /sys/fs/cgroup && mount -o remount,bind,ro /sys/fs/cgroup && exec \"$@\"' \
                      sh $capsid --rootless $1 run --bundle $2 $3";
        let outcome = stage.shell(script, &[word, &bundle.folder.to_string_lossy(), &id]);
        assert_eq!(outcome.code, code, "{word}: {outcome}");
    }
}

/// v1's directories are made while the process is at its mounts, cgroup2's are what it is born into.
#[test]
fn explain_has_the_order_in_which_create_makes_the_cgroups() {
    for view in View::versions() {
        let stage = stage!(view);
        let path = Stage::cgroups_path(&stage.id());
        let mut bundle = stage.bundle();
        bundle
            .set("/linux/cgroupsPath", json!(path))
            .write("explained");
        let folder = bundle.folder.to_string_lossy().into_owned();
        let explained = stage.call(&["explain", &folder]).ok().stdout;
        let own = match view.is_v2() {
            true => format!("mkdir /sys/fs/cgroup{path}"),
            false => format!("pids{path}"),
        };
        let position = |is: &dyn Fn(&str) -> bool| explained.lines().position(is);
        let cloned = position(&|line| line.starts_with("clone"));
        let made = position(&|line| line.contains("mkdir ") && line.ends_with(&own));
        assert!(made.is_some() && cloned.is_some(), "{explained}");
        assert_eq!(made < cloned, view.is_v2(), "{view:?}: {explained}");
    }
}
