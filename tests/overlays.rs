//! Promise: --overlay runs a bundle without ever changing its root filesystem, and keeps what was written
//! only where it is told to.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use serde_json::json;

use crate::harness::{Bundle, Container, Outcome, Stage, around, machine, user};
use crate::{skip, stage};

/// A removal that lasts so long doesn't end.
const FOREVER: Duration = Duration::from_secs(120);

/// Every path below a folder with its kind, mode, owner, size and time of change.
fn listing(folder: &Path) -> String {
    let mut lines: Vec<_> = Outcome::of(
        Command::new("find")
            .arg(folder)
            .args(["-printf", "%P %y %m %U %G %s %T@ %l\n"]),
    )
    .ok()
    .stdout
    .lines()
    .map(str::to_owned)
    .collect();
    lines.sort_unstable();
    lines.join("\n")
}

const CHANGES: &str = "set -e; echo new > /new; echo changed >> /etc/passwd; rm /etc/group; mkdir -p /deep/er; rm -r /home; mkdir /home; chmod 700 /mnt; cat /new";

#[test]
fn what_the_container_writes_is_gone_and_the_bundle_unchanged() {
    let stage = stage!();
    let mut bundle = stage.own_bundle();
    bundle.set("/root/readonly", json!(false)).sh(CHANGES);
    let rootfs = bundle.folder.join("rootfs");
    let before = listing(&rootfs);
    stage.run_with(&bundle, &["--overlay"]).ok().prints("new");
    assert_eq!(listing(&rootfs), before);
    bundle.sh("cat /new 2>/dev/null; ls /etc/group /home/user");
    stage.run_with(&bundle, &["--overlay"]).ok();
    assert_eq!(listing(&rootfs), before);
}

#[test]
fn a_bundle_that_lacks_every_mount_point_is_not_changed_either() {
    let stage = stage!();
    let mut bundle = stage.own_bundle();
    let rootfs = bundle.folder.join("rootfs");
    for folder in ["proc", "sys", "dev"] {
        std::fs::remove_dir(rootfs.join(folder)).unwrap();
    }
    let before = listing(&rootfs);
    bundle
        .set("/process/cwd", json!("/not/there/yet"))
        .sh("pwd; ls -d /proc/1");
    assert_eq!(
        stage.run_with(&bundle, &["--overlay"]).ok().line(),
        "/not/there/yet\n/proc/1"
    );
    assert_eq!(listing(&rootfs), before);
}

#[test]
fn a_folder_that_is_named_keeps_what_was_written() {
    let stage = stage!();
    let mut bundle = stage.own_bundle();
    let rootfs = bundle.folder.join("rootfs");
    let before = listing(&rootfs);
    let kept = stage.path("kept").to_string_lossy().into_owned();
    bundle
        .set("/root/readonly", json!(false))
        .sh("echo first > /made");
    stage.run_with(&bundle, &["--overlay-dir", &kept]).ok();
    bundle.sh("cat /made; echo second >> /made");
    assert_eq!(
        stage
            .run_with(&bundle, &["--overlay", "--overlay-dir", &kept])
            .ok()
            .line(),
        "first"
    );
    assert_eq!(
        std::fs::read_to_string(Path::new(&kept).join("upper/made")).unwrap(),
        "first\nsecond\n"
    );
    assert_eq!(listing(&rootfs), before);
}

#[test]
fn a_folder_belongs_to_one_living_container_at_a_time() {
    let stage = stage!();
    let mut bundle = stage.own_bundle();
    bundle.set("/root/readonly", json!(false)).sleeps();
    let kept = stage.path("kept");
    let link = stage.path("link");
    std::os::unix::fs::symlink(&kept, &link).unwrap();
    let (kept, link) = (kept.to_string_lossy(), link.to_string_lossy());
    let first = stage.create_with(&bundle, &["--overlay-dir", &kept]);
    let words = ["overlay directory", "device or resource busy", &first.id];
    for directory in [&kept, &link] {
        let (id, outcome) = stage.try_create_with(&bundle, &["--overlay-dir", directory]);
        outcome.refuses(&words);
        assert!(stage.remains(&id).is_empty());
    }
    // Another folder is nobody's.
    let other = stage.path("other").to_string_lossy().into_owned();
    let second = stage.create_with(&bundle, &["--overlay-dir", &other]);
    // Who is killed blocks nobody, nor does what a killed create has left.
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(first.pid()),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    first.becomes("stopped");
    std::fs::remove_file(stage.state_root().join(&first.id).join("state.json")).unwrap();
    stage.create_with(&bundle, &["--overlay-dir", &kept]);
    stage
        .try_create_with(&bundle, &["--overlay-dir", &other])
        .1
        .refuses(&["device or resource busy", &second.id]);
}

