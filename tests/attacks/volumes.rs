//! Attacks by whoever shares a volume with the container, and changes it while the runtime mounts in it: one
//! thread exchanges a directory and a link as fast as it can.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::json;

use super::{Decoy, make, without_mounts_at};
use crate::harness::terminal::ConsoleSocket;
use crate::harness::{Bundle, Stage, machine};
use crate::stage;

/// Exchanges two entries of a folder until it is told to stop; how often it did.
fn exchange(folder: &Path, one: &str, other: &str, stop: &AtomicBool) -> usize {
    let (one, other) = (folder.join(one), folder.join(other));
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        let exchanged = renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE);
        count += usize::from(exchanged.is_ok());
    }
    count
}

/// Does something again and again while two entries of a folder are exchanged.
fn while_exchanged(folder: &Path, (one, other): (&str, &str), mut round: impl FnMut()) {
    /// Ends the exchange when a round has failed, too.
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let stop = AtomicBool::new(false);
    let count = std::thread::scope(|scope| {
        let exchanging = scope.spawn(|| exchange(folder, one, other, &stop));
        let stopper = Stop(&stop);
        for _ in 0..machine::count("CAPSID_ROUNDS", 60, 500) {
            round();
        }
        drop(stopper);
        exchanging.join().expect("the attacker")
    });
    assert!(count > 100, "only {count} exchanges: nothing was tried");
}

/// A volume with a directory and a link in it.
fn volume(stage: &Stage, link_to: &Path) -> PathBuf {
    let volume = stage.path("volume");
    std::fs::create_dir_all(volume.join("dir")).unwrap();
    symlink(link_to, volume.join("link")).unwrap();
    volume
}

fn entries(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

/// A bundle that mounts onto and below the directory that is exchanged, and shows its mounts.
fn mounting(stage: &Stage, volume: &Path) -> Bundle {
    let mut bundle = stage.own_bundle();
    let file = stage.path("file");
    std::fs::write(&file, "").unwrap();
    bundle
        .bind(volume, "/vol", &["rw"])
        .mount("/vol/dir/made", "tmpfs", "tmpfs", &[])
        .bind(&file, "/vol/dir/file", &[])
        .mount("/vol/dir", "tmpfs", "tmpfs", &["mode=700"])
        .sh("cut -d ' ' -f 5 /proc/self/mountinfo");
    bundle
}

#[test]
fn s20_a_directory_exchanged_for_a_link_leads_no_mount_to_the_host() {
    let stage = stage!();
    let decoy = stage.path("decoy");
    std::fs::create_dir(&decoy).unwrap();
    for link_to in [decoy.clone(), Path::new("../decoy").to_path_buf()] {
        let volume = volume(&stage, &link_to);
        let bundle = mounting(&stage, &volume);
        let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        while_exchanged(&volume, ("dir", "link"), || {
            let outcome = stage.run(&bundle);
            assert_eq!(entries(&decoy), 0, "made on the host: {outcome}");
            // In a namespace of its own a mount outside of the root is seen by its absence.
            let ours = |line: &&str| line.starts_with("/vol/") || line.contains("decoy");
            let inside = outcome.stdout.lines().filter(ours).count();
            assert!(
                outcome.code != 0 || inside == 3,
                "mounted outside: {outcome}"
            );
        });
        let after = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert_eq!(before, after);
        std::fs::remove_dir_all(&volume).unwrap();
    }
}

#[test]
fn s21_a_directory_exchanged_for_a_link_leads_no_mount_into_proc() {
    let stage = stage!();
    for link_to in ["/proc/self/attr", "/proc/sys"] {
        let volume = volume(&stage, Path::new(link_to));
        let mut bundle = mounting(&stage, &volume);
        bundle
            .set("/linux/maskedPaths", json!([]))
            .set("/linux/readonlyPaths", json!([]))
            .set("/linux/sysctl", json!({"kernel.shmmax": "12345678"}));
        while_exchanged(&volume, ("dir", "link"), || {
            let outcome = stage.run(&bundle);
            let inside = outcome
                .stdout
                .lines()
                .find(|line| line.starts_with("/proc/"));
            assert_eq!(inside, None, "mounted in /proc: {outcome}");
        });
        std::fs::remove_dir_all(&volume).unwrap();
    }
}

#[test]
fn s05_a_link_in_the_place_of_the_terminal_is_never_the_console() {
    let stage = stage!();
    // A volume of devices: its pts is covered by the container's devpts, or has been exchanged by then.
    let dev = stage.path("dev");
    let evil = dev.join("evil");
    std::fs::create_dir_all(&evil).unwrap();
    std::fs::create_dir(dev.join("pts")).unwrap();
    let decoy = Decoy::at(dev.join("decoy"));
    make("mknod", &dev.join("null"), &["c", "1", "3"]);
    make("mknod", &evil.join("ptmx"), &["c", "5", "2"]);
    symlink("pts/ptmx", dev.join("ptmx")).unwrap();
    for number in 0..4 {
        symlink("/dev/decoy", evil.join(number.to_string())).unwrap();
    }
    let mut bundle = stage.own_bundle();
    let devpts = bundle.config["mounts"].as_array().unwrap().iter();
    let devpts = devpts.clone().find(|m| m["destination"] == "/dev/pts");
    let devpts = devpts.unwrap().clone();
    without_mounts_at(&mut bundle, "/dev");
    bundle
        .bind(&dev, "/dev", &["rw"])
        .push("/mounts", devpts)
        .set("/process/terminal", json!(true))
        .set("/linux/maskedPaths", json!([]))
        .sh("echo written > /dev/console; grep ' /dev/console ' /proc/self/mountinfo");
    let mut consoles = 0;
    while_exchanged(&dev, ("pts", "evil"), || {
        let socket = ConsoleSocket::at(&stage.path("socket"));
        let path = socket.path.to_string_lossy().into_owned();
        let (id, outcome) = stage.try_create_with(&bundle, &["--console-socket", &path]);
        if outcome.code == 0 {
            let (master, _) = socket.receive();
            let started = stage.call(&["start", &id]);
            decoy.untouched(&started);
            let shown = crate::harness::terminal::Screen::of(master).rest();
            assert!(
                shown.contains(" - devpts ") || started.code != 0,
                "another console: {shown:?}"
            );
            consoles += 1;
        }
        decoy.untouched(&outcome);
        stage.call(&["delete", "--force", &id]).ok();
        std::fs::remove_file(&path).unwrap();
    });
    assert!(consoles > 0, "no console was ever made");
}
