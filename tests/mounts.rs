//! Promise: the root filesystem and every mount are as config.json asks, and no path leads out of the root.

use std::path::Path;

use serde_json::json;

use crate::harness::{Bundle, Outcome, Stage};
use crate::stage;

/// The fields of a mount in the container: options, file system, source, super options.
fn mount_of<'a>(mountinfo: &'a str, destination: &str) -> Vec<&'a str> {
    let line = mountinfo
        .lines()
        .rfind(|line| line.split(' ').nth(4) == Some(destination));
    let line = line.unwrap_or_else(|| panic!("nothing mounted on {destination}:\n{mountinfo}"));
    let (left, right) = line.split_once(" - ").unwrap();
    left.split(' ')
        .skip(5)
        .take(1)
        .chain(right.split(' '))
        .collect()
}

fn has(options: &str, wanted: &str) -> bool {
    options.split(',').any(|option| option == wanted)
}

#[test]
fn the_mounts_of_runc_spec_are_there_with_their_options() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    let text = stage.prints(&mut bundle, "cat /proc/self/mountinfo");
    for (destination, kind, options) in [
        ("/proc", "proc", &["rw"][..]),
        ("/dev", "tmpfs", &["rw", "nosuid"]),
        ("/dev/pts", "devpts", &["rw", "nosuid", "noexec"]),
        ("/dev/shm", "tmpfs", &["rw", "nosuid", "nodev", "noexec"]),
        (
            "/dev/mqueue",
            "mqueue",
            &["rw", "nosuid", "nodev", "noexec"],
        ),
        ("/sys", "sysfs", &["ro", "nosuid", "nodev", "noexec"]),
    ] {
        let mount = mount_of(&text, destination);
        assert_eq!(mount[1], kind, "{destination}");
        assert!(
            options.iter().all(|option| has(mount[0], option)),
            "{destination}: {mount:?}"
        );
    }
    let shm = mount_of(&text, "/dev/shm");
    assert!(has(shm[3], "size=65536k"), "{shm:?}");
    let pts = mount_of(&text, "/dev/pts");
    assert!(
        has(pts[3], "gid=5") && has(pts[3], "mode=620") && has(pts[3], "ptmxmode=666"),
        "{pts:?}"
    );
    assert!(
        text.lines().next().unwrap().split(' ').nth(4) == Some("/"),
        "{text}"
    );
    assert!(
        !text.contains("/old_root") && !text.contains(" /tmp/t"),
        "{text}"
    );
}

#[test]
fn a_read_only_root_refuses_writes_and_a_writable_one_takes_them() {
    let stage = stage!();
    let mut bundle = stage.own_bundle();
    let script = "touch /made 2>&1; echo $?";
    assert!(
        stage
            .prints(&mut bundle, script)
            .ends_with("Read-only file system\n1")
    );
    bundle.set("/root/readonly", json!(false));
    assert_eq!(stage.prints(&mut bundle, script), "0");
    assert!(bundle.folder.join("rootfs/made").exists());
}

#[test]
fn a_relative_root_is_in_the_bundle_and_a_dot_is_the_bundle() {
    let stage = stage!();
    let mut bundle = stage.own_bundle();
    bundle.set("/root/path", json!("rootfs"));
    assert_eq!(stage.prints(&mut bundle, "echo fine"), "fine");
    let mut bundle = stage.own_bundle();
    let rootfs = bundle.folder.join("rootfs");
    bundle.folder = rootfs;
    bundle.set("/root/path", json!("."));
    assert_eq!(stage.prints(&mut bundle, "echo fine"), "fine");
}

