//! Where the unit lies, and that it goes with the container.

use std::path::Path;

use serde_json::json;

use crate::harness::until;
use crate::systemd::{cgroup_of, properties, sleeping, systemctl};
use crate::systemd_stage;

#[test]
fn a_container_is_a_scope_that_goes_with_it() {
    let stage = systemd_stage!();
    let container = stage.create(&sleeping(&stage, None));
    let unit = format!("capsid-{}.scope", container.id);
    assert_eq!(cgroup_of(container.pid()), format!("/system.slice/{unit}"));
    container.start().ok();
    let shown = properties(&unit);
    for (name, value) in [
        ("ActiveState", "active"),
        ("Transient", "yes"),
        ("Slice", "system.slice"),
        ("Delegate", "yes"),
        ("DefaultDependencies", "no"),
        ("MemoryAccounting", "yes"),
        ("CPUAccounting", "yes"),
        ("TasksAccounting", "yes"),
    ] {
        assert_eq!(shown[name], value, "{name}");
    }
    assert_eq!(
        shown["Description"],
        format!("capsid container {}", container.id)
    );
    container.delete_force().ok();
    assert_eq!(properties(&unit)["LoadState"], "not-found");
}

#[test]
fn the_path_names_slice_prefix_and_name() {
    let stage = systemd_stage!();
    for (path, cgroup) in [
        ("machine.slice:libpod:ID", "/machine.slice/libpod-ID.scope"),
        (":x:ID", "/system.slice/x-ID.scope"),
        ("system.slice::ID", "/system.slice/ID.scope"),
        ("-.slice:x:ID", "/x-ID.scope"),
        (
            "capsidtest-besteffort-pod1.slice:cri-containerd:ID",
            "/capsidtest.slice/capsidtest-besteffort.slice/capsidtest-besteffort-pod1.slice/cri-containerd-ID.scope",
        ),
        ("system.slice:x:a+b.ID", "/system.slice/x-a\\x2bb.ID.scope"),
    ] {
        let name = stage.id();
        let container = stage.create(&sleeping(&stage, Some(&path.replace("ID", &name))));
        assert_eq!(
            cgroup_of(container.pid()),
            cgroup.replace("ID", &name),
            "{path}"
        );
        container.delete_force().ok();
    }
    systemctl(&["stop", "capsidtest.slice"]).ok();
}

#[test]
fn b33_another_path_is_refused() {
    let stage = systemd_stage!();
    let expected = |path: &str| {
        format!(
            "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got \"{path}\" instead"
        )
    };
    for path in ["/a/b", "a:b"] {
        let refused = stage.try_create(&sleeping(&stage, Some(path)));
        refused.refuses(&["/linux/cgroupsPath", &expected(path)]);
    }
    let refused = stage.try_create(&sleeping(&stage, Some("../a.slice:b:c")));
    refused.refuses(&["invalid slice name: ../a.slice"]);
}

#[test]
fn a_name_that_is_taken_is_refused_and_its_owner_left_alone() {
    let stage = systemd_stage!();
    let name = stage.id();
    let bundle = sleeping(&stage, Some(&format!(":x:{name}")));
    let first = stage.create(&bundle);
    first.start().ok();
    stage.try_create(&bundle).refuses(&["is not empty"]);
    assert_eq!(first.status(), "running");
    first.delete_force().ok();
    let unit = format!("x-{name}.service");
    systemctl(&["reset-failed"]).ok();
    assert_eq!(properties(&unit)["LoadState"], "not-found");
}

#[test]
fn of_two_creates_of_one_unit_one_wins_and_the_other_leaves_it_alone() {
    let stage = systemd_stage!();
    for round in 0..4 {
        let name = stage.id();
        let bundle = sleeping(&stage, Some(&format!(":x:{name}")));
        let mut outcomes: Vec<_> = std::thread::scope(|scope| {
            let create = || scope.spawn(|| stage.try_create_with(&bundle, &[]));
            let both = [create(), create()];
            both.map(|create| create.join().expect("a create")).into()
        });
        outcomes.sort_by_key(|(_, outcome)| outcome.code);
        let [(winner, won), (loser, lost)] = &outcomes[..] else {
            panic!("two outcomes");
        };
        assert!(won.code == 0 && lost.code != 0, "{won} {lost}");
        stage.call(&["delete", "--force", loser]).ok();
        let running = |id: &str| stage.call(&["state", id]).ok().json()["status"] == "created";
        assert!(running(winner), "round {round}");

        // One that was killed before it asked for the unit has written the same down.
        let loser = stage.id();
        let [from, to] = [winner, &loser].map(|id| stage.state_root().join(id));
        std::fs::create_dir(&to).unwrap();
        std::fs::copy(from.join("journal.json"), to.join("journal.json")).unwrap();
        let told = stage.call(&["delete", "--force", &loser]).ok();
        let words = format!("its cgroup stays: the container {winner} is in it");
        assert!(told.stderr.contains(&words), "{told}");
        assert!(running(winner), "round {round}");
        let unit = format!("x-{name}.scope");
        assert_eq!(properties(&unit)["ActiveState"], "active");
        stage.call(&["delete", "--force", winner]).ok();
        assert_eq!(properties(&unit)["LoadState"], "not-found");
    }
}

