//! What outlives what: containers their daemon, the machine a crowd, a name a killed shim or a lost boot.

use super::{Containerd, Daemon, NAME, Running, processes};
use crate::crowd;
use crate::docs::snippet;
use crate::goods::IMAGE;
use crate::harness::{Outcome, until};
use crate::left;
use crate::power::{self, Run, Stranger};
use crate::session::program;

pub(super) fn containers_outlive_their_daemon(engine: &Containerd) {
    let running = engine.sleeps();
    engine.daemon.borrow_mut().stop();
    engine.daemon.replace(Daemon::start(&engine.runtime));
    assert_eq!(running.status(), "RUNNING");
    running.exec_says(&["echo", "alive"]).ok().prints("alive");
    running.task("kill", &["--signal", "SIGTERM"]).ok();
    running.becomes("STOPPED");
    running.ended_with(5);
}

pub(super) fn a_killed_shim_leaves_nothing_that_blocks_the_name(engine: &Containerd) {
    let running = engine.sleeps();
    let needle = format!(
        "containerd-shim-runc-v2\0-namespace\0default\0-id\0{}\0",
        running.id
    );
    let pid = processes().into_iter().find(|pid| {
        std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.contains(&needle))
    });
    let pid = pid.expect("a shim");
    Outcome::of(&mut program("kill", &["-KILL", &pid])).ok();
    until("the task is gone", || {
        matches!(&*running.status(), "absent" | "STOPPED")
    });
    running.task("delete", &["--force"]);
    engine.ctr(&["container", "delete", &running.id]).ok();
    let command = &mut engine.command(&["--rm"], &running.id, &["echo", "again"]);
    Outcome::of(command).ok().prints("again");
}

pub(super) fn a_container_comes_back_after_a_power_loss(engine: &Containerd) {
    let running = engine.sleeps();
    power::fails(Run::Emptied);
    power::boots_anew();
    engine.daemon.replace(Daemon::start(&engine.runtime));
    assert_eq!(running.status(), "absent");
    running.comes_back();
    drop(running);
    nothing_is_left_of_them(engine);
}

pub(super) fn a_stranger_with_a_pid_of_the_boot_before_is_spared(engine: &Containerd) {
    let running = engine.sleeps();
    let pid = running.pid();
    power::fails(Run::Kept);
    let mut stranger = Stranger::with(pid);
    engine.daemon.replace(Daemon::start(&engine.runtime));
    until("the task is gone", || {
        matches!(&*running.status(), "absent" | "STOPPED")
    });
    running.task("delete", &["--force"]);
    running.comes_back();
    stranger.lives();
    drop(running);
    nothing_is_left_of_them(engine);
}

pub(super) fn a_private_daemon_is_tried_as_the_page_says(engine: &Containerd) {
    let script = snippet("a private containerd", &engine.runtime);
    let mut command = program("sh", &["-e", "-c", &script.replace("image.tar", IMAGE)]);
    Outcome::of(&mut command).ok().prints("it ended with 42\n");
    // What it made is not the other daemon's.
    let list = engine.ctr(&["container", "ls", "--quiet"]).ok();
    assert!(!list.stdout.contains("first"), "{list}");
}

pub(super) fn a_crowd_comes_and_goes_without_a_trace(engine: &Containerd) {
    // Its own cgroup's parent, and what an engine makes once, are there already.
    drop(engine.sleeps());
    let daemon = engine.daemon.borrow().pid();
    crowd::leaves_nothing(daemon, || a_crowd_comes_and_goes(engine));
}

pub(super) fn a_crowd_comes_and_goes(engine: &Containerd) {
    let ids: Vec<String> = (0..crowd::size()).map(|_| engine.id()).collect();
    let one = |id: &String| Running {
        engine,
        id: id.clone(),
    };
    let removed_whatever_comes: Vec<Running<'_>> = ids.iter().map(one).collect();
    let path = format!("/usr/local/bin/{}", engine.runtime);
    let script = "while :; do sleep 600; done";
    let well = |_| 0;
    crowd::all(
        "start",
        |number| {
            let words = ["run", "--detach", "--null-io", "--runc-binary", &path, NAME];
            let its = [&ids[number], "sh", "-c", script];
            program("ctr", &[&words[..], &its[..]].concat())
        },
        well,
    );
    let list = engine.ctr(&["task", "ls"]).ok().stdout;
    let running = list.lines().filter(|line| line.contains("RUNNING"));
    assert_eq!(running.count(), crowd::size());
    // Its client may lose the last that was printed, and no status.
    let status = |number| number as i32 % 100;
    crowd::all(
        "exec",
        |number| {
            let words = ["task", "exec", "--exec-id", "e", &ids[number], "sh", "-c"];
            let script = format!("exit {}", status(number));
            program("ctr", &[&words[..], &[&script]].concat())
        },
        status,
    );
    let script = r#"ctr task delete --force "$1"; exec ctr container delete "$1""#;
    crowd::all(
        "removal",
        |number| program("sh", &["-c", script, "sh", &ids[number]]),
        well,
    );
    std::mem::forget(removed_whatever_comes);
}

pub(super) fn nothing_is_left_of_them(engine: &Containerd) {
    assert_eq!(engine.ctr(&["container", "ls", "--quiet"]).ok().line(), "");
    left::no_cgroup("default");
    left::no_state("/run/containerd/runc/default");
    let lines = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    assert!(!lines.contains("/rootfs"), "{lines}");
}
