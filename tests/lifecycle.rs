//! Promise: create, start, state, kill, pause, resume and delete do what the OCI lifecycle says, with the
//! texts and exit codes that engines match.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::harness::{Outcome, Stage, until};
use crate::stage;

#[test]
fn create_makes_a_container_that_waits_for_start() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle
        .sh("echo ran > /out/marker")
        .bind(&stage.path("out"), "/out", &[]);
    std::fs::create_dir(stage.path("out")).unwrap();
    let container = stage.create(&bundle);
    let state = container.state();
    assert_eq!(state["status"], "created");
    assert!(state["pid"].as_i64().unwrap() > 0);
    assert!(
        !stage.path("out/marker").exists(),
        "the program ran before start"
    );
    container.start().ok();
    container.becomes("stopped");
    assert_eq!(
        std::fs::read_to_string(stage.path("out/marker")).unwrap(),
        "ran\n"
    );
    container.delete().ok();
    container
        .call("state", &[])
        .refuses(&["container does not exist"]);
}

#[test]
fn state_has_the_keys_that_engines_read_in_their_order() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle
        .sleeps()
        .set("/annotations", json!({"org.example.key": "value"}));
    let container = stage.create(&bundle);
    container.start().ok();
    let outcome = container.call("state", &[]).ok();
    let state = outcome.json();
    assert_eq!(state["id"], container.id);
    assert_eq!(state["status"], "running");
    assert_eq!(state["bundle"], json!(bundle.folder));
    assert_eq!(state["rootfs"], bundle.config["root"]["path"]);
    assert_eq!(state["annotations"]["org.example.key"], "value");
    assert_eq!(state["owner"], "");
    let created = state["created"].as_str().unwrap();
    assert!(
        created.ends_with('Z') && created.contains('T'),
        "not RFC 3339 in UTC: {created}"
    );
    let places: Vec<_> = [
        "ociVersion",
        "id",
        "pid",
        "status",
        "bundle",
        "rootfs",
        "created",
        "annotations",
        "owner",
    ]
    .iter()
    .map(|key| {
        outcome
            .stdout
            .find(&format!("\n  \"{key}\""))
            .unwrap_or_else(|| panic!("no {key}: {outcome}"))
    })
    .collect();
    assert!(places.is_sorted(), "{outcome}");
}

#[test]
fn a_container_whose_process_has_ended_is_stopped_and_has_no_pid() {
    let stage = stage!();
    let container = stage.running();
    container.kill("KILL").ok();
    container.becomes("stopped");
    assert_eq!(container.pid(), 0);
}

#[test]
fn start_says_why_it_can_not() {
    let stage = stage!();
    let container = stage.running();
    container
        .start()
        .refuses(&["cannot start an already running container"]);
    container.call("pause", &[]).ok();
    container
        .start()
        .refuses(&["cannot start a container in the paused state"]);
    container.call("resume", &[]).ok();
    container.kill("KILL").ok();
    container.becomes("stopped");
    container
        .start()
        .refuses(&["cannot start a container that has stopped"]);
    stage
        .call(&["start", "no-such-container"])
        .refuses(&["container does not exist"]);
}

#[test]
fn a_second_container_of_the_same_id_is_refused() {
    let stage = stage!();
    let container = stage.running();
    let mut bundle = stage.bundle();
    bundle.sleeps().write(&container.id);
    let bundle = bundle.folder.to_string_lossy().into_owned();
    stage
        .call(&["create", "--bundle", &bundle, &container.id])
        .refuses(&["container with given ID already exists"]);
    stage
        .call(&["run", "--bundle", &bundle, &container.id])
        .refuses(&["container with given ID already exists"]);
    assert_eq!(container.status(), "running");
}

#[test]
fn kill_takes_names_and_numbers_in_any_case() {
    let stage = stage!();
    for signal in ["TERM", "SIGTERM", "term", "sigterm", "15"] {
        let container = stage.running();
        container.ends_by(&[signal]);
    }
    stage.running().ends_by(&[]);
}

#[test]
fn kill_refuses_what_is_no_signal() {
    let stage = stage!();
    let container = stage.running();
    for signal in ["NOSUCH", "SIGNOSUCH", "0x9", "999"] {
        assert_ne!(container.kill(signal).code, 0, "kill {signal:?} succeeded");
    }
    assert_eq!(container.status(), "running");
}

