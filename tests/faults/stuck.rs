//! Promise: a process that can't go on, a reader that does not read and a limit that allows next to nothing
//! stop neither the runtime nor those who come to clean up.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, pipe2};
use serde_json::json;

use crate::harness::silent::Silent;
use crate::harness::{Container, Stage, View, end, until};
use crate::{skip, stage};

/// What must be told at once; the guard is a hundred times that.
const SOON: Duration = Duration::from_secs(5);

fn created(stage: &Stage) -> Container<'_> {
    let mut bundle = stage.bundle();
    bundle.sleeps();
    stage.create(&bundle)
}

fn stop(pid: Pid) {
    kill(pid, Signal::SIGSTOP).unwrap();
    until("the process is stopped", || {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| s.contains(") T "))
    });
}

/// A start that is on its way: it holds the container's lock.
fn starting(container: &Container<'_>) -> std::process::Child {
    let start = container
        .stage
        .capsid()
        .args(["start", &container.id])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pid = start.id().to_string();
    until("start has the lock", || {
        let locks = std::fs::read_to_string("/proc/locks").unwrap();
        locks
            .lines()
            .any(|lock| lock.contains("FLOCK") && lock.split_whitespace().any(|word| word == pid))
    });
    start
}

#[test]
fn f13_start_tells_at_once_that_init_was_killed() {
    let stage = stage!();
    let container = created(&stage);
    kill(Pid::from_raw(container.pid()), Signal::SIGKILL).unwrap();
    container.becomes("stopped");
    let outcome = container
        .start()
        .refuses(&["cannot start a container that has stopped"]);
    assert!(outcome.took < SOON, "{outcome}");
    container.delete().ok();
}

#[test]
fn f13_start_ends_when_init_is_killed_meanwhile() {
    let stage = stage!();
    let container = created(&stage);
    let pid = Pid::from_raw(container.pid());
    stop(pid);
    let start = starting(&container);
    kill(pid, Signal::SIGKILL).unwrap();
    assert_eq!(end(start), Some(1));
    container.becomes("stopped");
}

#[test]
fn f13_start_tells_that_init_is_stopped_instead_of_waiting_for_ever() {
    let stage = stage!();
    let container = created(&stage);
    let pid = Pid::from_raw(container.pid());
    stop(pid);
    container
        .start()
        .refuses(&["send it SIGCONT", "container init is stopped by a signal"]);
    kill(pid, Signal::SIGCONT).unwrap();
    container.becomes("running");
}

#[test]
fn a_stopped_init_is_started_when_it_goes_on() {
    let stage = stage!();
    let container = created(&stage);
    let pid = Pid::from_raw(container.pid());
    stop(pid);
    let start = starting(&container);
    assert!(["created", "running"].contains(&container.status().as_str()));
    kill(pid, Signal::SIGCONT).unwrap();
    assert_eq!(end(start), Some(0));
    assert_eq!(container.status(), "running");
}

#[test]
fn a_stopped_init_keeps_nobody_from_killing_and_deleting_it() {
    let stage = stage!();
    for force in [true, false] {
        let container = created(&stage);
        stop(Pid::from_raw(container.pid()));
        let start = starting(&container);
        match force {
            true => container.delete_force().ok(),
            false => container.kill("KILL").ok(),
        };
        assert_eq!(end(start), Some(1), "force: {force}");
        container.delete_force().ok();
        assert!(stage.remains(&container.id).is_empty());
    }
}

/// The writing end of a pipe that is full, and the end that nobody reads.
fn full_pipe() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    let mut file = std::fs::File::from(writer);
    while file.write(&[b'x'; 4096]).is_ok() {}
    let writer = OwnedFd::from(file);
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    (writer, reader)
}

