//! What a container may do, in Docker's words, which are Podman's too: users, capabilities, seccomp, paths, devices.

use crate::boxes::Boxes;

pub fn users_and_groups(boxes: &Boxes) {
    boxes
        .runs(&["--user", "user", "--group-add", "4321"], "id; pwd")
        .ok()
        .prints("uid=1000(user) gid=1000")
        .prints("4321");
    boxes
        .runs(&["--user", "2000:3000", "--workdir", "/home"], "id; pwd")
        .ok()
        .prints("uid=2000")
        .prints("/home\n");
    let refused = boxes.runs(&["--user", "nobody-here"], "id");
    assert!(refused.code != 0, "{refused}");
}

pub fn capabilities_are_added_and_dropped(boxes: &Boxes) {
    boxes
        .runs(
            &["--cap-add", "SYS_ADMIN"],
            "mount -t tmpfs t /mnt && echo mounted",
        )
        .ok()
        .prints("mounted");
    boxes
        .runs(&[], "mount -t tmpfs t /mnt 2>&1 || echo refused")
        .ok()
        .prints("refused");
    boxes
        .runs(
            &["--cap-drop", "ALL"],
            "grep Cap /proc/self/status; chown 1:1 /tmp 2>/dev/null || echo refused",
        )
        .ok()
        .prints("CapEff:\t0000000000000000")
        .prints("refused");
    boxes
        .runs(
            &["--cap-drop", "ALL", "--cap-add", "CHOWN"],
            "grep CapBnd /proc/self/status",
        )
        .ok()
        .prints("CapBnd:\t0000000000000001");
}

pub fn a_read_only_root_with_a_tmpfs(boxes: &Boxes) {
    let options = [
        "--read-only",
        "--tmpfs",
        "/scratch:size=1m,mode=1700,noexec",
    ];
    let script = "touch /new 2>&1; grep ' /scratch ' /proc/self/mountinfo; stat -c %a /scratch; head -c 2m /dev/zero >/scratch/big; ls -l /scratch/big";
    boxes
        .runs(&options, script)
        .ok()
        .prints("Read-only file system")
        .prints("noexec")
        .prints("1700")
        .prints("1048576");
}

pub fn no_new_privileges(boxes: &Boxes) {
    boxes
        .runs(
            &["--security-opt", "no-new-privileges"],
            "grep NoNewPrivs /proc/self/status",
        )
        .ok()
        .prints("NoNewPrivs:\t1");
    boxes
        .runs(&[], "grep NoNewPrivs /proc/self/status")
        .ok()
        .prints("NoNewPrivs:\t0");
}

pub fn seccomp_profiles_of_the_engine_and_of_the_user(boxes: &Boxes) {
    boxes
        .runs(&[], "grep Seccomp: /proc/self/status")
        .ok()
        .prints("Seccomp:\t2");
    if !boxes.is_podman() {
        boxes
            .runs(&[], "unshare -U true 2>&1")
            .exits(1)
            .prints("Operation not permitted");
    }
    boxes
        .runs(
            &["--security-opt", "seccomp=unconfined"],
            "grep Seccomp: /proc/self/status",
        )
        .ok()
        .prints("Seccomp:\t0");
    let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":71}]}"#;
    std::fs::write("/run/profile.json", profile).expect("a profile");
    boxes
        .runs(
            &["--security-opt", "seccomp=/run/profile.json"],
            "mkdir /made 2>&1",
        )
        .exits(1)
        .prints("Protocol error");
}

pub fn masked_paths_are_masked(boxes: &Boxes) {
    let script =
        "wc -c </proc/keys; ls /proc/acpi /sys/firmware | wc -l; echo 1 >/proc/sys/kernel/panic";
    let outcome = boxes.runs(&[], script);
    assert!(
        outcome.code != 0 && outcome.stdout.starts_with("0\n"),
        "{outcome}"
    );
    boxes
        .runs(
            &["--security-opt", "systempaths=unconfined"],
            "grep -c ' /proc/' /proc/self/mountinfo",
        )
        .exits(1)
        .prints("0\n");
}

pub fn a_device_is_given(boxes: &Boxes) {
    let script = "head -c 1 /dev/given >/dev/null && echo read; echo x >/dev/given || echo refused; ls /dev/fuse";
    boxes
        .runs(&["--device", "/dev/full:/dev/given:r"], script)
        .exits(1)
        .prints("read")
        .prints("refused");
}

pub fn privileged(boxes: &Boxes) {
    boxes
        .runs(&["--privileged"], "mount -t tmpfs t /mnt && echo mounted")
        .ok()
        .prints("mounted");
}