#[test]
fn binds_show_folders_and_files_of_the_host() {
    let stage = stage!();
    let source = stage.path("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("file"), "text\n").unwrap();
    let mut bundle = stage.own_bundle();
    bundle
        .bind(&source, "/new/folder", &[])
        .bind(&source.join("file"), "/new/file", &["ro"])
        .bind(&source, "/locked", &["ro", "nosuid", "nodev", "noexec"]);
    let script = "cat /new/folder/file /new/file; echo more >> /new/folder/file; echo no 2>/dev/null >> /new/file; cat /proc/self/mountinfo";
    let text = stage.prints(&mut bundle, script);
    assert!(text.starts_with("text\ntext\n"), "{text}");
    assert!(has(mount_of(&text, "/new/file")[0], "ro"), "{text}");
    let locked = mount_of(&text, "/locked")[0];
    assert!(
        ["ro", "nosuid", "nodev", "noexec"]
            .iter()
            .all(|option| has(locked, option)),
        "{locked}"
    );
    assert_eq!(
        std::fs::read_to_string(source.join("file")).unwrap(),
        "text\nmore\n"
    );
}

#[test]
fn rbind_takes_what_is_mounted_below_and_bind_does_not() {
    let stage = stage!();
    let source = stage.path("source");
    std::fs::create_dir_all(source.join("below")).unwrap();
    let script = format!(
        "mount -t tmpfs below {0}/below && touch {0}/below/seen && exec $capsid run --bundle $1 $2",
        source.display()
    );
    for (kind, expected) in [("bind", ""), ("rbind", "seen")] {
        let mut bundle = stage.bundle();
        bundle
            .mount("/mnt", kind, &source.to_string_lossy(), &[kind, "ro"])
            .sh("ls /mnt/below");
        let id = stage.id();
        bundle.write(&id);
        let outcome = Outcome::of(stage.in_own_mounts(&script).arg(&bundle.folder).arg(&id));
        assert_eq!(outcome.ok().line(), expected, "{kind}");
    }
}

#[test]
fn recursive_options_reach_the_mounts_below() {
    let stage = stage!();
    let source = stage.path("source");
    std::fs::create_dir_all(source.join("below")).unwrap();
    let script = format!(
        "mount -t tmpfs below {0}/below && exec $capsid run --bundle $1 $2",
        source.display()
    );
    for (option, expected) in [("ro", "0"), ("rro", "1")] {
        let mut bundle = stage.bundle();
        bundle
            .mount(
                "/mnt",
                "bind",
                &source.to_string_lossy(),
                &["rbind", option],
            )
            .sh("touch /mnt/below/x 2>/dev/null; echo $?; touch /mnt/x 2>/dev/null && echo no");
        let id = stage.id();
        bundle.write(&id);
        let outcome = Outcome::of(stage.in_own_mounts(&script).arg(&bundle.folder).arg(&id));
        assert_eq!(outcome.stdout.trim(), expected, "{option}: {outcome}");
    }
}

#[test]
fn tmpfs_takes_its_data_and_its_flags() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.mount(
        "/mnt",
        "tmpfs",
        "tmpfs",
        &[
            "nosuid",
            "noexec",
            "mode=1750",
            "size=1m",
            "uid=7",
            "gid=8",
            "noatime",
        ],
    );
    let text = stage.prints(
        &mut bundle,
        "stat -c '%a %u %g' /mnt; cat /proc/self/mountinfo",
    );
    assert!(text.starts_with("1750 7 8\n"), "{text}");
    let mount = mount_of(&text, "/mnt");
    assert!(
        ["rw", "nosuid", "noexec", "noatime"]
            .iter()
            .all(|option| has(mount[0], option)),
        "{mount:?}"
    );
    assert!(has(mount[3], "size=1024k"), "{mount:?}");
}

#[test]
fn of_options_that_conflict_the_last_wins() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.mount("/mnt", "tmpfs", "tmpfs", &["ro", "noexec", "rw", "exec"]);
    let text = stage.prints(&mut bundle, "cat /proc/self/mountinfo");
    let mount = mount_of(&text, "/mnt");
    assert!(has(mount[0], "rw") && !has(mount[0], "noexec"), "{mount:?}");
}

#[test]
fn an_option_that_the_file_system_refuses_is_named() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.mount("/mnt", "tmpfs", "tmpfs", &["no-such-option=1"]);
    stage
        .try_create(&bundle)
        .refuses(&["/mounts/7", "no-such-option"]);
    let mut bundle = stage.bundle();
    bundle.mount("/mnt", "no-such-fs", "x", &[]);
    stage
        .try_create(&bundle)
        .refuses(&["/mounts/7", "no-such-fs"]);
    let mut bundle = stage.bundle();
    bundle.bind(Path::new("/no/such/source"), "/mnt", &[]);
    stage.try_create(&bundle).refuses(&[
        "/mounts/7",
        "/no/such/source",
        "no such file or directory",
    ]);
}

#[test]
fn a_file_system_of_the_container_that_is_full_is_named_with_its_place() {
    let stage = stage!();
    let source = stage.path("source");
    std::fs::create_dir(&source).unwrap();
    let full = "the tmpfs on /data (/mounts/7) is full";
    let small = || {
        let mut bundle = stage.bundle();
        bundle.mount("/data", "tmpfs", "tmpfs", &["nr_inodes=2"]);
        bundle
    };
    let mut bundle = small();
    bundle.bind(&source, "/data/deep/er", &[]);
    stage
        .try_create(&bundle)
        .refuses(&["/mounts/8", full, "no space left on device"]);
    let mut bundle = small();
    bundle.set("/process/cwd", json!("/data/deep/er"));
    stage.try_create(&bundle).refuses(&["/process/cwd", full]);
    let mut bundle = small();
    let null = json!({"path": "/data/deep/null", "type": "c", "major": 1, "minor": 3});
    bundle.push("/linux/devices", null);
    stage
        .try_create(&bundle)
        .refuses(&["/linux/devices/0", full]);
    let mut bundle = stage.bundle();
    bundle.push("/mounts/1/options", json!("nr_inodes=3"));
    stage
        .try_create(&bundle)
        .refuses(&["the tmpfs on /dev (/mounts/1) is full"]);
}

