//! `events --stats` of the same container: the keys are runc's, and so are the values that do not move.

use serde_json::{Value, json};

use super::peer::{Peer, Rootfs};
use super::{idle, without_cgroup_mounts};
use crate::harness::{Stage, View, machine};
use crate::{skip, stage};

/// What only today's runc has: none of it is in runc 1.1.
const NEWER: &[&str] = &["/cpu/psi", "/memory/psi", "/blkio/psi", "/memory/usage/max"];

/// Numbers that mean the same whenever they are looked at.
const STABLE: &[&str] = &[
    "/memory/usage/limit",
    "/memory/swap/limit",
    "/memory/kernel/limit",
    "/memory/kernelTCP/limit",
    "/memory/usage/failcnt",
    "/memory/raw/hierarchical_memory_limit",
    "/pids",
    "/cpuset",
    "/network_interfaces",
    "/intel_rdt",
];

/// Every pointer to a value in it that is no object, without the numbers of a list.
fn keys(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                keys(value, &format!("{at}/{name}"), found);
            }
        }
        Value::Array(elements) => {
            for element in elements {
                keys(element, &format!("{at}/*"), found);
            }
        }
        _ => found.push(at.to_owned()),
    }
}

fn seen(peer: &Peer, id: &str) -> Value {
    let line = peer.call(&["events", "--stats", id]).ok().json();
    assert_eq!(line["type"], "stats");
    assert_eq!(line["id"], id);
    let mut data = line["data"].clone();
    if machine::cgroups() == machine::Cgroups::Hybrid {
        // runc leaves out what cgroup2 counts beside v1.
        data["hugetlb"] = json!({});
    }
    data
}

#[test]
fn stats_have_runcs_keys_and_values() {
    if !machine::has_program("runc") {
        skip!("runc is not installed");
    }
    let stage: Stage = stage!(View::Host);
    let mut bundle = super::bundle(&stage);
    let _rootfs = Rootfs::new(&bundle.folder.join("rootfs"));
    idle(&mut bundle);
    without_cgroup_mounts(&mut bundle);
    for (controller, limit) in [
        ("memory", json!({"limit": 64 << 20, "swap": 128 << 20})),
        ("cpu", json!({"quota": 50_000, "period": 100_000})),
        ("pids", json!({"limit": 77})),
    ] {
        if machine::has_controller(controller) {
            bundle.set(&format!("/linux/resources/{controller}"), limit);
        }
    }
    let folder = bundle.folder.to_string_lossy().into_owned();
    let [ours, theirs] = ["capsid", "runc"].map(|name| {
        let (peer, id) = (Peer::new(name, &stage, View::Host), stage.id());
        bundle.write(&id);
        peer.call(&["create", "--bundle", &folder, &id]).ok();
        peer.call(&["start", &id]).ok();
        // The same work before the look.
        peer.call(&["exec", &id, "/bin/probe"]).ok();
        let data = seen(&peer, &id);
        peer.call(&["delete", "--force", &id]).ok();
        data
    });
    let list = |data: &Value| {
        let mut found = Vec::new();
        keys(data, "", &mut found);
        found.retain(|key| !NEWER.iter().any(|newer| key.starts_with(newer)));
        // Counters that happen to be 0 are left out; disks may have been idle.
        found.retain(|key| !key.starts_with("/blkio/") && !key.starts_with("/cpu/throttling/"));
        found.sort_unstable();
        found.dedup();
        found
    };
    assert_eq!(list(&ours), list(&theirs), "{ours}\n{theirs}");
    for pointer in STABLE {
        assert_eq!(ours.pointer(pointer), theirs.pointer(pointer), "{pointer}");
    }
}
