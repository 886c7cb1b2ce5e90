//! Promise: an ordinary user runs containers too, without any privilege and without being asked for a user
//! namespace; what needs privilege says so.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::harness::user::{SUBGID, SUBUID, UID};
use crate::harness::{Outcome, machine, user};
use crate::{skip, stage, user_stage};

#[test]
fn the_default_configuration_runs() {
    let stage = user_stage!();
    let mut bundle = stage.plain_bundle();
    let text = stage.prints(&mut bundle, "id -u; hostname; echo $$; ls /proc/1 > /dev/null && echo proc; echo x > /dev/null && echo null; head -c 2 /dev/zero | wc -c");
    assert_eq!(text, "0\npromises\n1\nproc\nnull\n2");
}

#[test]
fn a_user_namespace_is_added_with_the_users_subordinate_ids() {
    let stage = user_stage!();
    let mut bundle = stage.plain_bundle();
    let text = stage.prints(
        &mut bundle,
        "cat /proc/self/uid_map /proc/self/gid_map | tr -s ' '",
    );
    assert_eq!(
        text,
        format!("0 {UID} 1\n 1 {SUBUID} 65536\n 0 {UID} 1\n 1 {SUBGID} 65536")
    );
    bundle.set(
        "/process/user",
        json!({"uid": 1000, "gid": 1000, "additionalGids": [5]}),
    );
    assert_eq!(
        stage.prints(&mut bundle, "id -u; id -g; id -G"),
        "1000\n1000\n1000 5"
    );
}

#[test]
fn one_id_is_enough() {
    let stage = user_stage!();
    let mut bundle = stage.plain_bundle();
    bundle.user_namespace(UID, 1);
    assert_eq!(
        stage.prints(
            &mut bundle,
            "id -u; cat /proc/self/setgroups; cat /proc/self/uid_map | tr -s ' '"
        ),
        format!("0\ndeny\n 0 {UID} 1")
    );
    bundle.set("/process/user/uid", json!(1000));
    stage.run(&bundle).refuses(&["/process/user/uid"]);
}

#[test]
fn ids_of_others_are_refused() {
    let stage = user_stage!();
    let mut bundle = stage.plain_bundle();
    bundle.user_namespace(0, 1).args(&["/bin/true"]);
    assert_ne!(stage.run(&bundle).code, 0);
    bundle.user_namespace(100_000, 65_536);
    let outcome = stage.run(&bundle).refuses(&["/linux/uidMappings"]);
    assert!(
        outcome.stderr.contains("newuidmap") || outcome.stderr.contains("subuid"),
        "{outcome}"
    );
}

#[test]
fn spec_rootless_writes_a_configuration_that_runs() {
    let stage = user_stage!();
    let mut bundle = stage.plain_bundle();
    user::owns(&bundle.folder);
    let mut command = stage.bare();
    command
        .args(["spec", "--rootless"])
        .current_dir(&bundle.folder);
    crate::harness::Outcome::of(&mut command).ok();
    let rootfs = bundle.config["root"]["path"].clone();
    bundle.config =
        serde_json::from_str(&std::fs::read_to_string(bundle.folder.join("config.json")).unwrap())
            .unwrap();
    bundle
        .set("/root/path", rootfs)
        .set("/process/terminal", json!(false));
    assert_eq!(bundle.config["linux"]["uidMappings"][0]["hostID"], UID);
    assert_eq!(stage.prints(&mut bundle, "id -u"), "0");
}

#[test]
fn every_verb_works() {
    let stage = user_stage!();
    let mut bundle = stage.plain_bundle();
    bundle.sleeps();
    let container = stage.create(&bundle);
    assert_eq!(container.status(), "created");
    container.start().ok();
    assert_eq!(container.status(), "running");
    assert_eq!(container.sh("id -u; hostname"), "0\npromises");
    container
        .exec_with(&["--user", "7:8"], &["sh", "-c", "id -u; id -g"])
        .ok()
        .prints("7\n8");
    assert!(
        stage
            .call(&["list", "-q"])
            .ok()
            .stdout
            .contains(&container.id)
    );
    container
        .delete()
        .refuses(&["that is not stopped: running"]);
    container.ends_by(&["TERM"]);
    container.delete().ok();
    let container = stage.create(&bundle);
    container.delete_force().ok();
    assert_eq!(
        stage.remains(&container.id),
        Vec::<std::path::PathBuf>::new()
    );
}

#[test]
fn the_state_is_in_the_runtime_folder_of_the_user() {
    let stage = user_stage!();
    let mut bundle = stage.plain_bundle();
    bundle.args(&["/bin/true"]);
    for (variable, root) in [
        (Some("/run/user/54321"), "/run/user/54321/capsid"),
        (Some(""), "/run/user/54321/capsid"),
        (None, "/run/user/54321/capsid"),
    ] {
        let id = stage.id();
        bundle.write(&id);
        let mut command = stage.bare();
        command
            .env_remove("XDG_RUNTIME_DIR")
            .args(["run", "--keep", "--bundle"])
            .arg(&bundle.folder)
            .arg(&id);
        if let Some(value) = variable {
            command.env("XDG_RUNTIME_DIR", value);
        }
        crate::harness::Outcome::of(&mut command).ok();
        assert!(Path::new(root).join(&id).is_dir(), "{variable:?}");
        // Sticky: those who clean up there take it for in use.
        let mode = Path::new(root).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o1700, "{variable:?}");
        let mut command = stage.bare();
        command.env_remove("XDG_RUNTIME_DIR").args(["delete", &id]);
        crate::harness::Outcome::of(&mut command).ok();
    }
    std::fs::remove_dir_all("/run/user/54321/capsid").unwrap();
}

