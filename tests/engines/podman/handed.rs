//! What the caller hands on: descriptors, a service manager's socket, the one that readiness is told to, secrets, hooks.

use std::os::unix::net::UnixDatagram;
use std::process::Command;

use serde_json::json;

use crate::boxes::{Boxes, IMAGE};
use crate::harness::{Outcome, outcome, until};

pub(super) fn descriptors_are_preserved(podman: &Boxes) {
    std::fs::write("/run/handed", "content").expect("a file");
    let calls = |verb: &[&str], of: &str| {
        let script = "exec 3</run/handed; exec \"$@\"";
        let open = ["-c", script, "sh", "podman"];
        let words = ["--preserve-fds", "1", of, "cat", "/proc/self/fd/3"];
        Outcome::of(&mut podman.program("sh", &[&open[..], verb, &words[..]].concat()))
    };
    calls(&["run", "--rm"], IMAGE).ok().prints("content");
    let running = podman.sleeps(&[]);
    calls(&["exec"], &running.name).ok().prints("content");
}

pub(super) fn a_socket_of_a_service_manager_arrives(podman: &Boxes) {
    std::fs::write("/run/handed", "content").expect("a file");
    let script = "exec 3</run/handed; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$@\"";
    let mut command = podman.program(
        "sh",
        &[
            "-c",
            script,
            "sh",
            "podman",
            "run",
            "--rm",
            IMAGE,
            "sh",
            "-c",
            "cat <&3; echo \" $LISTEN_FDS $LISTEN_PID\"",
        ],
    );
    Outcome::of(&mut command).ok().prints("content 1 1");
}

pub(super) fn readiness_is_told_by_the_container(podman: &Boxes) {
    let path = "/run/manager";
    let _ = std::fs::remove_file(path);
    let socket = UnixDatagram::bind(path).expect("a socket");
    Outcome::of(Command::new("chmod").args(["666", path])).ok();
    socket
        .set_read_timeout(Some(outcome::LIMIT))
        .expect("a timeout");
    let name = podman.name();
    let mut command = podman.command(&[
        "run",
        "--rm",
        "--detach",
        "--name",
        &name,
        "--sdnotify",
        "container",
        IMAGE,
        "sh",
        "-c",
        "sleep 0.3; /bin/probe say \"$NOTIFY_SOCKET\" READY=1; exec sleep 600",
    ]);
    Outcome::of(command.env("NOTIFY_SOCKET", path)).ok();
    let mut bytes = [0; 1024];
    let mut heard = String::new();
    until("it is ready", || {
        let length = socket.recv(&mut bytes).expect("a message");
        heard.push_str(&String::from_utf8_lossy(&bytes[..length]));
        heard.contains("READY=1")
    });
    podman.call(&["rm", "--force", "--time", "0", &name]).ok();
}

pub(super) fn its_streams_are_the_callers_own(podman: &Boxes) {
    let script = "readlink /proc/self/fd/1; echo err >&2";
    let outcome = podman.runs(&["--log-driver", "passthrough"], script).ok();
    assert!(outcome.stdout.starts_with("/memfd:stdout"), "{outcome}");
    assert_eq!(outcome.stderr, "err\n");
}

pub(super) fn secrets_arrive(podman: &Boxes) {
    std::fs::write("/run/told", "content").expect("a file");
    podman.call(&["secret", "create", "told", "/run/told"]).ok();
    let options = [
        "--secret=told,uid=1000,mode=0400",
        "--secret=told,type=env,target=TOLD",
    ];
    let script = "stat -c '%u %a' /run/secrets/told; cat /run/secrets/told; echo \" $TOLD\"";
    let outcome = podman.runs(&options, script).ok();
    assert_eq!(outcome.stdout, "1000 400\ncontent content\n");
    podman.call(&["secret", "rm", "told"]).ok();
}

/// Podman adds them to the configuration, of every kind that it knows.
pub(super) fn hooks_of_a_folder_are_run(podman: &Boxes) {
    let folder = podman.folder("hooks");
    let stages = [
        "prestart",
        "createRuntime",
        "createContainer",
        "poststart",
        "poststop",
    ];
    let told = format!("{folder}/told");
    for stage in stages {
        let script = format!("cat >/dev/null; echo {stage} >>{told}");
        let hook = json!({
            "version": "1.0.0",
            "hook": { "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"] },
            "when": { "annotations": { "^asks$": "^for-them$" } },
            "stages": [stage],
        });
        std::fs::write(format!("{folder}/{stage}.json"), hook.to_string()).expect("a hook");
    }
    let run = |annotation: &str| {
        let words = ["--hooks-dir", &folder, "run", "--rm", "--annotation"];
        podman
            .call(&[&words[..], &[annotation, IMAGE, "true"]].concat())
            .ok()
    };
    run("asks=for-nothing");
    assert!(!std::path::Path::new(&told).exists());
    run("asks=for-them");
    until("the last has run", || {
        let lines = std::fs::read_to_string(&told).unwrap_or_default();
        lines.split_whitespace().eq(stages)
    });
    std::fs::remove_file(told).expect("what was told");
}
