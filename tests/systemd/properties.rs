//! systemd knows of the limits, in its own words: those that runc and crun tell it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::harness::machine::{self, Cgroups};
use crate::harness::{Bundle, Stage, View};
use crate::systemd::{properties, sleeping};
use crate::{skip, systemd_stage};

/// A bundle with all of these resources, by the keys below /linux/resources, and annotations.
fn limited(stage: &Stage, path: &str, resources: &Value, annotations: &Value) -> Bundle {
    let mut bundle = sleeping(stage, Some(path));
    for (key, value) in resources.as_object().expect("resources") {
        bundle.set(&format!("/linux/resources/{key}"), value.clone());
    }
    for (key, value) in annotations.as_object().expect("annotations") {
        bundle.set(
            &format!("/annotations/org.systemd.property.{key}"),
            value.clone(),
        );
    }
    bundle
}

#[test]
fn limits_are_properties_of_the_unit() {
    let stage = systemd_stage!();
    let resources = json!({
        "memory": {"limit": 134_217_728, "reservation": 67_108_864, "swap": 268_435_456},
        "cpu": {"shares": 512, "quota": 20_000, "period": 50_000},
        "pids": {"limit": 50},
    });
    let id = stage.id();
    let container = stage.create(&limited(
        &stage,
        &format!(":x:{id}"),
        &resources,
        &json!({}),
    ));
    let shown = properties(&format!("x-{id}.scope"));
    let of_version: &[_] = match machine::cgroups() {
        Cgroups::V2 => &[
            ("MemoryMax", "134217728"),
            ("MemoryLow", "67108864"),
            ("MemorySwapMax", "134217728"),
            ("CPUWeight", "59"),
        ],
        _ => &[("MemoryLimit", "134217728"), ("CPUShares", "512")],
    };
    let both = [
        ("CPUQuotaPerSecUSec", "400ms"),
        ("CPUQuotaPeriodUSec", "50ms"),
        ("TasksMax", "50"),
    ];
    for (name, value) in of_version.iter().chain(&both) {
        assert_eq!(shown[*name], *value, "{name}");
    }
    if machine::cgroups() == Cgroups::V2 {
        for (idle, weight) in [("1", "idle"), ("0", "59")] {
            container.call("update", &["--cpu-idle", idle]).ok();
            let shown = properties(&format!("x-{id}.scope"));
            assert_eq!(shown["CPUWeight"], weight, "--cpu-idle {idle}");
        }
    }
    container.delete_force().ok();
}

#[test]
fn s25_annotations_are_properties_but_for_those_that_are_capsids() {
    let stage = systemd_stage!();
    let id = stage.id();
    let annotations = json!({
        "CollectMode": "'inactive-or-failed'",
        "TimeoutStopSec": "1.5",
        "After": "['basic.target']",
        "SendSIGHUP": "true",
    });
    let container = stage.create(&limited(
        &stage,
        &format!(":x:{id}"),
        &json!({}),
        &annotations,
    ));
    let shown = properties(&format!("x-{id}.scope"));
    assert_eq!(shown["CollectMode"], "inactive-or-failed");
    assert_eq!(shown["TimeoutStopUSec"], "1.500000s");
    assert!(
        shown["After"].contains("basic.target"),
        "{}",
        shown["After"]
    );
    assert_eq!(shown["SendSIGHUP"], "yes");
    container.delete_force().ok();
    for (name, value) in [
        ("ExecStopPost", "@as []"),
        ("Delegate", "false"),
        ("Slice", "'a.slice'"),
        ("PIDs", "[uint32 1]"),
        ("DelegateControllers", "['pids']"),
        ("Controller", "'org.x'"),
        ("Documentation", "['man:x(1)\\n[Scope]\\nDelegate=no']"),
        ("BPFProgram", "[('device', '/sys/fs/bpf/other')]"),
        ("No-Name", "1"),
        ("After", "basic.target"),
    ] {
        let bundle = limited(&stage, ":x:ID", &json!({}), &json!({name: value}));
        let pointer = format!("/annotations/org.systemd.property.{name}");
        stage.try_create(&bundle).refuses(&[&pointer]);
    }
    // What systemd itself refuses, in its words.
    let bundle = limited(&stage, ":x:y", &json!({}), &json!({"NoSuchThing": "1"}));
    stage
        .try_create(&bundle)
        .refuses(&["start unit x-y.scope", "NoSuchThing"]);
}

