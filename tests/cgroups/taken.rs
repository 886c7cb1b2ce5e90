//! A cgroup that is taken: whose it is stays as it is, whether a container asks for the same one or another's
//! delete comes past it.

use serde_json::json;

use crate::harness::{Stage, View};
use crate::stage;

#[test]
fn f17_a_cgroup_that_is_in_use_is_refused_with_its_process() {
    for view in View::versions() {
        let stage = stage!(view);
        let first = stage.running();
        let mut bundle = stage.bundle();
        bundle
            .sleeps()
            .set("/linux/cgroupsPath", json!(Stage::cgroups_path(&first.id)));
        let holder = format!("it holds process {} (", first.pid());
        let words = ["cgroup is not empty", &holder];
        stage.try_create(&bundle).refuses(&words);
        first.call("pause", &[]).ok();
        stage.try_create(&bundle).refuses(&words);
        assert_eq!(first.status(), "paused", "{view:?}");
        first.call("resume", &[]).ok();
        assert_eq!(first.status(), "running");
    }
}

#[test]
fn f17_a_cgroup_that_is_frozen_is_refused_and_stays_as_it_is() {
    for view in View::versions() {
        let stage = stage!(view);
        let mut bundle = stage.bundle();
        let path = Stage::cgroups_path(&stage.id());
        bundle.sleeps().set("/linux/cgroupsPath", json!(path));
        let folder = view.cgroup("freezer", &path);
        std::fs::create_dir(&folder).unwrap();
        let (file, frozen, thawed) = match view.is_v2() {
            true => ("cgroup.freeze", "1", "0"),
            false => ("freezer.state", "FROZEN", "THAWED"),
        };
        let file = folder.join(file);
        let stopped = Stopped {
            file: &file,
            thawed,
        };
        std::fs::write(&file, frozen).unwrap();
        let words = ["container's cgroup unexpectedly frozen"];
        stage.try_create(&bundle).refuses(&words);
        let now = std::fs::read_to_string(&file).unwrap();
        assert_eq!(now.trim(), frozen, "{view:?}");
        drop(stopped);
        std::fs::remove_dir(&folder).unwrap();
    }
}

/// A frozen cgroup, which is thawed before the stage is cleared: whoever got into it, where nobody
/// should, couldn't be killed, and the test would wait instead of failing.
struct Stopped<'a> {
    file: &'a std::path::Path,
    thawed: &'a str,
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        let _ = std::fs::write(self.file, self.thawed);
    }
}

#[test]
fn a_delete_kills_nobody_of_a_container_that_has_the_cgroup_since() {
    for view in View::versions() {
        for options in [&[][..], &["--force"]] {
            let stage = stage!(view);
            let first = stage.running();
            first.ends_by(&["KILL"]);
            let mut bundle = stage.bundle();
            bundle
                .sleeps()
                .set("/linux/cgroupsPath", json!(Stage::cgroups_path(&first.id)));
            let second = stage.create(&bundle);
            second.start().ok();
            let outcome = first.call("delete", options).ok();
            let told = format!("its cgroup stays: the container {} is in it", second.id);
            assert!(outcome.stderr.contains(&told), "{outcome}");
            assert_eq!(second.status(), "running", "{view:?} {options:?}");
            second.delete_force().ok();
        }
    }
}

#[test]
fn a_delete_kills_nobody_of_a_container_whose_cgroup_lies_below() {
    for view in View::versions() {
        for options in [&[][..], &["--force"]] {
            let stage = stage!(view);
            let outer = stage.running();
            outer.ends_by(&["KILL"]);
            let mut bundle = stage.bundle();
            let path = format!("{}/box/inner", Stage::cgroups_path(&outer.id));
            bundle.sleeps().set("/linux/cgroupsPath", json!(path));
            let inner = stage.create(&bundle);
            inner.start().ok();
            let outcome = outer.call("delete", options).ok();
            let told = format!("its cgroup stays: the container {} is in it", inner.id);
            assert!(outcome.stderr.contains(&told), "{outcome}");
            assert_eq!(inner.status(), "running", "{view:?} {options:?}");
            stage
                .call(&["state", &outer.id])
                .refuses(&["does not exist"]);
            inner.delete_force().ok();
            // The parents that are left may be anybody's.
            for place in stage.remains(&outer.id) {
                std::fs::remove_dir(place.join("box")).unwrap();
                std::fs::remove_dir(place).unwrap();
            }
        }
    }
}
