//! Promise: what an older capsid made, a newer one manages: a container keeps running through the upgrade, and is
//! listed, entered, paused, stopped and deleted by whoever comes after.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::{Container, Stage};
use crate::stage;

fn file(stage: &Stage, container: &Container<'_>, name: &str) -> PathBuf {
    stage.state_root().join(&container.id).join(name)
}

/// Checked in, and never changed: what capsid wrote when the schema was 1.
const SCHEMA_1: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/state/schema-1");

#[test]
fn a_state_directory_of_schema_1_is_still_read_and_deleted() {
    let stage = stage!();
    let id = stage.id();
    let home = stage.state_root().join(&id);
    std::fs::create_dir(&home).unwrap();
    for name in ["config.json", "journal.json", "state.json"] {
        let text = std::fs::read_to_string(Path::new(SCHEMA_1).join(name)).unwrap();
        let text = text.replace("/CGROUP", &Stage::cgroups_path(&id));
        std::fs::write(home.join(name), text).unwrap();
    }
    let state: Value = stage.call(&["state", &id]).ok().json();
    assert_eq!(state["status"], "stopped");
    assert_eq!(state["bundle"], "/srv/bundle");
    assert_eq!(state["rootfs"], "/srv/bundle/rootfs");
    assert_eq!(state["created"], "2026-11-22T07:00:00.000000000Z");
    assert_eq!(state["annotations"]["org.example.key"], "value");
    stage.call(&["list"]).ok().prints(&id);
    // Its process is long gone: delete needs no force.
    stage.call(&["delete", &id]).ok();
    assert!(stage.remains(&id).is_empty());
}

#[test]
fn a_fresh_state_directory_has_the_fields_of_the_fixture() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle
        .sleeps()
        .set("/annotations", json!({"org.example.key": "value"}));
    let container = stage.create(&bundle);
    for name in ["journal.json", "state.json"] {
        let keys = |path: &Path| -> Vec<String> {
            let text = std::fs::read_to_string(path).unwrap();
            let value: Value = serde_json::from_str(&text).unwrap();
            value.as_object().unwrap().keys().cloned().collect()
        };
        assert_eq!(
            keys(&file(&stage, &container, name)),
            keys(&Path::new(SCHEMA_1).join(name)),
            "{name} has other fields than fixtures/state/schema-1: does an older capsid read it?"
        );
    }
}

/// What `value` has of the keys of `model`, at every depth; of an array, those of its first element.
fn reduced(value: &Value, model: &Value) -> Value {
    match (value, model) {
        (Value::Object(fields), Value::Object(known)) if !known.is_empty() => fields
            .iter()
            .filter_map(|(key, field)| Some((key.clone(), reduced(field, known.get(key)?))))
            .collect(),
        (Value::Array(items), Value::Array(known)) if !known.is_empty() => {
            items.iter().map(|item| reduced(item, &known[0])).collect()
        }
        _ => value.clone(),
    }
}

/// A container whose state is of schema 1: its files, and their fields, are those of the fixture.
fn of_schema_1<'a>(stage: &'a Stage, steps: &[&str]) -> Container<'a> {
    let mut bundle = stage.bundle();
    bundle.sleeps();
    let container = stage.create(&bundle);
    for verb in steps {
        container.call(verb, &[]).ok();
    }
    for entry in std::fs::read_dir(file(stage, &container, "")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        match &*name {
            "config.json" | "go" | "result" => {}
            "journal.json" | "state.json" => {
                let read = |path: &Path| -> Value {
                    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
                };
                let text = reduced(&read(&path), &read(&Path::new(SCHEMA_1).join(&name)));
                std::fs::write(&path, text.to_string()).unwrap();
            }
            _ => std::fs::remove_file(&path).unwrap(),
        }
    }
    container
}

/// A newer capsid has come meanwhile.
#[test]
fn a_container_of_schema_1_keeps_running_and_has_every_verb() {
    let stage = stage!();
    for (steps, status) in [
        (&[][..], "created"),
        (&["start"], "running"),
        (&["start", "pause"], "paused"),
    ] {
        let container = of_schema_1(&stage, steps);
        assert_eq!(container.status(), status);
        let (pid, list) = (container.pid(), stage.call(&["list"]).ok());
        let line = list
            .stdout
            .lines()
            .find(|line| line.contains(&container.id));
        let line = line.unwrap_or_default();
        assert!(
            line.contains(status) && line.contains(&pid.to_string()),
            "{list}"
        );
        match status {
            "created" => container.start().ok(),
            "running" => container.call("pause", &[]).ok(),
            _ => container.call("resume", &[]).ok(),
        };
        if status == "running" {
            container.call("resume", &[]).ok();
        }
        assert_eq!(
            (container.status().as_str(), container.pid()),
            ("running", pid)
        );
        assert_eq!(
            container.sh("hostname; echo $(id -u)"),
            "promises\n0",
            "{status}"
        );
        container.exec_with(&["--user", "7:8"], &["/bin/true"]).ok();
        container
            .call("ps", &["--format", "json"])
            .ok()
            .prints(&pid.to_string());
        container
            .call("events", &["--stats"])
            .ok()
            .prints("\"stats\"");
        container.call("update", &["--pids-limit", "64"]).ok();
        container
            .delete()
            .refuses(&["that is not stopped: running"]);
        container.ends_by(&["TERM"]);
        container.delete().ok();
        assert!(stage.remains(&container.id).is_empty(), "{status}");
    }
    let container = of_schema_1(&stage, &["start"]);
    container.delete_force().ok();
    assert!(stage.remains(&container.id).is_empty());
}
