//! Promise: capsid never signals a process that it did not start, whatever its state files or its cgroup say.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{Container, Stage, until};
use crate::stage;

/// Rewrites what a container's state says of its init; `stranger` is what another's says of its own.
fn mistake(stage: &Stage, container: &Container<'_>, change: impl Fn(&mut Value)) {
    let path = stage.state_root().join(&container.id).join("state.json");
    let mut state: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    change(&mut state["init"]);
    std::fs::write(&path, state.to_string()).unwrap();
}

fn identity(stage: &Stage, container: &Container<'_>) -> Value {
    let path = stage.state_root().join(&container.id).join("state.json");
    let state: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    state["init"].clone()
}

/// The container is taken for stopped, its own processes are deleted, and the stranger is left alone.
fn spares(stage: &Stage, container: &Container<'_>, stranger: &Container<'_>, what: &str) {
    let own: Vec<String> = {
        let procs = container.cgroup("pids").join("cgroup.procs");
        let list = std::fs::read_to_string(procs).unwrap();
        list.lines().map(str::to_owned).collect()
    };
    assert!(!own.is_empty(), "{what}");
    assert_eq!(container.status(), "stopped", "{what}");
    assert_eq!(container.pid(), 0, "{what}");
    container.kill("KILL").refuses(&["container not running"]);
    assert_ne!(container.exec(&["/bin/true"]).code, 0, "{what}");
    assert_ne!(container.start().code, 0, "{what}");
    container.delete_force().ok();
    assert!(stage.remains(&container.id).is_empty(), "{what}");
    until(&format!("{what}: {own:?} have ended"), || {
        own.iter().all(|pid| {
            !std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| !s.contains(") Z "))
        })
    });
    assert_eq!(stranger.status(), "running", "{what}: the stranger");
}

#[test]
fn f06_a_process_that_took_over_the_pid_is_left_alone() {
    let stage = stage!();
    let (container, stranger) = (stage.running(), stage.running());
    let other = identity(&stage, &stranger);
    mistake(&stage, &container, |init| {
        init["pid"] = other["pid"].clone()
    });
    spares(&stage, &container, &stranger, "the inode differs");
}

#[test]
fn f06_a_process_with_the_pid_and_another_start_time_is_left_alone() {
    let stage = stage!();
    let stranger = stage.running();
    let other = identity(&stage, &stranger);
    for (what, start_time) in [("differs", json!(1)), ("is unknown", Value::Null)] {
        let container = stage.running();
        mistake(&stage, &container, |init| {
            init["pid"] = other["pid"].clone();
            init.as_object_mut().unwrap().remove("inode");
            init["start_time"] = start_time.clone();
        });
        spares(&stage, &container, &stranger, what);
    }
}

#[test]
fn f06_a_process_of_another_boot_with_the_same_pid_is_left_alone() {
    let stage = stage!();
    let (container, stranger) = (stage.running(), stage.running());
    let other = identity(&stage, &stranger);
    mistake(&stage, &container, |init| {
        *init = other.clone();
        init["boot_id"] = json!("00000000-0000-4000-8000-000000000000");
    });
    spares(&stage, &container, &stranger, "before a reboot");
}

#[test]
fn f06_the_start_time_tells_the_same_process_where_there_are_no_inodes() {
    let stage = stage!();
    let container = stage.running();
    let pid = container.pid();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // proc_pid_stat(5): the 22nd field; the second ends with the last parenthesis.
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let start_time: u64 = fields.split(' ').nth(19).unwrap().parse().unwrap();
    mistake(&stage, &container, |init| {
        init.as_object_mut().unwrap().remove("inode");
        init["start_time"] = json!(start_time);
    });
    assert_eq!(container.status(), "running");
    container.kill("KILL").ok();
    container.becomes("stopped");
}

/// A process that nobody asked capsid for, in a cgroup that is none of capsid's.
struct Stranger {
    child: Child,
    cgroup: PathBuf,
}

impl Stranger {
    fn new(cgroup: PathBuf) -> Stranger {
        std::fs::create_dir(&cgroup).unwrap();
        let child = Command::new("sleep")
            .arg("600")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        std::fs::write(cgroup.join("cgroup.procs"), child.id().to_string()).unwrap();
        Stranger { child, cgroup }
    }

    fn lives(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        until(&format!("{} is removed", self.cgroup.display()), || {
            std::fs::remove_dir(&self.cgroup).is_ok() || !self.cgroup.exists()
        });
    }
}

#[test]
fn f17_a_cgroup_that_somebody_uses_is_refused_and_its_process_named_and_spared() {
    let stage = stage!();
    let id = stage.id();
    let path = stage.view.cgroup("pids", &Stage::cgroups_path(&id));
    let mut stranger = Stranger::new(path.clone());
    let mut bundle = stage.bundle();
    bundle.sleeps().write(&id);
    let folder = bundle.folder.to_string_lossy().into_owned();
    for verb in ["create", "run"] {
        let pid = stranger.child.id().to_string();
        stage.call(&[verb, "--bundle", &folder, &id]).refuses(&[
            "container's cgroup is not empty",
            &pid,
            "sleep",
        ]);
        assert!(stranger.lives(), "{verb}");
        assert!(path.exists(), "{verb} removed a cgroup that is not its own");
        assert!(!stage.state_root().join(&id).exists(), "{verb}");
    }
    stage.call(&["delete", "--force", &id]).ok();
    assert!(stranger.lives() && path.exists(), "delete --force");
    drop(stranger);
    assert!(stage.remains(&id).is_empty());
}

#[test]
fn f17_a_cgroup_that_is_frozen_is_refused_and_stays() {
    let stage = stage!();
    let id = stage.id();
    let path = stage.view.cgroup("freezer", &Stage::cgroups_path(&id));
    std::fs::create_dir(&path).unwrap();
    let (file, frozen, thawed) = match stage.view.is_v2() {
        true => ("cgroup.freeze", "1", "0"),
        false => ("freezer.state", "FROZEN", "THAWED"),
    };
    std::fs::write(path.join(file), frozen).unwrap();
    let mut bundle = stage.bundle();
    bundle.sleeps().write(&id);
    let folder = bundle.folder.to_string_lossy().into_owned();
    for verb in ["create", "run"] {
        stage
            .call(&[verb, "--bundle", &folder, &id])
            .refuses(&["frozen", &path.to_string_lossy()]);
        assert!(path.exists() && !stage.state_root().join(&id).exists());
    }
    std::fs::write(path.join(file), thawed).unwrap();
    std::fs::remove_dir(&path).unwrap();
}
