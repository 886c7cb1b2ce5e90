//! Promise: without a mount namespace the root is entered by chroot and nothing is mounted on the host;
//! what needs a mount is refused.

use serde_json::json;

use crate::harness::{Bundle, Stage};
use crate::stage;

/// A configuration that asks for no mount.
fn bare(stage: &Stage) -> Bundle {
    let mut bundle = stage.own_bundle();
    bundle
        .without_namespace("mount")
        .set("/mounts", json!([]))
        .set("/root/readonly", json!(false))
        .set("/linux/maskedPaths", json!([]))
        .set("/linux/readonlyPaths", json!([]));
    bundle
}

#[test]
fn the_root_is_entered_and_the_hosts_mounts_stay_as_they_are() {
    let stage = stage!();
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = mounts();
    let mut bundle = bare(&stage);
    std::fs::write(bundle.folder.join("rootfs/inside"), "inside\n").unwrap();
    let script = "cat /inside; ls -d /../inside; echo x > /dev/null; ls /proc | wc -l; id -u; pwd";
    bundle.set("/process/cwd", json!("/made/here"));
    let text = stage.prints(&mut bundle, script);
    assert_eq!(text, "inside\n/../inside\n0\n0\n/made/here");
    let container = stage.create(bundle.sleeps());
    container.start().ok();
    assert_eq!(mounts(), before);
    let ours = std::fs::read_link("/proc/self/ns/mnt").unwrap();
    let theirs = std::fs::read_link(format!("/proc/{}/ns/mnt", container.pid())).unwrap();
    assert_eq!(ours, theirs);
    container.delete_force().ok();
    assert_eq!(mounts(), before);
}

#[test]
fn exec_enters_the_same_root() {
    let stage = stage!();
    let mut bundle = bare(&stage);
    std::fs::write(bundle.folder.join("rootfs/inside"), "inside\n").unwrap();
    let container = stage.create(bundle.sleeps());
    container.start().ok();
    assert_eq!(
        container.sh("cat /inside; ls -d /../inside; pwd"),
        "inside\n/../inside\n/"
    );
    container.exec(&["/bin/ls", "/work"]).exits(1);
}

/// A pointer, and what asks for it.
type Ask = (&'static str, fn(&mut Bundle));

#[test]
fn what_needs_a_mount_is_refused_where_it_is_asked_for() {
    let stage = stage!();
    let asks: [Ask; 5] = [
        ("/mounts", |bundle| {
            bundle.mount("/mnt", "tmpfs", "tmpfs", &[]);
        }),
        ("/root/readonly", |bundle| {
            bundle.set("/root/readonly", json!(true));
        }),
        ("/linux/rootfsPropagation", |bundle| {
            bundle.set("/linux/rootfsPropagation", json!("private"));
        }),
        ("/process/terminal", |bundle| {
            bundle.set("/process/terminal", json!(true));
        }),
        ("/linux/namespaces", |bundle| {
            bundle.user_namespace(100_000, 65_536);
        }),
    ];
    for (pointer, ask) in asks {
        let mut bundle = bare(&stage);
        ask(&mut bundle);
        let explained = bundle.folder.to_string_lossy().into_owned();
        bundle.write("explained");
        let refused = stage.call(&["explain", &explained]);
        refused.refuses(&[pointer, "a mount namespace"]);
    }
}
