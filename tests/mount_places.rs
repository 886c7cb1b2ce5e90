//! Promise: a mount comes from where only the caller may reach, lands in its place however deep or
//! whatever it covers, and a thousand of them cost a thousand times one.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Bundle, Outcome, Stage, around, machine, user};
use crate::{stage, user_stage};

/// A second root filesystem, told from the first by a file.
fn other_root(stage: &Stage) -> std::path::PathBuf {
    let bundle = stage.own_bundle();
    let root = bundle.folder.join("rootfs");
    std::fs::write(root.join("other"), "the other root\n").unwrap();
    root
}

#[test]
fn a_mount_over_the_root_is_the_root_from_there_on() {
    let stage = stage!();
    let other = other_root(&stage);
    for options in [&["bind"][..], &["rbind", "rprivate"]] {
        let mut bundle = stage.own_bundle();
        let source = other.to_string_lossy().into_owned();
        let mounts = bundle.config["mounts"].as_array().unwrap().clone();
        bundle.set("/mounts", json!([]));
        bundle.mount("/", "bind", &source, options);
        for mount in mounts {
            bundle.push("/mounts", mount);
        }
        let script = "cat /other; echo x 2>/dev/null > /new || echo refused; \
                      cut -d' ' -f5 /proc/self/mountinfo | sort | uniq | head -n 2; ls /dev/null";
        let text = stage.prints(&mut bundle, script);
        assert_eq!(
            text, "the other root\nrefused\n/\n/dev\n/dev/null",
            "{options:?}"
        );
        assert!(!bundle.folder.join("rootfs/other").exists());
        let container = stage.create(bundle.sleeps());
        container.start().ok();
        assert_eq!(container.sh("cat /other"), "the other root");
    }
}

#[test]
fn what_goes_into_a_new_tmpfs_goes_into_what_covers_it_by_then() {
    let stage = stage!();
    let mut bundle = stage.own_bundle();
    let rootfs = bundle.folder.join("rootfs");
    std::fs::create_dir(rootfs.join("place")).unwrap();
    std::os::unix::fs::symlink("place", rootfs.join("link")).unwrap();
    let usual = bundle.config["mounts"].as_array().unwrap().clone();
    for covers in ["/place", "/link"] {
        bundle.set("/mounts", json!([]));
        bundle.mount("/place", "tmpfs", "below", &["mode=755"]);
        bundle.mount(covers, "tmpfs", "above", &["mode=755"]);
        bundle.mount("/place/share", "tmpfs", "last", &[]);
        for mount in &usual {
            bundle.push("/mounts", mount.clone());
        }
        let script = "cut -d' ' -f5 /proc/self/mountinfo | grep -c place/share; \
                      stat -f -c %T /place/share";
        assert_eq!(stage.prints(&mut bundle, script), "1\ntmpfs", "{covers}");
        // A mount that something covers is listed, and nobody gets to it.
        let script = "touch /place/share/file; ls /place/share; rm -f /place/share/file";
        assert_eq!(stage.prints(&mut bundle, script), "file", "{covers}");
    }
}

#[test]
fn an_empty_root_over_the_root_is_filled_by_what_is_mounted_in_it() {
    let stage = stage!();
    let mut bundle = stage.own_bundle();
    let rootfs = bundle.folder.join("rootfs");
    let other = other_root(&stage);
    let usual = bundle.config["mounts"].as_array().unwrap().clone();
    bundle.set("/mounts", json!([]));
    bundle.mount("/hidden", "tmpfs", "tmpfs", &[]);
    bundle.mount("/", "tmpfs", "tmpfs", &["mode=755"]);
    for folder in ["bin", "etc"] {
        bundle.bind(&other.join(folder), &format!("/{folder}"), &["ro"]);
    }
    for mount in usual {
        bundle.push("/mounts", mount);
    }
    bundle.set("/root/readonly", json!(false));
    let text = stage.prints(&mut bundle, "ls /; stat -f -c %T /; touch /x && echo wrote");
    assert_eq!(text, "bin\ndev\netc\nproc\nsys\ntmpfs\nwrote");
    let (_, outcome) = stage.try_create_with(&bundle, &[]);
    let notice = outcome.ok().stderr;
    assert!(notice.contains("it covers the root filesystem"), "{notice}");
    bundle.user_namespace(100_000, 65_536);
    chown(&rootfs, Some(100_000), Some(100_000)).unwrap();
    let text = stage.prints(&mut bundle, "stat -f -c %T /; touch /x && echo wrote");
    assert_eq!(text, "tmpfs\nwrote", "in a user namespace");
}

