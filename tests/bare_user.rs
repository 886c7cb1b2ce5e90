//! Promise: an ordinary user needs neither subordinate ids nor a cgroup of their own: what can't be had then
//! is said, and the host stays out of reach.

use serde_json::json;

use crate::harness::user::UID;
use crate::harness::{Bundle, Outcome, Stage, around, machine, user};
use crate::user_stage;

#[test]
fn without_subordinate_ids_the_user_is_root_and_the_only_one() {
    let stage = user_stage!();
    let mut bundle = stage.plain_bundle();
    bundle.sh("id -u; cat /proc/self/uid_map | tr -s ' '; cat /proc/self/setgroups");
    // Where the files of subordinate ids are empty.
    let script = "mount --bind /dev/null /etc/subuid && mount --bind /dev/null /etc/subgid";
    let outcome = run_after(script, &bundle, &stage).ok();
    assert_eq!(outcome.line(), format!("0\n 0 {UID} 1\ndeny"));
    let line = "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 capsid-tester";
    assert!(
        outcome.stderr.contains("no subordinate ids") && outcome.stderr.contains(line),
        "{outcome}"
    );
}

/// One run by the user, after a script of root's in a mount namespace of its own.
fn run_after(script: &str, bundle: &Bundle, stage: &Stage) -> Outcome {
    let (_, command) = stage.foreground(bundle);
    let before = machine::in_own_mounts(&format!(
        "set -e; by=$(command -v \"$1\"); shift; {script}; exec \"$by\" \"$@\""
    ));
    Outcome::of(&mut around(before, &command))
}

#[test]
fn without_the_programs_that_map_ids_the_package_is_named() {
    let stage = user_stage!();
    let mut bundle = stage.plain_bundle();
    bundle.sh("id -u; cat /proc/self/uid_map | tr -s ' '");
    let outcome = run_after("export PATH=/none", &bundle, &stage).ok();
    assert_eq!(outcome.line(), format!("0\n 0 {UID} 1"));
    let text = "newuidmap(1) and newgidmap(1) are not in PATH (on Debian: apt install uidmap)";
    assert!(outcome.stderr.contains(text), "{outcome}");
    bundle.user_namespace(user::SUBUID, 1000);
    run_after("export PATH=/none", &bundle, &stage)
        .refuses(&["/linux/uidMappings", "apt install uidmap"]);
}

#[test]
fn subordinate_ids_that_no_file_has_are_asked_of_getsubids() {
    let stage = user_stage!();
    let mut bundle = stage.plain_bundle();
    bundle.sh("cat /proc/self/uid_map /proc/self/gid_map | tr -s ' '");
    // newuidmap would ask as well, of a library that isn't here: ours says what it is told.
    let folder = stage.path("bin");
    std::fs::create_dir(&folder).unwrap();
    let program = |name: &str, script: &str| {
        let path = folder.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, mode).unwrap();
    };
    program(
        "getsubids",
        "[ \"$1\" = -g ] && echo \"0: $2 600000 100\" || echo \"0: $1 500000 100\"",
    );
    program("newuidmap", "echo \"newuidmap $*\" >&2; exit 1");
    program("newgidmap", "echo \"newgidmap $*\" >&2; exit 1");
    let none = "mount --bind /dev/null /etc/subuid; mount --bind /dev/null /etc/subgid";
    let path = format!("export PATH={}:$PATH", folder.display());
    let elsewhere = "echo 'subid: sss' > /run/nss.$$; mount --bind /run/nss.$$ /etc/nsswitch.conf; rm /run/nss.$$";
    run_after(&format!("{none}; {path}; {elsewhere}"), &bundle, &stage)
        .refuses(&[&format!("0 {UID} 1 1 500000 100")]);
    let outcome = run_after(&format!("{none}; {path}"), &bundle, &stage).ok();
    assert!(outcome.stderr.contains("no subordinate ids"), "{outcome}");
}

#[test]
fn a_machine_that_allows_no_user_namespace_is_told_how_to() {
    let stage = user_stage!();
    let mut bundle = stage.plain_bundle();
    bundle.user_namespace(0, 1).args(&["/bin/true"]);
    let id = stage.id();
    bundle.write(&id);
    // The limit is that of a user namespace of the test's own.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces; exec \"$@\"";
    let mut command = std::process::Command::new("setpriv");
    command
        .args(user::arguments())
        .args([
            "unshare",
            "--user",
            "--mount",
            "--map-root-user",
            "--",
            "/bin/sh",
            "-c",
            script,
            "sh",
        ])
        .arg(&stage.runtime)
        .arg("--root")
        .arg(stage.state_root())
        .args(["run", "--bundle"])
        .arg(&bundle.folder)
        .arg(&id)
        .stdin(std::process::Stdio::null());
    Outcome::of(&mut command).refuses(&["as root, sysctl user.max_user_namespaces="]);
}

