//! Many updates of one container, one after the other: after each of them the files of its cgroup say the
//! same under capsid and under runc, and both take it or both refuse it.

use std::collections::BTreeMap;
use std::process::Stdio;

use serde_json::{Value, json};

use super::generated::Random;
use super::peer::{Peer, Rootfs};
use super::{idle, without_cgroup_mounts};
use crate::harness::{Bundle, Outcome, Stage, View, machine};
use crate::{skip, stage};

/// The files that a limit may be in; but cpu.weight, which follows another curve in runc since 1.4.
const FILES: &[&str] = &[
    "memory.limit_in_bytes",
    "memory.memsw.limit_in_bytes",
    "memory.soft_limit_in_bytes",
    "memory.max",
    "memory.swap.max",
    "memory.low",
    "memory.high",
    "cpu.shares",
    "cpu.cfs_quota_us",
    "cpu.cfs_period_us",
    "cpu.cfs_burst_us",
    "cpu.idle",
    "cpu.max",
    "cpu.max.burst",
    "cpuset.cpus",
    "cpuset.mems",
    "pids.max",
    "io.weight",
    "blkio.weight",
    "blkio.bfq.weight",
];

/// A container under one of the runtimes.
struct Side {
    peer: Peer,
    id: String,
}

impl Side {
    fn begin(peer: Peer, bundle: &Bundle, id: String) -> Side {
        bundle.write(&id);
        let folder = bundle.folder.to_string_lossy();
        peer.call(&["create", "--bundle", &folder, &id]).ok();
        peer.call(&["start", &id]).ok();
        Side { peer, id }
    }

    fn limits(&self) -> BTreeMap<String, String> {
        let path = Stage::cgroups_path(&self.id);
        let mut limits = BTreeMap::new();
        for controller in ["memory", "cpu", "cpuset", "pids", "blkio"] {
            let folder = self.peer.view.cgroup(controller, &path);
            for file in FILES {
                if let Ok(text) = std::fs::read_to_string(folder.join(file)) {
                    limits.insert((*file).to_owned(), text.trim().to_owned());
                }
            }
        }
        limits
    }

    fn update(&self, document: &Value, folder: &std::path::Path) -> Outcome {
        let file = folder.join("update.json");
        std::fs::write(&file, document.to_string()).unwrap();
        let mut command = self.peer.command();
        command
            .args(["update", "--resources", "-", &self.id])
            .stdin(Stdio::from(std::fs::File::open(file).unwrap()));
        Outcome::of(&mut command)
    }

    fn end(self) {
        self.peer.call(&["delete", "--force", &self.id]).ok();
    }
}

/// What docker, the kubelet or a person may ask of a running container.
fn generated(random: &mut Random) -> Value {
    let mut update = json!({});
    let megabytes = |n: usize| (n << 20) as u64;
    if random.once_in(2) {
        let limit = random.of(&[32, 64, 96, 128, 200]);
        update["memory"]["limit"] = json!(megabytes(limit));
        // runc of 2023 writes memory without swap as it comes; the kernel may refuse that.
        update["memory"]["swap"] = match random.below(4) {
            0 => json!(-1),
            1 => json!(megabytes(limit)),
            _ => json!(megabytes(limit + random.of(&[16, 64]))),
        };
    }
    if random.once_in(4) {
        update["memory"]["reservation"] = json!(megabytes(random.of(&[8, 16, 24])));
    }
    if random.once_in(3) {
        update["cpu"]["shares"] = json!(random.of(&[0, 2, 100, 512, 1024, 2000, 262_144]));
    }
    if random.once_in(2) {
        let period = random.of(&[10_000, 50_000, 100_000, 200_000]);
        update["cpu"]["period"] = json!(period);
        // Beside a period, runc of 2023 takes a zero for no limit on cgroup v2 alone.
        update["cpu"]["quota"] = json!(random.of(&[-1, period / 2, period, 2 * period]));
    } else if random.once_in(3) && machine::cgroups() != machine::Cgroups::V2 {
        // On cgroup v2, runc of 2023 forgets the period in an update that names neither.
        update["cpu"]["quota"] = json!(random.of(&[-1, 0, 5_000, 20_000, 150_000]));
    }
    if random.once_in(4) && machine::has_controller("cpuset") {
        update["cpu"]["cpus"] = json!(random.of(&["", "0", "0-1", "77"]));
    }
    if random.once_in(3) {
        update["pids"] = json!({"limit": random.of(&[-1, 0, 20, 300])});
    }
    update
}

#[test]
fn updates_leave_the_same_limits() {
    if !machine::has_program("runc") {
        skip!("runc is not installed");
    }
    for controller in ["memory", "cpu", "pids"] {
        if !machine::has_controller(controller) {
            skip!("no {controller} controller here");
        }
    }
    let stage = stage!(View::Host);
    let mut bundle = super::bundle(&stage);
    let _rootfs = Rootfs::new(&bundle.folder.join("rootfs"));
    without_cgroup_mounts(&mut bundle);
    idle(&mut bundle)
        .set(
            "/linux/resources/memory",
            json!({"limit": 64 << 20, "swap": 64 << 20}),
        )
        .set(
            "/linux/resources/cpu",
            json!({"shares": 512, "quota": 50_000, "period": 100_000}),
        );
    let ours = Side::begin(Peer::new("capsid", &stage, View::Host), &bundle, stage.id());
    let theirs = Side::begin(Peer::new("runc", &stage, View::Host), &bundle, stage.id());
    let mut random = Random::new(5);
    let usual = match machine::cgroups() {
        machine::Cgroups::V2 => 12,
        _ => 40,
    };
    for number in 0..machine::count("CAPSID_GENERATED", usual, 400) {
        let update = generated(&mut random);
        let before = ours.limits();
        assert_eq!(before, theirs.limits(), "before {number}: {update}");
        let (our, their) = (
            ours.update(&update, &bundle.folder),
            theirs.update(&update, &bundle.folder),
        );
        assert_eq!(our.code, their.code, "{number}: {update}\n{our}\n{their}");
        if our.code != 0 {
            assert_eq!(
                ours.limits(),
                before,
                "{number}: {update} was not taken back"
            );
        }
        assert_eq!(
            ours.limits(),
            theirs.limits(),
            "{number}: {update} after {before:?}\n{our}\n{their}"
        );
    }
    ours.end();
    theirs.end();
}
