//! Promise: whatever ends the runtime, or is lost on the way, the caller's terminal is as it was and nothing
//! that was written is missing; and a terminal is only ever made in the container's own devpts.

use std::io::Write;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::harness::terminal::{ConsoleSocket, Screen, settings};
use crate::harness::{Bundle, Outcome, Stage, end, machine, until};
use crate::{skip, stage};

fn with_terminal(stage: &Stage, script: &str) -> (Bundle, String, Command) {
    let mut bundle = stage.bundle();
    bundle.set("/process/terminal", json!(true)).sh(script);
    let (id, command) = stage.foreground(&bundle);
    (bundle, id, command)
}

/// The runtime below the setsid(1) that a screen starts.
fn runtime_of(session: &Child) -> Pid {
    let path = format!("/proc/{0}/task/{0}/children", session.id());
    let mut pid = None;
    until("the runtime runs", || {
        let children = std::fs::read_to_string(&path).unwrap_or_default();
        pid = children
            .split_whitespace()
            .next()
            .and_then(|pid| pid.parse().ok());
        pid.is_some()
    });
    Pid::from_raw(pid.unwrap_or_default())
}

#[test]
fn a_signal_to_the_runtime_is_the_containers_and_the_terminal_comes_back() {
    for (signal, code) in [
        (Signal::SIGTERM, 21),
        (Signal::SIGHUP, 22),
        (Signal::SIGINT, 23),
    ] {
        let stage = stage!();
        let (_bundle, _, command) = with_terminal(
            &stage,
            "trap 'exit 21' TERM; trap 'exit 22' HUP; trap 'exit 23' INT; echo ready; while :; do sleep 600 & wait $!; done",
        );
        let (mut screen, child, path) = Screen::start(&command, 24, 80);
        let before = settings(&path);
        screen.shows("ready");
        until("the terminal is raw", || {
            settings(&path).contains("-icanon")
        });
        // setsid --wait has forked where it had to; else it has become the runtime.
        let name = std::fs::read_to_string(format!("/proc/{}/comm", child.id())).unwrap();
        let runtime = match name.trim() {
            "setsid" => runtime_of(&child),
            _ => Pid::from_raw(child.id() as i32),
        };
        kill(runtime, signal).unwrap();
        assert_eq!(end(child), Some(code), "{signal}");
        assert_eq!(settings(&path), before, "{signal}");
    }
}

#[test]
fn input_from_a_pipe_ends_as_if_it_had_been_typed() {
    for (input, said) in [("one\ntwo\n", "one two"), ("one", "one"), ("", "")] {
        let stage = stage!();
        let (_bundle, _, mut command) = with_terminal(
            &stage,
            "echo said $(cat | tr '\\n' ' ' | sed 's/ $//') and no more; exit 6",
        );
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        let out = child.stdout.take().unwrap();
        let reader = std::thread::spawn(move || std::io::read_to_string(out).unwrap());
        assert_eq!(end(child), Some(6), "{input:?}");
        let text = reader.join().unwrap();
        let wanted = format!("said {said} and no more").replace("  ", " ");
        assert!(text.contains(&wanted), "{input:?}: {text:?}");
    }
}

#[test]
fn a_megabyte_through_a_terminal_arrives_whole_at_a_slow_reader() {
    let stage = stage!();
    // 16 384 lines of 64 bytes.
    let (_bundle, _, mut command) = with_terminal(
        &stage,
        "head -c 786432 /dev/urandom | base64 -w 63 | head -n 16384 | tee /dev/shm/sent; md5sum < /dev/shm/sent",
    );
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        let mut part = [0; 777];
        while let Ok(length @ 1..) = std::io::Read::read(&mut out, &mut part) {
            text.push_str(&String::from_utf8_lossy(&part[..length]));
        }
        text
    });
    assert_eq!(end(child), Some(0));
    let text = reader.join().unwrap().replace('\r', "");
    let (sent, sum) = text.trim_end().rsplit_once('\n').unwrap();
    assert!(sent.len() > 1_000_000, "{} bytes", sent.len());
    let file = stage.path("received");
    std::fs::write(&file, format!("{sent}\n")).unwrap();
    let received = Outcome::of(Command::new("md5sum").arg(&file)).ok();
    assert_eq!(received.line().split(' ').next(), sum.split(' ').next());
}

