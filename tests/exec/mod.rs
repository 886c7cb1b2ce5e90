//! Promise: exec runs one more process in a container, in all its namespaces, as confined as the first one,
//! from the configuration that the container was created with.

mod options;
mod users;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::harness::{Outcome, View, end, until};
use crate::stage;

#[test]
fn exec_returns_the_status_of_the_command() {
    let stage = stage!();
    let container = stage.running();
    for code in [0, 1, 42] {
        container
            .exec(&["/bin/sh", "-c", &format!("exit {code}")])
            .exits(code);
    }
    container.exec(&["/bin/sh", "-c", "kill -9 $$"]).exits(137);
    container.exec(&["/bin/sh", "-c", "kill -15 $$"]).exits(143);
}

#[test]
fn exec_returns_255_when_the_command_never_ran() {
    let stage = stage!();
    let container = stage.running();
    container.exec(&["no-such-program"]).fails_with(
        255,
        &["exec: \"no-such-program\": executable file not found in $PATH"],
    );
    // Nor is nothing a program, or the folder that it would be looked up in.
    container
        .exec(&[""])
        .fails_with(255, &["exec: \"\": executable file not found in $PATH"]);
    container
        .exec(&["/bin/no-such-program"])
        .fails_with(255, &["/bin/no-such-program", "no such file or directory"]);
    container
        .exec(&["/etc/passwd"])
        .fails_with(255, &["/etc/passwd", "permission denied"]);
    stage
        .call(&["exec", "no-such-container", "true"])
        .fails_with(255, &["container does not exist"]);
    container.kill("KILL").ok();
    container.becomes("stopped");
    assert_eq!(container.exec(&["true"]).code, 255);
}

#[test]
fn exec_hands_on_output_and_finds_programs_in_the_path() {
    let stage = stage!();
    let container = stage.running();
    let outcome = container.exec(&["sh", "-c", "echo out; echo err >&2"]).ok();
    assert_eq!(
        (outcome.stdout.as_str(), outcome.stderr.as_str()),
        ("out\n", "err\n")
    );
}

#[test]
fn exec_takes_everything_after_the_id_as_the_command() {
    let stage = stage!();
    let container = stage.running();
    container
        .exec(&["echo", "--cwd", "/tmp", "-t", "--help"])
        .ok()
        .prints("--cwd /tmp -t --help");
}

#[test]
fn exec_joins_every_namespace_of_the_container() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.namespace("cgroup", None).sleeps();
    let container = stage.create(&bundle);
    container.start().ok();
    let pid = container.pid();
    for kind in ["cgroup", "ipc", "mnt", "net", "pid", "uts"] {
        let init = std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
        let own = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_eq!(
            container.sh(&format!("readlink /proc/self/ns/{kind}")),
            init.to_string_lossy()
        );
        assert_ne!(init, own, "{kind}");
    }
}

#[test]
fn exec_enters_a_created_container() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.sleeps();
    let container = stage.create(&bundle);
    assert_eq!(container.sh("hostname"), "promises");
    assert_eq!(container.status(), "created");
}

#[test]
fn exec_refuses_a_paused_container_unless_told_otherwise() {
    let stage = stage!();
    let container = stage.running();
    container.call("pause", &[]).ok();
    container.exec(&["true"]).fails_with(
        255,
        &["cannot exec in a paused container (use --ignore-paused to override)"],
    );
    let mut waiting = stage.capsid();
    waiting.args(["exec", "--ignore-paused", &container.id, "true"]);
    let child = waiting.spawn().unwrap();
    container.call("resume", &[]).ok();
    assert_eq!(end(child), Some(0));
}

#[test]
fn s23_exec_is_as_confined_as_the_first_process() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    let report = "grep -E '^(Cap|NoNewPrivs|Seccomp:|Groups|Uid|Gid)' /proc/self/status; umask; ulimit -n; ulimit -c";
    bundle
        .sh(&format!("({report}) > /out/init; trap 'exit 0' TERM; while :; do sleep 600 & wait $!; done"))
        .set("/process/user", json!({"uid": 0, "gid": 0, "umask": 0o27, "additionalGids": [10, 20]}))
        .set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 200, "hard": 300}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]));
    let out = stage.path("out");
    std::fs::create_dir(&out).unwrap();
    bundle.bind(&out, "/out", &[]);
    let container = stage.create(&bundle);
    container.start().ok();
    until("init has reported", || {
        std::fs::read_to_string(out.join("init")).is_ok_and(|text| text.lines().count() >= 13)
    });
    let init = std::fs::read_to_string(out.join("init")).unwrap();
    assert_eq!(container.sh(report), init.trim());
    assert!(
        init.contains("NoNewPrivs:\t1") && init.contains("Groups:\t10 20"),
        "{init}"
    );
}

