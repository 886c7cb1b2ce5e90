//! Device rules are systemd's as well, so that it doesn't undo them when it loads its units again.

use std::os::unix::fs::DirEntryExt;

use serde_json::json;

use crate::harness::Container;
use crate::harness::machine::{self, Cgroups};
use crate::systemd::{properties, sleeping, systemctl};
use crate::systemd_stage;

/// What the container may open: kmsg, which a rule allows; full, which every container may; mem.
fn opens(container: &Container) -> String {
    let open = |minor| {
        format!("rm -f /mnt/n; mknod /mnt/n c 1 {minor} && (exec 3</mnt/n) 2>/dev/null; echo $?;")
    };
    let script: String = [11, 7, 1].map(open).concat();
    container.sh(&script).replace('\n', " ")
}

#[test]
fn devices_stay_allowed_and_denied_when_systemd_reloads() {
    let stage = systemd_stage!();
    let mut bundle = sleeping(&stage, None);
    bundle
        .mount("/mnt", "tmpfs", "tmpfs", &["dev"])
        .capabilities(&["CAP_MKNOD", "CAP_SYSLOG", "CAP_SYS_RAWIO"])
        .set(
            "/linux/resources/devices",
            json!([
                {"allow": false, "access": "rwm"},
                {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"},
            ]),
        );
    let container = stage.create(&bundle);
    container.start().ok();
    assert_eq!(opens(&container), "0 0 1");
    let shown = properties(&format!("capsid-{}.scope", container.id));
    if machine::cgroups() == Cgroups::V2 {
        let program = &shown["BPFProgram"];
        assert!(program.starts_with("device:/sys/fs/bpf/"), "{program}");
        assert_eq!(shown["DevicePolicy"], "auto");
    } else {
        assert_eq!(shown["DevicePolicy"], "strict");
        assert!(
            shown["DeviceAllow"].contains("/dev/char/1:11 r"),
            "{shown:?}"
        );
    }
    systemctl(&["daemon-reload"]).ok();
    assert_eq!(opens(&container), "0 0 1");
    // It writes everything anew when something of the unit is changed.
    let unit = format!("capsid-{}.scope", container.id);
    systemctl(&[
        "set-property",
        "--runtime",
        &unit,
        "TasksMax=99",
        "MemoryMax=512M",
    ])
    .ok();
    systemctl(&["daemon-reload"]).ok();
    assert_eq!(opens(&container), "0 0 1");
    container.delete_force().ok();
    assert_eq!(programs(), [], "a program was left");
}

#[test]
fn explain_says_that_systemd_attaches_the_program() {
    let stage = systemd_stage!();
    let bundle = sleeping(&stage, Some("system.slice:x:explained"));
    bundle.write("explained");
    let folder = bundle.folder.to_string_lossy().into_owned();
    let explained = stage.call(&["explain", &folder]).ok().stdout;
    let line = |word: &str| explained.lines().position(|line| line.contains(word));
    let (kept, told) = (
        line("device rules in /sys/fs/bpf/"),
        line("tell systemd of x-explained.scope"),
    );
    assert!(told.is_some(), "{explained}");
    if machine::cgroups() == Cgroups::V2 {
        assert!(kept.is_some() && kept < told, "{explained}");
        assert!(explained.contains(", for systemd to attach"), "{explained}");
        assert_eq!(line("attach a program of"), None, "{explained}");
    } else {
        assert_eq!(kept, None, "{explained}");
        assert!(explained.contains("DevicePolicy="), "{explained}");
    }
}

#[test]
fn a_create_that_is_refused_leaves_the_rules_of_a_unit_of_the_same_name_alone() {
    let stage = systemd_stage!();
    let name = stage.id();
    let bundle = |slice: &str, minor: u32| {
        let mut bundle = sleeping(&stage, Some(&format!("capsidtest-{slice}.slice:x:{name}")));
        let rule = json!({"allow": true, "type": "c", "major": 1, "minor": minor, "access": "r"});
        bundle
            .mount("/mnt", "tmpfs", "tmpfs", &["dev"])
            .capabilities(&["CAP_MKNOD", "CAP_SYSLOG", "CAP_SYS_RAWIO"])
            .set(
                "/linux/resources/devices",
                json!([{"allow": false, "access": "rwm"}, rule]),
            );
        bundle
    };
    let container = stage.create(&bundle("a", 11));
    container.start().ok();
    let before = programs();
    stage
        .try_create(&bundle("b", 1))
        .refuses(&[&format!("start unit x-{name}.scope")]);
    assert_eq!(container.status(), "running");
    assert_eq!(programs(), before);
    systemctl(&["daemon-reload"]).ok();
    assert_eq!(opens(&container), "0 0 1");
    container.delete_force().ok();
    assert_eq!(programs(), []);
    systemctl(&["stop", "capsidtest.slice"]).ok();
}

/// The programs that are kept, each by its name and what the file system calls it.
fn programs() -> Vec<(String, u64)> {
    let files = std::fs::read_dir("/sys/fs/bpf").expect("a bpffs");
    let named = files.map(|file| {
        let file = file.expect("a file");
        (file.file_name().to_string_lossy().into_owned(), file.ino())
    });
    let mut programs: Vec<_> = named.collect();
    programs.sort();
    programs
}