#[test]
fn f16_a_log_that_nobody_reads_stops_no_verb() {
    let stage = stage!();
    let id = stage.id();
    let mut bundle = stage.bundle();
    bundle.sleeps().write(&id);
    let folder = bundle.folder.to_string_lossy().into_owned();
    let (stderr, _reader) = full_pipe();
    let verbs: [&[&str]; 7] = [
        &["create", "--bundle", &folder, &id],
        &["start", &id],
        &["exec", &id, "/bin/true"],
        &["state", &id],
        &["list"],
        &["kill", &id, "KILL"],
        &["delete", "--force", &id],
    ];
    for format in ["text", "json"] {
        for words in verbs {
            let mut command = stage.bare();
            command
                .args(["--debug", "--log-format", format, "--root"])
                .arg(stage.state_root())
                .args(words)
                .stdout(Stdio::null())
                .stderr(stderr.try_clone().unwrap());
            assert_eq!(end(command.spawn().unwrap()), Some(0), "{words:?}");
        }
        // A failure has something to say, and nobody who hears it.
        let mut command = stage.bare();
        command
            .args(["--debug", "--log-format", format, "--root"])
            .arg(stage.state_root())
            .args(["state", &id])
            .stdout(Stdio::null())
            .stderr(stderr.try_clone().unwrap());
        assert_eq!(end(command.spawn().unwrap()), Some(1));
    }
}

#[test]
fn f12_a_limit_of_one_process_is_enough() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle
        .set("/linux/resources/pids", json!({"limit": 1}))
        .args(&["/bin/true"]);
    stage.run(&bundle).ok();
    let container = stage.create(&bundle);
    container.start().ok();
    container.becomes("stopped");
    container.delete().ok();
    // cgroup v1 lets another process in, which then can't fork; v2 does not, and that is said.
    bundle.args(&["/bin/sleep", "600"]);
    let container = stage.create(&bundle);
    container.start().ok();
    let exec = container.exec(&["/bin/sh", "-c", "/bin/sleep 0; :"]);
    assert_ne!(exec.code, 0, "{exec}");
    assert!(
        exec.stderr
            .to_lowercase()
            .contains("resource temporarily unavailable"),
        "{exec}"
    );
    assert_eq!(container.status(), "running");
}

#[test]
fn f18_cgroups_that_the_container_made_are_removed_with_their_processes() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    // In the host's pid namespace the end of init takes nobody along.
    bundle
        .without_namespace("pid")
        .sh("sleep 600 & sleep 600 & sleep 600 & wait");
    let container = stage.create(&bundle);
    container.start().ok();
    let top = container.cgroup("pids");
    let members = |path: &std::path::Path| -> Vec<String> {
        let list = std::fs::read_to_string(path.join("cgroup.procs")).unwrap();
        list.lines().map(str::to_owned).collect()
    };
    until("all have begun", || members(&top).len() == 4);
    let all = members(&top);
    for (pid, below) in all.iter().skip(1).zip(["a", "a/b", "a/b/c"]) {
        std::fs::create_dir_all(top.join(below)).unwrap();
        std::fs::write(top.join(below).join("cgroup.procs"), pid).unwrap();
    }
    container.delete_force().ok();
    assert!(stage.remains(&container.id).is_empty());
    for pid in all {
        let kept = Command::new("kill")
            .args(["-0", &pid])
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(
            !kept.success() || is_zombie(&pid),
            "process {pid} is still there"
        );
    }
}

#[test]
fn f18_what_the_container_itself_has_frozen_keeps_nobody_from_killing_and_deleting_it() {
    for view in View::versions() {
        let stage = stage!(view);
        for verb in ["kill", "delete --force", "delete"] {
            let container = match verb {
                "delete" => created(&stage),
                _ => stage.running(),
            };
            let inner = container.exec_detached(&["sleep", "600"]);
            let below = container.cgroup("freezer").join("frozen");
            std::fs::create_dir(&below).unwrap();
            std::fs::write(below.join("cgroup.procs"), inner.to_string()).unwrap();
            let (file, freeze, is) = match stage.view.is_v2() {
                true => ("cgroup.freeze", "1", ("cgroup.events", "frozen 1")),
                false => ("freezer.state", "FROZEN", ("freezer.state", "FROZEN")),
            };
            std::fs::write(below.join(file), freeze).unwrap();
            until("the cgroup below is frozen", || {
                let text = std::fs::read_to_string(below.join(is.0)).unwrap();
                text.lines().any(|line| line == is.1)
            });
            match verb {
                "kill" => {
                    container.kill("KILL").ok();
                    container.becomes("stopped");
                    container.delete().ok();
                }
                "delete" => drop(container.delete().ok()),
                _ => drop(container.delete_force().ok()),
            }
            let left = stage.remains(&container.id);
            assert!(left.is_empty(), "{view:?} {verb}: {left:?}");
        }
    }
}

