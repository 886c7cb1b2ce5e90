//! What the caller hands on: descriptors, a service manager's socket, and the one that readiness is told to.

use std::os::unix::net::UnixDatagram;
use std::process::Command;

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