/// A rootless engine calls its runtime as root of its own user namespace, which may not write /run.
#[test]
fn root_of_a_users_own_namespace_is_that_user_unless_it_is_called_root() {
    let stage = user_stage!();
    let folder = stage.path("runtime");
    std::fs::create_dir_all(folder.join("capsid/broken")).unwrap();
    std::fs::write(folder.join("capsid/broken/journal.json"), "{").unwrap();
    user::owns(&folder);
    for (name, seen) in [
        (None, true),
        (Some("somebody"), true),
        (Some("root"), false),
    ] {
        let mut command = Command::new("setpriv");
        command
            .args(user::arguments())
            .args(["unshare", "--user", "--map-root-user", "--"])
            .arg(&stage.runtime)
            .arg("list")
            .env("XDG_RUNTIME_DIR", &folder)
            .env_remove("USER");
        if let Some(name) = name {
            command.env("USER", name);
        }
        let outcome = crate::harness::Outcome::of(&mut command).ok();
        assert_eq!(
            outcome.stderr.contains("broken"),
            seen,
            "{name:?}: {outcome}"
        );
    }
}

#[test]
fn an_overlay_leaves_the_root_filesystem_as_it_is() {
    let stage = user_stage!();
    let mut bundle = stage.own_bundle();
    let rootfs = bundle.folder.join("rootfs");
    user::owns(&rootfs);
    bundle
        .remove("/linux/cgroupsPath")
        .set("/root/readonly", json!(false))
        .capabilities(&["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER"])
        .sh("echo made > /made; cat /made; chown 5:5 /made; stat -c %u /made; rm /etc/hosts; ls /etc/hosts 2>/dev/null || echo gone");
    for _ in 0..2 {
        assert_eq!(
            stage.run_with(&bundle, &["--overlay"]).ok().line(),
            "made\n5\ngone"
        );
    }
    assert!(!rootfs.join("made").exists() && rootfs.join("etc/hosts").exists());
}

#[test]
fn an_overlay_works_on_a_root_filesystem_of_others() {
    let stage = user_stage!();
    let mut bundle = stage.plain_bundle();
    bundle
        .set("/root/readonly", json!(false))
        .sh("echo made > /made; cat /made");
    stage.run_with(&bundle, &["--overlay"]).ok().prints("made");
    let rootfs = bundle.config["root"]["path"].as_str().unwrap();
    assert!(!Path::new(rootfs).join("made").exists());
}

#[test]
fn limits_without_a_cgroup_to_write_are_refused_with_the_reason() {
    let stage = user_stage!();
    let mut bundle = stage.plain_bundle();
    bundle
        .set("/linux/resources/pids", json!({"limit": 10}))
        .set("/linux/resources/memory", json!({"limit": 67_108_864}))
        .args(&["/bin/true"]);
    let outcome = stage.run(&bundle);
    let line = format!("chown {UID} /sys/fs/cgroup");
    outcome.refuses(&[
        ": /linux/resources/memory/limit: ",
        "the caller may make no cgroup of memory, pids here: ",
        "no permission is granted for cgroups",
        &line,
    ]);
}

/// The line is for whoever reads the message: here it is followed to the letter.
#[test]
fn the_line_that_a_refusal_gives_makes_limits_work() {
    let stage = user_stage!();
    if machine::cgroups() == machine::Cgroups::V2 {
        skip!("who is moved on cgroup v2 needs the cgroup above both, which systemd::users has");
    }
    let mut bundle = stage.plain_bundle();
    let folder = format!("{}/theirs", machine::enclosure().expect("an enclosure"));
    bundle
        .set("/linux/cgroupsPath", json!(format!("{folder}/x")))
        .set("/linux/resources/pids", json!({"limit": 10}));
    bundle.sh("for i in $(seq 20); do sleep 1 & done");
    let outcome = stage.run(&bundle).refuses(&["as root: mkdir -p "]);
    let (_, rest) = outcome.stderr.split_once("as root: ").expect("a line");
    let (line, _) = rest.split_once(": rootless needs").expect("the line's end");
    crate::harness::Outcome::of(Command::new("sh").args(["-c", line])).ok();
    let limited = stage.run(&bundle);
    let given = line.rsplit(' ').filter(|word| word.ends_with("/theirs"));
    for place in given.collect::<std::collections::BTreeSet<_>>() {
        std::fs::remove_dir(place).expect(place);
    }
    assert!(limited.stderr.contains("can't fork"), "{limited}");
}

#[test]
fn an_option_that_insists_on_a_cgroup_is_named_where_none_can_be_made() {
    let stage = user_stage!();
    let bundle = stage.plain_bundle();
    let id = stage.id();
    bundle.write(&id);
    let mut command = stage.bare();
    command.args(["--root".as_ref(), stage.state_root().as_os_str()]);
    command.args(["--rootless", "false", "run", "--bundle"]);
    let outcome = Outcome::of(command.arg(&bundle.folder).arg(&id));
    outcome.refuses(&[
        "mkdir /sys/fs/cgroup/",
        "--rootless false insists on a cgroup",
    ]);
}

#[test]
fn a_container_of_root_is_out_of_reach() {
    let stage = user_stage!();
    let other = stage!();
    let container = other.running();
    let root = other.state_root().to_string_lossy().into_owned();
    for args in [
        vec!["kill", container.id.as_str(), "KILL"],
        vec!["delete", "--force", &container.id],
        vec!["exec", &container.id, "true"],
    ] {
        let mut command = stage.bare();
        command.args(["--root", &root]).args(&args);
        assert_ne!(
            crate::harness::Outcome::of(&mut command).code,
            0,
            "{args:?}"
        );
    }
    assert_eq!(container.status(), "running");
}
