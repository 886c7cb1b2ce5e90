//! Promise: a state file that is damaged is named, hides no other container, and is no obstacle to
//! `delete --force`, which finds the processes by their cgroup.

use std::path::PathBuf;

use serde_json::json;

use super::processes_of;
use crate::harness::{Container, Outcome, Stage, until};
use crate::stage;

const DAMAGES: [(&str, &str); 7] = [
    ("empty", ""),
    ("cut", r#"{"schema":1,"init":{"pi"#),
    ("garbage", "\u{1}\u{2}\u{fffd} not json"),
    ("null", "null"),
    ("an object", "{}"),
    ("an array", "[]"),
    ("of another schema", r#"{"schema":4000000000}"#),
];

fn named(stage: &Stage) -> Container<'_> {
    let mut bundle = stage.bundle();
    // Children as well: only the cgroup knows them all.
    bundle.sh("sleep 600 & sleep 600 & while :; do sleep 600; done");
    let container = stage.create(&bundle);
    container.start().ok();
    container
}

fn file(stage: &Stage, container: &Container<'_>, name: &str) -> PathBuf {
    stage.state_root().join(&container.id).join(name)
}

/// The file is named by `state`, the rest is listed, and delete --force leaves nothing.
fn survives(stage: &Stage, damaged: &Container<'_>, name: &str, what: &str) {
    let path = file(stage, damaged, name);
    let pids = pids(damaged);
    let state = damaged.call("state", &[]);
    assert_eq!(state.code, 1, "{what}: {state}");
    assert!(
        state.stderr.contains(&*path.to_string_lossy()),
        "{what}: {state} does not name {}",
        path.display()
    );
    assert_eq!(state.stderr.trim().lines().count(), 1, "{what}: {state}");
    let delete = damaged.delete();
    assert_ne!(delete.code, 0, "{what}: {delete}");
    damaged.delete_force().ok();
    assert!(stage.remains(&damaged.id).is_empty(), "{what}");
    assert!(!pids.is_empty());
    until(&format!("{what}: {pids:?} have ended"), || {
        pids.iter().all(|pid| !lives(*pid))
    });
    assert!(processes_of(&damaged.id).is_empty(), "{what}");
}

fn pids(container: &Container<'_>) -> Vec<i32> {
    let list = std::fs::read_to_string(container.cgroup("pids").join("cgroup.procs"))
        .expect("cgroup.procs");
    list.lines().filter_map(|line| line.parse().ok()).collect()
}

/// `delete --force` leaves nothing, and none of these processes.
fn goes_with(stage: &Stage, container: &Container<'_>, pids: &[i32]) {
    container.delete_force().ok();
    assert!(stage.remains(&container.id).is_empty());
    until("its processes have ended", || {
        !pids.iter().any(|pid| lives(*pid))
    });
}

fn lives(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.contains(") Z ") && !stat.contains(") X "))
}

#[test]
fn f04_a_damaged_state_file_is_named_and_deleted_with_all_processes() {
    let stage = stage!();
    for (what, text) in DAMAGES {
        let container = named(&stage);
        std::fs::write(file(&stage, &container, "state.json"), text).unwrap();
        survives(&stage, &container, "state.json", what);
    }
}

#[test]
fn f04_a_damaged_journal_is_named_and_deleted_with_all_processes() {
    let stage = stage!();
    for (what, text) in DAMAGES {
        let container = named(&stage);
        std::fs::write(file(&stage, &container, "journal.json"), text).unwrap();
        survives(&stage, &container, "journal.json", what);
    }
}

#[test]
fn f04_a_container_whose_journal_is_gone_is_deleted_with_all_processes() {
    let stage = stage!();
    let container = named(&stage);
    let pids = pids(&container);
    std::fs::remove_file(file(&stage, &container, "journal.json")).unwrap();
    goes_with(&stage, &container, &pids);
}

#[test]
fn f04_of_a_container_whose_journal_is_gone_nobody_is_killed_who_is_no_longer_its_own() {
    let stage = stage!();
    let container = stage.running();
    container.ends_by(&["KILL"]);
    std::fs::remove_file(file(&stage, &container, "journal.json")).unwrap();
    // Somebody's whom no runtime knows.
    let mut stranger = std::process::Command::new("/bin/sleep")
        .arg("600")
        .spawn()
        .unwrap();
    let procs = container.cgroup("pids").join("cgroup.procs");
    std::fs::write(&procs, stranger.id().to_string()).unwrap();
    container.delete_force().ok();
    assert!(lives(stranger.id().cast_signed()));
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    // It is the stranger's.
    for place in stage.remains(&container.id) {
        std::fs::remove_dir(place).unwrap();
    }
}

