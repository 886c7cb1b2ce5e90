//! SCMP_ACT_NOTIFY: the listener gets the descriptor and the state, and its answers count.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::json;

use super::*;
use crate::{seccomp_program, stage};

/// agent.c, at work.
struct Agent {
    child: Child,
    lines: BufReader<ChildStdout>,
    path: String,
}

impl Agent {
    fn new(stage: &Stage, how: &[&str]) -> Agent {
        let path = stage.path("agent").to_string_lossy().into_owned();
        let _ = std::fs::remove_file(&path);
        let mut child = Command::new(program("agent").expect("built"))
            .arg(&path)
            .args(how)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the agent");
        let lines = BufReader::new(child.stdout.take().expect("its stdout"));
        let mut agent = Agent { child, lines, path };
        assert_eq!(agent.line(), "ready");
        agent
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    /// The next message; it came with one descriptor.
    fn message(&mut self) -> Value {
        loop {
            let line = self.line();
            if let Some(text) = line.strip_prefix("1 ") {
                return serde_json::from_str(text).expect("JSON");
            }
            assert!(line.starts_with("asked "), "{line}");
        }
    }

    fn is_asked(&mut self, number: i64) {
        while self.line() != format!("asked {number}") {}
    }

    /// A profile that has it asked about these calls.
    fn profile(&self, names: &[&str]) -> Value {
        json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": self.path,
            "listenerMetadata": "some words",
            "syscalls": [{"names": names, "action": "SCMP_ACT_NOTIFY"}],
        })
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_listener_is_told_of_the_container_and_decides() {
    let stage = stage!();
    let call = seccomp_program!("call");
    let mkdir = MKDIR.to_string();
    for way in WAYS {
        let mut agent = Agent::new(&stage, &["errno", "95"]);
        let mut bundle = bundle(&stage, &call, agent.profile(&["mkdir"]), way);
        bundle.set("/annotations", json!({"a": "b"}));
        assert_eq!(called(&stage, &mut bundle, &[&mkdir]), ["EOPNOTSUPP"]);
        let said = agent.message();
        assert_eq!(said["ociVersion"], "1.3.0");
        assert_eq!(said["fds"], json!(["seccompFd"]));
        assert_eq!(said["metadata"], "some words");
        assert_eq!(said["state"]["ociVersion"], "1.3.0");
        assert_eq!(said["state"]["status"], "creating");
        assert_eq!(said["state"]["annotations"], json!({"a": "b"}));
        assert_eq!(said["state"]["bundle"], json!(bundle.folder));
        assert_eq!(said["state"]["pid"], said["pid"]);
        agent.is_asked(MKDIR);
    }
}

#[test]
fn the_listener_hears_of_what_is_executed_later() {
    let stage = stage!();
    let call = seccomp_program!("call");
    let mkdir = MKDIR.to_string();
    for way in WAYS {
        let mut agent = Agent::new(&stage, &["value", "42"]);
        let mut bundle = bundle(&stage, &call, agent.profile(&["mkdir"]), way);
        bundle.sleeps();
        let container = stage.create(&bundle);
        let init = container.pid();
        assert_eq!(agent.message()["pid"], init);
        container.start().ok();
        assert_eq!(lines(&container.exec(&["/call", &mkdir]).ok()), ["42"]);
        let said = agent.message();
        assert_eq!(said["state"]["status"], "running");
        assert_eq!(said["state"]["pid"], init);
        assert_eq!(said["state"]["id"], json!(container.id));
        assert_ne!(said["pid"], init);
        container.delete_force().ok();
    }
}

#[test]
fn calls_that_the_runtime_makes_itself_may_be_asked_about() {
    let stage = stage!();
    let call = seccomp_program!("call");
    let names = [
        "execve", "openat", "close", "read", "sendmsg", "recvmsg", "capset", "mkdir",
    ];
    for way in WAYS {
        let agent = Agent::new(&stage, &["continue"]);
        let mut bundle = bundle(&stage, &call, agent.profile(&names), way);
        assert_eq!(
            called(&stage, &mut bundle, &[&MKDIR.to_string()]),
            ["EFAULT"]
        );
        bundle.sleeps();
        let container = stage.create(&bundle);
        container.start().ok();
        assert_eq!(lines(&container.exec(&["/call", "39"]).ok()).len(), 1);
        container.delete_force().ok();
    }
}

#[test]
fn waiting_for_an_answer_can_be_killable() {
    let stage = stage!();
    let call = seccomp_program!("call");
    let agent = Agent::new(&stage, &["errno", "95"]);
    let mut profile = agent.profile(&["mkdir"]);
    profile["flags"] = json!([
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
        "SECCOMP_FILTER_FLAG_TSYNC"
    ]);
    let mut bundle = bundle(&stage, &call, profile, true);
    assert_eq!(
        called(&stage, &mut bundle, &[&MKDIR.to_string()]),
        ["EOPNOTSUPP"]
    );
}

#[test]
fn an_ordinary_users_listener_hears_as_well() {
    let stage = stage!().of_user();
    let call = seccomp_program!("call");
    for way in WAYS {
        let mut agent = Agent::new(&stage, &["errno", "95"]);
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(&agent.path, open).unwrap();
        let mut bundle = bundle(&stage, &call, agent.profile(&["mkdir"]), way);
        bundle
            .remove("/linux/cgroupsPath")
            .remove("/linux/resources");
        assert_eq!(
            called(&stage, &mut bundle, &[&MKDIR.to_string()]),
            ["EOPNOTSUPP"]
        );
        agent.is_asked(MKDIR);
    }
}

#[test]
fn b22_a_listener_that_does_not_listen_is_an_error_before_anything_is_made() {
    let stage = stage!();
    let call = seccomp_program!("call");
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": stage.path("nobody"),
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}],
    });
    let mut bundle = bundle(&stage, &call, profile, true);
    bundle.args(&["/call", "39"]);
    let outcome = stage.try_create(&bundle);
    assert_eq!(outcome.code, 1, "{outcome}");
    for words in [
        "/linux/seccomp/listenerPath",
        "connect to the seccomp listener",
        "no such file or directory",
    ] {
        assert!(outcome.stderr.contains(words), "{words}: {outcome}");
    }
    assert_eq!(std::fs::read_dir(stage.state_root()).unwrap().count(), 0);
}

