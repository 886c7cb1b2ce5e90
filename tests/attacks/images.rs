//! Attacks by what lies in an image: links and special files in the places that the runtime works with.

use std::os::unix::fs::symlink;

use serde_json::json;

use super::{Decoy, make, without_mounts_at};
use crate::harness::Outcome;
use crate::stage;

#[test]
fn s04_a_null_device_of_the_image_masks_nothing() {
    let stage = stage!();
    for readable in ["/etc/decoy", "/proc/version"] {
        let mut bundle = stage.own_bundle();
        let rootfs = bundle.folder.join("rootfs");
        let decoy = Decoy::at(rootfs.join("etc/decoy"));
        std::fs::write(rootfs.join("secret"), "hidden\n").unwrap();
        let dev = stage.path(&format!("dev{}", readable.len()));
        std::fs::create_dir(&dev).unwrap();
        symlink(readable, dev.join("null")).unwrap();
        without_mounts_at(&mut bundle, "/dev");
        bundle
            .bind(&dev, "/dev", &["rw"])
            .set("/root/readonly", json!(false))
            .set("/linux/maskedPaths", json!(["/secret", "/proc/kcore"]))
            .sh("cat /secret /proc/kcore; echo written > /secret");
        let outcome = stage.run(&bundle);
        decoy.untouched(&outcome);
        assert_eq!(outcome.stdout, "", "something is shown: {outcome}");
    }
}

#[test]
fn s06_a_proc_or_sys_that_is_a_link_is_refused() {
    let stage = stage!();
    for name in ["proc", "sys"] {
        for target in ["/tmp", "/home/../tmp"] {
            let mut bundle = stage.own_bundle();
            let place = bundle.folder.join("rootfs").join(name);
            std::fs::remove_dir(&place).unwrap();
            symlink(target, &place).unwrap();
            bundle.args(&["/bin/true"]);
            let why = "must be an ordinary directory";
            stage.run(&bundle).refuses(&["/mounts/", name, why]);
        }
    }
}

#[test]
fn s07_nothing_is_mounted_into_proc_by_any_path() {
    let stage = stage!();
    let source = stage.path("file");
    std::fs::write(&source, "mine\n").unwrap();
    for place in [
        "/proc/self/attr/current",
        "/proc/sys/kernel/hostname",
        "/proc/sysrq-trigger",
        "/etc/../proc/sysrq-trigger",
        "/proc/./sysrq-trigger",
        "//proc//sysrq-trigger",
        "/../proc/sysrq-trigger",
    ] {
        let mut bundle = stage.bundle();
        bundle.bind(&source, place, &[]);
        let words = ["/mounts/7/destination", "it is inside /proc"];
        stage.try_create(&bundle).refuses(&words);
    }
    let mut bundle = stage.bundle();
    bundle.bind(&source, "/proc/uptime", &["ro"]);
    assert_eq!(stage.prints(&mut bundle, "cat /proc/uptime"), "mine");
}

#[test]
fn s07_a_link_of_the_image_is_no_way_to_mount_on_proc() {
    let stage = stage!();
    let plain = stage.path("plain");
    std::fs::create_dir(&plain).unwrap();
    for (links, place) in [
        (&[("led", "/proc")][..], "/led"),
        (&[("led", "far"), ("far", "etc/../proc/.")], "/led"),
        (&[("led", "/")], "/led/proc"),
    ] {
        for (there, fresh) in [(true, true), (true, false), (false, true), (false, false)] {
            let mut bundle = stage.own_bundle();
            without_mounts_at(&mut bundle, "/proc");
            let rootfs = bundle.folder.join("rootfs");
            for (name, to) in links {
                symlink(to, rootfs.join(name)).unwrap();
            }
            if !there {
                std::fs::remove_dir(rootfs.join("proc")).unwrap();
            }
            let last = bundle.config["mounts"].as_array().unwrap().len();
            match fresh {
                true => bundle.push(
                    "/mounts",
                    json!({"destination": place, "type": "tmpfs", "source": "tmpfs"}),
                ),
                false => bundle.bind(&plain, place, &["rbind"]),
            };
            let pointer = format!("/mounts/{last}");
            let words = [
                &*pointer,
                "not of type proc",
                "links lead from there to /proc",
            ];
            stage.try_create(&bundle).refuses(&words);
        }
    }
    // Where links lead elsewhere, or what is bound is a procfs.
    let mut bundle = stage.own_bundle();
    symlink("tmp", bundle.folder.join("rootfs/led")).unwrap();
    std::fs::write(plain.join("file"), "mine\n").unwrap();
    bundle.bind(&plain, "/led/proc", &["rbind"]);
    assert_eq!(stage.prints(&mut bundle, "cat /tmp/proc/file"), "mine");
}

