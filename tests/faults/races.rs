//! Promise: of many who do the same to one container at once, one wins, the others are told so in the usual
//! words, nobody waits long, and nothing is left.

use std::process::Stdio;
use std::time::Duration;

use super::{processes_of, rounds};
use crate::harness::{Bundle, Container, Outcome, Stage, end, until};
use crate::stage;

/// Ten times what a command may take under any load.
const GUARD: Duration = Duration::from_secs(50);

/// Runs all commands at once.
fn at_once(stage: &Stage, commands: &[Vec<&str>]) -> Vec<Outcome> {
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let threads: Vec<_> = commands
            .iter()
            .map(|words| {
                scope.spawn(move || Outcome::of(stage.capsid().args(words).stdin(Stdio::null())))
            })
            .collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined
            .collect::<Result<_, _>>()
            .expect("every command ends")
    });
    for outcome in &outcomes {
        assert!(outcome.took < GUARD, "{outcome}");
        assert!(!outcome.stderr.contains("panicked"), "{outcome}");
    }
    outcomes
}

fn bundle(stage: &Stage, id: &str) -> (Bundle, String) {
    let mut bundle = stage.bundle();
    bundle
        .sh(&format!(": {id}; while :; do sleep 600; done"))
        .write(id);
    let folder = bundle.folder.to_string_lossy().into_owned();
    (bundle, folder)
}

#[track_caller]
fn nothing_is_left(stage: &Stage, id: &str) {
    assert!(
        stage.remains(id).is_empty(),
        "left: {:?}",
        stage.remains(id)
    );
    until(&format!("no process, not {:?}", processes_of(id)), || {
        processes_of(id).is_empty()
    });
}

/// One has won, and all others say `words`.
#[track_caller]
fn one_wins(outcomes: &[Outcome], words: &str) {
    let won = outcomes.iter().filter(|outcome| outcome.code == 0).count();
    let said: Vec<String> = outcomes.iter().map(Outcome::to_string).collect();
    assert_eq!(won, 1, "{said:#?}");
    for outcome in outcomes.iter().filter(|outcome| outcome.code != 0) {
        assert!(outcome.stderr.contains(words), "{outcome}");
    }
}

#[test]
fn f08_of_eight_creates_one_wins() {
    let stage = stage!();
    let id = stage.id();
    let (_bundle, folder) = bundle(&stage, &id);
    for _ in 0..rounds(8, 100) {
        let create = vec!["create", "--bundle", &folder, &id];
        one_wins(
            &at_once(&stage, &vec![create; 8]),
            "container with given ID already exists",
        );
        let state = stage.call(&["state", &id]).ok().json();
        assert_eq!(state["status"], "created");
        stage.call(&["delete", "--force", &id]).ok();
        nothing_is_left(&stage, &id);
    }
}

#[test]
fn f08_of_six_starts_one_wins() {
    let stage = stage!();
    let id = stage.id();
    let (_bundle, folder) = bundle(&stage, &id);
    for _ in 0..rounds(8, 100) {
        stage.call(&["create", "--bundle", &folder, &id]).ok();
        one_wins(
            &at_once(&stage, &vec![vec!["start", &id]; 6]),
            "cannot start an already running container",
        );
        let state = stage.call(&["state", &id]).ok().json();
        assert_eq!(state["status"], "running");
        stage.call(&["delete", "--force", &id]).ok();
        nothing_is_left(&stage, &id);
    }
}

#[test]
fn f08_six_deletes_by_force_all_succeed() {
    let stage = stage!();
    let id = stage.id();
    let (_bundle, folder) = bundle(&stage, &id);
    for _ in 0..rounds(8, 100) {
        stage.call(&["create", "--bundle", &folder, &id]).ok();
        stage.call(&["start", &id]).ok();
        for outcome in at_once(&stage, &vec![vec!["delete", "--force", &id]; 6]) {
            outcome.ok();
        }
        nothing_is_left(&stage, &id);
    }
}

#[test]
fn f08_verbs_that_meet_end_soon_and_leave_nothing() {
    let stage = stage!();
    let id = stage.id();
    let (_bundle, folder) = bundle(&stage, &id);
    for round in 0..rounds(24, 500) {
        stage.call(&["create", "--bundle", &folder, &id]).ok();
        let delete = match round % 2 {
            0 => vec!["delete", &id],
            _ => vec!["delete", "--force", &id],
        };
        let outcomes = at_once(
            &stage,
            &[
                vec!["start", &id],
                delete,
                vec!["exec", &id, "/bin/true"],
                vec!["kill", &id, "KILL"],
                vec!["state", &id],
                vec!["list"],
            ],
        );
        let [.., state, list] = outcomes.as_slice() else {
            unreachable!()
        };
        assert!(
            state.code == 0 || state.stderr.contains("container does not exist"),
            "{state}"
        );
        assert_eq!(list.code, 0, "{list}");
        assert!(list.stderr.is_empty(), "{list}");
        stage.call(&["delete", "--force", &id]).ok();
        nothing_is_left(&stage, &id);
    }
}

