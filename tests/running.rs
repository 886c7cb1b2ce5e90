//! Promise: `run` is create, start, wait and delete in one: it hands on stdin, signals and the exit status.

use std::io::Write;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::harness::{Outcome, around, end, until};
use crate::stage;

#[test]
fn run_returns_the_exit_status_of_the_process() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    for code in [0, 1, 42, 255] {
        bundle.sh(&format!("exit {code}"));
        stage.run(&bundle).exits(code);
    }
}

#[test]
fn run_returns_128_and_the_signal_that_ended_the_process() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    // The first process of a pid namespace takes no fatal signal from within: a neighbour gives it one.
    bundle.without_namespace("pid");
    for signal in [9, 15] {
        bundle.sh(&format!("kill -{signal} $$; sleep 60"));
        stage.run(&bundle).exits(128 + signal);
    }
}

#[test]
fn run_leaves_nothing_of_a_container_that_has_ended() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.sh("echo out; echo err >&2");
    let (id, mut run) = stage.foreground(&bundle);
    let outcome = Outcome::of(&mut run).ok();
    assert_eq!(
        (outcome.stdout.as_str(), outcome.stderr.as_str()),
        ("out\n", "err\n")
    );
    assert_eq!(stage.remains(&id), Vec::<std::path::PathBuf>::new());
}

#[test]
fn run_keeps_the_container_when_asked() {
    let stage = stage!();
    let id = stage.id();
    stage.bundle().write(&id);
    let mut bundle = stage.bundle();
    bundle.args(&["/bin/true"]).write(&id);
    stage
        .call(&[
            "run",
            "--keep",
            "--bundle",
            &bundle.folder.to_string_lossy(),
            &id,
        ])
        .ok();
    assert_eq!(stage.call(&["state", &id]).ok().json()["status"], "stopped");
    stage.call(&["delete", &id]).ok();
}

#[test]
fn run_detached_returns_while_the_container_runs() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.sleeps();
    let id = stage.id();
    bundle.write(&id);
    let pid_file = stage.path("pid");
    let folder = bundle.folder.to_string_lossy().into_owned();
    stage
        .call(&[
            "run",
            "--detach",
            "--pid-file",
            &pid_file.to_string_lossy(),
            "--bundle",
            &folder,
            &id,
        ])
        .ok();
    let state = stage.call(&["state", &id]).ok().json();
    assert_eq!(state["status"], "running");
    assert_eq!(
        std::fs::read_to_string(pid_file).unwrap(),
        state["pid"].to_string()
    );
}

#[test]
fn run_works_in_the_bundle_folder_by_default() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.sh("echo here");
    let id = stage.id();
    bundle.write(&id);
    Outcome::of(
        stage
            .capsid()
            .current_dir(&bundle.folder)
            .args(["run", &id]),
    )
    .ok()
    .prints("here");
}

#[test]
fn the_status_is_told_though_the_caller_ignores_its_children() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.args(&["/bin/sh", "-c", "exit 7"]);
    let (_, command) = stage.foreground(&bundle);
    let mut ignoring = Command::new("env");
    ignoring.arg("--ignore-signal=CHLD");
    Outcome::of(&mut around(ignoring, &command)).exits(7);
}

#[test]
fn run_hands_stdin_to_the_process() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.sh("read line; echo got $line");
    let (_, mut command) = stage.foreground(&bundle);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"a line\n").unwrap();
    assert_eq!(
        String::from_utf8_lossy(&child.wait_with_output().unwrap().stdout),
        "got a line\n"
    );
}

#[test]
fn run_forwards_signals_to_the_process() {
    let stage = stage!();
    for (name, signal) in [
        ("TERM", Signal::SIGTERM),
        ("INT", Signal::SIGINT),
        ("HUP", Signal::SIGHUP),
        ("USR1", Signal::SIGUSR1),
    ] {
        let mut bundle = stage.bundle();
        bundle.sh(&format!(
            "trap 'exit 33' {name}; touch /out/ready; while :; do sleep 600 & wait $!; done"
        ));
        let out = stage.path(&format!("out-{name}"));
        std::fs::create_dir(&out).unwrap();
        bundle.bind(&out, "/out", &[]);
        let (_, mut command) = stage.foreground(&bundle);
        let child = command.stdout(Stdio::null()).spawn().unwrap();
        until("the trap is set", || out.join("ready").exists());
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        assert_eq!(end(child), Some(33), "SIG{name}");
    }
}

#[test]
fn run_reports_a_program_that_is_not_there() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.args(&["/bin/no-such-program"]);
    stage
        .run(&bundle)
        .refuses(&["/bin/no-such-program", "no such file or directory"]);
    bundle.args(&["no-such-program"]);
    stage
        .run(&bundle)
        .refuses(&["exec: \"no-such-program\": executable file not found in $PATH"]);
    bundle.args(&["/etc/passwd"]);
    stage
        .run(&bundle)
        .refuses(&["/etc/passwd", "permission denied"]);
    bundle.args(&["/etc"]);
    stage.run(&bundle).refuses(&["/etc"]);
}

