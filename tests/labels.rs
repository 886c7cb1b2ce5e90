//! Promise: the process has the label of the security module that config.json, or a flag of exec, gives
//! it; where the module is off, that is an error. AppArmor is on in the guest only.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::harness::{Outcome, Stage};
use crate::{skip, stage};

const PROFILES: &str = "\
profile capsid-test-init flags=(attach_disconnected,mediate_deleted) {
  file, capability, signal, network, ptrace, mount, umount, pivot_root, unix,
  deny /etc/passwd r,
}
profile capsid-test-exec flags=(attach_disconnected,mediate_deleted) {
  file, capability, signal, network, ptrace, unix,
  deny /etc/group r,
}
";

fn apparmor() -> bool {
    let said = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    said.is_ok_and(|word| word.starts_with('Y'))
}

/// Loads the profiles of this file.
fn load(stage: &Stage) -> Result<(), &'static str> {
    if !apparmor() {
        return Err("AppArmor is off here");
    }
    let file = stage.path("profiles");
    std::fs::write(&file, PROFILES).expect("the profiles");
    let parser = Command::new("apparmor_parser")
        .args(["--replace", "--skip-cache"])
        .arg(&file)
        .output();
    match parser {
        Err(_) => Err("no apparmor_parser here"),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "apparmor_parser: {said}");
            Ok(())
        }
    }
}

#[test]
fn b37_a_label_is_refused_where_its_module_is_off() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    if !apparmor() {
        bundle.set("/process/apparmorProfile", json!("web"));
        stage.try_create(&bundle).refuses(&[
            "/process/apparmorProfile",
            "AppArmor is off on this machine",
            "apparmor: config provided but apparmor not supported",
        ]);
        bundle.remove("/process/apparmorProfile");
    }
    if !Path::new("/sys/fs/selinux/enforce").exists() {
        let tail = "selinux label is specified in config, but selinux is disabled or not supported";
        for pointer in ["/process/selinuxLabel", "/linux/mountLabel"] {
            let mut bundle = stage.bundle();
            bundle.set(pointer, json!("system_u:object_r:x_t:s0"));
            stage
                .try_create(&bundle)
                .refuses(&[pointer, "SELinux is off", tail]);
        }
    }
    bundle.sleeps();
    let container = stage.create(&bundle);
    container.start().ok();
    for (flag, pointer) in [
        ("--apparmor", "/process/apparmorProfile"),
        ("--process-label", "/process/selinuxLabel"),
    ] {
        if flag == "--apparmor" && apparmor() {
            continue;
        }
        container
            .exec_with(&[flag, "x"], &["true"])
            .fails_with(255, &[pointer]);
    }
}

#[test]
fn the_process_is_confined_by_its_apparmor_profile() {
    let stage = stage!();
    if let Err(reason) = load(&stage) {
        skip!("{reason}");
    }
    let mut bundle = stage.bundle();
    bundle.set("/process/apparmorProfile", json!("capsid-test-init"));
    let script = "cat /proc/self/attr/current; cat /etc/passwd >/dev/null || echo denied";
    let said = stage.prints(&mut bundle, script);
    assert_eq!(said, "capsid-test-init (enforce)\ndenied");
    // A process that may gain no privileges is confined no less.
    bundle
        .set("/process/noNewPrivileges", json!(true))
        .set("/process/user", json!({"uid": 1000, "gid": 1000}))
        .capabilities(&[]);
    assert_eq!(stage.prints(&mut bundle, script), said);
    bundle.user_namespace(100_000, 65_536);
    assert_eq!(stage.prints(&mut bundle, script), said);
}

#[test]
fn s23_exec_is_confined_as_init_is_or_as_its_flag_says() {
    let stage = stage!();
    if let Err(reason) = load(&stage) {
        skip!("{reason}");
    }
    let mut bundle = stage.bundle();
    bundle
        .set("/process/apparmorProfile", json!("capsid-test-init"))
        .sleeps();
    let container = stage.create(&bundle);
    container.start().ok();
    let current = ["cat", "/proc/self/attr/current"];
    let said = |outcome: Outcome| outcome.ok().line().to_owned();
    assert_eq!(said(container.exec(&current)), "capsid-test-init (enforce)");
    let other = container.exec_with(&["--apparmor", "capsid-test-exec"], &current);
    assert_eq!(said(other), "capsid-test-exec (enforce)");
}

#[test]
fn a_profile_that_is_not_loaded_is_an_error_that_says_so() {
    let stage = stage!();
    if let Err(reason) = load(&stage) {
        skip!("{reason}");
    }
    let mut bundle = stage.bundle();
    bundle.set("/process/apparmorProfile", json!("capsid-test-missing"));
    stage.try_create(&bundle).refuses(&[
        "/process/apparmorProfile",
        "take the AppArmor profile capsid-test-missing at execve",
        "the profile is not loaded",
        "no such file or directory",
    ]);
}