#[test]
fn mounts_happen_in_their_order_and_their_targets_are_made() {
    let stage = stage!();
    let mut bundle = stage.own_bundle();
    bundle
        .mount("/a", "tmpfs", "first", &[])
        .mount("/a/b/c", "tmpfs", "second", &[])
        .mount("/a/b/c", "tmpfs", "third", &["mode=700"]);
    let text = stage.prints(
        &mut bundle,
        "stat -c %a /a/b /a/b/c; cat /proc/self/mountinfo",
    );
    assert!(text.starts_with("755\n700\n"), "{text}");
    assert_eq!(mount_of(&text, "/a/b/c")[2], "third");
}

/// A root filesystem with links to a folder of the host, by an absolute and by a relative path.
fn with_links(stage: &Stage, decoy: &Path) -> Bundle {
    let bundle = stage.own_bundle();
    let rootfs = bundle.folder.join("rootfs");
    std::fs::create_dir(decoy).unwrap();
    let relative = format!("../../../../../..{}", decoy.display());
    std::os::unix::fs::symlink(decoy, rootfs.join("absolute")).unwrap();
    std::os::unix::fs::symlink(relative, rootfs.join("relative")).unwrap();
    bundle
}

#[test]
fn a_link_in_the_root_filesystem_stays_inside_it() {
    let stage = stage!();
    let decoy = stage.path("decoy");
    let mut bundle = with_links(&stage, &decoy);
    let inside = bundle.folder.join(format!("rootfs{}", decoy.display()));
    std::fs::create_dir_all(inside).unwrap();
    for name in ["absolute", "relative"] {
        bundle.mount(&format!("/{name}/target"), "tmpfs", "tmpfs", &[]);
    }
    let text = stage.prints(&mut bundle, "cat /proc/self/mountinfo");
    mount_of(&text, &format!("{}/target", decoy.display()));
    assert_eq!(
        std::fs::read_dir(&decoy).unwrap().count(),
        0,
        "something was made on the host"
    );
}

#[test]
fn what_a_link_leads_to_is_made_inside_and_never_on_the_host() {
    let stage = stage!();
    let decoy = stage.path("decoy");
    let mut bundle = with_links(&stage, &decoy);
    for name in ["absolute", "relative"] {
        bundle.mount(&format!("/{name}/target"), "tmpfs", "tmpfs", &[]);
    }
    let text = stage.prints(&mut bundle, "cat /proc/self/mountinfo");
    mount_of(&text, &format!("{}/target", decoy.display()));
    assert_eq!(
        std::fs::read_dir(&decoy).unwrap().count(),
        0,
        "something was made on the host"
    );
}

#[test]
fn masked_paths_are_empty_and_read_only_ones_refuse_writes() {
    let stage = stage!();
    let mut bundle = stage.own_bundle();
    let rootfs = bundle.folder.join("rootfs");
    std::fs::create_dir(rootfs.join("secrets")).unwrap();
    std::fs::write(rootfs.join("secrets/key"), "secret\n").unwrap();
    std::fs::write(rootfs.join("secret"), "secret\n").unwrap();
    bundle
        .set("/root/readonly", json!(false))
        .set(
            "/linux/maskedPaths",
            json!([
                "/secrets",
                "/secret",
                "/proc/kcore",
                "/no/such/path",
                "/secret"
            ]),
        )
        .set(
            "/linux/readonlyPaths",
            json!(["/home", "/proc/sys", "/no/such/path"]),
        );
    let script = "ls /secrets | wc -l; wc -c < /secret; touch /secrets/x 2>/dev/null && echo wrote; touch /home/x 2>/dev/null && echo wrote; \
                  echo 1 2>/dev/null > /proc/sys/vm/swappiness && echo wrote; touch /tmp/x && echo done; cat /proc/kcore | wc -c";
    assert_eq!(stage.prints(&mut bundle, script), "0\n0\ndone\n0");
}

#[test]
fn mounts_of_the_container_never_reach_the_host() {
    let stage = stage!();
    let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let container = stage.running();
    assert_eq!(
        std::fs::read_to_string("/proc/self/mountinfo").unwrap(),
        before
    );
    container.delete_force().ok();
    assert_eq!(
        std::fs::read_to_string("/proc/self/mountinfo").unwrap(),
        before
    );
}

