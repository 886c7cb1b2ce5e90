//! Promise: of the file system side of config.json an ordinary user has all that the kernel allows it, and of the
//! host's cgroups nothing.

use serde_json::json;

use crate::harness::{Bundle, Stage, user};
use crate::user_stage;

/// The same with a root of the user's own.
fn own(stage: &Stage) -> Bundle {
    let mut bundle = stage.own_bundle();
    bundle
        .remove("/linux/cgroupsPath")
        .set("/root/readonly", json!(false));
    user::owns(&bundle.folder);
    bundle
}

#[test]
fn s24_without_a_cgroup_namespace_the_hosts_cgroups_are_read_only() {
    let stage = user_stage!();
    let cgroup = json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid"]});
    for host_network in [false, true] {
        let mut bundle = stage.plain_bundle();
        let mounts = bundle.config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["destination"] != "/sys/fs/cgroup");
        if host_network {
            // Then it can't have a sysfs of its own, and shows the host's with all that is below.
            bundle.without_namespace("network");
        }
        bundle.push("/mounts", cgroup.clone());
        bundle.without_namespace("cgroup");
        let script = "find /sys/fs/cgroup -maxdepth 2 -type d | while read d; do mkdir $d/made 2>/dev/null && echo made $d/made && rmdir $d/made; done; \
                      grep ' /sys/fs/cgroup' /proc/self/mountinfo | cut -d ' ' -f 6 | cut -d , -f 1 | sort -u";
        assert_eq!(stage.prints(&mut bundle, script), "ro", "{host_network}");
    }
}

#[test]
fn mounts_masks_devices_and_a_root_of_its_own() {
    let stage = user_stage!();
    let source = stage.path("source");
    std::fs::create_dir_all(source.join("sub")).unwrap();
    std::fs::write(source.join("file"), "text\n").unwrap();
    user::owns(&source);
    let mut bundle = own(&stage);
    bundle
        .bind(&source, "/made/deep", &["rw"])
        .bind(
            &source,
            "/locked",
            &["rbind", "rro", "nosuid", "nodev", "noexec"],
        )
        .bind(&source.join("file"), "/made/file", &["ro"])
        .mount(
            "/mnt",
            "tmpfs",
            "tmpfs",
            &["size=64k", "mode=1770", "noexec"],
        )
        .mount("/made/deep/sub", "tmpfs", "tmpfs", &["ro"])
        .set(
            "/linux/maskedPaths",
            json!(["/proc/keys", "/etc", "/sys/firmware", "/no/such"]),
        )
        .set("/linux/readonlyPaths", json!(["/proc/sys", "/home"]))
        .set("/linux/rootfsPropagation", json!("rslave"))
        .set("/linux/sysctl", json!({"kernel.shmmax": "12345678"}))
        .set(
            "/linux/devices",
            json!([
                {"path": "/dev/again", "type": "p", "fileMode": 0o640, "uid": 1, "gid": 2},
                {"path": "/dev/zero", "type": "c", "major": 1, "minor": 5},
            ]),
        );
    let script = "cat /made/deep/file /made/file; touch /made/deep/new && echo wrote; touch /locked/x 2>/dev/null && echo wrong; \
                  (echo x > /made/file) 2>/dev/null && echo wrong; stat -c '%a %u' /mnt; touch /made/deep/sub/x 2>/dev/null && echo wrong; \
                  ls /etc | wc -l; wc -c < /proc/keys; touch /home/x 2>/dev/null && echo wrong; cat /proc/sys/kernel/shmmax; \
                  stat -c '%F %a %u:%g' /dev/again; head -c 2 /dev/zero | wc -c; readlink /dev/ptmx; touch /x && echo own root";
    assert_eq!(
        stage.prints(&mut bundle, script),
        "text\ntext\nwrote\n1770 0\n0\n0\n12345678\nfifo 640 1:2\n2\npts/ptmx\nown root"
    );
    assert!(source.join("new").exists() && bundle.folder.join("rootfs/x").exists());
}

#[test]
fn a_root_without_pivot_and_a_read_only_dev() {
    let stage = user_stage!();
    let mut bundle = stage.plain_bundle();
    bundle.push("/mounts/1/options", json!("ro"));
    bundle.sh("ls / | head -n 1; touch /dev/x 2>/dev/null || echo read-only; touch /x 2>/dev/null || echo read-only; \
               echo x > /dev/null && echo done");
    let with = stage.run(&bundle).ok();
    let without = stage.run_with(&bundle, &["--no-pivot"]).ok();
    assert_eq!(with.stdout, without.stdout);
    assert_eq!(with.line(), "bin\nread-only\nread-only\ndone");
}

#[test]
fn what_takes_privilege_says_so() {
    let stage = user_stage!();
    let mut bundle = stage.plain_bundle();
    bundle.set(
        "/linux/devices",
        json!([{"path": "/dev/mem2", "type": "c", "major": 1, "minor": 1}]),
    );
    let words = ["/linux/devices/0", "the host has no such node"];
    stage.run(&bundle).refuses(&words);
    let mut bundle = stage.plain_bundle();
    bundle.mount("/mnt", "ext4", "/dev/sda1", &[]);
    stage
        .run(&bundle)
        .refuses(&["/mounts/7", "operation not permitted"]);
}
