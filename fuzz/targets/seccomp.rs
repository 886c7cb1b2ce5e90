//! The engines' seccomp profiles, damaged in their bytes: words that are none, numbers out of range, rules
//! repeated until the filter is too long.

use capsid_fuzz::{Bundle, damaged, fuzz, is_one_line, samples};
use capsid_runtime::plan::validate::validate;
use capsid_runtime::spec::Spec;
use proptest::prelude::*;
use serde_json::{Value, json};

const WORDS: &[&str] = &[
    "SCMP_ACT_KILL",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_NATIVE",
    "\"errnoRet\": 4096,",
    "\"defaultErrnoRet\": 0,",
    "\"listenerPath\": \"/run/agent\",",
    "\"listenerMetadata\": \"x\",",
    "\"flags\": [\"SECCOMP_FILTER_FLAG_TSYNC\"],",
    "\"index\": 6",
    "18446744073709551615",
    "-1",
    "socket",
    "write",
    "null",
    "[]",
];

#[test]
fn a_damaged_profile_becomes_a_filter_or_is_refused_by_its_place() {
    let good: Vec<Vec<u8>> = samples("fixtures/seccomp", ".json")
        .into_iter()
        .map(|(_, text)| text)
        .collect();
    let bundle = Bundle::new();
    fuzz("seccomp", damaged(good, WORDS), |bytes| {
        let Ok(profile) = serde_json::from_slice::<Value>(&bytes) else {
            return Ok(());
        };
        let config = json!({
            "ociVersion": "1.3.0",
            "root": {"path": "rootfs"},
            "process": {"cwd": "/", "args": ["/true"], "user": {"uid": 0, "gid": 0}, "noNewPrivileges": true},
            "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}], "seccomp": profile},
        });
        let spec = match Spec::parse(config.to_string()) {
            Ok(spec) => spec,
            Err(error) => return is_one_line(&error),
        };
        validate(&spec).iter().try_for_each(is_one_line)?;
        let plan = match bundle.explain(&spec.raw) {
            Ok(plan) => plan.to_string(),
            Err(error) => return is_one_line(&error),
        };
        // An object of nothing asks for no filter.
        let asked = spec
            .config
            .linux()
            .as_ref()
            .is_some_and(|it| it.seccomp().is_some());
        prop_assert_eq!(plan.contains("install the seccomp filter"), asked);
        let again = bundle.explain(&serde_json::to_value(&spec.config).expect("JSON"));
        // What was read has no members that nobody knows.
        let known = |plan: &str| -> Vec<String> {
            let lines = plan
                .lines()
                .filter(|line| !line.contains(": unknown setting "));
            lines.map(str::to_owned).collect()
        };
        let again = again.expect("what was read").to_string();
        prop_assert_eq!(known(&again), known(&plan));
        Ok(())
    });
}
