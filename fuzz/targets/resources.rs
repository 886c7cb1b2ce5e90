//! The JSON that `update` takes, damaged in its bytes.

use capsid_fuzz::{damaged, fuzz, is_one_line};
use capsid_runtime::spec::{Resources, Spec};
use proptest::prelude::*;
use serde_json::{Value, json};

const WORDS: &[&str] = &[
    "null",
    "-1",
    "0",
    "18446744073709551616",
    "\"\"",
    "[]",
    "{}",
    "\"max\"",
    "\"memory\":{\"limit\":-1},",
    "\"devices\":[{\"allow\":true}],",
    "\"unified\":{\"a/b\":\"1\"},",
];

/// What engines send: a bit of everything, and Go's zeros.
fn usual() -> Vec<Vec<u8>> {
    let all = json!({
        "devices": null,
        "memory": {"limit": 67_108_864, "reservation": 0, "swap": -1, "swappiness": 10, "disableOOMKiller": false},
        "cpu": {"shares": 512, "quota": 50_000, "burst": 0, "period": 100_000, "cpus": "0-1", "mems": "", "idle": 1},
        "pids": {"limit": 10},
        "blockIO": {"weight": 100, "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1000}]},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 0}],
        "network": {"classID": 1, "priorities": [{"name": "lo", "priority": 1}]},
        "rdma": {"mlx5_0": {"hcaHandles": 3}},
        "unified": {"memory.high": "1000"},
    });
    let parts = all.as_object().into_iter().flatten();
    let parts = parts.map(|(name, value)| json!({name.as_str(): value}).to_string());
    parts
        .chain([all.to_string()])
        .map(String::into_bytes)
        .collect()
}

/// Settings, and values that fit some of them.
const SETTINGS: [&str; 15] = [
    "/memory/limit",
    "/memory/swap",
    "/memory/swappiness",
    "/memory",
    "/cpu/shares",
    "/cpu/quota",
    "/cpu/period",
    "/cpu/cpus",
    "/cpu/mems",
    "/cpu",
    "/pids/limit",
    "/blockIO/weight",
    "/blockIO/weightDevice",
    "/hugepageLimits",
    "/unified",
];
const VALUES: [&str; 14] = [
    "null",
    "-1",
    "0",
    "1",
    "1.5",
    "9223372036854775807",
    "18446744073709551615",
    "true",
    "\"\"",
    "\"0-1\"",
    "[]",
    "[{}]",
    "{}",
    "{\"a\":\"1\"}",
];

fn written() -> impl Strategy<Value = Vec<u8>> {
    let setting = (
        prop::sample::select(&SETTINGS[..]),
        prop::sample::select(&VALUES[..]),
    );
    prop::collection::vec(setting, 0..6).prop_map(|settings| {
        let mut object = json!({});
        for (pointer, value) in settings {
            let value: Value = serde_json::from_str(value).expect("JSON");
            let (group, name) = pointer[1..].split_once('/').unwrap_or((&pointer[1..], ""));
            match (name, object[group].as_object_mut()) {
                ("", _) => object[group] = value,
                (name, Some(group)) => drop(group.insert(name.to_owned(), value)),
                (name, None) => object[group] = json!({name: value}),
            }
        }
        object.to_string().into_bytes()
    })
}

#[test]
fn damaged_resources_are_understood_or_refused_by_their_place() {
    let inputs = prop_oneof![damaged(usual(), WORDS), written()];
    fuzz("resources", inputs, |bytes| {
        let object: Value = match Resources::read_json(&bytes[..]) {
            Ok(object) => object,
            Err(error) => return is_one_line(&error),
        };
        let mut limits = object.clone();
        // An update compares the rules that come along with the container's, and reads them no further.
        limits.as_object_mut().and_then(|it| it.remove("devices"));
        let config = json!({
            "ociVersion": "1.3.0",
            "root": {"path": "rootfs"},
            "linux": {"resources": limits},
        });
        let in_config = Spec::parse(config.to_string());
        match Resources::new(object.clone()) {
            Ok(resources) => {
                prop_assert!(in_config.is_ok(), "{:?}", in_config.err());
                for notice in resources.notices() {
                    prop_assert!(notice.pointer.starts_with('/'), "{}", notice);
                }
                let again = Resources::new(object).expect("the same again");
                prop_assert_eq!(format!("{again:?}"), format!("{resources:?}"));
                Ok(())
            }
            Err(error) => is_one_line(&error),
        }
    });
}
