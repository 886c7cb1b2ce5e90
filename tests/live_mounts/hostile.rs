//! Promise: whatever a container does to its paths and file systems, a live mount lands in no other place,
//! is found again, and keeps nobody waiting.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use serde_json::json;

use super::{add, add_tmpfs, host_mounts, listed, nsenter, remove, source, writable};
use crate::harness::silent::Silent;
use crate::harness::{Bundle, Container, Outcome, Stage, machine, until};
use crate::{skip, stage};

#[test]
fn s07_no_live_mount_covers_a_file_of_proc_but_what_lxcfs_needs() {
    let stage = stage!();
    let (source, container) = (source(&stage), writable(&stage));
    let file = source.join("file");
    add(&container, &["-o", "ro"], &file, "/proc/uptime").ok();
    assert_eq!(container.sh("cat /proc/uptime"), "text");
    container.sh("ln -s /proc/sys/kernel /inner; ln -s /proc /whole; mkdir /deep");
    nsenter(&container, "mkdir /second && mount -t proc proc /second");
    for place in [
        "/proc",
        "/proc/sys/kernel/hostname",
        "/deep/../proc/self/attr/current",
        "/inner/hostname",
        "/whole/uptime",
        "/second/uptime",
        "/second/sys/kernel/hostname",
    ] {
        let outcome = add(&container, &[], &file, place);
        assert_eq!(outcome.code, 1, "{place}: {outcome}");
        assert!(outcome.stderr.contains("proc"), "{place}: {outcome}");
    }
    let outcome = add(&container, &[], &source, "/proc");
    outcome.refuses(&["\"/proc\" cannot be mounted because it is not of type proc"]);
    assert_eq!(listed(&container), ["/proc/uptime"]);
    assert_eq!(container.sh("cat /proc/1/comm"), "sh");
}

#[test]
fn a_link_leads_no_live_mount_out_of_the_container() {
    let stage = stage!();
    let (source, container) = (source(&stage), writable(&stage));
    let decoy = stage.path("decoy");
    std::fs::create_dir(&decoy).unwrap();
    let before = host_mounts();
    for target in [
        format!("{}/place", decoy.display()),
        format!("../../../../..{}/place", decoy.display()),
    ] {
        container.sh(&format!("ln -s {target} /link"));
        add(&container, &[], &source, "/link").ok();
        assert_eq!(
            container.sh(&format!("cat {}/place/file", decoy.display())),
            "text"
        );
        assert_eq!(std::fs::read_dir(&decoy).unwrap().count(), 0);
        remove(&container, &[], "/link").ok();
        container.sh(&format!("rm -r /link {}", stage.folder.display()));
    }
    assert_eq!(host_mounts(), before);
}

#[test]
fn s20_a_place_that_turns_into_a_link_meanwhile_leads_nowhere() {
    let stage = stage!();
    let source = source(&stage);
    let decoy = stage.path("decoy");
    std::fs::create_dir(&decoy).unwrap();
    let mut bundle = stage.own_bundle();
    bundle.set("/root/readonly", json!(false)).sleeps();
    let rootfs = bundle.folder.join("rootfs");
    std::fs::create_dir_all(rootfs.join("a/kernel")).unwrap();
    symlink("/proc/sys", rootfs.join("b")).unwrap();
    symlink(&decoy, rootfs.join("c")).unwrap();
    let container = stage.create(&bundle);
    container.start().ok();
    let flips = Flips::of(&rootfs);
    let before = host_mounts();
    let mut added = 0;
    for _ in 0..machine::count("CAPSID_ROUNDS", 40, 500) {
        if add(&container, &[], &source, "/a/kernel").code == 0 {
            added += 1;
            let seen = std::fs::read_to_string(format!("/proc/{}/mountinfo", container.pid()));
            assert!(!seen.unwrap().contains(" /proc/sys/"));
            remove(&container, &["--lazy"], "/a/kernel");
        }
    }
    drop(flips);
    assert_eq!(host_mounts(), before);
    assert_eq!(std::fs::read_dir(&decoy).unwrap().count(), 0);
    assert!(added > 0, "none came to be");
}

/// A bundle whose init changes its root to /jail as soon as there is a file /go.
fn jailed(stage: &Stage) -> Bundle {
    let mut bundle = stage.own_bundle();
    let caps = json!(["CAP_SYS_CHROOT"]);
    bundle
        .set("/root/readonly", json!(false))
        .set("/process/capabilities/bounding", caps.clone())
        .set("/process/capabilities/permitted", caps.clone())
        .set("/process/capabilities/effective", caps)
        .sh("until [ -e /go ]; do sleep 0.01; done; exec chroot /jail /bin/sleep 619");
    let rootfs = bundle.folder.join("rootfs");
    std::fs::create_dir_all(rootfs.join("jail")).unwrap();
    let mut copy = Command::new("cp");
    copy.arg("-a")
        .args([rootfs.join("bin"), rootfs.join("jail/bin")]);
    assert!(copy.status().unwrap().success());
    bundle
}