#[test]
fn a_root_filesystem_that_the_containers_root_can_not_enter_is_told() {
    let stage = user_stage!();
    let mut bundle = stage.plain_bundle();
    let closed = stage.path("closed");
    std::fs::create_dir(&closed).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(&closed, mode).unwrap();
    bundle.set("/root/path", json!(closed)).args(&["/bin/true"]);
    stage
        .run(&bundle)
        .refuses(&["can't enter the root filesystem", "permission denied"]);
}

#[test]
fn the_hosts_sys_is_read_only_with_all_below_it() {
    let stage = user_stage!();
    let mut bundle = stage.plain_bundle();
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/sys"));
    bundle.without_namespace("network").bind(
        "/sys".as_ref(),
        "/sys",
        &["rbind", "nosuid", "noexec", "nodev", "ro"],
    );
    let text = stage.prints(&mut bundle, "awk '$5 ~ \"^/sys\" && $6 !~ \"^ro\" {print $5}' /proc/self/mountinfo; ls /sys/fs/cgroup | wc -l");
    assert!(
        !text.contains('/') && text != "0",
        "writable, or empty: {text}"
    );
}

#[test]
fn folders_and_files_of_the_user_can_be_bound_and_those_of_others_as_far_as_they_are_open() {
    let stage = user_stage!();
    let (own, open, closed) = (stage.path("own"), stage.path("open"), stage.path("closed"));
    for folder in [&own, &open, &closed] {
        std::fs::create_dir(folder).unwrap();
        std::fs::write(folder.join("file"), "text\n").unwrap();
    }
    user::owns(&own);
    let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(&own, mode(0o700)).unwrap();
    std::fs::set_permissions(&closed, mode(0o700)).unwrap();
    let mut bundle = stage.plain_bundle();
    bundle
        .bind(&own, "/mnt", &["rw"])
        .bind(&open, "/out", &["ro", "nosuid", "nodev", "noexec"])
        .sh("cat /mnt/file /out/file; touch /mnt/new; touch /out/new 2>/dev/null || echo refused");
    assert_eq!(stage.run(&bundle).ok().line(), "text\ntext\nrefused");
    assert!(own.join("new").exists());
    bundle.bind(&closed.join("file"), "/tmp", &[]);
    stage
        .run(&bundle)
        .refuses(&["/mounts/9", "closed/file", "permission denied"]);
}

#[test]
fn an_oom_score_that_an_ordinary_user_may_not_set_is_a_warning() {
    let stage = user_stage!();
    let mut bundle = stage.plain_bundle();
    bundle.set("/process/oomScoreAdj", json!(-500));
    bundle.sh("cat /proc/self/oom_score_adj");
    let own = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    let outcome = stage.run(&bundle).ok();
    assert_eq!(outcome.line(), own.trim());
    let warning = "/process/oomScoreAdj: it stays as it is";
    assert_eq!(outcome.stderr.matches(warning).count(), 1, "{outcome}");
    bundle.sleeps();
    let container = stage.create(&bundle);
    container.start().ok();
    let outcome = container.exec(&["cat", "/proc/self/oom_score_adj"]).ok();
    assert_eq!(outcome.line(), own.trim());
    assert_eq!(outcome.stderr.matches(warning).count(), 1, "{outcome}");
    container.delete_force().ok();
}

#[test]
fn exec_is_limited_and_scored_as_the_first_process() {
    let stage = user_stage!();
    let mut bundle = stage.plain_bundle();
    bundle
        .set("/process/oomScoreAdj", json!(500))
        .set(
            "/process/rlimits",
            json!([{"type": "RLIMIT_NOFILE", "soft": 99, "hard": 100}]),
        )
        .sleeps();
    let container = stage.create(&bundle);
    container.start().ok();
    for user in ["0", "1000:1000"] {
        let script = "cat /proc/self/oom_score_adj; ulimit -n; ulimit -H -n";
        let outcome = container.exec_with(&["--user", user], &["/bin/sh", "-c", script]);
        assert_eq!(outcome.ok().line(), "500\n99\n100", "{user}");
    }
    container.delete_force().ok();
}