#[test]
fn s07_only_a_whole_procfs_is_bound_on_proc() {
    let stage = stage!();
    let plain = stage.path("plain");
    std::fs::create_dir(&plain).unwrap();
    std::os::unix::fs::symlink("/tmp", stage.path("link")).unwrap();
    let tail = "\"/proc\" cannot be mounted because it is not of type proc";
    for (source, words) in [
        (plain.as_path(), &["rbind"][..]),
        (&plain, &["bind", "ro"]),
        (std::path::Path::new("/proc/sys"), &["rbind"]),
        (std::path::Path::new("/sys"), &["rbind"]),
        (&stage.path("link"), &["bind", "copy-symlink"]),
    ] {
        for user in [false, true] {
            let mut bundle = stage.own_bundle();
            without_mounts_at(&mut bundle, "/proc");
            if user {
                bundle.user_namespace(100_000, 65_536);
            }
            bundle.bind(source, "/etc/../proc", words);
            let pointer = format!(
                "/mounts/{}",
                bundle.config["mounts"].as_array().unwrap().len() - 1
            );
            let outcome = stage.try_create(&bundle);
            outcome.refuses(&[&pointer, tail]);
        }
    }
    let mut bundle = stage.own_bundle();
    without_mounts_at(&mut bundle, "/proc");
    bundle.bind(std::path::Path::new("/proc"), "/proc", &["rbind"]);
    assert_eq!(stage.prints(&mut bundle, "stat -f -c %T /proc"), "proc");
}

#[test]
fn s07_a_link_of_the_image_leads_no_mount_into_proc() {
    let stage = stage!();
    let source = stage.path("file");
    std::fs::write(&source, "mine\n").unwrap();
    for (link, target, place) in [
        ("data", "/proc/sys", "/data"),
        ("data", "/proc", "/data/sys/kernel"),
        ("data", "/proc/self/attr", "/data"),
        ("tmp/data", "../proc/sys", "/tmp/data"),
        ("tmp/data", "../../../../proc", "/tmp/data/sys"),
        ("tmp/data", "more", "/tmp/data"),
    ] {
        let mut bundle = stage.own_bundle();
        let rootfs = bundle.folder.join("rootfs");
        symlink(target, rootfs.join(link)).unwrap();
        symlink("/proc/sys", rootfs.join("tmp/more")).unwrap();
        bundle.mount(place, "tmpfs", "tmpfs", &[]);
        bundle.args(&["/bin/true"]);
        stage
            .run(&bundle)
            .refuses(&["leads into /proc", "/mounts/7"]);
    }
    let mut bundle = stage.own_bundle();
    symlink("/proc/uptime", bundle.folder.join("rootfs/data")).unwrap();
    bundle.bind(&source, "/data", &[]).args(&["/bin/true"]);
    stage
        .run(&bundle)
        .refuses(&["leads into /proc", "/mounts/7"]);
}

