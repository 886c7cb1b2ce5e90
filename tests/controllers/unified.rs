//! linux.resources.unified: cgroup v2's files by their names.

use serde_json::{Value, json};

use super::has_unified_controller;
use crate::harness::{Bundle, Stage, View};
use crate::{skip, stage};

fn unified(stage: &Stage, settings: Value) -> Bundle {
    let mut bundle = stage.bundle();
    bundle.sleeps().set("/linux/resources/unified", settings);
    bundle
}

#[test]
fn unified_is_written_by_the_files_names_and_has_the_last_word() {
    let stage = stage!(View::V2);
    let bundle = unified(&stage, json!({"cgroup.max.depth": "3"}));
    assert_eq!(stage.create(&bundle).limit("", "cgroup.max.depth"), "3");
    if !has_unified_controller("memory") {
        skip!("the machine's cgroup v2 has no memory controller: the guest tests it");
    }
    let mut bundle = unified(
        &stage,
        json!({"memory.max": "67108864", "memory.high": "33554432"}),
    );
    bundle.set("/linux/resources/memory", json!({"limit": 134_217_728}));
    let container = stage.create(&bundle);
    assert_eq!(container.limit("", "memory.max"), "67108864");
    assert_eq!(container.limit("", "memory.high"), "33554432");
}

#[test]
fn each_line_of_a_unified_value_is_a_write() {
    let stage = stage!(View::V2);
    let controllers = ["hugetlb", "pids", "cpu"];
    let Some(controller) = controllers.into_iter().find(|c| has_unified_controller(c)) else {
        skip!("cgroup v2 has no controller here");
    };
    // The kernel takes both in one line, or each in one of its own.
    let lines = format!("+{controller}\n-{controller}\n");
    let bundle = unified(&stage, json!({"cgroup.subtree_control": lines}));
    let container = stage.create(&bundle);
    assert_eq!(container.limit("", "cgroup.subtree_control"), "");
}

#[test]
fn b42_unified_names_the_controller_or_the_file_that_is_not_there() {
    let stage = stage!(View::V2);
    for (key, said) in [
        (
            "nothing.max",
            "unified resource \"nothing.max\" can't be set: controller \"nothing\" not available",
        ),
        (
            "cgroup.nothing",
            "unable to set unified resource \"cgroup.nothing\"",
        ),
        (
            "cgroup.procs",
            "unified resource \"cgroup.procs\" can't be set: it is not a setting",
        ),
        (
            "a/b",
            "unified resource \"a/b\" must be a file name (no slashes)",
        ),
        (
            "nothing",
            "unified resource \"nothing\" must be in the form CONTROLLER.PARAMETER",
        ),
    ] {
        let pointer = format!("/linux/resources/unified/{}", key.replace('/', "~1"));
        let mut bundle = stage.bundle();
        bundle.config["linux"]["resources"]["unified"] = json!({key: "1"});
        stage.try_create(&bundle).refuses(&[&pointer, said]);
    }
}

#[test]
fn miscellaneous_limits_are_written() {
    let stage = stage!();
    let capacity = std::fs::read_to_string("/sys/fs/cgroup/misc.capacity").unwrap_or_default();
    let Some((resource, _)) = capacity.split_once(' ') else {
        skip!("no misc controller with a resource here");
    };
    let settings = json!({"misc.max": format!("{resource} 1")});
    let limit = stage
        .create(&unified(&stage, settings))
        .limit("misc", "misc.max");
    let expected = format!("{resource} 1");
    assert!(limit.lines().any(|line| line == expected), "{limit}");
}