#[test]
fn f08_a_create_that_meets_deletes_is_whole_or_not_there() {
    let stage = stage!();
    let id = stage.id();
    let (_bundle, folder) = bundle(&stage, &id);
    for _ in 0..rounds(12, 200) {
        let outcomes = at_once(
            &stage,
            &[
                vec!["create", "--bundle", &folder, &id],
                vec!["delete", "--force", &id],
                vec!["state", &id],
                vec!["delete", "--force", &id],
                vec!["create", "--bundle", &folder, &id],
            ],
        );
        for delete in [&outcomes[1], &outcomes[3]] {
            assert_eq!(delete.code, 0, "{delete}");
        }
        let state = stage.call(&["state", &id]);
        assert!(
            state.code != 0 || state.json()["status"] == "created",
            "{state}"
        );
        stage.call(&["delete", "--force", &id]).ok();
        nothing_is_left(&stage, &id);
    }
}

#[test]
fn updates_that_meet_are_whole_and_no_verb_is_in_the_way() {
    let stage = stage!();
    let id = stage.id();
    let (_bundle, folder) = bundle(&stage, &id);
    let update = |memory, pids| {
        vec![
            "update",
            "--memory",
            memory,
            "--memory-swap",
            memory,
            "--pids-limit",
            pids,
            &id,
        ]
    };
    for round in 0..rounds(12, 200) {
        stage.call(&["create", "--bundle", &folder, &id]).ok();
        stage.call(&["start", &id]).ok();
        let container = Container {
            id: id.clone(),
            stage: &stage,
        };
        let commands = [
            update("67108864", "64"),
            update("134217728", "128"),
            vec!["pause", &id],
            vec!["state", &id],
        ];
        let outcomes = at_once(&stage, &commands);
        for outcome in &outcomes {
            assert_eq!(outcome.code, 0, "{outcome}");
        }
        // Each is whole: what is in force is of one of them, and so is what is kept.
        let pids = container.limit("pids", "pids.max");
        let kept = std::fs::read(stage.state_root().join(&id).join("config.json")).unwrap();
        let kept: serde_json::Value = serde_json::from_slice(&kept).unwrap();
        let kept = &kept["linux"]["resources"];
        assert_eq!(kept["pids"]["limit"].to_string(), pids);
        assert_eq!(
            kept["memory"]["limit"].as_u64().map(|it| it >> 20),
            pids.parse().ok()
        );
        let delete = match round % 2 {
            0 => vec!["delete", "--force", &id],
            _ => vec!["kill", &id, "KILL"],
        };
        let exec = vec!["exec", &id, "/bin/true"];
        let met = [
            update("67108864", "64"),
            delete,
            update("134217728", "128"),
            exec,
        ];
        let met = at_once(&stage, &met);
        assert_eq!(met[1].code, 0, "{}", met[1]);
        stage.call(&["delete", "--force", &id]).ok();
        nothing_is_left(&stage, &id);
    }
}

/// An update that is held before it puts the configuration that it has merged into its place, while another goes.
#[cfg(target_arch = "x86_64")]
#[test]
fn an_update_waits_for_the_one_that_is_at_work() {
    use crate::harness::injector;
    use nix::libc;

    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.sleeps();
    let container = stage.create(&bundle);
    let update = |words: &[&str]| {
        let mut command = stage.capsid();
        command.arg("update").args(words).arg(&container.id);
        command.stdin(Stdio::null());
        command
    };
    let directory = stage.state_root().join(&container.id);
    let mut other = None;
    let memory = ["--memory", "67108864", "--memory-swap", "67108864"];
    let held = injector::inject(&update(&memory), &stage.runtime, &mut |call| {
        let puts = [libc::SYS_rename, libc::SYS_renameat, libc::SYS_renameat2];
        if other.is_none() && puts.contains(&call.number) {
            // Of another thread than this, which reaps whatever child it has.
            let begin = || update(&["--pids-limit", "64"]).spawn().expect("an update");
            let mut begun = std::thread::scope(|it| it.spawn(begin).join()).expect("begun");
            until("the other update waits for the lock, or has ended", || {
                waits_for_a_lock(begun.id(), &directory)
                    || begun.try_wait().expect("waitid").is_some()
            });
            other = Some(begun);
        }
        None
    });
    held.ok();
    assert_eq!(end(other.expect("a rename")), Some(0));
    let kept = std::fs::read(directory.join("config.json")).unwrap();
    let kept: serde_json::Value = serde_json::from_slice(&kept).unwrap();
    let kept = &kept["linux"]["resources"];
    assert_eq!(kept["memory"]["limit"], 67108864, "{kept}");
    assert_eq!(kept["pids"]["limit"], 64, "{kept}");
}

/// It has the container's directory open, and sleeps between two tries.
#[cfg(target_arch = "x86_64")]
fn waits_for_a_lock(pid: u32, directory: &std::path::Path) -> bool {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd"));
    let mut open = open.into_iter().flatten().flatten();
    let is_open = open.any(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to == directory));
    let call = std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    let sleeps =
        [nix::libc::SYS_nanosleep, nix::libc::SYS_clock_nanosleep].map(|it| it.to_string());
    is_open
        && sleeps
            .iter()
            .any(|number| call.split(' ').next() == Some(number))
}