#[test]
fn lower_folders_lie_over_each_other_in_their_order() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    let (low, high) = (stage.path("low, with:odd\\name"), stage.path("high"));
    for (folder, text) in [(&low, "low"), (&high, "high")] {
        std::fs::create_dir(folder).unwrap();
        std::fs::write(folder.join("both"), format!("{text}\n")).unwrap();
        std::fs::write(folder.join(text), "").unwrap();
    }
    bundle
        .set("/root/readonly", json!(false))
        .sh("cat /both; ls /low /high /bin/busybox; echo x > /both");
    let base = bundle.config["root"]["path"].as_str().unwrap().to_owned();
    let options = [
        "--overlay-lower",
        &base,
        "--overlay-lower",
        &low.to_string_lossy(),
        "--overlay-lower",
        &high.to_string_lossy(),
    ];
    let outcome = stage.run_with(&bundle, &options).ok();
    assert_eq!(
        outcome.stdout, "high\n/bin/busybox\n/high\n/low\n",
        "{outcome}"
    );
    assert_eq!(
        std::fs::read_to_string(high.join("both")).unwrap(),
        "high\n"
    );
}

#[test]
fn every_verb_works_on_an_overlay() {
    let stage = stage!();
    let mut bundle = stage.own_bundle();
    let before = listing(&bundle.folder.join("rootfs"));
    bundle.set("/root/readonly", json!(false)).sleeps();
    let container = stage.create_with(&bundle, &["--overlay"]);
    container.start().ok();
    assert_eq!(container.sh("echo x > /made; cat /made"), "x");
    assert_eq!(container.sh("cat /made"), "x");
    container.ends_by(&["TERM"]);
    container.delete().ok();
    assert_eq!(listing(&bundle.folder.join("rootfs")), before);
    assert_eq!(
        stage.remains(&container.id),
        Vec::<std::path::PathBuf>::new()
    );
}

#[test]
fn an_overlay_root_can_be_read_only() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.sh("touch /x 2>/dev/null || echo refused");
    stage
        .run_with(&bundle, &["--overlay"])
        .ok()
        .prints("refused");
}

#[test]
fn an_overlay_works_in_a_user_namespace() {
    let stage = stage!();
    let mut bundle = stage.own_bundle();
    let before = listing(&bundle.folder.join("rootfs"));
    bundle
        .set("/root/readonly", json!(false))
        .user_namespace(100_000, 65_536)
        .sh("id -u; ls -d /bin; cat /etc/hosts | wc -l");
    assert!(
        stage
            .run_with(&bundle, &["--overlay"])
            .ok()
            .stdout
            .starts_with("0\n/bin\n")
    );
    assert_eq!(listing(&bundle.folder.join("rootfs")), before);
}

#[test]
fn many_containers_run_off_one_root_at_once() {
    let stage = stage!();
    let mut bundle = stage.own_bundle();
    let before = listing(&bundle.folder.join("rootfs"));
    bundle
        .set("/root/readonly", json!(false))
        .sh("echo $(hostname) > /mine; trap 'exit 0' TERM; while :; do sleep 600 & wait $!; done");
    let count = machine::count("CAPSID_OVERLAYS", 20, 100);
    let containers: Vec<_> = (0..count)
        .map(|number| {
            bundle.set("/hostname", json!(format!("host-{number}")));
            let container = stage.create_with(&bundle, &["--overlay"]);
            container.start().ok();
            container
        })
        .collect();
    for (number, container) in containers.iter().enumerate() {
        crate::harness::until("the file is there", || {
            container.exec(&["cat", "/mine"]).stdout == format!("host-{number}\n")
        });
    }
    for container in &containers {
        container.delete_force().ok();
        assert_eq!(
            stage.remains(&container.id),
            Vec::<std::path::PathBuf>::new()
        );
    }
    assert_eq!(listing(&bundle.folder.join("rootfs")), before);
}

#[test]
fn an_upper_folder_that_can_not_be_used_is_named() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.args(&["/bin/true"]);
    stage
        .run_with(&bundle, &["--overlay-dir", "/proc/self"])
        .refuses(&["/proc"]);
    stage
        .run_with(&bundle, &["--overlay-lower", "/no/such/layer"])
        .refuses(&["/no/such/layer", "no such file or directory"]);
}

/// `run --overlay` by a runtime that may open few descriptors, of a program that writes deep.
fn writes_deep(stage: &Stage, bundle: &mut Bundle) {
    bundle.remove("/process/rlimits").set("/root/readonly", json!(false)).sh(
        "n=0; while [ $n -lt 1500 ]; do mkdir d && cd d || exit 1; n=$((n + 1)); done; echo made",
    );
    let (id, run) = stage.command(&["run", "--overlay"], bundle);
    let mut limited = Command::new("prlimit");
    limited.arg("--nofile=48:48");
    Outcome::of(&mut around(limited, &run)).ok().prints("made");
    assert_eq!(stage.remains(&id), Vec::<std::path::PathBuf>::new());
}

#[test]
fn what_was_written_deeper_than_descriptors_reach_goes_with_the_container() {
    let stage = stage!();
    writes_deep(&stage, &mut stage.bundle());
    let mut bundle = stage.own_bundle();
    bundle.user_namespace(100_000, 65_536);
    Outcome::of(
        Command::new("chown")
            .arg("100000:100000")
            .arg(bundle.folder.join("rootfs")),
    )
    .ok();
    writes_deep(&stage, &mut bundle);
}

