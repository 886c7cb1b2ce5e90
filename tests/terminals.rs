//! Promise: a terminal works in the foreground and over the console socket, has the size it should, and the
//! caller's own is as it was at any exit.

use serde_json::json;

use crate::harness::terminal::{ConsoleSocket, Screen, settings};
use crate::harness::{Outcome, end, until};
use crate::stage;

fn options(socket: &str) -> [&str; 2] {
    ["--console-socket", socket]
}

#[test]
fn the_console_socket_gets_one_terminal_and_its_name() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle
        .set("/process/terminal", json!(true))
        .set("/process/consoleSize", json!({"height": 33, "width": 111}))
        .sh("tty; stty size; ls -l /dev/console | wc -l; stat -c '%u %g' $(tty); read line; echo got $line; exit 3");
    let socket = ConsoleSocket::at(&stage.path("socket"));
    let container = stage.create_with(&bundle, &options(&socket.path.to_string_lossy()));
    let (master, name) = socket.receive();
    assert!(name.contains("pts") || name.contains("ptmx"), "{name}");
    container.start().ok();
    let mut screen = Screen::of(master);
    screen.shows("/dev/pts/0");
    screen.shows("33 111");
    screen.shows("1");
    screen.shows("0 5");
    screen.types("hello\n");
    screen.shows("got hello");
    container.becomes("stopped");
}

#[test]
fn in_the_foreground_newlines_are_not_turned_into_returns_twice() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle
        .set("/process/terminal", json!(true))
        .sh("stty -a; echo end");
    let (_, command) = stage.foreground(&bundle);
    let (mut screen, child, _) = Screen::start(&command, 24, 80);
    let text = screen.shows("end");
    assert!(text.contains("-onlcr"), "{text:?}");
    assert_eq!(end(child), Some(0));
}

#[test]
fn without_a_socket_to_take_it_a_terminal_is_an_error() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.set("/process/terminal", json!(true)).sleeps();
    let nobody = stage.path("nobody").to_string_lossy().into_owned();
    stage
        .try_create_with(&bundle, &options(&nobody))
        .1
        .refuses(&["nobody"]);
    stage
        .run_with(&bundle, &["--detach"])
        .refuses(&["cannot allocate tty if runc will detach without setting console socket"]);
    std::fs::write(&nobody, "").unwrap();
    stage
        .try_create_with(&bundle, &options(&nobody))
        .1
        .refuses(&["nobody"]);
}

#[test]
fn run_in_the_foreground_passes_keys_sizes_and_the_status() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle
        .set("/process/terminal", json!(true))
        .sh("trap 'echo resized $(stty size)' WINCH; tty; stty size; echo ready; read line; echo got $line; while :; do read x; [ \"$x\" = bye ] && exit 9; done");
    let (_, command) = stage.foreground(&bundle);
    let (mut screen, child, path) = Screen::start(&command, 41, 123);
    let before = settings(&path);
    screen.shows("/dev/pts/0");
    screen.shows("41 123");
    screen.shows("ready");
    until("the terminal is raw", || {
        settings(&path).contains("-icanon")
    });
    screen.types("hello\r");
    screen.shows("got hello");
    Outcome::of(
        std::process::Command::new("stty")
            .arg("-F")
            .arg(&path)
            .args(["rows", "50", "cols", "150"]),
    )
    .ok();
    // The shell takes the signal when its read has returned.
    screen.types("x\r");
    screen.shows("resized 50 150");
    screen.types("bye\r");
    assert_eq!(end(child), Some(9));
    let sized = before.replace("rows 41; columns 123", "rows 50; columns 150");
    assert_eq!(settings(&path), sized, "the terminal is not as it was");
}

#[test]
fn the_terminal_is_as_it_was_when_the_container_is_killed() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle
        .set("/process/terminal", json!(true))
        .sh("echo ready; sleep 608");
    let (id, command) = stage.foreground(&bundle);
    let (mut screen, child, path) = Screen::start(&command, 24, 80);
    let before = settings(&path);
    screen.shows("ready");
    stage.call(&["kill", &id, "KILL"]).ok();
    assert_eq!(end(child), Some(137));
    assert_eq!(settings(&path), before);
}

#[test]
fn the_interrupt_key_reaches_the_process_and_not_the_runtime() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle
        .set("/process/terminal", json!(true))
        .sh("trap 'echo interrupted; exit 4' INT; echo ready; while :; do sleep 1; done");
    let (_, command) = stage.foreground(&bundle);
    let (mut screen, child, path) = Screen::start(&command, 24, 80);
    screen.shows("ready");
    until("the terminal is raw", || settings(&path).contains("-isig"));
    screen.types("\u{3}");
    screen.shows("interrupted");
    assert_eq!(end(child), Some(4));
}

