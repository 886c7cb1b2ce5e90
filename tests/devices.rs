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
    for view in View::versions() {
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
fn s17_dev_mem_is_denied_without_any_rule() {
    for view in View::versions() {
        let stage = stage!(view);
        let mut bundle = stage.bundle();
        bundle
            // Without the latter the kernel refuses /dev/mem itself.
            .capabilities(&["CAP_MKNOD", "CAP_SYS_RAWIO"])
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
    for view in View::versions() {
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
fn a_default_device_that_the_config_describes_is_opened_as_its_own_rules_say() {
    for view in View::versions() {
        for (user, path) in [
            (false, "/dev/full"),
            (false, "/dev//full"),
            (true, "/dev/full"),
        ] {
            let stage = stage!(view);
            let mut bundle = stage.bundle();
            bundle
                .set(
                    "/linux/devices",
                    json!([{"path": path, "type": "c", "major": 1, "minor": 7, "fileMode": 0o666}]),
                )
                .set(
                    "/linux/resources/devices",
                    json!([
                        {"allow": false, "access": "rwm"},
                        {"allow": true, "type": "c", "major": 1, "minor": 7, "access": "r"},
                    ]),
                );
            if user {
                bundle.user_namespace(100_000, 65_536);
            }
            // The file opens before the kernel has no room for what is written to it.
            let script = "(: < /dev/full) && echo read; (: > /dev/full) 2>&1 | grep -o 'not permitted'; \
                          : > /dev/zero && echo others";
            assert_eq!(
                stage.prints(&mut bundle, script),
                "read\nnot permitted\nothers",
                "{view:?} {path} {user}"
            );
        }
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

/// A node on the host.
fn node(place: &std::path::Path, args: &[&str]) {
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    Outcome::of(std::process::Command::new("mknod").arg(place).args(args)).ok();
}

#[test]
fn a_device_of_any_kind_lies_where_the_config_says() {
    let stage = stage!();
    let mut bundle = stage.own_bundle();
    // What is made in this folder would get its group.
    let folder = bundle.folder.join("rootfs/var/deep");
    std::fs::create_dir_all(&folder).unwrap();
    for change in [["chgrp", "77"], ["chmod", "2755"]] {
        Outcome::of(
            std::process::Command::new(change[0])
                .arg(change[1])
                .arg(&folder),
        )
        .ok();
    }
    bundle.set("/root/readonly", json!(false)).set(
        "/linux/devices",
        json!([
            {"path": "/var/deep/a", "type": "c", "major": 1, "minor": 5, "fileMode": 0o2640, "uid": 3, "gid": 4},
            {"path": "/var/deep/b", "type": "b", "major": 7, "minor": 9, "fileMode": 0o060_604},
            {"path": "/var/new/er/c", "type": "u", "major": 1, "minor": 7},
            {"path": "/var/deep/d", "type": "p", "fileMode": 0, "uid": 1000, "gid": 1000},
            {"path": "/e", "type": "c", "major": 4095, "minor": 1048575},
            {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600, "gid": 9},
        ]),
    );
    let script = "stat -c '%n %F %t:%T %a %u:%g' /var/deep/* /var/new/er/c /e /dev/null";
    assert_eq!(
        stage.prints(&mut bundle, script),
        "/var/deep/a character special file 1:5 2640 3:4\n\
         /var/deep/b block special file 7:9 604 0:0\n\
         /var/deep/d fifo 0:0 0 1000:1000\n\
         /var/new/er/c character special file 1:7 666 0:0\n\
         /e character special file fff:fffff 666 0:0\n\
         /dev/null character special file 1:3 600 0:9"
    );
}

#[test]
fn b26_what_is_there_is_the_device_with_mode_and_owner_or_an_error() {
    let stage = stage!();
    let mut bundle = stage.own_bundle();
    let rootfs = bundle.folder.join("rootfs");
    let asked = json!([{"path": "/node", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 3, "gid": 4}]);
    bundle
        .set("/root/readonly", json!(false))
        .set("/linux/devices", asked);
    let place = rootfs.join("node");
    node(&place, &["-m", "711", "c", "1", "5"]);
    let script = "stat -c '%t:%T %a %u:%g' /node";
    assert_eq!(stage.prints(&mut bundle, script), "1:5 640 3:4");
    for make in [
        "mknod $1 c 1 3",
        "mknod $1 b 1 5",
        "mkfifo $1",
        "touch $1",
        "ln -s /dev/zero $1",
    ] {
        std::fs::remove_file(&place).unwrap();
        let mut shell = std::process::Command::new("sh");
        Outcome::of(shell.args(["-c", make, "sh"]).arg(&place)).ok();
        let seen = || {
            let mut stat = std::process::Command::new("stat");
            Outcome::of(stat.args(["-c", "%F %t:%T %a %u:%g %s %Z"]).arg(&place)).ok()
        };
        let before = seen().stdout;
        stage
            .run(&bundle)
            .refuses(&["/linux/devices/0", "node", "is not this device"]);
        assert_eq!(before, seen().stdout, "{make}");
    }
    bundle.set(
        "/linux/devices",
        json!([{"path": "/dev/ptmx", "type": "c", "major": 1, "minor": 5}]),
    );
    stage.run(&bundle).refuses(&["/linux/devices/0", "5:2"]);
}

#[test]
fn b26_a_node_in_a_bound_directory_stays_as_it_is() {
    let stage = stage!();
    let shared = stage.path("shared");
    let there = shared.join("there");
    node(&there, &["-m", "600", "c", "1", "5"]);
    let mut bundle = stage.own_bundle();
    bundle.bind(&shared, "/srv/shared", &["rbind"]);
    bundle.set("/root/readonly", json!(false)).set(
        "/linux/devices",
        json!([
            {"path": "/srv/shared/there", "type": "c", "major": 1, "minor": 5, "fileMode": 0o666, "uid": 7, "gid": 8},
            {"path": "/srv/shared/new", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 7, "gid": 8},
        ]),
    );
    let script = "stat -c '%n %t:%T %a %u:%g' /srv/shared/*";
    assert_eq!(
        stage.prints(&mut bundle, script),
        "/srv/shared/new 1:3 640 7:8\n/srv/shared/there 1:5 600 0:0"
    );
}

#[test]
fn a_bound_dev_has_to_hold_the_devices_of_the_config_and_stays_as_it_is() {
    let stage = stage!();
    let dev = stage.path("dev");
    node(&dev.join("null"), &["-m", "622", "c", "1", "3"]);
    node(&dev.join("sub/zero"), &["c", "1", "5"]);
    let mut bundle = stage.own_bundle();
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    bundle.bind(&dev, "/dev", &["rbind"]);
    bundle.set("/root/readonly", json!(false)).set(
        "/linux/devices",
        json!([
            {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600, "uid": 7},
            {"path": "/dev/sub/zero", "type": "c", "major": 1, "minor": 5},
            {"path": "/full", "type": "c", "major": 1, "minor": 7},
        ]),
    );
    let script = "stat -c '%n %t:%T %a %u' /dev/null /full";
    bundle.sh(script);
    let outcome = stage.run(&bundle).ok();
    assert_eq!(outcome.line(), "/dev/null 1:3 622 0\n/full 1:7 666 0");
    assert!(
        outcome.stderr.contains("null: shown as on the host"),
        "{outcome}"
    );
    for (minor, why) in [(5, "is not this device"), (3, "no such file")] {
        bundle.set("/linux/devices/0/minor", json!(minor));
        stage
            .run(&bundle)
            .refuses(&["/linux/devices/0", "node null", why]);
        let _ = std::fs::remove_file(dev.join("null"));
    }
    let left: Vec<_> = std::fs::read_dir(&dev)
        .unwrap()
        .flatten()
        .map(|e| e.file_name())
        .collect();
    assert_eq!(left, ["sub"], "something was made on the host");
}

#[test]
fn a_dev_that_is_read_only_is_filled_first() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.push("/mounts/1/options", json!("ro")).set(
        "/linux/devices",
        json!([{"path": "/dev/extra", "type": "c", "major": 1, "minor": 5}]),
    );
    let script = "touch /dev/x 2>&1 | grep -o 'Read-only.*'; stat -c %t:%T /dev/extra; readlink /dev/ptmx; echo x > /dev/null && echo written";
    let expected = "Read-only file system\n1:5\npts/ptmx\nwritten";
    assert_eq!(stage.prints(&mut bundle, script), expected);
}

#[test]
fn the_hosts_devices_can_not_be_changed_by_root_of_a_user_namespace() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    // Root inside is root outside: it owns the host's nodes.
    bundle
        .user_namespace(0, 65_536)
        .capabilities(&["CAP_CHOWN", "CAP_FOWNER", "CAP_DAC_OVERRIDE"]);
    for device in ["null", "zero", "full", "random", "urandom", "tty"] {
        // The mode and the owner that it has: all of the machine needs it.
        let script = format!(
            "[ $(stat -c %u /dev/{device}) = 0 ] || echo not mine; chmod 0666 /dev/{device} 2>/dev/null && echo changed; \
             chown 0:0 /dev/{device} 2>/dev/null && echo changed; touch -c /dev/{device} 2>/dev/null && echo touched; echo done"
        );
        assert_eq!(stage.prints(&mut bundle, &script), "done", "{device}");
    }
    let text = stage.prints(&mut bundle, "echo x > /dev/null && echo written");
    assert_eq!(text, "written");
}

#[test]
fn a_device_in_a_user_namespace_is_the_one_that_was_asked_for() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.user_namespace(100_000, 65_536).set(
        "/linux/devices",
        json!([{"path": "/dev/zero", "type": "c", "major": 1, "minor": 7}]),
    );
    let words = ["/linux/devices/0", "node zero", "is not this device"];
    stage.run(&bundle).refuses(&words);
    bundle.set("/linux/devices/0/path", json!("/dev/no-such-node"));
    let words = ["/linux/devices/0", "the host has no such node"];
    stage.run(&bundle).refuses(&words);
    bundle.set(
        "/linux/devices/0",
        json!({"path": "/dev/a/pipe", "type": "p", "fileMode": 0o600, "uid": 5, "gid": 6}),
    );
    let script = "stat -c '%F %a %u:%g' /dev/a/pipe";
    assert_eq!(stage.prints(&mut bundle, script), "fifo 600 5:6");
}

#[test]
fn a_rule_without_numbers_is_for_all_of_them() {
    for view in View::versions() {
        let stage = stage!(view);
        let mut bundle = stage.bundle();
        bundle
            .capabilities(&["CAP_MKNOD", "CAP_DAC_OVERRIDE"])
            .mount("/mnt", "tmpfs", "tmpfs", &["mode=777"])
            .set(
                "/linux/resources/devices",
                json!([
                    {"allow": false, "access": "rwm"},
                    {"allow": true, "type": "c", "access": "m"},
                    {"allow": true, "type": "c", "major": 7, "access": "r"},
                    {"allow": true, "type": "b", "minor": 9, "access": "r"},
                ]),
            );
        // None of these numbers has a driver: where the rules let it through, open says so.
        // None of these numbers has a driver: where the rules let it through, open says so.
        let script = "mknod /mnt/a c 7 200; mknod /mnt/b c 99 1; mknod /mnt/c b 6 9; mknod /mnt/d b 6 8; \
                      for try in '< /mnt/a' '> /mnt/a' '< /mnt/b' '< /mnt/c' '< /mnt/d'; do \
                      eval \"(: $try) 2>&1\" | grep -c 'not permitted'; done; true";
        let seen = stage.prints(&mut bundle, script);
        assert_eq!(seen, "0\n1\n1\n0\n1", "{view:?}");
        bundle.set(
            "/linux/resources/devices",
            json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "a", "access": "rwm"}]),
        );
        let script = "mknod /mnt/a c 7 200; mknod /mnt/c b 259 9; (: < /mnt/a) 2>&1 | grep -c 'not permitted'; (: > /mnt/c) 2>&1 | grep -c 'not permitted'; true";
        assert_eq!(stage.prints(&mut bundle, script), "0\n0", "{view:?}");
    }
}