/// Whether tests/vm/policy.cil, which denies nothing, has been loaded before these tests.
fn policy() -> Result<(), &'static str> {
    let own = std::fs::read_to_string("/proc/self/attr/current").unwrap_or_default();
    match own.starts_with("u:r:kernel_t:") {
        true => Ok(()),
        false => Err("SELinux is off here"),
    }
}

#[test]
fn selinux_labels_are_those_of_the_process_and_of_exec() {
    let stage = stage!();
    if let Err(reason) = policy() {
        skip!("{reason}");
    }
    let mut bundle = stage.bundle();
    let current = ["cat", "/proc/self/attr/current"];
    bundle
        .set("/process/selinuxLabel", json!("u:r:box_t:s0:c1"))
        .args(&current);
    let said = |outcome: Outcome| {
        outcome
            .ok()
            .stdout
            .trim_matches(['\n', '\0', ' '])
            .to_owned()
    };
    assert_eq!(said(stage.run(&bundle)), "u:r:box_t:s0:c1");
    bundle
        .set("/process/noNewPrivileges", json!(true))
        .set("/process/user", json!({"uid": 1000, "gid": 1000}))
        .capabilities(&[]);
    assert_eq!(said(stage.run(&bundle)), "u:r:box_t:s0:c1");
    bundle.user_namespace(100_000, 65_536);
    assert_eq!(said(stage.run(&bundle)), "u:r:box_t:s0:c1");
    bundle.sleeps();
    let container = stage.create(&bundle);
    container.start().ok();
    assert_eq!(said(container.exec(&current)), "u:r:box_t:s0:c1");
    let other = container.exec_with(&["--process-label", "u:r:other_t:s0"], &current);
    assert_eq!(said(other), "u:r:other_t:s0");
}

#[test]
fn selinux_labels_that_the_policy_does_not_know_are_refused() {
    let stage = stage!();
    if let Err(reason) = policy() {
        skip!("{reason}");
    }
    let mut bundle = stage.bundle();
    bundle.set("/process/selinuxLabel", json!("u:r:nobody_t:s0"));
    stage.try_create(&bundle).refuses(&[
        "/process/selinuxLabel",
        "the machine's policy has no such label",
        "invalid argument",
    ]);
}

#[test]
fn selinux_labels_the_mounts_of_the_container() {
    let stage = stage!();
    if let Err(reason) = policy() {
        skip!("{reason}");
    }
    let mut bundle = stage.bundle();
    bundle
        .set("/linux/mountLabel", json!("u:object_r:box_file_t:s0:c1,c2"))
        .set("/linux/maskedPaths", json!(["/etc"]))
        .sh("grep -c 'context=\"\\?u:object_r:box_file_t:s0:c1,c2' /proc/self/mountinfo; grep ' /proc ' /proc/self/mountinfo");
    let outcome = stage.run(&bundle).ok();
    let mut lines = outcome.stdout.lines();
    // /dev, /dev/pts, /dev/shm and what masks /etc; neither /proc nor what has no label of its own.
    assert_eq!(lines.next(), Some("4"), "{outcome}");
    assert!(
        !lines.next().unwrap_or("context=").contains("context="),
        "{outcome}"
    );
    let container = stage.create(bundle.sleeps());
    container.start().ok();
    let live = [
        "mounts",
        "add",
        "--type",
        "tmpfs",
        &container.id,
        "scratch",
        "/mnt",
    ];
    stage.call(&live).ok();
    let seen = container.sh("grep ' /mnt ' /proc/self/mountinfo");
    assert!(seen.contains("u:object_r:box_file_t:s0:c1,c2"), "{seen}");
}

/// CVE-2019-16884: an image (or a volume) whose /proc has files of its own where the label is written.
#[test]
fn a_proc_of_the_image_can_not_swallow_the_label() {
    let stage = stage!();
    if let Err(reason) = load(&stage) {
        skip!("{reason}");
    }
    let mut bundle = stage.own_bundle();
    let attr = bundle.folder.join("rootfs/proc/self/attr/apparmor");
    std::fs::create_dir_all(&attr).expect("a folder");
    for file in ["exec", "../exec", "current"] {
        std::fs::write(attr.join(file), "").expect("a file");
    }
    // No procfs is mounted: the container's /proc is the image's.
    let mounts = bundle.config["mounts"].as_array().expect("mounts").clone();
    let rest: Vec<_> = mounts
        .into_iter()
        .filter(|mount| mount["destination"] != "/proc")
        .collect();
    bundle
        .set("/mounts", json!(rest))
        .set("/linux/maskedPaths", json!([]))
        .set("/linux/readonlyPaths", json!([]))
        .set("/process/apparmorProfile", json!("capsid-test-init"));
    bundle.sh("cat /etc/passwd >/dev/null 2>&1 || echo denied; sleep 600");
    let container = stage.create(&bundle);
    container.start().ok();
    let own = format!("/proc/{}/attr/apparmor/current", container.pid());
    assert_eq!(
        std::fs::read_to_string(own).expect("its label").trim(),
        "capsid-test-init (enforce)"
    );
}
