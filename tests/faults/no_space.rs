//! Promise: a full disk is told by path and "no space left on device", leaves nothing half made, and stops
//! neither kill nor delete.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Bundle, Outcome, Stage};
use crate::stage;

/// A tmpfs as state root, unmounted at the end.
struct Small(PathBuf);

impl Small {
    fn new(stage: &Stage, options: &str) -> Small {
        let path = stage.path(&format!("small-{}", options.replace(['=', ','], "-")));
        std::fs::create_dir(&path).unwrap();
        Outcome::of(
            Command::new("mount")
                .args(["-t", "tmpfs", "-o", options, "small"])
                .arg(&path),
        )
        .ok();
        Small(path)
    }

    fn call(&self, stage: &Stage, words: &[&str]) -> Outcome {
        Outcome::of(stage.bare().arg("--root").arg(&self.0).args(words))
    }

    fn create(&self, stage: &Stage, bundle: &Bundle, id: &str) -> Outcome {
        bundle.write(id);
        let folder = bundle.folder.to_string_lossy();
        self.call(stage, &["create", "--bundle", &folder, id])
    }

    fn is_empty(&self) -> bool {
        std::fs::read_dir(&self.0).unwrap().next().is_none()
    }

    /// Takes all the space that is left.
    fn fill(&self, name: &str) -> PathBuf {
        use std::io::Write;
        let path = self.0.join(name);
        let mut file = std::fs::File::create(&path).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        path
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let unmounted = Outcome::of(Command::new("umount").arg(&self.0));
        if !std::thread::panicking() {
            unmounted.ok();
        }
    }
}

fn says_so(outcome: &Outcome, root: &Path) {
    assert_eq!(outcome.code, 1, "{outcome}");
    assert!(
        outcome.stderr.contains("no space left on device"),
        "{outcome}"
    );
    assert!(
        outcome.stderr.contains(&*root.to_string_lossy()),
        "no path: {outcome}"
    );
    assert_eq!(outcome.stderr.trim().lines().count(), 1, "{outcome}");
}

#[test]
fn f05_a_create_without_space_says_so_and_leaves_nothing() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.sleeps();
    let (mut refused, mut made) = (0, 0);
    // Pages and inodes: each lets one more of the files be made.
    let sizes = ["size=4k", "size=8k", "size=12k", "size=16k", "size=64k"];
    let inodes = ["nr_inodes=1", "nr_inodes=2", "nr_inodes=3", "nr_inodes=5"];
    for options in sizes.iter().chain(&inodes) {
        let small = Small::new(&stage, options);
        let id = stage.id();
        let outcome = small.create(&stage, &bundle, &id);
        if outcome.code == 0 {
            made += 1;
            small.call(&stage, &["delete", "--force", &id]).ok();
        } else {
            refused += 1;
            says_so(&outcome, &small.0);
        }
        assert!(small.is_empty(), "{options}: left in {}", small.0.display());
        assert!(stage.remains(&id).is_empty(), "{options}");
    }
    assert!(refused >= 4 && made >= 1, "{refused} refused, {made} made");
}

#[test]
fn f05_a_disk_that_is_full_while_a_container_runs_stops_neither_kill_nor_delete() {
    let stage = stage!();
    let small = Small::new(&stage, "size=128k");
    let id = stage.id();
    let mut bundle = stage.bundle();
    bundle.sleeps();
    small.create(&stage, &bundle, &id).ok();
    let filler = small.fill(".filler");
    small.call(&stage, &["start", &id]).ok();
    small.call(&stage, &["exec", &id, "/bin/true"]).ok();
    small.call(&stage, &["pause", &id]).ok();
    small.call(&stage, &["resume", &id]).ok();
    small.call(&stage, &["state", &id]).ok().prints("running");
    small.call(&stage, &["kill", &id, "KILL"]).ok();
    small.call(&stage, &["delete", "--force", &id]).ok();
    assert!(stage.remains(&id).is_empty());
    // A second one has no space.
    let rest = small.fill(".rest");
    says_so(&small.create(&stage, &bundle, &id), &small.0);
    std::fs::remove_file(filler).unwrap();
    std::fs::remove_file(rest).unwrap();
    assert!(small.is_empty());
    small.create(&stage, &bundle, &id).ok();
    small.call(&stage, &["delete", "--force", &id]).ok();
}

#[test]
fn f05_an_overlay_without_space_says_so_and_leaves_nothing() {
    let stage = stage!();
    let small = Small::new(&stage, "nr_inodes=7");
    let id = stage.id();
    let mut bundle = stage.bundle();
    bundle.sleeps().write(&id);
    let folder = bundle.folder.to_string_lossy().into_owned();
    let outcome = small.call(&stage, &["create", "--overlay", "--bundle", &folder, &id]);
    says_so(&outcome, &small.0);
    assert!(small.is_empty());
    assert!(stage.remains(&id).is_empty());
}
