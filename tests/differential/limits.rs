//! Random resources: what each runtime has written below the container's cgroup, on cgroup v1 and, in the
//! guest, on v2. CAPSID_SEED=N looks at that one alone; CAPSID_GENERATED=N takes as many.

use serde_json::{Map, Value, json};

use super::allowed::Allowed;
use super::generated::Random;
use super::peer::Peer;
use super::seen::{Difference, Seen};
use super::{VIEW, bundle, obstacle_anywhere, without_cgroup_mounts};
use crate::harness::machine::{self, Cgroups};
use crate::harness::{Bundle, Stage, View};
use crate::{skip, stage};

/// The files that are compared, by v1's controller.
const V1: &[(&str, &[&str])] = &[
    (
        "cpu",
        &[
            "cpu.shares",
            "cpu.cfs_quota_us",
            "cpu.cfs_period_us",
            "cpu.cfs_burst_us",
            "cpu.idle",
            "cpu.rt_runtime_us",
            "cpu.rt_period_us",
        ],
    ),
    ("cpuset", &["cpuset.cpus", "cpuset.mems"]),
    (
        "memory",
        &[
            "memory.limit_in_bytes",
            "memory.memsw.limit_in_bytes",
            "memory.soft_limit_in_bytes",
            "memory.swappiness",
            "memory.oom_control",
        ],
    ),
    ("pids", &["pids.max"]),
    (
        "blkio",
        &[
            "blkio.bfq.weight",
            "blkio.bfq.weight_device",
            "blkio.throttle.read_bps_device",
            "blkio.throttle.write_bps_device",
            "blkio.throttle.read_iops_device",
            "blkio.throttle.write_iops_device",
        ],
    ),
];

/// The same of v2.
const V2: &[(&str, &[&str])] = &[(
    "",
    &[
        "cpu.weight",
        "cpu.max",
        "cpu.max.burst",
        "cpu.idle",
        "memory.max",
        "memory.low",
        "memory.high",
        "memory.min",
        "memory.swap.max",
        "memory.oom.group",
        "pids.max",
        "io.max",
        "cgroup.max.depth",
    ],
)];

const MIB: i64 = 1 << 20;

/// Resources of which each part is there once in two; now and then one that is refused.
struct Generator {
    random: Random,
    disk: Option<(u64, u64)>,
}

impl Generator {
    fn maybe(&mut self, into: &mut Map<String, Value>, key: &str, values: &[i64]) {
        if self.random.once_in(2) {
            into.insert(key.to_owned(), json!(self.random.of(values)));
        }
    }

    fn resources(&mut self, version: Cgroups) -> Value {
        let v2 = version == Cgroups::V2;
        let mut all = Map::new();
        let mut cpu = Map::new();
        self.maybe(
            &mut cpu,
            "shares",
            &[0, 2, 3, 100, 512, 1024, 4096, 262_144],
        );
        // A process that is born into 1 ms of CPU a second, as on v2, takes minutes to begin in the guest.
        let least = if v2 { 10_000 } else { 1000 };
        self.maybe(&mut cpu, "quota", &[-1, 0, least, 20_000, 50_000, 150_000]);
        self.maybe(&mut cpu, "period", &[0, 1000, 50_000, 100_000, 1_000_000]);
        if self.random.once_in(6) {
            self.maybe(&mut cpu, "quota", &[1, 999]);
        }
        if !v2 && self.random.once_in(4) {
            cpu.insert(
                "cpus".to_owned(),
                json!(self.random.of(&["0", "0-1", "1", ""])),
            );
            self.word(&mut cpu, "mems", &["0", ""]);
        }
        let mut memory = Map::new();
        self.maybe(
            &mut memory,
            "limit",
            &[-1, 0, 64 * MIB, 100_000_000, 512 * MIB],
        );
        self.maybe(&mut memory, "reservation", &[-1, 0, 32 * MIB, 50_000_000]);
        self.maybe(
            &mut memory,
            "swap",
            &[-1, 0, 64 * MIB, 600 * MIB, 1024 * MIB],
        );
        if !v2 {
            self.maybe(&mut memory, "swappiness", &[0, 1, 60, 100]);
            if self.random.once_in(4) {
                memory.insert("disableOOMKiller".to_owned(), json!(self.random.once_in(2)));
            }
        }
        let mut pids = Map::new();
        self.maybe(&mut pids, "limit", &[-1, 10, 1000, 32_768]);
        let mut block_io = Map::new();
        if !v2 {
            self.maybe(&mut block_io, "weight", &[0, 10, 500, 1000]);
        }
        if let Some((major, minor)) = self.disk {
            for kind in ["ReadBps", "WriteBps", "ReadIOPS", "WriteIOPS"] {
                if self.random.once_in(3) {
                    let rate = self.random.of(&[1, 1000, 1_048_576, 10_000_000]);
                    let list = json!([{"major": major, "minor": minor, "rate": rate}]);
                    block_io.insert(format!("throttle{kind}Device"), list);
                }
            }
        }
        for (key, part) in [
            ("cpu", cpu),
            ("memory", memory),
            ("pids", pids),
            ("blockIO", block_io),
        ] {
            if !part.is_empty() {
                all.insert(key.to_owned(), Value::Object(part));
            }
        }
        if v2 && self.random.once_in(2) {
            let mut unified = Map::new();
            self.word(&mut unified, "memory.high", &["max", "50000000"]);
            self.word(&mut unified, "memory.min", &["0", "1048576"]);
            self.word(&mut unified, "memory.oom.group", &["0", "1"]);
            self.word(&mut unified, "pids.max", &["max", "77"]);
            self.word(&mut unified, "cgroup.max.depth", &["max", "4"]);
            all.insert("unified".to_owned(), Value::Object(unified));
        }
        Value::Object(all)
    }