#[test]
fn the_propagation_of_the_root_is_as_asked() {
    let stage = stage!();
    for (propagation, tag) in [
        ("private", ""),
        ("rslave", ""),
        ("shared", "shared:"),
        ("rshared", "shared:"),
    ] {
        let mut bundle = stage.bundle();
        bundle.set("/linux/rootfsPropagation", json!(propagation));
        let text = stage.prints(&mut bundle, "head -n 1 /proc/self/mountinfo");
        assert_eq!(
            text.contains("shared:"),
            tag == "shared:",
            "{propagation}: {text}"
        );
    }
}

#[test]
fn a_config_like_dockers_runs() {
    let stage = stage!();
    let mut bundle = stage.own_bundle();
    let host = stage.path("host");
    std::fs::create_dir(&host).unwrap();
    for name in ["resolv.conf", "hostname", "hosts"] {
        std::fs::write(host.join(name), format!("{name}\n")).unwrap();
        bundle.bind(
            &host.join(name),
            &format!("/etc/{name}"),
            &["rbind", "rprivate"],
        );
    }
    let mounts = json!([
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro", "nosuid", "noexec", "nodev"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"]},
    ]);
    let binds: Vec<_> = bundle.config["mounts"].as_array().unwrap()[7..].to_vec();
    bundle.set("/mounts", mounts);
    for bind in binds {
        bundle.push("/mounts", bind);
    }
    let docker = [
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FSETID",
        "CAP_FOWNER",
        "CAP_MKNOD",
        "CAP_NET_RAW",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_SETFCAP",
        "CAP_SETPCAP",
        "CAP_NET_BIND_SERVICE",
        "CAP_SYS_CHROOT",
        "CAP_KILL",
        "CAP_AUDIT_WRITE",
    ];
    bundle
        .capabilities(&docker)
        .set("/process/capabilities/ambient", json!([]))
        .set("/process/capabilities/inheritable", json!([]))
        .set("/process/oomScoreAdj", json!(0))
        .set("/process/noNewPrivileges", json!(false))
        .set("/ociVersion", json!("1.0.2-dev"))
        .set("/root/readonly", json!(false))
        .set("/linux/sysctl", json!({"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}))
        .set("/linux/resources", docker_resources());
    let text = stage.prints(&mut bundle, "cat /etc/hosts /proc/sys/net/ipv4/ip_unprivileged_port_start; grep CapEff /proc/self/status");
    assert_eq!(text, "hosts\n0\nCapEff:\t00000000a80425fb");
}

fn docker_resources() -> serde_json::Value {
    let rule = |kind: &str, major: i64, minor: i64, access: &str| json!({"allow": true, "type": kind, "major": major, "minor": minor, "access": access});
    json!({
        "devices": [
            {"allow": false, "access": "rwm"},
            rule("c", 1, 5, "rwm"), rule("c", 1, 3, "rwm"), rule("c", 1, 9, "rwm"), rule("c", 1, 8, "rwm"), rule("c", 5, 0, "rwm"), rule("c", 5, 1, "rwm"),
            {"allow": false, "type": "c", "major": 10, "minor": 229, "access": "rwm"},
        ],
        "memory": {"disableOOMKiller": false},
        "cpu": {"shares": 0},
        "blockIO": {"weight": 0},
    })
}

/// Longer than fsconfig(2) takes as one value.
#[test]
fn an_overlay_may_have_long_paths_and_many_layers() {
    let stage = stage!();
    let long = stage.path(&format!("{}: and, \\", "long".repeat(40)));
    let folder = |name: &str| {
        let path = long.join(name);
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join(name), format!("{name}\n")).unwrap();
        let text = path.to_string_lossy().into_owned();
        text.replace('\\', r"\\")
            .replace(':', r"\:")
            .replace(',', r"\,")
    };
    for count in [1, 2, 12, 13, 40] {
        let names: Vec<String> = (0..count).map(|n| format!("layer{n}")).collect();
        let lower: Vec<String> = names.iter().map(|name| folder(name)).collect();
        let (upper, work) = (folder("upper"), folder("scratch"));
        let options = [
            format!("lowerdir={}", lower.join(":")),
            format!("upperdir={upper}"),
            format!("workdir={work}"),
        ];
        let options = options.each_ref().map(String::as_str);
        let mut bundle = stage.bundle();
        bundle.mount("/mnt", "overlay", "overlay", &options);
        let script = "cd /mnt; cat layer*; cat upper; echo made >made";
        let mut printed = names;
        printed.sort();
        printed.push("upper".to_owned());
        let outcome = stage.prints(&mut bundle, script);
        assert_eq!(outcome, printed.join("\n"), "{count}");
        let made = std::fs::read_to_string(long.join("upper/made"));
        assert_eq!(made.unwrap(), "made\n", "{count}");
    }
}