#[test]
fn kill_sends_realtime_signals() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.sh("trap 'exit 0' 36; while :; do sleep 600 & wait $!; done");
    for signal in ["RTMIN+2", "36"] {
        let container = stage.create(&bundle);
        container.start().ok();
        container.ends_by(&[signal]);
    }
}

#[test]
fn kill_of_a_stopped_container_says_not_running() {
    let stage = stage!();
    let container = stage.running();
    container.kill("KILL").ok();
    container.becomes("stopped");
    container.kill("TERM").refuses(&["container not running"]);
    stage.call(&["kill", "--all", &container.id, "9"]).ok();
    stage
        .call(&["kill", "no-such-container", "9"])
        .refuses(&["container does not exist"]);
}

#[test]
fn kill_and_delete_take_several_containers_and_regular_expressions() {
    let stage = stage!();
    let containers: Vec<_> = (0..4).map(|_| stage.running()).collect();
    let [one, two, three, four] = &containers[..] else {
        unreachable!()
    };
    let both = format!("^({}|{})$", one.id, two.id);
    stage.call(&["kill", "--regex", &both, "KILL"]).ok();
    one.becomes("stopped");
    two.becomes("stopped");
    assert_eq!(three.status(), "running");
    // One that fails hides none of the others; the first failure is the command's.
    let words = ["delete", "absent", &one.id, &three.id, &two.id];
    let outcome = stage
        .call(&words)
        .refuses(&["delete absent: ", "is not stopped: running"]);
    let errors = outcome.stderr.matches("level=error").count();
    assert_eq!(
        (errors, outcome.stderr.lines().count()),
        (1, 2),
        "{outcome}"
    );
    assert!(
        outcome
            .stderr
            .lines()
            .last()
            .unwrap()
            .contains("level=error"),
        "{outcome}"
    );
    let mut left = [three.id.clone(), four.id.clone()];
    left.sort();
    let listed = stage.call(&["list", "--quiet"]).ok().stdout;
    assert_eq!(listed.lines().collect::<Vec<_>>(), left);
    let outcome = stage
        .call(&["delete", "--force", "--regex", "no-such-one"])
        .ok();
    assert!(outcome.stderr.contains("level=warning"), "{outcome}");
    stage.call(&["delete", "--force", "--regex", "."]).ok();
    assert_eq!(stage.call(&["list", "--quiet"]).ok().stdout, "");
}

#[test]
fn a_pid_file_and_a_bundle_may_be_named_from_where_the_caller_is() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.sleeps().set("/process/cwd", json!("/tmp"));
    let id = stage.id();
    bundle.write(&id);
    let name = bundle.folder.file_name().unwrap();
    let mut command = stage.capsid();
    command
        .current_dir(&stage.folder)
        .args(["create", "--pid-file", "pid", "--bundle"]);
    Outcome::of(command.arg(name).arg(&id)).ok();
    let state = stage.call(&["state", &id]).ok().json();
    assert_eq!(
        std::fs::read_to_string(stage.path("pid")).unwrap(),
        state["pid"].to_string()
    );
    assert_eq!(state["bundle"], json!(bundle.folder));
}

#[test]
fn kill_ends_a_created_container() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.sleeps();
    let container = stage.create(&bundle);
    container.kill("KILL").ok();
    container.becomes("stopped");
    container.delete().ok();
}

#[test]
fn kill_ends_a_paused_container() {
    let stage = stage!();
    let container = stage.running();
    container.call("pause", &[]).ok();
    container.kill("KILL").ok();
    container.becomes("stopped");
    container.delete().ok();
}

#[test]
fn kill_ends_every_process_of_a_container_that_shares_the_pid_namespace() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle
        .without_namespace("pid")
        .sh("sleep 601 & sleep 602 & wait");
    let container = stage.create(&bundle);
    container.start().ok();
    until("three processes", || processes(&container).len() == 3);
    stage.call(&["kill", "--all", &container.id, "KILL"]).ok();
    until("no process", || processes(&container).is_empty());
    container.delete().ok();
}

fn processes(container: &crate::harness::Container<'_>) -> Vec<i64> {
    let list = container
        .stage
        .call(&["ps", "--format", "json", &container.id]);
    serde_json::from_str::<Option<Vec<i64>>>(&list.stdout)
        .ok()
        .flatten()
        .unwrap_or_default()
}

