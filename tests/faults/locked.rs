//! Promise: a process that a killed create has left, and that can't go on, keeps nobody waiting without end: it is
//! named, and `delete --force` ends it; who is at work on a container is waited for.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::harness::{Bundle, Outcome, Stage, end, until};
use crate::stage;

fn alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

fn begin(stage: &Stage, bundle: &Bundle, words: &[&str]) -> (String, Child) {
    let (id, mut command) = stage.command(words, bundle);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    (id, command.spawn().unwrap())
}

/// A hook that writes the pid of the container's process to `file`, having done what `script` says to $pid.
fn witness(script: &str, file: &Path) -> serde_json::Value {
    let file = file.display();
    let script = format!(
        "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); {script}; echo $pid > {file}.new; mv {file}.new {file}; exec sleep 621"
    );
    json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}])
}

/// The id of a container whose create was killed while its process was stopped, and that process.
fn left(stage: &Stage) -> (String, i32) {
    let mut bundle = stage.bundle();
    let file = stage.path("pid");
    let _ = std::fs::remove_file(&file);
    bundle
        .sleeps()
        .set("/hooks/createRuntime", witness("kill -STOP $pid", &file));
    let (id, create) = begin(stage, &bundle, &["create"]);
    until("its process is stopped", || file.exists());
    let pid = std::fs::read_to_string(&file)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    kill(Pid::from_raw(create.id() as i32), Signal::SIGKILL).unwrap();
    assert_eq!(end(create), Some(128 + 9));
    assert!(
        alive(pid),
        "stopped, it doesn't see that its parent is gone"
    );
    (id, pid)
}

#[test]
fn f13_delete_by_force_ends_a_stopped_process_that_a_killed_create_has_left() {
    let stage = stage!();
    let (id, pid) = left(&stage);
    let deleted = stage.call(&["delete", "--force", &id]).ok();
    assert!(deleted.took < Duration::from_secs(10), "{deleted}");
    until("its process is gone", || !alive(pid));
    assert!(stage.remains(&id).is_empty(), "{:?}", stage.remains(&id));
}

#[test]
fn f13_a_stopped_process_with_the_lock_of_a_container_is_named() {
    let stage = stage!();
    let (id, pid) = left(&stage);
    for verb in ["delete", "start", "pause"] {
        stage.call(&[verb, &id]).refuses(&[
            &format!("container is locked by process {pid} (capsid)"),
            "which a runtime that was killed has left, is stopped by a signal",
        ]);
    }
    // Others need no lock.
    let state = stage.call(&["state", &id]).ok().json();
    assert_eq!(state["status"], "creating");
    stage.call(&["list"]).ok();
    stage.call(&["delete", "--force", &id]).ok();
}

#[test]
fn f13_a_runtime_that_is_stopped_at_its_work_is_named_and_not_killed() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    let file = stage.path("pid");
    bundle
        .sleeps()
        .set("/hooks/createRuntime", witness(":", &file));
    let (id, create) = begin(&stage, &bundle, &["create"]);
    until("the hook runs", || file.exists());
    let pid = create.id() as i32;
    kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
    stage.call(&["delete", "--force", &id]).refuses(&[
        &format!("container is locked by process {pid} (capsid)"),
        &format!("kill -CONT {pid}"),
    ]);
    assert!(alive(pid));
    kill(Pid::from_raw(pid), Signal::SIGCONT).unwrap();
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    assert_eq!(end(create), Some(1));
}

#[test]
fn a_create_whose_hook_takes_long_is_waited_for_and_named() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    let (file, go) = (stage.path("pid"), stage.path("go"));
    let wait = format!(
        "echo > {}; until [ -e {} ]; do sleep 0.1; done",
        file.display(),
        go.display()
    );
    bundle.sleeps().set(
        "/hooks/createRuntime",
        json!([{"path": "/bin/sh", "args": ["sh", "-c", wait]}]),
    );
    let (id, create) = begin(&stage, &bundle, &["create"]);
    until("the hook runs", || file.exists());
    let pid = create.id();
    let log = stage.path("log");
    let mut delete = stage.capsid();
    delete
        .arg("--log")
        .arg(&log)
        .args(["delete", "--force", &id]);
    let deleted = std::thread::scope(|scope| {
        let deleting = scope.spawn(|| Outcome::of(&mut delete));
        until("it says for whom it waits", || {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            said.contains(&format!("waits for process {pid} (capsid)"))
        });
        assert!(stage.remains(&id).iter().any(|it| it.ends_with(&id)));
        std::fs::write(&go, "").unwrap();
        deleting.join().unwrap()
    });
    deleted.ok();
    assert_eq!(end(create), Some(0), "it was through first");
    assert!(stage.remains(&id).is_empty(), "{:?}", stage.remains(&id));
}