fn is_zombie(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}

#[test]
fn f19_a_delete_that_is_blocked_names_the_process_and_a_later_one_finishes() {
    let stage = stage!();
    let outer = stage.id();
    let mut bundle = stage.bundle();
    let path = format!("{}/box", Stage::cgroups_path(&outer));
    bundle.sleeps().set("/linux/cgroupsPath", json!(path));
    let container = stage.create(&bundle);
    container.start().ok();
    let pid = container.pid();
    // What an enclosing cgroup of v1 has frozen can neither be thawed from below nor die.
    let around = stage.view.cgroup("freezer", &Stage::cgroups_path(&outer));
    let (file, freeze, thaw) = match stage.view.is_v2() {
        true => ("cgroup.freeze", "1", "0"),
        false => ("freezer.state", "FROZEN", "THAWED"),
    };
    std::fs::write(around.join(file), freeze).unwrap();
    if stage.view.is_v2() {
        container.delete_force().ok();
    } else {
        let outcome = container.delete_force();
        // It is init that is waited for first.
        let named = format!("process {pid} did not end within 10 s of SIGKILL");
        outcome.refuses(&["delete", &named]);
    }
    std::fs::write(around.join(file), thaw).unwrap();
    container.delete_force().ok();
    stage
        .call(&["state", &container.id])
        .refuses(&["does not exist"]);
    for place in stage.remains(&outer) {
        std::fs::remove_dir(place).unwrap();
    }
}

/// Init itself is gone: what is waited for is that the cgroup can be removed.
#[test]
fn f19_a_delete_whose_cgroup_cannot_be_emptied_names_the_process_and_a_later_one_finishes() {
    let stage = stage!(View::V1);
    let outer = stage.id();
    let mut bundle = stage.bundle();
    let path = format!("{}/box", Stage::cgroups_path(&outer));
    bundle
        .without_namespace("pid")
        .sh("sleep 600 & exit 0")
        .set("/linux/cgroupsPath", json!(path));
    let container = stage.create(&bundle);
    container.start().ok();
    container.becomes("stopped");
    let procs = stage.view.cgroup("pids", &path).join("cgroup.procs");
    let pid = std::fs::read_to_string(procs).unwrap();
    let around = stage.view.cgroup("freezer", &Stage::cgroups_path(&outer));
    std::fs::write(around.join("freezer.state"), "FROZEN").unwrap();
    let named = format!("process {} (sleep) does not end", pid.trim());
    let outcome = container
        .delete()
        .refuses(&["remove cgroup", "within 10 s", &named]);
    assert!(
        outcome.took < std::time::Duration::from_secs(40),
        "{outcome}"
    );
    std::fs::write(around.join("freezer.state"), "THAWED").unwrap();
    container.delete().ok();
    for place in stage.remains(&outer) {
        std::fs::remove_dir(place).unwrap();
    }
}

/// Who waits for an answer that never comes can't be killed: the kernel keeps them.
#[test]
fn f19_a_process_that_the_kernel_keeps_is_named_and_a_later_delete_finishes() {
    let stage = stage!();
    // The mounts are those of a thread, so that what the stage removes is what it made.
    std::thread::scope(|scope| scope.spawn(|| kept_by_the_kernel(&stage)).join()).unwrap();
}