#[track_caller]
fn jail(container: &Container) {
    container.sh("touch /go");
    until("chroot", || {
        container.sh("readlink /proc/1/root").contains("jail")
    });
}

#[test]
fn a_chrooted_init_hides_no_live_mount_and_no_place() {
    let stage = stage!();
    let source = source(&stage);
    let container = stage.create(&jailed(&stage));
    container.start().ok();
    add(&container, &[], &source, "/data").ok();
    jail(&container);
    assert_eq!(listed(&container), ["/data"]);
    add(&container, &[], &source, "/jail/more").ok();
    add_tmpfs(&container, "size=64k", "/scratch").ok();
    assert_eq!(listed(&container), ["/data", "/jail/more", "/scratch"]);
    for place in ["/data", "/scratch", "/jail/more"] {
        remove(&container, &[], place).ok();
    }
    assert_eq!(listed(&container), [""; 0]);
    assert_eq!(
        container.sh("grep -c -E ' (/data|/more|/jail/more|/scratch) ' /proc/self/mountinfo; true"),
        "0"
    );
}

#[test]
fn s07_a_chrooted_init_hides_no_mount_that_is_shared_with_the_host() {
    let stage = stage!();
    let source = source(&stage);
    let mut bundle = jailed(&stage);
    bundle
        .bind(&source, "/shared", &["rshared"])
        .set("/linux/rootfsPropagation", json!("shared"));
    let id = stage.id();
    bundle.write(&id);
    let script = format!(
        "mount --bind {0} {0} && mount --make-shared {0} && \
         $capsid create --bundle $1 $2 </dev/null && $capsid start $2 && $capsid exec $2 touch /go && \
         until $capsid exec $2 readlink /proc/1/root | grep -q jail; do :; done; \
         ! $capsid mounts add -t tmpfs $2 none /shared/deeper && \
         ls {0} && grep -c deeper /proc/self/mountinfo; $capsid delete --force $2",
        source.display()
    );
    let outcome = Outcome::of(stage.in_own_mounts(&script).arg(&bundle.folder).arg(&id));
    assert_eq!(outcome.line(), "file\n0", "{outcome}");
    assert!(outcome.stderr.contains("shares with the host"), "{outcome}");
}

#[test]
fn s20_a_live_mount_that_is_renamed_all_the_time_stays_in_the_list() {
    let stage = stage!();
    let source = source(&stage);
    let bundle = {
        let mut bundle = stage.own_bundle();
        bundle.set("/root/readonly", json!(false)).sleeps();
        bundle
    };
    let rootfs = bundle.folder.join("rootfs");
    for other in ["a/x", "b/x", "c/x"] {
        std::fs::create_dir_all(rootfs.join(other)).unwrap();
    }
    let container = stage.create(&bundle);
    container.start().ok();
    add(&container, &[], &source, "/a/x").ok();
    let flips = Flips::of(&rootfs);
    for _ in 0..machine::count("CAPSID_ROUNDS", 100, 1000) {
        assert_eq!(listed(&container), ["/a/x"]);
    }
    drop(flips);
    remove(&container, &["--lazy"], "/a/x").ok();
    assert_eq!(listed(&container), [""; 0]);
}

#[test]
fn s20_a_place_that_is_exchanged_with_a_masked_path_takes_no_mask_away() {
    let stage = stage!();
    let source = source(&stage);
    let mut bundle = stage.own_bundle();
    bundle
        .set("/root/readonly", json!(false))
        .set("/linux/maskedPaths", json!(["/b/x"]))
        .sleeps();
    let rootfs = bundle.folder.join("rootfs");
    for other in ["a/x", "b/x", "c"] {
        std::fs::create_dir_all(rootfs.join(other)).unwrap();
    }
    std::fs::write(rootfs.join("b/x/secret"), "").unwrap();
    let container = stage.create(&bundle);
    container.start().ok();
    let mountinfo =
        || std::fs::read_to_string(format!("/proc/{}/mountinfo", container.pid())).unwrap();
    let before = mountinfo();
    let mask = before
        .lines()
        .find(|line| line.contains(" /b/x "))
        .expect("a mask");
    let mask = mask.split_once(' ').unwrap().0.to_owned();
    let flips = Flips::between(&rootfs, &["b"]);
    let mut removed = 0;
    for _ in 0..machine::count("CAPSID_ROUNDS", 60, 500) {
        add(&container, &[], &source, "/a/x");
        removed += usize::from(remove(&container, &[], "/a/x").code == 0);
        let there = mountinfo();
        assert!(
            there
                .lines()
                .any(|line| line.starts_with(&format!("{mask} "))),
            "the mask is gone:\n{there}"
        );
    }
    drop(flips);
    assert!(removed > 0, "none was removed");
}

