//! process.json of `exec --process`, damaged in its bytes.

use capsid_fuzz::{Bundle, damaged, fuzz, is_one_line, samples};
use capsid_runtime::plan::validate::validate;
use capsid_runtime::spec::{Spec, process};
use proptest::prelude::*;
use serde_json::{Value, json};

const WORDS: &[&str] = &[
    "null",
    "-1",
    "4294967295",
    "4294967296",
    "\"\"",
    "[]",
    "{}",
    "\\u0000",
    "\"=\"",
    "\"user\":{\"uid\":0},",
    "\"capabilities\":{\"ambient\":[\"CAP_ALL\"]},",
    "\"rlimits\":[{\"type\":\"RLIMIT_X\",\"soft\":1,\"hard\":0}],",
    "\"scheduler\":{\"policy\":\"SCHED_DEADLINE\"},",
    "\"ioPriority\":{\"class\":\"IOPRIO_CLASS_BE\",\"priority\":9},",
    "\"execCPUAffinity\":{\"initial\":\"0-\"},",
    "\"consoleSize\":{\"height\":65536},",
    "\"oomScoreAdj\":1001,",
];

#[test]
fn a_damaged_process_is_understood_or_refused_by_its_place() {
    let good: Vec<Vec<u8>> = samples("fixtures/good", ".json")
        .iter()
        .filter_map(|(_, text)| serde_json::from_slice::<Value>(text).ok())
        .filter_map(|config| Some(config.get("process")?.to_string().into_bytes()))
        .collect();
    let bundle = Bundle::new();
    fuzz("processes", damaged(good, WORDS), |bytes| {
        let text = String::from_utf8_lossy(&bytes);
        let read = match process::parse(&text) {
            Ok((read, _)) => read,
            Err(error) => return is_one_line(&error),
        };
        let written = serde_json::to_value(&read).expect("JSON");
        let (again, _) = process::parse(&written.to_string()).expect("what was read, written");
        prop_assert_eq!(&again, &read);
        // It means the same as in a config.json.
        let config = json!({
            "ociVersion": "1.3.0",
            "root": {"path": "rootfs"},
            "process": written,
            "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}]},
        });
        let spec = Spec::parse(config.to_string()).expect("what was read, in its place");
        prop_assert_eq!(spec.config.process().as_ref(), Some(&read));
        validate(&spec).iter().try_for_each(is_one_line)?;
        match bundle.explain(&config) {
            Ok(_) => Ok(()),
            Err(error) => is_one_line(&error),
        }
    });
}