fn kept_by_the_kernel(stage: &Stage) {
    // Init itself, and a child, without whose end the init of a pid namespace does not end either.
    let scripts = ["exec cat /mnt/file", "cat /mnt/file; :"];
    let mut silent = Vec::new();
    let mut containers = Vec::new();
    for (number, script) in scripts.into_iter().enumerate() {
        let folder = stage.path(&format!("silent-{number}"));
        std::fs::create_dir(&folder).unwrap();
        match Silent::mounted(&folder) {
            Ok(mounted) => silent.push(mounted),
            Err(error) => skip!("no FUSE can be mounted: {error}"),
        }
        let mut bundle = stage.bundle();
        bundle.bind(&folder, "/mnt", &[]).sh(script);
        let container = stage.create(&bundle);
        container.start().ok();
        containers.push(container);
    }
    until("both wait", || silent.iter().all(Silent::was_asked));
    let [first, second] = &containers[..] else {
        panic!("two containers");
    };
    let init = format!("process {} did not end within 10 s", first.pid());
    let parent = format!("process {} did not end within 10 s", second.pid());
    let pids = second.call("ps", &["--format", "json"]).ok().json();
    let child = pids.as_array().unwrap().last().unwrap();
    let child = format!("process {child} (cat)");
    std::thread::scope(|scope| {
        scope.spawn(|| first.delete_force().refuses(&[&init, "uninterruptible"]));
        second.delete_force().refuses(&[&parent, &child]);
    });
    // The connections end.
    drop(silent);
    for container in &containers {
        container.delete_force().ok();
        assert!(stage.remains(&container.id).is_empty());
    }
}

/// What waits in the kernel can't be frozen: v1 stays at FREEZING, v2 at `frozen 0`.
#[test]
fn f19_a_pause_that_a_process_withstands_names_it_and_lets_all_run_again() {
    let refused = |stage: &Stage| {
        let folder = stage.path("silent");
        std::fs::create_dir(&folder).unwrap();
        let silent = match Silent::mounted(&folder) {
            Ok(mounted) => mounted,
            Err(error) => skip!("no FUSE can be mounted: {error}"),
        };
        let mut bundle = stage.bundle();
        bundle
            .bind(&folder, "/mnt", &[])
            .sh("sleep 600 & exec cat /mnt/file");
        let container = stage.create(&bundle);
        container.start().ok();
        until("it waits", || silent.was_asked());
        let named = format!(
            "process {} (cat) is in an uninterruptible wait (D",
            container.pid()
        );
        let words = ["pause", &named, "all run again", "unable to freeze"];
        let outcome = container.call("pause", &[]).refuses(&words);
        // The sleeper is frozen at its place, and not in the way.
        assert!(!outcome.stderr.contains("(sleep)"), "{outcome}");
        assert_eq!(container.status(), "running");
        drop(silent);
        container.delete_force().ok();
    };
    let (v1, v2) = (stage!(View::V1), stage!(View::V2));
    // The mounts are those of a thread, so that what the stage removes is what it made.
    std::thread::scope(|scope| {
        let one = scope.spawn(|| refused(&v1));
        let other = scope.spawn(|| refused(&v2));
        one.join().unwrap();
        other.join().unwrap();
    });
}

#[test]
fn f19_a_pause_of_a_group_that_is_stuck_for_want_of_memory_says_so() {
    let stage = stage!(View::V1);
    let mut bundle = stage.bundle();
    let memory = json!({"limit": 16_777_216, "swap": 16_777_216, "disableOOMKiller": true});
    bundle
        .set("/linux/resources/memory", memory)
        // It touches its memory itself: read(2) into what isn't there would only fail.
        .sh("awk 'BEGIN { s = \"x\"; while (1) s = s s }'; :");
    let container = stage.create(&bundle);
    container.start().ok();
    let stuck = || {
        container
            .limit("memory", "memory.oom_control")
            .contains("under_oom 1")
    };
    until("it has no memory left", stuck);
    container.call("pause", &[]).refuses(&[
        "(awk) is in an uninterruptible wait (D",
        "out of memory, and its OOM killer is disabled",
        "unable to freeze",
    ]);
    container.delete_force().ok();
}