#[test]
fn a_listener_without_a_question_is_a_warning() {
    let stage = stage!();
    let call = seccomp_program!("call");
    let mut profile = but_mkdir("SCMP_ACT_ERRNO");
    profile["listenerPath"] = json!(stage.path("nobody"));
    let mut bundle = bundle(&stage, &call, profile, true);
    bundle.args(&["/call", "39"]);
    // Twice: the filter that was compiled before says it again, and so does explain.
    let notice = "/linux/seccomp/listenerPath: no rule is SCMP_ACT_NOTIFY";
    for _ in 0..2 {
        let outcome = stage.run(&bundle).ok();
        assert!(outcome.stderr.contains(notice), "{outcome}");
    }
    let explained = Outcome::of(stage.capsid().arg("explain").arg(&bundle.folder)).ok();
    assert!(explained.stdout.contains(notice), "{explained}");
}

#[test]
fn the_listener_may_be_named_by_an_annotation_or_by_the_environment() {
    let stage = stage!();
    let call = seccomp_program!("call");
    let mkdir = MKDIR.to_string();
    let mut agent = Agent::new(&stage, &["errno", "95"]);
    let mut profile = agent.profile(&["mkdir"]);
    let members = profile.as_object_mut().unwrap();
    members.remove("listenerPath");
    members.remove("listenerMetadata");
    let mut bundle = bundle(&stage, &call, profile, WAYS[0]);

    // The variable is there for every container: one that asks nobody is left alone.
    let with_variable = |bundle: &Bundle, path: &str| {
        let (_, mut command) = stage.foreground(bundle);
        Outcome::of(command.env("RUN_OCI_SECCOMP_RECEIVER", path))
    };
    bundle.args(&["/call", &mkdir]);
    assert_eq!(
        lines(&with_variable(&bundle, &agent.path).ok()),
        ["EOPNOTSUPP"]
    );
    agent.message();
    with_variable(&bundle, "/no/agent").refuses(&["/no/agent", "listen there first"]);
    let plain = stage.bundle();
    with_variable(&plain, "/no/agent").ok();

    bundle.set(
        "/annotations",
        json!({"run.oci.seccomp.receiver": agent.path}),
    );
    assert_eq!(
        lines(&with_variable(&bundle, "/no/agent").ok()),
        ["EOPNOTSUPP"]
    );
    agent.message();
    let container = stage.create(bundle.sleeps());
    agent.message();
    container.start().ok();
    assert_eq!(
        lines(&container.exec(&["/call", &mkdir]).ok()),
        ["EOPNOTSUPP"]
    );
    assert_eq!(agent.message()["state"]["status"], "running");
    container.delete_force().ok();

    bundle.set(
        "/annotations",
        json!({"run.oci.seccomp.receiver": "/no/agent"}),
    );
    let words = [
        "(/annotations/run.oci.seccomp.receiver)",
        "listen there first",
    ];
    stage.try_create(&bundle).refuses(&words);
}
