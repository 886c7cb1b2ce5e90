//! An ordinary user's containers are units of their own systemd, which limits them by what it was delegated.

use std::process::Command;

use serde_json::json;

use crate::harness::{Bundle, Container, Outcome, Stage, user};
use crate::systemd::cgroup_of;
use crate::systemd_stage;

const RUNTIME: &str = "XDG_RUNTIME_DIR=/run/user/54321";
const BELOW: &str = "/user.slice/tester.service";

fn bundle(stage: &Stage) -> Bundle {
    let mut bundle = stage.bundle();
    bundle.sleeps().remove("/linux/cgroupsPath");
    bundle
}

fn property(unit: &str, name: &str) -> String {
    let mut command = Command::new("setpriv");
    command.args(user::arguments());
    command.args([
        "env",
        RUNTIME,
        "systemctl",
        "--user",
        "show",
        "--value",
        "-p",
        name,
        unit,
    ]);
    Outcome::of(&mut command).ok().line().to_owned()
}

fn limit(container: &Container, file: &str) -> String {
    let unit = format!("{BELOW}/user.slice/capsid-{}.scope", container.id);
    let path = format!("/sys/fs/cgroup{unit}/{file}");
    std::fs::read_to_string(&path)
        .expect(&path)
        .trim()
        .to_owned()
}

#[test]
fn a_users_container_is_a_scope_of_their_systemd() {
    let stage = systemd_stage!().of_user();
    if !stage.view.is_v2() {
        crate::skip!("systemd delegates no controller of cgroup v1 to a user");
    }
    let mut bundle = bundle(&stage);
    bundle.set(
        "/linux/resources",
        json!({"memory": {"limit": 67_108_864}, "pids": {"limit": 60}}),
    );
    let container = stage.create(&bundle);
    let unit = format!("capsid-{}.scope", container.id);
    assert_eq!(
        cgroup_of(container.pid()),
        format!("{BELOW}/user.slice/{unit}")
    );
    container.start().ok();
    assert_eq!(property(&unit, "MemoryMax"), "67108864");
    assert_eq!(property(&unit, "Slice"), "user.slice");
    assert_eq!(limit(&container, "memory.max"), "67108864");
    assert_eq!(limit(&container, "pids.max"), "60");
    // From a cgroup that is not the user's: nobody but systemd may put it there.
    let file = stage.path("pid");
    let file = file.to_string_lossy();
    container
        .exec_with(&["--detach", "--pid-file", &file], &["sleep", "600"])
        .ok();
    let pid = std::fs::read_to_string(&*file).expect("a pid");
    let pid = pid.trim().parse().expect("a pid");
    assert_eq!(cgroup_of(pid), format!("{BELOW}/user.slice/{unit}"));
    container.call("pause", &[]).ok();
    assert_eq!(container.status(), "paused");
    container.call("resume", &[]).ok();
    container.delete_force().ok();
    assert_eq!(property(&unit, "LoadState"), "not-found");
}

#[test]
fn a_users_container_is_given_a_cgroup_to_manage() {
    let stage = systemd_stage!().of_user();
    if !stage.view.is_v2() {
        crate::skip!("systemd delegates no controller of cgroup v1 to a user");
    }
    let mut bundle = bundle(&stage);
    bundle
        .namespace("cgroup", None)
        .set("/linux/resources", json!({"pids": {"limit": 60}}))
        .set("/annotations", json!({"run.oci.delegate-cgroup": "in"}));
    let container = stage.create(&bundle);
    let unit = format!("{BELOW}/user.slice/capsid-{}.scope", container.id);
    assert_eq!(cgroup_of(container.pid()), format!("{unit}/in"));
    container.start().ok();
    assert_eq!(limit(&container, "pids.max"), "60");
    let seen = "cut -d: -f3 /proc/self/cgroup";
    assert_eq!(container.sh(seen), "/in");
    container.delete_force().ok();
    assert!(!std::path::Path::new(&format!("/sys/fs/cgroup{unit}")).exists());
}

#[test]
fn root_of_a_user_namespace_has_the_users_systemd() {
    let stage = systemd_stage!().of_user();
    if !stage.view.is_v2() {
        crate::skip!("systemd delegates no controller of cgroup v1 to a user");
    }
    let (id, bundle) = (stage.id(), bundle(&stage));
    bundle.write(&id);
    let run = |words: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(user::arguments()).args(["env", RUNTIME]);
        command.args(["unshare", "--user", "--map-root-user", "--map-auto", "--"]);
        command
            .arg(&stage.runtime)
            .arg("--root")
            .arg(stage.state_root())
            .arg("--systemd-cgroup");
        Outcome::of(command.args(words))
    };
    run(&["create", "--bundle", &bundle.folder.to_string_lossy(), &id]).ok();
    let unit = format!("capsid-{id}.scope");
    assert_eq!(property(&unit, "ActiveState"), "active");
    run(&["delete", "--force", &id]).ok();
    assert_eq!(property(&unit, "LoadState"), "not-found");
}

#[test]
fn a_user_without_a_session_is_told_so() {
    let stage = systemd_stage!().of_user();
    let id = stage.id();
    let bundle = bundle(&stage);
    bundle.write(&id);
    let mut command = stage.capsid();
    command
        .env_remove("XDG_RUNTIME_DIR")
        .arg("create")
        .arg("--bundle")
        .arg(&bundle.folder)
        .arg(&id);
    Outcome::of(&mut command).refuses(&["XDG_RUNTIME_DIR is not set", "loginctl enable-linger"]);
    let mut command = stage.capsid();
    command
        .env("XDG_RUNTIME_DIR", "/nowhere")
        .arg("create")
        .arg("--bundle")
        .arg(&bundle.folder)
        .arg(&id);
    Outcome::of(&mut command).refuses(&["/nowhere/bus", "no such file or directory"]);
}