#[test]
fn whoever_has_a_live_mount_open_for_a_moment_does_not_keep_it() {
    let stage = stage!();
    let (source, container) = (source(&stage), writable(&stage));
    let place = format!("/proc/{}/root/data", container.pid());
    for _ in 0..machine::count("CAPSID_ROUNDS", 10, 100) {
        add(&container, &[], &source, "/data").ok();
        // As `mounts list` has, and another thread's child before its execve(2), but for longer.
        let held = std::fs::File::open(&place).unwrap();
        std::thread::scope(|scope| {
            let removing = scope.spawn(|| remove(&container, &[], "/data"));
            std::thread::sleep(Duration::from_millis(30));
            drop(held);
            removing.join().expect("remove").ok();
        });
    }
}

#[test]
fn a_file_system_of_the_container_that_never_answers_keeps_nobody_waiting() {
    let stage = stage!();
    let (source, volume) = (source(&stage), stage.path("volume"));
    std::fs::create_dir(&volume).unwrap();
    let mut bundle = stage.own_bundle();
    bundle
        .set("/root/readonly", json!(false))
        .bind(&volume, "/volume", &[])
        .sleeps();
    // Other tests look at the mounts of this process: this one's are its thread's.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let silent = match Silent::mounted(&volume) {
                Ok(silent) => silent,
                Err(error) => skip!("no FUSE: {error}"),
            };
            let container = stage.create(&bundle);
            container.start().ok();
            // What needs no answer works: neither the caller nor its child asks the server.
            add(&container, &[], &source, "/volume").ok();
            assert_eq!(listed(&container), ["/volume"]);
            remove(&container, &[], "/volume").ok();
            let began = Instant::now();
            let mut adding = stage.capsid();
            adding
                .args(["mounts", "add", &container.id])
                .arg(&source)
                .arg("/volume/deep");
            let adding = std::thread::scope(|scope| {
                let adding = scope.spawn(move || Outcome::of(&mut adding));
                until("it walks", || silent.was_asked());
                let kept = Instant::now();
                assert_eq!(container.status(), "running");
                container.exec(&["/bin/true"]).ok();
                assert!(
                    kept.elapsed() < Duration::from_secs(5),
                    "state and exec wait"
                );
                container.call("pause", &[]).ok();
                container.call("resume", &[]).ok();
                adding.join().expect("add")
            });
            adding.refuses(&[
                "mounts add",
                "/volume/deep",
                "didn't answer",
                "deadline exceeded",
            ]);
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "{:?}",
                began.elapsed()
            );
            container.delete_force().ok();
            drop(silent);
        });
    });
}

#[test]
fn a_source_that_is_no_text_is_refused_by_name() {
    use std::os::unix::ffi::OsStrExt;
    let stage = stage!();
    let container = writable(&stage);
    let name = std::ffi::OsStr::from_bytes(b"/tmp/\xff\xfe");
    let mut adding = stage.capsid();
    adding
        .args(["mounts", "add", &container.id])
        .arg(name)
        .arg("/data");
    Outcome::of(&mut adding).refuses(&["mounts add", "/source", "not UTF-8"]);
    let mut adding = stage.capsid();
    adding.args(["mounts", "add", &container.id, "/"]).arg(name);
    Outcome::of(&mut adding).refuses(&["mounts add", "/destination", "not UTF-8"]);
    assert_eq!(listed(&container), [""; 0]);
}

/// `a` of a folder is exchanged with `b`, then with `c`, and so on until the value goes.
struct Flips {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Flips {
    fn of(folder: &Path) -> Flips {
        Flips::between(folder, &["b", "b", "c", "c"])
    }

    fn between(folder: &Path, others: &'static [&str]) -> Flips {
        let (stop, folder) = (Arc::new(AtomicBool::new(false)), folder.to_owned());
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            for other in others.iter().cycle() {
                if told.load(Ordering::Relaxed) {
                    break;
                }
                let (a, other) = (folder.join("a"), folder.join(other));
                let flag = RenameFlags::RENAME_EXCHANGE;
                renameat2(AT_FDCWD, &a, AT_FDCWD, &other, flag).expect("renameat2");
                std::thread::yield_now();
            }
        });
        Flips {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Flips {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take();
        thread.map(JoinHandle::join);
    }
}
