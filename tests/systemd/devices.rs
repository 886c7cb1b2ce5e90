//! Device rules are systemd's as well, so that it doesn't undo them when it loads its units again.

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
    let programs = std::fs::read_dir("/sys/fs/bpf").expect("a bpffs");
    assert_eq!(programs.count(), 0, "a program was left");
}