#[test]
fn create_reports_a_program_that_is_not_there() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.args(&["/bin/no-such-program"]);
    let (id, outcome) = stage.try_create_with(&bundle, &[]);
    outcome.refuses(&["/bin/no-such-program", "no such file or directory"]);
    assert_eq!(stage.remains(&id), Vec::<std::path::PathBuf>::new());
}

#[test]
fn start_reports_a_program_that_can_not_be_executed() {
    let stage = stage!();
    let mut bundle = stage.own_bundle();
    let rootfs = bundle.folder.join("rootfs");
    std::fs::write(rootfs.join("bin/garbage"), "\x7fgarbage").unwrap();
    std::fs::write(rootfs.join("bin/orphan"), "#!/bin/no-such-interpreter\n").unwrap();
    for (program, reason) in [
        ("garbage", "exec format error"),
        ("orphan", "no such file or directory"),
    ] {
        Outcome::of(
            std::process::Command::new("chmod")
                .arg("755")
                .arg(rootfs.join("bin").join(program)),
        )
        .ok();
        bundle.args(&[&format!("/bin/{program}")]);
        let container = stage.create(&bundle);
        container.start().refuses(&[program, reason]);
        container.becomes("stopped");
        container.delete().ok();
        stage.run(&bundle).refuses(&[program, reason]);
    }
}

#[test]
fn start_reports_a_program_that_went_away_after_create() {
    let stage = stage!();
    let mut bundle = stage.own_bundle();
    let program = bundle.folder.join("rootfs/bin/leaving");
    std::fs::copy(bundle.folder.join("rootfs/bin/busybox"), &program).unwrap();
    bundle.args(&["/bin/leaving"]);
    let container = stage.create(&bundle);
    std::fs::remove_file(program).unwrap();
    container
        .start()
        .refuses(&["/bin/leaving", "no such file or directory"]);
    container.becomes("stopped");
}

#[test]
fn options_are_taken_before_and_after_the_id() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.sleeps();
    let id = stage.id();
    bundle.write(&id);
    let folder = bundle.folder.to_string_lossy().into_owned();
    stage.call(&["create", &id, "--bundle", &folder]).ok();
    stage.call(&["delete", &id, "--force"]).ok();
    stage.call(&["create", "-b", &folder, &id]).ok();
    stage.call(&["delete", "-f", &id]).ok();
}

/// containerd hands its CriuPath to every verb.
#[test]
fn a_checkpoint_program_that_is_named_is_told_to_have_no_effect() {
    let stage = stage!();
    let outcome = Outcome::of(stage.capsid().args(["--criu", "/usr/sbin/criu", "list"])).ok();
    assert!(outcome.stderr.contains("level=warning"), "{outcome}");
    assert!(outcome.stderr.contains("--criu has no effect"), "{outcome}");
}

#[test]
fn the_binary_behaves_the_same_under_any_name() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.sh("echo same");
    for name in ["runc", "crun", "init", "-capsid"] {
        let id = stage.id();
        bundle.write(&id);
        let script = "exec -a \"$1\" \"$2\" --root \"$3\" run --bundle \"$4\" \"$5\"";
        let mut command = stage.view.command("/bin/bash".as_ref());
        command
            .args(["-c", script, "bash", name])
            .arg(&stage.runtime)
            .arg(stage.state_root())
            .arg(&bundle.folder)
            .arg(&id);
        Outcome::of(&mut command).ok().prints("same");
    }
}

/// runc and crun hand themselves on by some of these; others ask programs for colours.
#[test]
fn variables_of_other_programs_change_nothing() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle
        .args(&["env"])
        .set("/process/env", json!(["PATH=/bin"]));
    let variables = [
        ("_LIBCONTAINER_INITPIPE", "3"),
        ("_LIBCONTAINER_LOGLEVEL", "5"),
        ("_LIBCONTAINER_CLONED_BINARY", "1"),
        ("_LIBCONTAINER_STATEDIR", "/nowhere"),
        ("YOUKI_USE_ROOTLESS", "1"),
        ("CLICOLOR_FORCE", "1"),
        ("RUST_LOG", "trace"),
        ("LISTEN_FDS", "nonsense"),
    ];
    let id = stage.id();
    bundle.write(&id);
    let call = |words: &[&str]| {
        let mut command = stage.capsid();
        Outcome::of(command.envs(variables).args(words))
    };
    let folder = bundle.folder.to_string_lossy().into_owned();
    let outcome = call(&["run", "--bundle", &folder, &id]).ok();
    assert_eq!(
        (outcome.line(), outcome.stderr.as_str()),
        ("PATH=/bin\nHOME=/root", "")
    );
    let outcome = call(&["frob"]).exits(2);
    assert!(!outcome.stderr.contains('\x1b'), "{outcome}");
}

#[test]
fn a_container_runs_with_an_empty_environment_around_it() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle
        .sh("echo fine")
        .set("/process/env", json!(["PATH=/bin"]));
    let (_, mut command) = stage.foreground(&bundle);
    command.env_clear().env("XDG_RUNTIME_DIR", "");
    Outcome::of(&mut command).ok().prints("fine");
}
