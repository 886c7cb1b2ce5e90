//! Promise: list and ps print what runc's print, sorted, and go on past a container they can't read.

use std::process::Command;

use serde_json::Value;

use crate::harness::{Outcome, until};
use crate::{skip, stage};

#[test]
fn list_prints_a_table_sorted_by_id() {
    let stage = stage!();
    let (one, two) = (stage.running(), stage.running());
    let outcome = stage.call(&["list"]).ok();
    let lines: Vec<_> = outcome.stdout.lines().collect();
    assert_eq!(
        lines[0].split_whitespace().collect::<Vec<_>>(),
        ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    );
    let mut ids = [one.id.clone(), two.id.clone()];
    ids.sort();
    for (line, id) in lines[1..].iter().zip(&ids) {
        let words: Vec<_> = line.split_whitespace().collect();
        assert_eq!(
            (words[0], words[2], words[5]),
            (id.as_str(), "running", "root"),
            "{outcome}"
        );
    }
    assert_eq!(lines.len(), 3, "{outcome}");
}

#[test]
fn list_prints_json_and_bare_ids() {
    let stage = stage!();
    let container = stage.running();
    let list = stage.call(&["list", "--format", "json"]).ok().json();
    let entry = &list.as_array().unwrap()[0];
    let state = container.state();
    for key in ["id", "pid", "status", "bundle", "rootfs", "created"] {
        assert_eq!(entry[key], state[key], "{key}");
    }
    assert_eq!(entry["owner"], "root");
    assert_eq!(
        stage.call(&["list", "--quiet"]).ok().stdout,
        format!("{}\n", container.id)
    );
    assert_eq!(
        stage.call(&["list", "-q"]).ok().stdout,
        format!("{}\n", container.id)
    );
    assert_ne!(stage.call(&["list", "--format", "xml"]).code, 0);
}

#[test]
fn list_of_nothing_is_an_empty_list() {
    let stage = stage!();
    assert_eq!(stage.call(&["list"]).ok().stdout.lines().count(), 1);
    assert_eq!(stage.call(&["list", "-q"]).ok().stdout, "");
    let list = stage.call(&["list", "--format", "json"]).ok().json();
    assert!(
        list == Value::Null || list == Value::Array(vec![]),
        "{list}"
    );
}

#[test]
fn list_of_a_missing_root_fails_only_when_it_was_named() {
    let stage = stage!();
    let root = stage.path("no-such-root");
    let outcome = Outcome::of(stage.bare().arg("--root").arg(&root).arg("list"));
    outcome.refuses(&["no-such-root", "no such file or directory"]);
    assert!(!root.exists());
    Outcome::of(stage.bare().arg("list")).ok();
}

#[test]
fn ps_prints_what_ps_prints_of_these_processes() {
    let stage = stage!();
    if Outcome::of(Command::new("ps").arg("-ef")).code != 0 {
        skip!("ps(1) itself fails here");
    }
    let container = stage.running();
    let pid = container.pid();
    until("the sleep runs", || {
        container.call("ps", &[]).ok().stdout.contains("sleep 600")
    });
    let outcome = container.call("ps", &[]).ok();
    assert!(
        outcome.stdout.lines().next().unwrap().contains("PID"),
        "{outcome}"
    );
    assert!(outcome.stdout.contains(&pid.to_string()), "{outcome}");
    assert_eq!(outcome.stdout.lines().count(), 3, "{outcome}");
    let outcome = container.call("ps", &["-e", "-o", "pid,comm"]).ok();
    assert_eq!(
        outcome
            .stdout
            .lines()
            .next()
            .unwrap()
            .split_whitespace()
            .collect::<Vec<_>>(),
        ["PID", "COMMAND"],
        "{outcome}"
    );
    let list = stage.call(&["ps", "--format", "json", &container.id]).ok();
    assert!(
        list.json().as_array().unwrap().contains(&pid.into()),
        "{list}"
    );
}

#[test]
fn ps_has_a_table_of_its_own_where_the_host_has_no_ps() {
    let stage = stage!();
    let container = stage.running();
    let ps = |options: &[&str]| {
        let mut command = stage.capsid();
        command
            .env("PATH", "/nowhere")
            .args(["ps", &container.id])
            .args(options);
        Outcome::of(&mut command)
    };
    let outcome = ps(&[]).ok();
    let lines: Vec<Vec<&str>> = outcome
        .stdout
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines[0], ["UID", "PID", "PPID", "STATE", "CMD"]);
    assert!(
        lines[1..]
            .iter()
            .any(|line| line[1] == container.pid().to_string()),
        "{outcome}"
    );
    ps(&["-o", "pid"]).refuses(&[
        "run ps: options after the id need the host's ps(1): no such file or directory",
    ]);
}

#[test]
fn each_root_has_its_own_containers() {
    let stage = stage!();
    let container = stage.running();
    let other = stage.path("other");
    std::fs::create_dir(&other).unwrap();
    let elsewhere =
        |words: &[&str]| Outcome::of(stage.bare().arg("--root").arg(&other).args(words));
    assert_eq!(elsewhere(&["list", "--quiet"]).ok().stdout, "");
    elsewhere(&["state", &container.id]).refuses(&["container does not exist"]);
    elsewhere(&["delete", "--force", &container.id]).ok();
    assert_eq!(container.status(), "running");
}

#[test]
fn ps_of_a_stopped_container_is_empty() {
    let stage = stage!();
    if Outcome::of(Command::new("ps").arg("-ef")).code != 0 {
        skip!("ps(1) itself fails here");
    }
    let container = stage.running();
    container.kill("KILL").ok();
    container.becomes("stopped");
    assert_eq!(container.call("ps", &[]).ok().stdout.lines().count(), 1);
    let list = stage
        .call(&["ps", "--format", "json", &container.id])
        .ok()
        .json();
    assert!(
        list == Value::Null || list == Value::Array(vec![]),
        "{list}"
    );
    stage
        .call(&["ps", "no-such-container"])
        .refuses(&["container does not exist"]);
}