#[test]
fn exec_sees_the_same_mounts_masks_and_cgroups() {
    let stage = stage!();
    let container = stage.running();
    let init = std::fs::read_to_string(format!("/proc/{}/mountinfo", container.pid())).unwrap();
    assert_eq!(container.sh("cat /proc/self/mountinfo"), init.trim());
    let init = std::fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    assert_eq!(container.sh("cat /proc/self/cgroup"), init.trim());
}

#[test]
fn exec_uses_the_configuration_of_create_and_never_the_bundle_again() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.sleeps().push("/process/env", json!("WHICH=first"));
    let container = stage.create(&bundle);
    container.start().ok();
    bundle
        .set("/process/env", json!(["PATH=/bin", "WHICH=second"]))
        .set("/process/noNewPrivileges", json!(false))
        .write(&container.id);
    assert_eq!(
        container.sh("echo $WHICH; grep NoNewPrivs /proc/self/status"),
        "first\nNoNewPrivs:\t1"
    );
    std::fs::write(bundle.folder.join("config.json"), "garbage").unwrap();
    assert_eq!(container.sh("echo $WHICH"), "first");
    std::fs::remove_file(bundle.folder.join("config.json")).unwrap();
    assert_eq!(container.sh("echo $WHICH"), "first");
}

#[test]
fn exec_detached_returns_at_once_and_writes_the_pid() {
    let stage = stage!();
    let container = stage.running();
    let file = stage.path("exec.pid");
    container
        .exec_with(
            &["--detach", "--pid-file", &file.to_string_lossy()],
            &["sleep", "604"],
        )
        .ok();
    let pid: i32 = std::fs::read_to_string(&file).unwrap().parse().unwrap();
    until("the program runs", || {
        std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line == "sleep\x00604\x00")
    });
    let list = container
        .stage
        .call(&["ps", "--format", "json", &container.id])
        .ok()
        .json();
    assert!(list.as_array().unwrap().contains(&json!(pid)), "{list}");
}

#[test]
fn exec_is_in_the_containers_cgroup() {
    let stage = stage!();
    let container = stage.running();
    let file = stage.path("exec.pid");
    container
        .exec_with(
            &["-d", "--pid-file", &file.to_string_lossy()],
            &["sleep", "605"],
        )
        .ok();
    let pid = std::fs::read_to_string(&file).unwrap();
    let cgroup = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert_eq!(cgroup(&pid), cgroup(&container.pid().to_string()));
}

#[test]
fn f09_many_short_execs_all_return_their_status() {
    let stage = stage!();
    let container = stage.running();
    for round in 0..crate::harness::machine::count("CAPSID_EXECS", 40, 1000) {
        let code = (round % 200) as i32;
        container
            .exec(&["/bin/sh", "-c", &format!("exit {code}")])
            .exits(code);
    }
    // Another test's orphan may be one for a moment.
    until("nobody is left unreaped", || {
        let mut ps = std::process::Command::new("ps");
        let children = Outcome::of(ps.args(["-o", "stat=", "--ppid", "1"])).stdout;
        !children.contains('Z')
    });
}

#[test]
fn exec_into_a_paused_container_is_ended_by_a_signal_and_leaves_no_process() {
    for view in View::versions() {
        let stage = stage!(view);
        let container = stage.running();
        container.call("pause", &[]).ok();
        for (earlier, signal) in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]
            .iter()
            .enumerate()
        {
            let mut command = stage.capsid();
            command.args(["exec", "--ignore-paused", &container.id, "sleep", "617"]);
            let waiting = command.stderr(std::process::Stdio::null()).spawn().unwrap();
            let pid = waiting.id() as i32;
            // Its process is there, and frozen. On v1 those before it end when they are thawed.
            let frozen = if view == View::V1 { earlier } else { 0 };
            until("the process is in the container's cgroup", || {
                let list = stage
                    .call(&["ps", "--format", "json", &container.id])
                    .ok()
                    .json();
                list.as_array().unwrap().len() > 2 + frozen
            });
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), *signal).unwrap();
            assert_eq!(end(waiting), Some(255), "{view:?} {signal}");
        }
        container.call("resume", &[]).ok();
        until("what was given up is gone", || {
            let list = stage
                .call(&["ps", "--format", "json", &container.id])
                .ok()
                .json();
            list.as_array().unwrap().len() == 2
        });
    }
}

#[test]
fn f09_exec_that_races_the_containers_end_says_that_it_has_stopped() {
    let stage = stage!();
    for _ in 0..crate::harness::machine::count("CAPSID_RACES", 20, 300) {
        let container = stage.running();
        let mut command = stage.capsid();
        command.args(["exec", &container.id, "sleep", "618"]);
        let racing = std::thread::scope(|scope| {
            let racing = scope.spawn(|| Outcome::of(&mut command));
            container.kill("KILL").ok();
            racing.join().unwrap()
        });
        // It ran and was killed with the container, or it never ran.
        match racing.code {
            137 => assert_eq!(racing.stderr, "", "{racing}"),
            255 => drop(racing.fails_with(255, &["cannot exec in a stopped container"])),
            _ => panic!("{racing}"),
        }
        container.delete_force().ok();
    }
}
