//! What a container does from its first word to its last: programs, terminals, signals, exec.

use super::{Containerd, processes};
use crate::harness::terminal::Screen;
use crate::harness::{Outcome, end, until};
use crate::session::program;

pub(super) fn a_container_prints_and_ends_with_its_status(engine: &Containerd) {
    let outcome = engine
        .runs(&[], "echo out; echo err >&2; exit 7")
        .exits(7)
        .prints("out\n");
    assert_eq!(outcome.stderr, "err\n");
    engine
        .runs(&[], "sh -c 'kill -KILL $$'; exit $?")
        .exits(137);
}

pub(super) fn a_program_that_is_not_there_is_named(engine: &Containerd) {
    let id = engine.id();
    let outcome = Outcome::of(&mut engine.command(&["--rm"], &id, &["nosuch"]));
    let text = r#"exec: "nosuch": executable file not found in $PATH"#;
    assert!(
        outcome.code == 1 && outcome.stderr.contains(text),
        "{outcome}"
    );
}

pub(super) fn a_terminal_has_its_size_and_its_keys(engine: &Containerd) {
    let id = engine.id();
    let command = engine.command(
        &["--rm", "--tty"],
        &id,
        &[
            "sh",
            "-c",
            "read line; echo \"<$line>\"; n=0; until [ \"$(stty size)\" = '31 97' ] || [ $n = 99 ]; do n=$((n+1)); sleep 0.05; done; stty size; tty; exit 9",
        ],
    );
    let (mut screen, child, _) = Screen::start(&command, 31, 97);
    screen.types("typed\n");
    screen.shows("<typed>");
    screen.shows("31 97");
    screen.shows("/dev/pts/0");
    screen.rest();
    assert_eq!(end(child), Some(9));
}

pub(super) fn exec_has_its_own_status(engine: &Containerd) {
    let running = engine.sleeps();
    running
        .exec_says(&["sh", "-c", "echo inside; exit 3"])
        .exits(3)
        .prints("inside\n");
    running.exec(&["true"]).ok();
    assert_eq!(running.status(), "RUNNING");
}

pub(super) fn exec_with_a_terminal(engine: &Containerd) {
    let running = engine.sleeps();
    let command = program(
        "ctr",
        &[
            "task",
            "exec",
            "--tty",
            "--exec-id",
            "term",
            &running.id,
            "sh",
            "-c",
            "read a; echo \"<$a>\"; n=0; until [ \"$(stty size)\" = '22 77' ] || [ $n = 99 ]; do n=$((n+1)); sleep 0.05; done; stty size; exit 4",
        ],
    );
    let (mut screen, child, _) = Screen::start(&command, 22, 77);
    screen.types("word\n");
    screen.shows("<word>");
    screen.shows("22 77");
    screen.rest();
    assert_eq!(end(child), Some(4));
}

pub(super) fn exec_of_a_missing_program_is_named(engine: &Containerd) {
    let running = engine.sleeps();
    let outcome = running.exec(&["nosuch"]);
    let text = r#"exec: "nosuch": executable file not found in $PATH"#;
    assert!(
        outcome.code != 0 && outcome.stderr.contains(text),
        "{outcome}"
    );
    assert_eq!(running.status(), "RUNNING");
}

pub(super) fn a_paused_container_stands_still(engine: &Containerd) {
    let running = engine.sleeps();
    running.task("pause", &[]).ok();
    assert_eq!(running.status(), "PAUSED");
    assert_eq!(running.cgroup("freezer", "freezer.state"), "FROZEN");
    let refused = running.exec(&["true"]);
    assert!(refused.code != 0, "{refused}");
    running.task("resume", &[]).ok();
    assert_eq!(running.status(), "RUNNING");
    assert_eq!(running.cgroup("freezer", "freezer.state"), "THAWED");
    running.exec(&["true"]).ok();
}

pub(super) fn a_signal_reaches_the_program(engine: &Containerd) {
    let running = engine.sleeps();
    running.task("kill", &["--signal", "SIGTERM"]).ok();
    running.becomes("STOPPED");
    running.ended_with(5);
    let again = running.task("kill", &[]);
    assert!(
        again.code == 1 && again.stderr.contains("not found"),
        "{again}"
    );
}

pub(super) fn kill_all_ends_every_process(engine: &Containerd) {
    let running = engine
        .running(
            &["--with-ns", "pid:/proc/1/ns/pid"],
            "sleep 611 & echo >/tmp/ready; sleep 612",
        )
        .ready();
    let others = || {
        let is_one = |pid: &String| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline"));
            line.is_ok_and(|line| line == b"sleep\x00611\0")
        };
        processes().iter().filter(|pid| is_one(pid)).count()
    };
    assert_eq!(others(), 1);
    running.task("kill", &["--all", "--signal", "SIGKILL"]).ok();
    until("the other process is gone", || others() == 0);
    running.becomes("STOPPED");
    running.ended_with(137);
}

pub(super) fn a_task_that_runs_is_deleted_by_force_only(engine: &Containerd) {
    let running = engine.sleeps();
    let refused = running.task("delete", &[]);
    assert!(refused.code == 1, "{refused}");
    running.task("delete", &["--force"]);
    assert_eq!(running.status(), "absent");
}

pub(super) fn ps_lists_the_processes(engine: &Containerd) {
    let running = engine.sleeps();
    let list = running.task("ps", &[]).ok().stdout;
    assert_eq!(
        list.lines().count(),
        3,
        "a header, the shell and its sleep: {list}"
    );
}