#[test]
fn a_unit_that_has_failed_makes_room() {
    let stage = systemd_stage!();
    let name = stage.id();
    let unit = format!("x-{name}.scope");
    let failed = std::process::Command::new("systemd-run")
        .args([
            "--quiet",
            "--scope",
            &format!("--unit={unit}"),
            "-p",
            "RuntimeMaxSec=1s",
        ])
        .args(["sleep", "60"])
        .status();
    assert!(!failed.expect("systemd-run").success());
    until("the unit has failed", || {
        properties(&unit)["ActiveState"] == "failed"
    });
    let container = stage.create(&sleeping(&stage, Some(&format!(":x:{name}"))));
    assert_eq!(properties(&unit)["ActiveState"], "active");
    container.delete_force().ok();
    assert_eq!(properties(&unit)["LoadState"], "not-found");
}

#[test]
fn a_unit_that_systemd_is_stopping_already_is_deleted_at_once() {
    let stage = systemd_stage!();
    let mut bundle = sleeping(&stage, None);
    bundle.sh("trap '' TERM; while :; do sleep 600; done").set(
        "/annotations",
        json!({"org.systemd.property.RuntimeMaxSec": "1"}),
    );
    let container = stage.create(&bundle);
    container.start().ok();
    let unit = format!("capsid-{}.scope", container.id);
    until("systemd waits for its end", || {
        properties(&unit)["SubState"] == "stop-sigterm"
    });
    let deleted = container.delete_force().ok();
    assert!(
        deleted.took < std::time::Duration::from_secs(20),
        "{deleted}"
    );
    assert_eq!(properties(&unit)["LoadState"], "not-found");
}

#[test]
fn annotations_give_the_container_a_cgroup_below_the_scopes_and_one_to_manage() {
    let stage = systemd_stage!();
    if !stage.view.is_v2() {
        crate::skip!("a cgroup is given away on v2 only");
    }
    let mut bundle = sleeping(&stage, None);
    bundle.namespace("cgroup", None);
    bundle.set(
        "/linux/resources",
        json!({"memory": {"limit": 67_108_864}, "pids": {"limit": 60}}),
    );
    let annotations = json!({"run.oci.systemd.subgroup": "box", "run.oci.delegate-cgroup": "in"});
    bundle.set("/annotations", annotations);
    let container = stage.create(&bundle);
    let scope = format!("/system.slice/capsid-{}.scope", container.id);
    assert_eq!(cgroup_of(container.pid()), format!("{scope}/box/in"));
    container.start().ok();
    let limit = |dir: &str, file: &str| {
        let path = format!("/sys/fs/cgroup{scope}{dir}/{file}");
        std::fs::read_to_string(&path)
            .expect(&path)
            .trim()
            .to_owned()
    };
    for dir in ["", "/box"] {
        assert_eq!(limit(dir, "memory.max"), "67108864", "{dir}");
        assert_eq!(limit(dir, "pids.max"), "60", "{dir}");
    }
    // What is inside may be given controllers: nobody else's process is in the way.
    let seen = container.sh("cat /proc/self/cgroup | head -n 1 | cut -d: -f3");
    assert_eq!(seen, "/in");
    let control = format!("/sys/fs/cgroup{scope}/box/cgroup.subtree_control");
    std::fs::write(control, "+memory").expect("nobody is in there");
    assert_eq!(
        container.sh("cat /proc/self/cgroup | head -n 1 | cut -d: -f3"),
        "/in"
    );
    container.call("update", &["--pids-limit", "61"]).ok();
    assert_eq!(limit("/box", "pids.max"), "61");
    let enabled = || {
        container.state()["x-capsid"]["subtreeControl"][format!("/sys/fs/cgroup{scope}")].clone()
    };
    assert_eq!(enabled(), json!(["memory", "pids"]));
    container.call("update", &["--cpu-share", "300"]).ok();
    assert_eq!(enabled(), json!(["cpu", "memory", "pids"]));
    container.delete_force().ok();
    assert!(!Path::new(&format!("/sys/fs/cgroup{scope}")).exists());
}

#[test]
fn exec_is_in_the_scope() {
    let stage = systemd_stage!();
    let mut bundle = sleeping(&stage, None);
    bundle.namespace("cgroup", None);
    let container = stage.create(&bundle);
    container.start().ok();
    let unit = format!("/system.slice/capsid-{}.scope", container.id);
    assert_eq!(cgroup_of(container.pid()), unit);
    container
        .exec_with(
            &[
                "--detach",
                "--pid-file",
                &stage.path("pid").to_string_lossy(),
            ],
            &["sleep", "600"],
        )
        .ok();
    let pid = std::fs::read_to_string(stage.path("pid")).expect("a pid");
    assert_eq!(cgroup_of(pid.trim().parse().expect("a pid")), unit);
    assert_eq!(
        container.sh("cat /proc/self/cgroup | head -n 1 | cut -d: -f3"),
        "/"
    );
}
