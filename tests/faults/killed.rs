//! Promise: nothing is left after `kill -9` of the runtime at any instant, once `delete --force` has run; and
//! the id can be used again.

use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{mounts_below, processes_of, random, rounds, spread};
use crate::harness::{Bundle, Outcome, Stage, View, end, machine, tracer, until, user};
use crate::{skip, stage};

/// One container that is made and killed again and again.
struct Victim<'a> {
    stage: &'a Stage,
    id: String,
    bundle: Bundle,
    options: Vec<&'static str>,
    user: Option<User>,
}

/// An ordinary user, who has a copy of the runtime and a state root.
struct User {
    state: String,
}

impl<'a> Victim<'a> {
    fn new(stage: &'a Stage) -> Victim<'a> {
        let (id, mut bundle) = (stage.id(), stage.bundle());
        bundle.sh(&format!(": {id}; while :; do sleep 600; done"));
        Victim {
            stage,
            id,
            bundle,
            options: Vec::new(),
            user: None,
        }
    }

    fn short_lived(mut self) -> Self {
        self.bundle.sh(&format!(": {}", self.id));
        self
    }

    fn runtime(&self) -> Command {
        let Some(user) = &self.user else {
            return self.stage.capsid();
        };
        let mut command = Command::new("setpriv");
        command
            .args(user::arguments())
            .arg(&self.stage.runtime)
            .args(["--root", &user.state]);
        command
    }

    /// `create` or `run` of the bundle.
    fn launch(&self, verb: &str) -> Command {
        self.bundle.write(&self.id);
        let mut command = self.runtime();
        command
            .arg(verb)
            .args(&self.options)
            .arg("--bundle")
            .arg(&self.bundle.folder)
            .arg(&self.id);
        command
    }

    fn verb(&self, words: &[&str]) -> Command {
        let mut command = self.runtime();
        command.args(words).arg(&self.id);
        command
    }

    #[track_caller]
    fn call(&self, words: &[&str]) -> Outcome {
        Outcome::of(&mut self.verb(words))
    }

    /// Kills `launch(verb)` at evenly spread system calls.
    fn sweep(&self, verb: &str, usual: usize) {
        let calls = tracer::calls(&self.launch(verb), &self.stage.runtime);
        self.call(&["delete", "--force"]).ok();
        for at in spread(calls, usual) {
            let ended = tracer::kill_at(&self.launch(verb), &self.stage.runtime, at);
            self.is_cleaned_up(&format!("{verb}, at call {at} of {calls}: {ended:?}"));
        }
    }

    /// Whatever there is of the container can be told, is removed by `delete --force`, and can be made again.
    fn is_cleaned_up(&self, when: &str) {
        let list = Outcome::of(self.runtime().arg("list"));
        assert_eq!(list.code, 0, "{when}: {list}");
        let state = self.call(&["state"]);
        assert!(
            state.code == 0 || state.stderr.contains("container does not exist"),
            "{when}: {state}"
        );
        let delete = self.call(&["delete", "--force"]);
        assert_eq!(delete.code, 0, "{when}: {delete}");
        self.is_gone(when);
        let again = Outcome::of(&mut self.launch("create"));
        assert_eq!(again.code, 0, "{when}: {again}");
        let delete = self.call(&["delete", "--force"]);
        assert_eq!(delete.code, 0, "{when}: {delete}");
        self.is_gone(when);
    }

    fn is_gone(&self, when: &str) {
        assert!(
            self.stage.remains(&self.id).is_empty(),
            "{when}: left: {:?}",
            self.stage.remains(&self.id)
        );
        if let Some(user) = &self.user {
            let state = std::fs::read_dir(&user.state).map_or(0, Iterator::count);
            assert_eq!(state, 0, "{when}: left in {}", user.state);
        }
        assert!(
            mounts_below(&self.stage.folder).is_empty(),
            "{when}: {:?}",
            mounts_below(&self.stage.folder)
        );
        // A child that lost its runtime ends at the next barrier, without being told.
        until(
            &format!("{when}: no process, not {:?}", processes_of(&self.id)),
            || processes_of(&self.id).is_empty(),
        );
    }
}

#[test]
fn f01_a_create_that_was_killed_at_any_system_call_leaves_nothing() {
    let stage = stage!();
    Victim::new(&stage).sweep("create", 24);
}

#[test]
fn f01_a_create_with_a_user_namespace_that_was_killed_leaves_nothing() {
    let stage = stage!();
    let mut victim = Victim::new(&stage);
    victim.bundle.user_namespace(100_000, 65_536);
    victim.sweep("create", 16);
}

#[test]
fn f01_a_create_on_cgroup_v1_that_was_killed_leaves_nothing() {
    let stage = stage!(View::V1);
    let mut victim = Victim::new(&stage);
    victim.bundle.user_namespace(100_000, 65_536);
    victim.sweep("create", 10);
}

#[test]
fn f01_a_create_with_an_overlay_that_was_killed_leaves_nothing() {
    let stage = stage!();
    let mut victim = Victim::new(&stage);
    victim.options = vec!["--overlay"];
    victim.sweep("create", 10);
}

#[test]
fn f01_a_create_that_joins_a_pid_namespace_and_was_killed_leaves_nothing() {
    let stage = stage!();
    let pod = stage.running();
    let mut victim = Victim::new(&stage);
    victim
        .bundle
        .namespace("pid", Some(&format!("/proc/{}/ns/pid", pod.pid())));
    victim.sweep("create", 10);
}

#[test]
fn f01_a_run_that_was_killed_at_any_system_call_leaves_nothing() {
    let stage = stage!();
    Victim::new(&stage).short_lived().sweep("run", 16);
}

#[test]
fn f01_a_run_with_an_overlay_that_was_killed_leaves_nothing() {
    let stage = stage!();
    let mut victim = Victim::new(&stage).short_lived();
    victim.options = vec!["--overlay"];
    victim.sweep("run", 6);
}

#[test]
fn f01_a_create_by_an_ordinary_user_that_was_killed_leaves_nothing() {
    let mut stage = stage!();
    if let Some(reason) = user::obstacle() {
        skip!("{reason}");
    }
    stage.runtime = machine::readable_capsid().to_owned();
    let state = stage.path("user");
    std::fs::create_dir(&state).unwrap();
    user::owns(&state);
    let mut victim = Victim::new(&stage);
    victim.bundle.remove("/linux/cgroupsPath");
    victim.bundle.remove("/linux/resources");
    victim.options = vec!["--overlay"];
    victim.user = Some(User {
        state: state.to_string_lossy().into_owned(),
    });
    victim.sweep("create", 10);
}

#[test]
fn f01_a_runtime_that_was_killed_at_any_moment_leaves_nothing() {
    let stage = stage!();
    let victim = Victim::new(&stage);
    let begun = Instant::now();
    Outcome::of(&mut victim.launch("create")).ok();
    let usual = begun.elapsed().as_micros() as u32;
    victim.call(&["delete", "--force"]).ok();
    for _ in 0..rounds(30, 200) {
        let delay = Duration::from_micros(u64::from(random() % usual));
        let mut command = victim.launch("create");
        let child = command
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // The one thing here that is to happen at a moment, and not after an event.
        std::thread::sleep(delay);
        let _ = kill(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
        let code = end(child);
        victim.is_cleaned_up(&format!("killed after {delay:?}: {code:?}"));
    }
}

#[test]
fn f02_a_start_that_was_killed_can_be_repeated() {
    let stage = stage!();
    let victim = Victim::new(&stage);
    let create = || Outcome::of(&mut victim.launch("create")).ok();
    create();
    let calls = tracer::calls(&victim.verb(&["start"]), &stage.runtime);
    victim.call(&["delete", "--force"]).ok();
    for at in spread(calls, 12) {
        create();
        let ended = tracer::kill_at(&victim.verb(&["start"]), &stage.runtime, at);
        let when = format!("start, at call {at} of {calls}: {ended:?}");
        let again = victim.call(&["start"]);
        assert!(
            again.code == 0
                || again
                    .stderr
                    .contains("cannot start an already running container"),
            "{when}: {again}"
        );
        let state = victim.call(&["state"]).ok().json();
        assert_eq!(state["status"], "running", "{when}");
        victim.call(&["delete", "--force"]).ok();
        victim.is_gone(&when);
    }
}

#[test]
fn f03_a_delete_that_was_killed_can_be_repeated_and_the_id_used_again() {
    let stage = stage!();
    let mut victim = Victim::new(&stage);
    victim.options = vec!["--overlay"];
    let create = |when: &str| {
        let created = Outcome::of(&mut victim.launch("create"));
        assert_eq!(created.code, 0, "create after {when}: {created}");
    };
    create("nothing");
    let calls = tracer::calls(&victim.verb(&["delete"]), &stage.runtime);
    for at in spread(calls, 16) {
        create("delete --force");
        let ended = tracer::kill_at(&victim.verb(&["delete"]), &stage.runtime, at);
        let when = format!("delete, at call {at} of {calls}: {ended:?}");
        let again = victim.call(&["delete"]);
        assert!(
            again.code == 0 || again.stderr.contains("container does not exist"),
            "{when}: {again}"
        );
        // Without --force: what is left of a container that does not exist is in nobody's way.
        create(&when);
        victim.call(&["delete", "--force"]).ok();
        victim.is_gone(&when);
    }
}

#[test]
fn an_exec_that_was_killed_leaves_the_container_as_it_was() {
    let stage = stage!();
    let container = stage.running();
    let command = |container: &str| {
        let mut command = stage.capsid();
        command.args(["exec", container, "/bin/true"]);
        command
    };
    let calls = tracer::calls(&command(&container.id), &stage.runtime);
    for at in spread(calls, 12) {
        let ended = tracer::kill_at(&command(&container.id), &stage.runtime, at);
        let when = format!("exec, at call {at} of {calls}: {ended:?}");
        assert_eq!(container.status(), "running", "{when}");
        assert_eq!(container.exec(&["/bin/true"]).code, 0, "{when}");
        // The process that lost its starter ends by itself.
        until(&when, || {
            container
                .call("ps", &["--format", "json"])
                .ok()
                .json()
                .as_array()
                .map(Vec::len)
                <= Some(2)
        });
    }
    container.delete_force().ok();
    assert!(stage.remains(&container.id).is_empty());
}

#[test]
fn an_update_that_was_killed_can_be_repeated_and_the_container_deleted() {
    let stage = stage!();
    let container = stage.running();
    let values = |of: u64| {
        let memory = (of << 20).to_string();
        [
            "--memory".to_owned(),
            memory.clone(),
            "--memory-swap".to_owned(),
            memory,
        ]
        .into_iter()
        .chain([
            "--pids-limit".to_owned(),
            of.to_string(),
            container.id.clone(),
        ])
    };
    let update = |of: u64| {
        let mut command = stage.capsid();
        command.arg("update").args(values(of));
        command
    };
    Outcome::of(&mut update(64)).ok();
    let calls = tracer::calls(&update(65), &stage.runtime);
    for (round, at) in (66_u64..).zip(spread(calls, 16)) {
        let ended = tracer::kill_at(&update(round), &stage.runtime, at);
        let when = format!("update, at call {at} of {calls}: {ended:?}");
        assert_eq!(container.status(), "running", "{when}");
        assert_eq!(container.exec(&["/bin/true"]).code, 0, "{when}");
        // What was written of it is neither in the way of the next nor left by it.
        let again = Outcome::of(&mut update(round + 1000));
        assert_eq!(again.code, 0, "{when}: {again}");
        let live = container.limit("pids", "pids.max");
        assert_eq!(live, (round + 1000).to_string(), "{when}");
        let left = std::fs::read_dir(stage.state_root().join(&container.id)).unwrap();
        let left: Vec<_> = left.map(|file| file.unwrap().file_name()).collect();
        assert!(left.len() < 8, "{when}: {left:?}");
    }
    let last = tracer::kill_at(&update(64), &stage.runtime, calls / 2);
    let deleted = container.delete_force();
    assert_eq!(deleted.code, 0, "update: {last:?}: {deleted}");
    assert!(stage.remains(&container.id).is_empty());
}
