//! Promise: a container has the default devices and those it was given, and can open no others.

use serde_json::json;

use crate::harness::{Outcome, View};
use crate::{skip, stage};

#[test]
fn the_default_devices_and_links_are_there() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    let script = "for d in null zero full random urandom tty; do stat -c '%n %t:%T %a %u:%g' /dev/$d; done; \
                  for l in fd stdin stdout stderr ptmx; do echo $l $(readlink /dev/$l); done; ls /dev | grep -v core | sort | tr '\\n' ' '";
    let text = stage.prints(&mut bundle, script);
    assert_eq!(
        text.trim_end_matches(" "),
        "/dev/null 1:3 666 0:0\n/dev/zero 1:5 666 0:0\n/dev/full 1:7 666 0:0\n/dev/random 1:8 666 0:0\n/dev/urandom 1:9 666 0:0\n/dev/tty 5:0 666 0:0\n\
         fd /proc/self/fd\nstdin /proc/self/fd/0\nstdout /proc/self/fd/1\nstderr /proc/self/fd/2\nptmx pts/ptmx\n\
         fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"
    );
}

#[test]
fn devices_work_and_none_of_the_others_can_be_opened() {
    for view in [View::V1, View::V2] {
        if view.obstacle().is_some() {
            continue;
        }
        let stage = stage!(view);
        let mut bundle = stage.bundle();
        bundle
            .capabilities(&["CAP_MKNOD"])
            .mount("/mnt", "tmpfs", "tmpfs", &["mode=777"]);
        let script = "echo x > /dev/null; head -c 3 /dev/zero | wc -c; head -c 1 /dev/urandom | wc -c; echo x 2>/dev/null > /dev/full || echo full; \
                      mknod /mnt/mem c 1 1 && head -c 1 /mnt/mem 2>&1; mknod /mnt/disk b 8 0 && head -c 1 /mnt/disk 2>&1; \
                      mknod /mnt/null c 1 3 && echo y > /mnt/null && echo made";
        let text = stage.prints(&mut bundle, script);
        assert_eq!(
            text,
            "3\n1\nfull\nhead: /mnt/mem: Operation not permitted\nhead: /mnt/disk: Operation not permitted\nmade",
            "{view:?}"
        );
    }
}

#[test]
fn without_rules_the_default_rules_hold() {
    for view in [View::V1, View::V2] {
        if view.obstacle().is_some() {
            continue;
        }
        let stage = stage!(view);
        let mut bundle = stage.bundle();
        bundle
            .capabilities(&["CAP_MKNOD"])
            .mount("/mnt", "tmpfs", "tmpfs", &["mode=777"])
            .remove("/linux/resources");
        assert_eq!(
            stage.prints(
                &mut bundle,
                "mknod /mnt/mem c 1 1; head -c 1 /mnt/mem 2>&1; echo x > /dev/null && echo fine"
            ),
            "head: /mnt/mem: Operation not permitted\nfine",
            "{view:?}"
        );
    }
}

#[test]
fn rules_are_applied_in_their_order() {
    for view in [View::V1, View::V2] {
        if view.obstacle().is_some() {
            continue;
        }
        let stage = stage!(view);
        let mut bundle = stage.bundle();
        bundle
            .capabilities(&["CAP_MKNOD", "CAP_DAC_OVERRIDE"])
            .mount("/mnt", "tmpfs", "tmpfs", &["mode=777"])
            .set(
                "/linux/resources/devices",
                json!([
                    {"allow": false, "access": "rwm"},
                        {"allow": true, "type": "c", "major": 7, "minor": 200, "access": "r"},
                {"allow": true, "type": "c", "major": 7, "minor": 1, "access": "rw"},
                    {"allow": false, "type": "c", "major": 7, "minor": 1, "access": "r"},
                ]),
            );
        // Neither number has a driver: where the rules let it through, open says "no such device".
        let script = "mknod /mnt/a c 7 200; mknod /mnt/b c 7 1; for try in '< /mnt/a' '< /mnt/b' '> /mnt/a'; do \
                      eval \"(: $try) 2>&1\" | grep -c 'not permitted'; done; true";
        assert_eq!(stage.prints(&mut bundle, script), "0\n1\n1", "{view:?}");
    }
}

#[test]
fn devices_of_the_config_are_made_with_mode_and_owner() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle
        .set("/linux/devices", json!([
            {"path": "/dev/extra", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 3, "gid": 4},
            {"path": "/dev/sub/block", "type": "b", "major": 7, "minor": 9},
            {"path": "/dev/pipe", "type": "p", "fileMode": 0o600},
            {"path": "/dev/tty", "type": "c", "major": 5, "minor": 0, "fileMode": 0o666, "uid": 0, "gid": 0},
        ]))
        .push("/linux/resources/devices", json!({"allow": true, "type": "c", "major": 1, "minor": 5, "access": "rwm"}));
    let text = stage.prints(
        &mut bundle,
        "stat -c '%F %t:%T %a %u:%g' /dev/extra /dev/sub/block /dev/pipe",
    );
    assert_eq!(
        text,
        "character special file 1:5 640 3:4\nblock special file 7:9 666 0:0\nfifo 0:0 600 0:0"
    );
}

#[test]
fn the_hosts_dev_is_left_as_it_is() {
    let stage = stage!();
    let dev = stage.path("dev");
    std::fs::create_dir(&dev).unwrap();
    std::fs::write(dev.join("mine"), "").unwrap();
    Outcome::of(
        std::process::Command::new("mknod")
            .arg(dev.join("null"))
            .args(["c", "1", "3"]),
    )
    .ok();
    let mut bundle = stage.bundle();
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    bundle.bind(&dev, "/dev", &["rbind"]);
    assert_eq!(stage.prints(&mut bundle, "ls /dev"), "mine\nnull");
    assert_eq!(std::fs::read_dir(&dev).unwrap().count(), 2);
}

#[test]
fn a_masked_file_is_no_way_to_change_the_hosts_null_device() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.set("/linux/maskedPaths", json!(["/etc/passwd", "/proc/keys"]));
    for file in ["/etc/passwd", "/proc/keys"] {
        // The mode that it has: all of the machine needs it.
        let script =
            format!("chmod 0666 {file} 2>/dev/null || echo refused; echo x > {file}; cat {file}");
        assert_eq!(stage.prints(&mut bundle, &script), "refused", "{file}");
    }
}

#[test]
fn a_device_in_a_user_namespace_is_the_hosts() {
    let stage = stage!();
    if !std::path::Path::new("/dev/zero").exists() {
        skip!("no /dev/zero on the host");
    }
    let mut bundle = stage.bundle();
    bundle.user_namespace(100_000, 65_536);
    assert_eq!(
        stage.prints(
            &mut bundle,
            "stat -c '%t:%T' /dev/zero; head -c 2 /dev/zero | wc -c"
        ),
        "1:5\n2"
    );
}
