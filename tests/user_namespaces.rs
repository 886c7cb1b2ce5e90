//! Promise: in a user namespace, ids are those of the configured maps and nothing of the host's is reachable.

use std::os::unix::fs::MetadataExt;

use serde_json::json;

use crate::harness::Outcome;
use crate::stage;

#[test]
fn root_in_a_user_namespace_is_the_mapped_user_outside() {
    let stage = stage!();
    let mut bundle = stage.own_bundle();
    Outcome::of(
        std::process::Command::new("chown")
            .arg("-R")
            .arg("100000:200000")
            .arg(bundle.folder.join("rootfs")),
    )
    .ok();
    bundle
        .user_namespace(100_000, 65_536)
        .set("/linux/gidMappings/0/hostID", json!(200_000))
        .set("/root/readonly", json!(false));
    let text = stage.prints(&mut bundle, "id -u; cat /proc/self/uid_map /proc/self/gid_map | tr -s ' '; touch /made; stat -c '%u %g' /made");
    assert_eq!(text, "0\n 0 100000 65536\n 0 200000 65536\n0 0");
    let made = std::fs::metadata(bundle.folder.join("rootfs/made")).unwrap();
    assert_eq!((made.uid(), made.gid()), (100_000, 200_000));
}

#[test]
fn a_user_namespace_has_devices_mounts_and_no_power_over_the_host() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.user_namespace(100_000, 65_536);
    let script = "echo x > /dev/null && head -c 4 /dev/zero | wc -c; ls /proc/1 > /dev/null && echo proc; mount -t tmpfs x /tmp 2>/dev/null || echo denied; \
                  hostname; mknod /dev/shm/mem c 1 1 2>/dev/null || echo no nodes; ls -d /sys/class /dev/pts /dev/mqueue";
    let text = stage.prints(&mut bundle, script);
    assert_eq!(
        text,
        "4\nproc\ndenied\npromises\nno nodes\n/dev/mqueue\n/dev/pts\n/sys/class"
    );
}

#[test]
fn create_start_exec_and_delete_work_in_a_user_namespace() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.user_namespace(100_000, 65_536).sleeps();
    let container = stage.create(&bundle);
    container.start().ok();
    assert_eq!(
        container
            .sh("id -u; readlink /proc/self/ns/user")
            .split_once('\n')
            .map(|(uid, ns)| (uid.to_owned(), ns.to_owned())),
        {
            let namespace =
                std::fs::read_link(format!("/proc/{}/ns/user", container.pid())).unwrap();
            Some(("0".to_owned(), namespace.to_string_lossy().into_owned()))
        }
    );
    assert_eq!(
        container
            .exec_with(&["--user", "1000:1000"], &["id", "-u"])
            .ok()
            .line(),
        "1000"
    );
    container.ends_by(&["TERM"]);
    container.delete().ok();
}

#[test]
fn a_user_namespace_is_joined_by_path() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.user_namespace(100_000, 65_536).sleeps();
    let first = stage.create(&bundle);
    let path = format!("/proc/{}/ns/user", first.pid());
    let mut bundle = stage.bundle();
    bundle.namespace("user", Some(&path));
    assert_eq!(
        stage.prints(&mut bundle, "cat /proc/self/uid_map | tr -s ' '"),
        "0 100000 65536"
    );
    // Maps beside a path are fine when they say the same, as containerd writes them.
    bundle
        .user_namespace(100_000, 65_536)
        .namespace("user", Some(&path));
    assert_eq!(stage.prints(&mut bundle, "id -u"), "0");
    bundle.set("/linux/uidMappings/0/hostID", json!(100_001));
    stage.try_create(&bundle).refuses(&["Mappings"]);
}

#[test]
fn a_user_namespace_without_maps_gets_every_id_and_a_notice() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle
        .namespace("user", None)
        .sh("cat /proc/self/uid_map | tr -s ' '");
    let outcome = stage.run(&bundle).ok();
    assert_eq!(outcome.line(), "0 0 4294967295");
    assert!(
        outcome.stderr.contains("/linux/uidMappings")
            || outcome.stderr.contains("/linux/namespaces"),
        "no notice: {outcome}"
    );
}
