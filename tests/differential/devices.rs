//! Random lists of device rules: what the program of a container may open and make under them is the same under
//! capsid and under runc, on both versions. CAPSID_SEED=N looks at that one alone; CAPSID_GENERATED=N takes as many.

use std::fmt::Write;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::{Map, Value, json};

use super::generated::Random;
use super::peer::Peer;
use super::without_cgroup_mounts;
use crate::harness::machine::{self, Cgroups};
use crate::harness::{Bundle, Stage, View};
use crate::{skip, stage};

/// Devices that every container has, and numbers that no driver has (devices.txt keeps 240 and 241 for local
/// use): opening one of those fails in any case, and says whether it was allowed.
const DEVICES: [(&str, u64, u64); 7] = [
    ("c", 1, 3),
    ("c", 1, 7),
    ("c", 240, 3),
    ("c", 240, 7),
    ("c", 241, 3),
    ("b", 240, 3),
    ("b", 241, 7),
];

/// What a script in the container sees of each: r, w, m for what the rules let it do.
fn script() -> String {
    let mut script = String::from(
        "try() { if [ $1 = r ]; then (: < $2) 2>&1; else (: > $2) 2>&1; fi | grep -q permitted || printf $1; }; ",
    );
    for (kind, major, minor) in DEVICES {
        let name = format!("{kind}{major}_{minor}");
        write!(
            script,
            "printf ' {name}='; try r /mnt/{name}; try w /mnt/{name}; \
             mknod /tmp/{name} {kind} {major} {minor} 2>/dev/null && printf m; "
        )
        .unwrap();
    }
    script
}

fn rules(random: &mut Random) -> Value {
    let mut list = Vec::new();
    if random.once_in(2) {
        list.push(json!({"allow": false, "access": "rwm"}));
    }
    for _ in 0..=random.below(6) {
        let mut rule = Map::new();
        rule.insert("allow".to_owned(), json!(!random.once_in(3)));
        let kind = random.of(&["c", "c", "c", "b", "b", "a", ""]);
        if !kind.is_empty() {
            rule.insert("type".to_owned(), json!(kind));
        }
        if ["c", "b"].contains(&kind) {
            for (key, numbers) in [("major", [-1, 1, 240, 241]), ("minor", [-1, 3, 7, 3])] {
                if !random.once_in(3) {
                    rule.insert(key.to_owned(), json!(random.of(&numbers)));
                }
            }
        }
        // For all devices, runc takes any access for the whole, as v1's files do; here it is what is written.
        let access = match rule.get("type") {
            None => "rwm",
            Some(kind) if kind == "a" => "rwm",
            Some(_) => random.of(&["rwm", "rwm", "rw", "r", "w", "m", "rm"]),
        };
        rule.insert("access".to_owned(), json!(access));
        list.push(Value::Object(rule));
    }
    Value::Array(list)
}

/// What the program has printed; None: the rules were refused.
fn access(peer: &Peer, stage: &Stage, bundle: &Bundle) -> (Option<String>, String) {
    let id = stage.id();
    bundle.write(&id);
    let outcome = peer.call(&["run", "--bundle", &bundle.folder.to_string_lossy(), &id]);
    if outcome.code != 0 {
        peer.call(&["delete", "--force", &id]);
    }
    let seen = (outcome.code == 0).then(|| outcome.stdout.clone());
    (seen, outcome.stderr)
}

/// Where all is allowed but what is denied after it, the default rules that let every container make device nodes
/// win here as everywhere, and in runc only against a denial of just as much.
fn comparable(seen: Option<String>, rules: &Value) -> Option<String> {
    let of_all = |rule: &&Value| rule.get("type").is_none_or(|kind| kind == "a");
    let last = rules.as_array()?.iter().rev().find(of_all);
    match last.is_some_and(|rule| rule["allow"] == true) {
        true => seen.map(|text| text.replace('m', "")),
        false => seen,
    }
}

#[test]
fn the_rules_let_a_program_do_what_runc_lets_it_do() {
    if !machine::has_program("runc") {
        skip!("runc is not installed");
    }
    let usual = if machine::cgroups() == Cgroups::V2 {
        8
    } else {
        30
    };
    let seeds = match std::env::var("CAPSID_SEED").map(|seed| seed.parse()) {
        Ok(Ok(seed)) => seed..seed + 1,
        _ => 0..machine::count("CAPSID_GENERATED", usual, 240) as u64,
    };
    let mut failed = Vec::new();
    let mut allowed = 0;
    for view in View::versions() {
        let stage = stage!(view);
        let nodes = stage.path("nodes");
        std::fs::create_dir(&nodes).unwrap();
        for (kind, major, minor) in DEVICES {
            let file = match kind {
                "c" => SFlag::S_IFCHR,
                _ => SFlag::S_IFBLK,
            };
            let name = nodes.join(format!("{kind}{major}_{minor}"));
            mknod(&name, file, Mode::S_IRWXU, makedev(major, minor)).unwrap();
        }
        let peers = ["capsid", "runc"].map(|name| Peer::new(name, &stage, view));
        for seed in seeds.clone() {
            let rules = rules(&mut Random::new(seed));
            let mut bundle = stage.bundle();
            without_cgroup_mounts(&mut bundle);
            bundle
                .capabilities(&["CAP_MKNOD"])
                .mount("/tmp", "tmpfs", "tmpfs", &["dev"])
                .bind(&nodes, "/mnt", &["dev"])
                .set("/linux/resources/devices", rules.clone())
                .sh(&script());
            let [(ours, our_words), (theirs, their_words)] =
                [0, 1].map(|n| access(&peers[n], &stage, &bundle));
            allowed += usize::from(ours.is_some());
            let [ours, theirs] = [ours, theirs].map(|seen| comparable(seen, &rules));
            if ours != theirs {
                failed.push(format!(
                    "{view:?} {seed}: {rules}\ncapsid:{ours:?} {our_words}\nrunc:  {theirs:?} {their_words}"
                ));
            }
        }
    }
    let count = failed.len();
    assert!(count == 0, "{count} differ:\n{}", failed.join("\n\n"));
    assert!(allowed > 0, "no list of rules was taken");
}