#[test]
fn pause_stops_the_processes_and_resume_lets_them_go_on() {
    let stage = stage!();
    let container = stage.running();
    container.call("pause", &[]).ok();
    assert_eq!(container.status(), "paused");
    container.call("resume", &[]).ok();
    assert_eq!(container.status(), "running");
    container
        .call("resume", &[])
        .refuses(&["container not paused"]);
    stage
        .call(&["pause", "no-such-container"])
        .refuses(&["container does not exist"]);
    stage
        .call(&["resume", "no-such-container"])
        .refuses(&["container does not exist"]);
}

#[test]
fn a_created_container_can_be_paused_and_resumed() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.sleeps();
    let container = stage.create(&bundle);
    container.call("pause", &[]).ok();
    assert_eq!(container.status(), "paused");
    container.call("resume", &[]).ok();
    assert_eq!(container.status(), "created");
}

#[test]
fn delete_refuses_a_running_container() {
    let stage = stage!();
    let container = stage.running();
    container.delete().refuses(&[&format!(
        "cannot delete container {} that is not stopped: running",
        container.id
    )]);
    container.call("pause", &[]).ok();
    container.delete().refuses(&["that is not stopped: paused"]);
    assert_eq!(container.status(), "paused");
}

#[test]
fn delete_takes_a_created_container() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.sleeps();
    let container = stage.create(&bundle);
    let pid = container.pid();
    container.delete().ok();
    gone(&stage, &container.id, pid);
}

#[test]
fn delete_force_takes_a_container_in_any_state() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.sleeps();
    let created = stage.create(&bundle);
    let running = stage.running();
    let paused = stage.running();
    paused.call("pause", &[]).ok();
    let stopped = stage.running();
    stopped.kill("KILL").ok();
    stopped.becomes("stopped");
    for container in [created, running, paused, stopped] {
        let pid = container.pid();
        container.delete_force().ok();
        gone(&stage, &container.id, pid);
    }
}

#[test]
fn delete_of_a_missing_container_fails_and_with_force_succeeds() {
    let stage = stage!();
    stage
        .call(&["delete", "no-such-container"])
        .refuses(&["container does not exist"]);
    stage.call(&["delete", "--force", "no-such-container"]).ok();
}

#[test]
fn delete_force_ends_the_children_of_an_init_that_is_gone() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle
        .without_namespace("pid")
        .sh("sleep 603 & echo $! > /out/pid")
        .bind(&stage.path("out"), "/out", &[]);
    std::fs::create_dir(stage.path("out")).unwrap();
    let container = stage.create(&bundle);
    container.start().ok();
    container.becomes("stopped");
    let pid: i32 = std::fs::read_to_string(stage.path("out/pid"))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    container.delete_force().ok();
    gone(&stage, &container.id, pid);
}

#[test]
fn an_id_can_be_used_again_after_delete() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.args(&["/bin/true"]);
    let id = stage.id();
    bundle.write(&id);
    for _ in 0..3 {
        stage
            .call(&["run", "--bundle", &bundle.folder.to_string_lossy(), &id])
            .ok();
    }
}

/// Nothing of the container is left: not its state, its cgroups, or its process.
#[track_caller]
fn gone(stage: &Stage, id: &str, pid: i32) {
    assert_eq!(stage.remains(id), Vec::<std::path::PathBuf>::new());
    if pid != 0 {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        assert!(
            status.is_empty() || status.contains("State:\tZ") || status.contains("State:\tX"),
            "{status}"
        );
    }
    stage
        .call(&["state", id])
        .refuses(&["container does not exist"]);
}

#[test]
fn a_directory_that_others_may_write_into_is_no_containers() {
    let stage = stage!();
    let bundle = stage.bundle();
    for (owner, mode) in [(65_534, 0o755), (0, 0o777)] {
        let id = stage.id();
        let planted = stage.state_root().join(&id);
        std::fs::create_dir_all(&planted).unwrap();
        std::fs::write(planted.join("kept"), "").unwrap();
        std::os::unix::fs::chown(&planted, Some(owner), None).unwrap();
        std::fs::set_permissions(&planted, Permissions::from_mode(mode)).unwrap();
        bundle.write(&id);
        let mut create = stage.capsid();
        create.arg("create").arg("--bundle").arg(&bundle.folder);
        let said = [
            "others own this directory",
            "container with given ID already exists",
        ];
        Outcome::of(create.arg(&id)).refuses(&said);
        assert!(planted.join("kept").exists());
    }
}
