//! linux.resources.blockIO: rates and weights of disks.

use serde_json::json;

use crate::harness::{Container, Stage, machine};
use crate::{skip, stage};

/// The controller of disks.
fn of_disks(stage: &Stage) -> &'static str {
    match stage.view.is_v2() {
        true => "io",
        false => "blkio",
    }
}

#[test]
fn rates_of_disks_are_written_and_one_that_is_not_there_is_named() {
    let stage = stage!();
    let controller = of_disks(&stage);
    let Some((major, minor)) = machine::disk().filter(|_| machine::has_controller(controller))
    else {
        skip!("no disk, or no controller for disks");
    };
    let device = |rate: u64| json!([{"major": major, "minor": minor, "rate": rate}]);
    let mut bundle = stage.bundle();
    bundle.sleeps().set(
        "/linux/resources/blockIO",
        json!({
            "throttleReadBpsDevice": device(1_048_576),
            "throttleWriteBpsDevice": device(2_097_152),
            "throttleReadIOPSDevice": device(300),
            "throttleWriteIOPSDevice": device(400),
        }),
    );
    let container = stage.create(&bundle);
    let number = format!("{major}:{minor}");
    match stage.view.is_v2() {
        true => {
            let all = format!("{number} rbps=1048576 wbps=2097152 riops=300 wiops=400");
            assert_eq!(container.limit(controller, "io.max"), all);
        }
        false => {
            for (file, rate) in [
                ("read_bps", 1_048_576),
                ("write_bps", 2_097_152),
                ("read_iops", 300),
                ("write_iops", 400),
            ] {
                let file = format!("blkio.throttle.{file}_device");
                assert_eq!(
                    container.limit(controller, &file),
                    format!("{number} {rate}")
                );
            }
        }
    }
    // All or nothing, of two devices of one file as well.
    let before = match stage.view.is_v2() {
        true => "io.max",
        false => "blkio.throttle.read_bps_device",
    };
    let told = container.limit(controller, before);
    let mut two = device(1000);
    two.as_array_mut()
        .unwrap()
        .push(json!({"major": 4000, "minor": 1, "rate": 5}));
    let document = json!({"blockIO": {"throttleReadBpsDevice": two}}).to_string();
    let script = "printf %s \"$2\" | $capsid update -r - \"$1\"";
    let refused = stage
        .shell(script, &[&container.id, &document])
        .refuses(&["/blockIO/throttleReadBpsDevice/1"]);
    // What was refused has no old value that could be missing.
    assert!(!refused.stderr.contains("old value"), "{refused}");
    assert_eq!(container.limit(controller, before), told);
    bundle.set(
        "/linux/resources/blockIO",
        json!({"throttleReadBpsDevice": [{"major": 4000, "minor": 1, "rate": 1}]}),
    );
    stage.try_create(&bundle).refuses(&[
        "/linux/resources/blockIO/throttleReadBpsDevice/0",
        "a rate of a disk",
        "no such device",
    ]);
}

#[test]
fn weights_go_to_the_scheduler_that_weighs() {
    let stage = stage!();
    let controller = of_disks(&stage);
    if !machine::has_controller(controller) {
        skip!("no controller for disks here");
    }
    let mut bundle = stage.bundle();
    bundle
        .sleeps()
        .set("/linux/resources/blockIO", json!({"weight": 500}));
    let (id, outcome) = stage.try_create_with(&bundle, &[]);
    if outcome.code != 0 {
        outcome.refuses(&["/linux/resources/blockIO/weight", "bfq"]);
        skip!("nothing weighs disks here (and that was said)");
    }
    let container = Container { id, stage: &stage };
    let said = match stage.view.is_v2() {
        true if container.cgroup("io").join("io.bfq.weight").exists() => {
            (container.limit("io", "io.bfq.weight"), "default 500")
        }
        true => (container.limit("io", "io.weight"), "default 4950"),
        false => (container.limit("blkio", "blkio.bfq.weight"), "500"),
    };
    assert_eq!(said.0, said.1);
}

#[test]
fn a_weight_that_no_disk_knows_is_told_and_refused_with_strict() {
    let stage = stage!();
    let weighs = |disk: std::fs::DirEntry| {
        let scheduler = std::fs::read_to_string(disk.path().join("queue/scheduler"));
        scheduler.is_ok_and(|list| list.contains("[bfq]"))
    };
    let mut disks = std::fs::read_dir("/sys/block").unwrap().flatten();
    if disks.any(weighs) {
        skip!("a disk is scheduled by bfq");
    }
    const AT: &str = "/linux/resources/blockIO/weight";
    const WHY: &str = "has no effect: no disk has a scheduler that weighs";
    let mut bundle = stage.bundle();
    bundle
        .sleeps()
        .set("/linux/resources/blockIO", json!({"weight": 500}))
        .write("weighs");
    let folder = bundle.folder.to_string_lossy().into_owned();
    let explained = stage.call(&["explain", &folder]).ok();
    let told = format!("{AT}: {WHY}");
    assert!(explained.stdout.contains(&told), "{explained}");
    stage
        .try_create_with(&bundle, &["--strict"])
        .1
        .refuses(&[AT, WHY, "--strict"]);

    bundle.remove("/linux/resources/blockIO");
    let container = stage.create(&bundle);
    let update = |options: &[&str]| {
        let options = [options, &["--blkio-weight", "300"]].concat();
        container.call("update", &options)
    };
    update(&["--strict"]).refuses(&["/blockIO/weight", WHY, "--strict"]);
    let outcome = update(&[]);
    // Where the kernel has no such file at all, it is refused.
    assert!(
        outcome.code != 0 || outcome.stderr.contains(WHY),
        "{outcome}"
    );
}

#[test]
fn a_weight_for_a_disk_on_which_nothing_weighs_is_refused_with_the_file_and_the_reason() {
    let stage = stage!();
    let controller = of_disks(&stage);
    let Some((major, minor)) = machine::disk().filter(|_| machine::has_controller(controller))
    else {
        skip!("no disk, or no controller for disks");
    };
    let mut bundle = stage.bundle();
    bundle.sleeps().set(
        "/linux/resources/blockIO/weightDevice",
        json!([{"major": major, "minor": minor, "weight": 300}]),
    );
    let (id, outcome) = stage.try_create_with(&bundle, &[]);
    if outcome.code == 0 {
        drop(Container { id, stage: &stage });
        skip!("the first disk is scheduled by bfq, or its costs are counted");
    }
    // A kernel that never weighs has no file at all.
    let file = match stage.view.is_v2() {
        false => format!("set blkio.bfq.weight_device to {major}:{minor} 300"),
        true => format!("set io.weight to {major}:{minor} 2930"),
    };
    outcome.refuses(&[&file, "/linux/resources/blockIO/weightDevice/0", "bfq"]);
}
