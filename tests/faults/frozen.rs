//! Promise: a cgroup above the container's that is frozen is named by whoever could do nothing below it.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use crate::harness::{Bundle, Stage, View, until};
use crate::stage;

/// A cgroup for containers to be below, in all hierarchies when it goes.
struct Above<'a> {
    stage: &'a Stage,
    id: String,
    view: View,
}

impl<'a> Above<'a> {
    fn new(stage: &'a Stage, view: View) -> Above<'a> {
        let above = Above {
            stage,
            id: stage.id(),
            view,
        };
        std::fs::create_dir(above.folder()).unwrap();
        above
    }

    fn folder(&self) -> PathBuf {
        self.view.cgroup("freezer", &Stage::cgroups_path(&self.id))
    }

    /// As every view names it.
    fn name(&self) -> String {
        Stage::cgroups_path(&self.id)
    }

    fn bundle(&self) -> Bundle {
        let mut bundle = self.stage.bundle();
        let path = format!("{}/box", Stage::cgroups_path(&self.id));
        bundle.sleeps().set("/linux/cgroupsPath", json!(path));
        bundle
    }

    fn set(&self, frozen: bool) {
        let (file, value) = match (self.view.is_v2(), frozen) {
            (true, true) => ("cgroup.freeze", "1"),
            (true, false) => ("cgroup.freeze", "0"),
            (false, true) => ("freezer.state", "FROZEN"),
            (false, false) => ("freezer.state", "THAWED"),
        };
        std::fs::write(self.folder().join(file), value).unwrap();
    }
}

impl Drop for Above<'_> {
    fn drop(&mut self) {
        // Whoever got into it can't be killed before.
        self.set(false);
        for place in self.stage.remains(&self.id) {
            let emptied = || {
                let _ = std::fs::remove_dir(place.join("box"));
                std::fs::remove_dir(&place).is_ok()
            };
            match std::thread::panicking() {
                true => drop(emptied()),
                false => until("the cgroup is empty", emptied),
            }
        }
    }
}

#[test]
fn f17_create_and_run_refuse_a_cgroup_below_a_frozen_one_and_leave_nothing_there() {
    for view in View::versions() {
        let stage = stage!(view);
        let above = Above::new(&stage, view);
        let bundle = above.bundle();
        above.set(true);
        for verb in ["create", "run"] {
            let (id, mut command) = stage.command(&[verb], &bundle);
            let outcome = crate::harness::Outcome::of(&mut command).refuses(&[
                "container's cgroup unexpectedly frozen",
                &above.name(),
                "the container's lies below it",
            ]);
            assert!(outcome.took < Duration::from_secs(20), "{outcome}");
            assert!(!stage.state_root().join(&id).exists(), "{view:?}");
            assert!(!above.folder().join("box").exists(), "{view:?}");
        }
        above.set(false);
        let container = stage.create(&bundle);
        container.start().ok();
        container.delete_force().ok();
    }
}

#[test]
fn resume_names_the_cgroup_above_that_is_frozen() {
    for view in View::versions() {
        let stage = stage!(view);
        let above = Above::new(&stage, view);
        let container = stage.create(&above.bundle());
        container.start().ok();
        above.set(true);
        container.becomes("paused");
        container.call("resume", &[]).refuses(&[
            "unable to thaw",
            &format!("{} above the container's", above.name()),
        ]);
        above.set(false);
        container.becomes("running");
        container.call("pause", &[]).ok();
        container.call("resume", &[]).ok();
        container.delete_force().ok();
    }
}

#[test]
fn f19_delete_names_the_cgroup_above_that_keeps_the_container_from_ending() {
    let stage = stage!(View::V1);
    let above = Above::new(&stage, View::V1);
    let container = stage.create(&above.bundle());
    container.start().ok();
    above.set(true);
    container.delete_force().refuses(&[
        "did not end within 10 s",
        &format!("{} above the container's", above.name()),
    ]);
    above.set(false);
    container.delete_force().ok();
}

/// The kernel goes on counting a cgroup for a while after rmdir(2), and refuses new device rules as long.
#[test]
fn a_cgroup_that_has_lost_one_below_it_just_now_is_taken() {
    let stage = stage!(View::V1);
    for _ in 0..8 {
        let id = stage.id();
        let path = Stage::cgroups_path(&id);
        let below = View::V1.cgroup("devices", &path).join("below");
        std::fs::create_dir_all(&below).unwrap();
        let mut bundle = stage.bundle();
        bundle
            .sleeps()
            .set("/linux/cgroupsPath", json!(path))
            .write(&id);
        let mut create = stage.capsid();
        create
            .args(["create", "--bundle"])
            .arg(&bundle.folder)
            .arg(&id);
        std::fs::remove_dir(&below).unwrap();
        crate::harness::Outcome::of(&mut create).ok();
        stage.call(&["delete", "--force", &id]).ok();
    }
}
