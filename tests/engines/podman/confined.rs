//! What a container has of its own: networks, ids, cgroups, and what systemd needs inside.

use std::path::Path;

use crate::boxes::{Boxes, IMAGE};
use crate::harness::user;

pub(super) fn a_network_with_a_name_gives_addresses(podman: &Boxes) {
    let subnet = ["--subnet", "10.99.7.0/24", "named"];
    podman
        .call(&[&["network", "create"], &subnet[..]].concat())
        .ok();
    {
        let script = "mkdir /www; echo content >/www/page; echo ready; exec httpd -f -p 80 -h /www";
        let server = podman.running(&["--network", "named", "--ip", "10.99.7.9"], script);
        server.says("ready");
        let script = "wget -q -O - http://10.99.7.9/page; ip -o -4 addr show dev eth0";
        let outcome = podman.runs(&["--network", "named"], script).ok();
        outcome.prints("content").prints(" 10.99.7.");
    }
    podman.call(&["network", "rm", "named"]).ok();
}

/// Debian's Podman takes it for a network's name.
pub(super) fn a_network_of_pasta(podman: &Boxes) {
    podman
        .runs(&["--network", "pasta"], "cat /proc/net/route")
        .ok()
        .prints("00000000");
}

pub(super) fn a_user_namespace_of_given_ids(podman: &Boxes) {
    let options = [
        "--uidmap",
        "0:1:1000",
        "--gidmap",
        "0:1:1000",
        "--user",
        "33:44",
        "--network",
        "none",
    ];
    let script = "cat /proc/self/uid_map /proc/self/gid_map; id; touch /tmp/x && ls -n /tmp/x";
    let outcome = podman.runs(&options, script).ok();
    assert_eq!(
        outcome.stdout.split_whitespace().nth(2),
        Some("1000"),
        "{outcome}"
    );
    outcome.prints("uid=33").prints("33       44");
}

pub(super) fn a_user_namespace_of_free_ids(podman: &Boxes) {
    let outcome = podman
        .runs(
            &["--userns", "auto:size=2000", "--network", "none"],
            "cat /proc/self/uid_map; id",
        )
        .ok();
    assert_eq!(
        outcome.stdout.split_whitespace().nth(2),
        Some("2000"),
        "{outcome}"
    );
    outcome.prints("uid=0");
}

pub(super) fn the_callers_own_id_is_kept(podman: &Boxes) {
    std::fs::create_dir_all("/run/theirs").expect("a folder");
    user::owns(Path::new("/run/theirs"));
    let options = ["--userns", "keep-id", "--volume", "/run/theirs:/theirs"];
    podman
        .runs(
            &options,
            "id -u; touch /theirs/file; stat -c %u /theirs/file",
        )
        .ok()
        .prints("54321\n54321\n");
}

pub(super) fn files_are_made_with_the_given_mask(podman: &Boxes) {
    let script = "touch /tmp/made; stat -c %a /tmp/made";
    let outcome = podman.runs(&["--umask", "0027"], script).ok();
    assert_eq!(outcome.stdout, "640\n");
}

pub(super) fn paths_are_masked_and_shown_by_name(podman: &Boxes) {
    let options = [
        "--security-opt=mask=/etc/passwd:/home",
        "--security-opt=unmask=/proc/sys:/proc/keys",
    ];
    let script = "wc -c </etc/passwd; ls /home | wc -l; grep -cE ' /proc/(sys|keys) ' /proc/self/mountinfo; grep -c ' /proc/timer_list ' /proc/self/mountinfo";
    let outcome = podman.runs(&options, script).ok();
    assert_eq!(outcome.stdout, "0\n0\n0\n1\n");
}

pub(super) fn mounts_of_every_kind_arrive(podman: &Boxes) {
    let below = podman.folder("below");
    std::fs::write(format!("{below}/file"), "below\n").expect("a file");
    let image = format!("type=image,src={IMAGE},dst=/image");
    let options = [
        "--mount",
        &image,
        "--mount",
        "type=devpts,dst=/terminals,mode=600",
        "--mount",
        "type=tmpfs,dst=/etc,noexec",
        "--volume",
        &format!("{below}:/over:O"),
    ];
    let script = "cat /image/etc/passwd; ls /terminals/ptmx; grep -c ' /etc .*noexec.* tmpfs ' /proc/self/mountinfo; cat /etc/passwd >/dev/null && echo copied; cat /over/file; echo above >/over/new && cat /over/new";
    let outcome = podman.runs(&options, script).ok();
    let outcome = outcome.prints("root:").prints("/terminals/ptmx\n1\n");
    outcome.prints("copied\nbelow\nabove\n");
    assert!(!std::path::Path::new(&below).join("new").exists());
}

/// File systems of its own to write to.
pub(super) fn what_systemd_needs_inside(podman: &Boxes) {
    let script = "for folder in /run /tmp /var/log/journal; do grep -c \" $folder .* tmpfs \" /proc/self/mountinfo; done; echo $container";
    let outcome = podman.runs(&["--systemd", "always"], script).ok();
    assert_eq!(outcome.stdout, "1\n1\n1\npodman\n", "{outcome}");
}

pub(super) fn without_cgroups(podman: &Boxes) {
    let own = std::fs::read_to_string("/proc/self/cgroup").expect("cgroups");
    let outcome = podman
        .runs(
            &["--cgroups", "disabled", "--cgroupns", "host"],
            "cat /proc/self/cgroup; exit 4",
        )
        .exits(4);
    let memory = |text: &str| {
        text.lines()
            .find(|line| line.contains(":memory:"))
            .map(str::to_owned)
    };
    assert_eq!(memory(&outcome.stdout), memory(&own), "{outcome}");
}