/// The properties that say how a unit is limited and kept. What else is shown says when and as which.
const COMPARED: [&str; 24] = [
    "Slice",
    "Delegate",
    "DefaultDependencies",
    "Transient",
    "CollectMode",
    "TimeoutStopUSec",
    "CPUAccounting",
    "MemoryAccounting",
    "TasksAccounting",
    "CPUWeight",
    "CPUShares",
    "CPUQuotaPerSecUSec",
    "CPUQuotaPeriodUSec",
    "AllowedCPUs",
    "AllowedMemoryNodes",
    "MemoryMax",
    "MemoryLimit",
    "MemoryLow",
    "MemoryMin",
    "MemoryHigh",
    "MemorySwapMax",
    "TasksMax",
    "KillMode",
    "SendSIGHUP",
];

#[test]
fn systemd_is_told_what_runc_and_crun_tell_it() {
    let stage = systemd_stage!();
    let mut cases = vec![
        (json!({}), json!({})),
        (
            json!({"cpu": {"shares": 2048}, "pids": {"limit": 100}}),
            json!({}),
        ),
        (
            json!({"cpu": {"quota": 12_345, "period": 100_000}}),
            json!({}),
        ),
        (
            json!({"cpu": {"quota": -1}, "pids": {"limit": -1}}),
            json!({}),
        ),
        (
            json!({"memory": {"limit": 134_217_728}}),
            json!({"TimeoutStopUSec": "uint64 7000000"}),
        ),
        (
            json!({"memory": {"limit": 268_435_456, "swap": 268_435_456, "reservation": 134_217_728}}),
            json!({"CollectMode": "'inactive-or-failed'", "SendSIGHUP": "true"}),
        ),
    ];
    if machine::cgroups() == Cgroups::V2 {
        cases.push((
            json!({"unified": {"memory.high": "134217728", "memory.min": "1048576", "cpu.weight": "77"}}),
            json!({}),
        ));
    }
    let peers: Vec<Stage> = ["runc", "crun"]
        .into_iter()
        .filter(|name| {
            machine::has_program(name) && !(*name == "crun" && machine::cgroups() != Cgroups::V2)
        })
        .map(|name| Stage::with(name, View::Host, name.into()))
        .collect();
    if peers.is_empty() {
        skip!("neither runc nor crun is here");
    }
    let mut differing = Vec::new();
    for (resources, annotations) in cases {
        let told = |stage: &Stage| -> BTreeMap<String, String> {
            let id = stage.id();
            let path = format!("capsidtest-a.slice:x:{id}");
            let mut bundle = limited(stage, &path, &resources, &annotations);
            // What Debian's crun takes.
            bundle.set("/ociVersion", json!("1.0.2"));
            let container = stage.create(&bundle);
            let mut shown = properties(&format!("x-{id}.scope"));
            container.delete_force().ok();
            shown.retain(|name, _| COMPARED.contains(&name.as_str()));
            shown
        };
        let ours = told(&stage);
        assert_eq!(ours["Slice"], "capsidtest-a.slice");
        for peer in &peers {
            let theirs = told(peer);
            for name in COMPARED {
                let pair = [ours.get(name), theirs.get(name)];
                if pair[0] != pair[1] && !known(&peer.runtime, name) {
                    let peer = peer.runtime.display();
                    differing.push(format!(
                        "{resources}: {peer}: {name}: ours and theirs: {pair:?}"
                    ));
                }
            }
        }
    }
    crate::systemd::systemctl(&["stop", "capsidtest.slice"]).ok();
    assert!(differing.is_empty(), "{differing:#?}");
}

/// Where the peers of Debian 12 say something else, and why.
fn known(peer: &std::path::Path, property: &str) -> bool {
    let limits = "CPUQuotaPerSecUSec CPUQuotaPeriodUSec MemoryMax MemoryLow MemoryMin MemoryHigh MemorySwapMax TasksMax";
    match peer.to_str() {
        // The conversion of shares was another one then; no swap at all was not told.
        Some("runc") => ["CPUWeight", "MemorySwapMax"].contains(&property),
        // It tells systemd of fewer limits: the files alone have them.
        Some("crun") => property == "CPUWeight" || limits.split(' ').any(|name| name == property),
        _ => false,
    }
}
