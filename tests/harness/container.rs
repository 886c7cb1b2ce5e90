//! A container that a test made, by its id. Each method is one call of the runtime.

use std::path::PathBuf;

use serde_json::Value;

use super::{Outcome, Stage, until};

pub struct Container<'a> {
    pub id: String,
    pub stage: &'a Stage,
}

impl Container<'_> {
    /// Calls VERB ID ARGS…
    #[track_caller]
    pub fn call(&self, verb: &str, args: &[&str]) -> Outcome {
        self.stage.call(&[&[verb, self.id.as_str()], args].concat())
    }

    #[track_caller]
    pub fn start(&self) -> Outcome {
        self.call("start", &[])
    }

    #[track_caller]
    pub fn state(&self) -> Value {
        self.call("state", &[]).ok().json()
    }

    #[track_caller]
    pub fn status(&self) -> String {
        self.state()["status"]
            .as_str()
            .expect("a status")
            .to_owned()
    }

    #[track_caller]
    pub fn pid(&self) -> i32 {
        self.state()["pid"].as_i64().expect("a pid") as i32
    }

    /// Waits until the runtime says so.
    #[track_caller]
    pub fn becomes(&self, status: &str) {
        until(&format!("{} becomes {status}", self.id), || {
            self.status() == status
        });
    }

    #[track_caller]
    pub fn kill(&self, signal: &str) -> Outcome {
        self.call("kill", &[signal])
    }

    /// Sends the signal until the container has stopped: the first process of a pid namespace drops what it
    /// has no handler for, and the shell sets its trap some time after start has returned.
    #[track_caller]
    pub fn ends_by(&self, signal: &[&str]) {
        until(&format!("{} ends by {signal:?}", self.id), || {
            let outcome = self.call("kill", signal);
            let status = self.status();
            assert!(outcome.code == 0 || status == "stopped", "{outcome}");
            status == "stopped"
        });
    }

    #[track_caller]
    pub fn delete(&self) -> Outcome {
        self.call("delete", &[])
    }

    #[track_caller]
    pub fn delete_force(&self) -> Outcome {
        self.stage.call(&["delete", "--force", &self.id])
    }

    #[track_caller]
    pub fn exec(&self, command: &[&str]) -> Outcome {
        self.call("exec", command)
    }

    #[track_caller]
    pub fn exec_with(&self, options: &[&str], command: &[&str]) -> Outcome {
        self.stage
            .call(&[&["exec"], options, &[self.id.as_str()], command].concat())
    }

    /// A process that runs on by itself, by its pid on the host.
    #[track_caller]
    pub fn exec_detached(&self, command: &[&str]) -> i32 {
        let file = self.stage.path("exec.pid");
        let options = ["--detach", "--pid-file", &file.to_string_lossy()];
        self.exec_with(&options, command).ok();
        let pid = std::fs::read_to_string(&file).expect("a pid file");
        pid.trim().parse().expect("a pid")
    }

    /// What a shell script prints inside.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        self.exec(&["/bin/sh", "-c", script]).ok().line().to_owned()
    }

    /// The container's cgroup in the hierarchy of `controller`.
    pub fn cgroup(&self, controller: &str) -> PathBuf {
        self.stage
            .view
            .cgroup(controller, &Stage::cgroups_path(&self.id))
    }

    /// What a file of its cgroup says.
    #[track_caller]
    pub fn limit(&self, controller: &str, file: &str) -> String {
        let path = self.cgroup(controller).join(file);
        std::fs::read_to_string(&path)
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
            .trim()
            .to_owned()
    }
}
