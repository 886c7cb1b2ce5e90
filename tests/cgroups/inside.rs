//! What the container sees of its own cgroup, and what of it belongs to the container's user.

use std::os::unix::fs::MetadataExt;

use serde_json::json;

use crate::harness::{View, machine};
use crate::{skip, stage};

#[test]
fn the_container_sees_its_own_cgroup_as_the_root_in_a_cgroup_namespace() {
    for view in View::versions() {
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
fn a_writable_cgroup_of_v2_belongs_to_the_containers_user() {
    let stage = stage!(View::V2);
    for (write, owner) in [("rw", 100_000), ("ro", 0)] {
        let mut bundle = stage.bundle();
        let mounts = bundle.config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["type"] != "cgroup");
        bundle
            .mount("/sys/fs/cgroup", "cgroup", "cgroup", &[write])
            .namespace("cgroup", None)
            .user_namespace(100_000, 65_536)
            .sleeps();
        let container = stage.create(&bundle);
        let dir = container.cgroup("");
        let owner_of = |name: &str| std::fs::metadata(dir.join(name)).unwrap().uid();
        for file in [
            "",
            "cgroup.procs",
            "cgroup.threads",
            "cgroup.subtree_control",
        ] {
            assert_eq!(owner_of(file), owner, "{write} {file}");
        }
        // What limits the container stays the host's.
        for file in ["cgroup.max.depth", "cgroup.freeze", "cgroup.type"] {
            assert_eq!(owner_of(file), 0, "{write} {file}");
        }
        container.start().ok();
        let made = container.exec(&["mkdir", "/sys/fs/cgroup/inner"]);
        assert_eq!(made.code == 0, write == "rw", "{made}");
        container.delete_force().ok();
    }
}

#[test]
fn a_cgroup_to_manage_is_made_below_the_containers_where_an_annotation_says_so() {
    let stage = stage!(View::V2);
    let mut bundle = stage.bundle();
    bundle
        .namespace("cgroup", None)
        .user_namespace(100_000, 65_536)
        .sleeps()
        .set("/annotations", json!({"run.oci.delegate-cgroup": "in"}));
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| mount["type"] != "cgroup");
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["rw"]);
    let container = stage.create(&bundle);
    let dir = container.cgroup("");
    let inside = std::fs::read_to_string(dir.join("in/cgroup.procs")).unwrap();
    assert_eq!(inside.trim(), container.pid().to_string());
    assert_eq!(std::fs::metadata(dir.join("in")).unwrap().uid(), 100_000);
    container.start().ok();
    container.exec(&["mkdir", "/sys/fs/cgroup/in/box"]).ok();
    container.delete_force().ok();
    assert!(!dir.exists());
}

#[test]
fn v1_directories_are_never_given_away() {
    let stage = stage!(View::V1);
    let mut bundle = stage.bundle();
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| mount["type"] != "cgroup");
    bundle
        .mount("/sys/fs/cgroup", "cgroup", "cgroup", &["rw"])
        .namespace("cgroup", None)
        .user_namespace(100_000, 65_536)
        .sleeps();
    let container = stage.create(&bundle);
    assert_eq!(
        std::fs::metadata(container.cgroup("pids")).unwrap().uid(),
        0
    );
}
