//! Promise: a systemd that refuses, talks nonsense or says nothing at all is an error with a deadline, which
//! leaves nothing behind; and what can't be taken back without it is taken back by a later delete.
//! A bus of the test's own plays it, so that this needs no systemd.

mod bus;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::harness::{Bundle, Outcome, Stage, around, machine};
use crate::{skip, stage};
use bus::{Bus, Manner};

/// A container that is to have a unit, and the place of the bus that the runtime is sent to.
struct Scene {
    stage: Stage,
    path: PathBuf,
    id: String,
    bundle: Bundle,
}

/// A scene, or a skip where there is nothing to test.
macro_rules! scene {
    () => {{
        if machine::systemd() {
            skip!("systemd itself is here: the machine without one tests this");
        }
        Scene::on(stage!())
    }};
    (whose_unit_is_made) => {{
        if machine::cgroups() == machine::Cgroups::V2 {
            skip!("on cgroup v2 nobody but systemd puts the process into its scope");
        }
        scene!()
    }};
}

impl Scene {
    fn on(stage: Stage) -> Scene {
        let (path, id, mut bundle) = (stage.path("bus"), stage.id(), stage.bundle());
        bundle
            .sleeps()
            .set("/linux/cgroupsPath", format!("-.slice:x:{id}").into());
        Scene {
            stage,
            path,
            id,
            bundle,
        }
    }

    fn bus(&self, manner: Manner) -> Bus {
        Bus::new(&self.path, manner)
    }

    /// The runtime, sent to the bus at this path.
    fn command(&self, bus: &Path, words: &[&str]) -> Command {
        let mut command = self.stage.capsid();
        let address = format!("unix:path={}", bus.display());
        command
            .arg("--systemd-cgroup")
            .env("DBUS_SYSTEM_BUS_ADDRESS", address)
            .args(words);
        command
    }

    fn create_by(&self, bus: &Path) -> Command {
        self.bundle.write(&self.id);
        let folder = self.bundle.folder.to_string_lossy();
        self.command(bus, &["create", "--bundle", &folder, &self.id])
    }

    #[track_caller]
    fn create(&self) -> Outcome {
        Outcome::of(&mut self.create_by(&self.path))
    }

    #[track_caller]
    fn delete(&self, options: &[&str]) -> Outcome {
        let words = [&["delete"], options, &[&self.id]].concat();
        Outcome::of(&mut self.command(&self.path, &words))
    }

    /// What there is of the unit's cgroups.
    fn cgroups(&self) -> String {
        let name = format!("x-{}.scope", self.id);
        let words = ["/sys/fs/cgroup", "-type", "d", "-name", &name];
        Outcome::of(Command::new("find").args(words)).stdout
    }

    fn has_state(&self) -> bool {
        self.stage.state_root().join(&self.id).exists()
    }
}

/// Whether one of the calls is this.
fn asked(calls: &[String], method: &str) -> bool {
    calls.iter().any(|call| call == method)
}

#[test]
fn a_unit_is_begun_with_the_process_and_stopped_with_the_container() {
    let scene = scene!(whose_unit_is_made);
    let bus = scene.bus(Manner::Answers);
    scene.create().ok();
    assert_ne!(scene.cgroups(), "");
    scene.delete(&[]).ok();
    assert_eq!(scene.cgroups(), "");
    let greeting = ["Hello", "AddMatch"];
    let expected = [
        &greeting[..],
        &["Get", "Get"],
        &greeting,
        &["StartTransientUnit"],
        &greeting,
        &["GetUnit", "Get", "StopUnit", "ResetFailedUnit"],
    ];
    assert_eq!(bus.calls(), expected.concat());
}

#[test]
fn a_unit_of_somebody_elses_is_not_stopped() {
    let scene = scene!();
    let bus = scene.bus(Manner::HasTheUnit);
    scene
        .create()
        .refuses(&["start unit x-", "it was already loaded"]);
    let calls = bus.calls();
    let tries = calls.iter().filter(|call| *call == "StartTransientUnit");
    assert_eq!(tries.count(), 2, "{calls:?}");
    assert!(asked(&calls, "ResetFailedUnit"), "{calls:?}");
    assert!(!asked(&calls, "StopUnit"), "{calls:?}");
}

#[test]
fn a_unit_that_was_never_asked_for_is_not_stopped() {
    let mut scene = scene!();
    let bus = scene.bus(Manner::HasTheUnit);
    // Refused by the kernel, before the process waits for its unit.
    scene.bundle.namespace("time", None).set(
        "/linux/timeOffsets",
        json!({"monotonic": {"secs": i64::MAX}}),
    );
    scene.create().refuses(&["/linux/timeOffsets"]);
    assert_eq!(scene.cgroups(), "");
    let calls = bus.calls();
    for never in ["StartTransientUnit", "StopUnit"] {
        assert!(!asked(&calls, never), "{calls:?}");
    }
}