#[test]
fn exec_has_a_terminal_in_the_foreground() {
    let stage = stage!();
    let container = stage.running();
    let mut command = stage.capsid();
    command.args([
        "exec",
        "--tty",
        &container.id,
        "sh",
        "-c",
        "tty; stty size; read line; echo got $line; exit 5",
    ]);
    let (mut screen, child, path) = Screen::start(&command, 30, 90);
    screen.shows("/dev/pts/0");
    screen.shows("30 90");
    until("the terminal is raw", || {
        settings(&path).contains("-icanon")
    });
    screen.types("hello\r");
    screen.shows("got hello");
    assert_eq!(end(child), Some(5));
    assert!(settings(&path).contains(" icanon"));
}

#[test]
fn exec_hands_its_terminal_to_a_console_socket() {
    let stage = stage!();
    let container = stage.running();
    let socket = ConsoleSocket::at(&stage.path("socket"));
    let path = socket.path.to_string_lossy().into_owned();
    container
        .exec_with(
            &["--detach", "--tty", "--console-socket", &path],
            &["sh", "-c", "echo on $(tty); read x"],
        )
        .ok();
    let (master, _) = socket.receive();
    let mut screen = Screen::of(master);
    screen.shows("on /dev/pts/0");
    screen.types("\n");
    screen.rest();
    let outcome = container.exec_with(&["--detach", "--tty"], &["true"]);
    outcome.fails_with(
        255,
        &["cannot allocate tty if runc will detach without setting console socket"],
    );
}

#[test]
fn a_terminal_of_a_user_belongs_to_that_user() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle
        .set("/process/terminal", json!(true))
        .set("/process/user", json!({"uid": 1000, "gid": 1000}))
        .sh("stat -c '%u %g %a' $(tty); echo x > $(tty)");
    let socket = ConsoleSocket::at(&stage.path("socket"));
    let container = stage.create_with(&bundle, &options(&socket.path.to_string_lossy()));
    let (master, _) = socket.receive();
    container.start().ok();
    let text = Screen::of(master).shows("x\r\n");
    assert!(text.starts_with("1000 5 620"), "{text:?}");
}

#[test]
fn a_lot_of_output_through_a_terminal_arrives_whole() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle
        .set("/process/terminal", json!(true))
        .sh("i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done; echo the end");
    let (_, command) = stage.foreground(&bundle);
    let (mut screen, child, _) = Screen::start(&command, 24, 80);
    let text = screen.shows("the end");
    assert_eq!(end(child), Some(0));
    let numbers: Vec<_> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("line "))
        .collect();
    assert_eq!(numbers.len(), 5000);
    assert!(
        numbers
            .iter()
            .enumerate()
            .all(|(n, text)| *text == n.to_string())
    );
}

#[test]
fn f22_a_console_socket_that_nobody_accepts_from_does_not_keep_create_for_ever() {
    use std::os::unix::net::{UnixListener, UnixStream};
    let stage = stage!();
    let path = stage.path("full");
    let listener = UnixListener::bind(&path).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    // One fits into a queue of none.
    let _waiting = UnixStream::connect(&path).unwrap();
    let mut bundle = stage.bundle();
    bundle.set("/process/terminal", json!(true)).sleeps();
    let (id, outcome) = stage.try_create_with(&bundle, &options(&path.to_string_lossy()));
    outcome.refuses(&[
        "connect to the console socket",
        "nobody accepts connections",
    ]);
    assert!(stage.remains(&id).is_empty());
}

#[test]
fn a_storm_of_sizes_ends_with_the_last_one() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle
        .set("/process/terminal", json!(true))
        .sh("echo ready; while read x; do echo size $(stty size) end; done");
    let (id, command) = stage.foreground(&bundle);
    let (mut screen, child, path) = Screen::start(&command, 20, 80);
    screen.shows("ready");
    let storm =
        "n=1; while [ $n -le 200 ]; do stty -F \"$1\" rows $n cols $((n + 7)); n=$((n + 1)); done";
    stage.shell(storm, &[&path.to_string_lossy()]).ok();
    until("the size has come through", || {
        screen.types("x\r");
        screen.shows(" end").contains("size 200 207")
    });
    stage.call(&["kill", &id, "KILL"]).ok();
    assert_eq!(end(child), Some(137));
}

#[test]
fn the_suspend_key_stops_a_job_of_the_container_and_not_the_runtime() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle
        .set("/process/terminal", json!(true))
        .args(&["/bin/sh", "-i"]);
    let (id, command) = stage.foreground(&bundle);
    let (mut screen, child, _) = Screen::start(&command, 20, 80);
    screen.types("echo rea''dy; sleep 620\r");
    screen.shows("ready");
    until("the job runs", || {
        let list = stage.call(&["ps", &id]).ok();
        list.stdout.contains("sleep 620")
    });
    screen.types("\x1a");
    screen.shows("Stopped");
    screen.types("kill %1; echo st''ill; exit 5\r");
    screen.shows("still");
    screen.types("exit 5\r");
    assert_eq!(end(child), Some(5));
}