#[test]
fn whatever_is_in_the_way_of_a_new_file_is_removed_and_nobody_waits_for_it() {
    let stage = stage!();
    let container = stage.running();
    let new = file(&stage, &container, ".config.json.new");
    let update = || container.call("update", &["--pids-limit", "64"]);
    nix::unistd::mkfifo(&new, nix::sys::stat::Mode::S_IRWXU).unwrap();
    update().ok();
    assert_eq!(container.limit("pids", "pids.max"), "64");
    std::os::unix::fs::symlink("/etc/passwd", &new).unwrap();
    update().ok();
    std::fs::create_dir(&new).unwrap();
    update().refuses(&["config.json", "is a directory"]);
    container.delete_force().ok();
}

#[test]
fn f04_a_container_of_which_only_the_config_can_be_read_is_deleted_with_all_processes() {
    let stage = stage!();
    let container = named(&stage);
    for name in ["journal.json", "state.json"] {
        std::fs::write(file(&stage, &container, name), "").unwrap();
    }
    survives(&stage, &container, "journal.json", "both");
}

#[test]
fn f04_a_state_that_cannot_be_read_at_the_moment_is_not_taken_for_a_damaged_one() {
    let stage = stage!();
    let container = named(&stage);
    let script = "ulimit -S -n 4; exec $capsid delete --force $1";
    stage
        .shell(script, &[&container.id])
        .refuses(&["too many open files"]);
    assert_ne!(container.status(), "");
    assert!(!stage.remains(&container.id).is_empty());
    let pids = pids(&container);
    goes_with(&stage, &container, &pids);
}

#[test]
fn f04_a_damaged_container_is_deleted_without_another_that_is_in_its_cgroup_since() {
    let stage = stage!();
    let damaged = stage.running();
    damaged.ends_by(&["KILL"]);
    let mut bundle = stage.bundle();
    let path = Stage::cgroups_path(&damaged.id);
    bundle.sleeps().set("/linux/cgroupsPath", json!(path));
    let other = stage.create(&bundle);
    other.start().ok();
    std::fs::write(file(&stage, &damaged, "journal.json"), "{}").unwrap();
    let outcome = damaged.delete_force().ok();
    let told = format!("its cgroup stays: the container {} is in it", other.id);
    assert!(outcome.stderr.contains(&told), "{outcome}");
    assert_eq!(other.status(), "running");
    other.delete_force().ok();
}

#[test]
fn f04_a_damaged_container_hides_no_other_from_list() {
    let stage = stage!();
    let (damaged, well) = (named(&stage), stage.running());
    std::fs::write(file(&stage, &damaged, "state.json"), "{").unwrap();
    let list = stage.call(&["list"]).ok();
    let line = |id: &str| list.stdout.lines().find(|line| line.contains(id));
    assert!(
        line(&well.id).is_some_and(|line| line.contains("running")),
        "{list}"
    );
    assert!(line(&damaged.id).is_none(), "{list}");
    assert!(
        list.stderr
            .contains(&format!("load container {}: read ", damaged.id)),
        "{list}"
    );
    let json = stage.call(&["list", "--format", "json"]).ok().json();
    let ids: Vec<_> = json.as_array().unwrap().iter().map(|c| &c["id"]).collect();
    assert!(ids.contains(&&json!(well.id)), "{json}");
}

#[test]
fn a_file_that_is_no_file_stops_nobody() {
    let stage = stage!();
    let container = named(&stage);
    let path = file(&stage, &container, "state.json");
    std::fs::remove_file(&path).unwrap();
    Outcome::of(std::process::Command::new("mkfifo").arg(&path)).ok();
    survives(&stage, &container, "state.json", "a fifo");
    let container = named(&stage);
    let path = file(&stage, &container, "state.json");
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir_all(path.join("a")).unwrap();
    survives(&stage, &container, "state.json", "a directory");
}