#[test]
fn a_source_that_only_the_caller_can_reach_is_bound_in_a_user_namespace() {
    let stage = stage!();
    let closed = stage.path("closed");
    std::fs::create_dir_all(closed.join("folder")).unwrap();
    std::fs::write(closed.join("folder/file"), "text\n").unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).unwrap();
    chown(&closed, Some(1), Some(1)).unwrap();
    let mut bundle = stage.own_bundle();
    chown(
        bundle.folder.join("rootfs/mnt"),
        Some(100_000),
        Some(100_000),
    )
    .unwrap();
    bundle
        .user_namespace(100_000, 65_536)
        .bind(&closed.join("folder"), "/mnt/folder", &["ro"])
        .bind(&closed.join("folder/file"), "/mnt/file", &[]);
    let text = stage.prints(&mut bundle, "cat /mnt/folder/file /mnt/file");
    assert_eq!(text, "text\ntext");
    let explained = bundle.folder.to_string_lossy().into_owned();
    let explained = stage.call(&["explain", &explained]).ok().stdout;
    let line = format!(
        "bind {}/folder on /mnt/folder (ro), opened by the parent",
        closed.display()
    );
    assert!(explained.contains(&line), "{explained}");
}

#[test]
fn a_locked_flag_is_named_and_others_are_kept() {
    let stage = user_stage!();
    let locked = stage.path("locked");
    std::fs::create_dir(&locked).unwrap();
    // The mount is root's, so its flags are not the user's to change.
    let run = |bundle: &Bundle| {
        let (_, run) = stage.foreground(bundle);
        let script = "mount -t tmpfs -o ro,nosuid,nodev,noexec locked \"$LOCKED\" && exec \"$@\"";
        let outer = machine::in_own_mounts(script);
        Outcome::of(around(outer, &run).env("LOCKED", &locked))
    };
    let bundle = || {
        let mut bundle = stage.bundle();
        bundle
            .user_namespace(user::SUBUID, 1000)
            .remove("/linux/uidMappings")
            .remove("/linux/gidMappings")
            .remove("/linux/resources")
            .remove("/linux/cgroupsPath");
        bundle
    };
    let mut kept = bundle();
    kept.bind(&locked, "/mnt", &[])
        .sh("grep ' /mnt ' /proc/self/mountinfo | cut -d' ' -f6");
    let kept = run(&kept).ok();
    assert!(kept.line().starts_with("ro,nosuid,nodev,noexec"), "{kept}");
    for (words, named) in [
        (&["rw"][..], &["ro (rw is refused)"][..]),
        (
            &["suid", "exec"],
            &["nosuid (suid is refused)", "noexec (exec is refused)"],
        ),
        (&["rdev", "noatime"], &["nodev (dev is refused)"]),
        (&["noatime"], &["access times"]),
        (&["nodiratime"], &["access times"]),
    ] {
        let mut bundle = bundle();
        bundle.bind(&locked, "/mnt", words).args(&["/bin/true"]);
        let said = [&["/mounts/", "locked"], named, &["operation not permitted"]].concat();
        run(&bundle).refuses(&said);
    }
}

#[test]
fn a_source_may_be_what_an_earlier_mount_has_put_into_the_root() {
    let stage = stage!();
    for user in [false, true] {
        let mut bundle = stage.own_bundle();
        let inside = bundle.folder.join("rootfs/tmp/first");
        std::fs::create_dir(&inside).unwrap();
        std::fs::write(inside.join("covered"), "").unwrap();
        if user {
            bundle.user_namespace(100_000, 65_536);
        }
        bundle
            .mount("/tmp/first", "tmpfs", "tmpfs", &[])
            .bind(&inside, "/mnt", &["rbind"]);
        let text = stage.prints(&mut bundle, "touch /tmp/first/seen; ls /mnt");
        assert_eq!(text, "seen", "in a user namespace: {user}");
    }
}

#[test]
fn a_source_in_the_roots_sys_is_what_the_kernel_shows_there() {
    let stage = stage!();
    for user in [false, true] {
        let mut bundle = stage.own_bundle();
        let inside = bundle.folder.join("rootfs/sys/kernel");
        std::fs::create_dir_all(inside.join("covered")).unwrap();
        if user {
            bundle.user_namespace(100_000, 65_536);
        }
        bundle.bind(&inside, "/mnt", &["rbind", "ro"]);
        let script = "ls -d /mnt/covered /mnt/uevent_seqnum 2> /dev/null; true";
        let seen = stage.prints(&mut bundle, script);
        assert_eq!(seen, "/mnt/uevent_seqnum", "in a user namespace: {user}");
    }
}