    fn word(&mut self, into: &mut Map<String, Value>, key: &str, words: &[&str]) {
        if self.random.once_in(2) {
            into.insert(key.to_owned(), json!(self.random.of(words)));
        }
    }
}

/// What a container that was created has in the files; Err is the refusal.
fn written(
    peer: &Peer,
    stage: &Stage,
    bundle: &Bundle,
    id: &str,
    files: &[(&str, &[&str])],
) -> Result<Seen, String> {
    let folder = bundle.folder.to_string_lossy();
    let outcome = peer.call(&["create", "--bundle", &folder, id]);
    let mut seen = Seen::default();
    if outcome.code == 0 {
        for (controller, names) in files {
            let dir = peer.view.cgroup(controller, &Stage::cgroups_path(id));
            for name in *names {
                if let Ok(text) = std::fs::read_to_string(dir.join(name)) {
                    seen.add_line(name, text.trim().replace('\n', ", "));
                }
            }
        }
    }
    peer.call(&["delete", "--force", id]);
    if peer.name != "capsid" {
        for group in stage.remains(id) {
            let _ = std::fs::remove_dir(group);
        }
    }
    match outcome.code {
        0 => Ok(seen),
        _ => Err(format!(
            "refused: {}",
            outcome.stderr.trim().replace(['\n', '\t'], " ")
        )),
    }
}

fn differences(mine: &Result<Seen, String>, theirs: Result<Seen, String>) -> Vec<Difference> {
    let outcome = |seen: Result<&Seen, &String>| match seen {
        Ok(_) => "created".to_owned(),
        Err(refusal) => refusal.clone(),
    };
    match (mine, &theirs) {
        (Ok(mine), Ok(theirs)) => mine.differences(theirs),
        (Err(_), Err(_)) => Vec::new(),
        _ => vec![Difference {
            path: "outcome".to_owned(),
            ours: outcome(mine.as_ref()),
            theirs: outcome(theirs.as_ref()),
        }],
    }
}

#[test]
fn generated_resources_are_written_as_the_peers_write_them() {
    if let Some(reason) = obstacle_anywhere() {
        skip!("{reason}");
    }
    let version = machine::cgroups();
    let (view, files, name) = match version {
        Cgroups::V2 => (View::Host, V2, "v2"),
        _ => (VIEW, V1, "v1"),
    };
    let stage = stage!(view);
    let peers = super::peers(&stage, view);
    let usual = if version == Cgroups::V2 { 6 } else { 30 };
    let seeds = match std::env::var("CAPSID_SEED").map(|seed| seed.parse()) {
        Ok(Ok(seed)) => seed..seed + 1,
        _ => 0..machine::count("CAPSID_GENERATED", usual, 240) as u64,
    };
    let ours = Peer::new("capsid", &stage, view);
    let mut failed = Vec::new();
    for seed in seeds {
        let mut generator = Generator {
            random: Random::new(seed),
            disk: machine::disk(),
        };
        let mut bundle = bundle(&stage);
        let resources = generator.resources(version);
        without_cgroup_mounts(&mut bundle);
        for (key, value) in resources.as_object().into_iter().flatten() {
            bundle.set(&format!("/linux/resources/{key}"), value.clone());
        }
        let id = stage.id();
        let rootfs = super::peer::Rootfs::new(&bundle.folder.join("rootfs"));
        bundle.write(&id);
        let configuration = format!("limits-{name}-{seed}");
        let mine = written(&ours, &stage, &bundle, &id, files);
        for peer in &peers {
            let theirs = written(peer, &stage, &bundle, &id, files);
            let differences = differences(&mine, theirs);
            let found = Allowed::table().judge(peer.name, &configuration, differences);
            if !found.is_empty() {
                failed.push(format!("{}\n{resources}", found.join("\n")));
            }
        }
        drop(rootfs);
    }
    let count = failed.len();
    assert!(count == 0, "{count} differ:\n{}", failed.join("\n\n"));
}