#[test]
fn a_delete_stops_no_unit_of_the_same_name_in_another_slice() {
    let scene = scene!(whose_unit_is_made);
    let bus = scene.bus(Manner::Answers);
    scene.create().ok();
    drop(bus);
    // As after a create that was killed before it asked: the journal names a unit that is another's.
    let bus = scene.bus(Manner::HasTheUnit);
    scene.delete(&["--force"]).ok();
    let calls = bus.calls();
    assert!(!asked(&calls, "StopUnit"), "{calls:?}");
    assert_eq!(scene.cgroups(), "");
}

#[test]
fn nonsense_and_nobody_are_errors_at_once() {
    let scene = scene!();
    let _bus = scene.bus(Manner::Babbles);
    scene
        .create()
        .refuses(&["introduce capsid to the bus", "OK"]);
    let nowhere = &mut scene.create_by(Path::new("/nowhere/bus"));
    Outcome::of(nowhere).refuses(&["unix:path=/nowhere/bus", "no such file or directory"]);
    assert_eq!(scene.cgroups(), "");
}

#[test]
fn f20_a_bus_that_never_answers_is_an_error_after_half_a_minute() {
    const NO_ANSWER: &str = "no answer from systemd at unix:path=";
    let refuses = |scene: Scene, manner: Manner, words: &[&str]| {
        let _bus = scene.bus(manner);
        let outcome = scene.create();
        assert!(outcome.took > Duration::from_secs(29), "{outcome}");
        assert!(outcome.took < Duration::from_secs(50), "{outcome}");
        assert_eq!(scene.cgroups(), "", "{manner:?}");
        assert!(!scene.has_state(), "{manner:?}");
        outcome.refuses(&[words, &[NO_ANSWER]].concat());
    };
    let scenes = [scene!(), scene!(), scene!(), scene!()];
    let all: [(Manner, &[&str]); 4] = [
        (Manner::IsDeaf, &["within 30 s"]),
        (Manner::IsMute, &["within 30 s"]),
        (Manner::Dawdles, &["start unit x-", "its job does not end"]),
        (
            Manner::Stutters,
            &["start unit x-", "StartTransientUnit was not answered"],
        ),
    ];
    // Each of them waits and does nothing else.
    std::thread::scope(|scope| {
        let all = scenes.into_iter().zip(all);
        let all: Vec<_> = all
            .map(|(scene, (manner, words))| scope.spawn(move || refuses(scene, manner, words)))
            .collect();
        all.into_iter().for_each(|one| one.join().expect(""));
    });
}

#[test]
fn f20_a_bus_that_ends_in_the_middle_of_an_answer_is_an_error_at_once() {
    let scene = scene!();
    let bus = scene.bus(Manner::HangsUp);
    scene.create().refuses(&[
        "start unit x-",
        "talking to systemd at unix:path=",
        "connection reset by peer",
    ]);
    assert_eq!(scene.cgroups(), "");
    assert!(!scene.has_state());
    // It may have begun the unit, and is asked to take it back.
    assert!(asked(&bus.calls(), "StopUnit"));
}

#[test]
fn from_another_pid_namespace_systemd_is_told_of_no_process() {
    let scene = scene!();
    let bus = scene.bus(Manner::Answers);
    let mut elsewhere = Command::new("unshare");
    elsewhere.args(["--pid", "--fork", "--mount-proc", "--kill-child", "--"]);
    let mut create = around(elsewhere, &scene.create_by(&scene.path));
    Outcome::of(&mut create).refuses(&[
        "systemd is in another pid namespace",
        "--cgroup-manager cgroupfs",
    ]);
    let calls = bus.calls();
    assert!(!asked(&calls, "StartTransientUnit"), "{calls:?}");
    assert_eq!(scene.cgroups(), "");
}

#[test]
fn f20_a_delete_that_gets_no_answer_is_finished_by_a_later_one() {
    let scene = scene!(whose_unit_is_made);
    let bus = scene.bus(Manner::Answers);
    scene.create().ok();
    drop(bus);
    let bus = scene.bus(Manner::Dawdles);
    scene
        .delete(&["--force"])
        .refuses(&["stop unit x-", "no answer from systemd at unix:path="]);
    drop(bus);
    // Its processes are gone all the same.
    assert_eq!(scene.cgroups(), "");
    let bus = scene.bus(Manner::Answers);
    scene.delete(&["--force"]).ok();
    assert!(asked(&bus.calls(), "StopUnit"));
    assert!(!scene.has_state());
}