#[test]
fn s08_a_dev_that_is_a_link_is_refused_and_what_it_leads_to_left_alone() {
    let stage = stage!();
    let host = stage.path("host");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("ptmx"), "mine\n").unwrap();
    for with_mounts in [false, true] {
        let mut bundle = stage.own_bundle();
        let rootfs = bundle.folder.join("rootfs");
        std::fs::remove_dir_all(rootfs.join("dev")).unwrap();
        symlink(&host, rootfs.join("dev")).unwrap();
        bundle
            .set("/root/readonly", json!(false))
            .args(&["/bin/true"]);
        if !with_mounts {
            without_mounts_at(&mut bundle, "/dev");
        }
        let outcome = stage.run(&bundle);
        let found = std::fs::read_dir(&host).unwrap().count();
        let text = std::fs::read_to_string(host.join("ptmx")).unwrap_or_default();
        assert_eq!((found, text.as_str()), (1, "mine\n"), "{outcome}");
        outcome.refuses(&["/dev", "must be an ordinary directory"]);
    }
}

#[test]
fn s13_accounts_that_are_no_files_neither_hang_nor_harm() {
    let stage = stage!();
    for file in ["etc/passwd", "etc/group"] {
        for making in ["mkfifo", "mkdir", "ln -s /dev/zero", "truncate -s 1G"] {
            let mut bundle = stage.own_bundle();
            let place = bundle.folder.join("rootfs").join(file);
            std::fs::remove_file(&place).unwrap();
            let script = format!("{making} \"$1\"");
            let mut command = std::process::Command::new("sh");
            Outcome::of(command.args(["-c", &script, "sh"]).arg(&place)).ok();
            bundle.sh("echo $HOME");
            let outcome = stage.run(&bundle);
            let home = if file == "etc/group" { "/root" } else { "/" };
            assert!(outcome.took.as_secs() < 10, "{making}: {outcome}");
            assert!(
                outcome.code != 0 || outcome.line() == home,
                "{making} {file}: {outcome}"
            );
        }
    }
}

#[test]
fn s13_a_place_to_mount_on_is_never_opened() {
    let stage = stage!();
    let source = stage.path("source");
    std::fs::write(&source, "mounted\n").unwrap();
    let kinds: [(&str, &str, &[&str]); 4] = [
        ("fifo", "mkfifo", &[]),
        ("zero", "mknod", &["c", "1", "5"]),
        ("huge", "truncate", &["-s", "1G"]),
        // No driver has it: opening it is an error.
        ("none", "mknod", &["c", "7", "200"]),
    ];
    for (name, program, args) in kinds {
        let mut bundle = stage.own_bundle();
        make(program, &bundle.folder.join("rootfs").join(name), args);
        bundle.bind(&source, &format!("/{name}"), &["ro"]);
        bundle.set("/linux/maskedPaths", json!([]));
        bundle.sh(&format!("cat /{name}"));
        let outcome = stage.run(&bundle).ok();
        assert!(outcome.took.as_secs() < 10, "{name}: {outcome}");
        assert_eq!(outcome.line(), "mounted", "{name}");
        bundle.config["mounts"].as_array_mut().unwrap().pop();
        bundle
            .set("/linux/maskedPaths", json!([format!("/{name}")]))
            .sh(&format!("wc -c < /{name}"));
        let outcome = stage.run(&bundle).ok();
        assert_eq!(outcome.line(), "0", "masked {name}");
    }
}

#[test]
fn s21_sysctls_are_written_to_the_kernel_and_not_to_files_of_the_image() {
    let stage = stage!();
    let mut bundle = stage.own_bundle();
    let folder = bundle.folder.join("rootfs/proc/sys/kernel");
    std::fs::create_dir_all(&folder).unwrap();
    let decoy = Decoy::at(folder.join("shmmax"));
    without_mounts_at(&mut bundle, "/proc");
    bundle
        .set("/root/readonly", json!(false))
        .set("/linux/maskedPaths", json!([]))
        .set("/linux/readonlyPaths", json!([]))
        .set("/linux/sysctl", json!({"kernel.shmmax": "12345678"}))
        .capabilities(&["CAP_SYS_ADMIN"])
        .sh("mkdir /tmp/p; mount -t proc proc /tmp/p && cat /tmp/p/sys/kernel/shmmax");
    let outcome = stage.run(&bundle);
    decoy.untouched(&outcome);
    assert_eq!(outcome.ok().line(), "12345678");
}