#[test]
fn s05_a_terminal_is_only_made_by_a_devpts() {
    let stage = stage!();
    // The kernel lets this node make terminals too: of the devpts that lies beside it.
    let decoy = stage.path("decoy");
    std::fs::create_dir_all(decoy.join("pts")).unwrap();
    let mut node = Command::new("mknod");
    Outcome::of(node.arg(decoy.join("ptmx")).args(["c", "5", "2"])).ok();
    let mut bundle = stage.bundle();
    bundle
        .set("/process/terminal", json!(true))
        .args(&["/bin/true"]);
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| mount["destination"] != "/dev/pts");
    bundle.bind(&decoy, "/dev/pts", &["rw"]).mount(
        "/dev/pts/pts",
        "devpts",
        "devpts",
        &["newinstance", "ptmxmode=666"],
    );
    let socket = ConsoleSocket::at(&stage.path("socket"));
    let path = socket.path.to_string_lossy().into_owned();
    let options = ["--console-socket", &path];
    stage
        .try_create_with(&bundle, &options)
        .1
        .refuses(&["/process/terminal", "/dev/pts is not a devpts"]);
    // Nor is another multiplexer taken that was mounted over the one of a devpts.
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| !mount["destination"].as_str().unwrap().contains("/pts"));
    bundle
        .mount("/dev/pts", "devpts", "devpts", &["ptmxmode=666"])
        .bind("/dev/pts/ptmx".as_ref(), "/dev/pts/ptmx", &[]);
    stage
        .try_create_with(&bundle, &options)
        .1
        .refuses(&["/process/terminal", "/dev/pts/ptmx"]);
}

#[test]
fn who_takes_the_terminal_is_settled_before_anything_is_made() {
    let stage = stage!();
    let socket = ConsoleSocket::at(&stage.path("socket"));
    let path = socket.path.to_string_lossy().into_owned();
    let mut bundle = stage.bundle();
    bundle.args(&["/bin/true"]);
    let none = "cannot use console socket if runc will not detach or allocate tty";
    let nobody = "cannot allocate tty if runc will detach without setting console socket";
    stage
        .try_create_with(&bundle, &["--console-socket", &path])
        .1
        .refuses(&[none]);
    stage
        .run_with(&bundle, &["--console-socket", &path])
        .refuses(&[none]);
    bundle.set("/process/terminal", json!(true));
    stage.try_create(&bundle).refuses(&[nobody]);
    stage.run_with(&bundle, &["--detach"]).refuses(&[nobody]);
    assert_eq!(
        std::fs::read_dir(stage.state_root()).map_or(0, Iterator::count),
        0
    );
}

#[test]
fn a_person_at_a_terminal_multiplexer_has_a_shell() {
    if !machine::has_program("tmux") {
        skip!("tmux is not installed");
    }
    let stage = stage!();
    let (_bundle, id, command) = with_terminal(&stage, "exec sh -i");
    let server = stage.path("tmux").to_string_lossy().into_owned();
    let tmux = |words: &[&str]| {
        Outcome::of(
            Command::new("tmux")
                .args(["-f", "/dev/null", "-S", &server])
                .args(words),
        )
    };
    let line: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| format!("'{}'", word.to_string_lossy()))
        .collect();
    tmux(&["new-session", "-d", "-x", "100", "-y", "30", "/bin/sh"]).ok();
    let shows = |text: &str| {
        until(&format!("the screen shows {text}"), || {
            tmux(&["capture-pane", "-p"]).ok().stdout.contains(text)
        });
    };
    tmux(&[
        "send-keys",
        &format!("{}; echo status=$?", line.join(" ")),
        "Enter",
    ])
    .ok();
    until("the shell runs", || {
        stage.call(&["state", &id]).stdout.contains("running")
    });
    tmux(&["send-keys", "stty size; echo id=$$.; sleep 600", "Enter"]).ok();
    shows("30 100");
    shows("id=1.");
    // Ends the sleep, and not the shell nor the runtime.
    tmux(&["send-keys", "C-c"]).ok();
    tmux(&["resize-window", "-x", "77", "-y", "22"]).ok();
    until("the size is passed on", || {
        tmux(&["send-keys", "C-u", "stty size", "Enter"]).ok();
        tmux(&["capture-pane", "-p"]).ok().stdout.contains("22 77")
    });
    tmux(&["send-keys", "exit 13", "Enter"]).ok();
    shows("status=13");
    tmux(&["kill-server"]).ok();
}