#[test]
fn one_whose_upper_folder_is_filled_all_the_time_is_given_up_with_the_name_of_who_does_it() {
    let stage = stage!();
    let container = writable(&stage);
    let upper = stage.state_root().join(&container.id).join("overlay/upper");
    let fill = "i=0; while :; do i=$((i+1)); : > $$-$i; done";
    let mut fillers: Vec<_> = (0..3)
        .map(|_| {
            Command::new("sh")
                .args(["-c", fill])
                .current_dir(&upper)
                .spawn()
                .unwrap()
        })
        .collect();
    let begun = Instant::now();
    let outcome = container.call("delete", &["--force"]);
    for filler in &mut fillers {
        filler.kill().unwrap();
        filler.wait().unwrap();
    }
    gives_up(outcome, begun, "(sh) is in it");
    container.delete_force().ok();
    assert!(!stage.state_root().join(&container.id).exists());
}

/// A started container that may write.
fn writable(stage: &Stage) -> Container<'_> {
    let mut bundle = stage.bundle();
    bundle.set("/root/readonly", json!(false)).sleeps();
    let container = stage.create_with(&bundle, &["--overlay"]);
    container.start().ok();
    container
}

fn gives_up(outcome: Outcome, begun: Instant, who: &str) {
    assert!(begun.elapsed() < FOREVER);
    // On a busy machine they may be too slow.
    if outcome.code != 0 {
        outcome.refuses(&["delete", "somebody makes files in it while", who]);
    }
}

#[test]
fn what_an_ordinary_users_container_wrote_deep_goes_with_it() {
    let stage = stage!();
    if let Some(reason) = user::obstacle() {
        skip!("{reason}");
    }
    let mut bundle = stage.own_bundle();
    bundle
        .remove("/linux/cgroupsPath")
        .remove("/linux/resources");
    let stage = stage.of_user();
    writes_deep(&stage, &mut bundle);
}

#[test]
fn odd_layers_do_what_an_overlay_does_or_are_refused_by_name() {
    use nix::sys::stat::{SFlag, mknod};
    let stage = stage!();
    let mut bundle = stage.bundle();
    let base = bundle.config["root"]["path"].as_str().unwrap().to_owned();
    bundle
        .set("/root/readonly", json!(false))
        .sh("ls -d /shown /shown/old /opaque/old /opaque/new /etc /dev/null 2>/dev/null; true");
    let folder = |name: &str| {
        let path = stage.path(name);
        std::fs::create_dir_all(&path).unwrap();
        path.to_string_lossy().into_owned()
    };
    let run = |layers: &[&str]| {
        let mut options = vec!["--overlay-lower", &base];
        for layer in layers {
            options.extend(["--overlay-lower", layer]);
        }
        stage.run_with(&bundle, &options)
    };
    let (low, high) = (folder("low"), folder("high"));
    for old in ["shown/old", "opaque/old"] {
        folder(&format!("low/{old}"));
    }
    folder("high/opaque/new");
    let opaque = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(
        stage.path("high/opaque"),
        "trusted.overlay.opaque",
        b"y",
        opaque,
    )
    .unwrap();
    // Whiteouts of a directory, and of one that the runtime mounts on.
    for gone in ["high/etc", "high/dev", "high/shown"] {
        mknod(&stage.path(gone), SFlag::S_IFCHR, Mode::empty(), 0).unwrap();
    }
    assert_eq!(
        run(&[&low]).ok().line(),
        "/dev/null\n/etc\n/opaque/old\n/shown\n/shown/old"
    );
    assert_eq!(run(&[&low, &high]).ok().line(), "/dev/null\n/opaque/new");
    // A file, a fifo or a link where the runtime needs a folder.
    let odd = folder("odd");
    std::fs::write(stage.path("odd/dev"), "").unwrap();
    run(&[&odd]).refuses(&["/dev", "nor a file on a directory"]);
    std::fs::remove_file(stage.path("odd/dev")).unwrap();
    std::os::unix::fs::symlink("/proc", stage.path("odd/sys")).unwrap();
    run(&[&odd]).refuses(&["/sys", "symbolic link"]);
    // Layers that are none.
    let file = stage.path("file").to_string_lossy().into_owned();
    std::fs::write(&file, "").unwrap();
    run(&[&file]).refuses(&["open the lower directory", "not a directory"]);
    let fifo = stage.path("fifo").to_string_lossy().into_owned();
    nix::unistd::mkfifo(fifo.as_str(), Mode::S_IRWXU).unwrap();
    run(&[&fifo]).refuses(&["open the lower directory", "not a directory"]);
    let inner = format!("{low}/shown");
    for overlapping in [[&*low, &*low], [&*low, &*inner]] {
        run(&overlapping).refuses(&["overlapping layers", "lies in it"]);
    }
}