#[test]
fn an_ordinary_user_copies_remounts_and_covers_the_root_too() {
    let stage = user_stage!();
    let mut bundle = stage.own_bundle();
    let rootfs = bundle.folder.join("rootfs");
    let other = other_root(&stage);
    std::os::unix::fs::symlink("/no/where", stage.path("link")).unwrap();
    user::owns(&stage.folder);
    bundle
        .remove("/linux/cgroupsPath")
        .mount("/etc", "tmpfs", "tmpfs", &["tmpcopyup", "size=1m"])
        .mount("/etc", "", "", &["remount", "size=2m", "noexec"])
        .bind(&stage.path("link"), "/etc/link", &["copy-symlink"]);
    let look = "head -n 1 /etc/passwd | cut -d: -f1; readlink /etc/link; \
                grep ' /etc ' /proc/self/mountinfo | grep -c 'noexec.*size=2048k'; touch /etc/x";
    assert_eq!(stage.prints(&mut bundle, look), "root\n/no/where\n1");
    assert!(!rootfs.join("etc/x").exists());
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.insert(
        0,
        json!({"destination": "/", "source": other, "options": ["bind"]}),
    );
    assert_eq!(stage.prints(&mut bundle, "cat /other"), "the other root");
    bundle.push(
        "/mounts",
        json!({"destination": "/mnt", "source": other, "options": ["bind", "idmap"]}),
    );
    let words = ["/options/1", "not supported for rootless containers"];
    stage.try_create(&bundle).refuses(&words);
}

fn many(stage: &Stage, places: impl Iterator<Item = String>) -> Bundle {
    let source = stage.path("source");
    let _ = std::fs::create_dir(&source);
    let mut bundle = stage.own_bundle();
    for place in places {
        bundle.bind(&source, &place, &[]);
    }
    bundle.args(&["/bin/true"]);
    bundle
}

/// How long a run takes.
fn time(stage: &Stage, bundle: &Bundle) -> Duration {
    let begun = Instant::now();
    stage.run(bundle).ok();
    begun.elapsed()
}

#[test]
fn s15_fifteen_hundred_mounts_are_made_in_time() {
    let stage = stage!();
    let bundle = many(&stage, (0..1500).map(|n| format!("/mnt/{n}")));
    let took = time(&stage, &bundle);
    // Ten times what they may take on a quiet machine.
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn s15_mounts_below_each_other_cost_no_more_than_their_paths() {
    let stage = stage!();
    // Each below the one before: with their square on top it would be a minute.
    let bundle = many(&stage, (1..=1000).map(|n| "/d".repeat(n)));
    let took = time(&stage, &bundle);
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn a_place_of_thousands_of_missing_directories_is_made_at_once() {
    let stage = stage!();
    let bundle = many(&stage, std::iter::once("/d".repeat(2000)));
    let took = time(&stage, &bundle);
    assert!(took < Duration::from_secs(2), "{took:?}");
    let bundle = many(&stage, std::iter::once("/d".repeat(2100)));
    stage
        .run(&bundle)
        .refuses(&["/mounts/7/destination", "file name too long"]);
}

#[test]
fn a_missing_place_is_a_file_for_a_file_and_a_directory_for_a_directory() {
    let stage = stage!();
    let source = stage.path("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("file"), "text").unwrap();
    nix::unistd::mkfifo(&source.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut bundle = stage.own_bundle();
    bundle
        .bind(&source, "/new/a/b", &[])
        .bind(&source.join("file"), "/new/c/d", &[])
        .bind(&source.join("fifo"), "/new/e", &[])
        .mount("/new/f", "tmpfs", "tmpfs", &[]);
    stage.prints(&mut bundle, "true");
    let made = |path: &str| {
        let seen = std::fs::metadata(bundle.folder.join("rootfs/new").join(path)).unwrap();
        (seen.is_dir(), seen.permissions().mode() & 0o7777)
    };
    assert_eq!(["a", "a/b", "c", "f"].map(made), [(true, 0o755); 4]);
    assert_eq!(["c/d", "e"].map(made), [(false, 0o644); 2]);
    // What is there, and of the wrong kind, is said.
    let mut bundle = stage.bundle();
    bundle.bind(Path::new("/etc"), "/etc/passwd", &[]);
    let words = ["/mounts/7", "a directory can't be mounted on a file"];
    stage.try_create(&bundle).refuses(&words);
}
